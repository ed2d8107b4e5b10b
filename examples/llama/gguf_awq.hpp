// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "gguf_model_write.hpp"

#include <gosset/calibration/awq.hpp>

#include <string>
#include <string_view>
#include <utility>
#include <vector>

// Activation-aware scales (gosset::Awq) in files that have no place for them. A matrix's columns are multiplied, and
// what comes before is divided by the same: the norm, or the rows of the layer whose outputs enter one by one. The
// model computes the same, and the file stays plain. Source: Lin et al., "AWQ", MLSys 2024, section 3.2.
namespace llama {

/// The scales of what enters layers, and what was divided by them.
struct AwqScales {
  std::string divided;
  float least = 1.f, most = 1.f;
};

/// A model whose scales are folded, and what enters its layers now.
struct AwqFolded {
  Model model;
  Calibration calibration;
};

namespace detail {

/// The second moments of inputs that are divided by s.
inline gosset::Hessian ofDividedInputs(const gosset::Hessian& hessian, const Eigen::VectorXf& s) {
  const Eigen::VectorXd scales = s.cast<double>();
  return gosset::Hessian::fromMatrix(Eigen::MatrixXd(hessian.matrix().cwiseQuotient(scales * scales.transpose())),
                                     hessian.tokens());
}

/// Scales of `heads` heads, those that share keys and values having the same: the mean over them.
inline Eigen::VectorXf sharedByHeads(const Eigen::VectorXf& s, const Config& c) {
  const Index group = c.heads / c.kvHeads;
  Eigen::VectorXf result(s.size());
  for (Index head = 0; head < c.heads; ++head) {
    auto mean = result.segment(head * c.headDim, c.headDim);
    mean.setZero();
    for (Index i = 0; i < group; ++i) mean += s.segment((head / group * group + i) * c.headDim, c.headDim);
    mean /= static_cast<float>(group);
  }
  return result;
}

/// One of each head that shares keys and values: what values are divided by.
inline Eigen::VectorXf scalesOfValues(const Eigen::VectorXf& shared, const Config& c) {
  Eigen::VectorXf result(c.kvDim());
  for (Index head = 0; head < c.kvHeads; ++head) {
    result.segment(head * c.headDim, c.headDim) = shared.segment(head * (c.heads / c.kvHeads) * c.headDim, c.headDim);
  }
  return result;
}

template <class Report>
class AwqFolding {
 public:
  using Names = std::vector<std::string>;

  AwqFolding(Model model, Calibration calibration, const GgufOptions& options, Report& report)
      : folded_{std::move(model), std::move(calibration)}, rounding_(options.rounding), report_(report) {
    forEachLinear(folded_.model, [&](const LinearInfo& info, RowMatrixXf& w) { matrices_[info.name] = &w; });
    for (const auto& [plan, type] : ggufTyped(folded_.model.config, folded_.model.output.has_value(),
                                              ggufFamilyOf(folded_.model.configText), options)) {
      for (const LinearInfo& part : plan.parts) types_[part.name] = type.type;
    }
  }

  AwqFolded run() && {
    for (std::size_t i = 0; i < folded_.model.layers.size(); ++i) {
      foldAttention(i);
      foldFeedForward(i);
    }
    if (folded_.model.output) foldNorm("model.norm", folded_.model.finalNorm, {outputName()}, outputName());
    return std::move(folded_);
  }

 private:
  static constexpr Index kRows = 512;  ///< on which scales are chosen, as gosset::Awq does by itself

  struct Run {
    std::string_view type;
    Index first = 0, rows = 0;
  };

  void foldAttention(std::size_t i) {
    auto& layer = folded_.model.layers[i];
    const Config& c = folded_.model.config;
    const std::string block = blockName(i), name = block + "self_attn.";
    foldNorm(block + "input_layernorm", layer.attentionNorm,
             {name + "q_proj.weight", name + "k_proj.weight", name + "v_proj.weight"}, name + "q_proj.weight");
    const std::string output = name + "o_proj.weight";
    const auto s = scalesFor({output}, output, [&](const auto& free) { return sharedByHeads(free, c); });
    if (s) {
      divideRows(name + "v_proj", layer.wv, layer.bv, scalesOfValues(*s, c));
      multiplyColumns(output, *s);
    }
  }

  void foldFeedForward(std::size_t i) {
    auto& layer = folded_.model.layers[i];
    const std::string block = blockName(i), mlp = block + "mlp.";
    const std::string norm =
        block + (folded_.model.config.postNorms ? "pre_feedforward" : "post_attention") + "_layernorm";
    if (!folded_.model.config.block(i).experts) {
      foldNorm(norm, layer.ffnNorm, {mlp + "gate_proj.weight", mlp + "up_proj.weight"}, mlp + "gate_proj.weight");
      return foldDown(mlp, layer.w3, layer.b3);
    }
    Names behind;
    for (std::size_t e = 0; e < layer.experts.size(); ++e) {
      behind.insert(behind.end(), {expertName(i, e) + "gate_proj.weight", expertName(i, e) + "up_proj.weight"});
    }
    const bool shared = folded_.model.config.experts.sharedHidden > 0;
    if (shared) {
      behind.insert(behind.end(), {mlp + "shared_expert.gate_proj.weight", mlp + "shared_expert.up_proj.weight"});
    }
    if (const auto s = foldNorm(norm, layer.ffnNorm, behind, routerName(i))) {
      layer.router = (layer.router * s->asDiagonal()).eval();
      if (shared) layer.sharedGate = (layer.sharedGate * s->asDiagonal()).eval();
      divideInputs(routerName(i), *s);
    }
    Eigen::VectorXf noBias;
    for (std::size_t e = 0; e < layer.experts.size(); ++e) foldDown(expertName(i, e), layer.experts[e].w3, noBias);
    if (shared) foldDown(mlp + "shared_expert.", layer.shared.w3, noBias);
  }

  /// What enters the last matrix of a feed-forward network is a product with the outputs of `up`.
  void foldDown(const std::string& network, RowMatrixXf& up, Eigen::VectorXf& bias) {
    const std::string down = network + "down_proj.weight";
    if (const auto s = scalesFor({down}, down)) {
      divideRows(network + "up_proj", up, bias, *s);
      multiplyColumns(down, *s);
    }
  }

  /// `inputs`: the layer, or router, whose inputs all that is behind the norm has.
  std::optional<Eigen::VectorXf> foldNorm(const std::string& name, Eigen::VectorXf& norm, const Names& behind,
                                          const std::string& inputs) {
    if (norm.size() != matrices_.at(behind.front())->cols()) {
      throw std::invalid_argument("--awq: " + behind.front() + " has no norm before it that could be divided");
    }
    auto s = scalesFor(behind, inputs);
    if (s) {
      norm = norm.cwiseQuotient(*s).eval();
      for (const std::string& layer : behind) multiplyColumns(layer, *s);
      report_(AwqScales{name + ".weight", s->minCoeff(), s->maxCoeff()});
    }
    return s;
  }

  void divideRows(const std::string& name, RowMatrixXf& rows, Eigen::VectorXf& bias, const Eigen::VectorXf& s) {
    rows = (s.cwiseInverse().asDiagonal() * rows).eval();
    if (bias.size() > 0) bias = bias.cwiseQuotient(s).eval();
    report_(AwqScales{name + ".weight", s.minCoeff(), s.maxCoeff()});
  }

  void multiplyColumns(const std::string& layer, const Eigen::VectorXf& s) {
    RowMatrixXf& w = *matrices_.at(layer);
    w = (w * s.asDiagonal()).eval();
    divideInputs(layer, s);
  }

  void divideInputs(const std::string& layer, const Eigen::VectorXf& s) {
    const auto found = folded_.calibration.find(layer);
    if (found == folded_.calibration.end()) return;
    found->second.hessian = ofDividedInputs(found->second.hessian, s);
    found->second.tokens = (found->second.tokens * s.cwiseInverse().asDiagonal()).eval();
  }

  /// Those with which the layers lose least, rounded as they will be; nothing where no type is one of few bits. tie():
  /// what of scales has to be the same.
  template <class Tie>
  std::optional<Eigen::VectorXf> scalesFor(const Names& layers, const std::string& inputs, Tie&& tie) const {
    if (std::all_of(layers.begin(), layers.end(), [&](const auto& name) { return isKept(types_.at(name)); })) return {};
    const auto known = folded_.calibration.find(inputs);
    if (known == folded_.calibration.end()) {
      throw std::invalid_argument("--awq: nothing is known of what enters " + inputs);
    }
    const gosset::Hessian& hessian = known->second.hessian;
    RowMatrixXf sample;
    const std::vector<Run> runs = sampled(layers, sample);
    const auto trial = [&](const RowMatrixXf& rows, const Eigen::VectorXf& free) {
      const Eigen::VectorXf s = tie(free);
      const gosset::Hessian divided = ofDividedInputs(hessian, s);
      RowMatrixXf result = rows * s.asDiagonal();
      for (const Run& run : runs) {
        const RowMatrixXf part = result.middleRows(run.first, run.rows);
        result.middleRows(run.first, run.rows) = packGguf(run.type, part, rounding_, &divided).dequantized();
      }
      return RowMatrixXf(result * s.cwiseInverse().asDiagonal());
    };
    return naming("--awq: " + inputs, [&] {
      return Eigen::VectorXf(tie(gosset::Awq(hessian, {.search_rows = 0}).channelScales(sample, trial)));
    });
  }
  std::optional<Eigen::VectorXf> scalesFor(const Names& layers, const std::string& inputs) const {
    return scalesFor(layers, inputs, [](const Eigen::VectorXf& s) { return s; });
  }

  /// Rows of each layer, spread evenly, about kRows in all; where neighbours have one type, one run of them.
  std::vector<Run> sampled(const Names& layers, RowMatrixXf& sample) const {
    Index all = 0;
    for (const std::string& name : layers) all += matrices_.at(name)->rows();
    std::vector<Run> runs;
    for (const std::string& name : layers) {
      const RowMatrixXf& w = *matrices_.at(name);
      const Index take = all <= kRows ? w.rows() : std::max<Index>(1, w.rows() * kRows / all), first = sample.rows();
      sample.conservativeResize(first + take, w.cols());
      for (Index row = 0; row < take; ++row) sample.row(first + row) = w.row(row * w.rows() / take);
      if (runs.empty() || runs.back().type != types_.at(name)) runs.push_back({types_.at(name), first, 0});
      runs.back().rows += take;
    }
    return runs;
  }

  AwqFolded folded_;
  GgufRounding rounding_;
  Report& report_;
  std::map<std::string, RowMatrixXf*> matrices_;
  std::map<std::string, std::string_view> types_;
};

}  // namespace detail

/// Folds scales for the types and the rounding that a file will have: of queries, keys and values into the norm before
/// attention; of gates and ups, experts' among them, into the norm before the feed-forward network (routers take them,
/// too); of attention's output into values, heads that share values having the same; of downs into ups; of an output
/// matrix of its own into the last norm. Norms are held as what is multiplied with, also where a checkpoint holds what
/// is added to 1. Calls report(AwqScales) for each. Throws std::invalid_argument, which names the layer, where nothing
/// is known of what enters one, or where there is no norm before it.
template <class Report>
AwqFolded foldAwq(Model model, Calibration calibration, const GgufOptions& options, Report&& report) {
  return detail::AwqFolding(std::move(model), std::move(calibration), options, report).run();
}

}  // namespace llama
