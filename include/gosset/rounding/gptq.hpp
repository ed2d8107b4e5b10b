// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <gosset/core/error.hpp>
#include <gosset/rounding/basis_hessian.hpp>
#include <gosset/rounding/concepts.hpp>
#include <gosset/rounding/feedback.hpp>
#include <gosset/rounding/hessian.hpp>

#include <algorithm>
#include <cstdint>
#include <functional>
#include <numeric>
#include <utility>
#include <vector>

namespace gosset::GOSSET_ABI {

struct GptqOptions {
  double damping = 0.01;
  int sweeps = 0;              ///< as Ldlq's
  bool act_order = false;      ///< columns by falling diagonal of H; implies static groups
  bool static_groups = false;  ///< fit every group's scale before the first column, instead of when the loop reaches it
  std::function<void(const LdlqProgress&)> progress = {};
};

/// GPTQ: the same loop from the first column to the last, or by falling diagonal of H (act-order). Groups are fitted
/// when the loop reaches them unless static_groups or act_order is set. An ActOrder format takes that order from here
/// and makes its groups of columns that follow each other in it; act_order then changes nothing but that groups are
/// fitted first. Errors: as Ldlq. Source: Frantar et al., "GPTQ", ICLR 2023, section 3; its reference implementation
/// for act-order and static groups.
class Gptq {
 public:
  static constexpr bool kFitsGrid = true;
  static constexpr unsigned kOptionalHooks = kColumnOrderHook;

  explicit Gptq(Hessian hessian, GptqOptions options = {})
      : hessian_(std::move(hessian)), options_(std::move(options)) {}

  template <ScaledFormat F>
  void round(RowMatrixXf& w, Grid<F>& grid, CodeMatrix<typename F::Codebook>& codes) const& {
    Gptq(*this).round(w, grid, codes);
  }
  /// The same, in the Hessian's own memory where nobody else has it.
  template <ScaledFormat F>
  void round(RowMatrixXf& w, Grid<F>& grid, CodeMatrix<typename F::Codebook>& codes) && {
    const auto order = options_.act_order ? detail::BlockOrder::kByDiagonal : detail::BlockOrder::kFirstFirst;
    detail::Feedback<F>(std::move(hessian_), w, grid, codes,
                        {options_.damping, options_.sweeps, order, options_.static_groups, {}, {}, options_.progress})
        .run();
  }

  /// The n columns by falling diagonal of H. Errors: std::invalid_argument where H has another size.
  std::vector<std::uint32_t> columnOrder(Index n) const {
    detail::require(n == hessian_.size(), "Gptq: expected a matrix of ", hessian_.size(),
                    " inputs, as the Hessian has, got ", n);
    const Eigen::VectorXd diagonal = hessian_.diagonal();
    std::vector<std::uint32_t> order(static_cast<std::size_t>(n));
    std::iota(order.begin(), order.end(), 0u);
    std::stable_sort(order.begin(), order.end(), [&](std::uint32_t a, std::uint32_t b) {
      return diagonal[static_cast<Index>(a)] > diagonal[static_cast<Index>(b)];
    });
    return order;
  }

  Gptq inBasis(const BasisChange& change) const& { return Gptq(*this).inBasis(change); }
  Gptq inBasis(const BasisChange& change) && {
    hessian_ = std::move(hessian_).inBasis(change);
    return std::move(*this);
  }

 private:
  BasisHessian hessian_;
  GptqOptions options_;
};

static_assert(Rounding<Gptq>);

}  // namespace gosset::GOSSET_ABI
