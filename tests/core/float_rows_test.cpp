// SPDX-License-Identifier: Apache-2.0
#include <gosset/core/float_rows.hpp>

#include <gosset/core/random.hpp>

#include "testing.hpp"

#include <bit>
#include <cmath>
#include <cstdint>

namespace gosset::float_rows_test {
namespace {

template <class T>
class FloatRowsTest : public ::testing::Test {
 protected:
  /// Numbers with random bits, where T has 16 of them NaN, infinities, subnormal numbers and both zeros among them.
  static T number(Index i) {
    const auto at = static_cast<std::uint64_t>(i);
    const std::uint64_t bits = randomBits(5, at);
    if constexpr (sizeof(T) == 2) {
      const std::uint64_t rare = (at % 2 != 0 ? 0x7c00u : 0u) | (at / 2 % 2 != 0 ? 0x8000u : 0u) | at / 4;
      return std::bit_cast<T>(static_cast<std::uint16_t>(at < 8 ? rare : bits));
    } else {
      return static_cast<T>(static_cast<std::int64_t>(bits)) * T(0x1p-63);
    }
  }
};
using Scalars = ::testing::Types<float, double, Float16, BFloat16>;
TYPED_TEST_SUITE(FloatRowsTest, Scalars);

/// What stands in w, number by number.
template <class Matrix>
void check(const Matrix& w, const char* layout) {
  for (const Index first : {Index{0}, w.rows() / 3, w.rows() - 1}) {
    for (const Index count : {Index{0}, Index{1}, w.rows() - first}) {
      const RowMatrixXf rows = detail::floatRows(w, first, count);
      ASSERT_EQ(rows.rows(), count);
      ASSERT_EQ(rows.cols(), w.cols());
      for (Index i = 0; i < count; ++i) {
        for (Index j = 0; j < w.cols(); ++j) {
          const auto expected = static_cast<float>(w(first + i, j));
          if (std::isnan(expected)) {
            ASSERT_TRUE(std::isnan(rows(i, j))) << layout;
          } else {
            ASSERT_EQ(std::bit_cast<std::uint32_t>(rows(i, j)), std::bit_cast<std::uint32_t>(expected))
                << layout << ' ' << w.rows() << " x " << w.cols() << " at " << first + i << ", " << j;
          }
        }
      }
    }
  }
}

TYPED_TEST(FloatRowsTest, AreTheNumbersWhereverTheyStand) {
  using Rows = Eigen::Matrix<TypeParam, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;
  using Columns = Eigen::Matrix<TypeParam, Eigen::Dynamic, Eigen::Dynamic>;
  for (const Index m : {1, 7, 16, 17, 33, 65}) {
    for (const Index n : {1, 8, 9, 63, 172}) {
      Rows larger(m + 2, n + 3);
      for (Index i = 0; i < larger.size(); ++i) larger.data()[i] = this->number(i);
      const Rows rows = larger.block(1, 2, m, n);
      const Columns columns = rows, larger_columns = larger;
      check(rows, "rows");
      check(columns, "columns");
      check(larger.block(1, 2, m, n), "block of rows");
      check(larger_columns.block(1, 2, m, n), "block of columns");
      check(columns.transpose(), "transposed columns");
      check(Eigen::Map<const Rows, 0, Eigen::Stride<Eigen::Dynamic, 2>>(larger.data(), m, n / 2, {n + 3, 2}),
            "every second number");
      check(rows.array().matrix(), "as an array");
      check(-rows, "expression");
    }
  }
}

}  // namespace
}  // namespace gosset::float_rows_test
