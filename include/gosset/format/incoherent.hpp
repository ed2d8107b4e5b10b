// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <gosset/core/empty_after_move.hpp>
#include <gosset/core/error.hpp>
#include <gosset/core/parallel.hpp>
#include <gosset/core/random.hpp>
#include <gosset/core/types.hpp>
#include <gosset/format/concepts.hpp>
#include <gosset/hadamard/lazy.hpp>
#include <gosset/hadamard/random_signs.hpp>
#include <gosset/hadamard/transform.hpp>
#include <gosset/rounding/basis.hpp>
#include <gosset/scale/options.hpp>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <string>
#include <utility>

namespace gosset::GOSSET_ABI {

/// Keeps the matrix in a random basis: W' = U W V^T with U = H_m S_m and V = H_n S_n, H orthonormal Hadamard matrices
/// (or their stand-ins, see hadamardKind) and S diagonal matrices of random signs. The entries of W' are nearly
/// Gaussian and none is large, whatever W was, which is what a lattice codebook wants. The product never leaves that
/// basis: y = U^T (W' (V x)).
///
/// Kept besides the inner format: the seed of the signs, 64 bits.
/// Source: Tseng et al., "QuIP#", ICML 2024, section 3.
template <class Format>
struct Incoherent {
  using Inner = Format;
};

template <Format F>
class Packed<Incoherent<F>> : public PackedWrapper<Packed<Incoherent<F>>, F> {
 public:
  using Base = PackedWrapper<Packed<Incoherent<F>>, F>;
  static constexpr bool kRowsIndependent = false;

  Packed() : Packed(Packed<F>(), 0) {}
  static Packed shaped(Index rows, Index cols, const FieldLengths& lengths = {}) {
    return Packed(Base::innerShaped(rows, cols, lengths), 0);
  }

  /// Errors: std::invalid_argument where the matrix is so large that sums on the way to its basis and back could leave
  /// the range of float.
  template <class Rounding>
  static Packed quantize(RowMatrixXf w, Rounding rounding, const QuantizeOptions& options) {
    const double norm = normOf(w);
    const double most = 0x1p126 / std::sqrt(static_cast<double>(std::max(w.rows(), w.cols())));
    detail::require(norm <= most, "quantize: the matrix, ", w.rows(), " x ", w.cols(), ", has a norm of ", norm,
                    ", beyond the ", most, " up to which Incoherent turns it into its basis and back within float");
    const std::uint64_t seed = options.seed;
    toBasis(w, seed);
    const BasisChange change{.hessian =
                                 [seed](Eigen::MatrixXd& h) {  // V H V^T
                                   applyRowSigns(h, inputSeed(seed));
                                   hadamardCols(h);
                                   h.transposeInPlace();
                                   applyRowSigns(h, inputSeed(seed));
                                   hadamardCols(h);
                                 },
                             .tokens = [seed](RowMatrixXf& x) {  // X V^T
                               applyColSigns(x, inputSeed(seed));
                               hadamardRows(x);
                             }};
    return Packed(Packed<F>::quantize(std::move(w), inBasis(std::move(rounding), change), options), seed);
  }

  static std::string formatName() { return "Incoherent<" + Packed<F>::formatName() + ">"; }

  /// A few rows are products with the transposed inner matrix, which read it once but decode it nowhere whole; they are
  /// those of all rows but for the rounding of sums.
  void computeRows(Index first, Index count, Eigen::Ref<RowMatrixXf> w) const {
    constexpr Index kFew = 16;
    if (count == this->rows()) {
      this->inner_.decodeRows(0, count, w);
      inputs_->inverseRows(w);
      applyColSigns(w, inputSeed(seed_));
      outputs_->inverseCols(w);
      applyRowSigns(w, outputSeed(seed_));
    } else if (count <= kFew) {
      Eigen::MatrixXf units = Eigen::MatrixXf::Zero(this->rows(), count);
      units.middleRows(first, count).setIdentity();
      Eigen::MatrixXf rows = Eigen::MatrixXf::Zero(this->cols(), count);
      computeTransposed(units, rows);
      w = rows.transpose();
    } else {
      w = this->dequantized().middleRows(first, count);
    }
  }

  void computeProduct(const Eigen::Ref<const Eigen::MatrixXf>& x, Eigen::Ref<Eigen::MatrixXf> y,
                      Activations activations) const {
    Eigen::MatrixXf rotated = x;
    applyRowSigns(rotated, inputSeed(seed_));
    inputs_->forwardCols(rotated);
    this->inner_.multiply(rotated, y, activations);
    outputs_->inverseCols(y);
    applyRowSigns(y, outputSeed(seed_));
  }

  /// y += V^T (W'^T (U x)).
  void computeTransposed(const Eigen::Ref<const Eigen::MatrixXf>& x, Eigen::Ref<Eigen::MatrixXf> y) const {
    Eigen::MatrixXf rotated = x;
    applyRowSigns(rotated, outputSeed(seed_));
    outputs_->forwardCols(rotated);
    Eigen::MatrixXf result = Eigen::MatrixXf::Zero(this->cols(), x.cols());
    this->inner_.addTransposed(rotated, result);
    inputs_->inverseCols(result);
    applyRowSigns(result, inputSeed(seed_));
    y += result;
  }

  template <class Self, class Visit>
  static void fields(Self& self, const Visit& visit) {
    visit("seed", self.seed_.get());
    visitWithin("inner.", self.inner_, visit);
  }

 private:
  /// In double, rows by themselves.
  static double normOf(const RowMatrixXf& w) {
    Eigen::VectorXd squares(w.rows());
    parallelFor(w.rows(), w.cols(),
                [&](Index row) { squares[row] = w.row(row).template cast<double>().squaredNorm(); });
    return std::sqrt(squares.sum());
  }

  Packed(Packed<F> inner, std::uint64_t seed)
      : Base(std::move(inner)),
        seed_(seed),
        inputs_(std::max<Index>(this->cols(), 1)),
        outputs_(std::max<Index>(this->rows(), 1)) {}

  static std::uint64_t inputSeed(std::uint64_t seed) { return randomBits(seed, 0); }
  static std::uint64_t outputSeed(std::uint64_t seed) { return randomBits(seed, 1); }

  /// W becomes U W V^T.
  static void toBasis(RowMatrixXf& w, std::uint64_t seed) {
    applyColSigns(w, inputSeed(seed));
    hadamardRows(w);
    applyRowSigns(w, outputSeed(seed));
    hadamardCols(w);
  }

  detail::EmptyAfterMove<std::uint64_t> seed_;
  LazyHadamard<float> inputs_, outputs_;  ///< follow from the shape; kept because building them takes time
};

}  // namespace gosset::GOSSET_ABI
