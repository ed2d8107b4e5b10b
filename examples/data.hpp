// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <gosset/core/random.hpp>

#include <Eigen/Core>
#include <cmath>
#include <numbers>

// Made-up weights and activations for the numbered programs, the same on every machine.
namespace example {

/// rows x cols independent N(0, 1) numbers (Box-Muller).
inline Eigen::MatrixXf gaussian(Eigen::Index rows, Eigen::Index cols, std::uint64_t seed) {
  Eigen::MatrixXf x(rows, cols);
  for (Eigen::Index i = 0; i < x.size(); ++i) {
    const auto at = static_cast<std::uint64_t>(2 * i);
    const double u = static_cast<double>(gosset::randomUniform(seed, at)) + 0x1p-25;
    const double angle = 2 * std::numbers::pi * static_cast<double>(gosset::randomUniform(seed, at + 1));
    x.data()[i] = static_cast<float>(std::sqrt(-2 * std::log(u)) * std::cos(angle));
  }
  return x;
}

/// Activations, tokens x inputs, as transformers have them: neighbours correlated, a few channels 30 times as large.
inline Eigen::MatrixXf activations(Eigen::Index tokens, Eigen::Index inputs, std::uint64_t seed) {
  Eigen::MatrixXf x = gaussian(tokens, inputs, seed);
  for (Eigen::Index j = 1; j < inputs; ++j) x.col(j) = 0.8f * x.col(j - 1) + 0.6f * x.col(j);
  for (Eigen::Index j = 11; j < inputs; j += 100) x.col(j) *= 30.f;
  return x;
}

}  // namespace example
