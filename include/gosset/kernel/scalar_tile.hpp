// SPDX-License-Identifier: Apache-2.0
#ifndef GOSSET_SET
#include <gosset/kernel/kernels.hpp>
#else

#include <algorithm>
#include <array>
#include <bit>
#include <cstdint>
#include <type_traits>

// Tiles of scalar codebooks: of uniform ones the code is the byte; of others up to 16 levels are looked up in a
// register.
namespace gosset::GOSSET_ABI::GOSSET_SET {

template <detail::LevelsInBytes C>
struct TileCode<C> {
  using L = detail::ByteLevels<C>;
  using Order = InOrder;
  static constexpr int kTerms = 1;
  static constexpr TileTerm kTerm[kTerms] = {{L::kZero, 1 / L::kUnits, L::kLargest < 128}};
  static constexpr bool kExact = L::kExact;

  template <int, int>
  [[gnu::always_inline]] static void bytes(const std::uint8_t* tile, Tile& out) {
    tileCodes<C>(tile, out);
    if constexpr (!L::kUniform) {
      simd::unroll<8>([&](int i) __attribute__((always_inline)) {
        out[i] = simd::kHasByteShuffle ? simd::lookup16(L::kTable.data(), out[i])
                                       : simd::polynomialOfBits<std::min(4, C::kBits)>(L::kPolynomial.data(), out[i]);
      });
    }
  }

  template <class Visit>
  [[gnu::always_inline]] static void levels(const std::uint8_t* tile, const Visit& visit) {
    Tile codes;
    tileCodes<C>(tile, codes);
    simd::unroll<8>([&](int i) __attribute__((always_inline)) {
      simd::unroll<4>([&](int k) __attribute__((always_inline)) {
        visit(4 * i + k, levelOfByte((simd::Words)codes[i] >> (8 * k), k == 3));
      });
    });
  }

  template <int, class Visit>
  [[gnu::always_inline]] static void columns(const std::uint8_t* tile, Index i, const Visit& visit) {
    using simd::Words;
    using Tiles = detail::TileLayout<C>;
    if constexpr (kLookUp && Tiles::kPlanes == 1 && simd::kByteLanes == 64) {
      constexpr int kFields = 8 / C::kBits;
      const auto fields = simd::load<Words>(tile + detail::kBundleBytes * (i / kFields));
      const auto down = static_cast<std::uint32_t>(i % kFields * C::kBits);
      simd::unroll<4>([&](auto k) __attribute__((always_inline)) {  // what stands above the code picks a copy of it
        visit(k, simd::lookup16(kWrapped.data(), fields >> (down + 8 * k)));
      });
    } else {
      Words codes{};
      simd::unroll<Tiles::kPlanes>([&](auto p) __attribute__((always_inline)) {
        constexpr detail::Plane kPlane = Tiles::kPlane[p];
        constexpr int kFields = 8 / kPlane.bits;
        constexpr std::uint32_t kMask = ((1u << kPlane.bits) - 1) * 0x01010101u;
        const auto fields = simd::load<Words>(tile + detail::kBundleBytes * (kPlane.shift + i / kFields));
        const auto down = static_cast<std::uint32_t>(i % kFields * kPlane.bits);
        codes |= ((fields >> down) & kMask) << kPlane.shift;
      });
      simd::unroll<4>([&](auto k) __attribute__((always_inline)) { visit(k, levelOfByte(codes >> (8 * k), k == 3)); });
    }
  }

 private:
  /// The level of the lowest byte of each lane; clean: the bytes above it are zero.
  [[gnu::always_inline]] static simd::Floats levelOfByte(simd::Words shifted, bool clean) {
    if constexpr (kLookUp) {
      return simd::lookup16(kLevels.data(), simd::kByteLanes == 64 ? shifted : shifted & 0xffu);
    } else {
      // With these bits above it the byte is 2^23 + byte, a float: faster than a conversion, and as exact.
      constexpr float kShift = 0x1p23f;
      const simd::Words byte = clean ? shifted : shifted & 0xffu;
      return (simd::Floats)(byte | std::bit_cast<std::uint32_t>(kShift)) - (kShift + static_cast<float>(L::kZero));
    }
  }

  /// A look-up by the low 4 bits of a lane spares AVX-512 the mask and the conversion.
  static constexpr bool kLookUp = !L::kUniform || (C::kLevels <= 16 && simd::kByteLanes == 64);
  static constexpr std::array<float, 16> kLevels = [] {
    std::array<float, 16> levels{};
    for (int q = 0; q < std::min(16, C::kLevels); ++q) levels[static_cast<std::size_t>(q)] = L::levelOf(q);
    return levels;
  }();
  /// For indices whose bits above the code's are set too.
  static constexpr std::array<float, 16> kWrapped = [] {
    std::array<float, 16> levels{};
    for (std::size_t i = 0; i < 16; ++i) levels[i] = kLevels[i % (std::size_t{1} << std::min(C::kBits, 4))];
    return levels;
  }();
};

}  // namespace gosset::GOSSET_ABI::GOSSET_SET

#endif
