// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "block_run.hpp"
#include "evaluate.hpp"
#include "layer_source.hpp"
#include "packed_folder.hpp"

#include <filesystem>

namespace llama {

/// What a packed model costs on some texts.
struct StreamedQuality {
  Quality exact;  ///< the float model's own: its perplexity
  Quality packed;
};

namespace detail {

/// The activations of one model on the way through it, in two files of a folder at most.
class Passage {
 public:
  Passage(std::filesystem::path folder, std::string name, const ActivationShape& shape,
          const std::vector<Sequence>& sequences)
      : folder_(std::move(folder)), name_(std::move(name)), shape_(shape), sequences_(sequences) {}
  ~Passage() {
    std::error_code ignored;
    std::filesystem::remove(path(), ignored);
  }
  Passage(const Passage&) = delete;
  Passage& operator=(const Passage&) = delete;

  template <class RowOf>
  void embed(const Config& config, RowOf&& rowOf) {
    embedInto(path(), shape_, sequences_, config, rowOf);
  }

  template <class Step>
  void through(PackedModel block, Step&& step) {
    const std::filesystem::path before = path();
    const ActivationFile in(before, shape_);
    ++block_;
    ActivationWriter out(path(), shape_);
    runBlock(Engine(std::move(block)), sequences_, in, &out, {}, step);
    out.commit();
    std::filesystem::remove(before);
  }

  ActivationFile end() const { return ActivationFile(path(), shape_); }

 private:
  std::filesystem::path path() const { return folder_ / (name_ + "-" + std::to_string(block_) + ".bin"); }

  std::filesystem::path folder_;
  std::string name_;
  ActivationShape shape_;
  const std::vector<Sequence>& sequences_;
  std::size_t block_ = 0;
};

}  // namespace detail

/// Runs both models over the sequences block by block, both activations in files of `work` in 32 bits, and holds the
/// packed one's predictions against the float one's: what measureQuality() finds of models in memory. step() comes
/// after each piece of text through a block or the head. Throws std::invalid_argument where the models differ in shape.
template <class Step>
StreamedQuality evaluateStreamed(LayerSource& exact, const PackedSource& packed, const std::vector<Sequence>& sequences,
                                 const std::filesystem::path& work, Step&& step) {
  const Config& c = exact.config();
  if (packed.config() != c) throw std::invalid_argument("evaluate: two models of one config expected");
  const ActivationShape shape{32, c.dim, tokensOf(sequences)};
  detail::Passage floats(work, "float", shape, sequences), codes(work, "packed", shape, sequences);
  {
    const RowMatrixXf embedding = exact.embedding();
    floats.embed(c, [&](Token token) -> Eigen::RowVectorXf { return embedding.row(token); });
    const gosset::AnyMatrix packedEmbedding = packed.embedding();
    codes.embed(c, [&](Token token) { return packedEmbedding.row(token); });
  }
  for (std::size_t block = 0; block < static_cast<std::size_t>(c.layers); ++block) {
    floats.through(exact.block(block), step);
    codes.through(packed.block(block), step);
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
  return {own.quality(), other.quality()};
}

}  // namespace llama
