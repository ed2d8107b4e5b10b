// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <gosset/core/empty_after_move.hpp>
#include <gosset/core/error.hpp>
#include <gosset/core/float_storage.hpp>
#include <gosset/core/late.hpp>
#include <gosset/core/ordered_product.hpp>
#include <gosset/core/parallel.hpp>
#include <gosset/format/concepts.hpp>
#include <gosset/format/plain.hpp>
#include <gosset/kernel/plain.hpp>
#include <gosset/kv/rotation.hpp>
#include <gosset/kv/shape.hpp>
#include <gosset/kv/staging.hpp>
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

/// The keys or the values of a cache: packed blocks, one matrix a KV head, the newest of which may be staged, that is
/// wait in more bits to be merged; and the window of newest tokens. Tokens are rows of kv_heads * head_dim numbers, in
/// the basis of the format's rotation if it has one.
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
      : shape_(shape), options_(options), seed_(randomBits(options.seed, kSide == KvSide::kKeys ? 0 : 1)) {}

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

  /// Room for so many more tokens in the window.
  void reserveWindow(Index tokens) { makeRoom(window_, static_cast<std::size_t>(tokens * shape_.kvWidth())); }

  /// Adds prepared tokens to the window, which has room for them.
  void append(const RowMatrixXf& w) noexcept {
    for (Index i = 0; i < w.size(); ++i) window_.push_back(static_cast<WindowScalar>(w.data()[i]));
  }

  Index windowTokens() const { return static_cast<Index>(window_.size()) / shape_.kvWidth(); }

  /// What a plan makes of the window, and room for it.
  struct Update {
    std::vector<std::vector<PackedBlock>> blocks;
    std::vector<std::vector<StagedBlock>> staged;
    std::vector<WindowScalar> window;
    bool merges;
  };

  /// All that can fail of it; the stream stays as it is. Of each staged block so many tokens count.
  Update prepare(const KvPlan& plan, const std::vector<Index>& staged_counts) {
    Update update{.blocks = {}, .staged = {}, .window = {}, .merges = plan.merges};
    if (plan.merges) update.blocks.push_back(merged(staged_counts, plan.filling));
    Index next = plan.filling;
    for (const Index tokens : plan.packed) {
      update.blocks.push_back(packed<PackedBlock>(windowRows(next, tokens), options_));
      next += tokens;
    }
    if (plan.staged > 0) update.staged.push_back(packed<StagedBlock>(windowRows(next, plan.staged), {}));
    const Index dropped = plan.tokens(), kept = windowTokens() - dropped;
    update.window.reserve(static_cast<std::size_t>(std::max(plan.room, kept) * shape_.kvWidth()));
    update.window.assign(window_.begin() + dropped * shape_.kvWidth(), window_.end());
    makeRoom(blocks_, update.blocks.size());
    makeRoom(staged_, update.staged.size());
    return update;
  }

  void commit(Update&& update) noexcept {
    if (update.merges) staged_.clear();
    std::move(update.blocks.begin(), update.blocks.end(), std::back_inserter(blocks_));
    std::move(update.staged.begin(), update.staged.end(), std::back_inserter(staged_));
    window_.swap(update.window);
  }

  void truncateWindow(Index tokens) { window_.resize(static_cast<std::size_t>(tokens * shape_.kvWidth())); }
  /// Staged blocks count too, after the others.
  void truncateBlocks(Index blocks) {
    const Index packed = std::min(blocks, packedBlocks());
    blocks_.resize(static_cast<std::size_t>(packed));
    staged_.resize(static_cast<std::size_t>(std::min(blocks - packed, stagedBlocks())));
  }

  Index stagedBlocks() const { return static_cast<Index>(staged_.size()); }

  /// Tokens of a block as it was packed.
  Index storedTokens(Index index) const {
    return inBlock(
        index, [](const auto& heads) { return kSide == KvSide::kKeys ? heads.front().cols() : heads.front().rows(); });
  }

  /// y += block^T x: scores (tokens x t) of queries x (head_dim x t) for keys, their sums (head_dim x t) of values with
  /// weights x (tokens x t).
  void addProduct(Index index, Index head, const Eigen::Ref<const Eigen::MatrixXf>& x,
                  Eigen::Ref<Eigen::MatrixXf> y) const {
    inBlock(index, [&](const auto& heads) { heads[static_cast<std::size_t>(head)].computeTransposed(x, y); });
  }

  /// The same for the window: y = (its keys) x, and y += (its values)^T x.
  void addWindowProduct(Index head, const Eigen::Ref<const Eigen::MatrixXf>& x, Eigen::Ref<Eigen::MatrixXf> y) const {
    const Index dim = shape_.head_dim, stride = shape_.kvWidth();
    const WindowScalar* first = window_.data() + head * dim;
    if (x.cols() > kFewColumns) {
      const RowMatrixXf w = windowMap().middleCols(head * dim, dim).template cast<float>();
      if constexpr (kSide == KvSide::kKeys) {
        multiplyWidened(w, x, y);
      } else {
        addProductInOrder(w.transpose(), x, y);
      }
    } else if constexpr (kSide == KvSide::kKeys) {
      for (Index i = 0; i < x.cols(); ++i) {
        multiplyPlain(first, windowTokens(), dim, stride, x.col(i).data(), y.col(i).data());
      }
    } else {
      addPlainTransposed(first, windowTokens(), dim, stride, x.data(), x.cols(), x.outerStride(), y.data(),
                         y.outerStride());
    }
  }

  /// Writes the first w.rows() tokens of a block, all heads.
  void dequantizeBlock(Index index, Eigen::Ref<RowMatrixXf> w) const {
    inBlock(index, [&](const auto& heads) { dequantizeHeads(heads, w); });
  }
  void dequantizeWindow(Eigen::Ref<RowMatrixXf> w) const { w = windowMap().template cast<float>(); }

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

  /// Blocks, the window's tokens, and the seed of a rotation.
  Index bytes() const {
    Index bytes = static_cast<Index>(window_.size() * sizeof(WindowScalar));
    if (Storage::kRotated) bytes += static_cast<Index>(sizeof(seed_));
    forAll([&](const auto& packed) { bytes += packed.bytes(); });
    return bytes;
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

  /// All zero: blocks of so many tokens each, the last `staged` of them staged, and so many in the window.
  void reshape(const std::vector<Index>& tokens, Index staged, Index window_tokens) {
    if (!tokens.empty() || window_tokens > 0) setUpRotation();
    blocks_.clear();
    staged_.clear();
    const Index packed = static_cast<Index>(tokens.size()) - staged;
    for (const Index count : tokens) {
      if (packedBlocks() < packed) {
        blocks_.push_back(shapedHeads<PackedBlock>(count));
      } else {
        staged_.push_back(shapedHeads<StagedBlock>(count));
      }
    }
    window_.assign(static_cast<std::size_t>(window_tokens * shape_.kvWidth()), WindowScalar{});
  }

  /// As that of a packed matrix; numbers of the window must be finite, too.
  std::string fault() const {
    std::string fault;
    const auto look = [&](const char* prefix, const auto& blocks) {
      for (const auto& heads : blocks) {
        for (const auto& packed : heads) {
          if (fault.empty() && !(fault = packed.fault()).empty()) fault.insert(0, prefix);
        }
      }
    };
    look("", blocks_);
    look("staged.", staged_);
    const bool finite = windowMap().template cast<float>().allFinite();
    return fault.empty() && !finite ? "window: expected finite numbers" : fault;
  }

  static std::string formatName() { return Packed<Format>::formatName(); }

  /// The arrays of each block and head in turn, of staged ones as "staged.codes" and the like, then the window.
  template <class Self, class Visit>
  static void fields(Self& self, const Visit& visit) {
    for (auto& heads : self.blocks_) {
      for (auto& packed : heads) visitWithin("", packed, visit);
    }
    for (auto& heads : self.staged_) {
      for (auto& packed : heads) visitWithin("staged.", packed, visit);
    }
    visit("window", self.window_);
  }

 private:
  using WindowMatrix = Eigen::Matrix<WindowScalar, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;

  Eigen::Map<const WindowMatrix> windowMap() const { return {window_.data(), windowTokens(), shape_.kvWidth()}; }

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
    if (index < packed) return visit(blocks_[static_cast<std::size_t>(index)]);
    return visit(staged_[static_cast<std::size_t>(index - packed)]);
  }

  /// visit(matrix) for every head of every block.
  template <class Visit>
  void forAll(const Visit& visit) const {
    for (Index index = 0; index < packedBlocks() + stagedBlocks(); ++index) {
      inBlock(index, [&](const auto& heads) {
        for (const auto& packed : heads) visit(packed);
      });
    }
  }

  template <class Block>
  std::vector<Block> shapedHeads(Index tokens) const {
    return std::vector<Block>(static_cast<std::size_t>(shape_.kv_heads), shapedHead<Block>(shape_.head_dim, tokens));
  }

  template <class Block>
  static Block shapedHead(Index head_dim, Index tokens) {
    return kSide == KvSide::kKeys ? Block::shaped(head_dim, tokens) : Block::shaped(tokens, head_dim);
  }

  RowMatrixXf windowRows(Index first, Index tokens) const {
    return windowMap().middleRows(first, tokens).template cast<float>();
  }

  /// For so many more; seldom asks for memory where few come each time.
  template <class T>
  static void makeRoom(std::vector<T>& values, std::size_t more) {
    const std::size_t needed = values.size() + more;
    if (needed > values.capacity()) values.reserve(std::max(needed, 2 * values.size()));
  }

  /// All that is staged, of which so many tokens count in each block, and the window's oldest as one block.
  std::vector<PackedBlock> merged(const std::vector<Index>& counts, Index oldest) const {
    RowMatrixXf w(std::accumulate(counts.begin(), counts.end(), oldest), shape_.kvWidth());
    Index first = 0;
    for (std::size_t i = 0; i < counts.size(); ++i) {
      dequantizeHeads(staged_[i], w.middleRows(first, counts[i]));
      first += counts[i];
    }
    w.bottomRows(oldest) = windowRows(0, oldest);
    return packed<PackedBlock>(w, options_);
  }

  /// Tokens as a block keeps them, a matrix a head.
  template <class Block>
  std::vector<Block> packed(const RowMatrixXf& tokens, const QuantizeOptions& options) const {
    auto heads = shapedHeads<Block>(tokens.rows());
    parallelFor(shape_.kv_heads, 16 * tokens.rows() * shape_.head_dim, [&](Index head) {
      const auto part = tokens.middleCols(head * shape_.head_dim, shape_.head_dim);
      RowMatrixXf w = kSide == KvSide::kKeys ? RowMatrixXf(part.transpose()) : RowMatrixXf(part);
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
  EmptyAfterMove<std::vector<std::vector<PackedBlock>>> blocks_;  ///< by block, then by head
  EmptyAfterMove<std::vector<std::vector<StagedBlock>>> staged_;  ///< likewise, newer than all of these
  EmptyAfterMove<std::vector<WindowScalar>> window_;              ///< tokens x kvWidth, row after row
};

}  // namespace gosset::GOSSET_ABI::detail
