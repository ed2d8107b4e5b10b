// SPDX-License-Identifier: Apache-2.0
// A codebook of your own with a kernel of its own. Any codebook multiplies; where gosset cannot see how codes become
// bytes, it decodes blocks of rows first. TileCode says how, in registers, and products then work on the packed codes.
#include "data.hpp"

#include <gosset/gosset.hpp>
#include <gosset/kernel/tile_code.hpp>

#include <array>
#include <cmath>
#include <cstdio>

/// 16 levels +-g^-k, k = 0 .. 7, g = sqrt(2). They are computed when the program starts, so no compiler knows them, and
/// they are not uniform.
struct Logarithmic {
  using Code = std::uint8_t;
  static constexpr int kDim = 1;
  static constexpr int kBits = 4;
  static constexpr int kLevels = 16;
  static constexpr bool kHasZero = false;
  static constexpr gosset::ScaleRule kRule = gosset::ScaleRule::kAbsMax;

  /// -1, -1/sqrt(2), -1/2 .. and back up to 1.
  static inline const std::array<float, 16> levels = [] {
    std::array<float, 16> all{};
    for (std::size_t q = 0; q < 8; ++q) {
      all[15 - q] = std::exp2(-0.5f * static_cast<float>(q));
      all[q] = -all[15 - q];
    }
    return all;
  }();
  static float level(Code q) { return levels[q]; }
  static Code encode(float x) {
    Code nearest = 0;
    for (Code q = 1; q < kLevels; ++q) {
      if (std::abs(x - level(q)) < std::abs(x - level(nearest))) nearest = q;
    }
    return nearest;
  }
  static std::string name() { return "Logarithmic"; }
};
static_assert(gosset::ScalarCodebook<Logarithmic>);

/// The kernel: level = (byte - 127) / 127, rounded to whole bytes; levels() gives the exact ones to products with
/// floats.
template <>
struct gosset::TileCode<Logarithmic> {
  using Order = InOrder;
  static constexpr int kTerms = 1;
  static constexpr TileTerm kTerm[] = {{127, 1 / 127.f, false}};
  static constexpr bool kExact = false;

  static inline const std::array<std::uint8_t, 16> table = [] {
    std::array<std::uint8_t, 16> all{};
    for (std::size_t q = 0; q < 16; ++q) {
      all[q] = static_cast<std::uint8_t>(std::lround(127 + 127 * Logarithmic::levels[q]));
    }
    return all;
  }();
  template <int, int>
  static void bytes(const std::uint8_t* tile, Tile& out) {
    tileCodes<Logarithmic>(tile, out);  // undoes the layout: a code in each byte
    for (simd::Bytes& codes : out) codes = simd::lookup16(table.data(), codes);
  }
  template <class Visit>
  static void levels(const std::uint8_t* tile, const Visit& visit) {
    Tile codes;
    tileCodes<Logarithmic>(tile, codes);
    for (int i = 0; i < 8; ++i) {
      for (int k = 0; k < 4; ++k) {
        const simd::Words code = ((simd::Words)codes[i] >> (8 * k)) & 0xffu;
        visit(Order::column(0, i, k), simd::lookup16(Logarithmic::levels.data(), code));
      }
    }
  }
};

int main() {
  using Format = gosset::Grouped<Logarithmic, 64>;
  std::printf("kernel: %s; for groups of 64: %s, of 20: %s\n", gosset::hasKernel<Logarithmic>() ? "yes" : "no",
              gosset::hasKernel<Logarithmic>(64) ? "yes" : "no", gosset::hasKernel<Logarithmic>(20) ? "yes" : "no");

  auto q = gosset::quantize<Format>(example::gaussian(64, 192, 1));
  const Eigen::MatrixXf x = example::activations(5, 192, 2).transpose(), exact = q.dequantized() * x;
  const auto off = [&] { return 100 * (q * x - exact).norm() / exact.norm(); };
  std::printf("activations rounded: off by less than 1%%: %s\n", off() < 1 ? "yes" : "no");
  q.setActivations(gosset::Activations::kFloat);
  std::printf("activations as they are: off by less than 0.001%%: %s\n", off() < 0.001 ? "yes" : "no");
}

/* Prints:
kernel: yes; for groups of 64: yes, of 20: no
activations rounded: off by less than 1%: yes
activations as they are: off by less than 0.001%: yes
*/
