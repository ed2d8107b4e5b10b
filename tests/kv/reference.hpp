// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <gosset/kv/kv_cache.hpp>

#include <algorithm>
#include <cmath>

#include "testing.hpp"

// Attention by its definition, in double.
namespace gosset::testing {

/// softmax(score(scale * K q)) V of one query in double, by the definition; the query stands at `position`, the first
/// of k and v at `forgotten`.
template <class Score>
Eigen::VectorXd attentionByDefinition(const KvShape& shape, const RowMatrixXf& k, const RowMatrixXf& v,
                                      const Eigen::VectorXf& q, Index position, const AttendOptions& options,
                                      const Score& score, Index forgotten = 0) {
  const Index d = shape.head_dim;
  const double scale = options.scale ? static_cast<double>(*options.scale) : 1 / std::sqrt(static_cast<double>(d));
  const Index oldest = options.sliding_window > position ? 0 : position + 1 - options.sliding_window;
  const Index values = shape.valueDim();
  Eigen::VectorXd output(shape.outputWidth());
  for (Index head = 0; head < shape.heads; ++head) {
    const Index kv_head = head / (shape.heads / shape.kv_heads), from = oldest - forgotten;
    const auto keys = k.block(from, kv_head * d, position + 1 - oldest, d).cast<double>();
    const auto weighed = v.block(from, kv_head * values, position + 1 - oldest, values).cast<double>();
    Eigen::VectorXd s = keys * q.segment(head * d, d).cast<double>() * scale;
    for (Index i = 0; i < s.size(); ++i) {
      s[i] = static_cast<double>(score(static_cast<float>(s[i]), head, position, oldest + i));
    }
    double largest = s.maxCoeff(), sink = 0;
    if (!options.sinks.empty()) {
      largest = std::max(largest, static_cast<double>(options.sinks[head]));
      sink = std::exp(static_cast<double>(options.sinks[head]) - largest);
    }
    s = (s.array() - largest).exp();
    output.segment(head * values, values) = weighed.transpose() * s / (s.sum() + sink);
  }
  return output;
}

/// The cache's attention against the definition on what it says it holds: a query, and the newest tokens' queries.
template <class Cache, class Score = PlainScores>
void expectAttention(const Cache& cache, const AttendOptions& options = {}, const Score& score = {},
                     Index most_queries = 70) {
  const RowMatrixXf k = cache.keys(), v = cache.values();
  const Index queries = std::min<Index>(cache.size() - cache.forgotten(), most_queries);
  const RowMatrixXf q = gaussian(queries, cache.shape().queryWidth(), 77);
  const RowMatrixXf many = cache.attend(q, options, score);
  ASSERT_EQ(many.rows(), queries);
  for (Index i = 0; i < queries; i += 23) {
    const Eigen::VectorXd expected = attentionByDefinition(
        cache.shape(), k, v, q.row(i).transpose(), cache.size() - queries + i, options, score, cache.forgotten());
    EXPECT_LT((many.row(i).transpose().template cast<double>() - expected).norm(), 2e-5 * (1 + expected.norm()))
        << "query " << i << " of " << queries << " on " << cache.size() << " tokens";
  }
  const Eigen::VectorXf last = cache.attend(q.row(queries - 1), options, score);
  EXPECT_LT((last.transpose() - many.row(queries - 1)).norm(), 2e-5f * (1 + last.norm()));
}

template <class K, class V = K>
KvCache<K, V> filled(const KvShape& shape, Index tokens, const KvOptions& options = {.window = 64}) {
  KvCache<K, V> cache(shape, options);
  if (tokens > 0) cache.append(gaussian(tokens, shape.kvWidth(), 1), gaussian(tokens, shape.valueWidth(), 2));
  return cache;
}

}  // namespace gosset::testing
