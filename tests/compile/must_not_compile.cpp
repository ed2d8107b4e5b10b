// SPDX-License-Identifier: Apache-2.0
// What a user may get wrong in types: each case must be refused, with the sentence beside it.
#include <gosset/codebook.hpp>
#include <gosset/format/ggml.hpp>
#include <gosset/matrix.hpp>
#include <gosset/rounding/stochastic.hpp>

namespace gs = gosset;

struct Pair {  // a vector codebook
  using Code = std::uint8_t;
  static constexpr int kDim = 2;
  static constexpr int kBits = 2;
  static constexpr gs::ScaleRule kRule = gs::ScaleRule::kRootMeanSquare;
  static constexpr float kGaussianScale = 0.8f;
  static Code encode(const float* x) { return static_cast<Code>((x[0] >= 0) + 2 * (x[1] >= 0)); }
  static void decode(Code q, float* y) {
    y[0] = q % 2 == 1 ? 1.f : -1.f;
    y[1] = q / 2 == 1 ? 1.f : -1.f;
  }
  static std::string name() { return "Pair"; }
};

void program(const Eigen::MatrixXf& w, const Eigen::MatrixXi& integers) {
#ifndef REFUSED  // the neighbours of the cases below are all right
  (void)gs::quantize<gs::Symmetric<2>>(w);
  (void)gs::quantize<gs::Grouped<Pair, 4>>(w);
  (void)gs::quantize<gs::Grouped<gs::Symmetric<4>, 1>>(w, gs::Stochastic{});
  (void)gs::quantize<gs::Float16>(w);
  (void)gs::quantize<float>(integers.cast<double>());
  (void)gs::quantize<gs::ggml::Q2_K>(w);
#endif

#ifdef CASE_SYMMETRIC_OF_ONE_BIT  // Symmetric<b> takes 2 to 8 bits; for one bit see Binary
  (void)gs::quantize<gs::Symmetric<1>>(w);
#endif
#ifdef CASE_ASYMMETRIC_OF_NINE_BITS  // Asymmetric<b> takes 1 to 8 bits
  (void)gs::quantize<gs::Asymmetric<9>>(w);
#endif
#ifdef CASE_LLOYD_MAX_OF_FIVE_BITS  // LloydMax<b> takes 1 to 4 bits
  (void)gs::quantize<gs::LloydMax<5>>(w);
#endif
#ifdef CASE_EMPTY_GROUPS  // Grouped<Codebook, N>: a group needs at least one number
  (void)gs::quantize<gs::Grouped<gs::Symmetric<4>, 0>>(w);
#endif
#ifdef CASE_SPLIT_CODES  // Grouped<Codebook, N>: N must be a multiple of the numbers that one code stands for
  (void)gs::quantize<gs::Grouped<Pair, 3>>(w);
#endif
#ifdef CASE_TRELLIS_OF_ANY_STATES  // Trellis<n, d, L>: L is 12, 14 or 16
  (void)gs::quantize<gs::Trellis<2, 1, 13>>(w);
#endif
#ifdef CASE_TRELLIS_OF_THIRDS  // Trellis<n, d>: n / d is a multiple of 1/8
  (void)gs::quantize<gs::Trellis<4, 3>>(w);
#endif
#ifdef CASE_TRELLIS_OF_SEVEN_BITS  // Trellis<n, d>: n / d is from 1 to 6 bits
  (void)gs::quantize<gs::Trellis<7>>(w);
#endif
#ifdef CASE_GROUPS_THAT_SPLIT_TILES  // Grouped<Trellis, N>: N must be a multiple of 32, a tile's columns
  (void)gs::quantize<gs::Grouped<gs::Trellis<2>, 48>>(w);
#endif
#ifdef CASE_FORMAT_THAT_IS_NONE  // quantize<Format>: Format is a codebook
  (void)gs::quantize<int>(w);
#endif
#ifdef CASE_MATRIX_OF_NO_FORMAT  // QuantizedMatrix<Format>: Format is a codebook
  (void)sizeof(gs::QuantizedMatrix<double>);
#endif
#ifdef CASE_INTEGER_MATRIX  // quantize<Format>(W): W must hold float, double, Eigen::half or Eigen::bfloat16
  (void)gs::quantize<gs::Symmetric<8>>(integers);
#endif
#ifdef CASE_STOCHASTIC_VECTORS  // this rounding needs a codebook of single numbers
  (void)gs::quantize<gs::PerChannel<Pair>>(w, gs::Stochastic{});
#endif
#ifdef CASE_NO_ROUNDING  // the second argument is no rounding
  (void)gs::quantize<gs::Symmetric<8>>(w, 5);
#endif
#ifdef CASE_OPTIONS_FOR_A_ROUNDING  // options come third
  (void)gs::quantize<gs::Symmetric<8>>(w, gs::QuantizeOptions{.fit = gs::LeastSquares{}});
#endif
#ifdef CASE_CODES_THAT_ARE_SIGNED  // fromCodes<Format>(codes, ..): codes are unsigned integers
  (void)gs::fromCodes<gs::Symmetric<8>>(integers, w);
#endif
#ifdef CASE_CODES_OF_FLOATS  // fromCodes<Format>: Format is a codebook, bare or in PerTensor, PerChannel or Grouped
  (void)gs::fromCodes<gs::Float16>(integers.cast<std::uint8_t>().eval(), w);
#endif
#ifdef CASE_POINTS_THAT_ARE_ONLY_READ  // this rounding cannot choose codes of this format
  (void)gs::quantize<gs::ggml::IQ2_XXS>(w);
#endif
#ifdef CASE_SCALES_OF_BLOCKS_ONE_BY_ONE  // the scales within a block are multiples of the block's
  gs::Grid<gs::ggml::Codes<gs::ggml::Q4_K>>(1, 256, gs::PublishedRule{}).setScale(0, 0, 1, 0);
#endif
#ifdef CASE_STOCHASTIC_FLOATS  // a plain float format stores numbers as they are: only Nearest rounding applies to it
  (void)gs::quantize<gs::Float16>(w, gs::Stochastic{});
#endif
}
