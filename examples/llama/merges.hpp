// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "model.hpp"

#include <limits>
#include <queue>
#include <vector>

namespace llama {

/// What two neighbours become, and when: the pair of the lowest order comes first, among equals the leftmost.
struct Merge {
  double order = 0;
  Token joined = 0;
};

namespace detail {

inline constexpr std::size_t kNoLink = std::numeric_limits<std::size_t>::max();

/// A list of tokens in which neighbours find each other after merges.
struct Link {
  Token token = 0;
  std::size_t before = kNoLink, after = kNoLink;
  bool merged = false;  ///< it is now part of the link before it
};

/// Two neighbours that may be joined. It is stale once either of them has changed; the left one does so only by taking
/// in its right neighbour.
struct Pair {
  Merge merge;
  std::size_t left = 0, right = 0;
  Token rightToken = 0;
  /// For a queue whose top is the greatest.
  bool operator<(const Pair& other) const {
    return merge.order != other.merge.order ? merge.order > other.merge.order : left > other.left;
  }
};

}  // namespace detail

/// Byte-pair encoding (Sennrich, Haddow and Birch 2016, section 3.2): joins the neighbours whose find(left, right), an
/// optional Merge, comes first, again and again until none can be joined. n log n: a merge looks at its two neighbours.
template <class Find>
void mergeNeighbours(std::vector<Token>& tokens, Find&& find) {
  using detail::kNoLink;
  const std::size_t n = tokens.size();
  std::vector<detail::Link> links(n);
  std::priority_queue<detail::Pair> queue;
  const auto offer = [&](std::size_t left, std::size_t right) {
    if (left == kNoLink || right == kNoLink) return;
    const Token a = links[left].token, b = links[right].token;
    if (const auto merge = find(a, b)) queue.push({*merge, left, right, b});
  };
  for (std::size_t i = 0; i < n; ++i) links[i] = {tokens[i], i == 0 ? kNoLink : i - 1, i + 1 == n ? kNoLink : i + 1};
  for (std::size_t i = 0; i + 1 < n; ++i) offer(i, i + 1);
  while (!queue.empty()) {
    const detail::Pair pair = queue.top();
    queue.pop();
    detail::Link& left = links[pair.left];
    detail::Link& right = links[pair.right];
    const bool stale = left.merged || right.merged || right.token != pair.rightToken;
    if (stale) continue;
    left.token = pair.merge.joined;
    left.after = right.after;
    right.merged = true;
    if (left.after != kNoLink) links[left.after].before = pair.left;
    offer(left.before, pair.left);
    offer(pair.left, left.after);
  }
  tokens.clear();
  for (const detail::Link& link : links) {
    if (!link.merged) tokens.push_back(link.token);
  }
}

}  // namespace llama
