// SPDX-License-Identifier: Apache-2.0
#include <gosset/kernel/row_product.hpp>
#include <gosset/kernel/tile_code.hpp>

#include "testing.hpp"

#include <cmath>
#include <cstdint>
#include <vector>

namespace gosset::row_product_test {
namespace {

using detail::RoundedActivations;
using detail::RowBytes;

/// Levels from -zero to most, scales of either sign.
void fill(Index row, Index n, int zero, int most, RowBytes& bytes) {
  const auto seed = static_cast<std::uint64_t>(row);
  for (Index i = 0; i < n; ++i) {
    const auto random =
        static_cast<int>(randomBits(seed, static_cast<std::uint64_t>(i)) % static_cast<unsigned>(most + zero + 1));
    bytes.levels()[i] = static_cast<std::int8_t>(random - zero);
  }
  for (Index g = 0; g < n / detail::kRowGroup; ++g) {
    bytes.scales()[g] = static_cast<float>(testing::normal(seed + 100, static_cast<std::uint64_t>(g)));
    bytes.mins()[g] = static_cast<float>(testing::normal(seed + 200, static_cast<std::uint64_t>(g)));
  }
}

/// What rounded activations stand for, extra parts included.
Eigen::MatrixXd numbersOf(const RoundedActivations& x, Index n) {
  Eigen::MatrixXd result(n, x.tokens());
  for (Index token = 0; token < x.tokens(); ++token) {
    for (Index j = 0; j < n; ++j) {
      const Index slice = j / 32;
      result(j, token) = static_cast<double>(x.scale(token, slice)) * x.numbers(token, slice)[j % 32];
    }
  }
  for (const auto& extra : x.extras()) {
    for (Index j = 0; j < 32; ++j) {
      result(32 * extra.slice + j, extra.token) += static_cast<double>(extra.scale) * extra.numbers[j];
    }
  }
  return result;
}

template <bool kSmall, bool kHasMin>
std::uint64_t check(int zero, int most) {
  std::uint64_t hash = 0;
  for (const Index n : {32, 64, 96, 256, 288, 1024}) {
    for (const Index tokens : {1, 2, 5}) {
      for (const Index rows : {1, 5, 67}) {
        Eigen::MatrixXf x = testing::gaussian(n, tokens, 7);
        x(3, 0) = 500;
        const RoundedActivations rounded(x.data(), n, tokens, n, InOrder{});
        EXPECT_FALSE(rounded.extras().empty());
        Eigen::MatrixXf y = Eigen::MatrixXf::Constant(rows + 1, tokens, 9);  // a row more than is written
        detail::multiplyRowBytes<kSmall, kHasMin>(
            rows, n, [&](Index row, RowBytes& bytes) { fill(row, n, zero, most, bytes); }, rounded, zero, y.data(),
            rows + 1);
        const Eigen::MatrixXd exact = numbersOf(rounded, n);
        RowBytes bytes(n);
        for (Index row = 0; row < rows; ++row) {
          fill(row, n, zero, most, bytes);
          for (Index token = 0; token < tokens; ++token) {
            double sum = 0, size = 0;
            for (Index j = 0; j < n; ++j) {
              const double scale = static_cast<double>(bytes.scales()[j / 16]);
              const double min = kHasMin ? static_cast<double>(bytes.mins()[j / 16]) : 0.;
              const double term = (scale * bytes.levels()[j] - min) * exact(j, token);
              sum += term;
              size += std::abs(term);
            }
            EXPECT_NEAR(static_cast<double>(y(row, token)), sum, 1e-5 * size + 1e-6) << n << " " << row;
          }
        }
        EXPECT_EQ(y.row(rows), (Eigen::RowVectorXf::Constant(tokens, 9)));
        hash = hash * 31 + testing::hashBytes(y.data(), static_cast<std::size_t>(y.size()) * sizeof(float));
      }
    }
  }
  return hash;
}

// Hashes: the same bits on every machine.
TEST(RowProduct, SmallLevels) { EXPECT_EQ((check<true, false>(8, 7)), 0x9cbf8276e68c4c61u); }
TEST(RowProduct, LevelsAndMinima) { EXPECT_EQ((check<true, true>(0, 31)), 0x09ba58b6669c3a5du); }
TEST(RowProduct, LargeLevels) { EXPECT_EQ((check<false, false>(128, 127)), 0x452dd41a292471bcu); }

TEST(RowProduct, NaNStaysNaN) {
  Eigen::VectorXf x = Eigen::VectorXf::Ones(64);
  x(40) = std::nanf("");
  const RoundedActivations rounded(x.data(), 64, 1, 64, InOrder{});
  float y[2];
  detail::multiplyRowBytes<true, false>(
      2, 64, [](Index row, RowBytes& bytes) { fill(row, 64, 8, 7, bytes); }, rounded, 8, y, 2);
  EXPECT_TRUE(std::isnan(y[0]) && std::isnan(y[1]));
}

}  // namespace
}  // namespace gosset::row_product_test
