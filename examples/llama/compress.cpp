// SPDX-License-Identifier: Apache-2.0
// Shrinks the matrices of a Llama model and measures what each format costs.
#include "budget.hpp"
#include "evaluate.hpp"
#include "formats.hpp"
#include "load.hpp"
#include "packed_file.hpp"
#include "program.hpp"
#include "progress.hpp"

#include <gosset/theory/distortion.hpp>

#include <nlohmann/json.hpp>

#include <cstdio>
#include <memory>
#include <optional>

namespace {

using namespace llama;

struct Options {
  fs::path model = GOSSET_EXAMPLE_MODEL_DIR;
  fs::path tokenizer, text, out, json, reference;
  std::vector<std::string> formats = {"fp16",       "int8",      "int4",   "asym4",           "asym4-g32",
                                      "nf4-g64",    "gptq4-g32", "quip#4", "trellis-mixed#4", "asym3-g32",
                                      "lloyd3-g64", "gptq3-g32", "quip#3", "trellis-mixed#3", "asym2-g32",
                                      "lloyd2-g64", "gptq2-g32", "quip#2", "trellis-mixed#2"};
  std::string embedding;  ///< a format; empty for what goes with that of the linear layers
  std::uint64_t seed = 1;
  Index tokens = 20000;
  Index calibration = 20000;
  std::optional<Index> context;  ///< tokens of a sequence
  std::vector<double> budgets;   ///< bits a weight
};

std::string formatHelp() {
  std::string text =
      "Formats to try, by comma, or all; fp32 comes first in any case; trellis# and trellis-mixed# take any eighth of "
      "a "
      "bit from 1 to 6:";
  for (const FormatEntry& entry : formatTable()) text += "\n" + entry.name + ": " + entry.about;
  return text;
}

void parse(int argc, char** argv, Options& o) {
  CLI::App app(
      "Packs every linear layer of a Llama model in one format after the other, the embedding in 8 or 16 bits beside, "
      "and prints what each costs: bits a weight over the linear layers with all side data; the same over the whole "
      "model, embedding and norms included; its megabytes (10^6 bytes); mean signal-to-noise ratio of the linear "
      "layers; and on a text the perplexity, the KL divergence from the float32 model's predictions with its standard "
      "error and what 99.9% of the tokens do not exceed, the share of tokens whose likeliest successor is still the "
      "same, and the tokens a second when they come one by one. Norms take 16 bits; in the row fp32 everything takes "
      "32.\n"
      "The text is cut into stories at <|endoftext|>; each is read behind the tokenizer's begin token, if it has one, "
      "and cut off at --context. A text without <|endoftext|> is cut into pieces of that length. Every token but the "
      "first of a story is predicted. Formats that look at activations calibrate on the stories behind the measured "
      "ones; at "
      "least a third of the text is left to them.\n"
      "Without arguments it takes the little model that comes with gosset.");
  app.option_defaults()->always_capture_default();
  app.add_option("--model", o.model,
                 "Hugging Face folder (README.md says of which models), GGUF file, or a llama2.c .bin");
  app.add_option(
      "--tokenizer", o.tokenizer,
      "llama2.c tokenizer, or a tokenizer.json (BPE with byte fallback); else the one in the model's folder");
  app.add_option("--text", o.text, "Text to predict; else heldout.txt in the model's folder");
  app.add_option("--formats", o.formats, formatHelp())->delimiter(',');
  app.add_option("--embedding", o.embedding,
                 "Format of the embedding, which is the output matrix, too, of models that have none of their own: one "
                 "that needs no calibration and reads a row without the others. Else fp16 beside fp16 and bf16, and "
                 "int8 beside all others, a scale for each token");
  app.add_option("--tokens", o.tokens, "Most tokens of the text to predict")->check(CLI::Range(2, 1000000000));
  app.add_option("--calibration", o.calibration, "Most tokens of the text to calibrate on")
      ->check(CLI::Range(2, 1000000000));
  app.add_option("--context", o.context, kContextHelp)->check(CLI::Range(2, 1000000000));
  app.add_option(
      "--reference", o.reference,
      "File that keeps the float32 model's predictions for later runs on the same tokens: made where there is "
      "none, refused where it is another run's. 2 bytes times tokens times tokens known");
  app.add_option("--out", o.out,
                 "Where to write packed models: FILE.safetensors for a single format, else a folder that gets "
                 "FORMAT.safetensors for each");
  app.add_option("--seed", o.seed, "Of whatever a format draws at random");
  app.add_option(
         "--budget", o.budgets,
         "Bits a weight, by comma, for models that mix the formats: each is measured in each layer alone, and "
         "every layer gets the one with which the model loses least within the budget. Between two trellis# or two "
         "trellis-mixed# every eighth of a bit is tried, too")
      ->delimiter(',')
      ->check(CLI::PositiveNumber);
  app.add_option("--json", o.json, "Where to write the rows as JSON");
  parseArguments(app, argc, argv);
  if (o.formats == std::vector<std::string>{"all"}) {
    o.formats.clear();
    for (const FormatEntry& entry : formatTable()) o.formats.push_back(entry.name);
  }
  std::erase(o.formats, "fp32");
  for (const std::string& name : o.formats) findFormat(name);
  if (!o.embedding.empty()) findEmbeddingFormat(o.embedding);
  if (!o.budgets.empty() && o.formats.empty()) throw std::invalid_argument("--budget needs --formats to choose from");
  const std::size_t models = o.budgets.empty() ? o.formats.size() : o.budgets.size();
  if (isPackedFile(o.out) && models != 1) {
    throw std::invalid_argument("--out names one file, " + std::string(o.budgets.empty() ? "--formats " : "--budget ") +
                                std::to_string(models) + " models");
  }
}

/// What a format costs.
struct Row {
  std::string format;
  std::string embedding;     ///< its format as gosset has it
  double bitsPerWeight = 0;  ///< of the linear layers
  double bitsOfAll = 0;      ///< per weight of the whole model
  double megabytes = 0;
  double sqnr = 0;  ///< decibels, mean over layers
  Quality quality;
  double tokensPerSecond = 0;
};

void printHeader(const std::string& model, const Config& c, const std::vector<Sequence>& sequences,
                 const std::string& beginning) {
  std::size_t tokens = 0;
  for (const Sequence& sequence : sequences) tokens += sequence.size();
  std::printf("%s: %td layers, width %td, hidden %td, %td heads on %td, %td tokens known\n", model.c_str(), c.layers,
              c.dim, c.hidden, c.heads, c.kvHeads, c.vocab);
  std::printf("text: %zu tokens in %zu sequences, %s\n\n", tokens, sequences.size(), beginning.c_str());
  std::printf("%-16s %11s %9s %9s %8s %11s %9s %8s %8s %8s %9s\n", "format", "bits/weight", "all bits", "MB", "SQNR dB",
              "perplexity", "KL, nats", "+/-", "99.9%", "top-1 %", "tokens/s");
}

void print(const Row& row) {
  char sqnr[32] = "exact";
  if (std::isfinite(row.sqnr)) std::snprintf(sqnr, sizeof(sqnr), "%.2f", row.sqnr);
  std::printf("%-16s %11.3f %9.3f %9.3f %8s %s %8.2f %9.0f\n", row.format.c_str(), row.bitsPerWeight, row.bitsOfAll,
              row.megabytes, sqnr, lossText(row.quality).c_str(), 100 * row.quality.top1Agreement, row.tokensPerSecond);
  std::fflush(stdout);
}

nlohmann::ordered_json orNull(double value) {
  return std::isfinite(value) ? nlohmann::ordered_json(value) : nlohmann::ordered_json();
}

nlohmann::ordered_json toJson(const Row& row) {
  return {{"format", row.format},
          {"embedding", row.embedding},
          {"bits_per_weight", row.bitsPerWeight},
          {"bits_of_all", row.bitsOfAll},
          {"megabytes", row.megabytes},
          {"sqnr_db", orNull(row.sqnr)},
          {"perplexity", row.quality.perplexity},
          {"kl_divergence", row.quality.klDivergence},
          {"kl_standard_error", orNull(row.quality.klError)},
          {"kl_quantile_99_9", row.quality.klQuantile},
          {"top1_agreement", row.quality.top1Agreement},
          {"tokens_per_second", row.tokensPerSecond}};
}

class Compressor {
 public:
  explicit Compressor(Options options)
      : options_(std::move(options)),
        read_(readModelAndTokenizer(options_.model, options_.tokenizer)),
        text_(readText()) {}

  void run() {
    makeOutFolder();
    printHeader(fs::weakly_canonical(options_.model).filename().string(), model_.config, text_.measured,
                beginningText(tokenizer_));
    report(reference());
    if (needsCalibration()) calibrateModel();
    if (!options_.budgets.empty()) {
      measureMixed();
    } else {
      for (const std::string& name : options_.formats) report(measure(findFormat(name)));
    }
    if (!options_.json.empty()) writeJson();
  }

 private:
  SplitText readText() const {
    fs::path path = options_.text;
    if (path.empty()) path = besideModel(options_.model, {"heldout.txt"}).value_or("");
    check(!path.empty(), options_.model.string(), ": no heldout.txt is there; name a text with --text");
    const std::string text = readBytes(path, std::uintmax_t{1} << 32);
    const Index context = contextFor(options_.context, model_.config);
    auto sequences = naming(
        path.string(), [&] { return sequencesOf(tokenizer_, text, context, options_.tokens + options_.calibration); });
    check(!sequences.empty(), path.string(), ": holds no text to predict");
    check(sequences.size() > 1 || !needsCalibration(), path.string(),
          ": holds one sequence only, none to calibrate on");
    return split(std::move(sequences), options_.tokens, options_.calibration);
  }

  bool needsCalibration() const {
    return !options_.budgets.empty() ||
           std::any_of(options_.formats.begin(), options_.formats.end(),
                       [](const std::string& name) { return findFormat(name).needsCalibration; });
  }

  void calibrateModel() {
    Progress progress("calibration", text_.calibrating.size());
    const Engine engine(floatModel(model_));
    calibration_ = calibrate(engine, text_.calibrating, [&] { progress.step(); });
    const std::size_t starved = calibrateStarvedExperts(engine, calibration_).size();
    if (starved == 0) return;
    std::printf("calibration: %zu experts got fewer than %td tokens, and have those of their whole block instead\n",
                starved, kFewestExpertTokens);
  }

  void report(const Row& row) {
    json_.push_back(toJson(row));
    print(row);
  }

  /// The float32 model; keeps its logits.
  Row reference() {
    const Engine engine(floatModel(model_));
    Progress progress("fp32", text_.measured.size());
    const Index predicted = predictedTokens(text_.measured);
    const std::string model = options_.reference.empty() ? std::string() : modelHash(options_.model);
    const ReferenceKey key{model, tokensHash(text_.measured), "in pieces", model_.config.vocab, predicted};
    reference_ = std::make_unique<const Reference>(makeReference(
        options_.reference, key, text_.measured, PieceRunner(engine, text_.measured), [&] { progress.step(); }));
    Row row = sizes("fp32", engine.model(), sizeof(float));
    row.sqnr = std::numeric_limits<double>::infinity();
    row.quality = ownQuality(*reference_, predicted);
    row.tokensPerSecond = speed(engine);
    return row;
  }

  Row measure(const FormatEntry& format) const {
    Progress progress(format.name, matrices());
    const auto packed = [&](const LinearInfo&, const RowMatrixXf&, const gosset::AnyMatrix&) { progress.step(); };
    const FormatEntry& embedding =
        options_.embedding.empty() ? embeddingFormatBeside(format) : findEmbeddingFormat(options_.embedding);
    return measure(format.name, packModel(model_, format, embedding, options_.seed, packed, calibration_));
  }

  /// For each budget a model, each layer of which is in the format that there is room for.
  void measureMixed() {
    std::vector<const FormatEntry*> formats;
    for (const std::string& name : options_.formats) formats.push_back(&findFormat(name));
    std::vector<LayerCandidates> layers;
    {
      Progress progress("layers", matrices() * formats.size());
      constexpr Index kTokens = 4000;
      layers = measureCandidates(model_, formats, options_.seed, calibration_,
                                 split(text_.calibrating, kTokens, 0).measured, [&] { progress.step(); });
    }
    for (const double bits : options_.budgets) report(measure(withBits("mixed#", bits), packMixed(layers, bits)));
  }

  PackedModel packMixed(const std::vector<LayerCandidates>& layers, double bits) const {
    const gosset::BitBudgetPlan plan = planLayers(layers, bits);
    const FormatEntry& embedding = findEmbeddingFormat(options_.embedding.empty() ? "int8" : options_.embedding);
    auto model = packModel(
        model_, Floats::kFloat16,
        [&](const LinearInfo& info, const RowMatrixXf& weights) {
          return packEmbedding(info, weights, embedding, options_.seed);
        },
        [&, index = std::size_t{0}](const LinearInfo& info, const RowMatrixXf& weights) mutable {
          const Candidate& chosen = layers[index].candidates[plan.choice[index]];
          auto matrix = packLayer(info, weights, *chosen.format, options_.seed, index++, calibration_);
          std::printf("  %-44s %-20s %8.3f bits  KL %.5f alone\n", info.name.c_str(), chosen.format->name.c_str(),
                      matrix.bitsPerWeight(), chosen.klDivergence);
          return matrix;
        });
    std::printf("  sum of the KL divergences %.5f\n", plan.loss);
    return model;
  }

  Row measure(const std::string& name, PackedModel model) const {
    const Engine engine(std::move(model));
    Progress progress(name, text_.measured.size());
    const Quality quality =
        measureQuality(*reference_, text_.measured, PieceRunner(engine, text_.measured), [&] { progress.step(); });
    write(name, engine.model());
    Row row = sizes(name, engine.model(), sizeof(gosset::Float16));
    row.sqnr = sqnr(engine.model());
    row.quality = quality;
    row.tokensPerSecond = speed(engine);
    return row;
  }

  std::size_t matrices() const { return linearNames(model_.config, model_.output.has_value()).size(); }

  /// Decibels, mean over layers.
  double sqnr(const PackedModel& packed) const {
    std::vector<const gosset::AnyMatrix*> layers;
    forEachLinear(packed, [&](const LinearInfo&, const gosset::AnyMatrix& matrix) { layers.push_back(&matrix); });
    double sum = 0;
    auto layer = layers.begin();
    forEachLinear(model_, [&](const LinearInfo&, const RowMatrixXf& weights) {
      sum += gosset::distortion(weights, (*layer++)->dequantized()).sqnr_db;
    });
    return sum / static_cast<double>(layers.size());
  }

  /// A row with its sizes filled in; `normBytes` is what a number of a norm takes.
  static Row sizes(const std::string& name, const PackedModel& model, std::size_t normBytes) {
    const auto bits = [](Index bytes, Index weights) {
      return 8.0 * static_cast<double>(bytes) / static_cast<double>(weights);
    };
    const Index linear = linearBytes(model), norms = floatSize(model);
    const Index all = linear + model.embedding.bytes() + norms * static_cast<Index>(normBytes);
    Row row;
    row.format = name;
    row.embedding = model.embedding.format();
    row.bitsPerWeight = bits(linear, linearSize(model));
    row.bitsOfAll = bits(all, linearSize(model) + model.config.vocab * model.config.dim + norms);
    row.megabytes = 1e-6 * static_cast<double>(all);
    return row;
  }

  double speed(const Engine& engine) const {
    constexpr double kSeconds = 0.4;
    return decodeSpeed(engine, text_.measured.front(), kSeconds);
  }

  /// Before the long work, so that a folder that cannot be made is told at once.
  void makeOutFolder() const {
    if (options_.out.empty() || isPackedFile(options_.out)) return;
    makeFolder(options_.out);
  }

  void write(const std::string& name, const PackedModel& model) const {
    if (options_.out.empty()) return;
    const bool oneFile = isPackedFile(options_.out);
    savePacked(oneFile ? options_.out : options_.out / (name + ".safetensors"), model, tokenizer_);
  }

  void writeJson() const {
    std::ofstream file(options_.json);
    file << json_.dump(2) << '\n';
    check(file.good(), options_.json.string(), ": cannot be written");
  }

  Options options_;
  std::pair<Model, Tokenizer> read_;
  const Model& model_ = read_.first;
  const Tokenizer& tokenizer_ = read_.second;
  SplitText text_;
  Calibration calibration_;
  std::unique_ptr<const Reference> reference_;
  nlohmann::ordered_json json_ = nlohmann::ordered_json::array();
};

}  // namespace

int main(int argc, char** argv) {
  return runProgram("compress", [&] {
    Options options;
    parse(argc, argv, options);
    Compressor(std::move(options)).run();
  });
}
