// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <gosset/core/error.hpp>
#include <gosset/core/parallel.hpp>
#include <gosset/core/types.hpp>
#include <gosset/io/integer_scheme.hpp>
#include <gosset/io/safetensors_folder.hpp>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <limits>
#include <span>
#include <string>
#include <string_view>
#include <vector>

// Linear layers that GPTQ, AWQ or compressed-tensors has packed, m x n, out x in, b bits in words of 32, the first
// number in the lowest bits; G = ceil(n / g) groups:
//
//   GPTQ                 name.qweight   I32  n b / 32 x m     column i of row o: bits i b .. of the words of column o
//                        name.qzeros    I32  G x m b / 32     bits o b .. of row group, less 1 in version 1
//                        name.scales    F16  G x m
//                        name.g_idx     I32  n                the group of each column
//   AWQ                  name.qweight   I32  n x m / 8        nibble k of a word is row 0 2 4 6 1 3 5 7 of its eight
//                        name.qzeros    I32  G x m / 8        the same
//                        name.scales    F16  G x m
//   compressed-tensors   name.weight_packed      I32  m x ceil(n / p), p = floor(32 / b) numbers a word
//                        name.weight_shape       I64 or I32: m, n
//                        name.weight_scale       any float  m x G
//                        name.weight_zero_point  I32  ceil(m / p) x G, packed along rows; or I8 m x G, plus 2^(b-1)
//                        name.weight_g_idx       I32  n, as GPTQ's; where it holds -1 columns are in order
//
// value(o, i) = scale(o, group_i) * (code(o, i) - zero(o, group_i)) in all of them.
// Source: the packers of AutoGPTQ and GPTQModel (pack, convert_gptq_v1_to_v2_format), AutoAWQ (WQLinear_GEMM) and
// compressed-tensors (pack_to_int32), whose conventions these are.
namespace gosset::GOSSET_ABI {

/// Codes, scales and zero points of an m x n matrix as somebody else chose them:
/// value(i, j) = scales(i, group_of[j]) * (codes(i, j) - zeros(i, group_of[j])).
struct IntegerWeights {
  int bits = 4;
  Index group_size = 1;  ///< columns of each group but the last
  Eigen::Matrix<std::uint8_t, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor> codes;  ///< m x n, below 2^bits
  RowMatrixXf scales;                                                                  ///< m x G, finite, not negative
  RowMatrixXf zeros;                    ///< m x G, whole numbers, 0 .. 2^bits - 1
  std::vector<std::uint32_t> group_of;  ///< n

  Index rows() const { return codes.rows(); }
  Index cols() const { return codes.cols(); }
  Index groups() const { return scales.cols(); }

  /// The values, each rounded once, to float. (Frameworks compute the same in 16 bits, and round more.)
  RowMatrixXf dequantized() const {
    RowMatrixXf w(rows(), cols());
    for (Index i = 0; i < rows(); ++i) {
      for (Index j = 0; j < cols(); ++j) {
        const auto group = static_cast<Index>(group_of[static_cast<std::size_t>(j)]);
        w(i, j) = scales(i, group) * (static_cast<float>(codes(i, j)) - zeros(i, group));
      }
    }
    return w;
  }

  /// The columns, group after group.
  std::vector<std::uint32_t> order() const {
    std::vector<std::uint32_t> order(group_of.size());
    for (std::size_t j = 0; j < order.size(); ++j) order[j] = static_cast<std::uint32_t>(j);
    std::stable_sort(order.begin(), order.end(),
                     [&](std::uint32_t a, std::uint32_t b) { return group_of[a] < group_of[b]; });
    return order;
  }

  /// Whether the columns of each group are neighbours, group after group.
  bool isInOrder() const { return std::is_sorted(group_of.begin(), group_of.end()); }

  /// The matrix of these rows, in this order. Errors: std::invalid_argument where there is no such row.
  IntegerWeights selected(std::span<const Index> chosen) const {
    IntegerWeights result = *this;
    const auto count = static_cast<Index>(chosen.size());
    result.codes.resize(count, cols());
    result.scales.resize(count, groups());
    result.zeros.resize(count, groups());
    for (Index i = 0; i < count; ++i) {
      const Index row = chosen[static_cast<std::size_t>(i)];
      detail::require(row >= 0 && row < rows(), "selected: expected rows within 0 .. ", rows(), ", got ", row);
      result.codes.row(i) = codes.row(row);
      result.scales.row(i) = scales.row(row);
      result.zeros.row(i) = zeros.row(row);
    }
    return result;
  }
};

namespace detail {

/// The words of an I32 tensor of rank 2.
class PackedWords {
 public:
  PackedWords(const SafetensorsFolder& folder, const std::string& name) : folder_(folder), name_(name) {
    const TensorInfo& info = folder.info(name);
    if (info.dtype != Dtype::kI32 || info.shape.size() != 2) {
      fail("expected an I32 matrix, the file holds ", typeText(info), " of shape ", listText(std::span(info.shape)));
    }
    rows_ = info.shape[0];
    cols_ = info.shape[1];
    if (rows_ < 1 || cols_ < 1) fail("expected at least one word, the file holds ", rows_, " x ", cols_);
    bytes_ = folder.fileOf(name).data(name);
  }

  Index rows() const { return rows_; }
  Index cols() const { return cols_; }
  std::uint32_t at(Index row, Index col) const {
    std::uint32_t word;
    std::memcpy(&word, bytes_.data() + static_cast<std::size_t>(row * cols_ + col) * sizeof(word), sizeof(word));
    return word;
  }

  void expectShape(Index rows, Index cols, const std::string& why) const {
    if (rows_ == rows && cols_ == cols) return;
    fail("expected ", rows, " x ", cols, " words for ", why, ", the file holds ", rows_, " x ", cols_);
  }
  template <class... Parts>
  [[noreturn]] void fail(const Parts&... parts) const {
    folder_.fileOf(name_).fail(name_, parts...);
  }

 private:
  const SafetensorsFolder& folder_;
  std::string name_;
  Index rows_ = 0, cols_ = 0;
  std::span<const std::byte> bytes_;
};

/// Number `at` of a stream of numbers of `bits` bits, which may end in the word after the one that they begin in.
template <class WordAt>
std::uint32_t streamed(const WordAt& wordAt, Index at, int bits) {
  const Index bit = at * bits, word = bit / 32, shift = bit % 32;
  std::uint64_t two = wordAt(word);
  if (shift + bits > 32) two |= static_cast<std::uint64_t>(wordAt(word + 1)) << 32;
  return static_cast<std::uint32_t>(two >> shift) & ((1u << bits) - 1);
}

/// Where row k of the eight rows of one of AWQ's words has its nibble.
inline constexpr std::array<int, 8> kAwqNibbles = {0, 4, 1, 5, 2, 6, 3, 7};

/// Reads the tensors of one layer.
class IntegerReader {
 public:
  IntegerReader(const SafetensorsFolder& folder, std::string name, const IntegerScheme& scheme)
      : folder_(folder), name_(std::move(name)), scheme_(scheme) {}

  IntegerWeights read() {
    result_.bits = scheme_.bits;
    switch (scheme_.method) {
      case IntegerScheme::Method::kGptq:
        readGptq();
        break;
      case IntegerScheme::Method::kAwq:
        readAwq();
        break;
      case IntegerScheme::Method::kCompressedTensors:
        readCompressed();
        break;
    }
    return std::move(result_);
  }

 private:
  std::string tensor(const char* part) const { return name_ + part; }
  std::string matrixText() const { return concat("a ", m_, " x ", n_, " matrix of ", scheme_.bits, " bits"); }

  void setShape(const PackedWords& words, Index rows, Index cols) {
    m_ = rows;
    n_ = cols;
    constexpr Index kMost = std::numeric_limits<std::int32_t>::max();
    if (m_ > kMost || n_ > kMost) words.fail("expected at most ", kMost, " rows and columns, got ", m_, " x ", n_);
    result_.group_size = scheme_.group_size == 0 ? n_ : std::min(scheme_.group_size, n_);
    groups_ = ceilDiv(n_, result_.group_size);
  }

  /// codes(o, i) = codeAt(o, i), a few rows together, which share the words' cache lines.
  template <class CodeAt>
  void fillCodes(const CodeAt& codeAt) {
    constexpr Index kLine = 16;
    result_.codes.resize(m_, n_);
    parallelFor(ceilDiv(m_, kLine), kLine * n_, [&](Index block) {
      const Index first = block * kLine, end = std::min(first + kLine, m_);
      for (Index i = 0; i < n_; ++i) {
        for (Index o = first; o < end; ++o) result_.codes(o, i) = static_cast<std::uint8_t>(codeAt(o, i));
      }
    });
  }

  template <class ZeroAt>
  void fillZeros(const ZeroAt& zeroAt) {
    result_.zeros.resize(m_, groups_);
    for (Index o = 0; o < m_; ++o) {
      for (Index g = 0; g < groups_; ++g) result_.zeros(o, g) = static_cast<float>(zeroAt(o, g));
    }
  }

  void readGptq() {
    const PackedWords words(folder_, tensor(".qweight"));
    const int bits = scheme_.bits;
    if (words.rows() * 32 % bits != 0)
      words.fail("expected a number of rows of words that columns of ", bits, " bits fill, got ", words.rows());
    setShape(words, words.cols(), words.rows() * 32 / bits);
    const PackedWords zeros(folder_, tensor(".qzeros"));
    zeros.expectShape(groups_, ceilDiv(m_ * bits, 32), matrixText());
    readScales(tensor(".scales"), true);
    readGroups(tensor(".g_idx"), scheme_.needs_group_index);
    fillCodes([&](Index o, Index i) { return streamed([&](Index w) { return words.at(w, o); }, i, bits); });
    const std::uint32_t more = scheme_.zeros_minus_one ? 1 : 0, mask = (1u << bits) - 1;
    fillZeros(
        [&](Index o, Index g) { return (streamed([&](Index w) { return zeros.at(g, w); }, o, bits) + more) & mask; });
  }

  void readAwq() {
    const PackedWords words(folder_, tensor(".qweight"));
    setShape(words, words.cols() * 8, words.rows());
    const PackedWords zeros(folder_, tensor(".qzeros"));
    zeros.expectShape(groups_, words.cols(), matrixText());
    readScales(tensor(".scales"), true);
    readGroups(tensor(".g_idx"), false);
    const auto nibble = [](const PackedWords& from, Index row, Index o) {
      return from.at(row, o / 8) >> (4 * kAwqNibbles[static_cast<std::size_t>(o % 8)]) & 15u;
    };
    fillCodes([&](Index o, Index i) { return nibble(words, i, o); });
    fillZeros([&](Index o, Index g) { return nibble(zeros, g, o); });
  }

  void readCompressed() {
    const PackedWords words(folder_, tensor(".weight_packed"));
    const Index in_word = 32 / scheme_.bits;
    const std::string shape_name = tensor(".weight_shape");
    const TensorInfo& info = folder_.info(shape_name);
    const bool integers = info.dtype == Dtype::kI64 || info.dtype == Dtype::kI32;
    if (!integers || info.size() != 2) {
      folder_.fileOf(shape_name)
          .fail(shape_name, "expected two integers, the file holds ", typeText(info), " of shape ",
                listText(std::span(info.shape)));
    }
    const Eigen::VectorXd shape = folder_.fileOf(shape_name).flatAs<double>(shape_name);
    const bool fits = shape[0] == static_cast<double>(words.rows()) && shape[1] >= 1 &&
                      std::ceil(shape[1] / static_cast<double>(in_word)) == static_cast<double>(words.cols());
    if (!fits) {
      folder_.fileOf(shape_name)
          .fail(shape_name, "a matrix of ", shape[0], " x ", shape[1], " numbers of ", scheme_.bits,
                " bits does not take the ", words.rows(), " x ", words.cols(), " words of ",
                printable(tensor(".weight_packed")));
    }
    setShape(words, words.rows(), static_cast<Index>(shape[1]));
    readScales(tensor(".weight_scale"), false);
    readGroups(tensor(".weight_g_idx"), false);
    const auto part = [&](std::uint32_t word, Index at) {
      return word >> (at % in_word * scheme_.bits) & ((1u << scheme_.bits) - 1);
    };
    fillCodes([&](Index o, Index i) { return part(words.at(o, i / in_word), i); });
    readCompressedZeros(part);
  }

  template <class Part>
  void readCompressedZeros(const Part& part) {
    const std::string name = tensor(".weight_zero_point");
    const int half = 1 << (scheme_.bits - 1);
    if (!folder_.contains(name)) {
      if (!scheme_.symmetric) fileError(folder_.path(), "holds no tensor ", printable(name), " of zero points");
      return fillZeros([&](Index, Index) { return half; });
    }
    if (folder_.info(name).dtype == Dtype::kI32) {
      const PackedWords zeros(folder_, name);
      const Index in_word = 32 / scheme_.bits;
      zeros.expectShape(ceilDiv(m_, in_word), groups_, matrixText());
      return fillZeros([&](Index o, Index g) { return part(zeros.at(o / in_word, g), o); });
    }
    expectShape(name, {Dtype::kI8}, "I8 or packed I32", {m_, groups_});
    const std::span<const std::byte> bytes = folder_.fileOf(name).data(name);
    fillZeros([&](Index o, Index g) {
      const auto zero = static_cast<std::int8_t>(bytes[static_cast<std::size_t>(o * groups_ + g)]);
      if (zero < -half || zero >= half) {
        folder_.fileOf(name).fail(name, "expected zero points of ", -half, " to ", half - 1, ", found ", int{zero});
      }
      return zero + half;
    });
  }

  void expectShape(const std::string& name, std::initializer_list<Dtype> types, const char* type_text,
                   const std::vector<Index>& shape) const {
    const TensorInfo& info = folder_.info(name);
    const bool typed = std::find(types.begin(), types.end(), info.dtype) != types.end();
    if (typed && info.shape == shape) return;
    folder_.fileOf(name).fail(name, "expected ", type_text, " of shape ", listText(std::span(shape)), " for ",
                              matrixText(), " in groups of ", result_.group_size, ", the file holds ", typeText(info),
                              " of shape ", listText(std::span(info.shape)));
  }

  void readScales(const std::string& name, bool transposed) {
    const std::vector<Index> shape = transposed ? std::vector<Index>{groups_, m_} : std::vector<Index>{m_, groups_};
    expectShape(name, {Dtype::kF16, Dtype::kBF16, Dtype::kF32}, "F16, BF16 or F32", shape);
    result_.scales = folder_.fileOf(name).matrixAs<float>(name);
    if (transposed) result_.scales.transposeInPlace();
    for (Index o = 0; o < m_; ++o) {
      for (Index g = 0; g < groups_; ++g) {
        const float scale = result_.scales(o, g);
        if (!(scale >= 0 && std::isfinite(scale))) {
          folder_.fileOf(name).fail(name, "expected finite scales of at least 0, found ", scale, " for row ", o,
                                    ", group ", g);
        }
      }
    }
  }

  void readGroups(const std::string& name, bool needed) {
    result_.group_of.resize(static_cast<std::size_t>(n_));
    for (Index i = 0; i < n_; ++i) {
      result_.group_of[static_cast<std::size_t>(i)] = static_cast<std::uint32_t>(i / result_.group_size);
    }
    if (!folder_.contains(name)) {
      if (needed) fileError(folder_.path(), "holds no tensor ", printable(name), ", which \"desc_act\" asks for");
      return;
    }
    expectShape(name, {Dtype::kI32}, "I32", {n_});
    const Eigen::VectorXd index = folder_.fileOf(name).flatAs<double>(name);
    const bool unset = scheme_.method == IntegerScheme::Method::kCompressedTensors && (index.array() == -1).any();
    if (unset) return;
    std::vector<Index> columns(static_cast<std::size_t>(groups_));
    for (Index i = 0; i < n_; ++i) {
      if (!(index[i] >= 0 && index[i] < static_cast<double>(groups_))) {
        folder_.fileOf(name).fail(name, "expected groups within 0 .. ", groups_ - 1, ", found ", index[i],
                                  " for column ", i);
      }
      const auto group = static_cast<std::uint32_t>(index[i]);
      result_.group_of[static_cast<std::size_t>(i)] = group;
      ++columns[group];
    }
    for (Index g = 0; g < groups_; ++g) {
      const Index expected = std::min(result_.group_size, n_ - g * result_.group_size);
      const Index found = columns[static_cast<std::size_t>(g)];
      if (found != expected) {
        folder_.fileOf(name).fail(name, "expected ", expected, " columns in group ", g, ", found ", found);
      }
    }
  }

  const SafetensorsFolder& folder_;
  std::string name_;
  const IntegerScheme& scheme_;
  Index m_ = 0, n_ = 0, groups_ = 0;
  IntegerWeights result_;
};

}  // namespace detail

/// The tensor that a packed layer `name` ("model.layers.0.mlp.up_proj") cannot do without.
inline std::string integerTensor(std::string_view name, const IntegerScheme& scheme) {
  const bool compressed = scheme.method == IntegerScheme::Method::kCompressedTensors;
  return detail::concat(name, compressed ? ".weight_packed" : ".qweight");
}

/// The names of a layer's tensors but for its bias, those that need not be there included.
inline std::vector<std::string> integerTensors(std::string_view name, const IntegerScheme& scheme) {
  std::vector<std::string> names;
  const auto add = [&](std::initializer_list<const char*> parts) {
    for (const char* part : parts) names.push_back(detail::concat(name, part));
  };
  if (scheme.method == IntegerScheme::Method::kCompressedTensors) {
    add({".weight_packed", ".weight_shape", ".weight_scale", ".weight_zero_point", ".weight_g_idx"});
  } else {
    add({".qweight", ".qzeros", ".scales", ".g_idx"});
  }
  return names;
}

/// Reads a packed layer. Zero points of GPTQ's version 1 are (stored + 1) modulo 2^bits, so that 0, stored as -1, comes
/// back. Throws FormatError, which names the tensor, where one is missing, of another type or shape than the others and
/// the scheme ask for, holds scales that are negative or not finite, groups that are none or of other sizes; memory is
/// asked for only when the file's words have been found to fill it.
inline IntegerWeights readIntegerWeights(const SafetensorsFolder& folder, std::string_view name,
                                         const IntegerScheme& scheme) {
  return detail::IntegerReader(folder, std::string(name), scheme).read();
}

}  // namespace gosset::GOSSET_ABI
