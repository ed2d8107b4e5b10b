// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <gosset/core/error.hpp>
#include <gosset/core/types.hpp>
#include <gosset/format/concepts.hpp>
#include <gosset/io/safetensors.hpp>

#include <charconv>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <system_error>
#include <type_traits>
#include <utility>
#include <vector>

// Packed matrices in safetensors files. The matrix `name` is kept as one tensor of rank 1 for each of its arrays,
// called `name.<field>` ("name.codes", "name.scales", ...), and four strings in the file's metadata:
//
//   gosset.<name>.format    the format's name as in C++, such as "Grouped<Asymmetric<4>, 64>"
//   gosset.<name>.version   the version of the arrays' layout, kPackedVersion
//   gosset.<name>.rows      decimal
//   gosset.<name>.cols
//
// So any safetensors reader shows what is in the file, and dense tensors may stand beside. The round trip is exact to
// the bit.
namespace gosset {

/// The version of the packed layouts that this gosset writes and reads. Version 1 kept codes row after row; of many
/// shapes its arrays have the same lengths as now, so only the version tells that their codes mean something else.
inline constexpr int kPackedVersion = 2;

namespace detail {

/// Stands for any visitor of a packed matrix's arrays.
struct FieldVisitor {
  template <class T>
  void operator()(std::string_view, std::span<T>) const {}
};

template <class T>
concept FieldScalar = std::same_as<T, std::int8_t> || std::same_as<T, std::uint8_t> || std::same_as<T, std::uint16_t> ||
    std::same_as<T, std::uint32_t> || std::same_as<T, std::uint64_t> || StorageScalar<T>;

}  // namespace detail

/// A matrix in packed form, as storage:
///   P::shaped(rows, cols)   one of that shape, its arrays of the right lengths and zero
///   P::formatName()         the format's name, stable
///   rows(), cols()
///   visitFields(visit)      calls visit(name, span) for each array, const and not; numbers are unsigned integers of 8
///                           to 64 bits, signed bytes, or 16- and 32-bit floats; names are unique
/// and optionally
///   P::shaped(rows, cols, lengths)  where the lengths of some arrays do not follow from the shape, see core/packed.hpp
///   isValid()               whether the arrays' contents make sense, where not every pattern of bits does
template <class P>
concept PackedMatrix = requires(const P& packed, P& writable, Index n) {
  { P::shaped(n, n) } -> std::same_as<P>;
  { P::formatName() } -> std::convertible_to<std::string>;
  { packed.rows() } -> std::convertible_to<Index>;
  { packed.cols() } -> std::convertible_to<Index>;
  packed.visitFields(detail::FieldVisitor{});
  writable.visitFields(detail::FieldVisitor{});
};

/// Something that holds a packed matrix and can be made from one, as QuantizedMatrix<Format> does.
template <class M>
concept HoldsPacked = requires(const M& matrix) {
  requires PackedMatrix<std::remove_cvref_t<decltype(matrix.packed())>>;
  requires std::constructible_from<M, std::remove_cvref_t<decltype(matrix.packed())>>;
};

namespace detail {

inline std::string packedKey(std::string_view name, std::string_view what) {
  return concat("gosset.", name, ".", what);
}

template <PackedMatrix P, class AddField>
void addPackedFields(SafetensorsWriter& writer, std::string_view name, const P& packed, AddField&& addField) {
  // Ask first, so that a clash leaves the writer as it was.
  packed.visitFields([&]<class T>(std::string_view field, std::span<T>) {
    require(!writer.contains(concat(name, ".", field)), "name: tensor ", printable(concat(name, ".", field)),
            " was added before");
  });
  packed.visitFields([&]<class T>(std::string_view field, std::span<T> values) {
    static_assert(FieldScalar<std::remove_const_t<T>>,
                  "a packed matrix stores unsigned integers and 16- or 32-bit floats");
    addField(concat(name, ".", field), std::vector<Index>{static_cast<Index>(values.size())},
             std::span<const T>(values));
  });
  writer.setMetadata(packedKey(name, "format"), std::string(P::formatName()));
  writer.setMetadata(packedKey(name, "version"), std::to_string(kPackedVersion));
  writer.setMetadata(packedKey(name, "rows"), std::to_string(packed.rows()));
  writer.setMetadata(packedKey(name, "cols"), std::to_string(packed.cols()));
}

inline const std::string& packedEntry(const SafetensorsFile& file, std::string_view name, std::string_view what) {
  const auto found = file.metadata().find(packedKey(name, what));
  if (found == file.metadata().end()) {
    fileError(file.path(), "holds no packed matrix ", printable(name), ": the metadata has no ",
              printable(packedKey(name, what)));
  }
  return found->second;
}

inline Index packedNumber(const SafetensorsFile& file, std::string_view name, std::string_view what) {
  const std::string& text = packedEntry(file, name, what);
  Index value = -1;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc{} || end != text.data() + text.size() || value < 0) {
    fileError(file.path(), "packed matrix ", printable(name), ": ", what, " must be an integer of at least 0, got ",
              printable(text));
  }
  return value;
}

/// Bytes of all tensors called name.<something>.
inline std::uint64_t packedBytes(const SafetensorsFile& file, std::string_view name) {
  const std::string prefix = concat(name, ".");
  std::uint64_t bytes = 0;
  const TensorMap& tensors = file.tensors();
  for (auto it = tensors.lower_bound(prefix); it != tensors.end() && it->first.starts_with(prefix); ++it) {
    bytes += it->second.bytes();
  }
  return bytes;
}

/// No format spends less than a bit on a number, so that a shape that the file's bytes cannot fill is a lie; it must
/// be found out before memory is asked for.
inline void checkPackedShape(const SafetensorsFile& file, std::string_view name, Index rows, Index cols) {
  const auto m = static_cast<std::uint64_t>(rows), n = static_cast<std::uint64_t>(cols);
  const std::uint64_t bits = 8 * packedBytes(file, name);
  const std::optional<std::uint64_t> numbers = checkedProduct(m, n);
  if (!numbers || *numbers > bits || m > bits || n > bits) {
    fileError(file.path(), "packed matrix ", printable(name), ": its tensors hold ", bits, " bits, too few for ", rows,
              " x ", cols, " numbers");
  }
}

}  // namespace detail

/// Adds a copy of a packed matrix to what `writer` will write. Throws std::invalid_argument where a name is taken.
template <PackedMatrix P>
void addPacked(SafetensorsWriter& writer, std::string_view name, const P& packed) {
  detail::addPackedFields(writer, name, packed,
                          [&]<class T>(const std::string& field, std::vector<Index> shape, std::span<const T> values) {
                            writer.add<T>(field, std::move(shape), values);
                          });
}

/// As addPacked(), without the copy: `packed` must stay as it is until the last write().
template <PackedMatrix P>
void addPackedView(SafetensorsWriter& writer, std::string_view name, const P& packed) {
  detail::addPackedFields(writer, name, packed,
                          [&]<class T>(const std::string& field, std::vector<Index> shape, std::span<const T> values) {
                            writer.addView<T>(field, std::move(shape), values);
                          });
}
template <PackedMatrix P>
void addPackedView(SafetensorsWriter& writer, std::string_view name, const P&& packed) = delete;

/// The format in which the matrix `name` is stored, or nothing where the file holds no packed matrix of that name.
inline std::optional<std::string> packedFormat(const SafetensorsFile& file, std::string_view name) {
  const auto found = file.metadata().find(detail::packedKey(name, "format"));
  if (found == file.metadata().end()) return std::nullopt;
  return found->second;
}

/// Reads the packed matrix `name`. Throws FormatError, which names the matrix or the tensor and its byte, where it is
/// not there, has another format or version, or its arrays do not fit its shape; memory is asked for only when the
/// file has bytes enough to fill it.
template <PackedMatrix P>
P readPacked(const SafetensorsFile& file, std::string_view name) {
  const std::string& format = detail::packedEntry(file, name, "format");
  if (format != std::string(P::formatName())) {
    detail::fileError(file.path(), "packed matrix ", detail::printable(name), ": expected the format ",
                      detail::printable(P::formatName()), ", the file holds ", detail::printable(format));
  }
  const Index version = detail::packedNumber(file, name, "version");
  if (version != kPackedVersion) {
    detail::fileError(file.path(), "packed matrix ", detail::printable(name), ": expected version ", kPackedVersion,
                      ", the file holds ", version);
  }
  const Index rows = detail::packedNumber(file, name, "rows");
  const Index cols = detail::packedNumber(file, name, "cols");
  detail::checkPackedShape(file, name, rows, cols);

  P packed = detail::shapedFor<P>(rows, cols, [&](std::string_view field) {
    const std::vector<Index>& shape = file.info(detail::concat(name, ".", field)).shape;
    return shape.size() == 1 ? shape.front() : 0;
  });
  packed.visitFields([&]<class T>(std::string_view field, std::span<T> values) {
    static_assert(detail::FieldScalar<T>, "a packed matrix stores unsigned integers and 16- or 32-bit floats");
    const std::string tensor = detail::concat(name, ".", field);
    const TensorInfo& info = file.info(tensor);
    const std::vector<Index> shape = {static_cast<Index>(values.size())};
    if (info.dtype != dtypeOf<T>() || info.shape != shape) {
      file.fail(tensor, "expected ", dtypeName(dtypeOf<T>()), " of shape ", detail::listText(std::span(shape)),
                " in a ", rows, " x ", cols, " matrix, the file holds ", dtypeName(info.dtype), " of shape ",
                detail::listText(std::span(info.shape)));
    }
    if (!values.empty()) std::memcpy(values.data(), file.data(tensor).data(), values.size_bytes());
  });
  if (!detail::isValid(packed)) {
    detail::fileError(file.path(), "packed matrix ", detail::printable(name), ": its codes are none of ",
                      detail::printable(format));
  }
  return packed;
}

/// Adds a copy of a quantized matrix to what `writer` will write, as addPacked() does.
template <HoldsPacked M>
void addQuantized(SafetensorsWriter& writer, std::string_view name, const M& matrix) {
  addPacked(writer, name, matrix.packed());
}

/// Reads a quantized matrix, such as readQuantized<QuantizedMatrix<Format>>(file, "weight"); throws as readPacked().
template <HoldsPacked M>
M readQuantized(const SafetensorsFile& file, std::string_view name) {
  using P = std::remove_cvref_t<decltype(std::declval<const M&>().packed())>;
  return M(readPacked<P>(file, name));
}

}  // namespace gosset
