// SPDX-License-Identifier: Apache-2.0
#include "../../examples/llama/reference_logits.hpp"

#include "files.hpp"

#include <limits>

namespace llama::testing::reference_logits_test {
namespace {

using gosset::FormatError;
using gosset::testing::expectThrows;

ReferenceKey keyOf(Index vocab, Index predicted) { return {"abc", "def", "in pieces", vocab, predicted}; }

ReferenceLogits written(const fs::path& path, const Eigen::MatrixXf& logits) {
  const ReferenceKey key = keyOf(logits.rows(), logits.cols());
  ReferenceWriter writer(path, key);
  for (Index t = 0; t < logits.cols(); ++t) writer.add(logits.col(t), 0.5 * static_cast<double>(t));
  writer.commit();
  return {path, key};
}

TEST(ReferenceLogits, ColumnsComeBackCountedFromTheLikeliest) {
  const TemporaryFolder folder;
  for (const Index vocab : {1, 2, 7, 63, 172}) {
    const Eigen::MatrixXf logits = 5 * gosset::testing::gaussian(vocab, 9);
    const ReferenceLogits kept = written(folder / "r", logits);
    for (Index t = 0; t < 9; ++t) {
      const ReferenceLogits::Column column = kept.column(t);
      EXPECT_EQ(column.likeliest, detail::argmax(logits.col(t)));
      EXPECT_EQ(column.logits(column.likeliest), 0);
      EXPECT_EQ(kept.loss(t), 0.5 * static_cast<double>(t));
      const float top = logits.col(t).maxCoeff(), range = top - logits.col(t).minCoeff();
      EXPECT_LE((column.logits.array() + top - logits.col(t).array()).abs().maxCoeff(), 0.51f * range / 65534 + 1e-5f);
    }
  }
}

// Twice step^2 / 24 for a divergence of 0, and of others a few times the step by what an average leaves of it.
TEST(ReferenceLogits, ADivergenceIsOffByHardlyAnything) {
  const TemporaryFolder folder;
  const Index vocab = 2000, tokens = 40;
  const Eigen::MatrixXf logits = 4 * gosset::testing::gaussian(vocab, tokens, 3);
  const ReferenceLogits kept = written(folder / "r", logits);
  for (const float noise : {0.f, 0.01f, 0.1f, 1.f}) {
    const Eigen::MatrixXf others = logits + noise * gosset::testing::gaussian(vocab, tokens, 4);
    double exact = 0, rounded = 0;
    for (Index t = 0; t < tokens; ++t) {
      exact += detail::divergence(logits.col(t), others.col(t)) / static_cast<double>(tokens);
      rounded += detail::divergence(kept.column(t).logits, others.col(t)) / static_cast<double>(tokens);
    }
    RecordProperty("noise" + std::to_string(noise),
                   std::to_string(1e9 * (rounded - exact)) + "e-9 of " + std::to_string(exact));
    EXPECT_NEAR(rounded, exact, 4.4e-8 + 2e-5 * static_cast<double>(noise)) << noise;
  }
}

TEST(ReferenceLogits, WhatIsFarBelowHasNoProbability) {
  const TemporaryFolder folder;
  const Eigen::MatrixXf logits{{3.f, 0.f}, {-1e30f, 0.f}, {-44.9f, 0.f}, {-45.1f, 0.f}};
  const ReferenceLogits kept = written(folder / "r", logits);
  EXPECT_EQ(std::exp(static_cast<double>(kept.column(0).logits(1))), 0);
  EXPECT_NEAR(kept.column(0).logits(2), -47.9f, 1e-3f);
  EXPECT_EQ(std::exp(static_cast<double>(kept.column(0).logits(3))), 0);
  EXPECT_EQ(kept.column(1).logits, Eigen::VectorXf::Zero(4));
  // Each code from the last that stands for a number on, in steps of 48 / 65534.
  for (int code = 65534; code < 65540; ++code) {
    const float below = static_cast<float>(code) * 48.f / 65534;
    const float logit = written(folder / "r", Eigen::Vector3f(0.f, -100.f, -below)).column(0).logits(2);
    EXPECT_EQ(std::exp(static_cast<double>(logit)) > 0, code == 65534) << code;
  }
  EXPECT_EQ(detail::divergence(kept.column(0).logits, kept.column(0).logits), 0);
}

TEST(ReferenceLogits, AnythingElseIsRefused) {
  const TemporaryFolder folder;
  const fs::path path = folder / "r";
  const ReferenceKey key = keyOf(7, 3);
  written(path, gosset::testing::gaussian(7, 3));
  const std::string bytes = readBytes(path, 1 << 20);
  const auto refused = [&](const std::string& text, const ReferenceKey& expected) {
    expectThrows<FormatError>([&] { ReferenceLogits(path, expected); }, text);
  };
  const auto with = [&key](auto ReferenceKey::*field, auto value) {
    ReferenceKey changed = key;
    changed.*field = value;
    return changed;
  };
  refused(
      "r: holds the logits of another run, whose \"model\" is \"abc\"; here it is \"x\"; remove the file or name "
      "another",
      with(&ReferenceKey::model, "x"));
  refused("whose \"tokens\" is \"def\"; here it is \"x\"", with(&ReferenceKey::tokens, "x"));
  refused("whose \"how\" is \"in pieces\"", with(&ReferenceKey::how, "x"));
  refused("whose \"vocab\" is 7; here it is 8", with(&ReferenceKey::vocab, 8));
  refused("whose \"predicted\" is 3; here it is 4", with(&ReferenceKey::predicted, 4));
  for (std::size_t size = 0; size < bytes.size(); ++size) {
    writeBytes(path, bytes.substr(0, size));
    EXPECT_THROW(ReferenceLogits(path, key), FormatError) << size;
  }
  writeBytes(path, bytes + "x");
  refused(std::to_string(bytes.size()) + " bytes expected, found " + std::to_string(bytes.size() + 1), key);
  writeBytes(path, "GGUF" + bytes);
  refused("r: this is no file of reference logits", key);
}

TEST(ReferenceWriter, LogitsMustBeFiniteAndAll) {
  const TemporaryFolder folder;
  ReferenceWriter writer(folder / "r", keyOf(2, 1));
  expectThrows([&] { writer.add(Eigen::Vector2f(0, std::numeric_limits<float>::infinity()), 0); },
               "reference: 2 finite logits expected, found inf for token 1 of 2");
  expectThrows([&] { writer.add(Eigen::Vector3f(0, 0, 0), 0); },
               "2 finite logits expected, found 0.000000 for token 0 of 3");
  EXPECT_FALSE(fs::exists(folder / "r"));  // nothing before it is whole
}

TEST(ModelHash, AnyByteOfAnyFileOfWeightsCounts) {
  const TemporaryFolder folder;
  const fs::path model = folder / "model";
  fs::create_directories(model);
  writeBytes(model / "config.json", "{}");
  writeBytes(model / "a.safetensors", std::string(100, 'x'));
  const std::string hash = modelHash(model);
  EXPECT_EQ(hash.size(), 16u);
  EXPECT_EQ(modelHash(model), hash);
  writeBytes(model / "heldout.txt", "a text");
  EXPECT_EQ(modelHash(model), hash);
  for (const char* name : {"config.json", "a.safetensors"}) {
    const std::string before = readBytes(model / name, 1000);
    std::string after = before;
    after.back() ^= 1;
    writeBytes(model / name, after);
    EXPECT_NE(modelHash(model), hash) << name;
    writeBytes(model / name, before + '\0');
    EXPECT_NE(modelHash(model), hash) << name;
    writeBytes(model / name, before);
  }
  EXPECT_EQ(modelHash(model), hash);
  EXPECT_NE(modelHash(model / "a.safetensors"), hash);
}

TEST(TokensHash, TellsHowATextWasCut) {
  EXPECT_NE(tokensHash({{1, 2}, {3, 4}}), tokensHash({{1, 2, 3, 4}}));
  EXPECT_NE(tokensHash({{1, 2}, {3}}), tokensHash({{1}, {2, 3}}));
  EXPECT_NE(tokensHash({{1, 2}}), tokensHash({{2, 1}}));
  EXPECT_EQ(tokensHash({{1, 2}}), tokensHash({{1, 2}}));
}

}  // namespace
}  // namespace llama::testing::reference_logits_test
