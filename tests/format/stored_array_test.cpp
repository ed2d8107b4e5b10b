// SPDX-License-Identifier: Apache-2.0
#include <gosset/format/stored_array.hpp>

#include "testing.hpp"

#include <array>
#include <memory>
#include <span>

namespace gosset::stored_array_test {
namespace {

TEST(StoredArray, OwnsZerosThatStartACacheLine) {
  StoredArray<float> a(5);
  EXPECT_TRUE(a.owns());
  EXPECT_EQ(a.size(), 5u);
  EXPECT_EQ(reinterpret_cast<std::uintptr_t>(a.data()) % 64, 0u);
  for (const float x : a) EXPECT_EQ(x, 0.f);
  EXPECT_TRUE(StoredArray<float>().empty());
  EXPECT_TRUE(StoredArray<float>().owns());
}

TEST(StoredArray, CopiesOfOwnMemoryAreIndependent) {
  StoredArray<int> a(3);
  a.writable()[1] = 7;
  StoredArray<int> b = a;
  b.writable()[1] = 8;
  EXPECT_EQ(a[1], 7);
  EXPECT_EQ(b[1], 8);
}

TEST(StoredArray, AViewKeepsItsMemoryAliveAndIsNeverWrittenTo) {
  auto memory = std::make_shared<std::array<int, 3>>(std::array<int, 3>{1, 2, 3});
  const std::weak_ptr<std::array<int, 3>> watch = memory;
  StoredArray<int> a(9);
  a.show(*memory, memory);
  memory.reset();
  EXPECT_FALSE(watch.expired());
  EXPECT_FALSE(a.owns());
  EXPECT_EQ(a.size(), 3u);
  StoredArray<int> b = a;
  b.writable()[0] = 5;
  EXPECT_TRUE(b.owns());
  EXPECT_THAT(b.values(), ::testing::ElementsAre(5, 2, 3));
  EXPECT_THAT(a.values(), ::testing::ElementsAre(1, 2, 3));
  a = StoredArray<int>();
  EXPECT_TRUE(watch.expired());
}

TEST(StoredArray, DeferredMemoryComesWhenItIsWrittenTo) {
  StoredArray<int> a;
  {
    const detail::DeferredArrays deferred;
    a = StoredArray<int>(4);
  }
  EXPECT_EQ(a.size(), 4u);
  EXPECT_TRUE(a.owns());
  EXPECT_EQ(a.writable().size(), 4u);
  EXPECT_EQ(a.size(), 4u);
  EXPECT_EQ(a[3], 0);
}

TEST(StoredArray, WhatIsShownTakesThePlaceOfDeferredMemory) {
  const std::array<int, 2> memory = {1, 2};
  for (const std::span<const int> shown : {std::span<const int>(memory), std::span<const int>()}) {
    const detail::DeferredArrays deferred;
    StoredArray<int> a(4);
    a.show(shown, nullptr);
    EXPECT_EQ(a.size(), shown.size());
    EXPECT_EQ(a.writable().size(), shown.size());
  }
}

}  // namespace
}  // namespace gosset::stored_array_test
