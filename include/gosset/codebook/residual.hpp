// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <gosset/codebook/concepts.hpp>
#include <gosset/core/simd.hpp>
#include <gosset/core/types.hpp>

#include <algorithm>
#include <array>
#include <bit>
#include <concepts>
#include <cstdint>
#include <string>
#include <type_traits>

namespace gosset::GOSSET_ABI {

/// What a pair of stages needs to know; specialize it to give Residual<A, B> its constants:
///   kStep           the size of B's points in units of A's. A multiple of 2^-10, so that the points are exact floats
///   kProbe          how far the joint search looks around x for first stages, in units of A's points; 0: nowhere
///   kGaussianScale  as in CodebookBase
///   name()          as in CodebookBase
template <class A, class B>
struct ResidualFit;

namespace detail {

template <class C>
void encodeAll(const float* x, Index count, typename C::Code* codes) {
  if constexpr (requires { C::encodeBlocks(x, count, codes); }) {
    C::encodeBlocks(x, count, codes);
  } else {
    for (Index b = 0; b < count; ++b) codes[b] = C::encode(x + b * C::kDim);
  }
}

}  // namespace detail

/// Two codebooks, one for what the other leaves over: point = A's point + kStep * B's point.
///
///   bit   A::kBits + B::kBits - 1 .. B::kBits | B::kBits - 1 .. 0
///         code of A                           | code of B
///
/// bits a number = (A::kBits + B::kBits) / kDim.
///
/// The nearest point of A is often not the first half of the nearest sum, least of all where B's points do not cover
/// all that A leaves over. So the search tries 1 + 2 kDim first stages: the nearest points to x and to x +- kProbe h /
/// sqrt(d) for kDim sign vectors h, the rows of a Hadamard matrix where kDim is a power of two; each with the nearest
/// second stage. It keeps the pair nearest to x, the first tried of several. It finds most of what a search over all
/// sums would (e8p_rvq.hpp has figures), and is not exact.
template <VectorCodebook A, VectorCodebook B, class Fit = ResidualFit<A, B>>
struct Residual {
  static_assert(A::kDim == B::kDim, "the stages of a Residual must stand for equally many numbers");
  static_assert(A::kBits + B::kBits <= 32, "a code of a Residual must fit 32 bits");
  static_assert(Fit::kStep > 0 && Fit::kStep * 1024 == static_cast<float>(static_cast<int>(Fit::kStep * 1024)),
                "kStep must be a positive multiple of 2^-10");

  using First = A;
  using Second = B;
  using Code = std::uint32_t;
  static constexpr int kDim = A::kDim;
  static constexpr int kBits = A::kBits + B::kBits;
  static constexpr ScaleRule kRule = ScaleRule::kRootMeanSquare;
  static constexpr float kGaussianScale = Fit::kGaussianScale;
  static constexpr float kStep = Fit::kStep;

  static std::string name() { return Fit::name(); }

  static typename A::Code first(Code code) { return static_cast<typename A::Code>(code >> B::kBits); }
  static typename B::Code second(Code code) {
    return static_cast<typename B::Code>(code & ((Code(1) << B::kBits) - 1));
  }

  static Code encode(const float* x) {
    Code code;
    encodeBlocks(x, 1, &code);
    return code;
  }

  static void decode(Code code, float* y) {
    float fine[kDim];
    A::decode(first(code), y);
    B::decode(second(code), fine);
    for (int i = 0; i < kDim; ++i) y[i] += kStep * fine[i];
  }

  /// x: count blocks of kDim numbers.
  static void encodeBlocks(const float* x, Index count, Code* codes) {
    for (Index b = 0; b < count; b += kTogether) {
      encodeSome(x + b * kDim, static_cast<int>(std::min<Index>(kTogether, count - b)), codes + b);
    }
  }

  static void decodeBlocks(const Code* codes, Index count, float* y) {
    for (Index b = 0; b < count; ++b) decode(codes[b], y + b * kDim);
  }

 private:
  static constexpr int kTries = Fit::kProbe > 0 ? 1 + 2 * kDim : 1;
  static constexpr int kTogether = 16;  // blocks searched at once, to fill vectors
  // Of all tries but the first; what vectors of so many lanes may read behind the last.
  static constexpr int kOtherLanes = static_cast<int>(std::bit_ceil(static_cast<unsigned>(2 * kDim)));
  static constexpr int kMore = 1 + kOtherLanes - kTries;

  /// The offsets from x of the points whose nearest A's are tried.
  static constexpr std::array<float, kTries * kDim> probes() {
    std::array<float, kTries * kDim> offsets{};
    float root = 1;  // sqrt(kDim) by Newton's method, for there is no constexpr square root
    for (int i = 0; i < 20; ++i) root = 0.5f * (root + static_cast<float>(kDim) / root);
    for (int t = 1; t < kTries; ++t) {
      for (int i = 0; i < kDim; ++i) {
        const bool minus =
            std::popcount(static_cast<unsigned>((t - 1) / 2) & static_cast<unsigned>(i)) % 2 != (t - 1) % 2;
        offsets[static_cast<std::size_t>(t * kDim + i)] = (minus ? -Fit::kProbe : Fit::kProbe) / root;
      }
    }
    return offsets;
  }

  /// Candidates for a few blocks; a block's different first stages stand side by side.
  struct Candidates {
    float around[kTogether * kTries * kDim];  // points whose nearest first stages are tried
    typename A::Code nearest[kTogether * kTries + kMore];
    int count = 0;
    int block[kTogether * kTries];
    typename A::Code coarse[kTogether * kTries];
    typename B::Code fine[kTogether * kTries];
    float rest[kTogether * kTries * kDim];  // what the first stage leaves over, in units of B's points
  };

  static void encodeSome(const float* x, int blocks, Code* codes) {
    Candidates c;
    chooseFirst(x, blocks, c);
    detail::encodeAll<B>(c.rest, c.count, c.fine);
    double least = 0;
    for (int k = 0; k < c.count; ++k) {  // without branches, for nothing foretells them
      const int b = c.block[k];
      const double error = squaredError(c, k);
      const bool nearer = k == 0 || c.block[k - 1] != b || error < least;
      const Code code = (static_cast<Code>(c.coarse[k]) << B::kBits) | c.fine[k];
      least = nearer ? error : least;
      codes[b] = nearer ? code : codes[b];
    }
  }

  static void chooseFirst(const float* x, int blocks, Candidates& c) {
    static constexpr std::array<float, kTries* kDim> kProbes = probes();
    for (int b = 0; b < blocks; ++b) {
      for (int t = 0; t < kTries * kDim; ++t) {
        c.around[b * kTries * kDim + t] = x[b * kDim + t % kDim] + kProbes[static_cast<std::size_t>(t)];
      }
    }
    detail::encodeAll<A>(c.around, blocks * kTries, c.nearest);
    for (int b = 0; b < blocks; ++b) {
      const typename A::Code* nearest = c.nearest + b * kTries;
      int different[kTries];
      const int count = differentTries(nearest, different);
      for (int i = 0; i < count; ++i) addCandidate(x, b, nearest[different[i]], c);
    }
  }

  /// The tries of a block that found what none before them did, in their order; how many. Without branches, for nothing
  /// foretells them.
  static int differentTries(const typename A::Code* nearest, int* different) {
    int count = 1;
    different[0] = 0;
    if constexpr (kTries > 1) {
      using Flag = std::make_signed_t<typename A::Code>;
      constexpr int kWidth = std::min(kOtherLanes, simd::kLanes<Flag>);
      Flag flags[kOtherLanes];
      for (int first = 0; first < kOtherLanes; first += kWidth) {
        const auto lane = simd::generate<Flag, kWidth>([](int i) { return static_cast<Flag>(i); });
        const auto others = simd::load<simd::Vec<typename A::Code, kWidth>>(nearest + 1 + first);
        simd::Vec<Flag, kWidth> repeated{};
        simd::unroll<kTries - 1>([&](int before) __attribute__((always_inline)) {
          repeated |=
              (simd::Vec<Flag, kWidth>)(others == nearest[before]) & (lane >= static_cast<Flag>(before - first));
        });
        simd::store(flags + first, repeated);
      }
      for (int t = 1; t < kTries; ++t) {
        different[count] = t;
        count += 1 + flags[t - 1];  // -1 where repeated
      }
    }
    return count;
  }

  static void addCandidate(const float* x, int b, typename A::Code code, Candidates& c) {
    float point[kDim];
    A::decode(code, point);
    for (int i = 0; i < kDim; ++i) c.rest[c.count * kDim + i] = (x[b * kDim + i] - point[i]) * (1.f / kStep);
    c.coarse[c.count] = code;
    c.block[c.count++] = b;
  }

  /// In units of B's points. Squares of floats are exact in double, so that the order of the additions alone settles
  /// the bits.
  static double squaredError(const Candidates& c, int k) {
    float point[kDim];
    B::decode(c.fine[k], point);
    double squares[kDim];
    for (int i = 0; i < kDim; ++i) {
      const double error = static_cast<double>(c.rest[k * kDim + i] - point[i]);
      squares[i] = error * error;
    }
    double even = 0, odd = 0;
    for (int i = 0; i < kDim; i += 2) even += squares[i];
    for (int i = 1; i < kDim; i += 2) odd += squares[i];
    return even + odd;
  }
};

}  // namespace gosset::GOSSET_ABI
