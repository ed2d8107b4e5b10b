// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <gosset/core/error.hpp>
#include <gosset/core/types.hpp>
#include <gosset/kv/batch_attention.hpp>
#include <gosset/kv/kv_cache.hpp>

#include <cstddef>
#include <set>
#include <vector>

namespace gosset::GOSSET_ABI {

// Sequences that begin alike, as engines have them in a batch, are copies of one cache: they share its packed blocks,
// which are never written to, and each has a window and blocks to come of its own.
//
//   KvCache<Kivi<4, 64>> prompt(shape);
//   prompt.append(K, V);
//   std::vector sequences(8, prompt);              // eight windows more, no blocks
//   sequences[i].append(k, v);                     // goes its own way
//   sequences[i].truncate(n);                      // which the others do not notice
//   const RowMatrixXf y = attendEach(sequences, Q);
//
// Where an engine pages its caches, a block here is such a page.

/// Bytes that caches take together: a block that several of them have counts once.
template <class KeyFormat, class ValueFormat>
Index bytesTogether(const std::vector<KvCache<KeyFormat, ValueFormat>>& caches) {
  Index bytes = 0;
  std::set<const void*> seen;
  for (const auto& cache : caches) {
    bytes += cache.bytes();
    cache.forBlocks([&](const void* identity, bool shared, Index block) {
      if (shared && !seen.insert(identity).second) bytes -= block;
    });
  }
  return bytes;
}

/// attend() of one query for each cache, that of its newest token: q has a row for each, and so has the result. Blocks
/// that neighbouring caches share are read once for up to 16 query heads of a KV head, unless a sliding window ends
/// before some of their tokens; the result is the same.
/// Errors: std::invalid_argument where there are more or fewer rows than caches, where these differ in shape, and as
/// attend() has them.
template <class KeyFormat, class ValueFormat, class Queries, ScoreFunction Score = PlainScores>
RowMatrixXf attendEach(const std::vector<KvCache<KeyFormat, ValueFormat>>& caches, const Eigen::DenseBase<Queries>& q,
                       AttendOptions options = {}, const Score& score = {}) {
  static_assert(DenseExpression<Queries>,
                "attendEach(caches, q): q must hold float, double, Eigen::half or Eigen::bfloat16");
  detail::require(q.rows() == static_cast<Index>(caches.size()), "attendEach: expected a query for each of the ",
                  caches.size(), " caches, got ", q.rows());
  if (caches.empty()) return {};
  AttendWorkspace own;
  if (options.workspace == nullptr) options.workspace = &own;
  for (Index i = 0; i < q.rows(); ++i) {
    detail::require(caches[static_cast<std::size_t>(i)].shape() == caches.front().shape(),
                    "attendEach: expected caches of one shape, got another of sequence ", i);
  }
  detail::require(q.cols() == caches.front().shape().queryWidth(),
                  "attendEach: expected queries of heads * head_dim = ", caches.front().shape().queryWidth(),
                  " columns, got ", q.rows(), " x ", q.cols());
  RowMatrixXf output(q.rows(), caches.front().shape().outputWidth());
  using Batch = detail::KvBatchAttention<detail::KvStream<KeyFormat, detail::KvSide::kKeys>,
                                         detail::KvStream<ValueFormat, detail::KvSide::kValues>>;
  for (Index first = 0; first < q.rows();) {
    const Batch batch(caches, first, options);
    const Index count = batch.sequences();
    batch.attend(q.middleRows(first, count), options, score, output.middleRows(first, count));
    first += count;
  }
  return output;
}

}  // namespace gosset::GOSSET_ABI
