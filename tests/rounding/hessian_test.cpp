// SPDX-License-Identifier: Apache-2.0
#include <gosset/rounding/hessian.hpp>
#include <gosset/theory/proxy_loss.hpp>

#include "testing.hpp"

#include <utility>

#include <limits>

namespace gosset::hessian_test {
namespace {

using testing::expectThrows;
using testing::gaussian;

TEST(Hessian, IsTheMeanOfOuterProducts) {
  Hessian h(2);
  Eigen::MatrixXf x(3, 2);
  x << 1, 2, 3, 4, 5, 6;
  h.accumulate(x);
  Eigen::Matrix2d expected;
  expected << 35, 44, 44, 56;
  EXPECT_TRUE(h.matrix().isApprox(expected / 3, 1e-15));
  EXPECT_EQ(h.tokens(), 3);
}

TEST(Hessian, BatchesAndMergesGiveTheWhole) {
  for (const Index n : testing::kOddSizes) {
    const RowMatrixXf x = gaussian(50, n);
    Hessian whole(n), batches(n), first(n), second(n);
    whole.accumulate(x);
    for (Index i = 0; i < 50; i += 7) batches.accumulate(x.middleRows(i, std::min<Index>(7, 50 - i)));
    first.accumulate(x.topRows(20));
    second.accumulate(x.bottomRows(30));
    first.merge(second);
    EXPECT_TRUE(batches.matrix().isApprox(whole.matrix(), 1e-12)) << n;
    EXPECT_TRUE(first.matrix().isApprox(whole.matrix(), 1e-12)) << n;
    EXPECT_EQ(first.tokens(), 50);
    EXPECT_EQ(whole.matrix(), whole.matrix().transpose());
  }
}

TEST(Hessian, OneThatSawNothingAddsNothingAndBecomesWhatIsMerged) {
  Hessian seen(5), empty(5), other(5);
  seen.accumulate(gaussian(9, 5));
  const Eigen::MatrixXd before = seen.matrix();
  seen.merge(empty);
  EXPECT_EQ(seen.matrix(), before);
  EXPECT_EQ(seen.tokens(), 9);
  empty.merge(other);
  EXPECT_TRUE(empty.matrix().isZero(0));
  EXPECT_EQ(empty.tokens(), 0);
  empty.merge(seen);
  EXPECT_EQ(empty.matrix(), before);
  EXPECT_EQ(empty.tokens(), 9);
}

TEST(Hessian, TakesEveryScalarTypeAndOrder) {
  const RowMatrixXf x = gaussian(9, 5).array().round() / 4;
  Hessian expected(5);
  expected.accumulate(x);
  Hessian column_major(5), half(5), bfloat(5), doubles(5), block(5);
  column_major.accumulate(Eigen::MatrixXf(x));
  half.accumulate(x.cast<Float16>());
  bfloat.accumulate(x.cast<BFloat16>());
  doubles.accumulate(x.cast<double>());
  RowMatrixXf wide = RowMatrixXf::Zero(9, 8);
  wide.middleCols(2, 5) = x;
  block.accumulate(wide.middleCols(2, 5));
  for (const Hessian& h : {column_major, half, bfloat, doubles, block}) EXPECT_EQ(h.matrix(), expected.matrix());
}

TEST(Hessian, CopiesDoNotShareWhatComesLater) {
  Hessian a(3);
  a.accumulate(gaussian(4, 3, 1));
  const Hessian b = a;
  const Eigen::MatrixXd before = b.matrix();
  a.accumulate(gaussian(4, 3, 2));
  EXPECT_EQ(b.matrix(), before);
  EXPECT_NE(a.matrix(), before);
  a.merge(a);
  EXPECT_EQ(a.tokens(), 16);
}

TEST(Hessian, FromMatrixKeepsIt) {
  const RowMatrixXf x = gaussian(20, 4);
  const Eigen::MatrixXf matrix = x.transpose() * x;
  const Hessian h = Hessian::fromMatrix(matrix, 20);
  EXPECT_TRUE(h.matrix().isApprox(matrix.cast<double>(), 1e-6));
  EXPECT_EQ(h.tokens(), 20);
}

TEST(Hessian, FromMatrixOfTheLargestNumbersIsFinite) {
  Eigen::Matrix2d matrix;
  matrix << 1.7e308, 1.00001e308, 1e308, 5e-324;
  const Hessian h = Hessian::fromMatrix(matrix);
  EXPECT_TRUE(h.matrix().allFinite());
  EXPECT_EQ(h.matrix()(0, 1), h.matrix()(1, 0));
  EXPECT_EQ(h.matrix()(0, 0), 1.7e308);
  const Eigen::Matrix2d symmetric = Eigen::Matrix2d::Constant(5e-324);
  EXPECT_EQ(Hessian::fromMatrix(symmetric).matrix(), symmetric);
}

TEST(Hessian, RefusesWhatIsNone) {
  expectThrows([] { Hessian(0); }, "Hessian: expected at least 1 input, got 0");
  Hessian h(3);
  expectThrows([&] { h.accumulate(Eigen::MatrixXf::Ones(2, 4)); },
               "Hessian: expected activations of 3 inputs (tokens x in), got 2 x 4");
  Eigen::MatrixXf bad = Eigen::MatrixXf::Ones(2, 3);
  bad(1, 1) = std::numeric_limits<float>::infinity();
  expectThrows([&] { h.accumulate(bad); }, "Hessian: the activations hold NaN or infinity");
  EXPECT_EQ(h.tokens(), 0) << "a refused batch leaves nothing behind";
  h.accumulate(Eigen::MatrixXf(0, 3));
  EXPECT_EQ(h.tokens(), 0);
  expectThrows([&] { h.merge(Hessian(4)); }, "Hessian: expected one of 3 inputs to merge, got 4");
  expectThrows([] { Hessian::fromMatrix(Eigen::MatrixXf::Ones(2, 3)); },
               "Hessian: expected a square matrix, got 2 x 3");
  expectThrows([] { Hessian::fromMatrix(Eigen::MatrixXf(0, 0)); }, "Hessian: expected a square matrix, got 0 x 0");
  expectThrows([] { Hessian::fromMatrix(Eigen::Matrix2f::Identity(), 0); },
               "Hessian: expected a positive number of tokens, got 0");
  Eigen::Matrix2f skew;
  skew << 1, 2, 3, 1;
  expectThrows([&] { Hessian::fromMatrix(skew); },
               "Hessian: expected a symmetric matrix, got one where an entry and its mirror differ by 1");
  skew << 10, 2, 2.002f, 10;  // a ten thousandth of the largest is 1e-3
  expectThrows([&] { Hessian::fromMatrix(skew); }, "expected a symmetric matrix");
  skew(1, 0) = 2.0009f;
  EXPECT_EQ(Hessian::fromMatrix(skew).size(), 2);
  constexpr float kNaN = std::numeric_limits<float>::quiet_NaN(), kInfinity = std::numeric_limits<float>::infinity();
  for (const float number : {kNaN, kInfinity}) {
    skew(0, 1) = skew(1, 0) = number;
    expectThrows([&] { Hessian::fromMatrix(skew); }, "Hessian: the matrix holds NaN or infinity");
  }
}

TEST(ProxyLoss, IsTheShareOfTheOutputEnergy) {
  const RowMatrixXf x = gaussian(100, 6, 3), w = gaussian(4, 6, 4), approximation = w + 0.1f * gaussian(4, 6, 5);
  Hessian h(6);
  h.accumulate(x);
  const double expected = ((w - approximation) * x.transpose()).squaredNorm() / (w * x.transpose()).squaredNorm();
  EXPECT_NEAR(proxyLoss(w, approximation, h), expected, 1e-5 * expected);
  EXPECT_EQ(proxyLoss(w, w, h), 0);
}

TEST(ProxyLoss, RefusesShapesThatDoNotFit) {
  const Hessian h = Hessian::fromMatrix(Eigen::Matrix2f::Identity());
  expectThrows([&] { proxyLoss(Eigen::MatrixXf::Ones(3, 2), Eigen::MatrixXf::Ones(2, 2), h); },
               "proxyLoss: expected two matrices of one shape, got 3 x 2 and 2 x 2");
  expectThrows([&] { proxyLoss(Eigen::MatrixXf::Ones(3, 4), Eigen::MatrixXf::Ones(3, 4), h); },
               "proxyLoss: expected a Hessian of 4 inputs, got 2");
  expectThrows([&] { proxyLoss(Eigen::MatrixXf::Zero(3, 2), Eigen::MatrixXf::Ones(3, 2), h); },
               "proxyLoss: expected tr(W H W^T) > 0, got 0");
}

/// Of 417 inputs there are nine tiles, which no number of threads but 1, 3 and 9 shares evenly.
TEST(Hessian, ThreadsDoNotChangeABit) {
  const RowMatrixXf x = gaussian(40, 417);
  const int threads = Eigen::nbThreads();
  Eigen::setNbThreads(1);
  Hessian one(417);
  one.accumulate(x);
  for (const int count : {2, 4, 20}) {
    Eigen::setNbThreads(count);
    Hessian many(417);
    many.accumulate(x);
    EXPECT_EQ(many.matrix(), one.matrix()) << count;
  }
  Eigen::setNbThreads(threads);
  const Eigen::MatrixXd exact = x.cast<double>().transpose() * x.cast<double>() / 40;
  EXPECT_TRUE(one.matrix().isApprox(exact, 1e-12));
}

TEST(Hessian, TheMatrixOfOneThatNobodySharesIsTakenOver) {
  Hessian h(5);
  h.accumulate(testing::gaussian(9, 5));
  const Eigen::MatrixXd before = h.matrix();
  Hessian copy = h;
  EXPECT_EQ(std::move(copy).matrix(), before);
  EXPECT_EQ(copy.size(), 0) << "as if moved from";
  EXPECT_EQ(h.matrix(), before) << "others keep theirs";
  const double* const memory = h.matrix().data();
  const Eigen::MatrixXd taken = std::move(h).matrix();
  EXPECT_EQ(taken.data(), memory);
  EXPECT_EQ(taken, before);
  EXPECT_EQ(h.size(), 0);
  EXPECT_EQ(h.tokens(), 0);
  EXPECT_EQ(std::move(h).matrix().size(), 0) << "there is nothing left to take";
}

TEST(Hessian, AMatrixFromElsewhereIsTakenOver) {
  Eigen::MatrixXd matrix(2, 2);
  matrix << 1, .25 + 1e-6, .25, 1;
  const Eigen::MatrixXd kept = matrix;
  const double* const memory = matrix.data();
  const Hessian h = Hessian::fromMatrix(std::move(matrix), 3);
  EXPECT_EQ(h.matrix().data(), memory);
  EXPECT_EQ(h.matrix(), Hessian::fromMatrix(kept, 3).matrix());
  EXPECT_EQ(h.matrix()(0, 1), (.25 + 1e-6) / 2 + .25 / 2);
  EXPECT_EQ(h.matrix()(1, 0), h.matrix()(0, 1));
  EXPECT_EQ(h.tokens(), 3);
  testing::expectThrows([] { Hessian::fromMatrix(Eigen::MatrixXd(2, 3)); },
                        "gosset: Hessian: expected a square matrix, got 2 x 3");
}

TEST(Hessian, WhatWasMovedFromIsEmpty) {
  Hessian from(4);
  from.accumulate(testing::gaussian(9, 4));
  const Hessian before = from;
  Hessian to = std::move(from);
  EXPECT_EQ(to.matrix(), before.matrix());
  EXPECT_EQ(from.size(), 0);
  EXPECT_EQ(from.tokens(), 0);
  EXPECT_EQ(from.matrix().size(), 0);
  testing::expectThrows([&] { from.accumulate(RowMatrixXf(2, 0)); },
                        "gosset: Hessian: expected activations of 0 inputs (tokens x in), got 2 x 0");
  const Hessian copy = from;
  EXPECT_EQ(copy.size(), 0);
  from = std::move(to);
  auto& same = from;
  from = std::move(same);
  EXPECT_EQ(from.matrix(), before.matrix());
  EXPECT_EQ(from.tokens(), 9);
}

}  // namespace
}  // namespace gosset::hessian_test
