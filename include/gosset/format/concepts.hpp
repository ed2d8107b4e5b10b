// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <gosset/core/activations.hpp>
#include <gosset/core/types.hpp>

#include <concepts>
#include <cstring>
#include <functional>
#include <span>
#include <string>
#include <string_view>
#include <type_traits>

namespace gosset {

/// A matrix as a format keeps it, one specialization a format, each beside the format's definition:
///
///   quantize(w, rounding, options)  makes one of a finite m x n matrix, which it takes over (static)
///   shaped(rows, cols)              one whose arrays have the sizes for that shape, all zero (static); for files
///   formatName()                    the format as it is written in C++ without namespace (static)
///   rows() cols()
///   visitFields(visit)              calls visit(name, span) for each stored array: all that is kept, and nothing else
///   dequantized()                   back to floats
///   addTransposed(x, y)             where it exists, y += matrix^T * x, x: m x t, y: n x t
///   multiply(x, y, activations)     y = matrix * x, x: n x t, y: m x t; wrappers hand activations on to what is inside
///
/// and where files need it
///
///   shaped(rows, cols, lengths)     in place of shaped(rows, cols) where the lengths of some arrays do not follow from
///                                   the shape: lengths(name) is what a file has, true or not (static)
///   isValid()                       whether what the arrays hold makes sense, where not everything does
template <class Format>
class Packed;

template <class P>
concept PackedObject = requires(const P p, Index n, Eigen::Ref<Eigen::MatrixXf> y) {
  { P::shaped(n, n) } -> std::same_as<P>;
  { P::formatName() } -> std::convertible_to<std::string>;
  { p.rows() } -> std::convertible_to<Index>;
  { p.cols() } -> std::convertible_to<Index>;
  p.visitFields([](std::string_view, auto) {});
  { p.dequantized() } -> std::same_as<RowMatrixXf>;
  p.multiply(std::declval<const Eigen::Ref<const Eigen::MatrixXf>&>(), y, Activations::kFloat);
};

/// A type that says how numbers are stored.
template <class F>
concept Format = PackedObject<Packed<F>>;

namespace detail {

/// y += packed^T * x; x: m x t, y: n x t, by the format's own product where it has one.
template <PackedObject P>
void addTransposedProduct(const P& packed, const Eigen::Ref<const Eigen::MatrixXf>& x, Eigen::Ref<Eigen::MatrixXf> y) {
  if constexpr (requires { packed.addTransposed(x, y); }) {
    packed.addTransposed(x, y);
  } else {
    y.noalias() += packed.dequantized().transpose() * x;
  }
}

}  // namespace detail

/// Bytes that a packed matrix keeps: every stored array, padding included.
template <PackedObject P>
Index storedBytes(const P& packed) {
  Index bytes = 0;
  packed.visitFields([&](std::string_view, auto values) { bytes += static_cast<Index>(values.size_bytes()); });
  return bytes;
}

/// How many numbers a file holds of an array, by the array's name.
using FieldLengths = std::function<Index(std::string_view name)>;

namespace detail {

/// An all-zero matrix, with arrays as long as a file's where their lengths do not follow from the shape. Whether the
/// file's other arrays agree is for the reader to check, and isValid().
template <class P>
P shapedFor(Index rows, Index cols, const FieldLengths& lengths) {
  if constexpr (requires { P::shaped(rows, cols, lengths); }) {
    return P::shaped(rows, cols, lengths);
  } else {
    return P::shaped(rows, cols);
  }
}

/// The same for what is inside a wrapper, whose arrays are called inner.<name>.
template <class P>
P innerShapedFor(Index rows, Index cols, const FieldLengths& lengths) {
  return shapedFor<P>(rows, cols, [&](std::string_view name) { return lengths("inner." + std::string(name)); });
}

/// Gives Self visitFields(visit), for reading and for writing alike, from one static fields(self, visit), which calls
/// visit(name, span) for each stored array. Self names it as a friend.
template <class Self>
class VisitsFields {
 public:
  template <class Visitor>
  void visitFields(Visitor&& visit) const {
    Self::fields(static_cast<const Self&>(*this), visit);
  }
  template <class Visitor>
  void visitFields(Visitor&& visit) {
    Self::fields(static_cast<Self&>(*this), visit);
  }
};

/// The fields of a part, their names behind a prefix.
template <class Part, class Visitor>
void visitWithin(std::string_view prefix, Part& part, Visitor& visit) {
  part.visitFields([&](std::string_view name, auto values) { visit(std::string(prefix) + std::string(name), values); });
}

/// What a packed matrix says of itself, if it says anything: false where a file holds codes that mean nothing.
template <class P>
bool isValid(const P& packed) {
  if constexpr (requires {
                  { packed.isValid() } -> std::convertible_to<bool>;
                }) {
    return packed.isValid();
  } else {
    return true;
  }
}

}  // namespace detail
}  // namespace gosset
