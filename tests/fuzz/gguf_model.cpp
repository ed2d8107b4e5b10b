// SPDX-License-Identifier: Apache-2.0
#include "fuzz.hpp"

#include "../../examples/llama/gguf_config_write.hpp"
#include "../../examples/llama/gguf_model_read.hpp"

#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <iterator>
#include <string>
#include <vector>

// GGUF files as the models and the tokenizers of examples/llama.
namespace gosset::fuzz {
namespace {

namespace fs = std::filesystem;

llama::Model someModel(const std::string& config) {
  const llama::HuggingFaceConfig read = llama::parseHuggingFaceConfig(config, "seed");
  auto model = llama::emptyWeights<RowMatrixXf>(read.config, !read.tied);
  if (read.config != llama::plainLlama(read.config)) model.configText = config;
  model.embedding = someMatrix(read.config.vocab, read.config.dim);
  llama::forEachFloat(model, [&](const llama::FloatInfo& info, auto& numbers) {
    numbers = someMatrix(info.shape.front(), info.shape.size() > 1 ? info.shape[1] : 1);
  });
  llama::forEachLinear(model,
                       [](const llama::LinearInfo& info, RowMatrixXf& w) { w = someMatrix(info.rows, info.cols); });
  return model;
}

/// A tokenizer of that many pieces with scores.
llama::Tokenizer someTokenizer(Index size) {
  std::vector<llama::SentencePieces::Piece> pieces;
  for (Index i = 0; i < size; ++i) pieces.push_back({std::string(1 + static_cast<std::size_t>(i) / 3, 'a'), -float(i)});
  const auto vocabulary = std::make_shared<const llama::SentencePieces>(std::move(pieces));
  return {vocabulary, llama::llama2cFrame(*vocabulary)};
}

/// The file of a model, its matrices in floats.
Bytes seedOf(const std::string& config) {
  const llama::Model model = someModel(config);
  const llama::GgufFamily& family = llama::ggufFamilyOf(model.configText);
  GgufWriter writer;
  const llama::GgufSaid said = llama::setGgufConfig(writer, model.config, family);
  llama::setGgufTokenizer(writer, someTokenizer(model.config.vocab), model.config.vocab);
  if (said.ropeFactors.size() > 0) writer.add("rope_freqs.weight", said.ropeFactors);
  for (const llama::GgufPlan& plan : llama::ggufMatrices(model.config, family, model.output.has_value())) {
    Index size = 1;
    for (const Index length : plan.shape) size *= length;
    const RowMatrixXf numbers = someMatrix(1, size);
    writer.addSource(plan.name, *ggmlType(0), plan.shape, [numbers](const GgufWriter::Put& put) {
      put(std::as_bytes(std::span(numbers.data(), static_cast<std::size_t>(numbers.size()))));
    });
  }
  llama::forEachFloat(model, [&](const llama::FloatInfo& info, const auto& numbers) {
    const std::string name = llama::ggufName(info.name, family, model.config.postNorms);
    if (info.shape.size() > 1 && info.shape[0] > 1) return writer.add(name, numbers);
    writer.add(name, Eigen::Map<const Eigen::VectorXf>(numbers.data(), numbers.size()));
  });
  const fs::path path = fs::temp_directory_path() / ("gosset-fuzz-gguf-model-" + std::to_string(::getpid()));
  writer.write(path);
  std::ifstream file(path, std::ios::binary);
  Bytes bytes(std::istreambuf_iterator<char>(file), {});
  fs::remove(path);
  return bytes;
}

std::vector<Bytes> seeds() {
  const std::string sizes =
      R"("hidden_size":4,"intermediate_size":4,"num_hidden_layers":2,"num_attention_heads":2,"num_key_value_heads":1,)"
      R"("vocab_size":5,"max_position_embeddings":8,"head_dim":2,"tie_word_embeddings":true,)";
  return {seedOf("{" + sizes + R"("model_type":"llama"})"),
          seedOf("{" + sizes +
                 R"("model_type":"qwen2_moe","num_experts":2,"num_experts_per_tok":1,)"
                 R"("moe_intermediate_size":2,"shared_expert_intermediate_size":2})"),
          seedOf("{" + sizes + R"("model_type":"phi3","sliding_window":null})"),
          seedOf("{" + sizes + R"("model_type":"gemma2","sliding_window":3,"query_pre_attn_scalar":2})")};
}

void read(View input, Progress& progress) {
  const GgufFile file(pathOf(input), FileAccess::kLoad);
  progress.passHeader();
  try {
    const llama::Tokenizer tokenizer = llama::readGgufTokenizer(file, Index{1} << 20);
    expect(!tokenizer.encode("aab a").empty(), "tokens");
  } catch (const FormatError&) {
  } catch (const std::invalid_argument&) {  // a text that the tokenizer has no tokens for
  }
  const llama::GgufModel model = llama::readGgufModel(pathOf(input));
  progress.load();
  const llama::Model floats = llama::floatsOf(model.model);
  llama::forEachLinear(floats, [](const llama::LinearInfo& info, const RowMatrixXf& w) {
    expect(w.rows() == info.rows && w.cols() == info.cols && w.allFinite(), "finite weights of the shape");
  });
  llama::forEachFloat(floats, [](const llama::FloatInfo& info, const auto& numbers) {
    expect(numbers.size() > 0 && numbers.rows() == info.shape.front() && numbers.allFinite(), "finite floats");
  });
}

}  // namespace

Reader ggufModelReader() { return {"gguf_model", seeds, read, ggufReader().mutate}; }

}  // namespace gosset::fuzz
