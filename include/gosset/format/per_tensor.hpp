// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <gosset/format/scaled.hpp>
#include <gosset/scale/granularity.hpp>

#include <string>
#include <utility>

namespace gosset::GOSSET_ABI {

/// One scale for the whole matrix. T is the type that scales and zero points are stored in.
template <Codebook C, StorageScalar T = Float16>
struct PerTensor {
  using Codebook = C;
  using Scale = T;
  static constexpr bool kOneRowOnly = false;  ///< does a scale serve one row, or all?
  static constexpr Index groupWidth(Index cols) { return cols; }
  static std::string name() { return detail::scaledName<T>("PerTensor<" + C::name()); }
};

/// A bare codebook has one scale for the whole matrix.
template <Codebook C>
class Packed<C> : public Packed<PerTensor<C>> {
 public:
  using Base = Packed<PerTensor<C>>;
  Packed() = default;
  explicit Packed(Base&& base) : Base(std::move(base)) {}

  static Packed shaped(Index rows, Index cols, const FieldLengths& lengths = {}) {
    return Packed(Base::shaped(rows, cols, lengths));
  }
  template <class Rounding>
  static Packed quantize(RowMatrixXf w, Rounding rounding, const QuantizeOptions& options) {
    return Packed(Base::quantize(std::move(w), std::move(rounding), options));
  }
  static Packed assembled(const Grid<PerTensor<C>>& grid, const CodeMatrix<C>& codes) {
    return Packed(Base::assembled(grid, codes));
  }
  static std::string formatName() { return C::name(); }
};

namespace detail {

/// A bare codebook stands for PerTensor<codebook>.
template <class Format>
struct ScaledFormatOf {
  using type = Format;
};
template <Codebook C>
struct ScaledFormatOf<C> {
  using type = PerTensor<C>;
};

}  // namespace detail
}  // namespace gosset::GOSSET_ABI
