// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <gosset/rounding/basis_hessian.hpp>
#include <gosset/rounding/concepts.hpp>
#include <gosset/rounding/feedback.hpp>
#include <gosset/rounding/hessian.hpp>

#include <functional>
#include <optional>
#include <utility>

namespace gosset::GOSSET_ABI {

struct LdlqOptions {
  double damping = 0.01;  ///< added to the diagonal of H, in units of its mean; raised until H factorizes
  /// Passes of coordinate descent afterwards; none ever raises the loss. Between two, ggml's formats fit their scales
  /// to the codes. By default 4, and 1 for trellis codes, where a pass takes longer and more gain little.
  std::optional<int> sweeps = {};
  /// Bits a number, on average, where tiles of columns have rates of their own (TrellisMixed), 1 to 6: those whose
  /// errors weigh most get more, by the diagonal of D in H = L D L^T. 2 by default.
  std::optional<double> mean_bits = {};
  /// Bits by which the rate of a tile may differ from mean_bits, rounded up to eighths; 0: all tiles alike. Any by
  /// default.
  std::optional<double> rate_spread = {};
  std::function<void(const LdlqProgress&)> progress = {};
};

/// QuIP#'s rounding: block LDLQ, the codebook's dimension being the block, last block first, then `sweeps` passes of
/// coordinate descent. A Hessian that has seen nothing, such as that of an expert that no token reached, counts as the
/// identity: all errors weigh alike. Errors (from quantize): std::invalid_argument where H has another size than W has
/// columns or is not positive definite under any damping; where damping, sweeps or rate_spread are negative; where
/// mean_bits or rate_spread are given for a code of one rate.
/// Source: Tseng et al., "QuIP#", ICML 2024, section 4.2.
class Ldlq {
 public:
  static constexpr bool kFitsGrid = true;

  explicit Ldlq(Hessian hessian, LdlqOptions options = {})
      : hessian_(std::move(hessian)), options_(std::move(options)) {}

  template <ScaledFormat F>
  void round(RowMatrixXf& w, Grid<F>& grid, CodeMatrix<typename F::Codebook>& codes) const& {
    Ldlq(*this).round(w, grid, codes);
  }
  /// The same, in the Hessian's own memory where nobody else has it.
  template <ScaledFormat F>
  void round(RowMatrixXf& w, Grid<F>& grid, CodeMatrix<typename F::Codebook>& codes) && {
    const int sweeps = options_.sweeps.value_or(TrellisCodebook<typename F::Codebook> ? 1 : 4);
    detail::Feedback<F>(std::move(hessian_), w, grid, codes,
                        {options_.damping, sweeps, detail::BlockOrder::kLastFirst, false, options_.mean_bits,
                         options_.rate_spread, options_.progress})
        .run();
  }

  /// This rounding for a matrix whose inputs are in another basis.
  Ldlq inBasis(const BasisChange& change) const& { return Ldlq(*this).inBasis(change); }
  Ldlq inBasis(const BasisChange& change) && {
    hessian_ = std::move(hessian_).inBasis(change);
    return std::move(*this);
  }

 private:
  BasisHessian hessian_;
  LdlqOptions options_;
};

static_assert(Rounding<Ldlq>);

}  // namespace gosset::GOSSET_ABI
