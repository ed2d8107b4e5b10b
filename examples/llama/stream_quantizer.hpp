// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "block_quantizer.hpp"
#include "layer_source.hpp"
#include "packed_folder.hpp"
#include "peers.hpp"
#include "reference_logits.hpp"
#include "work_folder.hpp"

#include <functional>
#include <memory>
#include <optional>
#include <set>

// Quantizes a model of which one block at a time is in memory, into a folder of packed_folder.hpp. A part of the model
// is done once its file is there, which is the last thing that happens to it; whatever ends the program in between, the
// next run goes on with the part that it was in, and comes to the same bits.
namespace llama {

/// What later blocks are calibrated on: the activations of the float model, or of the packed blocks before them.
enum class CalibrateOn { kFloat, kPacked };

struct StreamOptions {
  std::filesystem::path model, out, work;  ///< folders; `work` for what goes when the run is done
  CalibrateOn on = CalibrateOn::kFloat;
  int activationBits = 16;
  Index hessianBytes = Index{1} << 32;
  std::size_t firstBlock = 0, lastBlock = 0;  ///< this run's share, with the embedding where it begins and the head
                                              ///< where it ends the model
};

/// For people, after each part.
struct PartDone {
  std::string what;
  std::size_t done = 0, parts = 0;  ///< of this run
  double seconds = 0;               ///< for this part
  double left = 0;                  ///< an estimate of the seconds left
  BlockReport report;
};

/// What enters the output matrix; `in`: what comes out of the last block. step() comes after each piece of text. Throws
/// std::invalid_argument, which names the layer, where it is not finite.
template <class Step>
LayerInputs headInputs(LayerSource& source, const std::vector<Sequence>& text, const ActivationFile& in, Step&& step) {
  const Config& c = source.config();
  LayerInputs inputs(c.dim);
  const Eigen::VectorXf norm = source.finalNorm();
  forEachPiece(text, [&](Index first, Index count, bool) {
    const Eigen::MatrixXf x = detail::rmsNorm(in.read(first, count), norm, c.normEps);
    naming("the inputs of " + outputInfo(c).name, [&] { inputs.add(x.transpose()); });
    step();
  });
  return inputs;
}

class StreamQuantizer {
 public:
  /// Throws gosset::FormatError where the folders are not such, or `work` is of another run, whose first difference it
  /// names.
  StreamQuantizer(StreamOptions options, LayerSource& source, const Tokenizer& tokenizer, const ChosenFormats& formats,
                  std::uint64_t seed, const std::vector<Sequence>& text, const Peers& peers)
      : o_(std::move(options)),
        source_(source),
        tokenizer_(tokenizer),
        formats_(formats),
        text_(text),
        peers_(peers),
        seed_(seed),
        blocks_(formats, text, {seed, o_.hessianBytes, &peers, o_.work}),
        shape_{o_.activationBits, source.config().dim, tokensOf(text)},
        parts_(packedParts(source.config())) {
    requireShare();
    const nlohmann::ordered_json run = key();
    keyHash_ = hashOf(run.dump());
    Manifest::requireSame(o_.work, run);
    requireOwnOutput();
    peers_.wait();
    if (!peers_.first()) return;
    makeFolder(o_.out);
    makeFolder(o_.work);
    ExpertExchange::removeOld(o_.work);
    Manifest::write(o_.work, run);
  }

  /// What the result depends on. The model's hash takes a while: all of its bytes are read.
  nlohmann::ordered_json key() const {
    nlohmann::ordered_json formats;
    for (const auto& [name, format] : formats_) formats[name] = format->name;
    return {{"gosset", detail::versionText()},
            {"model", modelHash(o_.model)},
            {"tokenizer", hashOf(tokenizer_.vocabulary().file() + detail::tokenizerAbout(tokenizer_))},
            {"text", tokensHash(text_)},
            {"calibrate on", o_.on == CalibrateOn::kFloat ? "float" : "packed"},
            {"bits of activations", o_.activationBits},
            {"seed", seed_},
            {"formats", formats}};
  }

  /// Does what is left to do of this run's share. report(PartDone) comes after each part, step(done, of) as the text
  /// goes through a block.
  template <class Report, class Step>
  void run(Report&& report, Step&& step) {
    const std::vector<std::size_t> left = partsLeft();
    peers_.wait();  // until all have seen what is there
    if (left.empty()) return removeAllActivations();
    Clock clock(left, source_.config());
    std::size_t lastOfText = 0;  // behind it no part looks at the text
    for (const std::size_t part : left) lastOfText = isCalibrated(part) ? part : lastOfText;
    if (left.front() == 0) {
      embed(true, lastOfText > 0);
      report(clock.done("embedding", 0, {}));
    }
    for (const std::size_t part : left) {
      if (part == 0) continue;
      if (part <= lastOfText) bringText(part - 1, step);
      const bool isHead = part + 1 == parts_;
      BlockReport done = isHead ? quantizeHead(step) : quantizeBlock(part - 1, lastOfText, step);
      report(clock.done(isHead ? "head" : "block " + std::to_string(part - 1), part, std::move(done)));
    }
    removeAllActivations();
  }

  /// Lists the parts in an index, which makes the folder a model. Throws gosset::FormatError where one is missing, or
  /// another run's.
  void join() const {
    peers_.wait();
    if (!peers_.first()) return;
    for (std::size_t part = 0; part < parts_; ++part) requireOwn(part);
    writePackedIndex(o_.out, parts_);
  }
  bool ownsAll() const { return o_.firstBlock == 0 && o_.lastBlock + 1 == blockCount(); }

 private:
  /// Tells how long what is left will take, by the weights that are done.
  class Clock {
   public:
    Clock(const std::vector<std::size_t>& left, const Config& c) : parts_(left.size()), config_(c) {
      for (const std::size_t part : left) weights_ += weightsOf(part);
    }

    PartDone done(const std::string& what, std::size_t part, BlockReport report) {
      const auto now = std::chrono::steady_clock::now();
      const double seconds = std::chrono::duration<double>(now - last_).count();
      last_ = now;
      doneWeights_ += weightsOf(part);
      const double all = std::chrono::duration<double>(now - start_).count();
      const double left = doneWeights_ > 0 ? all * (weights_ - doneWeights_) / doneWeights_ : 0;
      return {what, ++done_, parts_, seconds, left, std::move(report)};
    }

   private:
    double weightsOf(std::size_t part) const {
      if (part == 0 || part > static_cast<std::size_t>(config_.layers)) return 0;
      const auto alone = emptyWeights<std::monostate>(oneBlock(config_, part - 1), false);
      return static_cast<double>(linearSize(alone));
    }

    std::chrono::steady_clock::time_point start_ = std::chrono::steady_clock::now(), last_ = start_;
    std::size_t parts_, done_ = 0;
    const Config& config_;
    double weights_ = 0, doneWeights_ = 0;
  };

  static std::string hashOf(const std::string& text) {
    detail::Hash hash;
    hash.add(std::as_bytes(std::span(text)));
    return hash.text();
  }
  bool isCalibrated(std::size_t part) const {
    if (part == 0 || (part + 1 == parts_ && source_.tied())) return false;
    if (part + 1 == parts_) return formats_.at(outputName())->needsCalibration;
    bool any = false;
    const auto shape = emptyWeights<std::monostate>(oneBlock(source_.config(), part - 1), false);
    forEachLinearOf(shape, part - 1, [&](const LinearInfo& info, std::monostate) {
      any = any || formats_.at(info.name)->needsCalibration;
    });
    return any;
  }
  std::size_t blockCount() const { return parts_ - 2; }
  std::filesystem::path partPath(std::size_t part) const { return o_.out / packedPartName(part, parts_); }
  std::filesystem::path activations(std::size_t block) const {
    return o_.work / ("activations-" + std::to_string(block) + ".bin");
  }
  bool hasActivations(std::size_t block) const { return std::filesystem::exists(activations(block)); }

  void requireShare() const {
    if (o_.firstBlock > o_.lastBlock || o_.lastBlock >= blockCount()) {
      throw std::invalid_argument("layers: a .. b with 0 <= a <= b <= " + std::to_string(blockCount() - 1) +
                                  " expected, found " + std::to_string(o_.firstBlock) + " .. " +
                                  std::to_string(o_.lastBlock));
    }
    if (!ownsAll() && o_.on == CalibrateOn::kPacked) {
      throw std::invalid_argument(
          "layers: blocks that are calibrated on packed ones before them cannot be quantized apart from these");
    }
  }

  /// Throws where parts of another run lie in the folder.
  void requireOwnOutput() const {
    for (std::size_t part = 0; part < parts_; ++part) {
      if (std::filesystem::exists(partPath(part))) requireOwn(part);
    }
    std::set<std::string> mine;
    for (std::size_t part = 0; part < parts_; ++part) mine.insert(packedPartName(part, parts_));
    std::error_code failed;
    for (const auto& entry : std::filesystem::directory_iterator(o_.out, failed)) {
      const std::string name = entry.path().filename().string();
      const bool other = entry.path().extension() == ".safetensors" && !mine.contains(name);
      check(!other && name != "config.json", o_.out.string(), ": holds ", name, ", which is none of this run's files");
    }
  }
  void requireOwn(std::size_t part) const {
    check(std::filesystem::exists(partPath(part)), o_.out.string(), ": ", packedPartName(part, parts_), " is missing");
    const gosset::SafetensorsFile file(partPath(part));
    const auto found = file.metadata().find(kKey);
    check(found != file.metadata().end() && found->second == keyHash_, file.path().string(),
          ": was made by another run, from another model, recipe or text");
  }

  /// Of this run's share.
  std::vector<std::size_t> partsLeft() const {
    std::vector<std::size_t> left;
    for (std::size_t part = 0; part < parts_; ++part) {
      const bool mine = part == 0            ? o_.firstBlock == 0
                        : part + 1 == parts_ ? o_.lastBlock + 1 == blockCount()
                                             : part - 1 >= o_.firstBlock && part - 1 <= o_.lastBlock;
      if (mine && !std::filesystem::exists(partPath(part))) left.push_back(part);
    }
    return left;
  }

  /// The last block up to `end` whose input is there, or the first one.
  std::size_t lastActivations(std::size_t end) const {
    std::size_t block = end;
    while (block > 0 && !hasActivations(block)) --block;
    return block;
  }

  void removeOldActivations(std::size_t next) const {
    std::error_code ignored;
    for (std::size_t block = 0; block <= blockCount(); ++block) {
      if (block < next || block > next + 1) std::filesystem::remove(activations(block), ignored);
    }
  }
  void removeAllActivations() const {
    if (peers_.first()) removeOldActivations(parts_);
    peers_.wait();
  }

  void write(std::size_t part, gosset::SafetensorsWriter writer) const {
    writer.setMetadata(kKey, keyHash_);
    writer.write(partPath(part));
  }

  /// A block or the head that is done but for its file, which make() gives.
  template <class Make>
  void finish(std::size_t part, Make&& make, const BlockReport& report) const {
    if (peers_.first()) {
      writeReport(part, report);
      write(part, make());
    }
    peers_.wait();
    if (peers_.first()) removeOldActivations(part);
    peers_.wait();  // until all see the same files again
  }

  void writeReport(std::size_t part, const BlockReport& report) const {
    nlohmann::ordered_json rows = nlohmann::ordered_json::array();
    for (const PackedLinear& one : report.linears) {
      rows.push_back({{"name", one.name},
                      {"format", one.format},
                      {"bits_per_weight", one.bitsPerWeight},
                      {"sqnr_db", std::isfinite(one.sqnr) ? nlohmann::ordered_json(one.sqnr) : nullptr},
                      {"weights", one.weights},
                      {"bytes", one.bytes},
                      {"seconds", one.seconds}});
    }
    const nlohmann::ordered_json json = {
        {"matrices", rows}, {"starved_experts", report.starved}, {"passes", report.passes}};
    writeWhole(o_.work / ("part-" + std::to_string(part) + ".json"), json.dump(1) + "\n");
  }

  /// The embedded text, and the embedding's part, where they are asked for.
  void embed(bool writePart, bool withText) {
    RowMatrixXf exact = source_.embedding();
    const bool onPacked = o_.on == CalibrateOn::kPacked;
    const auto embedText = [&](const auto& rowOf) {
      if (withText && peers_.first()) embedInto(activations(0), shape_, text_, source_.config(), rowOf);
    };
    if (!onPacked) embedText([&](Token token) -> Eigen::RowVectorXf { return exact.row(token); });
    gosset::AnyMatrix packed;
    if (writePart || onPacked) {
      detail::requireFinite(embeddingName(), exact);
      packed = packEmbedding(embeddingInfo(source_.config()), std::move(exact), *formats_.at(embeddingName()), seed_);
    }
    if (onPacked) embedText([&](Token token) { return packed.row(token); });
    if (writePart && peers_.first()) {
      write(0, embeddingPart(source_.config(), source_.configText(), source_.tied(), packed, tokenizer_));
    }
    peers_.wait();
  }

  /// Brings the text to what enters block `end`, through those that are done already, or that other runs quantize.
  template <class Step>
  void bringText(std::size_t end, Step&& step) {
    const std::size_t from = lastActivations(end);
    const bool isThere = hasActivations(from);
    peers_.wait();  // until all have seen that
    if (!isThere) embed(false, true);
    if (peers_.first()) {
      removeOldActivations(from);
      for (std::size_t block = from; block < end; ++block) {
        const ActivationFile in(activations(block), shape_);
        ActivationWriter out(activations(block + 1), shape_);
        runBlock(Engine(passedBlock(block)), text_, in, &out, {}, step);
        out.commit();
        removeOldActivations(block + 1);
      }
    }
    peers_.wait();
  }

  /// A block before this run's share, or one that is done, as later ones are calibrated on it.
  PackedModel passedBlock(std::size_t block) {
    if (o_.on == CalibrateOn::kFloat) return source_.block(block);
    const gosset::SafetensorsFile file(partPath(partOfBlock(block)));
    return readPackedBlock(
        source_.config(), block, [&](const std::string&) -> const auto& { return file; });
  }

  std::uint64_t firstIndexOf(std::size_t block) const {
    std::uint64_t index = 0;
    for (std::size_t before = 0; before < block; ++before) {
      index += linearNames(oneBlock(source_.config(), before), false).size();
    }
    return index;
  }

  template <class Step>
  BlockReport quantizeBlock(std::size_t block, std::size_t lastOfText, Step&& step) {
    BlockReport report;
    std::optional<ActivationFile> in;
    if (partOfBlock(block) <= lastOfText) in.emplace(activations(block), shape_);
    std::unique_ptr<ActivationWriter> out;
    if (partOfBlock(block) < lastOfText && peers_.first()) {
      out = std::make_unique<ActivationWriter>(activations(block + 1), shape_);
    }
    const bool asFloat = o_.on == CalibrateOn::kFloat;
    const PackedModel packed = blocks_.quantize(block, firstIndexOf(block), source_.block(block), in ? &*in : nullptr,
                                                asFloat ? out.get() : nullptr, report, step);
    if (out && !asFloat) runBlock(Engine(packed), text_, *in, out.get(), {}, step);
    if (out) out->commit();
    finish(
        partOfBlock(block), [&] { return blockPart(packed, block); }, report);
    return report;
  }

  template <class Step>
  BlockReport quantizeHead(Step&& step) {
    BlockReport report;
    PackedModel head = source_.head();
    head.finalNorm = detail::kept("model.norm.weight", head.finalNorm, Floats::kFloat16);
    if (head.output) packOutput(head, report, step);
    finish(
        parts_ - 1, [&] { return headPart(head); }, report);
    return report;
  }

  template <class Step>
  void packOutput(PackedModel& head, BlockReport& report, Step&& step) {
    const LinearInfo info = outputInfo(source_.config());
    const FormatEntry& format = *formats_.at(info.name);
    std::optional<LayerInputs> inputs;
    if (format.needsCalibration) {
      inputs = headInputs(source_, text_, ActivationFile(activations(blockCount()), shape_), step);
      ++report.passes;
    }
    head.output =
        packReported(info, *head.output, format, seed_, firstIndexOf(blockCount()), std::move(inputs), &peers_, report);
  }

  static constexpr const char* kKey = "quantize.key";

  StreamOptions o_;
  LayerSource& source_;
  const Tokenizer& tokenizer_;
  const ChosenFormats& formats_;
  const std::vector<Sequence>& text_;
  const Peers& peers_;
  std::uint64_t seed_;
  BlockQuantizer blocks_;
  ActivationShape shape_;
  std::size_t parts_;
  std::string keyHash_;
};

}  // namespace llama
