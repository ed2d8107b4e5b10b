// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <gosset/core/types.hpp>

#include <algorithm>
#include <cmath>
#include <limits>

namespace gosset::detail {

/// Softmax over scores that come a block at a time, and the weighted sum of values with it, for t queries: what was
/// summed so far is scaled down whenever a larger score appears, so nothing overflows and no score is seen twice.
/// Source: Milakov and Gimelshein, "Online normalizer calculation for softmax" (2018), section 3.
class OnlineSoftmax {
 public:
  OnlineSoftmax(Index values, Index queries)
      : largest_(Eigen::VectorXf::Constant(queries, kNone)),
        sum_(Eigen::VectorXf::Zero(queries)),
        output_(Eigen::MatrixXf::Zero(values, queries)) {}

  /// Turns a query's scores for a block of tokens into their weights, exp(score - largest so far).
  template <class Scores>
  void weigh(Index query, Scores&& scores) {
    const float largest = scores.size() == 0 ? kNone : std::max(largest_[query], scores.maxCoeff());
    if (largest == kNone) {  // every one hidden
      scores.setZero();
      return;
    }
    if (largest > largest_[query]) {
      const float shrink = largest_[query] == kNone ? 0.f : std::exp(largest_[query] - largest);
      sum_[query] *= shrink;
      output_.col(query) *= shrink;
      largest_[query] = largest;
    }
    // Eigen's exp stops short of 0, which a hidden score must become.
    scores = (scores.array() == kNone).select(0.f, (scores.array() - largest).exp()).matrix();
    sum_[query] += scores.sum();
  }

  /// values x queries: where the sums of weight * value go.
  Eigen::MatrixXf& output() { return output_; }

  /// The weighted means; zero for a query that saw no token.
  Eigen::MatrixXf result() const {
    const Eigen::VectorXf factor = (sum_.array() > 0).select(sum_.array().inverse(), 0.f);
    return output_ * factor.asDiagonal();
  }

 private:
  static constexpr float kNone = -std::numeric_limits<float>::infinity();

  Eigen::VectorXf largest_, sum_;
  Eigen::MatrixXf output_;
};

}  // namespace gosset::detail
