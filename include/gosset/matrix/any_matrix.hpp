// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <gosset/core/error.hpp>
#include <gosset/core/float_storage.hpp>
#include <gosset/matrix/quantized_matrix.hpp>

#include <cstdint>
#include <functional>
#include <memory>
#include <ostream>
#include <span>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <variant>

namespace gosset::GOSSET_ABI {

/// The numbers of one stored array, of whatever type it is.
using AnyField =
    std::variant<std::span<const std::int8_t>, std::span<const std::uint8_t>, std::span<const std::uint16_t>,
                 std::span<const std::uint32_t>, std::span<const std::uint64_t>, std::span<const Float16>,
                 std::span<const BFloat16>, std::span<const float>>;

/// What an AnyMatrix needs of a packed matrix, whatever its format: the operations of PackedBase behind virtual calls.
class AnyPacked {
 public:
  virtual ~AnyPacked() = default;
  virtual std::string formatName() const = 0;
  virtual Index rows() const = 0;
  virtual Index cols() const = 0;
  virtual Index bytes() const = 0;
  virtual bool owns() const = 0;
  virtual bool hasIndependentRows() const = 0;
  virtual bool hasFastProduct() const = 0;
  virtual void multiply(const Eigen::Ref<const Eigen::MatrixXf>& x, Eigen::Ref<Eigen::MatrixXf> y,
                        Activations activations) const = 0;
  virtual void multiplyRows(Index first, Index count, const Eigen::Ref<const Eigen::MatrixXf>& x,
                            Eigen::Ref<Eigen::MatrixXf> y, Activations activations) const = 0;
  virtual void addTransposed(const Eigen::Ref<const Eigen::MatrixXf>& x, Eigen::Ref<Eigen::MatrixXf> y) const = 0;
  virtual void decodeRows(Index first, Index count, Eigen::Ref<RowMatrixXf> w) const = 0;
  /// Calls visit(name, AnyField) for each stored array.
  virtual void visitFields(const std::function<void(std::string_view name, const AnyField& field)>& visit) const = 0;
};

namespace detail {

template <Format F>
class AnyPackedOf final : public AnyPacked {
 public:
  explicit AnyPackedOf(Packed<F> packed) : packed_(std::move(packed)) {}

  const Packed<F>& packed() const { return packed_; }

  std::string formatName() const override { return Packed<F>::formatName(); }
  Index rows() const override { return packed_.rows(); }
  Index cols() const override { return packed_.cols(); }
  Index bytes() const override { return packed_.bytes(); }
  bool owns() const override { return packed_.owns(); }
  bool hasIndependentRows() const override { return Packed<F>::kRowsIndependent; }
  bool hasFastProduct() const override { return Packed<F>::kFastProduct; }
  void multiply(const Eigen::Ref<const Eigen::MatrixXf>& x, Eigen::Ref<Eigen::MatrixXf> y,
                Activations activations) const override {
    packed_.multiply(x, y, activations);
  }
  void multiplyRows(Index first, Index count, const Eigen::Ref<const Eigen::MatrixXf>& x, Eigen::Ref<Eigen::MatrixXf> y,
                    Activations activations) const override {
    packed_.multiplyRows(first, count, x, y, activations);
  }
  void addTransposed(const Eigen::Ref<const Eigen::MatrixXf>& x, Eigen::Ref<Eigen::MatrixXf> y) const override {
    packed_.addTransposed(x, y);
  }
  void decodeRows(Index first, Index count, Eigen::Ref<RowMatrixXf> w) const override {
    packed_.decodeRows(first, count, w);
  }
  void visitFields(const std::function<void(std::string_view, const AnyField&)>& visit) const override {
    packed_.visitFields([&](std::string_view name, auto values) { visit(name, values); });
  }

 private:
  Packed<F> packed_;
};

}  // namespace detail

/// A quantized matrix whose format is known at run time only: what an engine keeps that loads models of many formats.
/// It does what a QuantizedMatrix does; products are values rather than expressions (multiply() writes into memory that
/// is there already). Copies share the codes, which nothing changes.
///
///   AnyMatrix w = quantizeAs<Formats>("Grouped<Asymmetric<4>, 32>", W);   // format_list.hpp
///   AnyMatrix w = readAny<Formats>(file, "layers.0.wq");                  // io/quantized.hpp
///   AnyMatrix w(quantize<Incoherent<E8P>>(W));
class AnyMatrix {
 public:
  /// Empty, 0 x 0, of no format.
  AnyMatrix() = default;

  template <class F>
  explicit AnyMatrix(QuantizedMatrix<F> matrix)
      : activations_(matrix.activations()),
        packed_(std::make_shared<const detail::AnyPackedOf<F>>(std::move(matrix).packed())) {}

  Index rows() const { return packed_ ? packed_->rows() : 0; }
  Index cols() const { return packed_ ? packed_->cols() : 0; }

  /// The format as it is written in C++ without namespace; empty for an empty matrix.
  std::string format() const { return packed_ ? packed_->formatName() : std::string(); }

  /// The packed matrix where it is of format F, else null.
  template <Format F>
  const Packed<F>* as() const {
    const auto* typed = dynamic_cast<const detail::AnyPackedOf<F>*>(packed_.get());
    return typed != nullptr ? &typed->packed() : nullptr;
  }

  /// As QuantizedMatrix has them.
  Index bytes() const { return packed_ ? packed_->bytes() : 0; }
  double bitsPerWeight() const {
    const double weights = static_cast<double>(rows()) * static_cast<double>(cols());
    return weights > 0 ? 8.0 * static_cast<double>(bytes()) / weights : 0.0;
  }
  bool owns() const { return !packed_ || packed_->owns(); }
  bool hasIndependentRows() const { return !packed_ || packed_->hasIndependentRows(); }
  bool hasFastProduct() const { return packed_ && packed_->hasFastProduct(); }
  Activations activations() const { return activations_; }
  void setActivations(Activations activations) { activations_ = activations; }

  /// y (m x t) = matrix * x (n x t); x and y must not overlap. Errors: std::invalid_argument where a shape does not fit
  /// or the matrix is empty.
  void multiply(const Eigen::Ref<const Eigen::MatrixXf>& x, Eigen::Ref<Eigen::MatrixXf> y) const {
    packed().multiply(x, y, activations_);
  }
  /// See QuantizedMatrix::multiplyRows().
  void multiplyRows(Index first, Index count, const Eigen::Ref<const Eigen::MatrixXf>& x,
                    Eigen::Ref<Eigen::MatrixXf> y) const {
    packed().multiplyRows(first, count, x, y, activations_);
  }

  /// matrix * x for any dense x of n rows, a value in x's scalar type.
  template <DenseExpression Rhs>
  auto operator*(const Rhs& x) const {
    using Result = Eigen::Matrix<typename Rhs::Scalar, Eigen::Dynamic, Rhs::ColsAtCompileTime>;
    const Eigen::MatrixXf operand = x.derived().matrix().template cast<float>();
    Eigen::MatrixXf y(rows(), operand.cols());
    multiply(operand, y);
    return Result(y.template cast<typename Rhs::Scalar>());
  }
  /// x * matrix for any dense x of m columns.
  template <DenseExpression Lhs>
  friend auto operator*(const Lhs& x, const AnyMatrix& matrix) {
    return detail::timesPacked(x, matrix);
  }

  /// The transposed matrix, for products; it shares the codes.
  Transposed<AnyMatrix> transpose() const { return Transposed<AnyMatrix>(*this); }

  /// Row i as floats, n numbers. Errors: std::invalid_argument where there is no such row.
  Eigen::RowVectorXf row(Index i) const {
    RowMatrixXf result(1, cols());
    packed().decodeRows(i, 1, result);
    return result;
  }
  /// The rows [first, first + count) as floats into memory that is there already, count x n.
  void decodeRows(Index first, Index count, Eigen::Ref<RowMatrixXf> w) const { packed().decodeRows(first, count, w); }

  /// The m x n matrix that the codes stand for.
  RowMatrixXf dequantized() const {
    RowMatrixXf w(rows(), cols());
    if (packed_) packed_->decodeRows(0, rows(), w);
    return w;
  }

  /// Errors: std::invalid_argument where the matrix is empty.
  const AnyPacked& packed() const {
    detail::require(packed_ != nullptr, "AnyMatrix: the matrix is empty and of no format");
    return *packed_;
  }

  /// Equal in format, shape and every stored bit.
  friend bool operator==(const AnyMatrix& a, const AnyMatrix& b) {
    return a.rows() == b.rows() && a.cols() == b.cols() && a.format() == b.format() && a.image() == b.image();
  }

  friend std::ostream& operator<<(std::ostream& out, const AnyMatrix& matrix) {
    if (!matrix.packed_) return out << "empty";
    return out << matrix.format() << ", " << matrix.rows() << " x " << matrix.cols() << ", " << matrix.bitsPerWeight()
               << " bits a weight, " << matrix.bytes() << " bytes";
  }

 private:
  std::string image() const {
    std::string bytes;
    if (!packed_) return bytes;
    packed_->visitFields([&](std::string_view, const AnyField& field) {
      std::visit([&](auto values) { bytes.append(reinterpret_cast<const char*>(values.data()), values.size_bytes()); },
                 field);
    });
    return bytes;
  }

  Activations activations_ = Activations::kRounded;
  std::shared_ptr<const AnyPacked> packed_;
};

}  // namespace gosset::GOSSET_ABI
