// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <gosset/core/error.hpp>
#include <gosset/core/types.hpp>
#include <gosset/format/concepts.hpp>
#include <gosset/format/name.hpp>
#include <gosset/io/safetensors.hpp>
#include <gosset/matrix/any_matrix.hpp>
#include <gosset/matrix/format_list.hpp>
#include <gosset/matrix/quantized_matrix.hpp>

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
#include <variant>
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
namespace gosset::GOSSET_ABI {

/// The version of the packed layouts that this gosset writes and reads. Version 1 kept codes row after row; of many
/// shapes its arrays have the same lengths as now, so only the version tells that their codes mean something else.
inline constexpr int kPackedVersion = 2;

namespace detail {

/// The types of stored numbers.
template <class T>
concept FieldScalar = std::same_as<T, std::int8_t> || std::same_as<T, std::uint8_t> || std::same_as<T, std::uint16_t> ||
    std::same_as<T, std::uint32_t> || std::same_as<T, std::uint64_t> || StorageScalar<T>;

inline std::string packedKey(std::string_view name, std::string_view what) {
  return concat("gosset.", name, ".", what);
}

/// visitFields(visit) calls visit(name, span) for each array; addField(writer, name, shape, span) adds one. All or
/// nothing.
template <class VisitFields, class AddField>
void addPackedFields(SafetensorsWriter& writer, std::string_view name, const std::string& format, Index rows,
                     Index cols, const VisitFields& visitFields, const AddField& addField) {
  // Ask first, so that a clash leaves the writer as it was.
  visitFields([&]<class T>(std::string_view field, std::span<T>) {
    require(!writer.contains(concat(name, ".", field)), "name: tensor ", printable(concat(name, ".", field)),
            " was added before");
  });
  SafetensorsWriter added;
  visitFields([&]<class T>(std::string_view field, std::span<T> values) {
    static_assert(FieldScalar<std::remove_const_t<T>>,
                  "a packed matrix stores unsigned integers and 16- or 32-bit floats");
    addField(added, concat(name, ".", field), std::vector<Index>{static_cast<Index>(values.size())},
             std::span<const T>(values));
  });
  added.setMetadata(packedKey(name, "format"), format);
  added.setMetadata(packedKey(name, "version"), std::to_string(kPackedVersion));
  added.setMetadata(packedKey(name, "rows"), std::to_string(rows));
  added.setMetadata(packedKey(name, "cols"), std::to_string(cols));
  writer.add(std::move(added));
}

/// Adds a copy of an array.
inline constexpr auto kAddCopy = []<class T>(SafetensorsWriter& writer, const std::string& field,
                                             std::vector<Index> shape, std::span<const T> values) {
  writer.add<T>(field, std::move(shape), values);
};

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
  detail::addPackedFields(
      writer, name, P::formatName(), packed.rows(), packed.cols(),
      [&](const auto& visit) { packed.visitFields(visit); }, detail::kAddCopy);
}

/// As addPacked(), without the copy: `packed` must stay as it is until the last write().
template <PackedMatrix P>
void addPackedView(SafetensorsWriter& writer, std::string_view name, const P& packed) {
  detail::addPackedFields(
      writer, name, P::formatName(), packed.rows(), packed.cols(),
      [&](const auto& visit) { packed.visitFields(visit); },
      []<class T>(SafetensorsWriter& added, const std::string& field, std::vector<Index> shape,
                  std::span<const T> values) { added.addView<T>(field, std::move(shape), values); });
}
template <PackedMatrix P>
void addPackedView(SafetensorsWriter& writer, std::string_view name, const P&& packed) = delete;

/// The format in which the matrix `name` is stored, or nothing where the file holds no packed matrix of that name.
inline std::optional<std::string> packedFormat(const SafetensorsFile& file, std::string_view name) {
  const auto found = file.metadata().find(detail::packedKey(name, "format"));
  if (found == file.metadata().end()) return std::nullopt;
  return found->second;
}

/// Whether what is read is a copy, or shows the file's memory, which then stays mapped as long as the matrix lives.
enum class PackedAccess { kCopy, kView };

namespace detail {

/// Fills one array from the file's tensor: checks type and length, then copies or shows it. What is not aligned for its
/// type is copied in any case.
template <class Field>
void readPackedField(const SafetensorsFile& file, const std::string& tensor, Index rows, Index cols,
                     PackedAccess access, Field& field) {
  using T = typename decltype(fieldValues(std::as_const(field)))::value_type;
  static_assert(FieldScalar<T>, "a packed matrix stores unsigned integers and 16- or 32-bit floats");
  const TensorInfo& info = file.info(tensor);
  const std::vector<Index> shape = {static_cast<Index>(fieldSize(field))};
  if (info.dtype != dtypeOf<T>() || info.shape != shape) {
    file.fail(tensor, "expected ", dtypeName(dtypeOf<T>()), " of shape ", listText(std::span(shape)), " in a ", rows,
              " x ", cols, " matrix, the file holds ", typeText(info), " of shape ", listText(std::span(info.shape)));
  }
  const std::span<const std::byte> bytes = file.data(tensor);
  if (bytes.empty()) return;
  if constexpr (requires { field.show(std::span<const T>(), file.keeper()); }) {
    if (access == PackedAccess::kView && reinterpret_cast<std::uintptr_t>(bytes.data()) % alignof(T) == 0) {
      return field.show({reinterpret_cast<const T*>(bytes.data()), bytes.size() / sizeof(T)}, file.keeper());
    }
  }
  std::memcpy(writableValues(field).data(), bytes.data(), bytes.size());
}

}  // namespace detail

/// Reads the packed matrix `name`. Throws FormatError, which names the matrix or the tensor and its byte, where it is
/// not there, has another format or version, its arrays do not fit its shape or hold what makes no sense; memory is
/// asked for only when the file has bytes enough to fill it.
template <PackedMatrix P>
P readPacked(const SafetensorsFile& file, std::string_view name, PackedAccess access = PackedAccess::kCopy) {
  const std::string& format = detail::packedEntry(file, name, "format");
  if (!sameFormat(format, P::formatName())) {
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

  const FieldLengths lengths = [&](std::string_view field) {
    const std::vector<Index>& shape = file.info(detail::concat(name, ".", field)).shape;
    return shape.size() == 1 ? shape.front() : 0;
  };
  P packed = [&] {
    const detail::DeferredArrays deferred;  // memory for an array is asked for when its tensor has been found to fit
    return P::shaped(rows, cols, lengths);
  }();
  P::fields(packed, [&](std::string_view field, auto& values) {
    detail::readPackedField(file, detail::concat(name, ".", field), rows, cols, access, values);
  });
  if (const std::string fault = packed.fault(); !fault.empty()) {
    detail::fileError(file.path(), "packed matrix ", detail::printable(name),
                      ": its arrays hold numbers that make no sense in ", detail::printable(format), ": ", fault);
  }
  return packed;
}

/// Adds a copy of a quantized matrix to what `writer` will write, as addPacked() does.
template <Format F>
void addQuantized(SafetensorsWriter& writer, std::string_view name, const QuantizedMatrix<F>& matrix) {
  addPacked(writer, name, matrix.packed());
}
/// Errors: also where the matrix is empty and of no format.
inline void addQuantized(SafetensorsWriter& writer, std::string_view name, const AnyMatrix& matrix) {
  const AnyPacked& packed = matrix.packed();
  detail::addPackedFields(
      writer, name, packed.formatName(), packed.rows(), packed.cols(),
      [&](const auto& visit) {
        packed.visitFields([&](std::string_view field, const AnyField& values) {
          std::visit([&](auto span) { visit(field, span); }, values);
        });
      },
      detail::kAddCopy);
}

/// Reads a quantized matrix, such as readQuantized<QuantizedMatrix<Format>>(file, "weight"); throws as readPacked().
template <class M>
M readQuantized(const SafetensorsFile& file, std::string_view name, PackedAccess access = PackedAccess::kCopy) {
  return M(readPacked<Packed<typename M::Format>>(file, name, access));
}

/// Reads a quantized matrix in whatever format the file has it, of those in a list; unless asked otherwise it shows the
/// file's memory rather than a copy, which stays mapped as long as the matrix or a copy of it lives.
/// Throws FormatError where the list lacks the file's format (the text says which it has), and as readPacked().
template <class List>
AnyMatrix readAny(const SafetensorsFile& file, std::string_view name, PackedAccess access = PackedAccess::kView) {
  const std::string& format = detail::packedEntry(file, name, "format");
  auto result = List::visit(format, [&]<class F>(std::type_identity<F>) {
    return AnyMatrix(QuantizedMatrix<F>(readPacked<Packed<F>>(file, name, access)));
  });
  if (!result) {
    detail::fileError(file.path(), "packed matrix ", detail::printable(name), ": it has the format ",
                      detail::printable(format), ", which is not among those known here: ", List::text());
  }
  return *std::move(result);
}

}  // namespace gosset::GOSSET_ABI
