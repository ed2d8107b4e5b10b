// SPDX-License-Identifier: Apache-2.0
// Writes a model as a GGUF file, which llama.cpp and its kin run.
#include "convert_options.hpp"
#include "gguf_awq.hpp"
#include "load.hpp"
#include "program.hpp"
#include "progress.hpp"

#include <cstdio>

namespace {

using namespace llama;
using Options = ConvertOptions;

std::string typeHelp() {
  std::string text = "Types of the matrices, by comma, under the names that people know:";
  for (const GgufMixture& mixture : kGgufMixtures) {
    text.append("\n").append(mixture.name).append(": ").append(mixture.about);
  }
  return text;
}

void parse(int argc, char** argv, Options& o) {
  CLI::App app(
      "Writes a model as a GGUF file: its weights in a mixture of types, its tokenizer, its chat template. Without "
      "--model it takes the little model that comes with gosset. A model that is a GGUF file already gets other "
      "types.");
  app.option_defaults()->always_capture_default();
  std::optional<std::string> budget;
  app.add_option("--model", o.model, "Hugging Face folder, llama2.c .bin, or GGUF file");
  app.add_option("--tokenizer", o.tokenizer,
                 "llama2.c tokenizer or tokenizer.json; else the one in the model's folder or file");
  app.add_option("--out", o.out, "The file to write; with several types a folder, which gets TYPE.gguf for each")
      ->required();
  app.add_option("--type", o.types, typeHelp())->delimiter(',');
  app.add_flag("--pure", o.gguf.pure, "The same type for all matrices, whatever the mixture says");
  app.add_option("--rounding", o.rounding,
                 "How codes are chosen: nearest; importance, errors weighed by the mean squares of what enters each "
                 "layer; gptq, with feedback by all second moments");
  app.add_flag("--awq", o.awq,
               "Before that, scale what enters the layers as AWQ does: columns are multiplied, and the norm or layer "
               "before is divided, so that the file stays plain");
  app.add_option(
      "--budget", budget,
      "In place of a mixture, the types with which the model loses least within so many bits a weight of "
      "its matrices, such as 4.5, or within so many bytes of the file, such as 800MB. --type names the types "
      "to choose from, without _S, _M and _L; else those of Q2_K to Q8_0 of whose blocks rows are made");
  app.add_option("--text", o.text, "Text to calibrate on; else heldout.txt in the model's folder");
  app.add_option("--calibration", o.calibration, "Most tokens of the text to calibrate on")
      ->check(CLI::Range(2, 1000000000));
  app.add_flag(
      "--sequential", o.sequential,
      "Calibrate each block behind those that are rounded already: as often over the text as there are blocks");
  app.add_option("--context", o.context, kContextHelp)->check(CLI::Range(2, 1000000000));
  app.add_option("--imatrix", o.imatrix,
                 "Where to write what entered the layers, too: an importance file for llama-quantize");
  app.add_option(
      "--pre-tokenizer", o.gguf.preTokenizer,
      "What the file calls the way to cut texts; else as the tokenizer's own file says: " + ggufPreTokenizerNames());
  app.add_option("--name", o.gguf.name, "general.name of the file");
  parseArguments(app, argc, argv);
  chooseTypes(o, budget, app.count("--type") > 0);
  o.gguf.rounding = findRounding(o.rounding);
  refuseIgnored(o);
}

/// What models are calibrated on; nothing where no codes are chosen by it.
std::vector<Sequence> calibrationText(const Options& o, const Model& model, const Tokenizer& tokenizer) {
  if (!needsText(o)) return {};
  const fs::path path = o.text.empty() ? besideModel(o.model, {"heldout.txt"}).value_or("") : o.text;
  if (path.empty()) {
    if (o.budget || o.awq) {
      throw std::invalid_argument(std::string(o.budget ? "--budget" : "--awq") +
                                  " looks at what enters the layers; name a text with --text");
    }
    throw std::invalid_argument("--rounding " + o.rounding +
                                " looks at what enters the layers; name a text with --text, or "
                                "take --rounding nearest");
  }
  const std::string text = readBytes(path, std::uintmax_t{1} << 32);
  const auto sequences = naming(
      path.string(), [&] { return sequencesOf(tokenizer, text, contextFor(o.context, model.config), o.calibration); });
  check(!sequences.empty(), path.string(), ": holds no text to calibrate on");
  return sequences;
}

Calibration calibrated(const Model& model, const std::vector<Sequence>& sequences) {
  if (sequences.empty()) return {};
  const Engine engine(floatModel(model));
  Progress progress("calibration", sequences.size());
  Calibration calibration = calibrate(engine, sequences, [&] { progress.step(); });
  calibrateStarvedExperts(engine, calibration);
  return calibration;
}

/// What there is to write.
struct Source {
  Model model;
  Tokenizer tokenizer;
  std::vector<Sequence> text;
  Calibration calibration;
  std::vector<GgufCandidates> candidates = {};  ///< where there is a budget
  std::uint64_t beside = 0;                     ///< bytes that are not those of matrices
};

Source read(const Options& o) {
  auto [model, tokenizer] = readModelAndTokenizer(o.model, o.tokenizer);
  Source source{std::move(model), std::move(tokenizer), {}, {}};
  if (o.budget) {
    GgufOptions options = o.gguf;
    options.types.emplace();
    source.candidates = ggufCandidates(source.model, o.types);
    source.beside = ggufBytesBesideMatrices(o.out.string() + ".beside", source.model, source.tokenizer, options);
    bytesForMatrices(source.candidates, *o.budget, source.beside);  // before anything takes long
  }
  source.text = calibrationText(o, source.model, source.tokenizer);
  source.calibration = calibrated(source.model, source.text);
  return source;
}

/// A line for one matrix that was written.
void print(const GgufWritten& tensor) {
  const bool other = tensor.type.type != tensor.type.wanted;
  std::printf("%-32s %-7s %12llu bytes%s\n", tensor.name.c_str(), std::string(tensor.type.type).c_str(),
              static_cast<unsigned long long>(tensor.bytes),
              other ? (", as its rows are no blocks of " + std::string(tensor.type.wanted)).c_str() : "");
  std::fflush(stdout);
}

void write(const fs::path& path, const Options& o, const GgufOptions& options, const Source& source) {
  const Config& config = source.model.config;
  Index numbers = 0;
  std::uint64_t bytes = 0;
  const auto written = [&](const GgufWritten& tensor) {
    numbers += tensor.numbers;
    bytes += tensor.bytes;
    print(tensor);
  };
  Recalibrate recalibrate;
  if (o.sequential && options.rounding != GgufRounding::kNearest) {
    recalibrate = [&](const Model& soFar) { return calibrated(soFar, source.text); };
  }
  const auto writeModel = [&](const Model& model, const Calibration& calibration) {
    return writeGgufModel(path, model, source.tokenizer, options, calibration, written, recalibrate);
  };
  GgufSaid said;
  if (o.awq) {
    const AwqFolded folded = foldAwq(source.model, source.calibration, options, [](const AwqScales& scales) {
      std::printf("%-48s divided by %.3g to %.3g\n", scales.divided.c_str(), static_cast<double>(scales.least),
                  static_cast<double>(scales.most));
    });
    said = writeModel(folded.model, folded.calibration);
  } else {
    said = writeModel(source.model, source.calibration);
  }
  if (said.context < config.context) {
    std::printf("context: %td tokens, not %td: the file cannot say that the model looks no farther back\n",
                said.context, config.context);
  }
  std::printf("%s: %td weights in matrices, %.3f bits each\n", path.string().c_str(), numbers,
              8.0 * static_cast<double>(bytes) / static_cast<double>(numbers));
}

GgufOptions inMixture(const Options& o, const std::string& type) {
  GgufOptions options = o.gguf;
  options.mixture = findGgufMixture(type);
  if (detail::isKept(options.mixture.type)) options.rounding = GgufRounding::kNearest;
  return options;
}

/// The first sequences of the text, which tell the matrices from each other.
std::vector<Sequence> measuredOn(const std::vector<Sequence>& text) {
  constexpr std::size_t kTokens = 4000;
  std::vector<Sequence> result;
  for (std::size_t tokens = 0; tokens < kTokens && result.size() < text.size();) {
    result.push_back(text[result.size()]);
    tokens += result.back().size();
  }
  return result;
}

GgufOptions withinBudget(const Options& o, Source& source) {
  const std::vector<Sequence> text = measuredOn(source.text);
  GgufOptions options = o.gguf;
  Progress progress("losses", source.candidates.size());
  measureGgufLosses(source.candidates, source.model, options.rounding, source.calibration, text,
                    [&] { progress.step(); });
  const GgufMixturePlan plan = planGgufTypes(source.candidates, *o.budget, source.beside);
  std::printf("KL divergence: %.5f on %td tokens of the text, if what matrices lose adds up\n", plan.loss,
              predictedTokens(text));
  options.types = plan.types;
  return options;
}

void run(const Options& o) {
  Source source = read(o);
  if (!o.imatrix.empty()) {
    gosset::Imatrix imatrix = imatrixOf(source.model, source.calibration);
    imatrix.datasets = {o.text.filename().string()};
    gosset::writeImatrix(o.imatrix, imatrix);
  }
  if (o.budget) return write(o.out, o, withinBudget(o, source), source);
  if (o.types.size() == 1) return write(o.out, o, inMixture(o, o.types[0]), source);
  makeFolder(o.out);
  for (const std::string& type : o.types) write(o.out / (type + ".gguf"), o, inMixture(o, type), source);
}

}  // namespace

int main(int argc, char** argv) {
  return runProgram("convert", [&] {
    Options options;
    options.model = GOSSET_EXAMPLE_MODEL_DIR;
    parse(argc, argv, options);
    run(options);
  });
}
