// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "../../examples/llama/model.hpp"
#include "../../examples/llama/tokenizer_sentencepiece.hpp"

#include "testing.hpp"

#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <string>

// Files that the tests of examples/llama write.
namespace llama::testing {

namespace fs = std::filesystem;

/// A folder of the test's own, gone with it.
class TemporaryFolder {
 public:
  TemporaryFolder() {
    const auto* test = ::testing::UnitTest::GetInstance()->current_test_info();
    std::string name =
        std::string("gosset-") + test->test_suite_name() + "-" + test->name() + "-" + std::to_string(getpid());
    std::replace(name.begin(), name.end(), '/', '-');
    path_ = fs::temp_directory_path() / name;
    fs::create_directories(path_);
  }
  ~TemporaryFolder() {
    std::error_code ignored;
    fs::remove_all(path_, ignored);
  }
  TemporaryFolder(const TemporaryFolder&) = delete;
  TemporaryFolder& operator=(const TemporaryFolder&) = delete;

  fs::path operator/(const char* name) const { return path_ / name; }
  const fs::path& path() const { return path_; }

 private:
  fs::path path_;
};

inline void writeBytes(const fs::path& path, const std::string& bytes) {
  std::ofstream(path, std::ios::binary) << bytes;
}

/// A tokenizer of llama2.c's kind.
inline Tokenizer tokenizerOf(SentencePieces pieces, const std::string& chatTemplate = {}) {
  const auto vocabulary = std::make_shared<const SentencePieces>(std::move(pieces));
  TextFrame frame = llama2cFrame(*vocabulary);
  frame.chatTemplate = chatTemplate;
  return {vocabulary, frame};
}

/// Some tokenizer of that many tokens.
inline Tokenizer anyTokenizer(Index vocab, const std::string& chatTemplate = {}) {
  std::vector<SentencePieces::Piece> pieces;
  for (Index i = 0; i < vocab; ++i) pieces.push_back({"t" + std::to_string(i), -static_cast<float>(i)});
  return tokenizerOf(SentencePieces(pieces), chatTemplate);
}

/// A model in llama2.c's format.
inline std::string llama2cBytes(const Model& model) {
  std::string bytes;
  const auto append = [&bytes](const void* data, std::size_t size) {
    bytes.append(static_cast<const char*>(data), size);
  };
  const auto floats = [&append](const auto& m) {
    append(m.data(), static_cast<std::size_t>(m.size()) * sizeof(float));
  };
  const Config& c = model.config;
  for (const Index value :
       {c.dim, c.hidden, c.layers, c.heads, c.kvHeads, model.output ? -c.vocab : c.vocab, c.context}) {
    const auto number = static_cast<std::int32_t>(value);
    append(&number, sizeof(number));
  }
  floats(model.embedding);
  for (const auto& layer : model.layers) floats(layer.attentionNorm);
  for (const auto& layer : model.layers) floats(layer.wq);
  for (const auto& layer : model.layers) floats(layer.wk);
  for (const auto& layer : model.layers) floats(layer.wv);
  for (const auto& layer : model.layers) floats(layer.wo);
  for (const auto& layer : model.layers) floats(layer.ffnNorm);
  for (const auto& layer : model.layers) floats(layer.w1);
  for (const auto& layer : model.layers) floats(layer.w2);
  for (const auto& layer : model.layers) floats(layer.w3);
  floats(model.finalNorm);
  floats(Eigen::VectorXf::Constant(c.context * c.headDim, 77.f).eval());  // the rotary tables, which nothing reads
  if (model.output) floats(*model.output);
  return bytes;
}

/// Every weight of two models is the same number.
inline void expectSame(const Model& a, const Model& b) {
  EXPECT_EQ(a.config, b.config);
  EXPECT_EQ(a.embedding, b.embedding);
  ASSERT_EQ(a.layers.size(), b.layers.size());
  ASSERT_EQ(a.output.has_value(), b.output.has_value());
  std::vector<const RowMatrixXf*> others;
  forEachLinear(b, [&](const LinearInfo&, const RowMatrixXf& weights) { others.push_back(&weights); });
  auto other = others.begin();
  forEachLinear(a, [&](const LinearInfo& info, const RowMatrixXf& weights) {
    const RowMatrixXf& theirs = **other++;
    ASSERT_EQ(weights.rows(), theirs.rows()) << info.name;
    ASSERT_EQ(weights.cols(), theirs.cols()) << info.name;
    EXPECT_EQ(weights, theirs) << info.name;
  });
  for (std::size_t i = 0; i < a.layers.size(); ++i) {
    EXPECT_EQ(a.layers[i].attentionNorm, b.layers[i].attentionNorm);
    EXPECT_EQ(a.layers[i].ffnNorm, b.layers[i].ffnNorm);
  }
  EXPECT_EQ(a.finalNorm, b.finalNorm);
}

}  // namespace llama::testing
