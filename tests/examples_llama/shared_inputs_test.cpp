// SPDX-License-Identifier: Apache-2.0
#include "../../examples/llama/shared_inputs.hpp"

#include "meeting.hpp"

#include "testing.hpp"

namespace llama::testing::shared_inputs_test {
namespace {

using Owners = std::map<std::string, Index>;

TEST(WhoGathers, TheWidestFirstByWhoHasTheLeastToDo) {
  const std::map<std::string, Index> widths = {{"a", 3}, {"b", 5}, {"c", 3}, {"d", 3}, {"e", 1}};
  EXPECT_EQ(whoGathers(widths, 1), (Owners{{"a", 0}, {"b", 0}, {"c", 0}, {"d", 0}, {"e", 0}}));
  EXPECT_EQ(whoGathers(widths, 2), (Owners{{"a", 1}, {"b", 0}, {"c", 1}, {"d", 1}, {"e", 0}}));  // 25, 9 + 9 + 9, 1
  EXPECT_EQ(whoGathers(widths, 9), (Owners{{"a", 1}, {"b", 0}, {"c", 2}, {"d", 3}, {"e", 4}}));
  EXPECT_TRUE(whoGathers({}, 2).empty());
}

TEST(SharedInputs, EachHasWhatOneAloneGathers) {
  const std::map<std::string, Index> widths = {{"a", 7}, {"b", 65}, {"c", 9}, {"unseen", 8}};
  Calibration expected;
  for (const char* name : {"a", "b", "c"}) {
    const Index width = widths.at(name);
    expected.try_emplace(name, width).first->second.add(gosset::testing::gaussian(1500, width, 1));
  }
  for (const Index count : {1, 2, 3, 9}) {
    Meeting meeting(count);
    const Owners owners = whoGathers(widths, count);
    const auto all = meeting.each([&](const Peers& peers) {
      Calibration mine;
      for (const auto& [name, inputs] : expected) {
        if (owners.at(name) == peers.rank()) mine.emplace(name, inputs);
      }
      shareInputs(owners, widths, mine, peers);
      return mine;
    });
    for (const Calibration& one : all) {
      ASSERT_EQ(one.size(), 3u);
      for (const auto& [name, inputs] : expected) {
        EXPECT_EQ(one.at(name).hessian.matrix(), inputs.hessian.matrix()) << name << ' ' << count;
        EXPECT_EQ(one.at(name).hessian.tokens(), 1500) << name;
        EXPECT_EQ(one.at(name).tokens, inputs.tokens) << name;
      }
    }
  }
}

}  // namespace
}  // namespace llama::testing::shared_inputs_test
