// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <gosset/core/packed.hpp>
#include <gosset/core/types.hpp>
#include <gosset/entropy/rans.hpp>
#include <gosset/matrix/quantized_matrix.hpp>

#include <concepts>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

// A quantized matrix for storage, each of its arrays entropy-coded: fewer bits wherever codes are not all equally
// frequent, and the packed matrix back, bit for bit.
//
//   magic   4 bytes, "gARC"
//   format  u16 length, then the format's name
//   shape   u64 rows, u64 columns
//   arrays  in the order of visitFields, each: u16 length and name; u8, 1 where its bytes are coded (entropy/rans.hpp)
//           and 0 where they are shorter as they are; u64 length and bytes
//
// An array is coded as bytes. Codes of 1, 2, 4 or 8 bits lie in bytes whole, and independent ones come out at their
// entropy: 2-bit ternary codes of Gaussian numbers at about 1.58 bits under the absmean rule, 1.54 under LeastSquares,
// 1.41 where the threshold is 0.8 sigma. Codes of other widths cross bytes and gain little or nothing; 16-bit codes are
// two bytes that are taken for independent.
namespace gosset {

namespace detail {

inline void appendText(std::vector<std::uint8_t>& bytes, std::string_view text) {
  appendNumber(bytes, static_cast<std::uint16_t>(text.size()));
  bytes.insert(bytes.end(), text.begin(), text.end());
}

inline std::string readText(ArchiveReader& reader) {
  const auto bytes = reader.take(reader.number<std::uint16_t>());
  return {bytes.begin(), bytes.end()};
}

inline void appendArray(std::vector<std::uint8_t>& bytes, std::span<const std::uint8_t> values) {
  const std::vector<std::uint8_t> coded = encodeBytes(values);
  const bool shorter = coded.size() < values.size();
  const std::span<const std::uint8_t> kept = shorter ? std::span<const std::uint8_t>(coded) : values;
  appendNumber(bytes, static_cast<std::uint8_t>(shorter ? 1 : 0));
  appendNumber(bytes, static_cast<std::uint64_t>(kept.size()));
  bytes.insert(bytes.end(), kept.begin(), kept.end());
}

inline void readArray(ArchiveReader& reader, const std::string& name, std::span<std::uint8_t> values) {
  const auto coded = reader.number<std::uint8_t>();
  const auto kept = reader.take(reader.number<std::uint64_t>());
  if (coded == 1) return decodeBytes(kept, values);
  ArchiveReader::expect(coded == 0, "array ", name, " is kept in way ", int{coded}, ", expected 0 or 1");
  ArchiveReader::expect(kept.size() == values.size(), "array ", name, " has ", kept.size(), " bytes, expected ",
                        values.size());
  if (!kept.empty()) std::memcpy(values.data(), kept.data(), kept.size());
}

}  // namespace detail

/// The archive of a quantized matrix.
template <class Format>
std::vector<std::uint8_t> archive(const QuantizedMatrix<Format>& q) {
  std::vector<std::uint8_t> bytes = {'g', 'A', 'R', 'C'};
  detail::appendText(bytes, Packed<Format>::formatName());
  detail::appendNumber(bytes, static_cast<std::uint64_t>(q.rows()));
  detail::appendNumber(bytes, static_cast<std::uint64_t>(q.cols()));
  q.packed().visitFields([&](std::string_view name, auto values) {
    detail::appendText(bytes, name);
    detail::appendArray(bytes, {reinterpret_cast<const std::uint8_t*>(values.data()), values.size_bytes()});
  });
  return bytes;
}

/// The matrix of an archive. Errors: FormatError where the archive is truncated or corrupted, is of another format, or
/// says that it holds more than `most_weights` numbers, which bounds what is allocated on its word. Formats whose
/// arrays do not have lengths that follow from the shape, such as MixedColumns, cannot be read back.
template <class Format>
QuantizedMatrix<Format> unarchive(std::span<const std::uint8_t> bytes, Index most_weights = Index{1} << 32) {
  using detail::ArchiveReader;
  ArchiveReader reader(bytes);
  const auto magic = reader.take(4);
  ArchiveReader::expect(std::string(magic.begin(), magic.end()) == "gARC", "it does not begin with gARC");
  const std::string format = detail::readText(reader), expected = Packed<Format>::formatName();
  ArchiveReader::expect(format == expected, "it holds another format than ", expected);
  const auto rows = reader.number<std::uint64_t>();
  const auto cols = reader.number<std::uint64_t>();
  const auto most = static_cast<std::uint64_t>(most_weights);
  ArchiveReader::expect(rows > 0 && cols > 0 && rows <= most && cols <= most / rows, "it says ", rows, " x ", cols,
                        ", expected 1 to ", most, " numbers");
  Packed<Format> packed = Packed<Format>::shaped(static_cast<Index>(rows), static_cast<Index>(cols));
  packed.visitFields([&](std::string_view name, auto values) {
    ArchiveReader::expect(detail::readText(reader) == name, "expected array ", name);
    detail::readArray(reader, std::string(name), {reinterpret_cast<std::uint8_t*>(values.data()), values.size_bytes()});
  });
  ArchiveReader::expect(reader.rest().empty(), reader.rest().size(), " bytes follow its end");
  if constexpr (requires {
                  { packed.isValid() } -> std::convertible_to<bool>;
                }) {
    ArchiveReader::expect(packed.isValid(), "its arrays hold numbers that make no sense in ", expected);
  }
  return QuantizedMatrix<Format>(std::move(packed));
}

}  // namespace gosset
