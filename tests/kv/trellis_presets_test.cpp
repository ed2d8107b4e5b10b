// SPDX-License-Identifier: Apache-2.0
#include <gosset/kv/presets.hpp>

#include "preset_bits.hpp"
#include "testing.hpp"

#include <cmath>
#include <utility>

namespace gosset::trellis_presets_test {
namespace {

using testing::bitsOfBlock;
using testing::bitsOfSide;
using testing::gaussian;

TEST(KvTrellisBits, StayWithinTheirBudgets) {
  EXPECT_LE(bitsOfBlock<KvTrellis2>(128, 1024), 2.0);
  EXPECT_LE(bitsOfBlock<KvTrellis25>(128, 1024), 2.5);
  EXPECT_LE(bitsOfBlock<KvTrellis3>(128, 1024), 3.0);
  EXPECT_LE(bitsOfBlock<KvTrellis4>(128, 1024), 4.0);
  EXPECT_LE(bitsOfBlock<KvTrellis25Heads64>(64, 1024), 2.5);
  EXPECT_LE(bitsOfBlock<KvTrellis3Heads64>(64, 1024), 3.0);
  EXPECT_LE(bitsOfBlock<KvTrellis4Heads64>(64, 1024), 4.0);
  EXPECT_LE(bitsOfBlock<KvTrellis25Heads32>(32, 1024), 2.5);
  EXPECT_LE(bitsOfBlock<KvTrellis35Heads32>(32, 1024), 3.502);
  EXPECT_LE(bitsOfBlock<KvTrellis45Heads32>(32, 1024), 4.502);
}

TEST(KvTrellisBits, FollowTheFormula) {
  const double n = 1024, seeds = 2 * 64;
  for (const Index head_dim : {64, 128, 256}) {
    const auto d = static_cast<double>(head_dim);
    EXPECT_NEAR(bitsOfBlock<KvTrellis3>(head_dim, 1024),
                (bitsOfSide(2.125, n, 4, d, n) + bitsOfSide(3.125, d, 4, d, n)) / 2 + seeds / (2 * 8 * n * d), 1e-9);
    EXPECT_NEAR(bitsOfBlock<KvTrellis4Heads64>(head_dim, 1024),
                (bitsOfSide(3, n, 4, d, n) + bitsOfSide(3.875, d, 2, d, n)) / 2 + seeds / (2 * 8 * n * d), 1e-9);
  }
}

RowMatrixXf tokens(Index count, Index width, std::uint64_t seed) {
  RowMatrixXf w = gaussian(count, 2, seed) * gaussian(2, width, seed + 1) + 0.3f * gaussian(count, width, seed + 2);
  w.col(width / 2).array() += 5.f;
  return w;
}

template <class Cache>
Cache filled(const KvShape& shape, Index count) {
  Cache cache(shape, {.window = 32, .longest_block = 96});
  cache.append(tokens(count, shape.kvWidth(), 1), tokens(count, shape.kvWidth(), 5));
  return cache;
}

template <class Formats>
class KvTrellisPresets : public ::testing::Test {};
using Presets = ::testing::Types<KvTrellis25, KvTrellis4Heads64, KvTrellis35Heads32>;
TYPED_TEST_SUITE(KvTrellisPresets, Presets);

/// Against attention over floats of what the cache says it holds.
TYPED_TEST(KvTrellisPresets, AttendToWhatTheyHold) {
  for (const Index d : {1, 7, 32, 65, 128}) {
    for (const Index count : {1, 33, 172}) {
      SCOPED_TRACE(::testing::Message() << "head_dim " << d << ", " << count << " tokens");
      const auto cache = filled<typename TypeParam::Cache>({4, 2, d}, count);
      KvCache<float> floats(cache.shape());
      floats.append(cache.keys(), cache.values());
      const RowMatrixXf q = gaussian(std::min<Index>(count, 3), 4 * d, 77), expected = floats.attend(q);
      EXPECT_LT((cache.attend(q) - expected).norm(), 2e-5f * (1 + expected.norm()));
    }
  }
}

TYPED_TEST(KvTrellisPresets, Constants) {
  for (const float c : {0.f, -2.5f, 1000.f}) {
    typename TypeParam::Cache cache({2, 2, 32}, {.window = 32});
    const RowMatrixXf w = RowMatrixXf::Constant(96, 64, c);
    cache.append(w, w);
    EXPECT_LT((cache.keys() - w).norm(), 0.01f * w.norm() + 1e-9f);
  }
}

template <class Formats>
std::pair<float, float> errors(Index head_dim) {
  const RowMatrixXf k = gaussian(512, head_dim, 3), v = gaussian(512, head_dim, 4);
  typename Formats::Cache cache({1, 1, head_dim}, {.window = 512});
  cache.append(k, v);
  return {(cache.keys() - k).norm() / k.norm(), (cache.values() - v).norm() / v.norm()};
}

/// Of Gaussian numbers, the root of the distortion of each rate's code.
TEST(KvTrellisErrors, AreThoseOfTheCodes) {
  const auto [k, v] = errors<KvTrellis25>(128);
  EXPECT_NEAR(k, std::sqrt(.0692), .02);
  EXPECT_NEAR(v, std::sqrt(.0496), .01);
  const auto [small_k, small_v] = errors<KvTrellis45Heads32>(32);
  EXPECT_NEAR(small_k, .09, .01);  // KIVI's 4 bits
  EXPECT_NEAR(small_v, std::sqrt(.0047), .01);
}

TEST(KvTrellisErrors, AreLessThanThoseOfE8) {
  const auto [k, v] = errors<KvTrellis4>(128);
  const auto [e8_k, e8_v] = errors<KvPreset4>(128);
  EXPECT_LT(k, .8f * e8_k);
  EXPECT_LT(v, .8f * e8_v);
}

}  // namespace
}  // namespace gosset::trellis_presets_test
