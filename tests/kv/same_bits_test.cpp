// SPDX-License-Identifier: Apache-2.0
#include <gosset/codebook.hpp>
#include <gosset/kv.hpp>

#include "same_bits.hpp"

#include <string_view>

namespace gosset::same_bits_test {
namespace {

using testing::hashOf;
using testing::SameBits;
using testing::SameOn;

/// What a cache stores and holds, and attention over it by few queries and by many.
template <class Cache>
void checkCache(SameBits& bits, const std::string& name, SameOn few) {
  Cache cache(KvShape{4, 2, 32}, {.window = 64});
  const RowMatrixXf keys = testing::sameActivations(300, 64, 1), values = testing::sameNumbers(300, 64, 2);
  cache.append(keys.topRows(200), values.topRows(200));
  for (Index i = 200; i < 300; ++i) cache.append(keys.row(i), values.row(i));
  std::string bytes;
  cache.visitFields([&](std::string_view, auto array) {
    bytes.append(reinterpret_cast<const char*>(array.data()), array.size_bytes());
  });
  bits.check(name + " stored", testing::hashBytes(bytes.data(), bytes.size()));
  bits.check(name + " values", hashOf(cache.values()));
  const RowMatrixXf queries = testing::sameNumbers(20, 128, 3);
  const AttendOptions options{.sliding_window = 250};
  bits.check(name + " attend", hashOf(cache.attend(queries.row(0))), few);
  bits.check(name + " attend many", hashOf(cache.attend(queries, options, Alibi(4))));
}

TEST(SameBits, OfCaches) {
  SameBits bits({
      {"kivi stored", 0x6f1178fb26aa8a7bu},    {"kivi values", 0x8200e9156d363f5fu},
      {"kivi attend", 0x109e1dda9fc9b735u},    {"kivi attend many", 0x0cc44b9614d28f91u},
      {"rotated stored", 0xff54b396ea7a59d1u}, {"rotated values", 0xc95706cbe454a108u},
      {"rotated attend", 0xdf2f36a5e380ec0du}, {"rotated attend many", 0xb1cbd680b316fb62u},
      {"gear stored", 0x83faadf39a03543au},    {"gear values", 0xbce73e2d1cd857a0u},
      {"gear attend", 0xa1420cba14ecc1e5u},    {"gear attend many", 0x31a6d25f246b9ab0u},
      {"preset stored", 0xec7f27d48dd0b5e3u},  {"preset values", 0x7c85b12651b6e5f3u},
      {"preset attend", 0x302d0f949431c580u},  {"preset attend many", 0x6bb4b206692494a5u},
      {"half stored", 0x67be2f3b90201cd3u},    {"half values", 0x88e3de27b309b1aau},
      {"half attend", 0xef448d67b5a719b8u},    {"half attend many", 0xdf40c35fc473c340u},
  });
  checkCache<KvCache<Kivi<4, 32>, Kivi<2, 32>>>(bits, "kivi", SameOn::kDot);
  checkCache<KvCache<Incoherent<Kivi<4, 32>>>>(bits, "rotated", SameOn::kDot);
  checkCache<KvCache<Gear<2, 32, 4, 20>>>(bits, "gear", SameOn::kDot);
  checkCache<KvCache<KvRotated<E8P, 3>>>(bits, "preset", SameOn::kDot);
  checkCache<KvCache<Float16>>(bits, "half", SameOn::kFma);
  bits.finish();
}

}  // namespace
}  // namespace gosset::same_bits_test
