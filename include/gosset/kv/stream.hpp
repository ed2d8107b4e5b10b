// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <gosset/core/error.hpp>
#include <gosset/core/float_storage.hpp>
#include <gosset/core/late.hpp>
#include <gosset/core/packed.hpp>
#include <gosset/core/parallel.hpp>
#include <gosset/kernel/plain.hpp>
#include <gosset/kv/rotation.hpp>
#include <gosset/kv/shape.hpp>
#include <gosset/matrix/plain.hpp>
#include <gosset/matrix/quantize.hpp>
#include <gosset/rounding/nearest.hpp>

#include <cstdint>
#include <optional>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

namespace gosset::detail {

/// Which way a block lies: the rows of a format's matrix are what its groups run along.
enum class KvSide {
  kKeys,   ///< head_dim x tokens: a row is a channel
  kValues  ///< tokens x head_dim: a row is a token
};

/// The keys or the values of a cache: packed blocks, one matrix a KV head, and the window of newest tokens. Tokens are
/// rows of kv_heads * head_dim numbers, in the basis of the format's rotation if it has one.
template <class Format, KvSide kSide>
class KvStream : public VisitsFields<KvStream<Format, kSide>> {
  using Storage = KvStorage<Format>;
  using PackedBlock = Packed<typename Storage::Stored>;

 public:
  /// A plain float format keeps its precision in the window; all others round to 16 bits on entry.
  using WindowScalar =
      typename std::conditional_t<StorageScalar<Format>, std::type_identity<Format>, std::type_identity<Float16>>::type;

  KvStream(const KvShape& shape, const QuantizeOptions& options)
      : shape_(shape), options_(options), seed_(randomBits(options.seed, kSide == KvSide::kKeys ? 0 : 1)) {
    if constexpr (Storage::kRotated) rotation_.emplace(shape.head_dim, seed_);
  }

  /// Tokens (rows) as append() takes them. Errors: std::invalid_argument where a number is not finite or is beyond the
  /// window's floats.
  template <class Derived>
  RowMatrixXf prepared(const char* name, const Eigen::DenseBase<Derived>& tokens) const {
    RowMatrixXf w = finiteFloats(name, tokens);
    rotate(w);
    const float largest = w.cwiseAbs().maxCoeff();
    require(largest <= StorageTraits<WindowScalar>::kMax, name, ": a magnitude of ", largest,
            Storage::kRotated ? " after rotation" : "", " is beyond the ", StorageTraits<WindowScalar>::kMax, " that ",
            StorageTraits<WindowScalar>::name(), " can hold");
    return w;
  }

  /// Adds prepared tokens to the window.
  void append(const RowMatrixXf& w) {
    for (Index i = 0; i < w.size(); ++i) window_.push_back(static_cast<WindowScalar>(w.data()[i]));
  }

  Index windowTokens() const { return static_cast<Index>(window_.size()) / shape_.kvWidth(); }

  /// Moves the `tokens` oldest of the window, from the first on, into a block.
  void pack(Index first, Index tokens) {
    const auto newest = windowMap().middleRows(first, tokens);
    std::vector<PackedBlock> heads(static_cast<std::size_t>(shape_.kv_heads), shaped(tokens));
    parallelFor(shape_.kv_heads, 16 * tokens * shape_.head_dim, [&](Index head) {
      const auto part = newest.middleCols(head * shape_.head_dim, shape_.head_dim);
      RowMatrixXf w = kSide == KvSide::kKeys ? RowMatrixXf(part.transpose().template cast<float>())
                                             : RowMatrixXf(part.template cast<float>());
      heads[static_cast<std::size_t>(head)] = PackedBlock::quantize(std::move(w), Nearest{}, options_);
    });
    blocks_.push_back(std::move(heads));
  }

  /// Forgets the `tokens` oldest of the window; keeps room for `room` tokens.
  void dropOldest(Index tokens, Index room) {
    std::vector<WindowScalar> rest;
    rest.reserve(static_cast<std::size_t>(std::max(room, windowTokens() - tokens) * shape_.kvWidth()));
    rest.assign(window_.begin() + tokens * shape_.kvWidth(), window_.end());
    window_ = std::move(rest);
  }

  void truncateWindow(Index tokens) { window_.resize(static_cast<std::size_t>(tokens * shape_.kvWidth())); }
  void truncateBlocks(Index blocks) { blocks_.erase(blocks_.begin() + blocks, blocks_.end()); }

  const PackedBlock& block(Index index, Index head) const {
    return blocks_[static_cast<std::size_t>(index)][static_cast<std::size_t>(head)];
  }

  /// y += block^T x: scores (tokens x t) of queries x (head_dim x t) for keys, their sums (head_dim x t) of values with
  /// weights x (tokens x t).
  void addProduct(Index index, Index head, const Eigen::Ref<const Eigen::MatrixXf>& x,
                  Eigen::Ref<Eigen::MatrixXf> y) const {
    addTransposedProduct(block(index, head), x, y);
  }

  /// The same for the window: y = (its keys) x, and y += (its values)^T x.
  void addWindowProduct(Index head, const Eigen::Ref<const Eigen::MatrixXf>& x, Eigen::Ref<Eigen::MatrixXf> y) const {
    const Index dim = shape_.head_dim, stride = shape_.kvWidth();
    const WindowScalar* first = window_.data() + head * dim;
    if (x.cols() > kFewColumns) {
      const RowMatrixXf w = windowMap().middleCols(head * dim, dim).template cast<float>();
      if constexpr (kSide == KvSide::kKeys) {
        y.noalias() = w * x;
      } else {
        y.noalias() += w.transpose() * x;
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
    for (Index head = 0; head < shape_.kv_heads; ++head) {
      auto part = w.middleCols(head * shape_.head_dim, shape_.head_dim);
      const RowMatrixXf values = block(index, head).dequantized();
      if constexpr (kSide == KvSide::kKeys) {
        part = values.leftCols(w.rows()).transpose();
      } else {
        part = values.topRows(w.rows());
      }
    }
  }
  void dequantizeWindow(Eigen::Ref<RowMatrixXf> w) const { w = windowMap().template cast<float>(); }

  /// Into the basis of the blocks, and out of it; w: t x (any heads * head_dim).
  void rotate(Eigen::Ref<RowMatrixXf> w) const {
    if (rotation_) rotation_->forward(w);
  }
  void rotateBack(Eigen::Ref<RowMatrixXf> w) const {
    if (rotation_) rotation_->inverse(w);
  }

  /// Blocks, the window's tokens, and the seed of a rotation.
  Index bytes() const {
    Index bytes = static_cast<Index>(window_.size() * sizeof(WindowScalar));
    if (Storage::kRotated) bytes += static_cast<Index>(sizeof(seed_));
    for (const auto& heads : blocks_) {
      for (const PackedBlock& packed : heads) bytes += storedBytes(packed);
    }
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

  /// All zero: blocks of so many tokens each, and so many in the window.
  void reshape(const std::vector<Index>& tokens, Index window_tokens) {
    blocks_.clear();
    for (const Index count : tokens) {
      blocks_.emplace_back(static_cast<std::size_t>(shape_.kv_heads), shaped(count));
    }
    window_.assign(static_cast<std::size_t>(window_tokens * shape_.kvWidth()), WindowScalar{});
  }

  /// False where a file holds codes that mean nothing, or a window of numbers that are not finite.
  bool isValid() const {
    for (const auto& heads : blocks_) {
      for (const PackedBlock& packed : heads) {
        if (!gosset::detail::isValid(packed)) return false;
      }
    }
    return windowMap().template cast<float>().allFinite();
  }

  static std::string formatName() { return Packed<Format>::formatName(); }

 private:
  using WindowMatrix = Eigen::Matrix<WindowScalar, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;

  Eigen::Map<const WindowMatrix> windowMap() const { return {window_.data(), windowTokens(), shape_.kvWidth()}; }

  friend class VisitsFields<KvStream<Format, kSide>>;
  /// The arrays of each block and head in turn, then the window.
  template <class Self, class Visitor>
  static void fields(Self& self, Visitor& visit) {
    for (auto& heads : self.blocks_) {
      for (auto& packed : heads) packed.visitFields(visit);
    }
    visit("window", std::span(self.window_));
  }

  PackedBlock shaped(Index tokens) const {
    return kSide == KvSide::kKeys ? PackedBlock::shaped(shape_.head_dim, tokens)
                                  : PackedBlock::shaped(tokens, shape_.head_dim);
  }

  KvShape shape_;
  QuantizeOptions options_;
  std::uint64_t seed_;
  std::optional<HeadRotation<Late<Format>>> rotation_;
  std::vector<std::vector<PackedBlock>> blocks_;  ///< by block, then by head
  std::vector<WindowScalar> window_;              ///< tokens x kvWidth, row after row
};

}  // namespace gosset::detail
