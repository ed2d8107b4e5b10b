// SPDX-License-Identifier: Apache-2.0
#include <gosset/rounding/nearest.hpp>

#include <gosset/codebook.hpp>
#include <gosset/matrix/quantize.hpp>

#include "testing.hpp"

namespace gosset {
namespace {

RowMatrixXf uniform(Index rows, Index cols) {
  RowMatrixXf w(rows, cols);
  for (Index i = 0; i < w.size(); ++i) w.data()[i] = randomUniform(11, static_cast<std::uint64_t>(i)) - 0.4f;
  return w;
}

/// A hash of all that is stored.
template <class Format>
std::uint64_t hashOf(const QuantizedMatrix<Format>& q) {
  std::uint64_t hash = 0;
  q.packed().visitFields([&](std::string_view, auto values) {
    hash = hash * 31 + testing::hashBytes(values.data(), values.size_bytes());
  });
  return hash;
}

template <class Format>
std::uint64_t hashOfUniform(const ScaleFit& fit = PublishedRule{}) {
  return hashOf(quantize<Format>(uniform(33, 172), Nearest{}, {.fit = fit}));
}

TEST(Nearest, TheSameBitsEverywhere) {
  // Held for every compiler, instruction set and thread count: a change here changes what files mean.
  for (const int threads : {1, 2}) {
    Eigen::setNbThreads(threads);
    EXPECT_EQ(hashOfUniform<PerChannel<Symmetric<8>>>(), 7689191308476386747u);
    EXPECT_EQ((hashOfUniform<Grouped<Symmetric<3>, 32, BFloat16>>()), 15144383995682229789u);
    EXPECT_EQ((hashOfUniform<Grouped<Asymmetric<4>, 64>>()), 13265328851257372673u);
    EXPECT_EQ((hashOfUniform<Grouped<Asymmetric<2>, 32, float>>()), 6960481046553162064u);
    EXPECT_EQ((hashOfUniform<Grouped<NormalFloat4, 64>>()), 14917662052796692956u);
    EXPECT_EQ((hashOfUniform<Grouped<LloydMax<3>, 16>>()), 645840315592933974u);
    EXPECT_EQ(hashOfUniform<PerTensor<Ternary>>(), 5796231410501857492u);
    EXPECT_EQ(hashOfUniform<Binary>(), 16992394407715822505u);
    EXPECT_EQ(hashOfUniform<PerChannel<Asymmetric<4>>>(LeastSquares{}), 2934048164934106357u);
    EXPECT_EQ((hashOfUniform<Grouped<NormalFloat4, 64>>(LeastSquares{})), 8745174656413655680u);
    EXPECT_EQ(hashOfUniform<PerChannel<Asymmetric<3>>>(Percentile{97}), 2710974943473346314u);
    EXPECT_EQ(hashOfUniform<BFloat16>(), 14886506224441889154u);
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
}  // namespace gosset
