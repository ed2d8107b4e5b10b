// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "stream_evaluate.hpp"
#include "stream_quantizer.hpp"

#include <gosset/calibration/bit_budget.hpp>

// A recipe for a budget of bits, found a block at a time. compress measures what each layer costs the model's
// predictions, for which the whole model runs once a layer and format. Here only the layer's block does: a layer's cost
// is what packing it alone changes of what comes out of the block, relative to it, squared, the mean over tokens (the
// next norm divides each by its magnitude); of the output matrix, the same of the logits. The sum over all layers is
// minimised. That errors of all blocks' outputs count alike is an assumption.
namespace llama {

/// The mean over tokens of |y - x|^2 / |x|^2; x, y: pieces of numbers x tokens.
inline double relativeChange(const std::vector<Eigen::MatrixXf>& x, const std::vector<Eigen::MatrixXf>& y) {
  double sum = 0;
  Index tokens = 0;
  for (std::size_t i = 0; i < x.size(); ++i) {
    for (Index t = 0; t < x[i].cols(); ++t, ++tokens) {
      const double size = static_cast<double>(x[i].col(t).squaredNorm());
      const double change = static_cast<double>((y[i].col(t) - x[i].col(t)).squaredNorm());
      sum += change == 0 ? 0 : change / std::max(size, 1e-30);
    }
  }
  return sum / static_cast<double>(std::max<Index>(tokens, 1));
}

class BudgetSearch {
 public:
  /// Throws std::invalid_argument where there are no formats.
  BudgetSearch(std::vector<const FormatEntry*> formats, std::uint64_t seed) : tried_(std::move(formats)), seed_(seed) {
    if (tried_.empty()) throw std::invalid_argument("--budget needs --formats to choose from");
  }

  /// Packs every linear layer in every format, by text whose activations lie in `work` meanwhile. measured(name) comes
  /// after each layer.
  template <class Measured>
  void measure(LayerSource& source, const std::vector<Sequence>& text, const std::filesystem::path& work,
               Index hessianBytes, int activationBits, Measured&& measured) {
    const Config& c = source.config();
    ChosenFormats calibrated;  // so that each layer is
    for (const std::string& name : linearNames(c, !source.tied())) calibrated[name] = &findFormat("gptq4");
    const BlockQuantizer blocks(calibrated, text, {seed_, hessianBytes, nullptr});
    const ActivationShape shape{activationBits, c.dim, tokensOf(text)};
    const auto path = [&](std::size_t block) { return work / ("budget-" + std::to_string(block % 2) + ".bin"); };
    const std::vector<Sequence> trial = split(text, kTrialTokens, 0).measured;
    {
      const RowMatrixXf embedding = source.embedding();
      embedInto(path(0), shape, text, c, [&](Token token) -> Eigen::RowVectorXf { return embedding.row(token); });
    }
    std::uint64_t index = 0;
    std::size_t block = 0;
    for (; block < static_cast<std::size_t>(c.layers); ++block) {
      const ActivationFile in(path(block), shape);
      ActivationWriter out(path(block + 1), shape);
      PackedModel exact = source.block(block);
      std::vector<Candidates> packed;
      const auto use = [&](const LinearInfo& info, const RowMatrixXf& weights, std::uint64_t number,
                           std::optional<LayerInputs> inputs) {
        packed.push_back(packInAll(info, weights, number, std::move(inputs)));
      };
      blocks.calibrateEach(block, index, exact, in, out, use, [] {});
      out.commit();
      measureBlock(block, exact, packed, trial, in, measured);
      index += linearNames(oneBlock(c, block), false).size();
    }
    if (!source.tied()) measureHead(source, text, trial, index, ActivationFile(path(block), shape), measured);
    std::filesystem::remove(path(0));
    std::filesystem::remove(path(1));
  }

  /// The recipe of least loss within `bits` a weight over the linear layers. Throws std::invalid_argument where even
  /// the smallest formats exceed it.
  Recipe recipe(double bits, const std::string& embedding) const {
    std::vector<std::vector<gosset::LayerChoice>> choices;
    double weights = 0;
    for (const Layer& layer : layers_) {
      choices.push_back(layer.choices);
      weights += static_cast<double>(layer.info.rows * layer.info.cols);
    }
    const gosset::BitBudgetPlan plan = gosset::planBitBudget(choices, static_cast<Index>(bits * weights / 8));
    Recipe recipe{seed_, {{embeddingName(), embedding}}};
    for (std::size_t i = 0; i < layers_.size(); ++i) {
      recipe.rules.push_back({layers_[i].info.name, tried_[plan.choice[i]]->name});
    }
    return recipe;
  }

 private:
  struct Layer {
    LinearInfo info;
    std::vector<gosset::LayerChoice> choices;
  };

  using Candidates = std::vector<gosset::AnyMatrix>;  // one a format

  static constexpr Index kTrialTokens = 4000;

  /// The last one in the memory of what is known of the inputs.
  Candidates packInAll(const LinearInfo& info, const RowMatrixXf& weights, std::uint64_t number,
                       std::optional<LayerInputs> inputs) const {
    Candidates packed;
    for (std::size_t i = 0; i < tried_.size(); ++i) {
      const bool last = i + 1 == tried_.size();
      std::optional<LayerInputs> mine = last ? std::move(inputs) : inputs;
      packed.push_back(packInPlace(info, weights, *tried_[i], seed_, number, std::move(mine)));
    }
    return packed;
  }

  static std::vector<Eigen::MatrixXf> outputs(const PackedModel& block, const std::vector<Sequence>& trial,
                                              const ActivationFile& in) {
    std::vector<Eigen::MatrixXf> result;
    runBlock(
        Engine(block), trial, in, [&](const Eigen::MatrixXf& y) { result.push_back(y); }, {}, [] {});
    return result;
  }

  template <class Measured>
  void measureBlock(std::size_t block, PackedModel& exact, const std::vector<Candidates>& packed,
                    const std::vector<Sequence>& trial, const ActivationFile& in, Measured&& measured) {
    const std::vector<Eigen::MatrixXf> reference = outputs(exact, trial, in);
    auto candidates = packed.begin();
    forEachLinearOf(exact, block, [&](const LinearInfo& info, gosset::AnyMatrix& place) {
      const gosset::AnyMatrix original = place;
      layers_.push_back({info, {}});
      for (const gosset::AnyMatrix& candidate : *candidates++) {
        place = candidate;
        layers_.back().choices.push_back({candidate.bytes(), relativeChange(reference, outputs(exact, trial, in))});
      }
      place = original;
      measured(info.name);
    });
  }

  template <class Measured>
  void measureHead(LayerSource& source, const std::vector<Sequence>& text, const std::vector<Sequence>& trial,
                   std::uint64_t number, const ActivationFile& in, Measured&& measured) {
    const LinearInfo info = outputInfo(source.config());
    PackedModel head = source.head();
    const RowMatrixXf weights = head.output->dequantized();
    const Candidates packed = packInAll(info, weights, number, headInputs(source, text, in));
    const Engine exact(head);
    layers_.push_back({info, {}});
    for (const gosset::AnyMatrix& candidate : packed) {
      head.output = candidate;
      const Engine engine(head);
      double change = 0;
      forEachPiece(trial, [&](Index first, Index count, bool) {
        const Eigen::MatrixXf x = in.read(first, count);
        change += relativeChange({exact.logits(x)}, {engine.logits(x)}) * static_cast<double>(count);
      });
      layers_.back().choices.push_back({candidate.bytes(), change / static_cast<double>(tokensOf(trial))});
    }
    measured(info.name);
  }

  static LayerInputs headInputs(LayerSource& source, const std::vector<Sequence>& text, const ActivationFile& in) {
    LayerInputs inputs(source.config().dim);
    const Eigen::VectorXf norm = source.finalNorm();
    forEachPiece(text, [&](Index first, Index count, bool) {
      const Eigen::MatrixXf x = detail::rmsNorm(in.read(first, count), norm, source.config().normEps);
      inputs.add(x.transpose());
    });
    return inputs;
  }

  std::vector<const FormatEntry*> tried_;
  std::uint64_t seed_;
  std::vector<Layer> layers_;
};

}  // namespace llama
