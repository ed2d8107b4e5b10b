// SPDX-License-Identifier: Apache-2.0
#include <gosset/core/finite.hpp>

#include "testing.hpp"

#include <cmath>
#include <cstdint>
#include <limits>
#include <string>
#include <vector>

namespace gosset::finite_test {
namespace {

using detail::finiteFloats;
using detail::largestMagnitude;
using detail::requireFiniteFloats;

constexpr float kInfinity = std::numeric_limits<float>::infinity(), kNaN = std::numeric_limits<float>::quiet_NaN();

/// visit(the numbers as each kind of matrix that takes a path of its own).
template <class Visit>
void forEachLayout(const RowMatrixXf& w, const Visit& visit) {
  visit(w, "rows");
  visit(Eigen::MatrixXf(w), "columns");
  visit(Eigen::MatrixXd(w.cast<double>()), "double");
  visit((w * 2.f) / 2.f, "expression");
  RowMatrixXf larger = RowMatrixXf::Constant(w.rows() + 2, w.cols() + 3, kNaN);
  larger.block(1, 2, w.rows(), w.cols()) = w;
  visit(larger.block(1, 2, w.rows(), w.cols()), "block");
  RowMatrixXf spread = RowMatrixXf::Constant(w.rows(), 2 * w.cols(), kNaN);
  Eigen::Map<RowMatrixXf, 0, Eigen::Stride<Eigen::Dynamic, 2>> every_second(spread.data(), w.rows(), w.cols(),
                                                                            {2 * w.cols(), 2});
  every_second = w;
  visit(every_second, "every second number");
}

/// The same, of numbers that 16 bits hold, in 16 bits as well.
template <class Visit>
void forEachScalar(const RowMatrixXf& w, const Visit& visit) {
  forEachLayout(w, visit);
  visit(Eigen::Matrix<Float16, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>(w.cast<Float16>()), "rows of halves");
  visit(Eigen::Matrix<Float16, Eigen::Dynamic, Eigen::Dynamic>(w.cast<Float16>()), "columns of halves");
  visit(Eigen::Matrix<BFloat16, Eigen::Dynamic, Eigen::Dynamic>(w.cast<BFloat16>()), "columns of bfloat16");
}

/// Numbers with 8 significant bits.
RowMatrixXf shortNumbers(Index rows, Index cols, std::uint64_t seed) {
  return testing::gaussian(rows, cols, seed)
      .cast<BFloat16>()
      .cast<float>()
      .cwiseMax(-8.f)
      .cwiseMin(8.f)
      .unaryExpr([](float x) { return std::abs(x) < 0x1p-6f ? 0.f : x; });
}

const std::vector<std::pair<Index, Index>> kShapes = {{1, 1},   {1, 417}, {417, 1}, {7, 9},
                                                      {16, 63}, {17, 65}, {33, 172}};

TEST(Finite, EachLayoutBecomesTheSameRows) {
  for (const auto& [rows, cols] : kShapes) {
    const RowMatrixXf w = shortNumbers(rows, cols, 1);
    forEachScalar(w, [&](const auto& matrix, const char* layout) {
      EXPECT_NO_THROW(requireFiniteFloats("f", w));
      EXPECT_EQ(finiteFloats("f", matrix), w) << layout << ' ' << matrix.rows() << " x " << matrix.cols();
    });
  }
}

TEST(Finite, TheFirstNumberThatIsNotFiniteIsNamedWhereverItStands) {
  for (const auto& [rows, cols] : kShapes) {
    for (const auto& [row, col] : {std::pair<Index, Index>{0, 0}, {rows - 1, cols - 1}, {rows / 2, cols / 2}}) {
      RowMatrixXf w = shortNumbers(rows, cols, 1);
      w(rows - 1, cols - 1) = kInfinity;
      w(row, col) = -kInfinity;
      const std::string at = detail::concat("-inf at (", row, ", ", col, ") of ", rows, " x ", cols);
      testing::expectThrows([&] { requireFiniteFloats("f", w); },
                            "gosset: f: expected numbers that are finite in float, got " + at);
      forEachScalar(w, [&](const auto& matrix, const char* layout) {
        SCOPED_TRACE(layout);
        testing::expectThrows([&] { finiteFloats("f", matrix); },
                              "gosset: f: expected numbers that are finite in float, got " + at);
        EXPECT_TRUE(std::isnan(largestMagnitude(matrix)));
      });
    }
  }
}

TEST(Finite, OneNumberThatIsNotFiniteIsFoundWhereverItStands) {
  for (const Index n : {1, 15, 16, 17, 64, 65, 172}) {
    for (Index at = 0; at < n; ++at) {
      for (const float bad : {kInfinity, -kInfinity, kNaN, -kNaN}) {
        RowMatrixXf w = testing::gaussian(1, n, 3);
        EXPECT_TRUE(detail::allFinite(w.data(), n));
        w(0, at) = bad;
        EXPECT_FALSE(detail::allFinite(w.data(), n)) << bad << " at " << at << " of " << n;
        EXPECT_TRUE(std::isnan(largestMagnitude(w))) << bad << " at " << at << " of " << n;
      }
    }
  }
}

TEST(Finite, EmptyMatricesAreRefused) {
  testing::expectThrows([] { finiteFloats("f", RowMatrixXf(0, 3)); }, "gosset: f: the matrix is empty (0 x 3)");
  EXPECT_TRUE(std::isnan(largestMagnitude(RowMatrixXf(0, 3))));
  EXPECT_TRUE(std::isnan(largestMagnitude(Eigen::MatrixXf(3, 0))));
}

TEST(Finite, LargestMagnitudeWhereverItStands) {
  for (const auto& [rows, cols] : kShapes) {
    for (const auto& [row, col] : {std::pair<Index, Index>{0, 0}, {rows - 1, cols - 1}, {rows / 2, cols / 2}}) {
      RowMatrixXf w = shortNumbers(rows, cols, 2);
      w(row, col) = -100;
      forEachScalar(w, [&](const auto& matrix, const char* layout) {
        EXPECT_EQ(largestMagnitude(matrix), 100) << layout << ' ' << matrix.rows() << " x " << matrix.cols();
      });
    }
  }
}

TEST(Finite, LargestMagnitudeOfZerosAndDenormals) {
  RowMatrixXf w = RowMatrixXf::Constant(3, 9, -0.f);
  EXPECT_EQ(largestMagnitude(w), 0);
  w(2, 8) = -std::numeric_limits<float>::denorm_min();
  EXPECT_EQ(largestMagnitude(w), std::numeric_limits<float>::denorm_min());
  w(1, 1) = kNaN;
  EXPECT_TRUE(std::isnan(largestMagnitude(w)));
  EXPECT_TRUE(std::isnan(largestMagnitude(Eigen::MatrixXd::Constant(2, 2, 1e300)))) << "beyond float";
}

}  // namespace
}  // namespace gosset::finite_test
