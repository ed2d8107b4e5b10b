// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <gosset/core/types.hpp>

#include <Eigen/Core>
#include <cmath>
#include <numbers>

namespace llama {

/// Adam with decoupled weight decay (Loshchilov and Hutter 2019, algorithm 2).
struct AdamOptions {
  float beta1 = 0.9f;        ///< how slowly the mean of the gradient changes
  float beta2 = 0.98f;       ///< how slowly the mean of its square changes
  float epsilon = 1e-8f;     ///< keeps the quotient of the two finite
  float weightDecay = 0.1f;  ///< times the learning rate: the part of a decaying parameter that each step takes away
  float clip = 1.f;          ///< gradients of greater norm are scaled down to it
};

class Adam {
 public:
  /// decays: 1 for each parameter that weight decay applies to, 0 for the others.
  explicit Adam(Eigen::VectorXf decays, AdamOptions options = {})
      : options_(options),
        decays_(std::move(decays)),
        mean_(Eigen::VectorXf::Zero(decays_.size())),
        square_(Eigen::VectorXf::Zero(decays_.size())) {}

  /// One step down the gradient. Gives the gradient's norm before clipping.
  float step(Eigen::Ref<Eigen::VectorXf> parameters, const Eigen::Ref<const Eigen::VectorXf>& gradient, float rate) {
    const AdamOptions& o = options_;
    const auto norm = static_cast<float>(gradient.cast<double>().norm());
    const float scale = norm > o.clip ? o.clip / norm : 1.f;
    mean_ += (1 - o.beta1) * (scale * gradient - mean_);
    square_ += (1 - o.beta2) * ((scale * gradient).cwiseAbs2() - square_);
    ++steps_;
    // Both means began at zero; dividing by the weight of what they have seen makes up for it.
    const float seen1 = 1 - std::pow(o.beta1, static_cast<float>(steps_));
    const float seen2 = 1 - std::pow(o.beta2, static_cast<float>(steps_));
    parameters -= (rate * o.weightDecay) * decays_.cwiseProduct(parameters);
    parameters.array() -= rate / seen1 * mean_.array() / ((square_.array() / seen2).sqrt() + o.epsilon);
    return norm;
  }

 private:
  AdamOptions options_;
  Eigen::VectorXf decays_, mean_, square_;
  gosset::Index steps_ = 0;
};

/// The learning rate at `step` of `steps`: rises in a line to `peak`, then falls to a twentieth of it along half a
/// cosine (Loshchilov and Hutter 2017).
inline float warmupCosine(gosset::Index step, gosset::Index steps, gosset::Index warmup, float peak) {
  if (step < warmup) return peak * static_cast<float>(step + 1) / static_cast<float>(warmup);
  const double done =
      static_cast<double>(step - warmup) / static_cast<double>(std::max<gosset::Index>(steps - warmup, 1));
  return peak * static_cast<float>(0.05 + 0.95 * (1 + std::cos(std::numbers::pi * done)) / 2);
}

}  // namespace llama
