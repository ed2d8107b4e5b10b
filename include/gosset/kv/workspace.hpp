// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <gosset/core/types.hpp>
#include <gosset/kv/online_softmax.hpp>

#include <optional>
#include <vector>

namespace gosset::GOSSET_ABI {

namespace detail {
template <class Keys, class Values>
class KvAttention;
template <class Keys, class Values>
class KvBatchAttention;
}  // namespace detail

/// The memory that attention works in, kept from call to call: a query like the one before it takes none. One serves
/// all layers of a model, whatever their formats, but one call at a time:
///
///   gosset::AttendWorkspace workspace;
///   for (auto& layer : layers) layer.attendTo(q, output, {.workspace = &workspace});
///
/// A call that is given none takes its own and gives it back, a few allocations.
class AttendWorkspace {
 private:
  template <class Keys, class Values>
  friend class detail::KvAttention;
  template <class Keys, class Values>
  friend class detail::KvBatchAttention;

  /// A query, as seen by one of its heads, that attention cannot answer.
  struct BadQuery {
    const char* expected;  ///< and what came
    Index head, query;
  };

  /// What one thread works on.
  struct Part {
    Eigen::MatrixXf x;  ///< queries: column i * group + g is head g of query i
    detail::OnlineSoftmax softmax;
    std::vector<float> scores;
    std::optional<BadQuery> bad;  ///< the first

    void report(const char* expected, Index head, Index query) {
      if (!bad) bad = {expected, head, query};
    }

    /// Room for the scores of so many tokens.
    Eigen::Map<Eigen::MatrixXf> scoresOf(Index tokens, Index columns) {
      const auto size = static_cast<std::size_t>(tokens * columns);
      if (scores.size() < size) scores.resize(size);
      return {scores.data(), tokens, columns};
    }
  };

  RowMatrixXf queries_, sums_;
  std::vector<Part> parts_;
  std::vector<detail::OnlineSoftmax> partial_;  ///< sums over pieces of the cache
};

}  // namespace gosset::GOSSET_ABI
