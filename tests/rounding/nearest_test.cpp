// SPDX-License-Identifier: Apache-2.0
#include <gosset/rounding/nearest.hpp>

#include <gosset/codebook.hpp>
#include <gosset/matrix/quantize.hpp>

#include "testing.hpp"

namespace gosset::nearest_test {
namespace {

RowMatrixXf uniform(Index rows, Index cols) {
  RowMatrixXf w(rows, cols);
  for (Index i = 0; i < w.size(); ++i) w.data()[i] = randomUniform(11, static_cast<std::uint64_t>(i)) - 0.4f;
  return w;
}

/// A hash of the values that codes and scales stand for, however they are laid out.
template <class Format>
std::uint64_t hashOfUniform(const ScaleFit& fit = PublishedRule{}) {
  const RowMatrixXf values = quantize<Format>(uniform(33, 172), Nearest{}, {.fit = fit}).dequantized();
  return testing::hashBytes(values.data(), static_cast<std::size_t>(values.size()) * sizeof(float));
}

TEST(Nearest, TheSameBitsEverywhere) {
  // Held for every compiler, instruction set and thread count: a change here changes what files mean.
  for (const int threads : {1, 2}) {
    Eigen::setNbThreads(threads);
    EXPECT_EQ(hashOfUniform<PerChannel<Symmetric<8>>>(), 12620926255940621854u);
    EXPECT_EQ((hashOfUniform<Grouped<Symmetric<3>, 32, BFloat16>>()), 14310516588041190219u);
    EXPECT_EQ((hashOfUniform<Grouped<Asymmetric<4>, 64>>()), 17395887413906206425u);
    EXPECT_EQ((hashOfUniform<Grouped<Asymmetric<2>, 32, float>>()), 12383321923405701528u);
    EXPECT_EQ((hashOfUniform<Grouped<NormalFloat4, 64>>()), 15056349420768228991u);
    EXPECT_EQ((hashOfUniform<Grouped<LloydMax<3>, 16>>()), 4837305784751354230u);
    EXPECT_EQ(hashOfUniform<PerTensor<Ternary>>(), 18219525337823130893u);
    EXPECT_EQ(hashOfUniform<Binary>(), 1720841391095784613u);
    EXPECT_EQ(hashOfUniform<PerChannel<Asymmetric<4>>>(LeastSquares{}), 4861790566616135342u);
    EXPECT_EQ((hashOfUniform<Grouped<NormalFloat4, 64>>(LeastSquares{})), 8097383286099049250u);
    EXPECT_EQ(hashOfUniform<PerChannel<Asymmetric<3>>>(Percentile{97}), 3326064674044338817u);
    EXPECT_EQ(hashOfUniform<BFloat16>(), 3359920982811243858u);
  }
  Eigen::setNbThreads(0);
}

TEST(Nearest, EachNumberGetsItsNearestValue) {
  const RowMatrixXf w = testing::gaussian(9, 65);
  const auto q = quantize<Grouped<NormalFloat4, 8>>(w);
  const RowMatrixXf values = q.dequantized();
  for (Index row = 0; row < w.rows(); ++row) {
    for (Index col = 0; col < w.cols(); ++col) {
      const float scale = q.packed().affine(row, col / 8).scale;
      for (const float level : NormalFloat4::kTable) {
        ASSERT_LE(std::abs(w(row, col) - values(row, col)), std::abs(w(row, col) - scale * level) + 1e-6f);
      }
    }
  }
}

TEST(Nearest, KnownCodes) {
  Eigen::MatrixXf w(1, 6);
  w << -3, -1.5f, -0.5f, 0.5f, 1.4f, 3;
  EXPECT_THAT((quantize<PerChannel<Symmetric<3>>>(w).packed().codes().reshaped()),
              ::testing::ElementsAre(0, 1, 3, 3, 4, 6));
}

}  // namespace
}  // namespace gosset::nearest_test
