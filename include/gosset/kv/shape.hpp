// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <gosset/core/error.hpp>
#include <gosset/core/types.hpp>
#include <gosset/scale/fit.hpp>
#include <gosset/scale/options.hpp>

#include <algorithm>
#include <numeric>
#include <vector>

namespace gosset::GOSSET_ABI {

/// The heads of one attention layer. Each kv_head serves heads / kv_heads query heads, neighbours in the query.
struct KvShape {
  Index heads = 0;     ///< of the queries and the output
  Index kv_heads = 0;  ///< of the keys and values
  Index head_dim = 0;  ///< numbers a head

  Index queryWidth() const { return heads * head_dim; }
  Index kvWidth() const { return kv_heads * head_dim; }
  Index headsInGroup() const { return heads / kv_heads; }

  friend bool operator==(const KvShape&, const KvShape&) = default;
};

/// Far beyond any model's; so that a file of a few bytes cannot ask for a shape that takes seconds to set up.
inline constexpr Index kMostHeads = 65536;
inline constexpr Index kMostHeadDim = 8192;

/// Errors: std::invalid_argument where a size is not positive or beyond these, or heads is no multiple of kv_heads.
inline void validate(const KvShape& shape) {
  detail::require(shape.heads > 0 && shape.kv_heads > 0 && shape.head_dim > 0,
                  "KvShape: expected positive sizes, got heads = ", shape.heads, ", kv_heads = ", shape.kv_heads,
                  ", head_dim = ", shape.head_dim);
  detail::require(shape.heads % shape.kv_heads == 0, "KvShape: heads must be a multiple of kv_heads, got ", shape.heads,
                  " and ", shape.kv_heads);
  detail::require(shape.heads <= kMostHeads, "KvShape: expected at most ", kMostHeads, " heads, got ", shape.heads);
  detail::require(shape.head_dim <= kMostHeadDim, "KvShape: expected a head_dim of at most ", kMostHeadDim, ", got ",
                  shape.head_dim);
}

struct KvOptions {
  /// The newest tokens wait in 16-bit floats until there are this many, then are packed together: at least 2. Best a
  /// multiple of the keys' group.
  Index window = 128;
  /// Tokens appended at once are packed in blocks of up to this many, in multiples of the window. Longer ones dilute
  /// what low-rank factors cost; scores are made for a block at a time.
  Index longest_block = 1024;
  /// Tokens that come one by one are merged into blocks as long as a prompt's: until there are longest_block of them,
  /// what leaves the window waits in 8 bits, with scales and zero points in floats for 128 tokens of a channel of keys
  /// and for 64 neighbours in a token of values (32 where the format's own groups are shorter than 64): 8.5 and 9 bits
  /// a number, which cost less than 1% of the error of formats of up to 5 bits, whatever the numbers' means. Formats of
  /// more bits wait in 16. Without merging a stream's blocks have the length of the window. Merging pays where formats
  /// keep low-rank factors, which cost s = b r (1 / window - 1 / longest_block) bits a number more in short blocks: for
  /// contexts beyond about longest_block (9 - bits) / (2 s) tokens.
  bool merge = false;
  /// How blocks are packed; its seed is also that of the rotation of Incoherent formats. At most
  /// kMostLowRankIterations of low_rank_iterations, for each append pays for them.
  QuantizeOptions quantize = {};
};

/// How the tokens of a cache lie: what its arrays' lengths follow from.
struct KvContents {
  std::vector<Index> ends = {};    ///< position after the last token of each block
  std::vector<Index> stored = {};  ///< tokens that each block keeps: more than count where it was cut
  Index staged = 0;                ///< how many of them, the newest, wait to be merged
  Index window = 0;                ///< tokens in the window
};

namespace detail {

/// What leaves the window, from its oldest token on.
struct KvPlan {
  bool merges = false;             ///< whether all that is staged becomes one block, with
  Index filling = 0;               ///< so many tokens of the window
  std::vector<Index> packed = {};  ///< tokens of each block
  Index staged = 0;                ///< tokens of a block that waits
  Index room = 0;                  ///< tokens that the window keeps room for

  /// All of them.
  Index tokens() const { return std::accumulate(packed.begin(), packed.end(), filling + staged); }
};

/// Tokens of the longest block: whole windows, one at least.
inline Index tokensInLongestBlock(const KvOptions& options) {
  return std::max<Index>(options.longest_block / options.window, 1) * options.window;
}

}  // namespace detail

/// Of QuantizeOptions::low_rank_iterations in a cache; more than some ten change nothing.
inline constexpr int kMostLowRankIterations = 1000;

/// Errors: std::invalid_argument where an option is out of its range.
inline void validate(const KvOptions& options) {
  detail::require(options.window >= 2, "KvOptions: window must be at least 2 tokens, got ", options.window);
  detail::require(options.longest_block >= 1, "KvOptions: longest_block must be at least 1 token, got ",
                  options.longest_block);
  detail::require(options.quantize.low_rank_iterations >= 0,
                  "KvOptions: low_rank_iterations must not be negative, got ", options.quantize.low_rank_iterations);
  detail::require(options.quantize.low_rank_iterations <= kMostLowRankIterations,
                  "KvOptions: low_rank_iterations must be at most ", kMostLowRankIterations, ", got ",
                  options.quantize.low_rank_iterations);
  validate(options.quantize.fit);
}

}  // namespace gosset::GOSSET_ABI
