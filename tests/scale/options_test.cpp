// SPDX-License-Identifier: Apache-2.0
#include <gosset/scale/options.hpp>

#include "testing.hpp"

namespace gosset::options_test {
namespace {

TEST(Options, TheDefaultIsThePublishedRule) {
  EXPECT_TRUE(std::holds_alternative<PublishedRule>(QuantizeOptions{}.fit));
  EXPECT_EQ(QuantizeOptions{}.seed, 0u);
  EXPECT_TRUE(std::holds_alternative<LeastSquares>(QuantizeOptions{.fit = LeastSquares{}}.fit));
}

TEST(Options, PercentilesOutOfRangeAreRefused) {
  EXPECT_NO_THROW(validate(PublishedRule{}));
  EXPECT_NO_THROW(validate(LeastSquares{}));
  for (const double good : {50.1, 99.0, 100.0}) EXPECT_NO_THROW(validate(Percentile{good}));
  testing::expectThrows([] { validate(Percentile{50}); }, "Percentile: expected a percentile in (50, 100], got 50");
  testing::expectThrows([] { validate(Percentile{100.5}); }, "(50, 100], got 100.5");
  testing::expectThrows([] { validate(Percentile{-1}); }, "(50, 100], got -1");
  testing::expectThrows([] { validate(Percentile{std::nan("")}); }, "(50, 100], got nan");
}

}  // namespace
}  // namespace gosset::options_test
