// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <gosset/core/error.hpp>
#include <gosset/core/finite.hpp>
#include <gosset/core/parallel.hpp>
#include <gosset/core/types.hpp>
#include <gosset/kv/online_softmax.hpp>
#include <gosset/kv/scores.hpp>
#include <gosset/kv/shape.hpp>
#include <gosset/kv/timeline.hpp>
#include <gosset/kv/workspace.hpp>

#include <algorithm>
#include <cmath>
#include <type_traits>
#include <vector>

namespace gosset::GOSSET_ABI::detail {

/// Attention over what a cache holds: its first tokens, block after block, and the window, each a stretch of tokens
/// whose scores become weights at once.
template <class Keys, class Values>
class KvAttention {
 public:
  KvAttention(const KvShape& shape, const KvOptions& options, const KvTimeline& timeline, const Keys& keys,
              const Values& values)
      : shape_(shape), cache_(options), timeline_(timeline), keys_(keys), values_(values) {}

  /// queries: t x queryWidth(), output: t x outputWidth(), as KvCache::attend has them.
  template <class Queries, class Score>
  void attend(const Queries& queries, const AttendOptions& options, const Score& score,
              Eigen::Ref<RowMatrixXf> output) const {
    check(queries.rows(), options, score);
    if (queries.rows() == 0) return;
    AttendWorkspace own;
    AttendWorkspace& workspace = options.workspace != nullptr ? *options.workspace : own;
    RowMatrixXf& q = workspace.queries_;
    toFiniteFloats("KvCache::attend", queries, q);
    const int exponent = scaleQueries(options, q);
    if (cache_.values_in_keys) workspace.sums_.resize(q.rows(), q.cols());
    attendHeads(options, score, q, exponent, workspace, cache_.values_in_keys ? Rows(workspace.sums_) : Rows(output));
    complete(workspace.sums_, output);
  }

 private:
  template <class, class>
  friend class KvBatchAttention;
  using Part = AttendWorkspace::Part;
  using Rows = Eigen::Ref<RowMatrixXf>;
  using Scores = Eigen::Map<Eigen::MatrixXf>;
  static constexpr Index kQueries = 64;  ///< at a time
  static constexpr Index kPiece = 4096;  ///< positions that threads share out, for kFewQueries queries at most
  static constexpr Index kFewQueries = 8;
  static constexpr Index kAll = -1;  ///< pieces

  Index size() const { return timeline_.windowBegin() + keys_.window().size(); }
  Index forgotten() const { return timeline_.start() - keys_.first().size(); }

  template <class Score>
  void check(Index queries, const AttendOptions& options, const Score& score) const {
    validate(options, shape_.heads);
    if constexpr (requires { score.checkHeads(shape_.heads); }) score.checkHeads(shape_.heads);
    const Index held = size() - forgotten();
    require(held > 0, "KvCache::attend: the cache is empty");
    require(queries <= held, "KvCache::attend: expected at most one query a token held, ", held, ", got ", queries);
    const Index reach = held - queries + 1;
    require(forgotten() == 0 || options.sliding_window <= reach,
            "KvCache::attend: expected a sliding_window of at most ", reach, " tokens for ", queries,
            " queries, for the first ", forgotten(), " tokens are forgotten (forget_beyond = ", cache_.forget_beyond,
            "), got ", options.sliding_window);
  }

  [[noreturn]] static void refuse(const AttendWorkspace::BadQuery& bad) {
    invalidArgument("KvCache::attend: expected ", bad.expected, " for head ", bad.head, " and the query of token ",
                    bad.query);
  }

  /// Results of the newest queries out of their basis: from output itself, or where values are keys from sums of whole
  /// keys, which have to leave it before they can be cut.
  void complete(Rows sums, Rows output) const {
    if (cache_.values_in_keys) {
      keys_.rotateBack(sums);
      for (Index head = 0; head < shape_.heads; ++head) {
        output.middleCols(head * shape_.valueDim(), shape_.valueDim()) =
            sums.middleCols(head * shape_.head_dim, shape_.valueDim());
      }
    } else {
      values_.rotateBack(output);
    }
    for (Index i = 0; i < output.rows(); ++i) {
      for (Index head = 0; head < shape_.heads; ++head) {
        if (allFinite(&output(i, head * shape_.valueDim()), shape_.valueDim())) continue;
        refuse(
            {"values whose sums are within the range of float, got some beyond it", head, size() - output.rows() + i});
      }
    }
  }

  /// Queries in the basis of the keys, scaled such that their products with these are scores / 2^exponent: 0, unless
  /// sums on the way to a score could leave the range of float. Returns the exponent.
  int scaleQueries(const AttendOptions& options, Eigen::Ref<RowMatrixXf> q) const {
    constexpr double kLargest = 0x1p40;
    const float scale = options.scale ? *options.scale : 1 / std::sqrt(static_cast<float>(shape_.head_dim));
    const double most = static_cast<double>(q.cwiseAbs().maxCoeff()) * std::max(1., std::abs(double{scale}));
    if (most <= kLargest) {
      keys_.rotate(q);
      q *= scale;
      return 0;
    }
    const int exponent = std::ilogb(most / kLargest);
    q = (q.cast<double>() * std::ldexp(double{scale}, -exponent)).cast<float>();
    keys_.rotate(q);
    return exponent;
  }

  /// What a thread does at a time: kQueries queries from `first` on, those of all heads that share a KV head, over the
  /// stretches that begin within one piece of the cache; the first piece has those, too, that begin before it.
  struct Task {
    Index kv_head, first, piece;
  };

  /// Weighted means, in the basis of the values; threads share heads, queries and, for few queries, pieces of the
  /// cache. Where these end does not depend on the number of threads, so nor does the result.
  template <class Score>
  void attendHeads(const AttendOptions& options, const Score& score, const RowMatrixXf& q, int exponent,
                   AttendWorkspace& workspace, Eigen::Ref<RowMatrixXf> output) const {
    const Index chunks = ceilDiv(q.rows(), kQueries), oldest = oldestSeen(size() - q.rows(), options);
    const Index first_piece = oldest / kPiece,
                pieces = q.rows() > kFewQueries ? 1 : (size() - 1) / kPiece + 1 - first_piece;
    const Index heads = shape_.kv_heads * chunks, tasks = heads * pieces;
    const Index parts = std::min<Index>(tasks, Eigen::nbThreads());
    grow(workspace.parts_, parts);
    grow(workspace.partial_, pieces > 1 ? tasks : 0);
    const Index work = size() * shape_.head_dim * shape_.headsInGroup() / pieces * ceilDiv(tasks, parts);
    parallelFor(parts, work, [&](Index i) {
      Part& part = workspace.parts_[static_cast<std::size_t>(i)];
      part.bad.reset();
      for (Index at = tasks * i / parts; at < tasks * (i + 1) / parts; ++at) {
        const Index head = at / pieces, piece = first_piece + at % pieces;
        const Task task{head / chunks, head % chunks * kQueries, pieces == 1 ? kAll : piece};
        OnlineSoftmax& softmax = pieces == 1 ? part.softmax : workspace.partial_[static_cast<std::size_t>(at)];
        attendHead(task, at % pieces == 0, options, score, q, exponent, part, softmax);
        if (pieces == 1) finish(task, softmax, part, output);
      }
    });
    refuseBad(workspace, parts);
    if (pieces == 1) return;
    for (Index head = 0; head < heads; ++head) {
      OnlineSoftmax* partial = &workspace.partial_[static_cast<std::size_t>(head * pieces)];
      for (Index piece = 1; piece < pieces; ++piece) partial[0].merge(partial[piece]);
      finish({head / chunks, head % chunks * kQueries, kAll}, partial[0], workspace.parts_[0], output);
    }
    refuseBad(workspace, 1);
  }

  template <class T>
  static void grow(std::vector<T>& values, Index count) {
    values.resize(std::max(values.size(), static_cast<std::size_t>(count)));
  }

  static void refuseBad(const AttendWorkspace& workspace, Index parts) {
    for (Index i = 0; i < parts; ++i) {
      const auto& bad = workspace.parts_[static_cast<std::size_t>(i)].bad;
      if (bad) refuse(*bad);
    }
  }

  /// Position of the oldest token held that the query at `position` sees.
  Index oldestSeen(Index position, const AttendOptions& options) const {
    return std::max(forgotten(), options.sliding_window > position ? 0 : position + 1 - options.sliding_window);
  }

  /// A stretch of the cache, as one step of attention sees it.
  struct Stretch {
    Index begin;   ///< position of its first token
    Index tokens;  ///< that count
    Index stored;  ///< as many as scores have to be made for, cut ones included
  };

  /// The sums of a task; with the sinks, where there are such and its piece is the first.
  template <class Score>
  void attendHead(const Task& task, bool is_first, const AttendOptions& options, const Score& score,
                  const RowMatrixXf& q, int exponent, Part& part, OnlineSoftmax& softmax) const {
    const Index kv_head = task.kv_head, first = task.first, group = shape_.headsInGroup(), dim = shape_.head_dim;
    const Index count = std::min(kQueries, q.rows() - first);
    const Index position = size() - q.rows() + first;  // of the first query
    Eigen::MatrixXf& x = part.x;
    x.resize(dim, count * group);
    const auto headOf = [&](Index i) { return kv_head * group + i % group; };  // in the row first + i / group
    for (Index i = 0; i < x.cols(); ++i) {
      x.col(i) = q.row(first + i / group).segment(headOf(i) * dim, dim).transpose();
    }
    softmax.reset(cache_.values_in_keys ? dim : shape_.valueDim(), x.cols());
    if (is_first && !options.sinks.empty()) {
      for (Index i = 0; i < x.cols(); ++i) softmax.setSink(i, options.sinks[headOf(i)]);
    }
    const auto isSeen = [&](Index from, Index to) {
      const Index piece = from / kPiece;
      if (task.piece != kAll && (is_first ? piece > task.piece : piece != task.piece)) return false;
      return from < to && from < position + count && position - to < options.sliding_window - 1;
    };
    const auto weigh = [&](const Stretch& stretch, Scores scores) {
      for (Index i = 0; i < x.cols(); ++i) {
        weighColumn(stretch, position + i / group, headOf(i), i, options, score, exponent, scores.col(i).data(), part,
                    softmax);
      }
    };
    const auto addPlain = [&](const auto& keys, const auto& values, Index begin) {
      if (isSeen(begin, begin + keys.size())) addTokens(keys, values, kv_head, begin, x, part, weigh, softmax.output());
    };
    addPlain(keys_.first(), values_.first(), forgotten());
    for (Index block = 0; block < timeline_.blocks(); ++block) {
      if (!isSeen(timeline_.begin(block), timeline_.end(block))) continue;
      addBlock(block, kv_head, x, options.activations, part, weigh, softmax.output());
    }
    addPlain(keys_.window(), values_.window(), timeline_.windowBegin());
  }

  /// sums += values times weights, of tokens in floats from position `begin` on; weigh(stretch, scores) makes weights
  /// of the scores of x.
  template <class PlainKeys, class PlainValues, class Weigh>
  void addTokens(const PlainKeys& keys, const PlainValues& values, Index kv_head, Index begin,
                 const Eigen::Ref<const Eigen::MatrixXf>& x, Part& part, const Weigh& weigh,
                 Eigen::Ref<Eigen::MatrixXf> sums) const {
    auto scores = part.scoresOf(keys.size(), x.cols());
    keys.multiply(kv_head, x, scores);
    weigh(Stretch{begin, keys.size(), keys.size()}, scores);
    if (cache_.values_in_keys) return keys.addTransposed(kv_head, scores, sums);
    values.addTransposed(kv_head, scores, sums);
  }

  /// The same of a block.
  template <class Weigh>
  void addBlock(Index block, Index kv_head, const Eigen::Ref<const Eigen::MatrixXf>& x, Activations activations,
                Part& part, const Weigh& weigh, Eigen::Ref<Eigen::MatrixXf> sums) const {
    const Index begin = timeline_.begin(block), stored = keys_.storedTokens(block);
    auto scores = part.scoresOf(stored, x.cols());
    scores.setZero();
    keys_.addProduct(block, kv_head, x, scores, activations);
    weigh(Stretch{begin, timeline_.end(block) - begin, stored}, scores);
    if (cache_.values_in_keys) {
      keys_.addSumsOfKeys(block, kv_head, scores, sums);
    } else {
      values_.addProduct(block, kv_head, scores, sums, activations);
    }
  }

  /// The means of a task's queries.
  void finish(const Task& task, const OnlineSoftmax& softmax, Part& part, Eigen::Ref<RowMatrixXf> output) const {
    const Index group = shape_.headsInGroup(), sums = output.cols() / shape_.heads;
    for (Index i = 0; i < softmax.queries(); ++i) {
      const Index head = task.kv_head * group + i % group, row = task.first + i / group;
      output.row(row).segment(head * sums, sums) = softmax.result(i).transpose();
      reportMissing(softmax, i, head, size() - output.rows() + row, part);
    }
  }

  static void reportMissing(const OnlineSoftmax& softmax, Index column, Index head, Index query, Part& part) {
    if (softmax.exists(column)) return;
    part.report("scores that are numbers or -infinity, got NaN or +infinity", head, query);
  }

  /// Scores of one query and head, / 2^exponent, become weights; those it does not see become 0. One that is beyond
  /// float is reported.
  template <class Score>
  static void weighColumn(const Stretch& stretch, Index query, Index head, Index column, const AttendOptions& options,
                          const Score& score, int exponent, float* scores, Part& part, OnlineSoftmax& softmax) {
    if (weighStretch(stretch, query, head, column, options, score, exponent, scores, softmax)) return;
    part.report("scores within the range of float, got one beyond it", head, query);
  }

  /// The same; false where one is beyond float.
  template <class Score>
  static bool weighStretch(const Stretch& stretch, Index query, Index head, Index column, const AttendOptions& options,
                           const Score& score, int exponent, float* scores, OnlineSoftmax& softmax) {
    const Index oldest = options.sliding_window > query ? 0 : query + 1 - options.sliding_window;
    const Index from = std::clamp<Index>(oldest - stretch.begin, 0, stretch.tokens);
    const Index to = std::clamp<Index>(query + 1 - stretch.begin, from, stretch.tokens);
    const bool in_range = toScores(exponent, scores + from, to - from);
    if constexpr (!std::is_same_v<Score, PlainScores>) {
      for (Index i = from; i < to; ++i)
        scores[i] = static_cast<float>(score(scores[i], head, query, stretch.begin + i));
    }
    std::fill(scores, scores + from, 0.f);
    softmax.weigh(column, scores + from, to - from);
    std::fill(scores + to, scores + stretch.stored, 0.f);
    return in_range;
  }

  /// Scores of a query from their products with it; false where one is beyond float, as queries, keys of plain floats
  /// or a file's units may have it.
  static bool toScores(int exponent, float* scores, Index count) {
    for (Index i = 0; exponent != 0 && i < count; ++i) {
      scores[i] = static_cast<float>(std::ldexp(double{scores[i]}, exponent));
    }
    return allFinite(scores, count);
  }

  const KvShape& shape_;
  const KvOptions& cache_;
  const KvTimeline& timeline_;
  const Keys& keys_;
  const Values& values_;
};

}  // namespace gosset::GOSSET_ABI::detail
