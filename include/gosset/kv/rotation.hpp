// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <gosset/core/random.hpp>
#include <gosset/core/types.hpp>
#include <gosset/transform/hadamard.hpp>
#include <gosset/transform/incoherent.hpp>
#include <gosset/transform/random_signs.hpp>

#include <cstdint>

namespace gosset::detail {

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

/// x <- H S x for the numbers of each head: random signs, then Hadamard; both keep dot products.
class HeadRotation {
 public:
  HeadRotation(Index head_dim, std::uint64_t seed) : seed_(seed), hadamard_(head_dim) {}

  /// w: t x (heads * head_dim), in place.
  void forward(RowMatrixXf& w) const {
    Eigen::Map<RowMatrixXf> heads = eachHead(w);
    applyColSigns(heads, seed_);
    hadamard_.forwardRows(heads);
  }
  void inverse(RowMatrixXf& w) const {
    Eigen::Map<RowMatrixXf> heads = eachHead(w);
    hadamard_.inverseRows(heads);
    applyColSigns(heads, seed_);
  }

 private:
  Eigen::Map<RowMatrixXf> eachHead(RowMatrixXf& w) const {
    return {w.data(), w.size() / hadamard_.size(), hadamard_.size()};
  }

  std::uint64_t seed_;
  HadamardTransform<float> hadamard_;
};

}  // namespace gosset::detail
