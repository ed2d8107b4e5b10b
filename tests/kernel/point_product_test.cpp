// SPDX-License-Identifier: Apache-2.0
#include <gosset/kernel/point_product.hpp>

#include <gosset/codebook.hpp>
#include <gosset/kernel/definition.hpp>

#include "kernel/random_codes.hpp"

#include <cmath>
#include <string>

namespace gosset::GOSSET_ABI::detail::point_product_test {
namespace {

/// Points whose numbers tell code and place: only a look-up of the right one gives the right product.
template <int kNumbers, int kCodeBits>
struct Own {
  using Code = std::uint16_t;
  static constexpr int kDim = kNumbers, kBits = kCodeBits;
  static constexpr ScaleRule kRule = ScaleRule::kAbsMax;
  static Code encode(const float*) { return 0; }
  static void decode(Code q, float* y) {
    for (int d = 0; d < kDim; ++d) y[d] = std::sin(static_cast<float>(q * kDim + d));
  }
  static std::string name() { return "Own"; }
};
struct OwnBytes : Own<4, 8> {
  using Code = std::uint8_t;
  static Code encode(const float*) { return 0; }
  static void decode(Code q, float* y) { Own<4, 8>::decode(q, y); }
};
/// Levels that spread too far for bytes.
struct OwnLevels {
  using Code = std::uint8_t;
  static constexpr int kDim = 1, kBits = 6, kLevels = 50;
  static constexpr bool kHasZero = false;
  static constexpr ScaleRule kRule = ScaleRule::kAbsMax;
  static Code encode(float) { return 0; }
  static float level(Code q) { return std::pow(1.3f, static_cast<float>(q)); }
  static std::string name() { return "OwnLevels"; }
};

template <class C>
class PointProductTest : public ::testing::Test {};
using Codebooks = ::testing::Types<Own<2, 4>, Own<2, 12>, Own<3, 5>, OwnBytes, Own<8, 8>, Own<12, 12>, OwnLevels>;
TYPED_TEST_SUITE(PointProductTest, Codebooks);

TYPED_TEST(PointProductTest, OddShapesAndGroupsOfEveryWidth) {
  using C = TypeParam;
  static_assert(FewPoints<C>);
  for (const Index rows : {1, 16, 33}) {
    for (const Index n : testing::kOddSizes) {
      for (const Index codes : {1, 2, 5, 32, 1000}) {
        const RandomCodes<C, Float16, 0> w(rows, n, codes * C::kDim);
        Eigen::VectorXf x = Eigen::VectorXf::Zero(w.layout.tiles() * kTileColumns<C>);
        x.head(n) = testing::gaussian(n, 1, 3);
        Eigen::VectorXf expected(rows), y = Eigen::VectorXf::Constant(rows + 3, 77);
        multiplyDefinition(w.view, x.data(), n, 1, x.size(), expected.data(), rows);
        multiplyPoints(w.view, x.data(), y.data());
        ASSERT_LE((y.head(rows) - expected).norm(), 2e-5f * (expected.norm() + 1)) << rows << ' ' << n << ' ' << codes;
        ASSERT_TRUE((y.tail(3).array() == 77.f).all());
      }
    }
  }
}

TEST(PointTable, HoldsEachPointAndNoMoreThanSixtyFourThousandNumbers) {
  using C = Own<3, 5>;
  for (int q = 0; q < 32; ++q) {
    float point[3];
    C::decode(static_cast<std::uint16_t>(q), point);
    EXPECT_TRUE(std::equal(point, point + 3, pointTable<C>() + 3 * q));
  }
  EXPECT_EQ(pointTable<OwnLevels>()[49], OwnLevels::level(49));
  EXPECT_EQ(pointTable<OwnLevels>()[63], OwnLevels::level(49));
  static_assert(FewPoints<Own<16, 12>> && !FewPoints<Own<16, 13>> && !FewPoints<Own<2, 16>>);
  static_assert(!FewPoints<Asymmetric<4>> && !FewPoints<Trellis<2>>);
}

}  // namespace
}  // namespace gosset::GOSSET_ABI::detail::point_product_test
