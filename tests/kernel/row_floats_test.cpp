// SPDX-License-Identifier: Apache-2.0
#include <gosset/kernel/row_floats.hpp>

#include "testing.hpp"

#include <cmath>
#include <cstdint>
#include <limits>

namespace gosset::row_floats_test {
namespace {

using detail::RowBytes;

/// Number `i` of a row: a level of any byte, a scale and a minimum of either sign for each 16.
std::int8_t level(Index row, Index i) {
  return static_cast<std::int8_t>(randomBits(static_cast<std::uint64_t>(row), static_cast<std::uint64_t>(i)));
}
float scale(Index row, Index i) {
  return static_cast<float>(testing::normal(static_cast<std::uint64_t>(row) + 100, static_cast<std::uint64_t>(i / 16)));
}
float min(Index row, Index i) {
  return static_cast<float>(testing::normal(static_cast<std::uint64_t>(row) + 900, static_cast<std::uint64_t>(i / 16)));
}

void fill(Index row, Index first, Index count, RowBytes& bytes) {
  for (Index i = 0; i < count; ++i) bytes.levels()[i] = level(row, first + i);
  for (Index i = 0; i < count; i += 16) {
    bytes.scales()[i / 16] = scale(row, first + i);
    bytes.mins()[i / 16] = min(row, first + i);
  }
}

template <bool kHasMin>
Eigen::MatrixXd exact(Index rows, Index n) {
  Eigen::MatrixXd w(rows, n);
  for (Index i = 0; i < rows; ++i) {
    for (Index j = 0; j < n; ++j) {
      w(i, j) = static_cast<double>(scale(i, j)) * level(i, j) - (kHasMin ? static_cast<double>(min(i, j)) : 0.);
    }
  }
  return w;
}

void expectClose(const Eigen::MatrixXf& y, const Eigen::MatrixXd& w, const Eigen::MatrixXf& x,
                 const Eigen::MatrixXf& before) {
  const Eigen::MatrixXd numbers = x.cast<double>(), start = before.cast<double>();
  const Eigen::MatrixXd sum = start + w * numbers, size = start.cwiseAbs() + w.cwiseAbs() * numbers.cwiseAbs();
  EXPECT_LE(((y.cast<double>() - sum).array() / (size.array() + 1)).abs().maxCoeff(), 4e-7);
}

template <bool kHasMin>
std::uint64_t checkProducts() {
  std::uint64_t hash = 0;
  for (const Index n : {16, 32, 96, 256, 288, 1024}) {
    for (const Index rows : {1, 3, 4, 63, 65, 130}) {
      const Eigen::VectorXf x = testing::gaussian(n, 1, 7);
      Eigen::VectorXf y = Eigen::VectorXf::Constant(rows + 1, 9);  // a row more than is written
      detail::multiplyRowFloats<kHasMin>(
          rows, n, [&](Index row, RowBytes& bytes) { fill(row, 0, n, bytes); }, x.data(), y.data());
      expectClose(y.head(rows), exact<kHasMin>(rows, n), x, Eigen::VectorXf::Zero(rows));
      EXPECT_EQ(y(rows), 9);
      hash = hash * 31 + testing::hashBytes(y.data(), static_cast<std::size_t>(y.size()) * sizeof(float));
    }
  }
  return hash;
}

template <bool kHasMin>
std::uint64_t checkTransposed() {
  std::uint64_t hash = 0;
  for (const Index n : {16, 32, 96, 1008, 1024, 1056, 2080}) {
    for (const Index rows : {1, 7, 8, 9, 65}) {
      for (const Index tokens : {1, 3, 4, 9}) {
        const Eigen::MatrixXf x = testing::gaussian(rows + 1, tokens, 7), before = testing::gaussian(n + 1, tokens, 8);
        Eigen::MatrixXf y = before;
        detail::addTransposedRows<kHasMin>(rows, n, fill, x.data(), tokens, rows + 1, y.data(), n + 1);
        expectClose(y.topRows(n), exact<kHasMin>(rows, n).transpose(), x.topRows(rows), before.topRows(n));
        EXPECT_EQ(y.row(n), before.row(n));
        hash = hash * 31 + testing::hashBytes(y.data(), static_cast<std::size_t>(y.size()) * sizeof(float));
      }
    }
  }
  return hash;
}

// Hashes: the same bits on every machine.
TEST(RowFloats, Products) { EXPECT_EQ(checkProducts<false>(), 0x4260831c78ab92b2u); }
TEST(RowFloats, ProductsWithMinima) { EXPECT_EQ(checkProducts<true>(), 0x2aebb96f169390b7u); }
TEST(RowFloats, Transposed) { EXPECT_EQ(checkTransposed<false>(), 0x331c6903da39bd92u); }
TEST(RowFloats, TransposedWithMinima) { EXPECT_EQ(checkTransposed<true>(), 0xdb1700b4ef040873u); }

TEST(RowFloats, KnownAnswers) {
  const auto toBytes = [](Index row, RowBytes& bytes) {  // 2 level - 1 with levels 0, 1, .. 31, times the row plus one
    for (Index i = 0; i < 32; ++i) bytes.levels()[i] = static_cast<std::int8_t>(i);
    for (Index g = 0; g < 2; ++g) {
      bytes.scales()[g] = static_cast<float>(2 * (row + 1));
      bytes.mins()[g] = static_cast<float>(row + 1);
    }
  };
  Eigen::VectorXf x = Eigen::VectorXf::Ones(32), y(2), z = Eigen::VectorXf::Zero(32);
  detail::multiplyRowFloats<true>(2, 32, toBytes, x.data(), y.data());
  EXPECT_EQ(y(0), 2 * 496 - 32);
  EXPECT_EQ(y(1), 2 * y(0));
  detail::addTransposedRows<true>(
      2, 32, [&](Index row, Index, Index, RowBytes& bytes) { toBytes(row, bytes); }, x.data(), 1, 32, z.data(), 32);
  for (Index j = 0; j < 32; ++j) EXPECT_EQ(z(j), static_cast<float>(3 * (2 * j - 1)));
}

TEST(RowFloats, NaNAndInfinityStay) {
  for (const float special : {std::numeric_limits<float>::quiet_NaN(), std::numeric_limits<float>::infinity()}) {
    Eigen::VectorXf x = Eigen::VectorXf::Ones(64), y(2), z = Eigen::VectorXf::Zero(64);
    x(1) = special;
    detail::multiplyRowFloats<true>(
        2, 64, [](Index row, RowBytes& bytes) { fill(row, 0, 64, bytes); }, x.data(), y.data());
    EXPECT_FALSE(std::isfinite(y(0)) || std::isfinite(y(1)));
    detail::addTransposedRows<true>(2, 64, fill, x.data(), 1, 64, z.data(), 64);
    for (Index j = 0; j < 64; ++j) EXPECT_FALSE(std::isfinite(z(j)));
  }
}

}  // namespace
}  // namespace gosset::row_floats_test
