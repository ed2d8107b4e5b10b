// SPDX-License-Identifier: Apache-2.0
#ifndef GOSSET_SET
#include <gosset/kernel/kernels.hpp>
#else

#include <array>
#include <cstdint>

// Tiles of Trits5: 32 codes of five digits to the base 3, 160 columns in five slices, one for each digit. The numbers
// of a slice are 5 columns apart, so that no digit has to change its place: register i has digit d of codes 4 i .. 4 i
// + 3.
//
// The remainder r mod 3^d of an r below 3^(d+1) is the least of r, r - 3^d and r - 2 3^d as unsigned bytes, for what is
// negative wraps around to more than r. The highest digit comes first and leaves its remainder to the next.
namespace gosset::GOSSET_ABI::GOSSET_SET {

namespace detail {

/// The remainder by 3^d of bytes below 3^(d+1), or a little above.
template <int d>
[[gnu::always_inline]] inline simd::Bytes tritRemainder(simd::Bytes r) {
  return simd::smaller(r, simd::smaller(r - powerOf3(d), r - static_cast<std::uint8_t>(2 * powerOf3(d))));
}

/// What is left of codes when the digits above d have been taken off.
template <int d>
[[gnu::always_inline]] inline simd::Bytes tritRest(simd::Bytes code) {
  if constexpr (d == 4) {
    return code;
  } else {
    return tritRemainder<d + 1>(tritRest<d + 1>(code));
  }
}

/// Digit d of codes.
template <int d>
[[gnu::always_inline]] inline simd::Bytes trit(simd::Bytes code) {
  if constexpr (d < 4 && simd::kHasLookup256) {
    return simd::lookup128(kTritTables.digits[d], tritRest<3>(code));
  } else {
    const simd::Bytes rest = tritRest<d>(code);
    if constexpr (d == 0) return simd::smaller(rest, simd::Bytes{} + std::uint8_t{2});
    // Digit times 3^d, of which the two lowest bits are the digit's, or minus the digit's: 3^d = (-1)^d mod 4.
    const simd::Bytes lower = tritRemainder<d>(rest);
    return (d % 2 == 0 ? rest - lower : lower - rest) & std::uint8_t{3};
  }
}

}  // namespace detail

template <>
struct TileCode<Trits5> {
  using Order = LastNumberFirst<5>;
  static constexpr int kTerms = 1;
  static constexpr TileTerm kTerm[kTerms] = {{1, 1.f, true}};
  static constexpr bool kExact = true;

  template <int, int slice>
  [[gnu::always_inline]] static void bytes(const std::uint8_t* tile, Tile& out) {
    simd::unroll<8>([&](int i) __attribute__((always_inline)) { out[i] = digits<slice>(tile, i); });
  }
  template <class Visit>
  [[gnu::always_inline]] static void levels(const std::uint8_t* tile, const Visit& visit) {
    simd::unroll<5 * 8>([&](auto at) __attribute__((always_inline)) {
      constexpr int kSlice = at % 5, kRegister = at / 5;
      const auto four = (simd::Words)digits<kSlice>(tile, kRegister);
      simd::unroll<4>([&](int k) __attribute__((always_inline)) {
        visit(Order::column(kSlice, kRegister, k), levelOfByte(four >> (8 * k)));
      });
    });
  }
  template <int slice, class Visit>
  [[gnu::always_inline]] static void columns(const std::uint8_t* tile, Index i, const Visit& visit) {
    const auto four = (simd::Words)digits<slice>(tile, i);
    simd::unroll<4>([&](auto k) __attribute__((always_inline)) { visit(k, levelOfByte(four >> (8 * k))); });
  }

 private:
  /// The digits of a slice, in register i.
  template <int slice>
  [[gnu::always_inline]] static simd::Bytes digits(const std::uint8_t* tile, Index i) {
    return detail::trit<4 - slice>(simd::load<simd::Bytes>(tile + detail::kBundleBytes * i));
  }
  /// The level of the lowest byte of each lane; AVX-512 looks it up by the low 4 bits, without a mask and a conversion.
  [[gnu::always_inline]] static simd::Floats levelOfByte(simd::Words shifted) {
    if constexpr (simd::kByteLanes == 64) return simd::lookup16(kLevels.data(), shifted);
    return simd::toFloats((simd::Ints)(shifted & 0xffu)) - 1.f;
  }
  static constexpr std::array<float, 16> kLevels = {-1, 0, 1};
};

}  // namespace gosset::GOSSET_ABI::GOSSET_SET

#endif
