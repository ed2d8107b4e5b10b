// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <gosset/core/activations.hpp>
#include <gosset/core/error.hpp>
#include <gosset/core/parallel.hpp>
#include <gosset/core/types.hpp>
#include <gosset/format/fields.hpp>
#include <gosset/format/operand.hpp>
#include <gosset/kernel/plain.hpp>
#include <gosset/rounding/concepts.hpp>
#include <gosset/scale/options.hpp>

#include <algorithm>
#include <concepts>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>

// The concept page of formats. A Format is a type without data that says how numbers are stored; Packed<Format>, one
// specialization beside each format's definition, is a matrix stored so. Every operation that a user may call is
// defined here, once, with its errors; a format writes what it cannot take from the defaults.
//
// What may not enter this room: how users hold a matrix (matrix/), choices made by looking at data (calibration/).
namespace gosset::GOSSET_ABI {

/// A matrix as a format keeps it. A specialization derives from PackedBase<Packed<F>> (or, around another format, from
/// PackedWrapper<Packed<F>, Inner>) and writes
///
///   shaped(rows, cols, lengths)     an all-zero matrix whose arrays have the sizes for that shape; lengths(name) is
///   what
///                                   a file has, for arrays whose size does not follow from the shape, and may be empty
///                                   (static)
///   quantize(w, rounding, options)  one of a finite m x n matrix, which it takes over (static)
///   formatName()                    the format as it is written in C++ without namespace; files carry it (static)
///   rows() cols()
///   fields(self, visit)             the stored arrays, see VisitsFields: all that is kept, and nothing else (static)
///   computeRows(first, count, w)    rows [first, first + count) in floats into w, count x n
///
/// and where it has something better than the default of PackedBase
///
///   computeProduct(x, y, activations)      y = matrix * x
///   computeProductRows(first, count, x, y, activations)  the rows [first, first + count) of that, into those of y
///   computeTransposed(x, y)                y += matrix^T * x
///   computeTransposedRounded(x, y)         the same with x rounded to integers of 16 bits or 8, scale by scale (how
///                                          many: kRoundedDigits, kernel/fixed_point.hpp)
///   fault()                         what makes no sense of what the arrays hold
///   kRowsIndependent                false where a row cannot be had without the others
///   kFastProduct                    true where products read the packed numbers as they are, at the speed of memory
///   kUses kNeeds                    hooks of a rounding that it uses, and cannot do without (rounding/concepts.hpp)
///   rounds<Rounding>()              how the rounding can choose the codes inside
///
/// Shapes are checked before these are called. Members are StoredArrays and EmptyAfterMove numbers, so that what was
/// moved from is an empty matrix. A copy assignment that finds no memory leaves a matrix that may only be assigned to
/// or destroyed (QuantizedMatrix's leaves it as it was).
template <class Format>
class Packed;

/// What all packed matrices do.
template <class Self>
class PackedBase : public VisitsFields<Self> {
 public:
  static constexpr bool kRowsIndependent = true;
  static constexpr bool kFastProduct = false;
  static constexpr unsigned kUses = 0, kNeeds = 0;

  /// y = matrix * x; x: n x t, y: m x t, which must not overlap. Wrappers hand activations on to what is inside. x may
  /// have any magnitude; where a number of y is beyond float it is infinite, NaN only where x holds NaN or infinity.
  /// Errors: std::invalid_argument where a shape does not fit.
  void multiply(const Eigen::Ref<const Eigen::MatrixXf>& x, Eigen::Ref<Eigen::MatrixXf> y,
                Activations activations = Activations::kRounded) const {
    checkOperand("multiply", "x", x.rows(), self().cols(), x.cols());
    checkResult("multiply", y, self().rows(), x.cols());
    if (x.size() == 0 || y.size() == 0) return static_cast<void>(y.setZero());
    detail::multiplyInRange(x, y, [&](const Eigen::Ref<const Eigen::MatrixXf>& operand) {
      self().computeProduct(operand, y, activations);
    });
  }

  /// The rows [first, first + count) of the same product into those rows of y, m x t, in this thread alone: for a
  /// caller whose own threads share the rows out, best by kRowBlock: pieces that begin at multiples of it have the bits
  /// of the whole. Where kRowsIndependent is false it costs as much as the whole product. Errors: std::invalid_argument
  /// where a shape or the rows do not fit.
  void multiplyRows(Index first, Index count, const Eigen::Ref<const Eigen::MatrixXf>& x, Eigen::Ref<Eigen::MatrixXf> y,
                    Activations activations = Activations::kRounded) const {
    checkOperand("multiplyRows", "x", x.rows(), self().cols(), x.cols());
    checkResult("multiplyRows", y, self().rows(), x.cols());
    checkRows("multiplyRows", first, count);
    if (count == 0) return;
    if (x.size() == 0) return static_cast<void>(y.middleRows(first, count).setZero());
    const detail::SerialRegion serial;
    detail::multiplyInRange(x, y.middleRows(first, count), [&](const Eigen::Ref<const Eigen::MatrixXf>& operand) {
      self().computeProductRows(first, count, operand, y, activations);
    });
  }

  /// y += matrix^T * x; x: m x t, y: n x t, which must not overlap. Activations are taken as they are, and may have any
  /// magnitude.
  /// Errors: std::invalid_argument where a shape does not fit.
  void addTransposed(const Eigen::Ref<const Eigen::MatrixXf>& x, Eigen::Ref<Eigen::MatrixXf> y) const {
    checkOperand("addTransposed", "x", x.rows(), self().rows(), x.cols());
    checkResult("addTransposed", y, self().cols(), x.cols());
    if (x.size() == 0 || y.size() == 0) return;
    if (detail::isOrdinary(x)) return self().computeTransposed(x, y);
    const detail::OperandInUnits operand(x, -detail::kOrdinaryExponent, detail::kOrdinaryExponent);
    Eigen::MatrixXf product = Eigen::MatrixXf::Zero(y.rows(), y.cols());
    self().computeTransposed(operand.numbers(), product);
    operand.scaleBack(product);
    y += product;
  }

  /// The rows [first, first + count) in floats into memory that is there already, count x n.
  /// Errors: std::invalid_argument where a shape or the rows do not fit.
  void decodeRows(Index first, Index count, Eigen::Ref<RowMatrixXf> w) const {
    checkRows("decodeRows", first, count);
    detail::require(w.rows() == count && w.cols() == self().cols(), "decodeRows: expected a matrix of ", count, " x ",
                    self().cols(), ", got ", w.rows(), " x ", w.cols());
    if (w.size() > 0) self().computeRows(first, count, w);
  }

  /// Row i in floats, n numbers. Errors: std::invalid_argument where there is no such row.
  Eigen::RowVectorXf row(Index i) const {
    checkRows("row", i, 1);
    Eigen::RowVectorXf result(self().cols());
    self().computeRows(i, 1, result);
    return result;
  }

  /// Back to floats, m x n.
  RowMatrixXf dequantized() const {
    RowMatrixXf w(self().rows(), self().cols());
    if (w.size() > 0) self().computeRows(0, w.rows(), w);
    return w;
  }

  /// The same into memory that is there already. Errors: std::invalid_argument where w is not m x n.
  void dequantizeTo(Eigen::Ref<RowMatrixXf> w) const {
    detail::require(w.rows() == self().rows() && w.cols() == self().cols(), "dequantizeTo: expected a matrix of ",
                    self().rows(), " x ", self().cols(), ", got ", w.rows(), " x ", w.cols());
    if (w.size() > 0) self().computeRows(0, w.rows(), w);
  }

  /// Bytes kept: every stored array, padding included.
  Index bytes() const {
    Index bytes = 0;
    this->visitFields([&](std::string_view, auto values) { bytes += static_cast<Index>(values.size_bytes()); });
    return bytes;
  }

  /// Whether all arrays are this matrix's own memory, rather than views of a file's.
  bool owns() const {
    bool owns = true;
    Self::fields(self(), [&](std::string_view, const auto& field) {
      if constexpr (requires { field.owns(); }) owns = owns && field.owns();
    });
    return owns;
  }

  /// What makes no sense of what the arrays hold, which a file may get wrong: the array, a colon and what was expected.
  /// Empty where all does. In any format floats must be finite.
  std::string fault() const {
    std::string fault;
    this->visitFields([&]<class T>(std::string_view name, std::span<const T> values) {
      if (fault.empty() && !detail::areFinite(values)) fault = std::string(name) + ": expected finite numbers";
    });
    return fault;
  }

  bool isValid() const { return self().fault().empty(); }

  // Defaults: a stretch of rows becomes floats at a time.

  void computeProduct(const Eigen::Ref<const Eigen::MatrixXf>& x, Eigen::Ref<Eigen::MatrixXf> y,
                      Activations activations) const {
    const Index rows = self().rows();
    if constexpr (Self::kRowsIndependent) {
      parallelFor(ceilDiv(rows, kStretch), kStretch * self().cols() * (x.cols() + 2), [&](Index stretch) {
        const Index first = stretch * kStretch;
        self().computeProductRows(first, std::min(kStretch, rows - first), x, y, activations);
      });
    } else {
      detail::multiplyWidened(dequantized(), x, y);
    }
  }

  void computeProductRows(Index first, Index count, const Eigen::Ref<const Eigen::MatrixXf>& x,
                          Eigen::Ref<Eigen::MatrixXf> y, Activations activations) const {
    if constexpr (Self::kRowsIndependent) {
      forStretches(first, count, [&](Index start, Index rows) {
        RowMatrixXf w(rows, self().cols());
        self().computeRows(start, rows, w);
        detail::multiplyWidened(w, x, y.middleRows(start, rows));
      });
    } else {
      Eigen::MatrixXf whole(self().rows(), x.cols());
      self().computeProduct(x, whole, activations);
      y.middleRows(first, count) = whole.middleRows(first, count);
    }
  }

  void computeTransposed(const Eigen::Ref<const Eigen::MatrixXf>& x, Eigen::Ref<Eigen::MatrixXf> y) const {
    if constexpr (Self::kRowsIndependent) {
      RowMatrixXf w(std::min(kStretch, self().rows()), self().cols());
      for (Index first = 0; first < self().rows(); first += kStretch) {
        const Index count = std::min(kStretch, self().rows() - first);
        self().computeRows(first, count, w.topRows(count));
        detail::addProductInOrder(w.topRows(count).transpose(), x.middleRows(first, count), y);
      }
    } else {
      detail::addProductInOrder(dequantized().transpose(), x, y);
    }
  }

  void computeTransposedRounded(const Eigen::Ref<const Eigen::MatrixXf>& x, Eigen::Ref<Eigen::MatrixXf> y) const {
    self().computeTransposed(x, y);
  }

 protected:
  static constexpr Index kStretch = 128;  ///< rows that become floats at a time

  /// visit(start, rows) for the rows [first, first + count) in pieces that end at multiples of kStretch.
  template <class Visit>
  static void forStretches(Index first, Index count, const Visit& visit) {
    for (const Index end = first + count; first < end;) {
      const Index rows = std::min((first / kStretch + 1) * kStretch, end) - first;
      visit(first, rows);
      first += rows;
    }
  }

 private:
  const Self& self() const { return static_cast<const Self&>(*this); }

  void checkOperand(const char* function, const char* name, Index rows, Index expected, Index columns) const {
    detail::require(rows == expected, function, ": the matrix is ", self().rows(), " x ", self().cols(), ", so ", name,
                    " needs ", expected, " rows, got ", rows, " x ", columns);
  }
  static void checkResult(const char* function, const Eigen::Ref<Eigen::MatrixXf>& y, Index rows, Index cols) {
    detail::require(y.rows() == rows && y.cols() == cols, function, ": expected a result y of ", rows, " x ", cols,
                    ", got ", y.rows(), " x ", y.cols());
  }
  void checkRows(const char* function, Index first, Index count) const {
    detail::require(first >= 0 && count >= 0 && first <= self().rows() && count <= self().rows() - first, function,
                    ": expected rows within 0 .. ", self().rows(), ", got ", count, " from ", first, " on");
  }
};

/// What formats around another format have in common: the shape, validity, traits and hooks of what is inside. Self
/// writes its own fields and visitWithin("inner.", self.inner_, visit).
template <class Self, class InnerFormat>
class PackedWrapper : public PackedBase<Self> {
 public:
  using Inner = Packed<InnerFormat>;
  static constexpr bool kRowsIndependent = Inner::kRowsIndependent;
  static constexpr bool kFastProduct = Inner::kFastProduct;
  static constexpr unsigned kUses = Inner::kUses, kNeeds = Inner::kNeeds;
  template <class Rounding>
  static constexpr HowRounded rounds() {
    return Inner::template rounds<Rounding>();
  }

  Index rows() const { return inner_.rows(); }
  Index cols() const { return inner_.cols(); }
  const Inner& inner() const { return inner_; }
  std::string fault() const {
    const std::string inside = inner_.fault();
    return inside.empty() ? PackedBase<Self>::fault() : "inner." + inside;
  }

 protected:
  explicit PackedWrapper(Inner inner) : inner_(std::move(inner)) {}

  /// The inner format's matrix for a file.
  static Inner innerShaped(Index rows, Index cols, const FieldLengths& lengths) {
    return Inner::shaped(rows, cols, lengthsWithin("inner.", lengths));
  }

  Inner inner_;
};

/// Rows that are best multiplied together by multiplyRows(): enough that rounding the activations first costs little.
inline constexpr Index kRowBlock = 256;

namespace detail {

template <class P>
concept Complete = requires {
  sizeof(P);
};

}  // namespace detail

/// A packed matrix with every operation.
template <class P>
concept PackedMatrix = detail::Complete<P> && std::copyable<P> &&
    requires(const P& p, P& writable, Index n, const FieldLengths& lengths, const Eigen::MatrixXf& x,
             Eigen::Ref<Eigen::MatrixXf> y, Eigen::Ref<RowMatrixXf> w) {
  { P::shaped(n, n, lengths) } -> std::same_as<P>;
  { P::formatName() } -> std::convertible_to<std::string>;
  { p.rows() } -> std::convertible_to<Index>;
  { p.cols() } -> std::convertible_to<Index>;
  { p.fault() } -> std::convertible_to<std::string>;
  { p.bytes() } -> std::convertible_to<Index>;
  { p.dequantized() } -> std::same_as<RowMatrixXf>;
  p.visitFields([](std::string_view, auto) {});
  writable.visitFields([](std::string_view, auto) {});
  p.computeRows(n, n, w);
  p.computeProduct(x, y, Activations::kFloat);
  p.computeProductRows(n, n, x, y, Activations::kFloat);
  p.computeTransposed(x, y);
  requires std::same_as<const bool, decltype(P::kRowsIndependent)>;
  requires std::same_as<const bool, decltype(P::kFastProduct)>;
};

/// A type that says how numbers are stored.
template <class F>
concept Format = PackedMatrix<Packed<F>>;

/// Whether products of a format read its packed numbers as they are, at the speed of memory; others become floats
/// first.
template <Format F>
inline constexpr bool hasFastProduct = Packed<F>::kFastProduct;

}  // namespace gosset::GOSSET_ABI
