// SPDX-License-Identifier: Apache-2.0
#include <gosset/core/empty_after_move.hpp>

#include "testing.hpp"

#include <map>
#include <optional>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

namespace gosset::empty_after_move_test {
namespace {

using detail::EmptyAfterMove;

/// What a class of such members gets without move operations of its own.
struct Holder {
  EmptyAfterMove<int> rows = 3;
  EmptyAfterMove<float, 1> unit = 0.5f;
  EmptyAfterMove<std::vector<int>> numbers{std::vector{1, 2}};
  EmptyAfterMove<std::map<std::string, int>> names{{{"a", 1}}};
  EmptyAfterMove<std::optional<std::vector<int>>> optional{std::vector{4}};
};

void expectWhole(const Holder& h) {
  EXPECT_EQ(h.rows, 3);
  EXPECT_EQ(h.unit, 0.5f);
  EXPECT_THAT(h.numbers, ::testing::ElementsAre(1, 2));
  EXPECT_EQ(h.names.at("a"), 1);
  EXPECT_THAT(h.optional.value(), ::testing::ElementsAre(4));
}

void expectEmpty(const Holder& h) {
  EXPECT_EQ(h.rows, 0);
  EXPECT_EQ(h.unit, 1.f);
  EXPECT_TRUE(h.numbers.empty());
  EXPECT_TRUE(h.names.empty());
  EXPECT_FALSE(h.optional.has_value());
}

TEST(EmptyAfterMove, AMoveLeavesNothing) {
  static_assert(std::is_nothrow_move_constructible_v<Holder> && std::is_nothrow_move_assignable_v<Holder>);
  Holder from;
  Holder to = std::move(from);
  expectWhole(to);
  expectEmpty(from);
  from = std::move(to);
  expectWhole(from);
  expectEmpty(to);
}

TEST(EmptyAfterMove, AMoveToItselfChangesNothing) {
  Holder h;
  Holder& same = h;
  h = std::move(same);
  expectWhole(h);
}

TEST(EmptyAfterMove, CopiesAreIndependent) {
  Holder h;
  Holder copy = h;
  copy.numbers.push_back(3);
  copy.rows = 4;
  expectWhole(h);
  copy = h;
  expectWhole(copy);
}

}  // namespace
}  // namespace gosset::empty_after_move_test
