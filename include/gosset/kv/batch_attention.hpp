// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <gosset/core/finite.hpp>
#include <gosset/core/parallel.hpp>
#include <gosset/core/types.hpp>
#include <gosset/kv/attention.hpp>
#include <gosset/kv/online_softmax.hpp>
#include <gosset/kv/scores.hpp>
#include <gosset/kv/shape.hpp>
#include <gosset/kv/workspace.hpp>

#include <algorithm>
#include <cstddef>
#include <vector>

namespace gosset::GOSSET_ABI::detail {

/// Attention of one query for each of a few sequences, copies of one cache: each block that all of them share is read
/// once, for all; what a sequence has for itself is read for it. Stretches come to a query in the order that its own
/// cache has them in, and a column of a product does not depend on its neighbours, so that the bits are those of
/// KvAttention.
template <class Keys, class Values>
class KvBatchAttention {
  using Attention = KvAttention<Keys, Values>;
  using Part = AttendWorkspace::Part;
  using Scores = typename Attention::Scores;
  using Stretch = typename Attention::Stretch;

 public:
  /// How many query heads of a KV head products take together at most.
  static constexpr Index kColumns = 16;

  /// The caches from number `first` on that are attended together: as many as fit kColumns and begin with the same
  /// blocks as that one; alone where a query does not see all that a cache ever held.
  template <class Cache>
  KvBatchAttention(const std::vector<Cache>& caches, Index first, const AttendOptions& options) {
    const Index most = std::max<Index>(1, kColumns / caches[static_cast<std::size_t>(first)].shape().headsInGroup());
    for (Index i = first; i < std::min(first + most, static_cast<Index>(caches.size())); ++i) {
      const Attention next = caches[static_cast<std::size_t>(i)].attention();
      const Index shared = sequences_.empty() ? next.timeline_.blocks() : std::min(shared_, sharedBlocks(next));
      const bool sees_all = next.forgotten() == 0 && options.sliding_window >= next.size();
      if (!sequences_.empty() && (shared == 0 || !sees_all)) break;
      sequences_.push_back(next);
      shared_ = shared;
      if (!sees_all) break;
    }
  }

  Index sequences() const { return static_cast<Index>(sequences_.size()); }

  /// As KvAttention::attend(), a row of queries and of the output for each sequence.
  template <class Queries, class Score>
  void attend(const Queries& queries, const AttendOptions& options, const Score& score,
              Eigen::Ref<RowMatrixXf> output) const {
    if (sequences() == 1) return sequences_.front().attend(queries, options, score, output);
    AttendWorkspace& workspace = *options.workspace;
    RowMatrixXf& q = workspace.queries_;
    toFiniteFloats("KvCache::attend", queries, q);
    std::vector<int> exponents;
    for (Index s = 0; s < sequences(); ++s) {
      sequence(s).check(1, options, score);
      exponents.push_back(sequence(s).scaleQueries(options, q.row(s)));
    }
    const bool in_keys = sequence(0).cache_.values_in_keys;
    if (in_keys) workspace.sums_.resize(q.rows(), q.cols());
    using Rows = Eigen::Ref<RowMatrixXf>;
    attendHeads(options, score, q, exponents, workspace, in_keys ? Rows(workspace.sums_) : output);
    for (Index s = 0; s < sequences(); ++s) {
      sequence(s).complete(in_keys ? Rows(workspace.sums_.middleRows(s, 1)) : Rows(output.middleRows(s, 1)),
                           output.middleRows(s, 1));
    }
  }

 private:
  const Attention& sequence(Index s) const { return sequences_[static_cast<std::size_t>(s)]; }

  /// Blocks at the beginning that another sequence has in common with the first: who shares keys shares their values.
  Index sharedBlocks(const Attention& other) const {
    const Attention& front = sequences_.front();
    const KvTimeline &mine = front.timeline_, &its = other.timeline_;
    Index count = 0;
    while (count < std::min(mine.blocks(), its.blocks()) && mine.begin(count) == its.begin(count) &&
           mine.end(count) == its.end(count) && front.keys_.identity(count) == other.keys_.identity(count)) {
      ++count;
    }
    return count;
  }

  template <class Score>
  void attendHeads(const AttendOptions& options, const Score& score, const RowMatrixXf& q,
                   const std::vector<int>& exponents, AttendWorkspace& workspace,
                   Eigen::Ref<RowMatrixXf> output) const {
    const KvShape& shape = sequence(0).shape_;
    Index longest = 0;
    for (const Attention& one : sequences_) longest = std::max(longest, one.size());
    const Index pieces = (longest - 1) / Attention::kPiece + 1, tasks = shape.kv_heads * pieces;
    const Index parts = std::min<Index>(tasks, Eigen::nbThreads());
    Attention::grow(workspace.parts_, parts);
    Attention::grow(workspace.partial_, tasks);
    const Index work = longest * shape.head_dim * shape.headsInGroup() * sequences() / pieces * ceilDiv(tasks, parts);
    parallelFor(parts, work, [&](Index i) {
      Part& part = workspace.parts_[static_cast<std::size_t>(i)];
      part.bad.reset();
      for (Index at = tasks * i / parts; at < tasks * (i + 1) / parts; ++at) {
        attendHead(at / pieces, at % pieces, options, score, q, exponents, part,
                   workspace.partial_[static_cast<std::size_t>(at)]);
      }
    });
    Attention::refuseBad(workspace, parts);
    for (Index head = 0; head < shape.kv_heads; ++head) {
      OnlineSoftmax* partial = &workspace.partial_[static_cast<std::size_t>(head * pieces)];
      for (Index piece = 1; piece < pieces; ++piece) partial[0].merge(partial[piece]);
      finish(head, partial[0], workspace.parts_[0], output);
    }
    Attention::refuseBad(workspace, 1);
  }

  /// The sums of a KV head over the stretches that begin within a piece: column s * group + g is head g of sequence s.
  template <class Score>
  void attendHead(Index kv_head, Index piece, const AttendOptions& options, const Score& score, const RowMatrixXf& q,
                  const std::vector<int>& exponents, Part& part, OnlineSoftmax& softmax) const {
    const Attention& front = sequence(0);
    const Index group = front.shape_.headsInGroup(), dim = front.shape_.head_dim;
    Eigen::MatrixXf& x = part.x;
    x.resize(dim, sequences() * group);
    const auto headOf = [&](Index column) { return kv_head * group + column % group; };
    for (Index i = 0; i < x.cols(); ++i) x.col(i) = q.row(i / group).segment(headOf(i) * dim, dim).transpose();
    softmax.reset(front.cache_.values_in_keys ? dim : front.shape_.valueDim(), x.cols());
    if (piece == 0 && !options.sinks.empty()) {
      for (Index i = 0; i < x.cols(); ++i) softmax.setSink(i, options.sinks[headOf(i)]);
    }
    const auto weighFrom = [&](Index column) {
      return [&, column](const Stretch& stretch, Scores scores) {
        for (Index i = 0; i < scores.cols(); ++i) {
          const Index at = column + i, s = at / group;
          Attention::weighColumn(stretch, sequence(s).size() - 1, headOf(at), at, options, score,
                                 exponents[static_cast<std::size_t>(s)], scores.col(i).data(), part, softmax);
        }
      };
    };
    const auto isHere = [&](Index begin, Index end) { return begin < end && begin / Attention::kPiece == piece; };
    const auto addTokens = [&](Index s, const auto& keys, const auto& values, Index begin) {
      if (!isHere(begin, begin + keys.size())) return;
      sequence(s).addTokens(keys, values, kv_head, begin, x.middleCols(s * group, group), part, weighFrom(s * group),
                            softmax.output().middleCols(s * group, group));
    };
    for (Index s = 0; s < sequences(); ++s) addTokens(s, sequence(s).keys_.first(), sequence(s).values_.first(), 0);
    for (Index block = 0; block < shared_; ++block) {
      if (!isHere(front.timeline_.begin(block), front.timeline_.end(block))) continue;
      front.addBlock(block, kv_head, x, options.activations, part, weighFrom(0), softmax.output());
    }
    for (Index s = 0; s < sequences(); ++s) {
      const Attention& own = sequence(s);
      for (Index block = shared_; block < own.timeline_.blocks(); ++block) {
        if (!isHere(own.timeline_.begin(block), own.timeline_.end(block))) continue;
        own.addBlock(block, kv_head, x.middleCols(s * group, group), options.activations, part, weighFrom(s * group),
                     softmax.output().middleCols(s * group, group));
      }
      addTokens(s, own.keys_.window(), own.values_.window(), own.timeline_.windowBegin());
    }
  }

  void finish(Index kv_head, const OnlineSoftmax& softmax, Part& part, Eigen::Ref<RowMatrixXf> output) const {
    const KvShape& shape = sequence(0).shape_;
    const Index group = shape.headsInGroup(), sums = output.cols() / shape.heads;
    for (Index i = 0; i < softmax.queries(); ++i) {
      const Index s = i / group, head = kv_head * group + i % group;
      output.row(s).segment(head * sums, sums) = softmax.result(i).transpose();
      Attention::reportMissing(softmax, i, head, sequence(s).size() - 1, part);
    }
  }

  std::vector<Attention> sequences_;
  Index shared_ = 0;
};

}  // namespace gosset::GOSSET_ABI::detail
