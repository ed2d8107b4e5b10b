// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "block_report.hpp"
#include "block_run.hpp"
#include "recipe.hpp"
#include "shared_experts.hpp"
#include "shared_inputs.hpp"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <filesystem>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <utility>
#include <vector>

// Calibrates and packs the linear layers of one block. Layers with the same input share a Hessian; where all Hessians
// of a block would take more memory than there is to be, they are gathered a few at a time, in as many passes over the
// text. Of several processes all pack the dense layers together, and each its own experts.
namespace llama {

/// Bytes in memory at one moment of packing a block.
struct BlockMoment {
  const LinearInfo* packing = nullptr;  ///< null as the text runs through the block
  bool sharesInputs = false;            ///< whether a layer that comes later is rounded by the same inputs
  double floats = 0, hessians = 0, packed = 0;
  double samples = 0;  ///< the first tokens of each input, and all that is known of what enters a router
};

/// The layer whose input a layer has: q_proj for k_proj and v_proj, gate_proj for up_proj, else itself.
inline std::string sameInput(const std::string& name) {
  for (const auto& [same, first] :
       {std::pair(".k_proj.", ".q_proj."), std::pair(".v_proj.", ".q_proj."), std::pair(".up_proj.", ".gate_proj.")}) {
    const std::size_t at = name.find(same);
    if (at == std::string::npos) continue;
    std::string result = name;
    return result.replace(at, std::string_view(same).size(), first);
  }
  return name;
}

/// The layers that are calibrated together in any case: those of one input, or of one expert.
inline std::string calibratedWith(const std::string& name) {
  if (name.find(".experts.") == std::string::npos) return sameInput(name);
  return name.substr(0, name.rfind('.', name.rfind('.') - 1) + 1);  // expertName()
}

/// Decibels; a row at a time, as gosset::distortion() would take three copies in double.
inline double signalToNoise(const gosset::AnyMatrix& exact, const gosset::AnyMatrix& packed) {
  const RowMatrixXf decoded = packed.dequantized();
  double signal = 0, noise = 0;
  for (Index row = 0; row < exact.rows(); ++row) {
    const Eigen::RowVectorXd weights = exact.row(row).cast<double>();
    signal += weights.squaredNorm();
    noise += (weights - decoded.row(row).cast<double>()).squaredNorm();
  }
  return 10 * std::log10(signal / noise);
}

/// Packs layer number `layer`, whose floats stay as they are, with what is known of its inputs, which does not, and
/// reports it. Throws as packInPlace().
inline gosset::AnyMatrix packReported(const LinearInfo& info, const gosset::AnyMatrix& exact, const FormatEntry& format,
                                      std::uint64_t seed, std::uint64_t layer, std::optional<LayerInputs> inputs,
                                      const Peers* peers, BlockReport& report) {
  const auto start = std::chrono::steady_clock::now();
  gosset::AnyMatrix packed = packInPlace(info, exact.dequantized(), format, seed, layer, std::move(inputs), peers);
  const std::chrono::duration<double> seconds = std::chrono::steady_clock::now() - start;
  report.linears.push_back({info.name, format.name, packed.bitsPerWeight(), signalToNoise(exact, packed),
                            info.rows * info.cols, packed.bytes(), seconds.count()});
  return packed;
}

struct BlockQuantizerOptions {
  std::uint64_t seed = 1;
  Index hessianBytes = Index{1} << 32;  ///< of Hessians in memory at once; those of one expert are not parted
  const Peers* peers = nullptr;
  std::filesystem::path folder = {};  ///< of which all processes see the files, where there are several
};

class BlockQuantizer {
 public:
  BlockQuantizer(const ChosenFormats& formats, const std::vector<Sequence>& sequences, BlockQuantizerOptions options)
      : formats_(formats), sequences_(sequences), options_(options) {}

  /// Packs a block, whose floats are forgotten on the way. `in`: what enters it, null where no format of the block
  /// needs it. `out`, if there is one, gets what comes out of the float block. firstIndex: the number of the block's
  /// first matrix among all of the model. Of several processes the first alone gets all of the block. Throws as
  /// packLayer().
  template <class Step>
  PackedModel quantize(std::size_t block, std::uint64_t firstIndex, PackedModel exact, const ActivationFile* in,
                       ActivationWriter* out, BlockReport& report, Step&& step) const {
    auto packed = emptyWeights<gosset::AnyMatrix>(exact.config, false);
    static_cast<LayerFloats&>(packed.layers.front()) = exact.layers.front();
    forEachFloatOf(packed, block, [](const FloatInfo& info, auto& numbers) {
      numbers = detail::kept(info.name, numbers, Floats::kFloat16);
    });
    std::vector<Linear> linears = linearsOf(exact, block, firstIndex);
    auto linear = linears.begin();
    forEachLinearOf(packed, block, [&](const LinearInfo&, gosset::AnyMatrix& matrix) { (linear++)->packed = &matrix; });

    const auto batches = batchesOf(linears);
    for (std::size_t b = 0; b < batches.size(); ++b) {
      Calibration calibration;
      const bool first = b == 0, last = b + 1 == batches.size();
      if ((first && out != nullptr) || needsCalibration(batches[b])) {
        calibration = gather(block, exact, batches[b], *in, first ? out : nullptr, report, step);
        ++report.passes;
      }
      if (last) forgetPacked(linears);
      for (Linear* one : batches[b]) {
        if (isMine(*one)) pack(*one, calibration, report, batches[b]);
        one->done = true;
        if (last) *one->exact = gosset::AnyMatrix();
      }
    }
    collectExperts(linears, report);
    return packed;
  }

  /// Calls use(info, weights, number of the matrix, what is known of its inputs) for each linear layer of a block
  /// instead, all of which must have formats that need one. `out` as in quantize().
  template <class Use, class Step>
  void calibrateEach(std::size_t block, std::uint64_t firstIndex, PackedModel exact, const ActivationFile& in,
                     ActivationWriter& out, Use&& use, Step&& step) const {
    std::vector<Linear> linears = linearsOf(exact, block, firstIndex);
    BlockReport ignored;
    ActivationWriter* first = &out;
    for (const Batch& batch : batchesOf(linears)) {
      Calibration calibration = gather(block, exact, batch, in, first, ignored, step);
      first = nullptr;
      for (const Linear* one : batch) {
        use(one->info, one->exact->dequantized(), one->index, inputsOf(*one, calibration, batch));
      }
    }
  }

  /// What quantize() will have in memory of a block's matrices alone, without doing it: visit(BlockMoment) as the text
  /// runs through the block for each batch, and as each matrix is packed. bitsOf(LinearInfo): of a packed weight.
  template <class BitsOf, class Visit>
  void eachMoment(const Config& alone, std::size_t block, BitsOf&& bitsOf, Visit&& visit) const {
    auto shape = emptyWeights<gosset::AnyMatrix>(alone, false);
    std::vector<Linear> linears = linearsOf(shape, block, 0);
    const auto floatsOf = [](const Linear& one) { return 4. * static_cast<double>(one.info.rows * one.info.cols); };
    BlockMoment now;
    double useless = 0;  // of the floats, those of what is packed
    for (const Linear& one : linears) now.floats += floatsOf(one);
    const std::vector<Batch> batches = batchesOf(linears);
    for (const Batch& batch : batches) {
      const bool last = &batch == &batches.back();
      now.hessians = static_cast<double>(hessianBytes(batch));
      now.samples = routerBytes(alone, batch);
      for (const Linear* one : batch) now.samples += isNeededLater(*one, batch) ? 0 : sampleBytes(alone, *one);
      now.packing = nullptr;
      now.sharesInputs = false;
      visit(now);
      if (last) now.floats -= useless;
      for (Linear* one : batch) {
        now.packing = &one->info;
        now.sharesInputs = formatOf(one->info).needsCalibration && isNeededLater(*one, batch);
        visit(now);
        now.packed += floatsOf(*one) * bitsOf(one->info) / 32;
        (last ? now.floats : useless) += last ? -floatsOf(*one) : floatsOf(*one);
        if (formatOf(one->info).needsCalibration && !now.sharesInputs) {
          now.hessians -= static_cast<double>(hessianBytes({one}));
          now.samples -= sampleBytes(alone, *one);
        }
      }
    }
  }

 private:
  struct Linear {
    LinearInfo info;
    gosset::AnyMatrix* exact;
    gosset::AnyMatrix* packed;
    std::uint64_t index;
    bool done = false;
  };
  using Batch = std::vector<Linear*>;

  /// Those of a block that is there, the first of which has the number firstIndex.
  static std::vector<Linear> linearsOf(PackedModel& exact, std::size_t block, std::uint64_t firstIndex) {
    std::vector<Linear> linears;
    forEachLinearOf(exact, block, [&](const LinearInfo& info, gosset::AnyMatrix& matrix) {
      linears.push_back({info, &matrix, nullptr, firstIndex + linears.size()});
    });
    return linears;
  }

  const FormatEntry& formatOf(const LinearInfo& info) const { return *formats_.at(info.name); }
  bool needsCalibration(const Batch& batch) const {
    return std::any_of(batch.begin(), batch.end(),
                       [&](const Linear* one) { return formatOf(one->info).needsCalibration; });
  }

  /// Of those that share one, one.
  Index hessianBytes(const Batch& batch) const {
    std::set<std::string> inputs;
    Index bytes = 0;
    for (const Linear* one : batch) {
      if (!formatOf(one->info).needsCalibration || !inputs.insert(sameInput(one->info.name)).second) continue;
      bytes += one->info.cols * one->info.cols * static_cast<Index>(sizeof(double));
    }
    return bytes;
  }

  /// Of the first tokens of a layer's inputs. Of an expert they are taken to be its even share of the text, or, where
  /// that is less than it is to have, those of its whole block.
  double sampleBytes(const Config& alone, const Linear& one) const {
    if (!formatOf(one.info).needsCalibration) return 0;
    Index tokens = tokensOf(sequences_);
    if (isExpert(one)) {
      const Index share = tokens * alone.experts.perToken / alone.experts.count;
      if (share >= kFewestExpertTokens) tokens = share;
    }
    return 4. * static_cast<double>(std::min(tokens, LayerInputs::kMostTokens) * one.info.cols);
  }
  /// Of what enters the router, where the batch has experts that are calibrated.
  double routerBytes(const Config& alone, const Batch& batch) const {
    const bool routed = std::any_of(batch.begin(), batch.end(), [&](const Linear* one) {
      return isExpert(*one) && formatOf(one->info).needsCalibration;
    });
    if (!routed) return 0;
    const Index tokens = std::min(tokensOf(sequences_), LayerInputs::kMostTokens);
    return static_cast<double>(alone.dim) * (8. * static_cast<double>(alone.dim) + 4. * static_cast<double>(tokens));
  }
  static bool isExpert(const Linear& one) { return one.info.name.find(".experts.") != std::string::npos; }

  std::vector<Batch> batchesOf(std::vector<Linear>& linears) const {
    std::vector<Batch> batches(1);
    for (std::size_t at = 0; at < linears.size();) {
      Batch together;
      const std::string with = calibratedWith(linears[at].info.name);
      for (; at < linears.size() && calibratedWith(linears[at].info.name) == with; ++at)
        together.push_back(&linears[at]);
      Batch both = batches.back();
      both.insert(both.end(), together.begin(), together.end());
      if (batches.back().empty() || hessianBytes(both) <= options_.hessianBytes) {
        batches.back() = std::move(both);
      } else {
        batches.push_back(std::move(together));
      }
    }
    return batches;
  }

  /// One pass over the text.
  template <class Step>
  Calibration gather(std::size_t block, const PackedModel& exact, const Batch& batch, const ActivationFile& in,
                     ActivationWriter* out, BlockReport& report, Step&& step) const {
    std::map<std::string, Index> shared;  // what all processes need, and how wide it is
    std::set<std::string> mine;
    for (const Linear* one : batch) {
      if (!formatOf(one->info).needsCalibration) continue;
      if (!isExpert(*one)) {
        shared[sameInput(one->info.name)] = one->info.cols;
      } else if (isMine(*one)) {
        mine.insert(sameInput(one->info.name));
      }
      if (isExpert(*one)) mine.insert(routerName(block));
    }
    const std::map<std::string, Index> owners = whoGathers(shared, peers().count());
    const auto gathers = [&](const std::string& name) {
      const auto owner = owners.find(name);
      return owner != owners.end() ? owner->second == peers().rank() : mine.contains(name);
    };
    Calibration calibration;
    const Observer observer = [&](const std::string& nameAlone, const Eigen::Ref<const Eigen::MatrixXf>& x) {
      const std::string name = nameInModel(nameAlone, block);
      if (!gathers(name)) return;
      naming("the inputs of " + name,
             [&] { calibration.try_emplace(name, x.rows()).first->second.add(x.transpose()); });
    };
    const Engine engine(exact);
    runBlock(engine, sequences_, in, out, observer, step);
    if (peers().count() > 1) shareInputs(owners, shared, calibration, peers());
    feedStarved(block, engine, batch, calibration, report);
    return calibration;
  }

  /// As calibrateStarvedExperts(), of this process's experts in a batch.
  void feedStarved(std::size_t block, const Engine& engine, const Batch& batch, Calibration& calibration,
                   BlockReport& report) const {
    const auto router = calibration.find(routerName(block));
    if (router == calibration.end()) return;
    std::set<std::string> mine;
    for (const Linear* one : batch) {
      if (isMine(*one)) mine.insert(calibratedWith(one->info.name));
    }
    const auto& experts = engine.model().layers.front().experts;
    for (std::size_t e = 0; e < experts.size(); ++e) {
      const std::string name = expertName(block, e);
      if (!mine.contains(name)) continue;
      const bool starved =
          detail::feedIfStarved(experts[e], name, engine.config().activation, router->second.tokens, calibration);
      if (starved) report.starved.push_back(name);
    }
  }

  /// Behind the last pass the floats of what is packed already are of no use.
  static void forgetPacked(std::vector<Linear>& linears) {
    for (Linear& one : linears) {
      if (one.done) *one.exact = gosset::AnyMatrix();
    }
  }

  void pack(Linear& one, Calibration& calibration, BlockReport& report, const Batch& batch) const {
    const Peers* together = isExpert(one) ? nullptr : options_.peers;
    *one.packed = packReported(one.info, *one.exact, formatOf(one.info), options_.seed, one.index,
                               inputsOf(one, calibration, batch), together, report);
  }

  const Peers& peers() const {
    static const Alone alone;
    return options_.peers != nullptr ? *options_.peers : alone;
  }
  /// Whether this process packs it, alone or with the others.
  bool isMine(const Linear& one) const {
    return expertOwner(one.info.name, peers().count()).value_or(peers().rank()) == peers().rank();
  }

  /// What other processes have packed; the report is then in the order of the matrices again.
  void collectExperts(const std::vector<Linear>& linears, BlockReport& report) const {
    if (peers().count() == 1) return;
    std::vector<ExpertMatrix> experts;
    std::map<std::string, std::uint64_t> order;
    for (const Linear& one : linears) {
      order.emplace(one.info.name, one.index);
      order.emplace(calibratedWith(one.info.name), one.index);
      if (isExpert(one)) experts.push_back({one.info, formatOf(one.info).name, one.packed});
    }
    ExpertExchange(options_.folder, peers()).collect(experts, report);
    std::sort(report.linears.begin(), report.linears.end(),
              [&](const auto& a, const auto& b) { return order.at(a.name) < order.at(b.name); });
    std::sort(report.starved.begin(), report.starved.end(),
              [&](const auto& a, const auto& b) { return order.at(a) < order.at(b); });
  }

  /// Whether another layer of the batch, which comes later, is rounded by the same inputs.
  bool isNeededLater(const Linear& one, const Batch& batch) const {
    return std::any_of(batch.begin(), batch.end(), [&](const Linear* other) {
      return other->index > one.index && formatOf(other->info).needsCalibration &&
             sameInput(other->info.name) == sameInput(one.info.name);
    });
  }

  /// The inputs of one layer, which is the only one that keeps them where no other of the batch is still to come.
  std::optional<LayerInputs> inputsOf(const Linear& one, Calibration& calibration, const Batch& batch) const {
    if (!formatOf(one.info).needsCalibration) return std::nullopt;
    const std::string input = sameInput(one.info.name);
    const bool own = calibration.contains(one.info.name);
    const auto found = calibration.find(own ? one.info.name : input);
    if (found == calibration.end()) return std::nullopt;
    if (isNeededLater(one, batch)) return found->second;
    std::optional<LayerInputs> mine = std::move(found->second);
    calibration.erase(found);
    return mine;
  }

  const ChosenFormats& formats_;
  const std::vector<Sequence>& sequences_;
  BlockQuantizerOptions options_;
};

}  // namespace llama
