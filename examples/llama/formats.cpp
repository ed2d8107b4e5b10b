// SPDX-License-Identifier: Apache-2.0
#include "formats.hpp"

#include <gosset/gosset.hpp>

namespace llama {

namespace detail {

template <class Format>
std::unique_ptr<Linear> readLinear(const gosset::SafetensorsFile& file, const std::string& name) {
  return std::make_unique<QuantizedLinear<Format>>(gosset::readQuantized<gosset::QuantizedMatrix<Format>>(file, name));
}

/// Scales as published, nearest codes.
template <class Format>
std::unique_ptr<Linear> packNearest(const PackJob& job) {
  return std::make_unique<QuantizedLinear<Format>>(
      gosset::quantize<Format>(job.weights, gosset::Nearest{}, {.seed = job.seed}));
}

/// Scales searched for the least squared error.
template <class Format>
std::unique_ptr<Linear> packLeastSquares(const PackJob& job) {
  return std::make_unique<QuantizedLinear<Format>>(
      gosset::quantize<Format>(job.weights, gosset::Nearest{}, {.fit = gosset::LeastSquares{}, .seed = job.seed}));
}

/// Codes rounded up or down at random.
template <class Format>
std::unique_ptr<Linear> packStochastic(const PackJob& job) {
  return std::make_unique<QuantizedLinear<Format>>(
      gosset::quantize<Format>(job.weights, gosset::Stochastic{.seed = job.seed}));
}

/// GPTQ with act-order, scales of least squared error.
template <class Format>
std::unique_ptr<Linear> packGptq(const PackJob& job) {
  return std::make_unique<QuantizedLinear<Format>>(gosset::quantize<Format>(
      job.weights, gosset::Gptq(*job.hessian, {.act_order = true}), {.fit = gosset::LeastSquares{}, .seed = job.seed}));
}

/// QuIP#: block LDLQ in the rotated basis.
template <class Codebook>
std::unique_ptr<Linear> packQuip(const PackJob& job) {
  using Format = gosset::Incoherent<Codebook>;
  return std::make_unique<QuantizedLinear<Format>>(
      gosset::quantize<Format>(job.weights, gosset::Ldlq(*job.hessian), {.seed = job.seed}));
}

template <class Format>
FormatEntry calibrated(const char* name, const char* about, std::unique_ptr<Linear> (*pack)(const PackJob&)) {
  return {name, about, gosset::Packed<Format>::formatName(), pack, &readLinear<Format>, true};
}

template <class Format>
FormatEntry entry(const char* name, const char* about,
                  std::unique_ptr<Linear> (*pack)(const PackJob&) = &packNearest<Format>) {
  return {name, about, gosset::Packed<Format>::formatName(), pack, &readLinear<Format>};
}

}  // namespace detail

const std::vector<FormatEntry>& formatTable() {
  using namespace gosset;  // NOLINT: a table of its names
  using Int8 = PerChannel<Symmetric<8>>;
  using Int4 = PerChannel<Symmetric<4>>;
  using Asym4 = PerChannel<Asymmetric<4>>;
  using Asym4G32 = Grouped<Asymmetric<4>, 32>;
  using Asym3G32 = Grouped<Asymmetric<3>, 32>;
  using Asym2G32 = Grouped<Asymmetric<2>, 32>;
  using Nf4G64 = Grouped<NormalFloat4, 64>;
  using Lloyd3G64 = Grouped<LloydMax<3>, 64>;
  using Lloyd2G64 = Grouped<LloydMax<2>, 64>;
  using BinaryG64 = Grouped<Binary, 64>;
  using detail::calibrated, detail::entry, detail::packGptq, detail::packQuip;
  static const std::vector<FormatEntry> table = {
      entry<Float16>("fp16", "16-bit floats"),
      entry<BFloat16>("bf16", "bfloat16"),
      entry<Int8>("int8", "8 bits, symmetric, a scale a row"),
      entry<Int4>("int4", "4 bits, symmetric, a scale a row"),
      entry<Int4>("int4-stochastic", "int4, rounded at random", &detail::packStochastic<Int4>),
      entry<Asym4>("asym4", "4 bits, scale and zero point a row"),
      entry<Asym4G32>("asym4-g32", "4 bits, scale and zero point for 32 weights"),
      entry<Nf4G64>("nf4-g64", "NormalFloat4, a scale for 64 weights"),
      entry<Asym3G32>("asym3-g32", "3 bits, scale and zero point for 32 weights"),
      entry<Asym3G32>("asym3-g32-mse", "asym3-g32, scales of least squared error", &detail::packLeastSquares<Asym3G32>),
      entry<Lloyd3G64>("lloyd3-g64", "3 bits, Gaussian levels, a scale for 64 weights"),
      entry<Asym2G32>("asym2-g32", "2 bits, scale and zero point for 32 weights"),
      entry<Asym2G32>("asym2-g32-mse", "asym2-g32, scales of least squared error", &detail::packLeastSquares<Asym2G32>),
      entry<Lloyd2G64>("lloyd2-g64", "2 bits, Gaussian levels, a scale for 64 weights"),
      entry<BinaryG64>("binary-g64", "1 bit, a scale for 64 weights"),
      calibrated<Asym4G32>("gptq4-g32", "GPTQ, 4 bits, scale and zero point for 32 weights", &packGptq<Asym4G32>),
      calibrated<Asym3G32>("gptq3-g32", "GPTQ, 3 bits, scale and zero point for 32 weights", &packGptq<Asym3G32>),
      calibrated<Asym2G32>("gptq2-g32", "GPTQ, 2 bits, scale and zero point for 32 weights", &packGptq<Asym2G32>),
      calibrated<Incoherent<E8PRvq4>>("quip#4", "QuIP#, 4 bits", &packQuip<E8PRvq4>),
      calibrated<Incoherent<E8PRvq3>>("quip#3", "QuIP#, 3 bits", &packQuip<E8PRvq3>),
      calibrated<Incoherent<E8P>>("quip#2", "QuIP#, 2 bits", &packQuip<E8P>),
  };
  return table;
}

}  // namespace llama
