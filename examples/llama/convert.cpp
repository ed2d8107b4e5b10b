// SPDX-License-Identifier: Apache-2.0
// Writes a model as a GGUF file, which llama.cpp and its kin run.
#include "gguf_model_write.hpp"
#include "load.hpp"
#include "program.hpp"
#include "progress.hpp"

#include <cstdio>

namespace {

using namespace llama;

struct Options {
  fs::path model = GOSSET_EXAMPLE_MODEL_DIR;
  fs::path tokenizer, text, out, imatrix;
  std::vector<std::string> types = {"Q4_K_M"};
  std::string rounding = "gptq";
  Index calibration = 20000;
  bool sequential = false;
  std::optional<Index> context;
  GgufOptions gguf;
};

std::string typeHelp() {
  std::string text = "Types of the matrices, by comma, under the names that people know:";
  for (const GgufMixture& mixture : kGgufMixtures) {
    text.append("\n").append(mixture.name).append(": ").append(mixture.about);
  }
  return text;
}

GgufRounding findRounding(const std::string& name) {
  if (name == "nearest") return GgufRounding::kNearest;
  if (name == "importance") return GgufRounding::kImportance;
  if (name == "gptq") return GgufRounding::kGptq;
  throw std::invalid_argument("rounding \"" + name + "\" is none of nearest, importance, gptq");
}

bool looksAtInputs(const Options& o) {
  return o.gguf.rounding != GgufRounding::kNearest &&
         std::any_of(o.types.begin(), o.types.end(),
                     [](const std::string& type) { return !detail::isKept(findGgufMixture(type).type); });
}

void parse(int argc, char** argv, Options& o) {
  CLI::App app(
      "Writes a model as a GGUF file: its weights in a mixture of types, its tokenizer, its chat template. Without "
      "--model it takes the little model that comes with gosset. A model that is a GGUF file already gets other "
      "types.");
  app.option_defaults()->always_capture_default();
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
  for (const std::string& type : o.types) findGgufMixture(type);
  o.gguf.rounding = findRounding(o.rounding);
  if (o.sequential && !looksAtInputs(o)) {
    throw std::invalid_argument(
        "--sequential: no codes are chosen by what enters the layers; take --rounding importance or "
        "gptq, and a --type of fewer than 16 bits");
  }
  if (!o.imatrix.empty() && !looksAtInputs(o)) {
    throw std::invalid_argument(
        "--imatrix: nothing is known of what enters the layers, as no codes are chosen by it; take "
        "--rounding importance or gptq, and a --type of fewer than 16 bits");
  }
}

/// What models are calibrated on; nothing where no codes are chosen by it.
std::vector<Sequence> calibrationText(const Options& o, const Model& model, const Tokenizer& tokenizer) {
  if (!looksAtInputs(o)) return {};
  const fs::path path = o.text.empty() ? besideModel(o.model, {"heldout.txt"}).value_or("") : o.text;
  if (path.empty()) {
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

void write(const fs::path& path, const Options& o, const std::string& type, const Model& model,
           const Tokenizer& tokenizer, const Calibration& calibration, const Recalibrate& recalibrate) {
  GgufOptions options = o.gguf;
  options.mixture = findGgufMixture(type);
  if (detail::isKept(options.mixture.type)) options.rounding = GgufRounding::kNearest;
  Index numbers = 0;
  std::uint64_t bytes = 0;
  const GgufSaid said = writeGgufModel(
      path, model, tokenizer, options, calibration,
      [&](const GgufWritten& tensor) {
        numbers += tensor.numbers;
        bytes += tensor.bytes;
        const bool other = tensor.type.type != tensor.type.wanted;
        std::printf("%-32s %-7s %12llu bytes%s\n", tensor.name.c_str(), std::string(tensor.type.type).c_str(),
                    static_cast<unsigned long long>(tensor.bytes),
                    other ? (", as its rows are no blocks of " + std::string(tensor.type.wanted)).c_str() : "");
        std::fflush(stdout);
      },
      options.rounding == GgufRounding::kNearest ? Recalibrate() : recalibrate);
  if (said.context < model.config.context) {
    std::printf("context: %td tokens, not %td: the file cannot say that the model looks no farther back\n",
                said.context, model.config.context);
  }
  std::printf("%s: %td weights in matrices, %.3f bits each\n", path.string().c_str(), numbers,
              8.0 * static_cast<double>(bytes) / static_cast<double>(numbers));
}

void run(const Options& o) {
  const auto [model, tokenizer] = readModelAndTokenizer(o.model, o.tokenizer);
  const std::vector<Sequence> text = calibrationText(o, model, tokenizer);
  const Calibration calibration = calibrated(model, text);
  Recalibrate recalibrate;
  if (o.sequential) recalibrate = [&text](const Model& soFar) { return calibrated(soFar, text); };
  if (!o.imatrix.empty()) {
    gosset::Imatrix imatrix = imatrixOf(model, calibration);
    imatrix.datasets = {o.text.filename().string()};
    gosset::writeImatrix(o.imatrix, imatrix);
  }
  if (o.types.size() == 1) return write(o.out, o, o.types[0], model, tokenizer, calibration, recalibrate);
  makeFolder(o.out);
  for (const std::string& type : o.types) {
    write(o.out / (type + ".gguf"), o, type, model, tokenizer, calibration, recalibrate);
  }
}

}  // namespace

int main(int argc, char** argv) {
  return runProgram("convert", [&] {
    Options options;
    parse(argc, argv, options);
    run(options);
  });
}
