// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <gosset/core/error.hpp>
#include <gosset/core/types.hpp>

// How Eigen learns to multiply a QuantizedMatrix: everything that touches Eigen's internals stands in this one file.
// The product is a DefaultProduct, so that Eigen evaluates it into a temporary wherever the target might alias an
// operand (y = q * y) and writes straight through noalias().
namespace gosset::GOSSET_ABI {

template <class Format>
class QuantizedMatrix;

struct PackedStorage {};  ///< Eigen's StorageKind for quantized matrices
struct PackedShape {};    ///< and its Shape

}  // namespace gosset::GOSSET_ABI

namespace Eigen::internal {

template <class Format>
struct traits<gosset::QuantizedMatrix<Format>> {
  using Scalar = float;
  using StorageIndex = int;
  using StorageKind = gosset::PackedStorage;
  using XprKind = MatrixXpr;
  enum {
    RowsAtCompileTime = Dynamic,
    ColsAtCompileTime = Dynamic,
    MaxRowsAtCompileTime = Dynamic,
    MaxColsAtCompileTime = Dynamic,
    Flags = NestByRefBit
  };
};

template <class Format>
struct evaluator_traits<gosset::QuantizedMatrix<Format>> {
  using Kind = IndexBased;
  using Shape = gosset::PackedShape;
};

template <int kProductTag>
struct product_promote_storage_type<gosset::PackedStorage, Dense, kProductTag> {
  using ret = Dense;
};

template <class Format, class Rhs, int kProductTag>
struct generic_product_impl<gosset::QuantizedMatrix<Format>, Rhs, gosset::PackedShape, DenseShape, kProductTag>
    : generic_product_impl_base<
          gosset::QuantizedMatrix<Format>, Rhs,
          generic_product_impl<gosset::QuantizedMatrix<Format>, Rhs, gosset::PackedShape, DenseShape, kProductTag>> {
  using Scalar = float;

  template <class Target>
  static void scaleAndAddTo(Target& target, const gosset::QuantizedMatrix<Format>& q, const Rhs& rhs, float alpha) {
    gosset::detail::require(target.rows() == q.rows() && target.cols() == rhs.cols(),
                            "QuantizedMatrix product: expected a target of ", q.rows(), " x ", rhs.cols(), ", got ",
                            target.rows(), " x ", target.cols());
    const Ref<const MatrixXf> x(rhs);  // binds to plain column-major operands, evaluates all others once
    MatrixXf y(q.rows(), x.cols());
    q.multiply(x, y);
    if (alpha != 1) y *= alpha;  // rounded before the sum, on all machines
    target += y;
  }
};

// Eigen reads a * (q * x) as (a * q) * x, which would scale a matrix for nothing and a quantized one not at all: here
// it is the product, then the scaling.
template <class Scalar, class Plain, class Format, class Rhs>
using ScaledPackedProduct =
    CwiseBinaryOp<scalar_product_op<Scalar, float>, const CwiseNullaryOp<scalar_constant_op<Scalar>, Plain>,
                  const Product<gosset::QuantizedMatrix<Format>, Rhs, DefaultProduct>>;

template <class Scalar, class Plain, class Format, class Rhs>
struct evaluator<ScaledPackedProduct<Scalar, Plain, Format, Rhs>>
    : binary_evaluator<ScaledPackedProduct<Scalar, Plain, Format, Rhs>> {
  using Base = binary_evaluator<ScaledPackedProduct<Scalar, Plain, Format, Rhs>>;
  explicit evaluator(const ScaledPackedProduct<Scalar, Plain, Format, Rhs>& xpr) : Base(xpr) {}
};

template <class Target, class Scalar, class Plain, class Format, class Rhs, class AssignFunctor>
struct Assignment<Target, ScaledPackedProduct<Scalar, Plain, Format, Rhs>, AssignFunctor, Dense2Dense> {
  static void run(Target& target, const ScaledPackedProduct<Scalar, Plain, Format, Rhs>& xpr,
                  const AssignFunctor& functor) {
    const auto product = xpr.rhs().eval();
    call_assignment_no_alias(target, xpr.lhs().functor()() * product, functor);
  }
};

}  // namespace Eigen::internal
