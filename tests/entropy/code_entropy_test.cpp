// SPDX-License-Identifier: Apache-2.0
#include <gosset/codebook.hpp>
#include <gosset/entropy/code_entropy.hpp>
#include <gosset/format/incoherent.hpp>
#include <gosset/matrix.hpp>

#include "testing.hpp"

namespace gosset::code_entropy_test {
namespace {

using testing::gaussian;

double entropy(const std::vector<std::uint8_t>& codes) { return codeEntropy(std::span<const std::uint8_t>(codes)); }

TEST(CodeEntropy, KnownAnswers) {
  EXPECT_EQ(entropy({}), 0);
  EXPECT_EQ(entropy({7, 7, 7}), 0);
  EXPECT_EQ(entropy({0, 255, 0, 255}), 1);
  EXPECT_DOUBLE_EQ(entropy({3, 1, 2, 2}), 1.5);
  EXPECT_NEAR(entropy({0, 1, 2}), std::log2(3.0), 1e-15);
}

TEST(CodeEntropy, OfTernaryGaussiansIsThatOfTheTheory) {
  const RowMatrixXf w = gaussian(300, 400);
  // absmean: threshold 0.399 sigma, log2 3 nearly; least squares: threshold 0.612 sigma, 1.536 bits.
  EXPECT_NEAR(codeEntropy(quantize<PerChannel<Ternary>>(w)), 1.583, 0.005);
  EXPECT_NEAR(codeEntropy(quantize<PerTensor<Ternary>>(w, Nearest{}, {.fit = LeastSquares{}})), 1.536, 0.005);
  EXPECT_NEAR(codeEntropy(quantize<LloydMax<4>>(w)), 3.765, 0.01);
}

TEST(CodeEntropy, CountsWeightsAndLooksInside) {
  const RowMatrixXf w = gaussian(1, 8);
  EXPECT_EQ(codeEntropy(quantize<E8P>(w)), 0) << "a single code";
  EXPECT_EQ(codeEntropy(quantize<E8P>(gaussian(2, 8))), 1.0 / 8);
  EXPECT_EQ(codeEntropy(quantize<E8P>(gaussian(2, 4))), 1.0 / 4) << "8 real weights share 2 bits";
  const RowMatrixXf large = gaussian(64, 64);
  EXPECT_NEAR(codeEntropy(quantize<Incoherent<PerTensor<Ternary>>>(large)), 1.583, 0.01);
}

}  // namespace
}  // namespace gosset::code_entropy_test
