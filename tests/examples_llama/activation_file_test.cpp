// SPDX-License-Identifier: Apache-2.0
#include "../../examples/llama/activation_file.hpp"

#include "files.hpp"

#include <limits>

namespace llama::testing::activation_file_test {
namespace {

using gosset::testing::expectThrows;

class ActivationFileTest : public ::testing::Test {
 protected:
  fs::path path() const { return folder_ / "x.bin"; }

  Eigen::MatrixXf roundTrip(const Eigen::MatrixXf& x, int bits) const {
    const ActivationShape shape{bits, x.rows(), x.cols()};
    ActivationWriter writer(path(), shape);
    writer.add(x.leftCols(x.cols() / 2));
    writer.add(x.rightCols(x.cols() - x.cols() / 2));
    writer.commit();
    EXPECT_EQ(fs::file_size(path()), shape.bytes());
    return ActivationFile(path(), shape).read(0, x.cols());
  }

  TemporaryFolder folder_;
};

TEST_F(ActivationFileTest, NumbersOfElevenDigitsComeBack) {
  Eigen::MatrixXf x(4, 3);
  x << 1, 0, 3e30f, -2, 0, 0, 0.0009765625f, 0, 1.5e30f, 2047, 0, 0;
  const Eigen::MatrixXf y = roundTrip(x, 16);
  EXPECT_EQ(y.col(0), x.col(0));  // 2047 has eleven digits
  EXPECT_EQ(y.col(1), x.col(1));
  EXPECT_NEAR(y(0, 2) / x(0, 2), 1, 0x1p-11);
  EXPECT_EQ(roundTrip(x, 32), x);
}

TEST_F(ActivationFileTest, NoNumberDownTo28DoublingsBelowTheLargestIsOffByMoreThanHalfItsLastDigit) {
  for (const Index dim : gosset::testing::kOddSizes) {
    Eigen::MatrixXf x = gosset::testing::gaussian(dim, 9, static_cast<std::uint64_t>(dim));
    for (Index t = 0; t < 9; ++t) {
      x.col(t) *= std::ldexp(1.f, static_cast<int>(10 * t) - 40);
      x(0, t) = std::ldexp(1.f, static_cast<int>(10 * t) - 30);
    }
    const Eigen::MatrixXf y = roundTrip(x, 16);
    for (Index i = 0; i < x.size(); ++i) EXPECT_NEAR(y.data()[i], x.data()[i], 0x1p-11f * std::abs(x.data()[i]));
    EXPECT_EQ(roundTrip(x, 32), x);
  }
}

TEST_F(ActivationFileTest, EveryMagnitudeOfFloatFits) {
  Eigen::MatrixXf x(2, 4);
  const float least = std::numeric_limits<float>::min(), most = std::numeric_limits<float>::max();
  x << most, least, least / 2, std::numeric_limits<float>::denorm_min(), -1, 0, least / 4, 0;
  const Eigen::MatrixXf y = roundTrip(x, 16);
  EXPECT_TRUE(y.allFinite() || y(0, 0) > most / 2);
  EXPECT_FLOAT_EQ(y(0, 1), least);
  EXPECT_NEAR(y(0, 2), least / 2, least / 4096);
}

TEST_F(ActivationFileTest, PartsOfAFileAreReadAlone) {
  const Eigen::MatrixXf x = gosset::testing::gaussian(65, 9);
  roundTrip(x, 32);
  const ActivationFile file(path(), {32, 65, 9});
  EXPECT_EQ(file.read(4, 3), x.middleCols(4, 3));
  EXPECT_EQ(file.read(4, 3), x.middleCols(4, 3));  // again, where pages were given back
  EXPECT_EQ(file.read(8, 1), x.col(8));
  EXPECT_EQ(file.read(9, 0).cols(), 0);
}

TEST_F(ActivationFileTest, WhatDoesNotFitIsRefused) {
  const Eigen::MatrixXf x = gosset::testing::gaussian(3, 2);
  ActivationWriter writer(path(), {16, 3, 3});
  writer.add(x);
  expectThrows([&] { writer.add(x); }, "activations: 1 tokens more of 3 numbers expected, found 2 of 3");
  expectThrows([&] { writer.add(Eigen::MatrixXf::Zero(2, 1)); }, "1 tokens more of 3 numbers expected, found 1 of 2");
  expectThrows([&] { writer.commit(); }, "activations: 3 tokens expected, found 2");
  Eigen::MatrixXf bad = x.leftCols(1);
  for (const float wrong : {std::numeric_limits<float>::quiet_NaN(), std::numeric_limits<float>::infinity()}) {
    bad(1, 0) = wrong;
    expectThrows([&] { writer.add(bad); }, "activations: finite numbers expected, found others in token 2");
  }
  EXPECT_FALSE(fs::exists(path()));  // whole or not at all
}

TEST_F(ActivationFileTest, AnotherFileIsRefused) {
  const auto refused = [&](const ActivationShape& shape, const std::string& text) {
    expectThrows<gosset::FormatError>([&] { ActivationFile(path(), shape); }, text);
  };
  refused({16, 3, 2}, "cannot be opened");
  writeBytes(path(), "no");
  refused({16, 3, 2}, "this is no file of activations");
  roundTrip(gosset::testing::gaussian(3, 2), 16);
  refused({32, 3, 2}, "2 tokens of 3 numbers in 32 bits expected, found 2 of 3 in 16");
  refused({16, 3, 4}, "4 tokens of 3 numbers in 16 bits expected, found 2 of 3 in 16");
  fs::resize_file(path(), fs::file_size(path()) - 1);
  refused({16, 3, 2}, "bytes expected, found");
}

}  // namespace
}  // namespace llama::testing::activation_file_test
