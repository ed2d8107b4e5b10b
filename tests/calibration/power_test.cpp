// SPDX-License-Identifier: Apache-2.0
#include <gosset/calibration/power.hpp>

#include "testing.hpp"

namespace gosset::power_test {
namespace {

TEST(Power, IsThePowerOfTheLibrary) {
  for (const double x : {1e-300, 1e-30, 1e-4, 0.3, 0.999999, 1.0, 1.5, 3.0, 12345.678, 1e30, 1e300}) {
    for (const double exponent : {-0.9, -0.5, 0.0, 0.05, 0.5, 0.85, 1.0}) {
      EXPECT_NEAR(detail::power(x, exponent) / std::pow(x, exponent), 1, 3e-8) << x << "^" << exponent;
    }
  }
}

TEST(Power, KnownAnswers) {
  EXPECT_EQ(detail::power(7, 0), 1);
  EXPECT_EQ(detail::power(4, 0.5), 2);
  EXPECT_EQ(detail::power(0x1p-20, 0.25), 0x1p-5);
  EXPECT_EQ(detail::power(1, 0.37), 1);
}

}  // namespace
}  // namespace gosset::power_test
