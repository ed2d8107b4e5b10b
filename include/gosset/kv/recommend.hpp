// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <gosset/core/error.hpp>
#include <gosset/core/types.hpp>
#include <gosset/kv/shape.hpp>

#include <algorithm>
#include <array>
#include <cstddef>
#include <limits>
#include <span>
#include <sstream>
#include <string>

// Which formats a cache should take: the rows that bench/kv_quality measured, and the plain decision that follows from
// them.
namespace gosset::GOSSET_ABI {

/// What a number of keys, or of values, costs: its code and what stands beside it.
struct CacheSideBits {
  double codes;     ///< a number
  int group;        ///< neighbours that share a scale and a zero point of 16 bits each; 0: one scale a line; -1: none
  int rank;         ///< of 8-bit factors
  bool block_unit;  ///< whether a block has 32 bits more

  /// Bits a number, of blocks of `lines` x `length` numbers, a line being a channel of keys or a token of values.
  double bits(double lines, double length) const {
    double bits = codes;
    if (group > 0) bits += 32 * static_cast<double>(ceilDiv(static_cast<Index>(length), group)) / length;
    if (group == 0) bits += 16 / length;
    const double ranks = std::min<double>({static_cast<double>(rank), lines, length});
    return bits + (ranks * (8 * (lines + length) + 32) + (block_unit ? 32 : 0)) / (lines * length);
  }
};

/// What one pair of formats costs and loses.
struct MeasuredCache {
  const char* name;    ///< a preset of kv/presets.hpp, or what both formats are called
  const char* keys;    ///< as in C++ without namespace
  const char* values;  ///< likewise
  CacheSideBits key_bits, value_bits;
  /// Of attention's output, relative, on heads of 32, 64, 128 and 256 in blocks of 1024 tokens: the largest of those on
  /// the four kinds of data of bench/kv_quality, so that no kind spoils what is taken; 0 where it was not measured.
  std::array<double, 4> output_errors;
};

/// Widths of heads that MeasuredCache::output_errors belong to.
inline constexpr std::array<Index, 4> kMeasuredHeads = {32, 64, 128, 256};

/// All that was measured.
inline std::span<const MeasuredCache> measuredCaches() {
  static constexpr MeasuredCache kRows[] = {
      {"Float16", "Float16", "Float16", {16, -1, 0, false}, {16, -1, 0, false}, {.0014, .0012, .0013, .0013}},
      {"KIVI-8",
       "Grouped<Asymmetric<8>, 64>",
       "Grouped<Asymmetric<8>, 64>",
       {8, 64, 0, false},
       {8, 64, 0, false},
       {.0100, .0112, .0112, .0121}},
      {"KIVI-4",
       "Grouped<Asymmetric<4>, 64>",
       "Grouped<Asymmetric<4>, 64>",
       {4, 64, 0, false},
       {4, 64, 0, false},
       {.1634, .1895, .1912, .1891}},
      {"KIVI-3",
       "Grouped<Asymmetric<3>, 64>",
       "Grouped<Asymmetric<3>, 64>",
       {3, 64, 0, false},
       {3, 64, 0, false},
       {.3399, .4284, .4543, .4307}},
      {"KIVI-2",
       "Grouped<Asymmetric<2>, 64>",
       "Grouped<Asymmetric<2>, 64>",
       {2, 64, 0, false},
       {2, 64, 0, false},
       {.7754, .8339, .8763, .9296}},
      {"KvPreset4",
       "Incoherent<LowRankFirst<PerChannel<E8PRvq3>, 8, std::int8_t>>",
       "Incoherent<LowRankFirst<PerChannel<E8PRvq4>, 4, std::int8_t>>",
       {3, 0, 8, true},
       {4, 0, 4, true},
       {0, 0, .0948, .0998}},
      {"KvPreset3",
       "Incoherent<LowRankFirst<PerChannel<E8P>, 8, std::int8_t>>",
       "Incoherent<LowRankFirst<PerChannel<E8PRvq3>, 4, std::int8_t>>",
       {2, 0, 8, true},
       {3, 0, 4, true},
       {0, 0, .1835, .2125}},
      {"KvPreset2",
       "Incoherent<LowRankFirst<PerChannel<E8P>, 8, std::int8_t>>",
       "Incoherent<LowRankFirst<PerChannel<E8P>, 4, std::int8_t>>",
       {2, 0, 8, true},
       {2, 0, 4, true},
       {0, 0, .3015, .3262}},
      {"KvPreset4Heads64",
       "Incoherent<LowRankFirst<PerChannel<E8PRvq3>, 3, std::int8_t>>",
       "Incoherent<LowRankFirst<PerChannel<E8PRvq4>, 2, std::int8_t>>",
       {3, 0, 3, true},
       {4, 0, 2, true},
       {.2766, .1746, 0, 0}},
      {"KvPreset3Heads64",
       "Incoherent<LowRankFirst<PerChannel<E8P>, 3, std::int8_t>>",
       "Incoherent<LowRankFirst<PerChannel<E8PRvq3>, 2, std::int8_t>>",
       {2, 0, 3, true},
       {3, 0, 2, true},
       {.4609, .3245, 0, 0}},
      {"KvPreset2Heads64",
       "Incoherent<LowRankFirst<PerChannel<E8P>, 3, std::int8_t>>",
       "Incoherent<LowRankFirst<PerChannel<E8P>, 2, std::int8_t>>",
       {2, 0, 3, true},
       {2, 0, 2, true},
       {.5038, .3962, 0, 0}},
      {"KvTrellis4",
       "Incoherent<LowRankFirst<PerChannel<Trellis<25, 8, 12>>, 4, std::int8_t>>",
       "Incoherent<LowRankFirst<PerChannel<Trellis<33, 8, 12>>, 4, std::int8_t>>",
       {3.125, 0, 4, true},
       {4.125, 0, 4, true},
       {0, 0, .0756, .0732}},
      {"KvTrellis3",
       "Incoherent<LowRankFirst<PerChannel<Trellis<17, 8, 12>>, 4, std::int8_t>>",
       "Incoherent<LowRankFirst<PerChannel<Trellis<25, 8, 12>>, 4, std::int8_t>>",
       {2.125, 0, 4, true},
       {3.125, 0, 4, true},
       {0, 0, .1400, .1638}},
      {"KvTrellis25",
       "Incoherent<LowRankFirst<PerChannel<Trellis<2, 1, 12>>, 4, std::int8_t>>",
       "Incoherent<LowRankFirst<PerChannel<Trellis<9, 4, 12>>, 4, std::int8_t>>",
       {2, 0, 4, true},
       {2.25, 0, 4, true},
       {0, 0, .2316, .2493}},
      {"KvTrellis2",
       "Incoherent<LowRankFirst<PerChannel<Trellis<13, 8, 12>>, 4, std::int8_t>>",
       "Incoherent<LowRankFirst<PerChannel<Trellis<13, 8, 12>>, 4, std::int8_t>>",
       {1.625, 0, 4, true},
       {1.625, 0, 4, true},
       {0, 0, .3554, .3687}},
      {"KvTrellis4Heads64",
       "Incoherent<LowRankFirst<PerChannel<Trellis<3, 1, 12>>, 4, std::int8_t>>",
       "Incoherent<LowRankFirst<PerChannel<Trellis<31, 8, 12>>, 2, std::int8_t>>",
       {3, 0, 4, true},
       {3.875, 0, 2, true},
       {0, .1706, 0, 0}},
      {"KvTrellis3Heads64",
       "Incoherent<LowRankFirst<PerChannel<Trellis<15, 8, 12>>, 4, std::int8_t>>",
       "Incoherent<LowRankFirst<PerChannel<Trellis<3, 1, 12>>, 2, std::int8_t>>",
       {1.875, 0, 4, true},
       {3, 0, 2, true},
       {0, .2976, 0, 0}},
      {"KvTrellis25Heads64",
       "Incoherent<LowRankFirst<PerChannel<Trellis<7, 4, 12>>, 4, std::int8_t>>",
       "Incoherent<LowRankFirst<PerChannel<Trellis<17, 8, 12>>, 2, std::int8_t>>",
       {1.75, 0, 4, true},
       {2.125, 0, 2, true},
       {0, .3685, 0, 0}},
      {"KvTrellis45Heads32",
       "Grouped<Asymmetric<4>, 64>",
       "Incoherent<PerChannel<Trellis<4, 1, 12>>>",
       {4, 64, 0, false},
       {4, 0, 0, true},
       {.1300, 0, 0, 0}},
      {"KvTrellis35Heads32",
       "Grouped<Asymmetric<3>, 64>",
       "Incoherent<PerChannel<Trellis<3, 1, 12>>>",
       {3, 64, 0, false},
       {3, 0, 0, true},
       {.2633, 0, 0, 0}},
      {"KvTrellis25Heads32",
       "Incoherent<LowRankFirst<PerChannel<Trellis<15, 8, 12>>, 2, std::int8_t>>",
       "Incoherent<PerChannel<Trellis<2, 1, 12>>>",
       {1.875, 0, 2, true},
       {2, 0, 0, true},
       {.5188, 0, 0, 0}},
  };
  return kRows;
}

/// What recommendCache() answers.
struct CacheRecommendation {
  MeasuredCache formats;
  double bits;          ///< a number in packed blocks, keys and values, all counted
  double output_error;  ///< of output_errors, for the widest of the measured heads that is not wider, or the narrowest
  std::string reason;
};

/// The formats with the least of output_errors within so many bits a number, for heads like the shape's and
/// blocks of so many tokens: the prompt's or KvOptions::longest_block, KvOptions::window where tokens come one by one
/// and nothing is merged. Bits are exact for head_dim and value_dim of multiples of 32 and blocks of multiples of 64,
/// but for 64 bits a cache of a rotation's seed; others are padded. Trellis codes take longer to pack (bench/README.md
/// says how long). Errors: std::invalid_argument where the shape is none, a limit is not positive, or no measured pair
/// keeps to the bits.
inline CacheRecommendation recommendCache(const KvShape& shape, double bits, Index block) {
  validate(shape);
  detail::require(bits > 0, "recommendCache: expected bits > 0, got ", bits);
  detail::require(block >= 1, "recommendCache: expected a block of at least 1 token, got ", block);
  std::size_t heads = 0;
  while (heads + 1 < kMeasuredHeads.size() && kMeasuredHeads[heads + 1] <= shape.head_dim) ++heads;

  const auto d = static_cast<double>(shape.head_dim), value_d = static_cast<double>(shape.valueDim()),
             n = static_cast<double>(block);
  const MeasuredCache* best = nullptr;
  double best_bits = 0, fewest = std::numeric_limits<double>::infinity();
  for (const MeasuredCache& row : measuredCaches()) {
    if (row.output_errors[heads] == 0) continue;
    const double taken = (row.key_bits.bits(d, n) * d + row.value_bits.bits(n, value_d) * value_d) / (d + value_d);
    fewest = std::min(fewest, taken);
    if (taken > bits || (best != nullptr && row.output_errors[heads] >= best->output_errors[heads])) continue;
    best = &row;
    best_bits = taken;
  }
  detail::require(best != nullptr, "recommendCache: no measured formats take at most ", bits,
                  " bits a number in blocks of ", block, " tokens, heads of ", shape.head_dim, "; the smallest take ",
                  fewest);
  std::ostringstream reason;
  reason << best->name << ": " << best_bits << " bits a number, an error of " << best->output_errors[heads]
         << " in the output on heads of " << kMeasuredHeads[heads] << "; the least within the bits";
  return {*best, best_bits, best->output_errors[heads], reason.str()};
}

}  // namespace gosset::GOSSET_ABI
