// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <gosset/core/error.hpp>
#include <gosset/core/types.hpp>
#include <gosset/scale/fit.hpp>
#include <gosset/scale/options.hpp>

#include <algorithm>

namespace gosset::GOSSET_ABI {

/// The heads of one attention layer. Each kv_head serves heads / kv_heads query heads, neighbours in the query.
struct KvShape {
  Index heads = 0;      ///< of the queries and the output
  Index kv_heads = 0;   ///< of the keys and values
  Index head_dim = 0;   ///< numbers a head of the queries and keys
  Index value_dim = 0;  ///< numbers a head of the values and the output, as multi-head latent attention has fewer: 0
                        ///< for head_dim

  Index valueDim() const { return value_dim == 0 ? head_dim : value_dim; }
  Index queryWidth() const { return heads * head_dim; }
  Index outputWidth() const { return heads * valueDim(); }
  Index kvWidth() const { return kv_heads * head_dim; }  ///< of the keys, and of the values unless value_dim is given
  Index valueWidth() const { return kv_heads * valueDim(); }
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
  detail::require(shape.value_dim >= 0 && shape.value_dim <= kMostHeadDim, "KvShape: expected a value_dim of 0 to ",
                  kMostHeadDim, ", got ", shape.value_dim);
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
  /// The first tokens, so many of them, are never packed: they stay in the window's floats, for models whose first keys
  /// are much larger than all others and take most of the attention.
  /// Source: Xiao et al., "Efficient Streaming Language Models with Attention Sinks", ICLR 2024, section 3.
  Index keep_first = 0;
  /// For layers with a sliding window: append() forgets the blocks in which every token stands behind so many newer
  /// ones, not counting those that it adds, so that these see all of their windows. At least the sliding window, and
  /// the tokens that truncate() may take back on top of it. 0 forgets nothing. What is held never takes more than that
  /// many tokens, one of the longest blocks, the window and what is appended at once.
  Index forget_beyond = 0;
  /// The values are the first value_dim numbers of each head's keys, as in multi-head latent attention, and are not
  /// stored again: append() takes keys alone. Both formats must be the same.
  bool values_in_keys = false;
  /// How blocks are packed; its seed is also that of the rotation of Incoherent formats. At most
  /// kMostLowRankIterations of low_rank_iterations, for each append pays for them.
  QuantizeOptions quantize = {};
};

namespace detail {

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
  detail::require(options.keep_first >= 0, "KvOptions: keep_first must not be negative, got ", options.keep_first);
  detail::require(options.forget_beyond >= 0, "KvOptions: forget_beyond must not be negative, got ",
                  options.forget_beyond);
  detail::require(options.keep_first == 0 || options.forget_beyond == 0, "KvOptions: keep_first = ", options.keep_first,
                  " keeps tokens that forget_beyond = ", options.forget_beyond, " forgets; one of them must be 0");
  validate(options.quantize.fit);
}

/// Of a shape and options that are valid alone. Errors: std::invalid_argument where they do not go together.
inline void validate(const KvShape& shape, const KvOptions& options) {
  detail::require(!options.values_in_keys || shape.valueDim() <= shape.head_dim,
                  "KvOptions: values_in_keys needs a value_dim of at most head_dim = ", shape.head_dim, ", got ",
                  shape.valueDim());
}

}  // namespace gosset::GOSSET_ABI
