// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <gosset/core/abi.hpp>

#include <array>
#include <cmath>
#include <concepts>
#include <cstddef>

namespace gosset::GOSSET_ABI {

/// E8, Gosset's lattice: the eight coordinates all integers or all halves of odd integers, their sum even; that is D8
/// and D8 + (1/2, .., 1/2) together. Its cells have volume 1.
struct E8 {
  static constexpr int kDim = 8;

  /// Mean squared error a coordinate of a point spread evenly over a cell of volume 1 (Conway and Sloane, Sphere
  /// Packings, Lattices and Groups, chapter 21); of the integers it is 1/12.
  static constexpr double kSecondMoment = 929. / 12960.;

  /// y: the lattice point nearest to x; both 8 numbers, they may be the same. Exact for |x_i| <= 2^22 (float; 2^51
  /// double), but for the rounding of a sum of eight distances in double.
  ///
  /// Ties: a coordinate between two integers goes to the even one. Where the sum is then odd, the coordinate farthest
  /// from its integer turns to its other neighbour, the first of several; from an integer it goes up. In D8 + 1/2 the
  /// coordinate nearest to its integer turns, the first of several. Between an integer and a half point the integer
  /// point wins.
  ///
  /// Conway and Sloane, Fast quantizing and decoding algorithms for lattice quantizers and codes, IEEE Trans. IT 1982,
  /// section 4, with both distances taken from the rounding errors e_i = x_i - round(x_i): the nearest half of an odd
  /// integer is at distance 1/2 - |e_i|, so D8 + 1/2 is farther than D8 by
  ///   sum_i ((1/2 - |e_i|)^2 - e_i^2)  =  2 - sum_i |e_i|,
  /// and turning a coordinate at distance d costs (1 - d)^2 - d^2 = 1 - 2 d.
  template <std::floating_point T>
  static void nearest(const T* x, T* y) {
    std::array<T, 8> whole, error;
    T sum = 0, half_sum = 0;
    double farther = 2;
    std::size_t far = 0, near = 0;
    for (std::size_t i = 0; i < 8; ++i) {
      whole[i] = std::nearbyint(x[i]);
      error[i] = x[i] - whole[i];
      sum += whole[i];
      half_sum += error[i] >= 0 ? whole[i] : whole[i] - 1;
      farther -= static_cast<double>(std::abs(error[i]));
      if (std::abs(error[i]) > std::abs(error[far])) far = i;
      if (std::abs(error[i]) < std::abs(error[near])) near = i;
    }
    const bool turn_whole = isOdd(sum), turn_half = isOdd(half_sum);
    if (turn_half) farther += 2 * static_cast<double>(std::abs(error[near]));
    if (turn_whole) farther -= 1 - 2 * static_cast<double>(std::abs(error[far]));
    const bool half = farther < 0;
    for (std::size_t i = 0; i < 8; ++i) {
      const T up = error[i] >= 0 ? T(1) : T(-1);  // towards x_i
      if (half) {
        y[i] = whole[i] + (turn_half && i == near ? -up : up) / 2;
      } else {
        y[i] = turn_whole && i == far ? whole[i] + up : whole[i];
      }
    }
  }

  /// Whether x (8 numbers) is a lattice point.
  template <std::floating_point T>
  static bool contains(const T* x) {
    const T fraction = x[0] - std::floor(x[0]);
    if (fraction != 0 && fraction != T(0.5)) return false;
    T sum = 0;
    for (std::size_t i = 0; i < 8; ++i) {
      if (x[i] - std::floor(x[i]) != fraction) return false;
      sum += x[i];
    }
    return !isOdd(sum);
  }

  /// The 240 vectors of norm |v|^2 = 2 (the roots, shortest but zero), times 2 so that all are integers. First the 128
  /// of
  /// +-1/2 everywhere, by the mask of minus signs at places 0 .. 6, then the 112 of +-1 at places i < j: ++, -+, +-,
  /// --.
  static constexpr std::array<std::array<signed char, 8>, 240> twiceMinimalVectors() {
    std::array<std::array<signed char, 8>, 240> v{};
    for (std::size_t signs = 0; signs < 128; ++signs) {
      bool odd = false;
      for (std::size_t i = 0; i < 7; ++i) {
        const bool minus = ((signs >> i) & 1) != 0;
        odd = odd != minus;
        v[signs][i] = minus ? -1 : 1;
      }
      v[signs][7] = odd ? -1 : 1;
    }
    std::size_t n = 128;
    for (std::size_t i = 0; i < 8; ++i) {
      for (std::size_t j = i + 1; j < 8; ++j) {
        for (unsigned signs = 0; signs < 4; ++signs, ++n) {
          v[n][i] = (signs & 1) != 0 ? -2 : 2;
          v[n][j] = (signs & 2) != 0 ? -2 : 2;
        }
      }
    }
    return v;
  }

 private:
  template <class T>
  static bool isOdd(T sum) {
    const T half = sum / 2;
    return half != std::floor(half);
  }
};

}  // namespace gosset::GOSSET_ABI
