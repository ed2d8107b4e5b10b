// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <gosset/codebook/e8p.hpp>
#include <gosset/codebook/e8p_rvq.hpp>
#include <gosset/codebook/trellis.hpp>
#include <gosset/format/incoherent.hpp>
#include <gosset/format/low_rank.hpp>
#include <gosset/format/per_channel.hpp>
#include <gosset/kv/formats.hpp>
#include <gosset/kv/kv_cache.hpp>
#include <gosset/kv/shape.hpp>

#include <cstdint>

namespace gosset::GOSSET_ABI {

/// In the rotated basis of a head the strong directions of a block go into 8-bit factors of rank r, and what they leave
/// over, nearly Gaussian, into a codebook of E8 points, with one scale for a channel of keys or a token of values. Of N
/// tokens in a block, heads of d numbers and a codebook of b bits a number it takes
///
///   keys    b + 16 / N + (8 r (N + d) + 32 (r + 1)) / (N d)  bits
///   values  b + 16 / d + (8 r (N + d) + 32 (r + 1)) / (N d)  bits
///
/// and 64 bits a cache for the rotation's seed. So a rank costs about 8 / d bits, and 8 / N: blocks should be long.
template <class Codebook, int r>
using KvRotated = Incoherent<LowRankFirst<PerChannel<Codebook>, r, std::int8_t>>;

/// Formats for keys and values that belong together.
template <class KeyFormat, class ValueFormat>
struct KvFormats {
  using Keys = KeyFormat;
  using Values = ValueFormat;
  using Cache = KvCache<KeyFormat, ValueFormat>;
};

// The compositions with the least error of attention's output within 2.5, 3 and 4 bits a number, of those tried:
// scalar, Gaussian and E8 codebooks of 2 to 4 bits, groups of 32 to whole lines, with and without rotation, ranks 0 to
// 12 before or after the codes, 8- and 16-bit factors, outliers of 0 to 2%, both fits, for keys and values apart; on
// the four kinds of data of bench/kv_quality.cpp (other draws) and on joined heads of three small models. Once the
// strong directions of the keys are taken out, errors of values weigh more in the output: values get the larger
// codebook, keys the higher rank.
//
// They pay wherever keys or values have a few strong directions: channels that are loud, correlated or have a mean.
// They do not pay on heads of 32 numbers or fewer, or in short blocks (of 128 tokens KvPreset3 takes 3.39): take Kivi
// there. Nor do they beat Kivi of half a bit more by much where single numbers are large, anywhere.
//
// Best with the published rule, the default. LeastSquares lowers the errors by 1 to 5%, but makes packing into
// E8PRvq3 and E8PRvq4 some fifty times slower.

/// 2.49 bits a number for heads of 128 in blocks of 1024 tokens: keys 2.58, values 2.41.
using KvPreset2 = KvFormats<KvRotated<E8P, 8>, KvRotated<E8P, 4>>;
/// 2.99 bits: keys 2.58, values 3.41.
using KvPreset3 = KvFormats<KvRotated<E8P, 8>, KvRotated<E8PRvq3, 4>>;
/// 3.99 bits: keys 3.58, values 4.41.
using KvPreset4 = KvFormats<KvRotated<E8PRvq3, 8>, KvRotated<E8PRvq4, 4>>;

/// The same for heads of 64, where a rank costs twice as much: 2.47, 2.97 and 3.97 bits.
using KvPreset2Heads64 = KvFormats<KvRotated<E8P, 3>, KvRotated<E8P, 2>>;
using KvPreset3Heads64 = KvFormats<KvRotated<E8P, 3>, KvRotated<E8PRvq3, 2>>;
using KvPreset4Heads64 = KvFormats<KvRotated<E8PRvq3, 3>, KvRotated<E8PRvq4, 2>>;

// The same with trellis codes of 2^12 states in place of E8 points. They come in eighths of a bit and have 12 to 20%
// less error at the same bits, so that what is saved on ranks goes into codes: 18 to 29% less error of the output
// within the bits of the presets above on heads of 128 and more. A token takes 3 (4 bits) to 22 times (2.5 bits) as
// long to pack. The number is that of bits in blocks of 1024 tokens, 25 for 2.5; chosen as those above, on other draws
// and models than bench/README.md reports on.

/// For heads of 128 and more: 1.98, 2.48, 2.98 and 3.98 bits for heads of 128.
using KvTrellis2 = KvFormats<KvRotated<Trellis<13, 8, 12>, 4>, KvRotated<Trellis<13, 8, 12>, 4>>;
using KvTrellis25 = KvFormats<KvRotated<Trellis<2, 1, 12>, 4>, KvRotated<Trellis<9, 4, 12>, 4>>;
using KvTrellis3 = KvFormats<KvRotated<Trellis<17, 8, 12>, 4>, KvRotated<Trellis<25, 8, 12>, 4>>;
using KvTrellis4 = KvFormats<KvRotated<Trellis<25, 8, 12>, 4>, KvRotated<Trellis<33, 8, 12>, 4>>;

/// For heads of 64: 2.47, 2.97 and 3.97 bits.
using KvTrellis25Heads64 = KvFormats<KvRotated<Trellis<7, 4, 12>, 4>, KvRotated<Trellis<17, 8, 12>, 2>>;
using KvTrellis3Heads64 = KvFormats<KvRotated<Trellis<15, 8, 12>, 4>, KvRotated<Trellis<3, 1, 12>, 2>>;
using KvTrellis4Heads64 = KvFormats<KvRotated<Trellis<3, 1, 12>, 4>, KvRotated<Trellis<31, 8, 12>, 2>>;

/// For heads of 32, where ranks are dear, and keys with single large numbers want a range that covers them: 2.46, 3.5
/// and 4.5 bits, each a quarter of a bit less than the Kivi whose error they stay below.
using KvTrellis25Heads32 = KvFormats<KvRotated<Trellis<15, 8, 12>, 2>, Incoherent<PerChannel<Trellis<2, 1, 12>>>>;
using KvTrellis35Heads32 = KvFormats<Kivi<3, 64>, Incoherent<PerChannel<Trellis<3, 1, 12>>>>;
using KvTrellis45Heads32 = KvFormats<Kivi<4, 64>, Incoherent<PerChannel<Trellis<4, 1, 12>>>>;

}  // namespace gosset::GOSSET_ABI
