// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <gosset/codebook/asymmetric.hpp>
#include <gosset/codebook/e8p.hpp>
#include <gosset/codebook/e8p_rvq.hpp>
#include <gosset/kv/shape.hpp>
#include <gosset/residual/low_rank.hpp>
#include <gosset/residual/outliers.hpp>
#include <gosset/scale/granularity.hpp>
#include <gosset/transform/incoherent.hpp>

#include <cstdint>

namespace gosset {

/// b bits a number, a scale and a zero point for every g: b + 32 / g bits. In a KvCache the groups run along tokens
/// within a channel for keys, along channels within a token for values.
/// Source: Liu et al., "KIVI", ICML 2024, section 3.
template <int b, int g>
using Kivi = Grouped<Asymmetric<b>, g>;

/// Kivi without the outliers of each line, plus a rank-r correction of what both left over. The outliers go first, so
/// that they spoil no scale and no direction of the correction is spent on them.
/// Source: Kang et al., "GEAR" (2024), section 3.
template <int b, int g, int r, int permille>
using Gear = LowRank<Outliers<Kivi<b, g>, permille>, r>;

/// Gear without outliers.
template <int b, int g, int r>
using GearL = LowRank<Kivi<b, g>, r>;

/// In the rotated basis of a head the strong directions of a block go into 8-bit factors of rank r, and what they leave
/// over, nearly Gaussian, into a codebook of E8 points: of the compositions that bench/kv_quality.cpp tries, the one
/// with the least error at its bits on heads of 128, for keys and values alike. Of N tokens in a block and heads of d
/// numbers it takes about
///
///   b + 16 / g + 8 r (1 / N + 1 / d)  bits,  for d >= g;
///
/// so blocks should be long, and on heads of 32 numbers or fewer the factors cost more than they bring. Best with
/// kvPresetOptions().
template <class Codebook, int g, int r>
using KvRotated = Incoherent<LowRankFirst<Grouped<Codebook, g>, r, std::int8_t>>;
using KvPreset2 = KvRotated<E8P, 128, 4>;      ///< 2.41 bits on blocks of 1024 tokens, heads of 128
using KvPreset3 = KvRotated<E8PRvq3, 128, 4>;  ///< 3.41
using KvPreset4 = KvRotated<E8PRvq4, 128, 4>;  ///< 4.41

/// Scales by least squares, which lower the presets' errors of keys and values wherever bench/kv_quality.cpp looks, and
/// that of attention on heads of 128. (Of Kivi alone they lower the first two and often raise the last, by half and
/// more.)
inline KvOptions kvPresetOptions() { return {.quantize = {.fit = LeastSquares{}}}; }

}  // namespace gosset
