// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <gosset/core/error.hpp>
#include <gosset/rounding/concepts.hpp>
#include <gosset/rounding/nearest.hpp>

#include <cmath>
#include <utility>

namespace gosset::GOSSET_ABI {

namespace detail {

inline void checkChannelScales(const char* function, const Eigen::VectorXf& s, Index cols) {
  require(s.size() == cols, function, ": expected ", cols, " channel scales, got ", s.size());
  for (Index j = 0; j < cols; ++j) {
    require(s[j] > 0 && std::isfinite(s[j]), function, ": expected channel scales that are positive and finite, got ",
            s[j], " for channel ", j);
  }
}

}  // namespace detail

/// Scales of input channels that were found elsewhere, and a rounding for what they make of the matrix:
///
///   quantize<ChannelScaled<F>>(W, ChannelScales(s))
///   quantize<ChannelScaled<F>>(W, ChannelScales(s, Gptq(h)))
///
/// s: n positive numbers; only their ratios matter. The rounding's Hessian is that of the inputs x; the format turns it
/// into that of x_j / s_j.
template <class Inner = Nearest>
class ChannelScales : public RoundingWrapper<ChannelScales<Inner>, Inner> {
 public:
  explicit ChannelScales(Eigen::VectorXf s, Inner rounding = {})
      : RoundingWrapper<ChannelScales<Inner>, Inner>(std::move(rounding)), s_(std::move(s)) {}

  const Eigen::VectorXf& channelScales(const RowMatrixXf&, const ChannelScaleTrial&) const { return s_; }

 private:
  Eigen::VectorXf s_;
};

}  // namespace gosset::GOSSET_ABI
