// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <gosset/core/empty_after_move.hpp>
#include <gosset/core/error.hpp>
#include <gosset/core/float_storage.hpp>
#include <gosset/core/late.hpp>
#include <gosset/core/parallel.hpp>
#include <gosset/core/transpose.hpp>
#include <gosset/core/types.hpp>
#include <gosset/format/concepts.hpp>
#include <gosset/format/plain.hpp>
#include <gosset/kv/plain_tokens.hpp>
#include <gosset/kv/rotation.hpp>
#include <gosset/kv/shape.hpp>
#include <gosset/kv/shared_heads.hpp>
#include <gosset/kv/staging.hpp>
#include <gosset/kv/timeline.hpp>
#include <gosset/matrix/quantize.hpp>
#include <gosset/rounding/nearest.hpp>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <iterator>
#include <numeric>
#include <optional>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

namespace gosset::GOSSET_ABI::detail {

/// The keys or the values of a cache: its first tokens, if they are kept; packed blocks, one matrix a KV head, the
/// newest of which may be staged, that is wait in more bits to be merged; and the window of newest tokens. Tokens are
/// rows of kv_heads * head_dim numbers, in the basis of the format's rotation if it has one; for values, the shape's
/// head_dim is what the cache's calls value_dim. Copies share their blocks.
template <class Format, KvSide kSide>
class KvStream : public VisitsFields<KvStream<Format, kSide>> {
  using Storage = KvStorage<Format>;
  using PackedBlock = Packed<typename Storage::Stored>;
  using StagedBlock = Packed<typename KvStage<typename Storage::Stored, kSide>::type>;

 public:
  /// A plain float format keeps its precision in the window; all others round to 16 bits on entry.
  using WindowScalar =
      typename std::conditional_t<StorageScalar<Format>, std::type_identity<Format>, std::type_identity<Float16>>::type;

  KvStream(const KvShape& shape, const QuantizeOptions& options)
      : shape_(shape),
        options_(options),
        seed_(randomBits(options.seed, kSide == KvSide::kKeys ? 0 : 1)),
        first_(shape.kv_heads, shape.head_dim),
        window_(shape.kv_heads, shape.head_dim) {}

  /// Tokens (rows) as append() takes them. Errors: std::invalid_argument where a number is not finite or is beyond the
  /// window's floats.
  template <class Derived>
  RowMatrixXf prepared(const char* name, const Eigen::DenseBase<Derived>& tokens) {
    setUpRotation();
    RowMatrixXf w = finiteFloats(name, tokens);
    rotate(w);
    const float largest = w.cwiseAbs().maxCoeff();
    require(largest <= StorageTraits<WindowScalar>::kMax, name, ": a magnitude of ", largest,
            Storage::kRotated ? " after rotation" : "", " is beyond the ", StorageTraits<WindowScalar>::kMax, " that ",
            StorageTraits<WindowScalar>::name(), " can hold");
    return w;
  }

  /// Numbers a token.
  Index width() const { return shape_.kvWidth(); }

  PlainTokens<WindowScalar>& first() { return first_; }
  const PlainTokens<WindowScalar>& first() const { return first_; }
  PlainTokens<WindowScalar>& window() { return window_; }
  const PlainTokens<WindowScalar>& window() const { return window_; }

  /// What a plan makes of the window, and room for it.
  struct Update {
    std::vector<SharedHeads<PackedBlock>> blocks;
    std::vector<SharedHeads<StagedBlock>> staged;
    PlainTokens<WindowScalar> window;
    bool merges;
  };

  /// All that can fail of it; the stream stays as it is. Of each staged block so many tokens count.
  Update prepare(const KvPlan& plan, const std::vector<Index>& staged_counts) {
    Update update{
        .blocks = {}, .staged = {}, .window = window_.withoutOldest(plan.tokens(), plan.room), .merges = plan.merges};
    if (plan.merges) update.blocks.emplace_back(merged(staged_counts, plan.filling));
    Index next = plan.filling;
    for (const Index tokens : plan.packed) {
      update.blocks.emplace_back(packed<PackedBlock>(window_.rows(next, tokens), options_));
      next += tokens;
    }
    if (plan.staged > 0) update.staged.emplace_back(packed<StagedBlock>(window_.rows(next, plan.staged), {}));
    makeRoom<SharedHeads<PackedBlock>>(blocks_, update.blocks.size());
    makeRoom<SharedHeads<StagedBlock>>(staged_, update.staged.size());
    return update;
  }

  void commit(Update&& update) noexcept {
    if (update.merges) staged_.clear();
    std::move(update.blocks.begin(), update.blocks.end(), std::back_inserter(blocks_));
    std::move(update.staged.begin(), update.staged.end(), std::back_inserter(staged_));
    window_.swap(update.window);
  }

  /// Keeps the oldest blocks, so many. Staged blocks count too, after the others.
  void truncateBlocks(Index blocks) {
    const Index packed = std::min(blocks, packedBlocks());
    blocks_.erase(blocks_.begin() + packed, blocks_.end());
    staged_.erase(staged_.begin() + std::min(blocks - packed, stagedBlocks()), staged_.end());
  }
  /// Drops the oldest blocks, so many.
  void dropOldest(Index blocks) noexcept {
    const Index packed = std::min(blocks, packedBlocks());
    blocks_.erase(blocks_.begin(), blocks_.begin() + packed);
    staged_.erase(staged_.begin(), staged_.begin() + (blocks - packed));
  }

  Index stagedBlocks() const { return static_cast<Index>(staged_.size()); }

  /// Tokens of a block as it was packed.
  Index storedTokens(Index index) const {
    return inBlock(
        index, [](const auto& heads) { return kSide == KvSide::kKeys ? heads.front().cols() : heads.front().rows(); });
  }

  /// The same address for all streams that share a block.
  const void* identity(Index index) const {
    return inBlock(index, [](const auto& heads) -> const void* { return &heads; });
  }

  /// y += block^T x: scores (tokens x t) of queries x (head_dim x t) for keys, their sums (head_dim x t) of values with
  /// weights x (tokens x t).
  void addProduct(Index index, Index head, const Eigen::Ref<const Eigen::MatrixXf>& x, Eigen::Ref<Eigen::MatrixXf> y,
                  Activations activations) const {
    inBlock(index, [&](const auto& heads) {
      const auto& block = heads[static_cast<std::size_t>(head)];
      if (activations == Activations::kFloat) return block.computeTransposed(x, y);
      block.computeTransposedRounded(x, y);
    });
  }

  /// y += block x, for keys whose numbers are values, too: their sums (head_dim x t) with weights x (tokens x t).
  void addSumsOfKeys(Index index, Index head, const Eigen::Ref<const Eigen::MatrixXf>& x,
                     Eigen::Ref<Eigen::MatrixXf> y) const requires(kSide == KvSide::kKeys) {
    inBlock(index, [&](const auto& heads) {
      Eigen::MatrixXf sums(y.rows(), y.cols());
      heads[static_cast<std::size_t>(head)].computeProduct(x, sums, Activations::kFloat);
      y += sums;
    });
  }

  /// Writes the first w.rows() tokens of a block, all heads.
  void dequantizeBlock(Index index, Eigen::Ref<RowMatrixXf> w) const {
    inBlock(index, [&](const auto& heads) { dequantizeHeads(heads, w); });
  }

  /// Into the basis of the blocks, and out of it; w: t x (any heads * head_dim).
  void rotate(Eigen::Ref<RowMatrixXf> w) const {
    if (rotation_) rotation_->forward(w);
  }
  void rotateBack(Eigen::Ref<RowMatrixXf> w) const {
    if (rotation_) rotation_->inverse(w);
  }

  /// What a block of so many tokens takes at the least, counted before any memory is asked for.
  static double leastBytes(const KvShape& shape, Index tokens) {
    const DeferredArrays deferred;
    const Index head = std::min(shapedHead<PackedBlock>(shape.head_dim, tokens).bytes(),
                                shapedHead<StagedBlock>(shape.head_dim, tokens).bytes());
    return static_cast<double>(shape.kv_heads) * static_cast<double>(head);
  }

  /// Blocks, the tokens in floats, and the seed of a rotation.
  Index bytes() const {
    Index bytes = first_.bytes() + window_.bytes();
    if (Storage::kRotated) bytes += static_cast<Index>(sizeof(seed_));
    forBlocks([&](const void*, bool, Index block) { bytes += block; });
    return bytes;
  }

  /// visit(identity, shared, bytes) for each block: who it is, and whether another stream has it, too.
  template <class Visit>
  void forBlocks(const Visit& visit) const {
    const auto visitAll = [&](const auto& blocks) {
      for (const auto& block : blocks) {
        Index bytes = 0;
        for (const auto& packed : *block) bytes += packed.bytes();
        visit(block.identity(), block.isShared(), bytes);
      }
    };
    visitAll(blocks_);
    visitAll(staged_);
  }

  /// Every stored bit.
  std::string image() const {
    std::string bytes;
    const auto add = [&](std::string_view, auto values) {
      bytes.append(reinterpret_cast<const char*>(values.data()), values.size_bytes());
    };
    add("seed", std::span(&seed_, Storage::kRotated ? 1 : 0));
    this->visitFields(add);
    return bytes;
  }

  /// All zero, in an empty stream.
  void reshape(const KvContents& contents) {
    if (!contents.stored.empty() || contents.window + contents.first > 0) setUpRotation();
    const Index packed = static_cast<Index>(contents.stored.size()) - contents.staged;
    for (const Index count : contents.stored) {
      if (packedBlocks() < packed) {
        blocks_.emplace_back(shapedHeads<PackedBlock>(count));
      } else {
        staged_.emplace_back(shapedHeads<StagedBlock>(count));
      }
    }
    first_.truncate(contents.first);
    window_.truncate(contents.window);
  }

  /// As that of a packed matrix; numbers of tokens in floats must be finite, too.
  std::string fault() const {
    std::string fault;
    const auto look = [&](const char* prefix, const auto& blocks) {
      for (const auto& block : blocks) {
        for (const auto& packed : *block) {
          if (fault.empty() && !(fault = packed.fault()).empty()) fault.insert(0, prefix);
        }
      }
    };
    look("", blocks_);
    look("staged.", staged_);
    if (fault.empty() && !first_.allFinite()) return "first: expected finite numbers";
    return fault.empty() && !window_.allFinite() ? "window: expected finite numbers" : fault;
  }

  static std::string formatName() { return Packed<Format>::formatName(); }

  /// The arrays of each block and head in turn, of staged ones as "staged.codes" and the like, then the first tokens,
  /// if there are any, and the window.
  template <class Self, class Visit>
  static void fields(Self& self, const Visit& visit) {
    for (auto& block : self.blocks_) {
      for (auto& packed : headsOf(block)) visitWithin("", packed, visit);
    }
    for (auto& block : self.staged_) {
      for (auto& packed : headsOf(block)) visitWithin("staged.", packed, visit);
    }
    if (self.first_.size() > 0) visit("first", self.first_.numbers());
    visit("window", self.window_.numbers());
  }

 private:
  template <class Block>
  static const std::vector<Block>& headsOf(const SharedHeads<Block>& block) {
    return *block;
  }
  template <class Block>
  static std::vector<Block>& headsOf(SharedHeads<Block>& block) {
    return block.own();
  }

  /// Not before there are tokens: some lengths take a large matrix, more than an empty cache's file should ask for.
  void setUpRotation() {
    if constexpr (Storage::kRotated) {
      if (!rotation_) rotation_.emplace(shape_.head_dim, seed_);
    }
  }

  Index packedBlocks() const { return static_cast<Index>(blocks_.size()); }

  /// visit(heads) for the heads of one block.
  template <class Visit>
  auto inBlock(Index index, const Visit& visit) const {
    const Index packed = packedBlocks();
    if (index < packed) return visit(*blocks_[static_cast<std::size_t>(index)]);
    return visit(*staged_[static_cast<std::size_t>(index - packed)]);
  }

  template <class Block>
  std::vector<Block> shapedHeads(Index tokens) const {
    return std::vector<Block>(static_cast<std::size_t>(shape_.kv_heads), shapedHead<Block>(shape_.head_dim, tokens));
  }

  template <class Block>
  static Block shapedHead(Index head_dim, Index tokens) {
    return kSide == KvSide::kKeys ? Block::shaped(head_dim, tokens) : Block::shaped(tokens, head_dim);
  }

  /// All that is staged, of which so many tokens count in each block, and the window's oldest as one block.
  std::vector<PackedBlock> merged(const std::vector<Index>& counts, Index oldest) const {
    RowMatrixXf w(std::accumulate(counts.begin(), counts.end(), oldest), shape_.kvWidth());
    Index first = 0;
    for (std::size_t i = 0; i < counts.size(); ++i) {
      dequantizeHeads(*staged_[i], w.middleRows(first, counts[i]));
      first += counts[i];
    }
    w.bottomRows(oldest) = window_.rows(0, oldest);
    return packed<PackedBlock>(w, options_);
  }

  /// Tokens as a block keeps them, a matrix a head.
  template <class Block>
  std::vector<Block> packed(const RowMatrixXf& tokens, const QuantizeOptions& options) const {
    auto heads = shapedHeads<Block>(tokens.rows());
    parallelFor(shape_.kv_heads, 16 * tokens.rows() * shape_.head_dim, [&](Index head) {
      const auto part = tokens.middleCols(head * shape_.head_dim, shape_.head_dim);
      RowMatrixXf w;
      if constexpr (kSide == KvSide::kKeys) {
        w.resize(part.cols(), part.rows());
        transposeInto(part.data(), part.rows(), part.cols(), part.outerStride(), w.data(), w.cols());
      } else {
        w = part;
      }
      heads[static_cast<std::size_t>(head)] = Block::quantize(std::move(w), Nearest{}, options);
    });
    return heads;
  }

  /// The first w.rows() tokens of a block.
  template <class Heads>
  void dequantizeHeads(const Heads& heads, Eigen::Ref<RowMatrixXf> w) const {
    for (Index head = 0; head < shape_.kv_heads; ++head) {
      auto part = w.middleCols(head * shape_.head_dim, shape_.head_dim);
      const RowMatrixXf values = heads[static_cast<std::size_t>(head)].dequantized();
      if constexpr (kSide == KvSide::kKeys) {
        part = values.leftCols(w.rows()).transpose();
      } else {
        part = values.topRows(w.rows());
      }
    }
  }

  KvShape shape_;
  QuantizeOptions options_;
  std::uint64_t seed_;
  EmptyAfterMove<std::optional<HeadRotation<Late<Format>>>> rotation_;
  EmptyAfterMove<std::vector<SharedHeads<PackedBlock>>> blocks_;  ///< by block, then by head
  EmptyAfterMove<std::vector<SharedHeads<StagedBlock>>> staged_;  ///< likewise, newer than all of these
  PlainTokens<WindowScalar> first_, window_;                      ///< the oldest and the newest tokens
};

}  // namespace gosset::GOSSET_ABI::detail
