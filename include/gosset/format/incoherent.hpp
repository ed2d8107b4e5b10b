// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <gosset/core/random.hpp>
#include <gosset/format/concepts.hpp>
#include <gosset/hadamard/random_signs.hpp>
#include <gosset/hadamard/transform.hpp>
#include <gosset/rounding/basis.hpp>
#include <gosset/scale/options.hpp>

#include <cstdint>
#include <span>
#include <string>
#include <utility>

namespace gosset {

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
class Packed<Incoherent<F>> : public detail::VisitsFields<Packed<Incoherent<F>>> {
 public:
  static Packed shaped(Index rows, Index cols) { return Packed(Packed<F>::shaped(rows, cols), 0); }

  template <class Rounding>
  static Packed quantize(RowMatrixXf w, const Rounding& rounding, const QuantizeOptions& options) {
    const std::uint64_t seed = options.seed;
    toBasis(w, seed);
    const auto rotate = [seed](Eigen::MatrixXd& h) {  // V H V^T
      applyRowSigns(h, inputSeed(seed));
      hadamardCols(h);
      h.transposeInPlace();
      applyRowSigns(h, inputSeed(seed));
      hadamardCols(h);
    };
    return Packed(Packed<F>::quantize(std::move(w), inBasis(rounding, rotate), options), seed);
  }

  static std::string formatName() { return "Incoherent<" + Packed<F>::formatName() + ">"; }
  Index rows() const { return inner_.rows(); }
  Index cols() const { return inner_.cols(); }

  const Packed<F>& inner() const { return inner_; }

  /// False where a file holds codes that are none of the inner format.
  bool isValid() const { return detail::isValid(inner_); }

  RowMatrixXf dequantized() const {
    RowMatrixXf w = inner_.dequantized();
    inputs_.inverseRows(w);
    applyColSigns(w, inputSeed(seed_));
    outputs_.inverseCols(w);
    applyRowSigns(w, outputSeed(seed_));
    return w;
  }

  void multiply(const Eigen::Ref<const Eigen::MatrixXf>& x, Eigen::Ref<Eigen::MatrixXf> y,
                Activations activations) const {
    Eigen::MatrixXf rotated = x;
    applyRowSigns(rotated, inputSeed(seed_));
    inputs_.forwardCols(rotated);
    inner_.multiply(rotated, y, activations);
    outputs_.inverseCols(y);
    applyRowSigns(y, outputSeed(seed_));
  }

 private:
  Packed(Packed<F> inner, std::uint64_t seed)
      : inner_(std::move(inner)), seed_(seed), inputs_(inner_.cols()), outputs_(inner_.rows()) {}

  static std::uint64_t inputSeed(std::uint64_t seed) { return randomBits(seed, 0); }
  static std::uint64_t outputSeed(std::uint64_t seed) { return randomBits(seed, 1); }

  /// W becomes U W V^T.
  static void toBasis(RowMatrixXf& w, std::uint64_t seed) {
    applyColSigns(w, inputSeed(seed));
    hadamardRows(w);
    applyRowSigns(w, outputSeed(seed));
    hadamardCols(w);
  }

  friend class detail::VisitsFields<Packed<Incoherent<F>>>;
  template <class Self, class Visitor>
  static void fields(Self& self, Visitor& visit) {
    visit("seed", std::span(&self.seed_, 1));
    detail::visitWithin("inner.", self.inner_, visit);
  }

  Packed<F> inner_;
  std::uint64_t seed_;
  HadamardTransform<float> inputs_, outputs_;  ///< follow from the shape; kept because building them takes time
};

}  // namespace gosset
