// SPDX-License-Identifier: Apache-2.0
#include <gosset/core/error.hpp>

#include "testing.hpp"

namespace gosset::error_test {
namespace {

TEST(Error, ARequirementThatHoldsIsSilent) { EXPECT_NO_THROW(detail::require(true, "never seen")); }

TEST(Error, TheTextIsPutTogetherFromItsParts) {
  testing::expectThrows([] { detail::require(false, "f: expected ", 3, " rows, got ", 2.5); },
                        "gosset: f: expected 3 rows, got 2.5");
  testing::expectThrows([] { detail::invalidArgument("g: ", 'x'); }, "gosset: g: x");
}

TEST(Error, FilesHaveAnErrorOfTheirOwn) {
  testing::expectThrows<std::runtime_error>([] { throw FormatError("truncated"); }, "truncated");
}

}  // namespace
}  // namespace gosset::error_test
