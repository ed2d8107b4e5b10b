// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <gosset/core/error.hpp>
#include <gosset/rounding/basis_hessian.hpp>
#include <gosset/rounding/concepts.hpp>
#include <gosset/rounding/hessian.hpp>
#include <gosset/rounding/nearest.hpp>

#include <cmath>
#include <utility>

namespace gosset::GOSSET_ABI {

/// Makes an Outliers format keep the numbers that matter most to the layer's output in place of the largest: number
/// w_ij counts as w_ij sqrt(H_jj), whose square is what the output loses where w_ij becomes zero. What stays is rounded
/// by `rounding`.
///
///   quantize<Outliers<Grouped<Asymmetric<3>, 32>, 10>>(W, BySensitivity(h))
///   quantize<Outliers<Grouped<Asymmetric<3>, 32>, 10>>(W, BySensitivity(h, Gptq(h)))
///
/// Errors: std::invalid_argument where W has another number of inputs than the Hessian.
/// Source: Kim et al., "SqueezeLLM", ICML 2024, section 4.2, and Dettmers et al., "SpQR", ICLR 2024, section 3, for
/// sparse numbers by sensitivity; the measure is the diagonal of the layer's Hessian, as in LeCun et al., "Optimal
/// Brain Damage", 1989.
template <class Inner = Nearest>
class BySensitivity : public RoundingWrapper<BySensitivity<Inner>, Inner> {
 public:
  explicit BySensitivity(Hessian hessian, Inner rounding = {})
      : RoundingWrapper<BySensitivity<Inner>, Inner>(std::move(rounding)), hessian_(std::move(hessian)) {}

  /// What numbers of each of n inputs count, relative to the largest: sqrt(H_jj / max H_jj); all 1 where H is zero.
  Eigen::VectorXf outlierWeights(Index n) const {
    detail::require(n == hessian_.size(), "BySensitivity: expected a matrix of ", hessian_.size(),
                    " inputs, as the Hessian has, got ", n);
    const Eigen::VectorXd diagonal = hessian_.diagonal().cwiseMax(0.0);
    const double largest = diagonal.maxCoeff();
    if (!(largest > 0)) return Eigen::VectorXf::Ones(n);
    return (diagonal / largest).cwiseSqrt().template cast<float>();
  }

  void changeBasis(const BasisChange& change) { hessian_ = std::move(hessian_).inBasis(change); }

 private:
  BasisHessian hessian_;
};

}  // namespace gosset::GOSSET_ABI
