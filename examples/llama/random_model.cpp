// SPDX-License-Identifier: Apache-2.0
// Writes a Llama of any size with random weights, for measuring what programs need: a Hugging Face folder in BF16, a
// file for each block, with a tokenizer of bytes and a text of random letters.
#include "checkpoint_huggingface.hpp"
#include "one_block.hpp"
#include "program.hpp"
#include "tokenizer_file.hpp"

#include <gosset/core/random.hpp>

#include <cmath>
#include <cstdio>
#include <vector>

namespace {

using namespace llama;
namespace fs = std::filesystem;

struct Options {
  fs::path out;
  Config config{.dim = 4096,
                .hidden = 14336,
                .layers = 2,
                .heads = 32,
                .kvHeads = 8,
                .headDim = 128,
                .vocab = 128256,
                .context = 8192,
                .ropeTheta = 500000.f};
  Index letters = 100000;
  std::uint64_t seed = 1;
};

void parse(int argc, char** argv, Options& o) {
  CLI::App app("Writes a Llama with random weights, by default with the shapes of Llama 3 8B, but 2 blocks.");
  app.option_defaults()->always_capture_default();
  app.add_option("--out", o.out, "Folder to write")->required();
  app.add_option("--dim", o.config.dim, "Width");
  app.add_option("--hidden", o.config.hidden, "Width of the feed-forward network");
  app.add_option("--layers", o.config.layers, "Blocks");
  app.add_option("--heads", o.config.heads, "Heads of queries");
  app.add_option("--kv-heads", o.config.kvHeads, "Heads of keys and values");
  app.add_option("--vocab", o.config.vocab, "Tokens, 259 at least");
  app.add_option("--letters", o.letters, "Of the text");
  app.add_option("--seed", o.seed, "Of everything random");
  parseArguments(app, argc, argv);
  o.config.headDim = o.config.dim / std::max<Index>(o.config.heads, 1);
  checkConfig(o.config, "random_model");
  check(o.config.vocab >= 259, "random_model: 259 tokens at least expected, found ", o.config.vocab);
}

/// Bytes of uniform numbers with the variance 1 / cols, made while they are written.
gosset::SafetensorsWriter::Source randomNumbers(Index rows, Index cols, std::uint64_t seed) {
  return [=](const gosset::SafetensorsWriter::Put& put) {
    const float width = std::sqrt(12.f / static_cast<float>(cols));
    Eigen::Matrix<gosset::BFloat16, Eigen::Dynamic, 1> row(cols);
    for (Index i = 0; i < rows; ++i) {
      const std::uint64_t rowSeed = gosset::randomBits(seed, static_cast<std::uint64_t>(i));
      for (Index j = 0; j < cols; ++j) {
        row[j] = gosset::BFloat16(width * (gosset::randomUniform(rowSeed, static_cast<std::uint64_t>(j)) - 0.5f));
      }
      put(std::as_bytes(std::span(row.data(), static_cast<std::size_t>(cols))));
    }
  };
}

gosset::SafetensorsWriter::Source ones(Index size) {
  return [size](const gosset::SafetensorsWriter::Put& put) {
    const std::vector<gosset::BFloat16> numbers(static_cast<std::size_t>(size), gosset::BFloat16(1.f));
    put(std::as_bytes(std::span(numbers)));
  };
}

class RandomModel {
 public:
  explicit RandomModel(const Options& o) : o_(o) {}

  void write() {
    const auto all = emptyWeights<std::monostate>(o_.config, true);
    const LinearInfo embedding = embeddingInfo(o_.config), output{outputName(), o_.config.vocab, o_.config.dim};
    addMatrix(embedding);
    flush();
    for (std::size_t block = 0; block < all.layers.size(); ++block) {
      const auto alone = emptyWeights<std::monostate>(oneBlock(o_.config, block), false);
      forEachLinearOf(alone, block, [&](const LinearInfo& info, std::monostate) { addMatrix(info); });
      const auto shape = emptyWeights<RowMatrixXf>(oneBlock(o_.config, block), false);
      forEachFloatOf(shape, block, [&](const FloatInfo& info, auto&) { addOnes(info.name, info.shape.front()); });
      flush();
    }
    addOnes("model.norm.weight", o_.config.dim);
    addMatrix(output);
    flush();
    const std::string index = nlohmann::json{{"weight_map", index_}}.dump();
    writeWhole(o_.out / "model.safetensors.index.json", index);
    writeWhole(o_.out / "config.json", huggingFaceConfigText(o_.config, false));
  }

  void writeTokenizer() const {
    std::vector<SentencePieces::Piece> pieces = {{"<unk>"}, {"<s>"}, {"</s>"}};
    for (int byte = 0; byte < 256; ++byte) {
      char name[8];
      std::snprintf(name, sizeof(name), "<0x%02X>", static_cast<unsigned>(byte));
      pieces.push_back({name});
    }
    while (static_cast<Index>(pieces.size()) < o_.config.vocab) {
      pieces.push_back({"[" + std::to_string(pieces.size()) + "]", -1e9f});
    }
    const auto vocabulary = std::make_shared<const SentencePieces>(std::move(pieces));
    saveTokenizer(o_.out, {vocabulary, llama2cFrame(*vocabulary)});
  }

  void writeLetters() const {
    std::string text;
    for (Index i = 0; i < o_.letters; ++i) {
      text += static_cast<char>('a' + gosset::randomBits(o_.seed, static_cast<std::uint64_t>(i)) % 26);
    }
    writeWhole(o_.out / "heldout.txt", text);
  }

 private:
  void addMatrix(const LinearInfo& info) {
    writer_.addSource(info.name, gosset::Dtype::kBF16, {info.rows, info.cols},
                      randomNumbers(info.rows, info.cols, gosset::randomBits(o_.seed, index_.size())));
    index_[info.name] = fileName();
  }
  void addOnes(const std::string& name, Index size) {
    writer_.addSource(name, gosset::Dtype::kBF16, {size}, ones(size));
    index_[name] = fileName();
  }

  std::string fileName() const { return "part-" + std::to_string(part_) + ".safetensors"; }
  void flush() {
    writer_.write(o_.out / fileName());
    writer_ = gosset::SafetensorsWriter();
    ++part_;
  }

  const Options& o_;
  gosset::SafetensorsWriter writer_;
  std::map<std::string, std::string> index_;
  int part_ = 0;
};

}  // namespace

int main(int argc, char** argv) {
  return runProgram("random_model", [&] {
    Options options;
    parse(argc, argv, options);
    makeFolder(options.out);
    RandomModel model(options);
    model.write();
    model.writeTokenizer();
    model.writeLetters();
  });
}
