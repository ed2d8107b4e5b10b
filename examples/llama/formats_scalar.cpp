// SPDX-License-Identifier: Apache-2.0
#include "formats_entry.hpp"

#include <gosset/codebook.hpp>

// Each number, or each five, by itself.
namespace llama::detail {

/// Codes rounded up or down at random.
template <class Format>
static std::unique_ptr<Linear> packStochastic(const PackJob& job) {
  return packed<Format>(job, gosset::Stochastic{.seed = job.seed});
}

std::vector<FormatEntry> scalarFormats() {
  using namespace gosset;  // NOLINT: a table of its names
  using Int8 = PerChannel<Symmetric<8>>;
  using Int4 = PerChannel<Symmetric<4>>;
  using Asym4 = PerChannel<Asymmetric<4>>;
  using Asym4G32 = Grouped<Asymmetric<4>, 32>;
  using Asym3G32 = Grouped<Asymmetric<3>, 32>;
  using Asym2G32 = Grouped<Asymmetric<2>, 32>;
  using Nf4G64 = Grouped<NormalFloat4, 64>;
  using Lloyd4G64 = Grouped<LloydMax<4>, 64>;
  using Lloyd3G64 = Grouped<LloydMax<3>, 64>;
  using Lloyd2G64 = Grouped<LloydMax<2>, 64>;
  using TernaryRow = PerChannel<Trits5>;
  using BinaryG64 = Grouped<Binary, 64>;
  return {
      entry<Float16>("fp16", "16-bit floats"),
      entry<BFloat16>("bf16", "bfloat16"),
      entry<Int8>("int8", "8 bits, symmetric, a scale a row"),
      entry<Int4>("int4", "4 bits, symmetric, a scale a row"),
      entry<Int4>("int4-stochastic", "int4, rounded at random", &packStochastic<Int4>),
      entry<Asym4>("asym4", "4 bits, scale and zero point a row"),
      entry<Asym4G32>("asym4-g32", "4 bits, scale and zero point for 32 weights"),
      entry<Nf4G64>("nf4-g64", "NormalFloat4, a scale for 64 weights"),
      entry<Lloyd4G64>("lloyd4-g64", "4 bits, Gaussian levels, a scale for 64 weights"),
      entry<Asym3G32>("asym3-g32", "3 bits, scale and zero point for 32 weights"),
      entry<Asym3G32>("asym3-g32-mse", "asym3-g32, scales of least squared error", &packLeastSquares<Asym3G32>),
      entry<Lloyd3G64>("lloyd3-g64", "3 bits, Gaussian levels, a scale for 64 weights"),
      entry<Asym2G32>("asym2-g32", "2 bits, scale and zero point for 32 weights"),
      entry<Asym2G32>("asym2-g32-mse", "asym2-g32, scales of least squared error", &packLeastSquares<Asym2G32>),
      entry<Lloyd2G64>("lloyd2-g64", "2 bits, Gaussian levels, a scale for 64 weights"),
      entry<TernaryRow>("ternary", "1.6 bits, -1 0 1 times the mean magnitude of a row"),
      entry<TernaryRow>("ternary-mse", "ternary, threshold and scale of least squared error",
                        &packLeastSquares<TernaryRow>),
      entry<BinaryG64>("binary-g64", "1 bit, a scale for 64 weights"),
  };
}

}  // namespace llama::detail
