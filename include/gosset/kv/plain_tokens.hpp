// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <gosset/core/empty_after_move.hpp>
#include <gosset/core/float_storage.hpp>
#include <gosset/core/ordered_product.hpp>
#include <gosset/core/types.hpp>
#include <gosset/kernel/plain.hpp>

#include <algorithm>
#include <cstddef>
#include <utility>
#include <vector>

namespace gosset::GOSSET_ABI::detail {

/// For so many more; seldom asks for memory where few come each time.
template <class T>
void makeRoom(std::vector<T>& values, std::size_t more) {
  const std::size_t needed = values.size() + more;
  if (needed > values.capacity()) values.reserve(std::max(needed, 2 * values.size()));
}

/// Tokens in floats, a row of heads * dim numbers each: those that wait to be packed, and those that never are.
template <StorageScalar T>
class PlainTokens {
 public:
  PlainTokens(Index heads, Index dim) : heads_(heads), dim_(dim) {}

  Index size() const { return static_cast<Index>(numbers_.size()) / width(); }
  void reserveMore(Index tokens) { makeRoom<T>(numbers_, static_cast<std::size_t>(tokens * width())); }

  /// Rounds to T. There is room for them.
  void append(const Eigen::Ref<const RowMatrixXf>& tokens) noexcept {
    const std::size_t before = numbers_.size();
    numbers_.resize(before + static_cast<std::size_t>(tokens.size()));
    T* to = numbers_.data() + before;
    for (Index t = 0; t < tokens.rows(); ++t) narrow(tokens.row(t).data(), tokens.cols(), to + t * tokens.cols());
  }

  void truncate(Index tokens) { numbers_.resize(static_cast<std::size_t>(tokens * width())); }

  /// All but the oldest, with room for `room` in all.
  PlainTokens withoutOldest(Index dropped, Index room) const {
    PlainTokens kept(heads_, dim_);
    kept.numbers_.reserve(static_cast<std::size_t>(std::max(room, size() - dropped) * width()));
    kept.numbers_.assign(numbers_.begin() + dropped * width(), numbers_.end());
    return kept;
  }
  void swap(PlainTokens& other) noexcept { numbers_.swap(other.numbers_); }

  /// y = K x, K being a head's keys (tokens x dim), x: dim x t.
  void multiply(Index head, const Eigen::Ref<const Eigen::MatrixXf>& x, Eigen::Ref<Eigen::MatrixXf> y) const {
    if (x.cols() > kFewColumns) return multiplyWidened(widened(head), x, y);
    for (Index i = 0; i < x.cols(); ++i) {
      multiplyPlain(first(head), size(), dim_, width(), x.col(i).data(), y.col(i).data());
    }
  }
  /// y += V^T x, V being a head's values (tokens x dim), x: tokens x t.
  void addTransposed(Index head, const Eigen::Ref<const Eigen::MatrixXf>& x, Eigen::Ref<Eigen::MatrixXf> y) const {
    if (x.cols() > kFewColumns) return addProductInOrder(widened(head).transpose(), x, y);
    addPlainTransposed(first(head), size(), dim_, width(), x.data(), x.cols(), x.outerStride(), y.data(),
                       y.outerStride());
  }

  /// Tokens [first, first + count) in floats.
  RowMatrixXf rows(Index first, Index count) const { return map().middleRows(first, count).template cast<float>(); }
  void dequantize(Eigen::Ref<RowMatrixXf> w) const { w = map().template cast<float>(); }
  bool allFinite() const { return map().template cast<float>().allFinite(); }
  Index bytes() const { return static_cast<Index>(numbers_.size() * sizeof(T)); }

  /// For VisitsFields.
  std::vector<T>& numbers() { return numbers_; }
  const std::vector<T>& numbers() const { return numbers_; }

 private:
  using Matrix = Eigen::Matrix<T, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;

  Index width() const { return heads_ * dim_; }
  const T* first(Index head) const { return numbers_.data() + head * dim_; }
  Eigen::Map<const Matrix> map() const { return {numbers_.data(), size(), width()}; }
  RowMatrixXf widened(Index head) const { return map().middleCols(head * dim_, dim_).template cast<float>(); }

  Index heads_, dim_;
  EmptyAfterMove<std::vector<T>> numbers_;
};

}  // namespace gosset::GOSSET_ABI::detail
