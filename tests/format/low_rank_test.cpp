// SPDX-License-Identifier: Apache-2.0
#include <gosset/format/low_rank.hpp>

#include <gosset/codebook/asymmetric.hpp>
#include <gosset/matrix/quantize.hpp>

#include <Eigen/SVD>

#include "testing.hpp"

#include <algorithm>
#include <cstdlib>
#include <span>
#include <string_view>

namespace gosset::low_rank_test {
namespace {

using testing::gaussian;
using Backbone = Grouped<Asymmetric<2>, 64>;

/// The least error that a matrix of rank k can have.
double truncatedSvdError(const RowMatrixXf& w, Index k) {
  const Eigen::JacobiSVD<Eigen::MatrixXd> svd(w.cast<double>());
  const Index count = svd.singularValues().size();
  return k < count ? svd.singularValues().tail(count - k).norm() : 0.;
}

/// Singular values 1, decay, decay^2, ... in random directions.
RowMatrixXf decaying(Index rows, Index cols, float decay) {
  const Index rank = std::min(rows, cols);
  Eigen::VectorXf values(rank);
  for (Index i = 0; i < rank; ++i) values[i] = std::pow(decay, static_cast<float>(i));
  return detail::orthonormalBasis(gaussian(rows, rank, 4)) * values.asDiagonal() *
         detail::orthonormalBasis(gaussian(cols, rank, 5)).transpose();
}

struct Shape {
  Index rows, cols;
};

TEST(LowRank, CorrectsWhatTheInnerFormatLeftOver) {
  for (const auto [rows, cols] : {Shape{64, 172}, {172, 65}, {9, 417}}) {
    const RowMatrixXf w = gaussian(rows, cols);
    const RowMatrixXf left_over = w - quantize<Backbone>(w).dequantized();
    const auto q = quantize<LowRank<Backbone, 4>>(w);
    const double error = (w - q.dequantized()).cast<double>().norm();
    EXPECT_LT(error, 1.01 * truncatedSvdError(left_over, 4));
    EXPECT_LT(error, static_cast<double>(left_over.norm()));
  }
}

TEST(LowRank, AMatrixOfLowRankComesBackAtAnyMagnitude) {
  for (const float scale : {1e-30f, 1e-6f, 1.f, 1e6f, 1e30f}) {
    const RowMatrixXf w = gaussian(65, 3) * gaussian(3, 172, 2) * scale;
    const RowMatrixXf back = quantize<LowRank<PerTensor<Asymmetric<1>>, 4>>(w).dequantized();
    // One bit a number leaves a matrix of full rank over; four directions take the three of w out of it.
    const RowMatrixXf plain = quantize<PerTensor<Asymmetric<1>>>(w).dequantized();
    const RowMatrixXf left_over = w / scale - plain / scale;
    const double error = (back / scale - w / scale).cast<double>().norm();
    EXPECT_LT(error, 1.01 * truncatedSvdError(left_over, 4)) << scale;
    EXPECT_GT(error, 0.999 * truncatedSvdError(left_over, 4)) << scale;
  }
}

TEST(LowRank, ConstantAndZeroMatricesComeBackExactly) {
  for (const float c : {0.f, 1.f, -3.5f, 1024.f}) {
    const RowMatrixXf w = RowMatrixXf::Constant(9, 65, c);
    EXPECT_EQ((quantize<LowRank<Backbone, 2>>(w).dequantized()), w);
  }
}

TEST(LowRank, ProductsEqualThoseOfTheDequantizedMatrix) {
  for (const Index rows : {1, 9, 65}) {
    for (const Index cols : testing::kOddSizes) {
      auto q = quantize<LowRank<Backbone, 4>>(gaussian(rows, cols));
      q.setActivations(Activations::kFloat);
      for (const Index columns : {1, 3}) {
        const Eigen::MatrixXf x = gaussian(cols, columns, 2);
        const Eigen::MatrixXf y = q * x, expected = q.dequantized() * x;
        EXPECT_LE((y - expected).norm(), 1e-5f * (1 + expected.norm())) << rows << " x " << cols;
      }
    }
  }
}

TEST(LowRank, EveryByteIsCounted) {
  const auto q = quantize<LowRank<Backbone, 4>>(gaussian(64, 128));
  EXPECT_EQ(q.bytes(), 64 * 128 * 2 / 8 + 64 * 2 * 4 + 4 + 2 * 4 * (64 + 128) + 4 * 4);
  const auto narrow = quantize<LowRank<Backbone, 4>>(gaussian(3, 128));
  EXPECT_EQ(narrow.packed().rank(), 3);
  EXPECT_EQ(narrow.bytes(), 3 * 128 * 2 / 8 + 3 * 2 * 4 + 4 + 2 * 3 * (3 + 128) + 3 * 4);
}

/// The factors are those of what the format leaves over, from that seed and after so many iterations.
TEST(LowRank, TheSeedAndTheIterationsAreThoseAskedFor) {
  const RowMatrixXf w = gaussian(20, 30);
  const RowMatrixXf left_over = w - quantize<Backbone>(w).dequantized();
  for (const std::uint64_t seed : {0u, 7u}) {
    for (const int iterations : {0, 1, 4}) {
      const auto q =
          quantize<LowRank<Backbone, 3, float>>(w, Nearest{}, {.seed = seed, .low_rank_iterations = iterations});
      const auto factors = detail::lowRankFactors(left_over, 3, iterations, seed);
      const RowMatrixXf correction = factors.left * factors.right;
      EXPECT_LT((q.dequantized() - (w - left_over) - correction).norm(), 1e-5f * correction.norm())
          << seed << ", " << iterations;
    }
  }
}

TEST(LowRank, FactorsInBytes) {
  using Bytes = LowRank<Backbone, 4, std::int8_t>;
  const RowMatrixXf w = decaying(172, 65, 0.9f);
  const auto q = quantize<Bytes>(w);
  const auto halves = quantize<LowRank<Backbone, 4>>(w);
  EXPECT_EQ(q.bytes(), quantize<Backbone>(w).bytes() + 4 * (172 + 65) + 4 * 4);
  EXPECT_LT((q.dequantized() - w).norm(), 1.01f * (halves.dequantized() - w).norm());
  EXPECT_EQ(Packed<Bytes>::formatName(), "LowRank<Grouped<Asymmetric<2>, 64>, 4, std::int8_t>");
  q.packed().visitFields([]<class T>(std::string_view name, std::span<T> numbers) {
    if (name != "left" && name != "right") return;
    const std::size_t width = numbers.size() / 4;
    for (std::size_t k = 0; k < 4; ++k) {  // the largest of each factor is the end of the range, with either sign
      int largest = 0;
      for (std::size_t i = 0; i < width; ++i)
        largest = std::max(largest, std::abs(static_cast<int>(numbers[k * width + i])));
      EXPECT_EQ(largest, 127) << name << ' ' << k;
    }
  });
  EXPECT_TRUE(quantize<Bytes>(RowMatrixXf::Zero(9, 65)).dequantized().isZero(0));
}

TEST(LowRankFirst, CodesCoverOnlyWhatTheFactorsLeaveOver) {
  using First = LowRankFirst<Backbone, 4, std::int8_t>;
  for (const auto [rows, cols] : {Shape{64, 172}, {172, 65}, {9, 417}}) {
    const RowMatrixXf noise = gaussian(rows, cols);
    const RowMatrixXf w = noise + 20 * gaussian(rows, 3, 2) * gaussian(3, cols, 3);
    const auto q = quantize<First>(w);
    const float error = (q.dequantized() - w).norm();
    EXPECT_LT(error, 1.05f * (quantize<Backbone>(noise).dequantized() - noise).norm());
    EXPECT_GT((quantize<LowRank<Backbone, 4>>(w).dequantized() - w).norm(), 5 * error);
    EXPECT_EQ(q.bytes(), quantize<Backbone>(w).bytes() + 4 * (rows + cols) + 4 * 4);
    const Eigen::MatrixXf x = gaussian(rows, 3, 5);
    Eigen::MatrixXf y = Eigen::MatrixXf::Zero(cols, 3);
    q.packed().addTransposed(x, y);
    EXPECT_LT((y - q.dequantized().transpose() * x).norm(), 1e-5f * y.norm());
  }
}

TEST(LowRankFirst, ConstantsZerosNamesAndErrors) {
  using First = LowRankFirst<Backbone, 2>;
  EXPECT_TRUE(quantize<First>(RowMatrixXf::Zero(9, 65)).dequantized().isZero(0));
  const RowMatrixXf w = RowMatrixXf::Constant(9, 65, -3.5f);
  EXPECT_LT((quantize<First>(w).dequantized() - w).norm(), 1e-5f * w.norm());
  EXPECT_EQ(Packed<First>::formatName(), "LowRankFirst<Grouped<Asymmetric<2>, 64>, 2>");
  EXPECT_EQ(Packed<First>::shaped(40, 65).bytes(), quantize<First>(gaussian(40, 65)).bytes());
  testing::expectThrows([] { (void)quantize<First>(gaussian(8, 8), Nearest{}, {.low_rank_iterations = -1}); },
                        "quantize: low_rank_iterations must not be negative, got -1");
}

TEST(LowRank, TheSeedAndTheShapeDecideEverything) {
  const RowMatrixXf w = gaussian(40, 65);
  const auto q = quantize<LowRank<Backbone, 2>>(w, Nearest{}, {.seed = 4});
  EXPECT_EQ(q, (quantize<LowRank<Backbone, 2>>(w, Nearest{}, {.seed = 4})));
  const auto shaped = Packed<LowRank<Backbone, 2>>::shaped(40, 65);
  EXPECT_EQ(shaped.bytes(), q.bytes());
  EXPECT_TRUE(shaped.dequantized().isZero(0));
  EXPECT_EQ((Packed<LowRank<Backbone, 2>>::formatName()), "LowRank<Grouped<Asymmetric<2>, 64>, 2>");
}

TEST(LowRank, NegativeIterationsAreRefused) {
  testing::expectThrows(
      [] { (void)quantize<LowRank<Backbone, 2>>(gaussian(8, 8), Nearest{}, {.low_rank_iterations = -1}); },
      "quantize: low_rank_iterations must not be negative, got -1");
}

}  // namespace
}  // namespace gosset::low_rank_test
