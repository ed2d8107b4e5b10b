// SPDX-License-Identifier: Apache-2.0
#include <gosset/rounding/stochastic.hpp>

#include <gosset/codebook.hpp>
#include <gosset/matrix/quantize.hpp>

#include "testing.hpp"

#include <array>

namespace gosset::stochastic_test {
namespace {

template <class F>
class StochasticTest : public ::testing::Test {
 protected:
  // Thousands of tiny matrices: threads would only wait for each other.
  void SetUp() override { Eigen::setNbThreads(1); }
  void TearDown() override { Eigen::setNbThreads(0); }
};
using Formats =
    ::testing::Types<PerChannel<Symmetric<2>>, PerChannel<Symmetric<8>>, Grouped<Asymmetric<1>, 8>,
                     Grouped<Asymmetric<4>, 8>, Grouped<NormalFloat4, 16>, PerTensor<LloydMax<3>>, Ternary, Binary>;
TYPED_TEST_SUITE(StochasticTest, Formats);

template <class F>
struct CodebookOf {
  using type = F;
};
template <ScaledFormat F>
struct CodebookOf<F> {
  using type = typename F::Codebook;
};

TYPED_TEST(StochasticTest, TheMeanOverSeedsTendsToTheInput) {
  using C = typename CodebookOf<TypeParam>::type;
  constexpr int kSeeds = 4000;
  const RowMatrixXf w = testing::gaussian(2, 17);
  Eigen::MatrixXd sum = Eigen::MatrixXd::Zero(2, 17);
  Eigen::MatrixXd squares = sum;
  RowMatrixXf low, high;
  for (std::uint64_t seed = 0; seed < kSeeds; ++seed) {
    const auto q = quantize<TypeParam>(w, Stochastic{.seed = seed});
    const RowMatrixXf values = q.dequantized();
    sum += values.cast<double>();
    squares += values.cast<double>().cwiseAbs2();
    if (seed == 0) {  // the ends of each number's codebook
      low = high = values;
      for (Index i = 0; i < 2; ++i) {
        for (Index j = 0; j < 17; ++j) {
          Index width = 17;
          if constexpr (ScaledFormat<TypeParam>) width = TypeParam::groupWidth(17);
          const Affine a = q.packed().affine(i, j / width);
          decode<C>(0, a, &low(i, j));
          decode<C>(static_cast<typename C::Code>(C::kLevels - 1), a, &high(i, j));
        }
      }
    }
  }
  for (Index i = 0; i < 2; ++i) {
    for (Index j = 0; j < 17; ++j) {
      const double expected = std::clamp(w(i, j), low(i, j), high(i, j));
      const double mean = sum(i, j) / kSeeds;
      const double variance = std::max(0.0, squares(i, j) / kSeeds - mean * mean);
      // Where a seldom chosen neighbour was never seen the variance tells nothing: its share is below 10 / kSeeds.
      const double unseen = 10.0 / kSeeds * (high(i, j) - low(i, j)) / (C::kLevels - 1) * (variance < 1e-12 ? 2 : 0);
      EXPECT_NEAR(mean, expected, 5 * std::sqrt(variance / kSeeds) + unseen + 1e-6) << i << ' ' << j;
    }
  }
}

TYPED_TEST(StochasticTest, OnlyTheTwoNeighboursAreChosen) {
  const RowMatrixXf w = testing::gaussian(3, 65);
  const auto nearest = quantize<TypeParam>(w).packed().codes();
  for (std::uint64_t seed = 0; seed < 20; ++seed) {
    const auto q = quantize<TypeParam>(w, Stochastic{seed});
    const auto codes = q.packed().codes();
    const RowMatrixXf values = q.dequantized();
    for (Index i = 0; i < w.rows(); ++i) {
      for (Index j = 0; j < w.cols(); ++j) {
        const int step = static_cast<int>(codes(i, j)) - static_cast<int>(nearest(i, j));
        ASSERT_LE(std::abs(step), 1);
        if (step == 0) continue;
        ASSERT_EQ(step > 0, values(i, j) > w(i, j)) << "the other neighbour lies on the number's other side";
      }
    }
  }
}

TYPED_TEST(StochasticTest, ASeedDecidesEverything) {
  const RowMatrixXf w = testing::gaussian(9, 63);
  const auto q = quantize<TypeParam>(w, Stochastic{5});
  Eigen::setNbThreads(2);
  EXPECT_EQ(q, quantize<TypeParam>(w, Stochastic{5})) << "on any number of threads";
  EXPECT_FALSE(q == quantize<TypeParam>(w, Stochastic{6}));
}

TEST(Stochastic, TheSameBitsEverywhere) {
  RowMatrixXf w(33, 172);
  for (Index i = 0; i < w.size(); ++i) w.data()[i] = randomUniform(11, static_cast<std::uint64_t>(i)) - 0.4f;
  const auto codes = quantize<Grouped<Asymmetric<4>, 64>>(w, Stochastic{3}).packed().codes();
  EXPECT_EQ(testing::hashBytes(codes.data(), static_cast<std::size_t>(codes.size())), 8505991689181349066u);
  const auto table = quantize<Grouped<NormalFloat4, 64>>(w, Stochastic{3}).packed().codes();
  EXPECT_EQ(testing::hashBytes(table.data(), static_cast<std::size_t>(table.size())), 7150586726046411585u);
}

TEST(Stochastic, ExactLevelsStay) {
  Eigen::MatrixXf w(1, 7);
  w << -3, -2, -1, 0, 1, 2, 3;
  for (std::uint64_t seed = 0; seed < 50; ++seed) {
    EXPECT_EQ((quantize<PerChannel<Symmetric<3>>>(w, Stochastic{seed}).dequantized()), w);
    EXPECT_EQ(quantize<PerChannel<Binary>>(Eigen::MatrixXf::Constant(2, 3, -4.f), Stochastic{seed}).dequantized(),
              Eigen::MatrixXf::Constant(2, 3, -4.f));
  }
}

}  // namespace
}  // namespace gosset::stochastic_test
