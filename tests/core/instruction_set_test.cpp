// SPDX-License-Identifier: Apache-2.0
#include <gosset/core/instruction_set.hpp>
#include <gosset/core/vectors.hpp>

#include "testing.hpp"

#include <algorithm>
#include <cstdlib>
#include <optional>
#include <string>
#include <vector>

namespace gosset::instruction_set_test {
namespace {

/// Puts back what ran, and what the environment asked for.
class InstructionSet : public ::testing::Test {
 protected:
  InstructionSet() {
    if (const char* value = std::getenv("GOSSET_SET")) asked_ = value;
  }
  ~InstructionSet() override {
    useInstructionSet(before_);
    if (asked_) {
      setenv("GOSSET_SET", asked_->c_str(), 1);
    } else {
      unsetenv("GOSSET_SET");
    }
  }

 private:
  std::string before_ = instructionSet();
  std::optional<std::string> asked_;
};

std::string joined(const std::vector<std::string>& names) {
  std::string all;
  for (const std::string& name : names) all += (all.empty() ? "" : ", ") + name;
  return all;
}

TEST_F(InstructionSet, ThatOfTheFlagsIsAlwaysThere) {
  EXPECT_EQ(instructionSets().front(), "by_flags");
  const auto sets = instructionSets();
  EXPECT_NE(std::find(sets.begin(), sets.end(), instructionSet()), sets.end());
}

TEST_F(InstructionSet, AnotherRunsWhenAskedFor) {
  for (const std::string& name : instructionSets()) {
    useInstructionSet(name);
    EXPECT_EQ(instructionSet(), name);
  }
}

TEST_F(InstructionSet, BetterOnesCanDoMore) {
  for (const std::string& name : instructionSets()) {
    useInstructionSet(name);
    const detail::Abilities can = detail::runningAbilities();
    if (name == "by_flags") {
      EXPECT_EQ(can.has_fma, simd::kHasFma);
      EXPECT_EQ(can.has_dot, simd::kHasDot);
    } else {
      EXPECT_TRUE(can.has_fma);
      EXPECT_EQ(can.has_dot, name == "avx512_vbmi" || name == "avx2_vnni");
    }
  }
}

TEST_F(InstructionSet, TheBestRunsButForTheEnvironment) {
  unsetenv("GOSSET_SET");
  const auto nameOf = [](detail::Set set) {
    for (const detail::NamedSet& named : detail::kCompiledSets) {
      if (named.set == set) return std::string(named.name);
    }
    return std::string();
  };
  EXPECT_EQ(nameOf(detail::firstSet()), instructionSets().back());
  setenv("GOSSET_SET", "", 1);
  EXPECT_EQ(nameOf(detail::firstSet()), instructionSets().back());
  for (const std::string& name : instructionSets()) {
    setenv("GOSSET_SET", name.c_str(), 1);
    EXPECT_EQ(nameOf(detail::firstSet()), name);
  }
}

TEST_F(InstructionSet, UnknownNamesAreErrorsThatListWhatThereIs) {
  const std::string expected =
      ": expected an instruction set that is compiled and that this machine has, of " + joined(instructionSets());
  testing::expectThrows([] { useInstructionSet("sse9"); }, "gosset: useInstructionSet" + expected + ", got \"sse9\"");
  testing::expectThrows([] { useInstructionSet(""); }, "gosset: useInstructionSet" + expected + ", got \"\"");
  setenv("GOSSET_SET", "best", 1);
  testing::expectThrows([] { detail::firstSet(); },
                        "gosset: the environment's GOSSET_SET" + expected + ", got \"best\"");
}

}  // namespace
}  // namespace gosset::instruction_set_test
