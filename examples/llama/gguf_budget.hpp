// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "evaluate.hpp"
#include "gguf_model_write.hpp"

#include <gosset/calibration/bit_budget.hpp>
#include <gosset/core/ordered_product.hpp>

#include <algorithm>
#include <array>
#include <charconv>
#include <cmath>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

// A mixture of types for a budget, from measured loss: which type each matrix of a GGUF file gets. What a matrix loses
// in a type is the squared error of its outputs (tr(E H E^T), E being the error of its weights and H the second moment
// of what enters it) times what such an error costs the model, which is measured once a matrix, with one of the types
// in that matrix alone. That costs are linear in squared errors and add up over matrices holds while they are small.
// Source: Malinovskii et al. 2025, "Pushing the limits of large language model quantization via the linearity theorem".
namespace llama {

/// Bits a weight of the matrices, or bytes of the whole file.
struct GgufBudget {
  double bits = 0;
  std::uint64_t bytes = 0;  ///< 0: `bits` counts
};

/// "4.5" are bits, "800MB" (10^6 bytes; also B, kB, GB) the file's size. Throws std::invalid_argument for another text.
inline GgufBudget parseGgufBudget(std::string_view text) {
  constexpr std::array<std::pair<std::string_view, double>, 4> kUnits = {
      {{"B", 1.}, {"kB", 1e3}, {"MB", 1e6}, {"GB", 1e9}}};
  double number = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  const std::string_view unit(end, static_cast<std::size_t>(text.data() + text.size() - end));
  if (error == std::errc() && std::isfinite(number) && number > 0 && number < 1e15) {
    if (unit.empty()) return {number, 0};
    for (const auto& [name, factor] : kUnits) {
      if (unit == name && number * factor >= 1) return {0, static_cast<std::uint64_t>(number * factor)};
    }
  }
  throw std::invalid_argument(
      "--budget: bits a weight expected, such as 4.5, or the file's bytes with their unit, such as "
      "800MB, found \"" +
      std::string(text) + "\"");
}

/// What one type makes of one matrix of a file.
struct GgufCandidate {
  std::string_view type;
  Index bytes = 0;
  double loss = 0;  ///< nats a token that the model loses by it
};

/// A matrix and what it may be, the fewest bytes first.
struct GgufCandidates {
  GgufPlan plan;
  std::vector<GgufCandidate> types;

  Index numbers() const {
    Index count = 1;
    for (const Index size : plan.shape) count *= size;
    return count;
  }
};

/// What serves rows of that width when nothing else is said.
inline std::vector<std::string> usualGgufCandidates(Index width) {
  if (width % 256 == 0) return {"Q2_K", "Q3_K", "IQ4_XS", "Q4_K", "Q5_K", "Q6_K", "Q8_0"};
  if (width % 32 == 0) return {"IQ4_NL", "Q4_1", "Q5_0", "Q5_1", "Q8_0"};
  return {"F16"};
}

/// Throws std::invalid_argument for a name that is none of a type that gosset writes.
inline void requireGgufCandidate(const std::string& name) {
  const gosset::GgmlType* type = gosset::detail::ggmlTypeNamed(name);
  const Index width = type != nullptr ? static_cast<Index>(type->block) : 1;
  naming("--type", [&] { packGguf(name, RowMatrixXf::Ones(1, width), GgufRounding::kNearest, nullptr); });
}

namespace detail {

/// tr(E H E^T), or of a matrix of whose inputs nothing is known tr(E E^T).
inline double outputError(const RowMatrixXf& weights, const RowMatrixXf& rounded, const gosset::Hessian* inputs) {
  const Eigen::MatrixXd error = weights.cast<double>() - rounded.cast<double>();
  if (inputs == nullptr) return error.squaredNorm();
  Eigen::MatrixXd product = Eigen::MatrixXd::Zero(error.rows(), error.cols());
  gosset::detail::addProductInOrder(error, inputs->matrix(), product);
  return std::max(product.cwiseProduct(error).sum(), 0.);
}

/// Measures the candidates of one matrix after the other.
class GgufLosses {
 public:
  GgufLosses(const Model& model, GgufRounding rounding, const Calibration& calibration,
             const std::vector<Sequence>& sequences)
      : rounding_(rounding),
        calibration_(calibration),
        sequences_(sequences),
        exact_(floatModel(model)),
        weights_(matricesOf(model)),
        reference_(referenceOf(exact_, sequences)) {}

  void operator()(GgufCandidates& result) const {
    const GgufPlan& plan = result.plan;
    std::vector<std::vector<RowMatrixXf>> rounded;
    for (GgufCandidate& candidate : result.types) {
      rounded.push_back(naming(plan.name + " as " + std::string(candidate.type),
                               [&] { return roundedParts(plan, candidate.type, candidate.loss); }));
    }
    // By the one in the middle: the largest errors are too large for the model to be linear in them, the least too
    // small to be told from the float model's own.
    std::size_t tried = result.types.size() / 2;
    while (tried > 0 && !(result.types[tried].loss > 0)) --tried;
    const double error = result.types[tried].loss;
    const double cost = error > 0 ? divergenceWith(plan, rounded[tried]) / error : 0;
    for (GgufCandidate& candidate : result.types) candidate.loss *= cost;
  }

 private:
  static Reference referenceOf(const PackedModel& exact, const std::vector<Sequence>& sequences) {
    const Engine engine(exact);
    const ReferenceKey key{{}, {}, {}, exact.config.vocab, predictedTokens(sequences)};
    return makeReference({}, key, sequences, PieceRunner(engine, sequences), [] {});
  }

  std::vector<RowMatrixXf> roundedParts(const GgufPlan& plan, std::string_view type, double& error) const {
    std::vector<RowMatrixXf> parts;
    for (const LinearInfo& info : plan.parts) {
      const auto known = info.name == embeddingName() ? calibration_.end() : calibration_.find(info.name);
      const gosset::Hessian* inputs = known == calibration_.end() ? nullptr : &known->second.hessian;
      const RowMatrixXf& weights = *weights_.at(info.name);
      const GgufRounding rounding = inputs == nullptr ? GgufRounding::kNearest : rounding_;
      parts.push_back(packGguf(type, weights, rounding, inputs).dequantized());
      error += outputError(weights, parts.back(), inputs);
    }
    return parts;
  }

  /// Of the model in which these matrices alone are rounded.
  double divergenceWith(const GgufPlan& plan, const std::vector<RowMatrixXf>& parts) const {
    PackedModel model = exact_;
    std::map<std::string, gosset::AnyMatrix*> places = {{embeddingName(), &model.embedding}};
    forEachLinear(model, [&](const LinearInfo& info, gosset::AnyMatrix& place) { places[info.name] = &place; });
    for (std::size_t i = 0; i < parts.size(); ++i) *places.at(plan.parts[i].name) = floatMatrix(parts[i]);
    const Engine engine(std::move(model));
    return std::max(measureQuality(reference_, sequences_, PieceRunner(engine, sequences_), [] {}).klDivergence, 0.);
  }

  GgufRounding rounding_;
  const Calibration& calibration_;
  const std::vector<Sequence>& sequences_;
  PackedModel exact_;
  std::map<std::string, const RowMatrixXf*> weights_;
  Reference reference_;
};

}  // namespace detail

/// What each matrix of a file may be: those of the types, or without any of usualGgufCandidates(), of whose blocks its
/// rows are made. Losses are not known yet. Throws std::invalid_argument, which names the matrix, where there are none.
inline std::vector<GgufCandidates> ggufCandidates(const Model& model, const std::vector<std::string>& types) {
  std::vector<GgufCandidates> result;
  for (GgufPlan& plan : ggufMatrices(model.config, ggufFamilyOf(model.configText), model.output.has_value())) {
    GgufCandidates matrix{std::move(plan), {}};
    const Index width = matrix.plan.shape.back();
    for (const std::string& name : types.empty() ? usualGgufCandidates(width) : types) {
      const gosset::GgmlType& type = *gosset::detail::ggmlTypeNamed(name);
      if (width % type.block != 0) continue;
      matrix.types.push_back({type.name, matrix.numbers() / type.block * static_cast<Index>(type.block_bytes), 0});
    }
    if (matrix.types.empty()) {
      throw std::invalid_argument("--type: none of the types has blocks of which the rows of " + matrix.plan.name +
                                  ", " + std::to_string(width) + " numbers, are made; name another one, such as F16");
    }
    std::stable_sort(matrix.types.begin(), matrix.types.end(),
                     [](const auto& a, const auto& b) { return a.bytes < b.bytes; });
    result.push_back(std::move(matrix));
  }
  return result;
}

/// Fills in what every matrix would lose in each of its types: rounded as asked for, its cost measured on `sequences`.
/// Calls step() after each matrix. Throws std::invalid_argument, which names the matrix, where a type cannot hold it.
template <class Step>
void measureGgufLosses(std::vector<GgufCandidates>& matrices, const Model& model, GgufRounding rounding,
                       const Calibration& calibration, const std::vector<Sequence>& sequences, Step&& step) {
  const detail::GgufLosses losses(model, rounding, calibration, sequences);
  for (GgufCandidates& matrix : matrices) {
    losses(matrix);
    step();
  }
}

namespace detail {

/// What a tensor takes of a budget: of a file's bytes what stands before the next one, too.
inline Index takenBytes(Index bytes, const GgufBudget& budget) {
  constexpr Index kAlignment = gosset::detail::kGgufAlignment;
  return budget.bytes > 0 ? gosset::ceilDiv(bytes, kAlignment) * kAlignment : bytes;
}

}  // namespace detail

/// How many bytes matrices may take within a budget. beside: bytes of the file that are not theirs. Throws
/// std::invalid_argument where the smallest of their types take more.
inline Index bytesForMatrices(std::span<const GgufCandidates> matrices, const GgufBudget& budget,
                              std::uint64_t beside) {
  Index least = 0, numbers = 0;
  for (const GgufCandidates& matrix : matrices) {
    least += detail::takenBytes(matrix.types.front().bytes, budget);
    numbers += matrix.numbers();
  }
  const auto weights = static_cast<double>(numbers);
  const bool whole = budget.bytes > 0;
  const double most =
      whole ? static_cast<double>(budget.bytes) - static_cast<double>(beside) : budget.bits * weights / 8;
  if (static_cast<double>(least) > most) {
    std::ostringstream text;
    text << "--budget: the smallest of the types take ";
    if (whole) {
      text << static_cast<std::uint64_t>(least) + beside << " bytes, the budget is " << budget.bytes;
    } else {
      text << 8 * static_cast<double>(least) / weights << " bits a weight, the budget is " << budget.bits;
    }
    throw std::invalid_argument(text.str());
  }
  return static_cast<Index>(std::min(most, 9e18));
}

/// Types within a budget, and what the model loses by all of them together, were losses to add up.
struct GgufMixturePlan {
  GgufTypes types;
  double loss = 0;
};

/// The types with the least loss within a budget. Throws as bytesForMatrices().
inline GgufMixturePlan planGgufTypes(std::span<const GgufCandidates> matrices, const GgufBudget& budget,
                                     std::uint64_t beside) {
  const Index bytes = bytesForMatrices(matrices, budget, beside);
  std::vector<std::vector<gosset::LayerChoice>> choices;
  for (const GgufCandidates& matrix : matrices) {
    choices.emplace_back();
    for (const GgufCandidate& type : matrix.types) {
      choices.back().push_back({detail::takenBytes(type.bytes, budget), type.loss});
    }
  }
  const gosset::BitBudgetPlan plan = gosset::planBitBudget(choices, bytes);
  GgufMixturePlan result{{}, plan.loss};
  for (std::size_t i = 0; i < matrices.size(); ++i) {
    const std::string_view type = matrices[i].types[plan.choice[i]].type;
    result.types[matrices[i].plan.name] = {type, type};
  }
  return result;
}

}  // namespace llama
