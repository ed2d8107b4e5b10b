// SPDX-License-Identifier: Apache-2.0
#include <gosset/core/reorder.hpp>

#include "testing.hpp"

#include <algorithm>
#include <numeric>
#include <random>
#include <vector>

namespace gosset::reorder_test {
namespace {

using Order = std::vector<std::uint32_t>;

Order shuffled(Index n, unsigned seed) {
  Order order(static_cast<std::size_t>(n));
  std::iota(order.begin(), order.end(), 0u);
  std::shuffle(order.begin(), order.end(), std::mt19937(seed));
  return order;
}

std::vector<Order> ordersOf(Index n) {
  Order reversed = shuffled(n, 0);
  std::sort(reversed.begin(), reversed.end());
  Order turned = reversed, same = reversed;
  std::reverse(reversed.begin(), reversed.end());
  std::rotate(turned.begin(), turned.begin() + n / 3, turned.end());
  return {same, reversed, turned, shuffled(n, 1), shuffled(n, 2)};
}

constexpr Index kSizes[] = {1, 2, 7, 8, 9, 16, 17, 63, 65, 172, 417};

TEST(Reorder, AKnownOrder) {
  RowMatrixXf w(2, 3);
  w << 1, 2, 3, 4, 5, 6;
  detail::gatherColumns(w, Order{2, 0, 1});
  RowMatrixXf expected(2, 3);
  expected << 3, 1, 2, 6, 4, 5;
  EXPECT_EQ(w, expected);
  Eigen::MatrixXd h(3, 3);
  h << 1, 2, 3, 4, 5, 6, 7, 8, 9;
  detail::gatherBoth(h, Order{2, 0, 1});
  Eigen::MatrixXd both(3, 3);
  both << 9, 7, 8, 3, 1, 2, 6, 4, 5;
  EXPECT_EQ(h, both);
}

TEST(Reorder, ColumnsOfAnyOrder) {
  for (const Index n : kSizes) {
    for (const Order& order : ordersOf(n)) {
      const RowMatrixXf before = testing::gaussian(33, n, 1);
      RowMatrixXf w = before;
      detail::gatherColumns(w, order);
      for (Index k = 0; k < n; ++k)
        EXPECT_EQ(w.col(k), before.col(order[static_cast<std::size_t>(k)])) << n << ' ' << k;
    }
  }
}

TEST(Reorder, RowsAndColumnsOfAnyOrder) {
  for (const Index n : kSizes) {
    for (const Order& order : ordersOf(n)) {
      const Eigen::MatrixXd before = testing::gaussian(n, n, 1).cast<double>();  // not symmetric, to tell them apart
      Eigen::MatrixXd h = before;
      detail::gatherBoth(h, order);
      Eigen::MatrixXd expected(n, n);
      for (Index a = 0; a < n; ++a) {
        for (Index b = 0; b < n; ++b) {
          expected(a, b) = before(order[static_cast<std::size_t>(a)], order[static_cast<std::size_t>(b)]);
        }
      }
      EXPECT_EQ(h, expected) << n;
    }
  }
}

TEST(Reorder, NothingIsLeftOfNothing) {
  RowMatrixXf w(3, 0);
  Eigen::MatrixXd h(0, 0);
  detail::gatherColumns(w, Order{});
  detail::gatherBoth(h, Order{});
  EXPECT_EQ(w.rows(), 3);
  EXPECT_EQ(h.size(), 0);
}

}  // namespace
}  // namespace gosset::reorder_test
