// SPDX-License-Identifier: Apache-2.0
// Trains the little Llama that ships in examples/llama/model on the stories of grammar.hpp. That folder is what
//   train --out examples/llama/model
// writes, with every option at its default. With --text it trains on stories that are there instead. With --stories it
// only prints stories, such as it trains on. With --qat it trains a model that is there further, through one of
// gosset's formats.
#include "byte_pair.hpp"
#include "calibration.hpp"
#include "load.hpp"
#include "packed_file.hpp"
#include "program.hpp"
#include "qat_model.hpp"
#include "training.hpp"

#include <chrono>
#include <cstdio>
#include <fstream>
#include <optional>

namespace {

using namespace llama;

struct Options {
  fs::path out;
  fs::path text;
  std::string qat;
  fs::path from = GOSSET_EXAMPLE_MODEL_DIR;
  fs::path packed;
  bool learnScales = false;
  bool onText = false;
  std::uint64_t seed = 1;
  std::optional<Index> steps;
  Index batch = 4;
  Index report = 500;
  std::optional<float> rate;
  Index heldOut = 130;
  std::uint64_t stories = 0;
  Config config = {.dim = 128, .hidden = 172, .layers = 4, .heads = 4, .kvHeads = 2, .vocab = 1024, .context = 256};
};

std::string qatHelp() {
  std::string text =
      "Train the model of --from further through quantization of its linear layers to one of these formats, and print "
      "what the format costs before and after, on the measured part of the folder's heldout.txt. --out then gets "
      "float32 weights, to be rounded to nearest:";
  for (const QatFormat& format : qatTable()) text += "\n" + format.name + ": " + format.about;
  return text;
}

Options parse(int argc, char** argv) {
  Options o;
  CLI::App app("Trains a small Llama on stories from a grammar and writes it as a Hugging Face folder.");
  app.option_defaults()->always_capture_default();
  auto* out =
      app.add_option("--out", o.out, "Folder to write: config.json, model.safetensors, tokenizer.bin, heldout.txt");
  app.add_option("--stories", o.stories, "Print so many training stories instead of training")->excludes(out);
  app.add_option("--text", o.text,
                 "Train on the stories of this file, divided by <|endoftext|>, in place of the grammar's; the last "
                 "quarter of them is held out")
      ->excludes("--stories");
  app.add_option("--seed", o.seed, "Of the stories and the first weights");
  auto* qat = app.add_option("--qat", o.qat, qatHelp())->excludes("--stories")->excludes("--text");
  app.add_option("--from", o.from, "With --qat: the Hugging Face folder to start from")->needs(qat);
  app.add_option("--packed", o.packed, "With --qat: FILE.safetensors that gets the model in its format")->needs(qat);
  app.add_flag("--learn-scales", o.learnScales,
               "With --qat: train scales and zero points too, in place of finding them anew at each step; they are in "
               "the --packed file alone")
      ->needs(qat);
  app.add_flag("--on-text", o.onText,
               "With --qat: learn from the stories alone, in place of the float model's predictions on them")
      ->needs(qat);
  app.add_option("--steps", o.steps, "Steps to train for; 12000 unless given, with --qat 400")
      ->check(CLI::PositiveNumber);
  app.add_option("--batch", o.batch, "Sequences a step")->check(CLI::PositiveNumber);
  app.add_option("--report", o.report, "Steps between two reports")->check(CLI::PositiveNumber);
  app.add_option("--rate", o.rate, "The highest learning rate; 0.0025 unless given, with --qat 0.0003")
      ->check(CLI::PositiveNumber);
  app.add_option("--held-out", o.heldOut, "Held-out stories")->check(CLI::PositiveNumber);
  app.add_option("--dim", o.config.dim, "Width")->check(CLI::PositiveNumber);
  app.add_option("--hidden", o.config.hidden, "Width of the feed-forward network")->check(CLI::PositiveNumber);
  app.add_option("--layers", o.config.layers, "Blocks")->check(CLI::PositiveNumber);
  app.add_option("--heads", o.config.heads, "Query heads")->check(CLI::PositiveNumber);
  app.add_option("--kv-heads", o.config.kvHeads, "Key and value heads")->check(CLI::PositiveNumber);
  app.add_option("--vocab", o.config.vocab, "Tokens")->check(CLI::PositiveNumber);
  app.add_option("--context", o.config.context, "Tokens in a training sequence")->check(CLI::PositiveNumber);
  parseArguments(app, argc, argv);
  if (o.out.empty() && o.stories == 0 && o.qat.empty()) {
    std::exit(app.exit(CLI::RequiredError("--out, --qat or --stories")));
  }
  if (!o.qat.empty()) findQatFormat(o.qat);
  if (o.config.dim % o.config.heads != 0) throw gosset::FormatError("--dim must be a multiple of --heads");
  o.config.headDim = o.config.dim / o.config.heads;
  checkConfig(o.config, "options");
  return o;
}

// What a seed is used for: streams that have nothing to do with each other.
enum Stream : std::uint64_t { kVocabularyStream, kTrainingStream, kHeldOutStream, kWeightsStream, kQatStream };

Tokenizer makeTokenizer(const Options& o, const std::vector<std::string>& texts) {
  const auto vocabulary = std::make_shared<const SentencePieces>(trainTokenizer(texts, o.config.vocab));
  return {vocabulary, llama2cFrame(*vocabulary)};
}

/// Stories of the grammar to learn the tokens from.
std::vector<std::string> grammarTexts(const Options& o) {
  constexpr std::uint64_t kStories = 4000;
  std::vector<std::string> texts;
  for (std::uint64_t i = 0; i < kStories; ++i) {
    texts.push_back(writeStory(gosset::randomBits(o.seed, kVocabularyStream), i).text);
  }
  return texts;
}

/// The surprise of the grammar's choices in nats a token: about what the best of models would be left with.
double entropyPerToken(const std::vector<Story>& stories, const std::vector<Sequence>& sequences) {
  double nats = 0;
  for (const Story& story : stories) nats += story.nats;
  std::size_t tokens = 0;
  for (const Sequence& sequence : sequences) tokens += sequence.size() - 1;
  return nats / static_cast<double>(tokens);
}

void writeFile(const fs::path& path, const std::string& bytes) {
  std::ofstream file(path, std::ios::binary);
  file << bytes;
  if (!file.flush()) throw gosset::FormatError(path.string() + ": cannot be written");
}

void printStories(const Options& o) {
  for (std::uint64_t i = 0; i < o.stories; ++i) {
    std::printf("%s\n", writeStory(gosset::randomBits(o.seed, kTrainingStream), i).text.c_str());
  }
}

/// The one loop of both kinds of training: step(i, rate) makes step i and gives its loss; report(i) says more.
template <class Step, class Report>
void trainSteps(const Options& o, Index steps, float peak, Step&& step, Report&& report) {
  constexpr Index kWarmup = 200;
  const auto begin = std::chrono::steady_clock::now();
  double loss = 0;
  for (Index i = 0; i < steps; ++i) {
    loss += step(i, warmupCosine(i, steps, std::min(steps / 10, kWarmup), peak));
    if ((i + 1) % o.report != 0 && i + 1 != steps) continue;
    const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
    std::printf("step %5td  loss %.4f  held-out perplexity %.4f  %.0f s\n", i + 1,
                loss / static_cast<double>(i % o.report + 1), report(), seconds);
    std::fflush(stdout);
    loss = 0;
  }
}

/// makeSequence for the batch of step `step`.
auto batchOf(const Options& o, const Tokenizer& tokenizer, const Config& config, Stream stream, Index step) {
  const auto first = static_cast<std::uint64_t>(step * o.batch);
  return [&tokenizer, first, seed = gosset::randomBits(o.seed, stream),
          length = static_cast<std::size_t>(config.context + 1)](std::size_t i) {
    return trainingSequence(tokenizer, seed, first + i, length);
  };
}

/// Trains a model from its first weights and writes its folder. batch(step) makes the sequences of that step.
template <class Batch>
void trainModel(const Options& o, const Tokenizer& tokenizer, const std::string& heldOutText, Batch&& batch) {
  const std::vector<Sequence> heldOut = sequencesOf(tokenizer, heldOutText, o.config.context, Index{1} << 40);
  Parameters<float> parameters(o.config);
  initialize(parameters, gosset::randomBits(o.seed, kWeightsStream));
  Adam adam(decaying(o.config));
  BatchBackprop backprop(o.config);
  const auto step = [&](Index i, float rate) {
    const double loss = backprop.lossAndGradient(parameters, static_cast<std::size_t>(o.batch), batch(i));
    adam.step(parameters.values(), backprop.gradient().values(), rate);
    return loss;
  };
  trainSteps(o, o.steps.value_or(12000), o.rate.value_or(2.5e-3f), step,
             [&] { return std::exp(backprop.loss(parameters, heldOut)); });

  fs::create_directories(o.out);
  saveHuggingFace<gosset::Float16>(o.out, toModel(parameters));
  saveTokenizer(o.out, tokenizer);
  writeFile(o.out / "heldout.txt", heldOutText);
}

void trainOnGrammar(const Options& o) {
  const Tokenizer tokenizer = makeTokenizer(o, grammarTexts(o));
  const std::vector<Story> stories =
      heldOutStories(gosset::randomBits(o.seed, kHeldOutStream), static_cast<std::uint64_t>(o.heldOut));
  const std::string heldOut = joined(stories);
  const double entropy = entropyPerToken(stories, sequencesOf(tokenizer, heldOut, o.config.context, Index{1} << 40));
  std::printf("%td parameters; the held-out stories' entropy is at most %.4f nats a token, perplexity %.4f\n",
              Parameters<float>::count(o.config), entropy, std::exp(entropy));
  trainModel(o, tokenizer, heldOut, [&](Index step) { return batchOf(o, tokenizer, o.config, kTrainingStream, step); });
}

void trainOnText(const Options& o) {
  const auto [training, heldOut] = splitStories(readBytes(o.text, std::uintmax_t{1} << 30), o.text.string());
  const Tokenizer tokenizer = makeTokenizer(o, {training});
  const std::vector<Token> tokens = joinedTokens(tokenizer, training);
  const auto length = static_cast<std::size_t>(o.config.context + 1);
  check(tokens.size() > length, o.text.string(), ": ", length + 1, " tokens at least expected, found ", tokens.size());
  std::printf("%td parameters; %zu tokens to learn from\n", Parameters<float>::count(o.config), tokens.size());
  trainModel(o, tokenizer, heldOut, [&](Index step) {
    return [&, first = static_cast<std::uint64_t>(step * o.batch)](std::size_t i) {
      return windowOf(tokens, gosset::randomBits(gosset::randomBits(o.seed, kTrainingStream), first + i), length);
    };
  });
}

/// A format's price on sequences, as a row of the README's tables.
void printQuality(const char* when, const Engine& reference, QatModel& qat, const std::vector<Sequence>& sequences) {
  Logits exact;
  runSequences(reference, sequences, [&](std::size_t, Eigen::MatrixXf logits) { exact.push_back(std::move(logits)); });
  const Engine engine(qat.packed());
  QualityMeter meter;
  runSequences(engine, sequences,
               [&](std::size_t i, const Eigen::MatrixXf& logits) { meter.add(sequences[i], exact[i], logits); });
  const double bits =
      8.0 * static_cast<double>(linearBytes(engine.model())) / static_cast<double>(linearSize(engine.model()));
  const Quality quality = meter.quality();
  std::printf("%s: %.3f bits a weight, %.3f entropy-coded; perplexity %.4f, KL %.5f nats, top-1 %.2f%%\n", when, bits,
              qat.archivedBits(), quality.perplexity, quality.klDivergence, 100 * quality.top1Agreement);
  std::fflush(stdout);
}

void trainQuantized(const Options& o) {
  const Model model = readModel(o.from);
  const Tokenizer tokenizer = readTokenizerFor(o.from, {}, model.config.vocab);
  const std::string text = readBytes(o.from / "heldout.txt", std::uintmax_t{1} << 32);
  constexpr Index kTokens = 20000;  // as compress measures, so that its rows compare
  const std::vector<Sequence> heldOut =
      split(sequencesOf(tokenizer, text, model.config.context, 2 * kTokens), kTokens, kTokens).measured;
  check(!heldOut.empty(), (o.from / "heldout.txt").string(), ": holds no text to predict");

  const Parameters<float> teacher = toParameters(model);
  QatModel qat(toParameters(model), findQatFormat(o.qat), o.learnScales);
  const Engine reference(floatModel(model));
  printQuality("before", reference, qat, heldOut);
  Adam adam(decaying(model.config));
  BatchBackprop backprop(model.config);
  const auto step = [&](Index i, float rate) {
    const double loss =
        backprop.lossAndGradient(qat.rounded(), static_cast<std::size_t>(o.batch),
                                 batchOf(o, tokenizer, model.config, kQatStream, i), o.onText ? nullptr : &teacher);
    qat.backward(backprop.gradient());
    adam.step(qat.parameters().values(), backprop.gradient().values(), rate);
    qat.stepScales(rate);
    return loss;
  };
  trainSteps(o, o.steps.value_or(400), o.rate.value_or(3e-4f), step,
             [&] { return std::exp(backprop.loss(qat.rounded(), heldOut)); });
  printQuality("after", reference, qat, heldOut);

  if (!o.packed.empty()) savePacked(o.packed, qat.packed(), tokenizer);
  if (o.out.empty()) return;
  fs::create_directories(o.out);
  saveHuggingFace<float>(o.out, toModel(qat.parameters()));
  saveTokenizer(o.out, tokenizer);
  writeFile(o.out / "heldout.txt", text);
}

}  // namespace

int main(int argc, char** argv) {
  return runProgram("train", [&] {
    Eigen::setNbThreads(1);  // the sequences of a batch have the threads
    const Options options = parse(argc, argv);
    if (options.stories > 0) {
      printStories(options);
    } else if (!options.qat.empty()) {
      trainQuantized(options);
    } else if (!options.text.empty()) {
      trainOnText(options);
    } else {
      trainOnGrammar(options);
    }
  });
}
