// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <gosset/rounding/basis_hessian.hpp>
#include <gosset/rounding/concepts.hpp>
#include <gosset/rounding/feedback.hpp>
#include <gosset/rounding/hessian.hpp>

#include <functional>
#include <utility>

namespace gosset::GOSSET_ABI {

struct GptqOptions {
  double damping = 0.01;
  int sweeps = 0;
  bool act_order = false;      ///< columns by falling diagonal of H; implies static groups
  bool static_groups = false;  ///< fit every group's scale before the first column, instead of when the loop reaches it
  std::function<void(const LdlqProgress&)> progress = {};
};

/// GPTQ: the same loop from the first column to the last, or by falling diagonal of H (act-order). Groups are fitted
/// when the loop reaches them unless static_groups or act_order is set. Errors: as Ldlq. Source: Frantar et al.,
/// "GPTQ", ICLR 2023, section 3; its reference implementation for act-order and static groups.
class Gptq {
 public:
  static constexpr bool kFitsGrid = true;

  explicit Gptq(const Hessian& hessian, GptqOptions options = {}) : hessian_(hessian), options_(std::move(options)) {}

  template <ScaledFormat F>
  void round(RowMatrixXf& w, Grid<F>& grid, CodeMatrix<typename F::Codebook>& codes) const {
    const auto order = options_.act_order ? detail::BlockOrder::kByDiagonal : detail::BlockOrder::kFirstFirst;
    detail::Feedback<F>(hessian_, w, grid, codes,
                        {options_.damping, options_.sweeps, order, options_.static_groups, {}, {}, options_.progress})
        .run();
  }

  Gptq inBasis(const BasisChange& change) const {
    Gptq result = *this;
    result.hessian_ = hessian_.inBasis(change);
    return result;
  }

 private:
  BasisHessian hessian_;
  GptqOptions options_;
};

static_assert(Rounding<Gptq>);

}  // namespace gosset::GOSSET_ABI
