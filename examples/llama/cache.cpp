// SPDX-License-Identifier: Apache-2.0
// What KV cache formats cost a Llama model: its weights stay floats, its keys and values do not.
#include "kv.hpp"
#include "load.hpp"
#include "program.hpp"

#include <cstdio>
#include <optional>

namespace {

using namespace llama;

struct Options {
  fs::path model = GOSSET_EXAMPLE_MODEL_DIR;
  fs::path tokenizer, text, dump, reference;
  std::optional<Index> context;
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
      "divergence from the predictions over a float32 cache, with its standard error and what 99.9% of the tokens do "
      "not exceed.");
  app.option_defaults()->always_capture_default();
  app.add_option("--model", o.model, "Hugging Face folder (README.md says of which models), or a llama2.c .bin");
  app.add_option("--tokenizer", o.tokenizer, "Its tokenizer; else the one in the model's folder");
  app.add_option("--text", o.text, "Text to predict; else heldout.txt in the model's folder");
  auto* dump = app.add_option("--dump", o.dump, "Safetensors file that gets the keys and values of all layers");
  app.add_option("--kv", o.formats, help)->delimiter(',');
  app.add_option("--tokens", o.tokens, "Most tokens of the text to predict")->check(CLI::Range(2, 1000000000));
  app.add_option("--context", o.context, kContextHelp)->check(CLI::Range(2, 1000000000));
  app.add_option("--reference", o.reference,
                 "File that keeps the predictions over a float32 cache for later runs on the same tokens: made where "
                 "there is none, refused where it is another run's. 2 bytes times tokens times tokens known")
      ->excludes(dump);
  app.add_option("--window", o.window, "Tokens that wait in 16 bits")->check(CLI::Range(2, 1000000000));
  parseArguments(app, argc, argv);
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
  const Index context = contextFor(o.context, model.config);
  const std::string text = readBytes(path, std::uintmax_t{1} << 32);
  const auto sequences = naming(path.string(), [&] { return sequencesOf(tokenizer, text, context, o.tokens); });
  check(!sequences.empty(), path.string(), ": holds no text to predict");
  const Engine engine(floatModel(model));
  const Config& c = engine.config();
  const Index predicted = predictedTokens(sequences), tokens = predicted + static_cast<Index>(sequences.size());
  const Index longest = PieceRunner::longest(sequences);
  std::printf("%td tokens in %zu stories, %s; %td layers, %td KV heads of %td\n\n", tokens, sequences.size(),
              beginningText(tokenizer).c_str(), c.layers, c.kvHeads, c.headDim);
  std::printf("%-10s %12s %10s %11s %9s %8s %8s %8s\n", "KV", "bytes/token", "bits", "perplexity", "KL, nats", "+/-",
              "99.9%", "top-1 %");
  const auto print = [&](const char* name, double bytes, const Quality& q) {
    const double perToken = bytes / static_cast<double>(tokens);
    std::printf("%-10s %12.1f %10.3f %s %8.2f\n", name, perToken,
                8 * perToken / static_cast<double>(2 * c.layers * c.kvDim()), lossText(q).c_str(),
                100 * q.top1Agreement);
    std::fflush(stdout);
  };

  std::optional<Dump> dump;
  if (!o.dump.empty()) dump.emplace(c, tokens);
  KvCache floats(c, longest);
  const auto runFloats = [&](const Sequence& sequence, auto&& use) {
    floats.clear();
    runStreamed(engine, sequence, floats, use);
    if (dump) dump->add(floats);
  };
  const std::string hash = o.reference.empty() ? std::string() : modelHash(o.model);
  const ReferenceKey key{hash, tokensHash(sequences), "one by one", c.vocab, predicted};
  const Reference reference = makeReference(o.reference, key, sequences, runFloats, [] {});
  print("fp32", static_cast<double>(4 * tokens * 2 * c.layers * c.kvDim()), ownQuality(reference, predicted));
  if (dump) dump->write(o.dump);
  for (const std::string& name : o.formats) {
    KvCache cache(c, longest, findKvFormat(name).make(c, o.window));
    double bytes = 0;
    const auto run = [&](const Sequence& sequence, auto&& use) {
      cache.clear();
      runStreamed(engine, sequence, cache, use);
      bytes += static_cast<double>(cache.compressed()->bytes());
    };
    const Quality quality = measureQuality(reference, sequences, run, [] {});
    print(name.c_str(), bytes, quality);
  }
}

}  // namespace

int main(int argc, char** argv) {
  return runProgram("cache", [&] {
    Options options;
    parse(argc, argv, options);
    run(options);
  });
}
