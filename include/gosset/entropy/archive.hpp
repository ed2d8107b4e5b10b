// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <gosset/codebook/concepts.hpp>
#include <gosset/core/types.hpp>
#include <gosset/entropy/rans.hpp>
#include <gosset/format/concepts.hpp>
#include <gosset/format/name.hpp>
#include <gosset/kernel/layout.hpp>
#include <gosset/matrix/quantized_matrix.hpp>
#include <gosset/scale/grid.hpp>

#include <algorithm>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <limits>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

// A quantized matrix for storage, each of its arrays entropy-coded: fewer bits wherever codes are not all equally
// frequent, and the packed matrix back, bit for bit.
//
//   magic   4 bytes, "gAR2"
//   format  u16 length, then the format's name
//   shape   u64 rows, u64 columns
//   arrays  in the order of visitFields, each: u16 length and name; u64, how many numbers it has; u8, the way its
//           content is kept: 0 as it is, 1 its bytes coded (entropy/rans.hpp), 2 its codes coded, row by row, a byte
//           each; u64 length and content
//   filling zeros, where the archive would have less than a byte for each 64 bytes of the arrays: so that what a reader
//           asks memory for is bounded by what it was given
//
// Codes of 1, 2, 4 or 8 bits lie in bytes whole; bytes are coded then, several codes at once, and independent codes
// come out at their entropy: 2-bit ternary codes of Gaussian numbers at about 1.58 bits under the absmean rule, 1.54
// under LeastSquares, 1.41 where the threshold is 0.8 sigma. Codes of 3, 5, 6 or 7 bits are spread over bytes, and
// coded one by one, slower, unless they are inside a wrapper such as Incoherent: then, as codes of more than 8 bits,
// they are taken for independent bytes.
namespace gosset::GOSSET_ABI {

namespace detail {

inline void appendText(std::vector<std::uint8_t>& bytes, std::string_view text) {
  appendNumber(bytes, static_cast<std::uint16_t>(text.size()));
  bytes.insert(bytes.end(), text.begin(), text.end());
}

inline std::string readText(ArchiveReader& reader) {
  const auto bytes = reader.take(reader.number<std::uint16_t>());
  return {bytes.begin(), bytes.end()};
}

enum class ArchivedArray : std::uint8_t { kPlain, kCodedBytes, kCodedCodes };

/// A packed matrix whose codes are spread over several bytes.
template <class P>
concept SpreadCodes = requires(const P& packed) {
  requires ScalarCodebook<typename P::Codebook>;
  requires P::Codebook::kBits < 8 && 8 % P::Codebook::kBits != 0;
  { packed.codes() } -> std::same_as<CodeMatrix<typename P::Codebook>>;
};

/// The shorter of `values` as they are and `coded`.
inline void appendArray(std::vector<std::uint8_t>& bytes, std::span<const std::uint8_t> values, ArchivedArray way,
                        const std::vector<std::uint8_t>& coded) {
  const bool shorter = coded.size() < values.size();
  const std::span<const std::uint8_t> kept = shorter ? std::span<const std::uint8_t>(coded) : values;
  appendNumber(bytes, static_cast<std::uint8_t>(shorter ? way : ArchivedArray::kPlain));
  appendNumber(bytes, static_cast<std::uint64_t>(kept.size()));
  bytes.insert(bytes.end(), kept.begin(), kept.end());
}

/// Undoes way 2. Errors: FormatError, also for codes of more bits than the codebook's.
template <SpreadCodes P>
void readCodes(std::span<const std::uint8_t> coded, const P& packed, std::span<std::uint8_t> values) {
  using C = typename P::Codebook;
  CodeMatrix<C> codes(packed.rows(), packed.cols());
  const std::span<std::uint8_t> plain(codes.data(), static_cast<std::size_t>(codes.size()));
  decodeBytes(coded, plain);
  const auto most = plain.empty() ? plain.end() : std::max_element(plain.begin(), plain.end());
  ArchiveReader::expect(most == plain.end() || *most < 1 << C::kBits, "it holds the code ", int{*most},
                        ", expected codes of ", C::kBits, " bits");
  std::fill(values.begin(), values.end(), std::uint8_t{0});
  const TileLayout<C> layout(codes.rows(), codes.cols());
  for (Index block = 0; block < layout.blocks(); ++block) {
    layout.packBlock(codes.row(block * kBlockRows).data(), codes.cols(), block, values.data());
  }
}

/// How many numbers an array has, one of those that begin here; 0 where there is none of this name.
inline Index arrayLength(ArchiveReader reader, std::string_view wanted) {
  while (!reader.rest().empty()) {
    const std::string name = readText(reader);
    const auto numbers = reader.number<std::uint64_t>();
    constexpr auto kMost = static_cast<std::uint64_t>(std::numeric_limits<Index>::max());
    if (name == wanted) return static_cast<Index>(std::min(numbers, kMost));
    reader.number<std::uint8_t>();
    reader.take(reader.number<std::uint64_t>());
  }
  return 0;
}

template <class P>
void readArray(ArchiveReader& reader, const std::string& name, const P& packed, std::span<std::uint8_t> values) {
  const auto way = reader.number<std::uint8_t>();
  const auto kept = reader.take(reader.number<std::uint64_t>());
  if (way == static_cast<std::uint8_t>(ArchivedArray::kCodedBytes)) return decodeBytes(kept, values);
  if constexpr (SpreadCodes<P>) {
    if (way == static_cast<std::uint8_t>(ArchivedArray::kCodedCodes) && name == "codes") {
      return readCodes(kept, packed, values);
    }
  }
  ArchiveReader::expect(way == 0, "array ", name, " is kept in way ", int{way}, ", which is unknown here");
  ArchiveReader::expect(kept.size() == values.size(), "array ", name, " has ", kept.size(), " bytes, expected ",
                        values.size());
  if (!kept.empty()) std::memcpy(values.data(), kept.data(), kept.size());
}

/// An archive has at least a byte for each so many bytes of the packed matrix.
inline constexpr Index kMostArchived = 64;

/// Makes sure that nothing but filling is left, as much as an archive of `size` bytes needs.
inline void readFilling(const ArchiveReader& reader, std::size_t size, Index packed_bytes) {
  const auto rest = reader.rest();
  const std::size_t arrays_end = size - rest.size();
  const auto filled = std::max(arrays_end, static_cast<std::size_t>(ceilDiv(packed_bytes, kMostArchived)));
  ArchiveReader::expect(size == filled, rest.size(), " bytes follow its end, expected ", filled - arrays_end);
  ArchiveReader::expect(std::all_of(rest.begin(), rest.end(), [](std::uint8_t byte) { return byte == 0; }),
                        "what fills it up is not zero");
}

}  // namespace detail

/// The archive of a quantized matrix.
template <class Format>
std::vector<std::uint8_t> archive(const QuantizedMatrix<Format>& q) {
  std::vector<std::uint8_t> bytes = {'g', 'A', 'R', '2'};
  detail::appendText(bytes, Packed<Format>::formatName());
  detail::appendNumber(bytes, static_cast<std::uint64_t>(q.rows()));
  detail::appendNumber(bytes, static_cast<std::uint64_t>(q.cols()));
  q.packed().visitFields([&](std::string_view name, auto values) {
    detail::appendText(bytes, name);
    detail::appendNumber(bytes, static_cast<std::uint64_t>(values.size()));
    const std::span<const std::uint8_t> plain(reinterpret_cast<const std::uint8_t*>(values.data()),
                                              values.size_bytes());
    if constexpr (detail::SpreadCodes<Packed<Format>>) {
      if (name == "codes") {
        const auto codes = q.packed().codes();
        return detail::appendArray(bytes, plain, detail::ArchivedArray::kCodedCodes,
                                   encodeBytes({codes.data(), static_cast<std::size_t>(codes.size())}));
      }
    }
    detail::appendArray(bytes, plain, detail::ArchivedArray::kCodedBytes, encodeBytes(plain));
  });
  bytes.resize(std::max(bytes.size(), static_cast<std::size_t>(ceilDiv(q.bytes(), detail::kMostArchived))));
  return bytes;
}

/// The matrix of an archive. Errors: FormatError where the archive is truncated or corrupted, is of another format, or
/// says that it holds more than `most_weights` numbers. No more than some 64 bytes are allocated for each of its own.
template <class Format>
QuantizedMatrix<Format> unarchive(std::span<const std::uint8_t> bytes, Index most_weights = Index{1} << 32) {
  using detail::ArchiveReader;
  ArchiveReader reader(bytes);
  const auto magic = reader.take(4);
  ArchiveReader::expect(std::string(magic.begin(), magic.end()) == "gAR2", "it does not begin with gAR2");
  const std::string format = detail::readText(reader), expected = Packed<Format>::formatName();
  ArchiveReader::expect(sameFormat(format, expected), "it holds another format than ", expected);
  const auto rows = reader.number<std::uint64_t>();
  const auto cols = reader.number<std::uint64_t>();
  const auto most = static_cast<std::uint64_t>(most_weights);
  ArchiveReader::expect(rows > 0 && cols > 0 && rows <= most && cols <= most / rows, "it says ", rows, " x ", cols,
                        ", expected 1 to ", most, " numbers");
  auto packed = [&] {
    const detail::DeferredArrays deferred;
    return Packed<Format>::shaped(static_cast<Index>(rows), static_cast<Index>(cols),
                                  [&](std::string_view name) { return detail::arrayLength(reader, name); });
  }();
  const Index packed_bytes = packed.bytes();
  ArchiveReader::expect(ceilDiv(packed_bytes, detail::kMostArchived) <= static_cast<Index>(bytes.size()),
                        "its arrays would take ", packed_bytes, " bytes, more than ", detail::kMostArchived,
                        " for each of its own ", bytes.size());
  packed.visitFields([&](std::string_view name, auto values) {
    ArchiveReader::expect(detail::readText(reader) == name, "expected array ", name);
    const auto numbers = reader.number<std::uint64_t>();
    ArchiveReader::expect(numbers == values.size(), "array ", name, " says that it has ", numbers,
                          " numbers, expected ", values.size());
    detail::readArray(reader, std::string(name), packed,
                      {reinterpret_cast<std::uint8_t*>(values.data()), values.size_bytes()});
  });
  detail::readFilling(reader, bytes.size(), packed_bytes);
  const std::string fault = packed.fault();
  ArchiveReader::expect(fault.empty(), "its arrays hold numbers that make no sense in ", expected, ": ", fault);
  return QuantizedMatrix<Format>(std::move(packed));
}

}  // namespace gosset::GOSSET_ABI
