// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <gosset/core/random.hpp>
#include <gosset/core/types.hpp>
#include <gosset/format/incoherent.hpp>
#include <gosset/hadamard/lazy.hpp>
#include <gosset/hadamard/random_signs.hpp>

#include <cstdint>

namespace gosset::GOSSET_ABI::detail {

/// How a cache keeps a format's blocks: as they are.
template <class Format>
struct KvStorage {
  using Stored = Format;
  static constexpr bool kRotated = false;
};

/// Incoherent rotates the numbers of a head, and nothing along the tokens: queries meet keys in the rotated basis, and
/// the output leaves it once, so the rotation costs nothing a token of context.
template <class Format>
struct KvStorage<Incoherent<Format>> {
  using Stored = Format;
  static constexpr bool kRotated = true;
};

/// x <- H S x for the numbers of each head: random signs, then Hadamard; both keep dot products. A template so that
/// only programs that use it wait for it to compile.
template <class = void>
class HeadRotation {
 public:
  HeadRotation(Index head_dim, std::uint64_t seed) : signs_(randomSigns<float>(seed, head_dim)), hadamard_(head_dim) {}

  /// w: t x (heads * head_dim), in place. One token of heads whose length is a power of two takes no memory.
  void forward(Eigen::Ref<RowMatrixXf> w) const {
    forTokens(w, [&](auto heads) {
      heads.array().rowwise() *= signs_.transpose().array();
      apply(heads, [&](auto&& x) { hadamard_->forwardRows(x); });
    });
  }
  void inverse(Eigen::Ref<RowMatrixXf> w) const {
    forTokens(w, [&](auto heads) {
      apply(heads, [&](auto&& x) { hadamard_->inverseRows(x); });
      heads.array().rowwise() *= signs_.transpose().array();
    });
  }

 private:
  using Heads = Eigen::Map<RowMatrixXf>;

  template <class Visit>
  void forTokens(Eigen::Ref<RowMatrixXf> w, const Visit& visit) const {
    const Index size = hadamard_.size();
    if (w.outerStride() == w.cols()) return visit(Heads(w.data(), w.size() / size, size));
    for (Index i = 0; i < w.rows(); ++i) visit(Heads(w.row(i).data(), w.cols() / size, size));
  }

  /// Head by head, where that spares the transform its workspace.
  template <class Transform>
  void apply(Heads heads, const Transform& transform) const {
    if (!hadamard_->plan().factors.empty()) return transform(heads);
    for (Index i = 0; i < heads.rows(); ++i) transform(Heads(heads.row(i).data(), 1, heads.cols()));
  }

  Eigen::VectorXf signs_;
  LazyHadamard<float> hadamard_;
};

}  // namespace gosset::GOSSET_ABI::detail
