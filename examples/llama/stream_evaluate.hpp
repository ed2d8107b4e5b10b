// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "block_run.hpp"
#include "evaluate.hpp"
#include "layer_source.hpp"
#include "packed_folder.hpp"
#include "reference_logits.hpp"
#include "work_folder.hpp"

#include <filesystem>

namespace llama {

/// What a packed model costs on some texts.
struct StreamedQuality {
  Quality exact;  ///< the float model's own: its perplexity
  Quality packed;
};

namespace detail {

/// The activations of one model on the way through it, in two files of a folder at most. Another passage of the same
/// name in the same folder goes on where this one was left.
class Passage {
 public:
  Passage(std::filesystem::path folder, std::string name, const ActivationShape& shape,
          const std::vector<Sequence>& sequences)
      : folder_(std::move(folder)), name_(std::move(name)), shape_(shape), sequences_(sequences) {}

  /// Embeds the text, unless it has come as far already. rowOf(embedding(), token) gives a row.
  template <class Embedding, class RowOf>
  void begin(const Config& config, Embedding&& embedding, RowOf&& rowOf) {
    for (block_ = static_cast<std::size_t>(config.layers); block_ > 0; --block_) {
      if (std::filesystem::exists(path(block_))) break;
    }
    for (std::size_t block = 0; block < block_; ++block) std::filesystem::remove(path(block));
    if (block_ > 0 || std::filesystem::exists(path(0))) return;
    const auto rows = embedding();
    embedInto(path(0), shape_, sequences_, config, [&](Token token) { return rowOf(rows, token); });
  }

  /// Through block number `block`, which load() gives, unless the text has come farther already.
  template <class Load, class Step>
  void through(std::size_t block, Load&& load, Step&& step) {
    if (block < block_) return forEachPiece(sequences_, [&](Index, Index, bool) { step(); });
    const ActivationFile in(path(block), shape_);
    ActivationWriter out(path(block + 1), shape_);
    runBlock(Engine(load(block)), sequences_, in, &out, {}, step);
    out.commit();
    block_ = block + 1;
    std::filesystem::remove(path(block));
  }

  ActivationFile end() const { return ActivationFile(path(block_), shape_); }
  void remove() const { std::filesystem::remove(path(block_)); }

 private:
  std::filesystem::path path(std::size_t block) const {
    return folder_ / (name_ + "-" + std::to_string(block) + ".bin");
  }

  std::filesystem::path folder_;
  std::string name_;
  ActivationShape shape_;
  const std::vector<Sequence>& sequences_;
  std::size_t block_ = 0;  ///< whose input is there
};

}  // namespace detail

/// What an evaluation depends on. All bytes of both models are read.
inline nlohmann::ordered_json evaluationKey(const std::filesystem::path& exact, const std::filesystem::path& packed,
                                            const std::vector<Sequence>& sequences) {
  return {{"gosset", detail::versionText()},
          {"model", modelHash(exact)},
          {"packed model", modelHash(packed)},
          {"text", tokensHash(sequences)}};
}

/// How many steps that will be: of the text through each block of either model, then of what comes out through both
/// heads at once.
inline std::size_t evaluationSteps(const Config& config, const std::vector<Sequence>& sequences) {
  std::size_t pieces = 0, ends = 0;
  forEachPiece(sequences, [&](Index, Index, bool) { ++pieces; });
  const auto piece = static_cast<std::size_t>(pieceOf(config));
  for (const Sequence& sequence : sequences) ends += (sequence.size() + piece - 1) / piece;
  return 2 * pieces * static_cast<std::size_t>(config.layers) + ends;
}

/// Runs both models over the sequences block by block, both activations in files of `work` in 32 bits, and holds the
/// packed one's predictions against the float one's: what measureQuality() finds of models in memory. step() comes
/// after each piece of text through a block or the head. A run that was killed goes on with the block that it was in,
/// where `work` is the same; `key`: what the run is of. Throws std::invalid_argument where the models differ in shape,
/// gosset::FormatError, which names the first difference, where `work` is of another run.
template <class Step>
StreamedQuality evaluateStreamed(LayerSource& exact, const PackedSource& packed, const std::vector<Sequence>& sequences,
                                 const std::filesystem::path& work, const nlohmann::ordered_json& key, Step&& step) {
  const Config& c = exact.config();
  if (packed.config() != c) throw std::invalid_argument("evaluate: two models of one config expected");
  const ActivationShape shape{32, c.dim, tokensOf(sequences)};
  makeFolder(work);
  Manifest::requireSame(work, key);
  Manifest::write(work, key);
  detail::Passage floats(work, "float", shape, sequences), codes(work, "packed", shape, sequences);
  floats.begin(
      c, [&] { return exact.embedding(); },
      [](const RowMatrixXf& rows, Token token) -> Eigen::RowVectorXf { return rows.row(token); });
  codes.begin(
      c, [&] { return packed.embedding(); },
      [](const gosset::AnyMatrix& rows, Token token) { return rows.row(token); });
  for (std::size_t block = 0; block < static_cast<std::size_t>(c.layers); ++block) {
    floats.through(
        block, [&](std::size_t b) { return exact.block(b); }, step);
    codes.through(
        block, [&](std::size_t b) { return packed.block(b); }, step);
    packed.forget();
  }
  const Engine exactHead(exact.head()), packedHead(packed.head());
  const ActivationFile exactEnd = floats.end(), packedEnd = codes.end();
  const Index piece = pieceOf(c);
  QualityMeter own, other;
  Index first = 0;
  for (const Sequence& sequence : sequences) {
    own.beginSequence();
    other.beginSequence();
    const auto size = static_cast<Index>(sequence.size());
    for (Index at = 0; at < size; at += piece) {
      const Index count = std::min(piece, size - at);
      const Eigen::MatrixXf p = exactHead.logits(exactEnd.read(first + at, count));
      const Eigen::MatrixXf q = packedHead.logits(packedEnd.read(first + at, count));
      for (Index t = 0; t < count && at + t + 1 < size; ++t) {
        const Token next = sequence[static_cast<std::size_t>(at + t + 1)];
        other.add(next, p.col(t), detail::argmax(p.col(t)), q.col(t));
        own.addLoss(detail::logSumExp(p.col(t)) - static_cast<double>(p(next, t)), 0, true);
      }
      step();
    }
    first += size;
  }
  floats.remove();
  codes.remove();
  std::filesystem::remove(work / Manifest::kName);
  return {own.quality(), other.quality()};
}

}  // namespace llama
