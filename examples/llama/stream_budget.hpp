// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "gguf_family.hpp"
#include "stream_evaluate.hpp"
#include "stream_quantizer.hpp"

#include <gosset/calibration/bit_budget.hpp>
#include <gosset/io/gguf_writer.hpp>

#include <cmath>
#include <map>

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

/// Throws std::invalid_argument where there are several processes.
inline void requireOneProcess(const Peers& peers) {
  if (peers.count() > 1) throw std::invalid_argument("--budget measures in one process; start it without mpirun");
}

class BudgetSearch {
 public:
  /// Throws std::invalid_argument where there are no formats.
  BudgetSearch(std::vector<const FormatEntry*> formats, std::uint64_t seed) : tried_(std::move(formats)), seed_(seed) {
    if (tried_.empty()) throw std::invalid_argument("--budget needs --formats to choose from");
  }

  /// What the losses depend on.
  nlohmann::ordered_json key(const std::filesystem::path& model, const std::vector<Sequence>& text,
                             int activationBits) const {
    nlohmann::ordered_json formats = nlohmann::ordered_json::array();
    for (const FormatEntry* format : tried_) formats.push_back(format->name);
    return {{"gosset", detail::versionText()},
            {"model", modelHash(model)},
            {"text", tokensHash(text)},
            {"bits of activations", activationBits},
            {"seed", seed_},
            {"formats", formats}};
  }

  /// Packs every linear layer in every format, by text whose activations lie in `work` meanwhile. What each block's
  /// layers lose stays there: a run that was killed goes on with the block that it was in, and one for another budget
  /// has nothing left to measure. measured(name) comes after each layer. Throws gosset::FormatError, which names the
  /// first difference, where `work` is of another run than `run`, and std::invalid_argument, which names the layer,
  /// where a loss is not finite.
  template <class Measured>
  void measure(LayerSource& source, const std::vector<Sequence>& text, const std::filesystem::path& work,
               const nlohmann::ordered_json& run, Index hessianBytes, int activationBits, Measured&& measured) {
    findTensors(source);
    makeFolder(work);
    Manifest::requireSame(work, run);
    Manifest::write(work, run);
    const Config& c = source.config();
    const auto blocks = static_cast<std::size_t>(c.layers), parts = blocks + (source.tied() ? 0 : 1);
    const Passed passed{
        text, split(text, kTrialTokens, 0).measured, {activationBits, c.dim, tokensOf(text)}, work, hessianBytes};
    std::uint64_t index = 0;
    for (std::size_t part = 0; part < parts; ++part) {
      const bool head = part == blocks;
      const std::vector<LinearInfo> linears = head ? std::vector{outputInfo(c)} : linearsOf(oneBlock(c, part), part);
      if (std::filesystem::exists(passed.losses(part))) {
        readLosses(passed.losses(part), linears);
      } else {
        if (part == 0) embedText(source, passed);
        const std::size_t first = layers_.size();
        if (head) measureHead(source, passed, index, part);
        if (!head) measureBlock(source, passed, index, part);
        writeLosses(passed.losses(part), first);
      }
      for (const LinearInfo& info : linears) measured(info.name);
      std::filesystem::remove(passed.activations(part));
      index += linears.size();
    }
    std::filesystem::remove(passed.activations(blocks));
  }

  /// The recipe of least loss within `bits` a weight over the linear layers. Throws std::invalid_argument where even
  /// the smallest formats exceed it.
  Recipe recipe(double bits, const std::string& embedding) const {
    std::vector<std::vector<gosset::LayerChoice>> choices;
    std::map<std::string, std::size_t> places;
    double weights = 0;
    for (const Layer& layer : layers_) {
      const auto place = places.emplace(layer.chosenWith, choices.size()).first->second;
      if (place == choices.size()) choices.emplace_back(tried_.size(), gosset::LayerChoice{0, 0});
      for (std::size_t i = 0; i < tried_.size(); ++i) {
        choices[place][i].bytes += layer.choices[i].bytes;
        choices[place][i].loss += layer.choices[i].loss;
      }
      weights += static_cast<double>(layer.info.rows * layer.info.cols);
    }
    const gosset::BitBudgetPlan plan = gosset::planBitBudget(choices, static_cast<Index>(bits * weights / 8));
    Recipe recipe{seed_, {{embeddingName(), embedding}}};
    for (const Layer& layer : layers_) {
      recipe.rules.push_back({layer.info.name, tried_[plan.choice[places.at(layer.chosenWith)]]->name});
    }
    return recipe;
  }

 private:
  struct Layer {
    LinearInfo info;
    std::string chosenWith;  ///< layers in which this is the same get the same format
    std::vector<gosset::LayerChoice> choices = {};
  };

  /// Where all formats are GGUF's types, layers that such a file has in one tensor, by that.
  void findTensors(const LayerSource& source) {
    for (const FormatEntry* format : tried_) {
      if (gosset::detail::ggmlTypeOfFormat(format->stored) == nullptr) return;
    }
    for (const GgufPlan& plan : ggufMatrices(source.config(), ggufFamilyOf(source.configText()), !source.tied())) {
      for (const LinearInfo& part : plan.parts) tensors_[part.name] = plan.name;
    }
  }
  Layer layerOf(const LinearInfo& info) const {
    const auto tensor = tensors_.find(info.name);
    return {info, tensor != tensors_.end() ? tensor->second : info.name};
  }

  using Candidates = std::vector<gosset::AnyMatrix>;  // one a format

  /// The text on its way through the float model.
  struct Passed {
    const std::vector<Sequence>& text;
    std::vector<Sequence> trial;  ///< its beginning, on which losses are measured
    ActivationShape shape;
    std::filesystem::path work;
    Index hessianBytes;

    /// What enters part number `part`.
    std::filesystem::path activations(std::size_t part) const {
      return work / ("activations-" + std::to_string(part) + ".bin");
    }
    std::filesystem::path losses(std::size_t part) const { return work / ("losses-" + std::to_string(part) + ".json"); }
  };

  static constexpr Index kTrialTokens = 4000;

  static std::vector<LinearInfo> linearsOf(const Config& alone, std::size_t block) {
    std::vector<LinearInfo> linears;
    const auto shape = emptyWeights<std::monostate>(alone, false);
    forEachLinearOf(shape, block, [&](const LinearInfo& info, std::monostate) { linears.push_back(info); });
    return linears;
  }

  static void embedText(LayerSource& source, const Passed& passed) {
    if (std::filesystem::exists(passed.activations(0))) return;
    const RowMatrixXf embedding = source.embedding();
    embedInto(passed.activations(0), passed.shape, passed.text, source.config(),
              [&](Token token) -> Eigen::RowVectorXf { return embedding.row(token); });
  }

  /// A list of [bytes, loss] for each layer from number `first` on, one a format.
  void writeLosses(const std::filesystem::path& path, std::size_t first) const {
    nlohmann::ordered_json layers;
    for (std::size_t i = first; i < layers_.size(); ++i) {
      nlohmann::ordered_json& choices = layers[layers_[i].info.name] = nlohmann::ordered_json::array();
      for (const gosset::LayerChoice& choice : layers_[i].choices) choices.push_back({choice.bytes, choice.loss});
    }
    writeWhole(path, layers.dump(1) + "\n");
  }

  void readLosses(const std::filesystem::path& path, const std::vector<LinearInfo>& linears) {
    const nlohmann::json layers = gosset::parseJson(readBytes(path, std::uintmax_t{1} << 28), path.string());
    for (const LinearInfo& info : linears) {
      const auto found = layers.find(info.name);
      const bool whole = found != layers.end() && found->is_array() && found->size() == tried_.size();
      check(whole, path.string(), ": \"", info.name, "\": a list of ", tried_.size(), " losses expected");
      layers_.push_back(layerOf(info));
      for (const nlohmann::json& choice : *found) {
        const bool pair =
            choice.is_array() && choice.size() == 2 && choice[0].is_number_integer() && choice[1].is_number();
        check(pair, path.string(), ": \"", info.name, "\": a number of bytes and a loss expected, found ",
              shortText(choice));
        layers_.back().choices.push_back({choice[0].get<Index>(), choice[1].get<double>()});
      }
    }
  }

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

  /// Notes what the layer loses in the next format. Throws std::invalid_argument, which names both, where it is not
  /// finite: activations are too large for it.
  void addLoss(Index bytes, double loss) {
    Layer& layer = layers_.back();
    if (!std::isfinite(loss)) {
      throw std::invalid_argument("--budget: a finite loss expected of \"" + layer.info.name + "\" in format \"" +
                                  tried_[layer.choices.size()]->name + "\", found " + std::to_string(loss));
    }
    layer.choices.push_back({bytes, loss});
  }

  void measureBlock(LayerSource& source, const Passed& passed, std::uint64_t firstIndex, std::size_t block) {
    ChosenFormats calibrated;  // so that each layer is
    for (const std::string& name : linearNames(source.config(), !source.tied())) {
      calibrated[name] = &findFormat("gptq4");
    }
    const BlockQuantizer blocks(calibrated, passed.text, {seed_, passed.hessianBytes, nullptr});
    const ActivationFile in(passed.activations(block), passed.shape);
    ActivationWriter out(passed.activations(block + 1), passed.shape);
    PackedModel exact = source.block(block);
    std::vector<Candidates> packed;
    const auto use = [&](const LinearInfo& info, const RowMatrixXf& weights, std::uint64_t number,
                         std::optional<LayerInputs> inputs) {
      packed.push_back(packInAll(info, weights, number, std::move(inputs)));
    };
    blocks.calibrateEach(block, firstIndex, exact, in, out, use, [] {});
    out.commit();
    const std::vector<Eigen::MatrixXf> reference = outputs(exact, passed.trial, in);
    auto candidates = packed.begin();
    forEachLinearOf(exact, block, [&](const LinearInfo& info, gosset::AnyMatrix& place) {
      const gosset::AnyMatrix original = place;
      layers_.push_back(layerOf(info));
      for (const gosset::AnyMatrix& candidate : *candidates++) {
        place = candidate;
        addLoss(candidate.bytes(), relativeChange(reference, outputs(exact, passed.trial, in)));
      }
      place = original;
    });
  }

  void measureHead(LayerSource& source, const Passed& passed, std::uint64_t number, std::size_t part) {
    const ActivationFile in(passed.activations(part), passed.shape);
    const LinearInfo info = outputInfo(source.config());
    PackedModel head = source.head();
    const Candidates packed =
        packInAll(info, head.output->dequantized(), number, headInputs(source, passed.text, in, [] {}));
    const Engine exact(head);
    layers_.push_back(layerOf(info));
    for (const gosset::AnyMatrix& candidate : packed) {
      head.output = candidate;
      const Engine engine(head);
      double change = 0;
      forEachPiece(passed.trial, [&](Index first, Index count, bool) {
        const Eigen::MatrixXf x = in.read(first, count);
        change += relativeChange({exact.logits(x)}, {engine.logits(x)}) * static_cast<double>(count);
      });
      addLoss(candidate.bytes(), change / static_cast<double>(tokensOf(passed.trial)));
    }
  }

  std::vector<const FormatEntry*> tried_;
  std::uint64_t seed_;
  std::vector<Layer> layers_;
  std::map<std::string, std::string> tensors_;
};

}  // namespace llama
