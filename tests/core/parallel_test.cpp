// SPDX-License-Identifier: Apache-2.0
#include <gosset/core/parallel.hpp>

#include "testing.hpp"

#include <vector>

namespace gosset {
namespace {

TEST(Parallel, EachIndexIsVisitedOnce) {
  for (const int threads : {1, 2, 5}) {
    Eigen::setNbThreads(threads);
    for (const Index count : {0, 1, 2, 417}) {
      for (const Index work : {Index{1}, Index{1} << 40}) {
        std::vector<int> visits(static_cast<std::size_t>(count));
        parallelFor(count, work, [&](Index i) { ++visits[static_cast<std::size_t>(i)]; });
        EXPECT_THAT(visits, ::testing::Each(1)) << threads << " threads, " << count << " calls of " << work;
      }
    }
  }
  Eigen::setNbThreads(0);
}

}  // namespace
}  // namespace gosset
