// SPDX-License-Identifier: Apache-2.0
// What KV cache formats cost a Llama model: its weights stay floats, its keys and values do not.
#include "kv.hpp"
#include "load.hpp"

#include <CLI/CLI.hpp>

#include <cstdio>
#include <iostream>

namespace {

using namespace llama;

struct Options {
  fs::path model = GOSSET_EXAMPLE_MODEL_DIR;
  fs::path tokenizer, text, dump;
  std::vector<std::string> formats;
  Index tokens = 5000;
  Index window = 64;
};

void parse(int argc, char** argv, Options& o) {
  std::string help = "Formats of the KV cache, by comma:";
  for (const KvFormatEntry& entry : kvFormatTable()) {
    o.formats.push_back(entry.name);
    help += "\n" + entry.name + ": " + entry.about;
  }
  CLI::App app(
      "Feeds a text to a Llama model token by token, in one format of the KV cache after the other, and prints bytes a "
      "token (of all layers, at the end of the stories, the 16-bit window included), bits a number, perplexity, and KL "
      "divergence from the predictions over a float32 cache.");
  app.option_defaults()->always_capture_default();
  app.add_option("--model", o.model, "Hugging Face folder (README.md says of which models), or a llama2.c .bin");
  app.add_option("--tokenizer", o.tokenizer, "Its tokenizer; else the one in the model's folder");
  app.add_option("--text", o.text, "Text to predict; else heldout.txt in the model's folder");
  app.add_option("--kv", o.formats, help)->delimiter(',');
  app.add_option("--tokens", o.tokens, "Most tokens of the text to predict")->check(CLI::Range(2, 1000000000));
  app.add_option("--window", o.window, "Tokens that wait in 16 bits")->check(CLI::Range(2, 1000000000));
  app.add_option("--dump", o.dump, "Safetensors file that gets the keys and values of all layers");
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    std::exit(app.exit(error));
  }
  for (const std::string& name : o.formats) findKvFormat(name);
}

/// tokens x kvDim of each layer, story after story.
class Dump {
 public:
  Dump(const Config& config, Index tokens)
      : config_(config),
        keys_(static_cast<std::size_t>(config.layers), RowMatrixXf(tokens, config.kvDim())),
        values_(keys_) {}

  void add(const KvCache& cache) {
    for (std::size_t layer = 0; layer < keys_.size(); ++layer) {
      keys_[layer].middleRows(size_, cache.size()) = cache.keys(layer, 0, config_.kvDim(), cache.size()).transpose();
      values_[layer].middleRows(size_, cache.size()) =
          cache.values(layer, 0, config_.kvDim(), cache.size()).transpose();
    }
    size_ += cache.size();
  }

  void write(const fs::path& path) const {
    gosset::SafetensorsWriter writer;
    for (std::size_t layer = 0; layer < keys_.size(); ++layer) {
      const std::string name = "layers." + std::to_string(layer);
      writer.add(name + ".keys", keys_[layer].topRows(size_));
      writer.add(name + ".values", values_[layer].topRows(size_));
    }
    writer.setMetadata("head_dim", std::to_string(config_.headDim));
    writer.write(path);
  }

 private:
  Config config_;
  std::vector<RowMatrixXf> keys_, values_;
  Index size_ = 0;
};

void run(const Options& o) {
  const Model model = readModel(o.model);
  const Tokenizer tokenizer = readTokenizerFor(o.model, o.tokenizer, model.config.vocab);
  const fs::path path = o.text.empty() ? besideModel(o.model, {"heldout.txt"}).value_or("") : o.text;
  check(!path.empty(), o.model.string(), ": no heldout.txt is there; name a text with --text");
  const auto sequences =
      sequencesOf(tokenizer, readBytes(path, std::uintmax_t{1} << 32), model.config.context, o.tokens);
  check(!sequences.empty(), path.string(), ": holds no text to predict");
  const Engine engine(floatModel(model));
  const Config& c = engine.config();
  Index tokens = 0, longest = 0;
  for (const Sequence& sequence : sequences) {
    tokens += static_cast<Index>(sequence.size());
    longest = std::max(longest, static_cast<Index>(sequence.size()));
  }
  std::printf("%td tokens in %zu stories; %td layers, %td KV heads of %td\n\n%-10s %12s %10s %11s %10s %8s\n", tokens,
              sequences.size(), c.layers, c.kvHeads, c.headDim, "KV", "bytes/token", "bits", "perplexity", "KL, nats",
              "top-1 %");
  const auto print = [&](const char* name, double bytes, const Quality& q) {
    const double perToken = bytes / static_cast<double>(tokens);
    std::printf("%-10s %12.1f %10.3f %11.4f %10.5f %8.2f\n", name, perToken,
                8 * perToken / static_cast<double>(2 * c.layers * c.kvDim()), q.perplexity, q.klDivergence,
                100 * q.top1Agreement);
    std::fflush(stdout);
  };

  Logits reference;
  QualityMeter exact;
  Dump dump(c, tokens);
  KvCache floats(c, longest);
  for (const Sequence& sequence : sequences) {
    floats.clear();
    reference.push_back(streamedLogits(engine, sequence, floats));
    exact.add(sequence, reference.back(), reference.back());
    dump.add(floats);
  }
  print("fp32", static_cast<double>(4 * tokens * 2 * c.layers * c.kvDim()), exact.quality());
  if (!o.dump.empty()) dump.write(o.dump);
  for (const std::string& name : o.formats) {
    KvCache cache(c, longest, findKvFormat(name).make(c, o.window));
    QualityMeter meter;
    double bytes = 0;
    for (std::size_t i = 0; i < sequences.size(); ++i) {
      cache.clear();
      meter.add(sequences[i], reference[i], streamedLogits(engine, sequences[i], cache));
      bytes += static_cast<double>(cache.compressed()->bytes());
    }
    print(name.c_str(), bytes, meter.quality());
  }
}

}  // namespace

int main(int argc, char** argv) {
  try {
    Options options;
    parse(argc, argv, options);
    run(options);
    return 0;
  } catch (const std::exception& error) {
    std::cerr << "cache: " << error.what() << '\n';
    return 1;
  }
}
