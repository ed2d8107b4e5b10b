// SPDX-License-Identifier: Apache-2.0
#include <gosset/codebook.hpp>
#include <gosset/kv.hpp>

#include "same_bits.hpp"

#include <string_view>

namespace gosset::same_bits_test {
namespace {

using testing::hashOf;
using testing::OnEverySet;
using testing::SameBits;
using testing::SameOn;

template <class Cache>
std::uint64_t storedHash(const Cache& cache) {
  std::string bytes;
  cache.visitFields([&](std::string_view, auto array) {
    bytes.append(reinterpret_cast<const char*>(array.data()), array.size_bytes());
  });
  return testing::hashBytes(bytes.data(), bytes.size());
}

/// What a cache stores and holds, and attention over it by few queries and by many.
template <class Cache>
void checkCache(SameBits& bits, const std::string& name, SameOn few) {
  Cache cache(KvShape{4, 2, 32}, {.window = 64});
  const RowMatrixXf keys = testing::sameActivations(300, 64, 1), values = testing::sameNumbers(300, 64, 2);
  cache.append(keys.topRows(200), values.topRows(200));
  for (Index i = 200; i < 300; ++i) cache.append(keys.row(i), values.row(i));
  bits.check(name + " stored", storedHash(cache));
  bits.check(name + " values", hashOf(cache.values()));
  const RowMatrixXf queries = testing::sameNumbers(20, 128, 3);
  const AttendOptions options{.sliding_window = 250};
  bits.check(name + " attend", hashOf(cache.attend(queries.row(0))), few);
  bits.check(name + " attend many", hashOf(cache.attend(queries, options, Alibi(4))));
  if (name == "half") bits.check("half attend 18 columns", hashOf(cache.attend(queries.topRows(9))));
}

TEST_P(OnEverySet, OfCaches) {
  SameBits bits({
      {"kivi stored", 0x6f1178fb26aa8a7bu},
      {"kivi values", 0x8200e9156d363f5fu},
      {"kivi attend", 0x109e1dda9fc9b735u},
      {"kivi attend many", 0x0cc44b9614d28f91u},
      {"rotated stored", 0xff54b396ea7a59d1u},
      {"rotated values", 0xc95706cbe454a108u},
      {"rotated attend", 0xdf2f36a5e380ec0du},
      {"rotated attend many", 0xb1cbd680b316fb62u},
      {"gear stored", 0x83faadf39a03543au},
      {"gear values", 0xbce73e2d1cd857a0u},
      {"gear attend", 0x6d581b38b5a478a7u},
      {"gear attend many", 0x71e51eb11572c7d3u},
      {"preset stored", 0xec7f27d48dd0b5e3u},
      {"preset values", 0x7c85b12651b6e5f3u},
      {"preset attend", 0x302d0f949431c580u},
      {"preset attend many", 0x6bb4b206692494a5u},
      {"half stored", 0x67be2f3b90201cd3u},
      {"half values", 0x88e3de27b309b1aau},
      {"half attend", 0xef448d67b5a719b8u},
      {"half attend many", 0xdf40c35fc473c340u},
      {"half attend 18 columns", 0x0b80f3b92b380415u},
  });
  checkCache<KvCache<Kivi<4, 32>, Kivi<2, 32>>>(bits, "kivi", SameOn::kDot);
  checkCache<KvCache<Incoherent<Kivi<4, 32>>>>(bits, "rotated", SameOn::kDot);
  checkCache<KvCache<Gear<2, 32, 4, 20>>>(bits, "gear", SameOn::kDot);
  checkCache<KvCache<KvRotated<E8P, 3>>>(bits, "preset", SameOn::kDot);
  checkCache<KvCache<Float16>>(bits, "half", SameOn::kFma);
  bits.finish();
}

/// Blocks of a prompt, tokens one by one, of which some were merged and some wait to be, and the window. Two seeds give
/// what is written down, and not the same codes; nor do fewer iterations.
template <class Cache>
void checkSeeds(SameBits& bits, const std::string& name) {
  const RowMatrixXf keys = testing::sameActivations(210, 64, 1), values = testing::sameNumbers(210, 64, 2);
  const auto check = [&](const std::string& which, const QuantizeOptions& options) {
    Cache cache(KvShape{4, 2, 32}, {.window = 16, .longest_block = 48, .merge = true, .quantize = options});
    cache.append(keys.topRows(130), values.topRows(130));
    for (Index i = 130; i < 210; ++i) cache.append(keys.row(i), values.row(i));
    const std::uint64_t hash = storedHash(cache);
    bits.check(name + which + " stored", hash);
    bits.check(name + which + " keys", hashOf(cache.keys()));
    bits.check(name + which + " values", hashOf(cache.values()));
    return hash;
  };
  const std::uint64_t first = check(", seed 5", {.seed = 5});
  EXPECT_NE(first, check(", seed 6", {.seed = 6})) << name;
  if (name == "rotated") return;
  EXPECT_NE(first, check(", 1 iteration", {.seed = 5, .low_rank_iterations = 1})) << name;
}

TEST_P(OnEverySet, OfCachesBySeed) {
  SameBits bits({
      {"rotated, seed 5 stored", 0xf415f4aa18313e3cu},   {"rotated, seed 5 keys", 0x70f0ce74ab92092bu},
      {"rotated, seed 5 values", 0xeb280b7aa1e73b88u},   {"rotated, seed 6 stored", 0x0e81cec461511171u},
      {"rotated, seed 6 keys", 0x5401f6d5688fe2dcu},     {"rotated, seed 6 values", 0x47571fe7d52d8eadu},
      {"gear, seed 5 stored", 0xf49e283649487dbcu},      {"gear, seed 5 keys", 0x91490171027f957cu},
      {"gear, seed 5 values", 0x9b0798e58b5df75cu},      {"gear, seed 6 stored", 0x0d89c6ea0fd54a4eu},
      {"gear, seed 6 keys", 0x6416b9a3ca80c85eu},        {"gear, seed 6 values", 0xbf3cb24b3d9d3cfau},
      {"gear, 1 iteration stored", 0x7c3233d06fc81077u}, {"gear, 1 iteration keys", 0xf1f584a024b65cf2u},
      {"gear, 1 iteration values", 0x658c80ab03afbb47u}, {"preset, seed 5 stored", 0x469a1f395855f9b4u},
      {"preset, seed 5 keys", 0x4b41f96fb83ffd39u},      {"preset, seed 5 values", 0xc9a4d8191f1d5c73u},
      {"preset, seed 6 stored", 0xd574e3a7445274f8u},    {"preset, seed 6 keys", 0x5d3585b451a1caa5u},
      {"preset, seed 6 values", 0xccca42b8ad0ca548u},    {"preset, 1 iteration stored", 0xff1d1dab291f6828u},
      {"preset, 1 iteration keys", 0x96acf24bbe9d43bbu}, {"preset, 1 iteration values", 0xb32143dc7be080d9u},
  });
  checkSeeds<KvCache<Incoherent<Kivi<4, 32>>>>(bits, "rotated");
  checkSeeds<KvCache<Gear<2, 32, 4, 20>>>(bits, "gear");
  checkSeeds<KvCache<KvRotated<E8P, 3>>>(bits, "preset");
  bits.finish();
}

INSTANTIATE_TEST_SUITE_P(SameBits, OnEverySet, ::testing::ValuesIn(instructionSets()), testing::nameOfSet);

}  // namespace
}  // namespace gosset::same_bits_test
