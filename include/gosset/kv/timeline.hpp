// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <gosset/core/empty_after_move.hpp>
#include <gosset/core/types.hpp>
#include <gosset/kv/shape.hpp>

#include <algorithm>
#include <cstddef>
#include <numeric>
#include <vector>

namespace gosset::GOSSET_ABI {

/// How the tokens of a cache lie: what its arrays' lengths follow from.
struct KvContents {
  std::vector<Index> ends = {};    ///< position after the last token of each block
  std::vector<Index> stored = {};  ///< tokens that each block keeps: more than count where it was cut
  Index staged = 0;                ///< how many of them, the newest, wait to be merged
  Index window = 0;                ///< tokens in the window
  Index first = 0;                 ///< tokens before the blocks, in the window's floats
  Index forgotten = 0;             ///< tokens before the blocks, of which nothing is left
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

/// The positions of a cache's blocks, which follow what is kept or forgotten of the first tokens, and which the window
/// follows.
class KvTimeline {
 public:
  KvTimeline() = default;
  KvTimeline(Index start, std::vector<Index> ends) : start_(start), ends_(std::move(ends)) {}

  Index blocks() const { return static_cast<Index>(ends_.size()); }
  /// Position of the first token of a block, or of the first token behind the last.
  Index begin(Index block) const { return block == 0 ? Index{start_} : ends_[static_cast<std::size_t>(block - 1)]; }
  Index end(Index block) const { return ends_[static_cast<std::size_t>(block)]; }
  Index start() const { return start_; }
  /// Position of the window's first token.
  Index windowBegin() const { return begin(blocks()); }
  const std::vector<Index>& ends() const { return ends_; }

  /// Before there are blocks.
  void addFirst(Index tokens) { start_.get() += tokens; }
  void swapEnds(std::vector<Index>& ends) noexcept { ends_.swap(ends); }

  /// Drops what stands at position n and behind it; a block that is cut ends there.
  void truncate(Index n) {
    while (!ends_.empty() && begin(blocks() - 1) >= n) ends_.pop_back();
    if (windowBegin() > n) (ends_.empty() ? start_.get() : ends_.back()) = n;
  }

  /// How many blocks, from the oldest on, end at `position` or before it.
  Index blocksBefore(Index position) const {
    return std::upper_bound(ends_.begin(), ends_.end(), position) - ends_.begin();
  }
  void dropOldest(Index blocks) {
    if (blocks == 0) return;
    start_ = end(blocks - 1);
    ends_.erase(ends_.begin(), ends_.begin() + blocks);
  }

  /// What fills whole windows of so many tokens, in as few blocks as longest_block allows, of nearly equal length.
  static KvPlan packingPlan(const KvOptions& options, Index tokens) {
    const Index windows = tokens / options.window;
    const Index count = ceilDiv(windows, tokensInLongestBlock(options) / options.window);
    KvPlan plan{.room = options.window};
    for (Index i = 0; i < count; ++i) {
      plan.packed.push_back((windows * (i + 1) / count - windows * i / count) * options.window);
    }
    return plan;
  }

  /// The longest blocks that what is staged and so many tokens in the window can fill; what fills whole windows then is
  /// staged.
  KvPlan mergingPlan(const KvOptions& options, Index staged_blocks, Index tokens) const {
    const Index longest = tokensInLongestBlock(options);
    KvPlan plan{.room = options.window};
    const Index missing = longest - (windowBegin() - begin(blocks() - staged_blocks));
    plan.merges = missing <= tokens;
    if (plan.merges) plan.filling = missing;
    plan.packed.assign(static_cast<std::size_t>((tokens - plan.filling) / longest), longest);
    plan.staged = (tokens - plan.tokens()) / options.window * options.window;
    return plan;
  }

  /// The blocks' ends once a plan is followed.
  std::vector<Index> endsAfter(const KvPlan& plan, Index staged_blocks) const {
    std::vector<Index> ends(ends_.begin(), ends_.end() - (plan.merges ? staged_blocks : 0));
    Index last = windowBegin();
    const auto add = [&](Index tokens) { ends.push_back(last += tokens); };
    if (plan.merges) add(plan.filling);
    for (const Index tokens : plan.packed) add(tokens);
    if (plan.staged > 0) add(plan.staged);
    return ends;
  }

  /// Tokens of the newest blocks, so many of them.
  std::vector<Index> lengthsOfNewest(Index count) const {
    std::vector<Index> lengths;
    for (Index block = blocks() - count; block < blocks(); ++block) lengths.push_back(end(block) - begin(block));
    return lengths;
  }

  friend bool operator==(const KvTimeline& a, const KvTimeline& b) {
    return a.start() == b.start() && a.ends() == b.ends();
  }

 private:
  EmptyAfterMove<Index> start_ = 0;          ///< position of the first block's first token
  EmptyAfterMove<std::vector<Index>> ends_;  ///< position after the last token of each block
};

}  // namespace detail

}  // namespace gosset::GOSSET_ABI
