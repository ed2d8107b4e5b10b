// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <gosset/core/error.hpp>
#include <gosset/core/finite.hpp>
#include <gosset/rounding/concepts.hpp>
#include <gosset/rounding/nearest.hpp>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <functional>
#include <memory>
#include <utility>
#include <vector>

namespace gosset::GOSSET_ABI {

struct OutlierColumnsOptions {
  float threshold = 6.f;            ///< positive; a column is an outlier where max |X_j| reaches it
  bool relative_to_median = false;  ///< the threshold counts in medians of max |X_j| over all columns
};

/// The input columns whose activations reach a threshold, for a MixedColumns format, and a rounding for the others:
///
///   quantize<LlmInt8>(W, OutlierColumns(X))
///   quantize<LlmInt8>(W, OutlierColumns(X, {.threshold = 6.f}, Gptq(h)))
///
/// An absolute threshold suits only models whose activations have the magnitude that it was found on; the relative one
/// suits all. Inside a format that changes the basis of the inputs, such as Incoherent, the columns are those of the
/// activations in that basis; for that X is kept, in float, and shared by copies.
/// Source: Dettmers et al., "LLM.int8()", NeurIPS 2022, section 3.2.
template <class Inner = Nearest>
class OutlierColumns : public RoundingWrapper<OutlierColumns<Inner>, Inner> {
 public:
  /// x: t x n, tokens x in. Errors: std::invalid_argument where X is empty or not finite, or the threshold is not
  /// positive.
  template <DenseExpression Tokens>
  explicit OutlierColumns(const Tokens& x, const OutlierColumnsOptions& options = {}, Inner rounding = {})
      : RoundingWrapper<OutlierColumns<Inner>, Inner>(std::move(rounding)), options_(options) {
    detail::require(options.threshold > 0 && std::isfinite(options.threshold),
                    "OutlierColumns: expected a threshold > 0, got ", options.threshold);
    tokens_ = std::make_shared<const RowMatrixXf>(detail::finiteFloats("OutlierColumns", x));
  }

  /// The columns, rising.
  std::vector<std::uint32_t> columns() const { return outlierColumns(tokens_->cols()); }

  /// The same, for a matrix of n columns. Errors: std::invalid_argument where the activations had another width.
  std::vector<std::uint32_t> outlierColumns(Index n) const {
    detail::require(n == tokens_->cols(), "OutlierColumns: expected a matrix of ", tokens_->cols(),
                    " inputs, as the activations have, got ", n);
    const Eigen::VectorXf maxima = largestOfColumns();
    const float threshold = options_.threshold * (options_.relative_to_median ? median(maxima) : 1.f);
    std::vector<std::uint32_t> columns;
    for (Index j = 0; j < n; ++j) {
      if (maxima[j] > 0 && maxima[j] >= threshold) columns.push_back(static_cast<std::uint32_t>(j));
    }
    return columns;
  }

  void changeBasis(const BasisChange& change) { changes_.push_back(change.tokens); }

 private:
  Eigen::VectorXf largestOfColumns() const {
    if (changes_.empty()) return tokens_->cwiseAbs().colwise().maxCoeff();
    RowMatrixXf x = *tokens_;
    for (const auto& change : changes_) change(x);
    return x.cwiseAbs().colwise().maxCoeff();
  }

  /// The lower one of two.
  static float median(Eigen::VectorXf values) {
    float* middle = values.data() + (values.size() - 1) / 2;
    std::nth_element(values.data(), middle, values.data() + values.size());
    return *middle;
  }

  std::shared_ptr<const RowMatrixXf> tokens_;
  std::vector<std::function<void(RowMatrixXf&)>> changes_;
  OutlierColumnsOptions options_;
};

template <DenseExpression Tokens>
explicit OutlierColumns(const Tokens&) -> OutlierColumns<Nearest>;
template <DenseExpression Tokens>
explicit OutlierColumns(const Tokens&, const OutlierColumnsOptions&) -> OutlierColumns<Nearest>;
template <DenseExpression Tokens, class Inner>
explicit OutlierColumns(const Tokens&, const OutlierColumnsOptions&, Inner) -> OutlierColumns<Inner>;

}  // namespace gosset::GOSSET_ABI
