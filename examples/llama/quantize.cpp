// SPDX-License-Identifier: Apache-2.0
// Quantizes a model that is larger than memory, a block at a time, into a folder.
#include "gguf_stream.hpp"
#include "load.hpp"
#include "peers_mpi.hpp"
#include "program.hpp"
#include "progress.hpp"
#include "recipe.hpp"
#include "stream_budget.hpp"
#include "stream_evaluate.hpp"
#include "stream_plan.hpp"
#include "stream_quantizer.hpp"

#include <sys/resource.h>

#include <cstdio>

namespace {

using namespace llama;

struct Options {
  StreamOptions stream;
  fs::path tokenizer, text, recipe, writeRecipe, gguf;
  std::string format, embedding, type, rounding = "gptq", layers, calibrateOn = "float";
  GgufOptions ggufOptions;
  std::uint64_t seed = 1;
  Index tokens = 20000, calibration = 20000;
  std::optional<Index> context;
  std::vector<std::string> formats;
  std::optional<double> budget;
  double hessianGigabytes = 4;
  bool join = false, dryRun = false, evaluate = false;
};

/// Throws std::invalid_argument where an option would be ignored beside the others.
void requireTogether(const Options& o, bool seedGiven, bool roundingGiven) {
  const auto refuse = [](bool given, const std::string& text) {
    if (given) throw std::invalid_argument(text);
  };
  refuse(!o.budget && !o.formats.empty(), "--formats go with --budget");
  const int recipes = (o.recipe.empty() ? 0 : 1) + (o.format.empty() ? 0 : 1) + (o.type.empty() ? 0 : 1);
  refuse(o.budget && (o.writeRecipe.empty() || recipes > 0),
         "--budget needs --write-recipe, and no --recipe, --format or --type beside");
  refuse(!o.budget && recipes != 1, "one of --recipe, --format and --type is needed");
  refuse(recipes > 0 && o.format.empty() && (!o.embedding.empty() || seedGiven),
         "--embedding and --seed go with --format; a recipe has its own");
  refuse(o.type.empty() && (roundingGiven || o.ggufOptions.pure), "--rounding and --pure go with --type");
  refuse(o.gguf.empty() && !(o.ggufOptions.preTokenizer.empty() && o.ggufOptions.name.empty()),
         "--pre-tokenizer and --name go with --gguf");
  refuse(!o.gguf.empty() && !o.layers.empty(), "--gguf needs the whole model: it goes with --join, not with --layers");
  refuse(o.join && !o.layers.empty(), "--join comes after the jobs of --layers");
  refuse(o.evaluate && !o.layers.empty(), "--evaluate needs the whole model: it goes with --join, not with --layers");
  const std::pair<const char*, bool> parts[] = {
      {"--layers", !o.layers.empty()}, {"--join", o.join}, {"--evaluate", o.evaluate}};
  for (const auto& [name, given] : parts) {
    refuse(o.dryRun && given, std::string("--dry-run plans the whole model, without ") + name);
    refuse(o.budget && given, std::string("--budget writes a recipe and nothing else, without ") + name);
  }
  refuse(o.budget && o.dryRun, "--budget writes a recipe and nothing else, without --dry-run");
  refuse(o.budget && !o.gguf.empty(), "--budget writes a recipe and nothing else, without --gguf");
  refuse(o.budget && o.calibrateOn != "float", "--budget calibrates on the float model, without --calibrate-on packed");
}

void parse(int argc, char** argv, Options& o) {
  CLI::App app(
      "Quantizes a Hugging Face folder of any size: one decoder block is in memory at a time, and the activations of "
      "the text that calibrates lie in a file. Writes a folder that generate reads. Killed at any moment, it goes on "
      "where it was when it is started again with the same arguments, and comes to the same bits. Texts are cut up as "
      "compress does.");
  app.option_defaults()->always_capture_default();
  app.add_option("--model", o.stream.model, "Hugging Face folder (README.md says of which models)")->required();
  app.add_option("--out", o.stream.out, "Folder to write")->required();
  app.add_option("--work", o.stream.work, "Folder for what goes when all is done; else OUT/work");
  app.add_option("--recipe", o.recipe, "YAML: which tensor gets which format (recipe.hpp)");
  app.add_option("--format", o.format, "In place of a recipe: a format of compress for all linear layers");
  app.add_option("--embedding", o.embedding, "Beside --format: the embedding's");
  app.add_option("--seed", o.seed, "Beside --format: of what formats draw at random");
  app.add_option("--type", o.type,
                 "In place of a recipe: a mixture of GGUF's types, of those that convert --help lists");
  app.add_option("--rounding", o.rounding, "Beside --type: nearest, importance or gptq, as of convert");
  app.add_flag("--pure", o.ggufOptions.pure, "Beside --type: the same type for all matrices");
  app.add_option("--gguf", o.gguf, "At the end: the model as a GGUF file, too; all formats must be GGUF's types");
  app.add_option("--pre-tokenizer", o.ggufOptions.preTokenizer,
                 "Beside --gguf: what the file calls the way to cut texts, as of convert");
  app.add_option("--name", o.ggufOptions.name, "Beside --gguf: general.name of the file");
  app.add_option("--write-recipe", o.writeRecipe, "Writes the recipe in use");
  app.add_option("--budget", o.budget,
                 "Bits a weight over the linear layers: tries --formats in each of them and writes a recipe that keeps "
                 "to it to --write-recipe, and nothing else")
      ->check(CLI::PositiveNumber);
  app.add_option("--formats", o.formats, "Beside --budget: to choose from, by comma")->delimiter(',');
  app.add_option("--tokenizer", o.tokenizer, "Else the one in the model's folder");
  app.add_option("--text", o.text, "To measure and to calibrate on; else heldout.txt in the model's folder");
  app.add_option("--tokens", o.tokens, "Most tokens of the text to measure on")->check(CLI::Range(2, 1000000000));
  app.add_option("--calibration", o.calibration, "Most tokens behind these to calibrate on")
      ->check(CLI::Range(2, 1000000000));
  app.add_option("--context", o.context, kContextHelp)->check(CLI::Range(2, 1000000000));
  app.add_option("--calibrate-on", o.calibrateOn,
                 "float: what the float model makes of the text. packed: what the packed "
                 "blocks before make of it; a second pass through each block")
      ->check(CLI::IsMember({"float", "packed"}));
  app.add_option("--activations", o.stream.activationBits, "Bits of an activation in the file")
      ->check(CLI::IsMember({16, 32}));
  app.add_option("--hessians", o.hessianGigabytes,
                 "Gigabytes (2^30) of Hessians in memory at once; more passes over the "
                 "text where a block has more")
      ->check(CLI::PositiveNumber);
  app.add_option("--layers", o.layers, "a..b: these blocks alone, as one of many jobs that share --out; then --join");
  app.add_flag("--join", o.join, "Makes a model of what the jobs of --layers wrote");
  app.add_flag("--dry-run", o.dryRun, "Says what would be done, and what memory, disk and time it would take");
  app.add_flag("--evaluate", o.evaluate, "At the end: perplexity and divergence from the float model, block by block");
  parseArguments(app, argc, argv);
  requireTogether(o, app.count("--seed") > 0, app.count("--rounding") > 0);
  if (o.type.empty()) {
    o.ggufOptions.types.emplace();  // the file says nothing of its mixture
  } else {
    o.ggufOptions.mixture = findGgufMixture(o.type);
    const bool kept = detail::isKept(o.ggufOptions.mixture.type);
    o.ggufOptions.rounding = kept ? GgufRounding::kNearest : findRounding(o.rounding);
  }
  if (o.stream.work.empty()) o.stream.work = o.stream.out / "work";
  if (!o.layers.empty()) o.stream.work /= o.layers;
  o.stream.on = o.calibrateOn == "float" ? CalibrateOn::kFloat : CalibrateOn::kPacked;
  o.stream.hessianBytes = static_cast<Index>(o.hessianGigabytes * 0x1p30);
}

void setShare(Options& o, const Config& config) {
  o.stream.firstBlock = 0;
  o.stream.lastBlock = static_cast<std::size_t>(config.layers) - 1;
  if (o.layers.empty()) return;
  unsigned long long first = 0, last = 0;
  char end = 0;
  if (std::sscanf(o.layers.c_str(), "%llu..%llu%c", &first, &last, &end) != 2) {
    throw std::invalid_argument("--layers: a..b expected, found \"" + o.layers + "\"");
  }
  o.stream.firstBlock = static_cast<std::size_t>(first);
  o.stream.lastBlock = static_cast<std::size_t>(last);
}

Recipe readRecipe(const Options& o, const LayerSource& source) {
  if (!o.type.empty()) return ggufRecipe(source, o.ggufOptions);
  if (o.recipe.empty()) return uniformRecipe(o.format, o.embedding, o.seed);
  return parseRecipe(readBytes(o.recipe, 1 << 24), o.recipe.string());
}

SplitText readText(const Options& o, const Tokenizer& tokenizer, const Config& config, bool calibrated) {
  fs::path path = o.text;
  if (path.empty()) path = besideModel(o.stream.model, {"heldout.txt"}).value_or("");
  if (path.empty() && !calibrated && !o.evaluate) return {};
  check(!path.empty(), o.stream.model.string(), ": no heldout.txt is there; name a text with --text");
  const std::string text = readBytes(path, std::uintmax_t{1} << 32);
  auto sequences = naming(path.string(), [&] {
    return sequencesOf(tokenizer, text, contextFor(o.context, config), o.tokens + o.calibration);
  });
  check(!sequences.empty(), path.string(), ": holds no text to predict");
  check(sequences.size() > 1 || !calibrated, path.string(), ": holds one sequence only, none to calibrate on");
  return split(std::move(sequences), o.tokens, o.calibration);
}

void print(const PartDone& part) {
  double bits = 0, weights = 0, sqnr = 0;
  for (const PackedLinear& one : part.report.linears) {
    bits += 8. * static_cast<double>(one.bytes);
    weights += static_cast<double>(one.weights);
    sqnr += one.sqnr / static_cast<double>(part.report.linears.size());
  }
  std::printf("%-12s %3zu of %zu", part.what.c_str(), part.done, part.parts);
  if (weights > 0) std::printf("  %7.3f bits  SQNR %6.2f dB", bits / weights, sqnr);
  std::printf("  %8.1f s, about %.0f s left\n", part.seconds, part.left);
  if (!part.report.starved.empty()) {
    std::printf("  %zu experts got fewer than %td tokens, and have those of their whole block instead: %s%s\n",
                part.report.starved.size(), kFewestExpertTokens, part.report.starved.front().c_str(),
                part.report.starved.size() > 1 ? " and others" : "");
  }
  std::fflush(stdout);
}

void printCost() {
  rusage used{};
  (void)::getrusage(RUSAGE_SELF, &used);
  const auto seconds = [](const timeval& t) {
    return static_cast<double>(t.tv_sec) + 1e-6 * static_cast<double>(t.tv_usec);
  };
  std::printf("peak memory %.0f MB, %.1f s of processors\n", 1024e-6 * static_cast<double>(used.ru_maxrss),
              seconds(used.ru_utime) + seconds(used.ru_stime));
}

void evaluate(const Options& o, LayerSource& source, const std::vector<Sequence>& sequences) {
  const PackedSource packed(o.stream.out);
  const fs::path work = o.stream.work / "evaluation";
  const nlohmann::ordered_json key = evaluationKey(o.stream.model, o.stream.out, sequences);
  Progress progress("evaluation", evaluationSteps(source.config(), sequences));
  const StreamedQuality quality = evaluateStreamed(source, packed, sequences, work, key, [&] { progress.step(); });
  std::printf("%-8s %11s %9s %8s %8s %8s\n%-8s %s %8.2f\n%-8s %s %8.2f\n", "", "perplexity", "KL, nats", "+/-", "99.9%",
              "top-1 %", "float", lossText(quality.exact).c_str(), 100 * quality.exact.top1Agreement, "packed",
              lossText(quality.packed).c_str(), 100 * quality.packed.top1Agreement);
}

void writeBudget(const Options& o, LayerSource& source) {
  std::vector<const FormatEntry*> formats;
  for (const std::string& name : o.formats) formats.push_back(&findFormat(name));
  BudgetSearch search(formats, o.seed);
  const std::string embedding = findEmbeddingFormat(o.embedding.empty() ? "int8" : o.embedding).name;
  const Tokenizer tokenizer = readTokenizerFor(o.stream.model, o.tokenizer, source.config().vocab);
  const SplitText text = readText(o, tokenizer, source.config(), true);
  const nlohmann::ordered_json key = search.key(o.stream.model, text.calibrating, o.stream.activationBits);
  Progress progress("layers", linearNames(source.config(), !source.tied()).size());
  search.measure(source, text.calibrating, o.stream.work / "budget", key, o.stream.hessianBytes,
                 o.stream.activationBits, [&](const std::string&) { progress.step(); });
  writeWhole(o.writeRecipe, recipeText(search.recipe(*o.budget, embedding)));
}

void writeGguf(const Options& o, LayerSource& source, const Tokenizer& tokenizer, const ChosenFormats& formats) {
  const GgufStreamed file =
      writeGgufParts(o.gguf, source, PackedSource(o.stream.out), tokenizer, formats, o.ggufOptions);
  if (file.said.context < source.config().context) {
    std::printf("context: %td tokens, not %td: the file cannot say that the model looks no farther back\n",
                file.said.context, source.config().context);
  }
  std::printf("%s: %td weights in matrices, %.3f bits each\n", o.gguf.string().c_str(), file.numbers,
              8.0 * static_cast<double>(file.bytes) / static_cast<double>(file.numbers));
}

void run(Options& o, const Peers& peers) {
  LayerSource source(o.stream.model);
  const Config& config = source.config();
  setShare(o, config);
  if (o.budget) {
    requireOneProcess(peers);
    writeBudget(o, source);
    return printCost();
  }
  const Recipe recipe = readRecipe(o, source);
  const ChosenFormats formats = chooseFormats(recipe, config, source.tied());
  const bool calibrated = needsCalibration(formats);
  const Tokenizer tokenizer = readTokenizerFor(o.stream.model, o.tokenizer, config.vocab);
  if (!o.gguf.empty()) requireGguf(source, tokenizer, formats, o.ggufOptions);
  const SplitText text = readText(o, tokenizer, config, calibrated);
  const std::vector<Sequence> calibrating = calibrated ? text.calibrating : std::vector<Sequence>();
  if (!o.writeRecipe.empty() && peers.first()) writeWhole(o.writeRecipe, recipeText(recipe));
  if (o.dryRun) {
    if (peers.first()) printPlan(o.stream, source, formats, calibrating, !o.gguf.empty());
    return;
  }
  StreamQuantizer quantizer(o.stream, source, tokenizer, formats, recipe.seed, calibrating, peers);
  if (!o.join) {
    std::size_t pieces = 0;
    forEachPiece(calibrating, [&](Index, Index, bool) { ++pieces; });
    std::size_t done = 0;
    std::unique_ptr<Progress> progress;
    quantizer.run(
        [&](const PartDone& part) {
          progress.reset();
          done = 0;
          if (peers.first()) print(part);
        },
        [&] {
          if (!peers.first()) return;
          if (done++ % std::max<std::size_t>(pieces, 1) == 0) {
            progress.reset();
            progress = std::make_unique<Progress>("text through a block", pieces);
          }
          progress->step();
        });
  }
  if (o.join || quantizer.ownsAll()) {
    quantizer.join();
    if (!o.gguf.empty() && peers.first()) writeGguf(o, source, tokenizer, formats);
    if (o.evaluate && peers.first()) evaluate(o, source, text.measured);
  }
  if (peers.first()) printCost();
}

}  // namespace

int main(int argc, char** argv) {
  std::unique_ptr<Peers> peers;  // outlives the exception: MPI cannot end in order while others wait for this process
  const int failed = runProgram("quantize", [&] {
    peers = startPeers(argc, argv);
    Options options;
    parse(argc, argv, options);
    run(options, *peers);
  });
  if (failed != 0) stopPeers();
  return 0;
}
