// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <gosset/core/error.hpp>
#include <gosset/core/reorder.hpp>
#include <gosset/format/concepts.hpp>
#include <gosset/rounding/concepts.hpp>

#include <algorithm>
#include <cstdint>
#include <span>
#include <string>
#include <utility>
#include <vector>

namespace gosset::GOSSET_ABI {

/// Keeps the columns in the order in which they were rounded, so that those of a group, which share a scale, need not
/// be neighbours in the matrix: GPTQ's act-order with its group index (desc_act and g_idx in checkpoints).
///
///   W(i, order_k) = inner(i, k)        y = inner (x_order_0, x_order_1, ..)
///
/// Kept besides the inner format: n 32-bit numbers, 32 / m bits a weight. Products gather their operand first.
///
/// The order comes from the rounding, by its hook columnOrder: Gptq gives columns by falling diagonal of its Hessian.
/// Source: Frantar et al., "GPTQ", ICLR 2023, and its reference implementation for act-order.
template <class Format>
struct ActOrder {
  using Inner = Format;
};

namespace detail {

/// Whether these are the numbers 0 .. n - 1, each once.
inline bool isOrder(std::span<const std::uint32_t> order) {
  std::vector<bool> seen(order.size());
  for (const std::uint32_t column : order) {
    if (column >= order.size() || seen[column]) return false;
    seen[column] = true;
  }
  return true;
}

}  // namespace detail

template <Format F>
class Packed<ActOrder<F>> : public PackedWrapper<Packed<ActOrder<F>>, F> {
 public:
  using Base = PackedWrapper<Packed<ActOrder<F>>, F>;
  static constexpr unsigned kUses = Base::kUses | kColumnOrderHook, kNeeds = Base::kNeeds | kColumnOrderHook;

  Packed() : Packed(Packed<F>(), {}) {}
  /// An all-zero matrix, its columns as they stand, unless a file's order is about to come.
  static Packed shaped(Index rows, Index cols, const FieldLengths& lengths = {}) {
    StoredArray<std::uint32_t> order(static_cast<std::size_t>(cols));
    if (!detail::DeferredArrays::areMade()) {
      std::uint32_t next = 0;
      for (std::uint32_t& column : order.writable()) column = next++;
    }
    return Packed(Base::innerShaped(rows, cols, lengths), std::move(order));
  }

  /// Errors: std::invalid_argument where the order that comes does not name each column once.
  template <class Rounding>
  static Packed quantize(RowMatrixXf w, Rounding rounding, const QuantizeOptions& options) {
    const std::vector<std::uint32_t> order = rounding.columnOrder(w.cols());
    checkOrder(order, w.cols());
    detail::gatherColumns(w, order);
    const BasisChange change{.hessian = [order](Eigen::MatrixXd& h) { detail::gatherBoth(h, order); },
                             .tokens = [order](RowMatrixXf& x) { detail::gatherColumns(x, order); }};
    return Packed(Packed<F>::quantize(std::move(w), inBasis(std::move(rounding), change), options), stored(order));
  }

  /// The matrix whose column order[k] is column k of what is inside. Errors: std::invalid_argument as quantize().
  static Packed assembled(Packed<F> inner, std::span<const std::uint32_t> order) {
    checkOrder(order, inner.cols());
    return Packed(std::move(inner), stored(order));
  }

  static std::string formatName() { return "ActOrder<" + Packed<F>::formatName() + ">"; }

  /// Also an order that does not name each column once.
  std::string fault() const {
    return detail::isOrder(order()) ? Base::fault() : "order: expected each column's number once";
  }

  /// The columns of the matrix, n numbers, in the order in which they stand inside.
  std::span<const std::uint32_t> order() const { return order_.values(); }

  void computeRows(Index first, Index count, Eigen::Ref<RowMatrixXf> w) const {
    RowMatrixXf inside(std::min(Base::kStretch, count), this->cols());
    for (Index done = 0; done < count; done += inside.rows()) {
      const Index rows = std::min(inside.rows(), count - done);
      this->inner_.decodeRows(first + done, rows, inside.topRows(rows));
      for (Index i = 0; i < rows; ++i) {
        for (Index k = 0; k < this->cols(); ++k) w(done + i, column(k)) = inside(i, k);
      }
    }
  }

  void computeProduct(const Eigen::Ref<const Eigen::MatrixXf>& x, Eigen::Ref<Eigen::MatrixXf> y,
                      Activations activations) const {
    this->inner_.multiply(gathered(x), y, activations);
  }
  void computeProductRows(Index first, Index count, const Eigen::Ref<const Eigen::MatrixXf>& x,
                          Eigen::Ref<Eigen::MatrixXf> y, Activations activations) const {
    this->inner_.multiplyRows(first, count, gathered(x), y, activations);
  }

  /// Row order_k of y += row k of inner^T x.
  void computeTransposed(const Eigen::Ref<const Eigen::MatrixXf>& x, Eigen::Ref<Eigen::MatrixXf> y) const {
    Eigen::MatrixXf result = Eigen::MatrixXf::Zero(this->cols(), x.cols());
    this->inner_.addTransposed(x, result);
    for (Index j = 0; j < x.cols(); ++j) {
      for (Index k = 0; k < this->cols(); ++k) y(column(k), j) += result(k, j);
    }
  }

  template <class Self, class Visit>
  static void fields(Self& self, const Visit& visit) {
    visit("order", self.order_);
    visitWithin("inner.", self.inner_, visit);
  }

 private:
  Packed(Packed<F> inner, StoredArray<std::uint32_t> order) : Base(std::move(inner)), order_(std::move(order)) {}

  static void checkOrder(std::span<const std::uint32_t> order, Index cols) {
    detail::require(static_cast<Index>(order.size()) == cols && detail::isOrder(order),
                    "ActOrder: expected an order of ", cols, " columns, each once, got ", order.size(),
                    " numbers that are none");
  }

  static StoredArray<std::uint32_t> stored(std::span<const std::uint32_t> order) {
    StoredArray<std::uint32_t> result(order.size());
    std::copy(order.begin(), order.end(), result.writable().begin());
    return result;
  }

  Index column(Index k) const { return static_cast<Index>(order_[static_cast<std::size_t>(k)]); }

  Eigen::MatrixXf gathered(const Eigen::Ref<const Eigen::MatrixXf>& x) const {
    Eigen::MatrixXf result(x.rows(), x.cols());
    for (Index j = 0; j < x.cols(); ++j) {
      for (Index k = 0; k < x.rows(); ++k) result(k, j) = x(column(k), j);
    }
    return result;
  }

  StoredArray<std::uint32_t> order_;
};

}  // namespace gosset::GOSSET_ABI
