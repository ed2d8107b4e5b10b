// SPDX-License-Identifier: Apache-2.0
#include <gosset/core/parallel.hpp>

#include "testing.hpp"

#include <atomic>
#include <stdexcept>
#include <string>
#include <vector>

namespace gosset::parallel_test {
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

TEST(Parallel, TheExceptionOfTheLowestIndexComesOut) {
  for (const int threads : {1, 2, 5}) {
    Eigen::setNbThreads(threads);
    for (const Index work : {Index{1}, Index{1} << 40}) {
      for (const Index bad : {0, 3, 99, 100}) {
        std::vector<int> visits(101);
        const auto body = [&](Index i) {
          ++visits[static_cast<std::size_t>(i)];
          if (i >= bad) throw std::runtime_error(std::to_string(i));
        };
        testing::expectThrows<std::runtime_error>([&] { parallelFor(101, work, body); }, std::to_string(bad));
        for (Index i = 0; i <= bad; ++i) EXPECT_EQ(visits[static_cast<std::size_t>(i)], 1);
        parallelFor(101, work, [&](Index i) { visits[static_cast<std::size_t>(i)] = 7; });
        EXPECT_THAT(visits, ::testing::Each(7)) << "and then goes on";
      }
    }
  }
  Eigen::setNbThreads(0);
}

TEST(Parallel, WithinACallIsDoneByItsThread) {
  std::atomic<int> calls{0};
  const auto outer = [&](Index) { parallelFor(10, Index{1} << 40, [&](Index i) { calls += i == 9 ? throw 9 : 1; }); };
  EXPECT_THROW(parallelFor(1, Index{1} << 40, outer), int);
  EXPECT_EQ(calls, 9);
}

TEST(Parallel, ARegionIsSerialUntilItsEnd) {
  using detail::SerialRegion;
  EXPECT_FALSE(SerialRegion::isActive());
  {
    const SerialRegion outer;
    { const SerialRegion inner; }
    EXPECT_TRUE(SerialRegion::isActive());
  }
  EXPECT_FALSE(SerialRegion::isActive());
}

}  // namespace
}  // namespace gosset::parallel_test
