// SPDX-License-Identifier: Apache-2.0
#ifndef GOSSET_SET
#include <gosset/kernel/kernels.hpp>
#else

#include <array>
#include <cstdint>
#include <cstring>
#include <type_traits>
#include <utility>

// Tiles of the E8 codebooks. A tile holds 4 codes of 8 columns in each of 16 rows; plane by plane, byte k of lane r is
// one byte of code k of row r. Numbers come out as bytes: four times a point of E8P plus 16 (5 .. 27), twice a point of
// E81B plus 4 (0 .. 8).
//
// Where a table of 256 bytes fits in registers, all 64 codes of a plane are looked up at once, and columns come out
// transposed: column i + 8 k is bit i, or field i, of byte k. Elsewhere each code fetches its 8 bytes from a table in
// L1, and the signs of all are turned at once.
namespace gosset::GOSSET_ABI::GOSSET_SET {

namespace detail {

inline std::uint64_t eightBytes(const std::uint8_t* p) {
  std::uint64_t bytes;
  std::memcpy(&bytes, p, 8);
  return bytes;
}

/// Byte k of each lane's index tells its 8 bytes in a table: the first four to `first`, the others to `second`.
template <int k>
[[gnu::always_inline]] inline void eightsOf(const std::uint8_t (*table)[8], const std::uint8_t* index,
                                            simd::Bytes& first, simd::Bytes& second) {
  constexpr int kLanes = simd::kWordLanes;
  // Two lanes of each four here, the next two there, so that the halves come together within 16 bytes.
  const auto pairs = [&](int begin) __attribute__((always_inline)) {
    return (simd::Words)simd::generate<std::uint64_t, kLanes / 2>([&](int j) __attribute__((always_inline)) {
      return eightBytes(table[index[4 * (j / 2 * 4 + j % 2 + begin) + k]]);
    });
  };
  const simd::Words here = pairs(0), there = pairs(2);
  const auto halves = [&]<int... I>(int half, std::integer_sequence<int, I...>) __attribute__((always_inline)) {
    constexpr auto at = [](int i) { return i / 4 * 4 + i % 2 * 2 + (i % 4 / 2 != 0 ? kLanes : 0); };
    return (simd::Bytes)(half == 0 ? __builtin_shufflevector(here, there, at(I)...)
                                   : __builtin_shufflevector(here, there, (at(I) + 1)...));
  };
  first = halves(0, std::make_integer_sequence<int, kLanes>{});
  second = halves(1, std::make_integer_sequence<int, kLanes>{});
}

/// Byte k of each lane, in all four of its bytes.
template <int k>
[[gnu::always_inline]] inline simd::Bytes broadcastByte(simd::Bytes v) {
  using namespace simd;
  if constexpr (kHasByteShuffle) {
    return shuffle16(
        v, generate<std::uint8_t, kByteLanes>([](int i) { return static_cast<std::uint8_t>(i % 16 / 4 * 4 + k); }));
  } else {
    Words byte = ((Words)v >> (8 * k)) & 0xffu;
    byte |= byte << 8;
    return (Bytes)(byte | byte << 16);
  }
}

/// E8P from its two planes, of 64 bytes each. A template, as the next, to be compiled where it is called alone.
template <class Out>
[[gnu::always_inline]] inline void e8pTile(const std::uint8_t* low, Out& out) {
  const std::uint8_t* pattern = low + kBundleBytes;
#if defined(GOSSET_AVX512VBMI)
  using namespace simd;
  using SignedBytes = Vec<std::int8_t, kByteLanes>;
  const auto code = load<Bytes>(low), patterns = load<Bytes>(pattern);
  const auto fill = [&](unsigned byte) { return (Bytes)splat<Words>(byte * 0x01010101u); };
  const Bytes even = lookup256(kE8PTile.even, patterns), odd = lookup256(kE8PTile.odd, patterns);

  // A pattern has an odd number of 3/2's where the low bits of its fields have: 4 of them in each byte.
  const Bytes running = (code & std::uint8_t{0x7f}) ^ (code + code);
  const auto n = (Words)(running ^ highParity<0x55>(even ^ odd));
  const auto s = (Words)((SignedBytes)code < 0);

  const Words signs_even = select((Words)fill(0x55), n, s), signs_odd = select((Words)fill(0x55), n >> 1, s);
  const Words mask = (Words)fill(0x33);
  const auto finish = [&](Words u, Words signs, Bytes & o0, Bytes & o1, Bytes & o2, Bytes & o3)
      __attribute__((always_inline)) {
    const Words first = select(mask, u, signs << 2), second = select(mask, signs >> 2, u);
    o0 = lookup64(kE8PTile.low_u, (Bytes)first);
    o2 = lookup64(kE8PTile.low_u, (Bytes)(first >> 4));
    o1 = lookup64(kE8PTile.high_u, (Bytes)second);
    o3 = lookup64(kE8PTile.high_u, (Bytes)(second >> 4));
  };
  finish((Words)even, signs_even, out[0], out[2], out[4], out[6]);
  finish((Words)odd, signs_odd, out[1], out[3], out[5], out[7]);
#else
  using namespace simd;
  // The sign that the pattern decides is in its values already.
  const auto code = load<Bytes>(low);
  const Bytes running = (code & std::uint8_t{0x7f}) ^ (code + code);
  const Bytes shift = ((Bytes)((Words)code >> 6) & std::uint8_t{2}) - std::uint8_t{1};
  const auto bits = [&](int first) __attribute__((always_inline)) {
    return generate<std::uint8_t, kByteLanes>([=](int i) __attribute__((always_inline)) {
      return static_cast<std::uint8_t>(1 << (first + i % 4));
    });
  };
  unroll<4>([&](auto k) __attribute__((always_inline)) {
    const Bytes signs = broadcastByte<k>(running), shifts = broadcastByte<k>(shift);
    const auto turned = [&](Bytes values, Bytes bit) __attribute__((always_inline)) {
      return (values ^ ((Bytes)((signs & bit) == bit) & E8PTileTables::kTurn)) + shifts;
    };
    Bytes first, second;
    eightsOf<k>(kE8PTile.values, pattern, first, second);
    out[2 * k] = turned(first, bits(0));
    out[2 * k + 1] = turned(second, bits(4));
  });
#endif
}

/// E81B from its plane.
template <class Out>
[[gnu::always_inline]] inline void e81bTile(const std::uint8_t* plane, Out& out) {
#if defined(GOSSET_AVX512VBMI)
  using namespace simd;
  const auto code = load<Bytes>(plane);
  unroll<4>([&](auto q) __attribute__((always_inline)) {
    const Bytes pair = lookup256(kE81BTile.pairs[q], code);
    out[q] = pair & std::uint8_t{0x0f};
    out[q + 4] = (Bytes)((Words)pair >> 4) & std::uint8_t{0x0f};
  });
#else
  simd::unroll<4>([&](auto k) __attribute__((always_inline)) {
    eightsOf<k>(kE81BTile.values, plane, out[2 * k], out[2 * k + 1]);
  });
#endif
}

using E8Order = std::conditional_t<simd::kHasLookup256, ByEights, InOrder>;

}  // namespace detail

template <>
struct TileCode<E8P> {
  using Order = detail::E8Order;
  static constexpr int kTerms = 1;
  static constexpr TileTerm kTerm[kTerms] = {detail::kE8PTerm};
  static constexpr bool kExact = true;
  template <int, int>
  [[gnu::always_inline]] static void bytes(const std::uint8_t* tile, Tile& out) {
    detail::e8pTile(tile, out);
  }
  template <class Visit>
  [[gnu::always_inline]] static void levels(const std::uint8_t* tile, const Visit& visit) {
    levelsOfTerms<TileCode>(tile, visit);
  }
};

template <>
struct TileCode<E81B> {
  using Order = detail::E8Order;
  static constexpr int kTerms = 1;
  static constexpr TileTerm kTerm[kTerms] = {detail::kE81BTerm};
  static constexpr bool kExact = true;
  template <int, int>
  [[gnu::always_inline]] static void bytes(const std::uint8_t* tile, Tile& out) {
    detail::e81bTile(tile, out);
  }
  template <class Visit>
  [[gnu::always_inline]] static void levels(const std::uint8_t* tile, const Visit& visit) {
    levelsOfTerms<TileCode>(tile, visit);
  }
};

/// The second stage's planes come first, for its code takes the low bits.
template <class A, class B>
requires(TileCode<A>::kTerms == 1 && TileCode<B>::kTerms == 1 && A::kBits % 8 == 0 && B::kBits % 8 == 0 &&
         std::is_same_v<typename TileCode<A>::Order, typename TileCode<B>::Order>) struct TileCode<Residual<A, B> > {
  using Order = typename TileCode<A>::Order;
  static constexpr int kTerms = 2;
  static constexpr TileTerm kTerm[kTerms] = {
      TileCode<A>::kTerm[0],
      {TileCode<B>::kTerm[0].zero, TileCode<B>::kTerm[0].unit* Residual<A, B>::kStep, TileCode<B>::kTerm[0].small}};
  static constexpr bool kExact = TileCode<A>::kExact && TileCode<B>::kExact;  // but for the rounding of the step
  template <int term, int slice>
  [[gnu::always_inline]] static void bytes(const std::uint8_t* tile, Tile& out) {
    if constexpr (term == 0) {
      TileCode<A>::template bytes<0, slice>(tile + detail::TileLayout<B>::kTileBytes, out);
    } else {
      TileCode<B>::template bytes<0, slice>(tile, out);
    }
  }
  template <class Visit>
  [[gnu::always_inline]] static void levels(const std::uint8_t* tile, const Visit& visit) {
    levelsOfTerms<TileCode>(tile, visit);
  }
};

}  // namespace gosset::GOSSET_ABI::GOSSET_SET

#endif
