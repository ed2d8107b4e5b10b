// SPDX-License-Identifier: Apache-2.0
// A rounding of your own: each weight takes over the error of the one before it in its row, so that sums over
// neighbours come out right. rounding/concepts.hpp says what a rounding is; scales are fitted before it is asked.
#include "data.hpp"

#include <gosset/gosset.hpp>

#include <cmath>
#include <cstdio>

/// Error diffusion, as pictures are dithered: w_j is rounded at w_j plus what rounding w_(j-1) left over.
struct Diffused {
  static constexpr bool kRowByRow = true;    // no row depends on another, so that a matrix may come in parts
  static constexpr bool kScalarOnly = true;  // it rounds number by number

  template <gosset::ScaledFormat F>
  requires gosset::ScalarCodebook<typename F::Codebook>
  void round(gosset::RowMatrixXf& w, gosset::Grid<F>& grid, gosset::CodeMatrix<typename F::Codebook>& codes) const {
    using C = typename F::Codebook;
    for (gosset::Index row = 0; row < w.rows(); ++row) {
      float left_over = 0;
      for (gosset::Index j = 0; j < w.cols(); ++j) {
        const gosset::Affine affine = grid.affine(row, grid.groupOf(j));
        const float wanted = w(row, j) + left_over;
        float value;
        codes(row, j) = gosset::encode<C>(&wanted, affine);
        gosset::decode<C>(codes(row, j), affine, &value);
        left_over = wanted - value;
      }
    }
  }
};
static_assert(gosset::Rounding<Diffused>);

int main() {
  const Eigen::MatrixXf W = example::gaussian(128, 172, 1);
  Eigen::MatrixXf smooth(172, 20);  // inputs that change slowly from one channel to the next
  for (int t = 0; t < 20; ++t) {
    for (int j = 0; j < 172; ++j) smooth(j, t) = std::sin(0.02f * static_cast<float>(j + 40 * t));
  }
  using Int3 = gosset::Grouped<gosset::Asymmetric<3>, 43>;
  const auto error = [&](const auto& q) {
    return (q.dequantized() * smooth - W * smooth).norm() / (W * smooth).norm();
  };
  const auto nearest = gosset::quantize<Int3>(W);
  const auto diffused = gosset::quantize<Int3>(W, Diffused{});
  std::printf("output error on smooth inputs: nearest %.2f, diffused %.2f\n", error(nearest), error(diffused));
  // It goes with every format of single numbers, also in wrappers.
  const auto rotated = gosset::quantize<gosset::Incoherent<Int3>>(W, Diffused{});
  std::printf("%.2f bits a weight, rotated %.2f\n", diffused.bitsPerWeight(), rotated.bitsPerWeight());
}

/* Prints:
output error on smooth inputs: nearest 0.19, diffused 0.01
3.91 bits a weight, rotated 3.91
*/
