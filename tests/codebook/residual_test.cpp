// SPDX-License-Identifier: Apache-2.0
#include <gosset/codebook/residual.hpp>

#include "testing.hpp"

#include <array>
#include <cmath>
#include <limits>
#include <vector>

namespace gosset::residual_test {
namespace {

/// Pairs of integers from 0 to 3, nearest by rounding; without encodeBlocks.
struct Square4 {
  using Code = std::uint8_t;
  static constexpr int kDim = 2;
  static constexpr int kBits = 4;
  static constexpr ScaleRule kRule = ScaleRule::kRootMeanSquare;
  static constexpr float kGaussianScale = 1;
  static std::string name() { return "Square4"; }
  static unsigned digit(float x) { return static_cast<unsigned>(std::clamp(std::nearbyint(x), 0.f, 3.f)); }
  static Code encode(const float* x) { return static_cast<Code>(digit(x[0]) + 4 * digit(x[1])); }
  static void decode(Code q, float* y) {
    y[0] = static_cast<float>(q % 4);
    y[1] = static_cast<float>(q / 4);
  }
};

struct Greedy {
  static constexpr float kStep = 0.25f;
  static constexpr float kProbe = 0;
  static constexpr float kGaussianScale = 1;
  static std::string name() { return "Greedy"; }
};
struct Joint : Greedy {
  static constexpr float kProbe = 1.f;
  static std::string name() { return "Joint"; }
};

using GreedyPair = Residual<Square4, Square4, Greedy>;
using JointPair = Residual<Square4, Square4, Joint>;
static_assert(VectorCodebook<GreedyPair> && VectorCodebook<JointPair>);

template <class C>
std::array<float, 2> nearest(std::array<float, 2> x) {
  std::array<float, 2> y;
  C::decode(C::encode(x.data()), y.data());
  return y;
}

TEST(Residual, CodesAreConcatenated) {
  EXPECT_EQ(GreedyPair::kBits, 8);
  EXPECT_EQ(GreedyPair::name(), "Greedy");
  EXPECT_EQ(GreedyPair::kGaussianScale, 1);
  const GreedyPair::Code code = (9u << 4) | 6u;  // (1, 2) and (2, 1)
  EXPECT_EQ(GreedyPair::first(code), 9);
  EXPECT_EQ(GreedyPair::second(code), 6);
  std::array<float, 2> y;
  GreedyPair::decode(code, y.data());
  EXPECT_EQ(y, (std::array<float, 2>{1.5f, 2.25f}));
}

/// Pairs of 0 and 1.
struct Square2 : Square4 {
  static constexpr int kBits = 2;
  static unsigned digit(float x) { return static_cast<unsigned>(std::clamp(std::nearbyint(x), 0.f, 1.f)); }
  static Code encode(const float* x) { return static_cast<Code>(digit(x[0]) + 2 * digit(x[1])); }
  static void decode(Code q, float* y) {
    y[0] = static_cast<float>(q % 2);
    y[1] = static_cast<float>(q / 2);
  }
};

TEST(Residual, StagesMayDifferInBits) {
  using CoarseFirst = Residual<Square2, Square4, Greedy>;
  using FineFirst = Residual<Square4, Square2, Greedy>;
  EXPECT_EQ(CoarseFirst::first(0b10'1101), 0b10);
  EXPECT_EQ(CoarseFirst::second(0b10'1101), 0b1101);
  EXPECT_EQ(FineFirst::first(0b1101'10), 0b1101);
  EXPECT_EQ(FineFirst::second(0b1101'10), 0b10);
  const float x[] = {1.75f, 0.5f};  // the ties go to the even, 0
  EXPECT_EQ(CoarseFirst::encode(x), 0b01'1011u);
  EXPECT_EQ(nearest<CoarseFirst>({1.75f, 0.5f}), (std::array<float, 2>{1.75f, 0.5f}));
  EXPECT_EQ(nearest<FineFirst>({2.25f, 3.25f}), (std::array<float, 2>{2.25f, 3.25f}));
}

TEST(Residual, TheJointSearchRepairsAFirstStageThatIsTooFar) {
  // The second stage only goes up: 0.75 is 0 + 3/4, but the nearest first stage is 1.
  EXPECT_EQ(nearest<GreedyPair>({0.75f, 0.75f}), (std::array<float, 2>{1, 1}));
  EXPECT_EQ(nearest<JointPair>({0.75f, 0.75f}), (std::array<float, 2>{.75f, .75f}));
  EXPECT_EQ(nearest<JointPair>({1.75f, 2.75f}), (std::array<float, 2>{1.75f, 2.75f}));
}

TEST(Residual, TheJointSearchLooksToEverySide) {
  // The first stage has to go down in one number and stay at the end, 3, in the other.
  EXPECT_EQ(nearest<JointPair>({.75f, 3.f}), (std::array<float, 2>{.75f, 3}));
  EXPECT_EQ(nearest<JointPair>({3.f, .75f}), (std::array<float, 2>{3, .75f}));
}

/// (1, 2) is off by 5/16 and 0, (0.75, 1.75) by 1/16 and 1/4: as much together, but less in squares.
TEST(Residual, TheJointSearchComparesSquares) {
  EXPECT_EQ(nearest<JointPair>({.6875f, 2.f}), (std::array<float, 2>{.75f, 1.75f}));
}

TEST(Residual, TheJointSearchIsNeverWorse) {
  double greedy = 0, joint = 0;
  for (std::uint64_t k = 0; k < 2000; ++k) {
    const std::array<float, 2> x = {4 * randomUniform(41, 2 * k), 4 * randomUniform(41, 2 * k + 1)};
    const auto error = [&](std::array<float, 2> y) { return std::hypot(y[0] - x[0], y[1] - x[1]); };
    const float g = error(nearest<GreedyPair>(x)), j = error(nearest<JointPair>(x));
    ASSERT_LE(j, g);
    greedy += static_cast<double>(g);
    joint += static_cast<double>(j);
  }
  EXPECT_LT(joint, 0.8 * greedy);
}

TEST(Residual, BlocksAreEncodedAndDecodedAsOneByOne) {
  for (const Index count : {0, 1, 7, 15, 16, 17, 63, 172}) {
    std::vector<float> x(static_cast<std::size_t>(2 * count)), y(x.size());
    for (std::size_t i = 0; i < x.size(); ++i) x[i] = 4 * randomUniform(42, i);
    std::vector<JointPair::Code> codes(static_cast<std::size_t>(count) + 1, 99);
    JointPair::encodeBlocks(x.data(), count, codes.data());
    JointPair::decodeBlocks(codes.data(), count, y.data());
    for (std::size_t b = 0; b < static_cast<std::size_t>(count); ++b) {
      ASSERT_EQ(codes[b], JointPair::encode(x.data() + 2 * b)) << count;
      std::array<float, 2> point;
      JointPair::decode(codes[b], point.data());
      ASSERT_EQ(point, (std::array<float, 2>{y[2 * b], y[2 * b + 1]})) << count;
    }
    EXPECT_EQ(codes.back(), 99u);
  }
}

TEST(Residual, FirstTriedWinsATie) {
  // 0.875 is as near to 0 + 3/4 as to 1 + 0; the nearest first stage, 1, was tried first.
  EXPECT_EQ(nearest<JointPair>({0.875f, 2.f}), (std::array<float, 2>{1, 2}));
}

}  // namespace
}  // namespace gosset::residual_test
