// SPDX-License-Identifier: Apache-2.0
#include "formats.hpp"

#include "shared_rows.hpp"

#include <gosset/calibration.hpp>
#include <gosset/codebook.hpp>
#include <gosset/format.hpp>
#include <gosset/io/quantized.hpp>
#include <gosset/matrix.hpp>
#include <gosset/rounding.hpp>

#include <initializer_list>
#include <optional>
#include <type_traits>
#include <utility>
#include <variant>
#include <vector>

// The table of formats: one line each. What takes a compiler long, a format's products and its quantization by each
// rounding that a line asks for, is instantiated here and nowhere else.
namespace llama {

namespace {

using namespace gosset;  // NOLINT: a table of its names

/// What a line tells quantize() beside the format and the matrix, and the matrix beside its codes.
template <class Rounding>
struct How {
  Rounding rounding;
  ScaleFit fit = PublishedRule{};
  Activations activations = Activations::kRounded;
};
template <class Rounding, class... More>
How(Rounding, More...) -> How<Rounding>;

// Ways to round. One that takes LayerInputs, too, needs a calibration.

constexpr auto nearest = [](const PackJob&) { return How{Nearest{}}; };
constexpr auto stochastic = [](const PackJob& job) { return How{Stochastic{.seed = job.seed}}; };
constexpr auto leastSquares = [](const PackJob&) { return How{Nearest{}, LeastSquares{}}; };
constexpr auto perToken = [](const PackJob&) { return How{Nearest{}, PublishedRule{}, Activations::kRoundedPerToken}; };
constexpr auto smoothQuant = [](const PackJob& job, const LayerInputs& inputs) {
  return How{ChannelScales(searchSmoothQuant(job.weights, inputs.tokens).s), PublishedRule{},
             Activations::kRoundedPerToken};
};
/// The published threshold of 6 is an absolute number for large models; here it counts in medians.
constexpr auto outlierColumns = [](const PackJob&, const LayerInputs& inputs) {
  return How{OutlierColumns(inputs.tokens, {.threshold = 6, .relative_to_median = true}), PublishedRule{},
             Activations::kRoundedPerToken};
};
constexpr auto awq = [](const PackJob&, const LayerInputs& inputs) { return How{Awq(inputs.tokens)}; };
constexpr auto sensitive = [](const PackJob&, const LayerInputs& inputs) { return How{BySensitivity(inputs.hessian)}; };
/// GPTQ or LDLQ, which share what takes a compiler long.
class WithFeedback {
 public:
  static constexpr bool kFitsGrid = true;

  explicit WithFeedback(std::variant<Gptq, Ldlq> rounding) : rounding_(std::move(rounding)) {}

  template <ScaledFormat F>
  void round(RowMatrixXf& w, Grid<F>& grid, CodeMatrix<typename F::Codebook>& codes) const& {
    WithFeedback(*this).round(w, grid, codes);
  }
  template <ScaledFormat F>
  void round(RowMatrixXf& w, Grid<F>& grid, CodeMatrix<typename F::Codebook>& codes) && {
    std::visit([&](auto& rounding) { std::move(rounding).round(w, grid, codes); }, rounding_);
  }
  WithFeedback inBasis(const BasisChange& change) const& { return WithFeedback(*this).inBasis(change); }
  WithFeedback inBasis(const BasisChange& change) && {
    std::visit([&](auto& rounding) { rounding = std::move(rounding).inBasis(change); }, rounding_);
    return std::move(*this);
  }

 private:
  std::variant<Gptq, Ldlq> rounding_;
};

/// GPTQ, or what a recipe asks for in place of it.
WithFeedback gptqOf(const PackJob& job, const Hessian& h);
/// LDLQ, the same; `options` has what the format says of it.
WithFeedback ldlqOf(const PackJob& job, const Hessian& h, LdlqOptions options = {});

WithFeedback gptqOf(const PackJob& job, const Hessian& h) {
  if (job.options.feedback == "ldlq") return ldlqOf(job, h);
  const GptqOptions usual;
  return WithFeedback(Gptq(h, {.damping = job.options.damping.value_or(usual.damping),
                               .sweeps = job.options.sweeps.value_or(usual.sweeps),
                               .act_order = job.options.byDiagonal.value_or(true)}));
}
WithFeedback ldlqOf(const PackJob& job, const Hessian& h, LdlqOptions options) {
  if (job.options.feedback == "gptq") return gptqOf(job, h);
  options.damping = job.options.damping.value_or(options.damping);
  if (job.options.sweeps) options.sweeps = job.options.sweeps;
  if (job.options.rateSpread) options.rate_spread = job.options.rateSpread;
  return WithFeedback(Ldlq(h, std::move(options)));
}

constexpr auto gptq = [](const PackJob& job, const LayerInputs& inputs) {
  return How{SharedRows(gptqOf(job, inputs.hessian), job.peers), LeastSquares{}};
};
constexpr auto sensitiveGptq = [](const PackJob& job, const LayerInputs& inputs) {
  return How{BySensitivity(inputs.hessian, SharedRows(gptqOf(job, inputs.hessian), job.peers)), LeastSquares{}};
};
constexpr auto ldlq = [](const PackJob& job, const LayerInputs& inputs) {
  return How{SharedRows(ldlqOf(job, inputs.hessian), job.peers)};
};
constexpr auto ldlqMean = [](const PackJob& job, const LayerInputs& inputs) {
  return How{SharedRows(ldlqOf(job, inputs.hessian, {.mean_bits = job.bits}), job.peers)};
};
constexpr auto ldlqEven = [](const PackJob& job, const LayerInputs& inputs) {
  return How{SharedRows(ldlqOf(job, inputs.hessian, {.mean_bits = job.bits, .rate_spread = 0}), job.peers)};
};
constexpr auto ldlqLeastSquares = [](const PackJob& job, const LayerInputs& inputs) {
  return How{SharedRows(ldlqOf(job, inputs.hessian), job.peers), LeastSquares{}};
};

/// As a recipe calls it.
template <class Choose>
constexpr const char* roundingName() {
  constexpr auto is = []<class... Others>(const Others&...) {
    return (std::is_same_v<std::remove_const_t<Choose>, std::remove_const_t<Others>> || ...);
  };
  if (is(gptq, sensitiveGptq)) return "gptq";
  if (is(ldlq, ldlqMean, ldlqEven, ldlqLeastSquares)) return "ldlq";
  if (is(stochastic)) return "stochastic";
  if (is(smoothQuant)) return "smoothquant";
  if (is(awq)) return "awq";
  return "nearest";
}

template <class Choose>
constexpr bool kLooksAtInputs = std::is_invocable_v<Choose, const PackJob&, const LayerInputs&>;

template <class F, class Choose>
AnyMatrix packAs(PackJob job) {
  auto how = [&] {
    if constexpr (kLooksAtInputs<Choose>) {
      const LayerInputs inputs = *std::exchange(job.inputs, std::nullopt);  // of which the rounding keeps what it needs
      return Choose{}(job, inputs);
    } else {
      return Choose{}(job);
    }
  }();
  AnyMatrix matrix(quantize<F>(std::move(job.weights), std::move(how.rounding), {.fit = how.fit, .seed = job.seed}));
  matrix.setActivations(how.activations);
  return matrix;
}

template <class F>
struct Line {
  std::vector<FormatEntry> entries;
};

template <class F, class Choose>
Line<F> line(const char* name, const char* about, Choose) {
  return {{{name,
            about,
            Packed<F>::formatName(),
            &packAs<F, Choose>,
            kLooksAtInputs<Choose>,
            Packed<F>::kRowsIndependent,
            {},
            0,
            roundingName<Choose>()}}};
}

/// A line for each of these numbers of bits.
template <class F, class Choose>
Line<F> family(const char* name, const char* about, Choose choose, std::initializer_list<double> bits) {
  const FormatEntry entry = line<F>(name, about, choose).entries.front();
  Line<F> result;
  for (const double b : bits) result.entries.push_back(atBits(entry, b));
  return result;
}

/// FormatList<Seen..., those of F... that are new>.
template <class Seen, class... F>
struct Distinct {
  using Type = Seen;
};
template <class... Seen, class F, class... Rest>
struct Distinct<FormatList<Seen...>, F, Rest...>
    : Distinct<std::conditional_t<(std::is_same_v<F, Seen> || ...), FormatList<Seen...>, FormatList<Seen..., F>>,
               Rest...> {};

template <class... F>
struct Table {
  /// What files may hold: the formats of the lines, and of what the trainer writes the one that none of them has.
  using Formats = typename Distinct<FormatList<>, F..., PerChannel<Ternary>>::Type;

  std::vector<FormatEntry> entries;

  explicit Table(const Line<F>&... lines) {
    (entries.insert(entries.end(), lines.entries.begin(), lines.entries.end()), ...);
  }
};

template <int b>
using Asym = PerChannel<Asymmetric<b>>;
template <int b>
using AsymG32 = Grouped<Asymmetric<b>, 32>;
template <int b>
using LloydG64 = Grouped<LloydMax<b>, 64>;
template <int b>
using AwqG32 = ChannelScaled<AsymG32<b>>;
template <int b>
using Sparse = Outliers<AsymG32<b>, 10>;
using Int8 = PerChannel<Symmetric<8>>;
using Int4 = PerChannel<Symmetric<4>>;
using TernaryRow = PerChannel<Trits5>;

auto makeTable() {
  return Table(
      // Each number, or each five, by itself.
      line<Float16>("fp16", "16-bit floats", nearest),  //
      line<BFloat16>("bf16", "bfloat16", nearest), line<Int8>("int8", "8 bits, symmetric, a scale a row", nearest),
      line<Int4>("int4", "4 bits, symmetric, a scale a row", nearest),
      line<Int4>("int4-stochastic", "int4, rounded at random", stochastic),
      line<Asym<4>>("asym4", "4 bits, scale and zero point a row", nearest),
      line<AsymG32<4>>("asym4-g32", "4 bits, scale and zero point for 32 weights", nearest),
      line<Grouped<NormalFloat4, 64>>("nf4-g64", "NormalFloat4, a scale for 64 weights", nearest),
      line<LloydG64<4>>("lloyd4-g64", "4 bits, Gaussian levels, a scale for 64 weights", nearest),
      line<AsymG32<3>>("asym3-g32", "3 bits, scale and zero point for 32 weights", nearest),
      line<AsymG32<3>>("asym3-g32-mse", "asym3-g32, scales of least squared error", leastSquares),
      line<LloydG64<3>>("lloyd3-g64", "3 bits, Gaussian levels, a scale for 64 weights", nearest),
      line<AsymG32<2>>("asym2-g32", "2 bits, scale and zero point for 32 weights", nearest),
      line<AsymG32<2>>("asym2-g32-mse", "asym2-g32, scales of least squared error", leastSquares),
      line<LloydG64<2>>("lloyd2-g64", "2 bits, Gaussian levels, a scale for 64 weights", nearest),
      line<TernaryRow>("ternary", "1.6 bits, -1 0 1 times the mean magnitude of a row", nearest),
      line<TernaryRow>("ternary-mse", "ternary, threshold and scale of least squared error", leastSquares),
      line<Grouped<Binary, 64>>("binary-g64", "1 bit, a scale for 64 weights", nearest),
      // Made for the activations: scales of input channels, and 8-bit activations with one scale a token.
      line<Int8>("w8a8", "int8, with activations in 8 bits and a scale a token", perToken),
      line<ChannelScaled<Int8>>("smoothquant", "w8a8 with input channels evened out, alpha searched", smoothQuant),
      line<LlmInt8>("llm-int8", "w8a8 with outlier columns in 16 bits", outlierColumns),
      line<AwqG32<4>>("awq4-g32", "AWQ, 4 bits, scale and zero point for 32 weights", awq),
      line<AwqG32<3>>("awq3-g32", "AWQ, 3 bits, scale and zero point for 32 weights", awq),
      line<AwqG32<2>>("awq2-g32", "AWQ, 2 bits, scale and zero point for 32 weights", awq),
      // Sparse and dense: one number of a hundred exactly, the others in few bits.
      line<Sparse<4>>("sparse4-g32", "asym4-g32 and the largest 1% of a row in 16 bits", nearest),
      line<Sparse<3>>("sparse3-g32", "asym3-g32 and the largest 1% of a row in 16 bits", nearest),
      line<Sparse<2>>("sparse2-g32", "asym2-g32 and the largest 1% of a row in 16 bits", nearest),
      line<Sparse<3>>("sparse3-g32-h", "sparse3-g32, the 1% that matter most", sensitive),
      line<Sparse<2>>("sparse2-g32-h", "sparse2-g32, the 1% that matter most", sensitive),
      line<Sparse<4>>("spqr4-g32", "GPTQ, 4 bits, and the 1% that matter most", sensitiveGptq),
      line<Sparse<3>>("spqr3-g32", "GPTQ, 3 bits, and the 1% that matter most", sensitiveGptq),
      line<Sparse<2>>("spqr2-g32", "GPTQ, 2 bits, and the 1% that matter most", sensitiveGptq),
      // With feedback by what enters the layer.
      line<Asym<4>>("gptq4", "GPTQ, 4 bits, scale and zero point a row", gptq),
      line<Asym<3>>("gptq3", "GPTQ, 3 bits, scale and zero point a row", gptq),
      line<Asym<2>>("gptq2", "GPTQ, 2 bits, scale and zero point a row", gptq),
      line<AsymG32<4>>("gptq4-g32", "GPTQ, 4 bits, scale and zero point for 32 weights", gptq),
      line<AsymG32<3>>("gptq3-g32", "GPTQ, 3 bits, scale and zero point for 32 weights", gptq),
      line<AsymG32<2>>("gptq2-g32", "GPTQ, 2 bits, scale and zero point for 32 weights", gptq),
      line<TernaryRow>("ldlq-ternary", "LDLQ, 1.6 bits, a scale a row", ldlqLeastSquares),
      // Lattice codes in a random basis.
      line<Incoherent<E8PRvq4>>("quip#4", "QuIP#, 4 bits", ldlq),
      line<Incoherent<E8PRvq3>>("quip#3", "QuIP#, 3 bits", ldlq),
      line<Incoherent<E8P>>("quip#2", "QuIP#, 2 bits", ldlq),
      // Trellis codes in a random basis, at any eighth of a bit: all columns alike, or each 32 at the rate that their
      // errors ask for.
      family<Incoherent<TrellisMixed>>("trellis#", "trellis codes", ldlqEven, {4, 3, 2.5, 2, 1.5}),
      family<Incoherent<TrellisMixed>>("trellis-mixed#", "trellis codes, a rate for each 32 columns", ldlqMean,
                                       {4, 3.5, 3, 2.5, 2, 1.5}));
}

}  // namespace

const std::vector<FormatEntry>& formatTable() {
  static const std::vector<FormatEntry> table = makeTable().entries;
  return table;
}

AnyMatrix readMatrix(const SafetensorsFile& file, const std::string& name) {
  return readAny<decltype(makeTable())::Formats>(file, name);
}

AnyMatrix floatMatrix(const RowMatrixXf& weights) { return AnyMatrix(quantize<float>(weights)); }

}  // namespace llama
