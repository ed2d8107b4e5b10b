// SPDX-License-Identifier: Apache-2.0
#include <gosset/hadamard/lazy.hpp>

#include "testing.hpp"

#include <thread>
#include <utility>
#include <vector>

namespace gosset::lazy_test {
namespace {

TEST(LazyHadamard, IsTheTransform) {
  for (const Index n : {1, 5, 12, 64, 92}) {
    const Eigen::VectorXf x = testing::gaussian(n, 1);
    Eigen::VectorXf expected = x, result = x;
    HadamardTransform<float>(n).forward(expected);
    const LazyHadamard<float> lazy(n);
    EXPECT_EQ(lazy.size(), n);
    lazy->forward(result);
    EXPECT_EQ(result, expected) << n;
  }
}

TEST(LazyHadamard, TakesNothingBeforeItIsUsed) {
  const LazyHadamard<float> lazy(Index{1} << 61);  // a transform of this length would not fit anywhere
  EXPECT_EQ(lazy.size(), Index{1} << 61);
}

TEST(LazyHadamard, IsSharedAndUsableWhereItCameFrom) {
  LazyHadamard<float> lazy(12);
  const LazyHadamard<float> copy = lazy, moved = std::move(lazy);
  EXPECT_EQ(&*copy, &*moved);
  EXPECT_EQ(&*copy, &*lazy);  // NOLINT: what was moved from can still be used
  std::vector<std::thread> threads;
  const LazyHadamard<float> other(20);
  std::vector<const HadamardTransform<float>*> built(4);
  for (auto& each : built) threads.emplace_back([&each, &other] { each = &*other; });
  for (std::thread& thread : threads) thread.join();
  for (const auto* each : built) EXPECT_EQ(each, built[0]);
}

}  // namespace
}  // namespace gosset::lazy_test
