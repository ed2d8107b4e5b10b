// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <gosset/core/error.hpp>
#include <gosset/core/types.hpp>

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <utility>
#include <vector>

// Bytes in about as many bits as their entropy says, and back, bit for bit: an asymmetric numeral system over ranges
// (rANS) with the bytes' own frequencies. Integers alone, so that every machine writes the same.
//
//   magic     4 bytes, "gANS"
//   count     u64, how many bytes were coded            (all numbers little-endian)
//   check     u64, FNV-1a of these bytes
//   symbols   u16, how many different ones there are, S
//   table     S times: the symbol, u8, rising, and its frequency, u16; the frequencies sum to 2^14
//   states    4 times u32, where the decoder starts; none of the fields from here on where S < 2
//   payload   what the decoder draws from, to the end
//
// That is 22 + 3 S + 16 bytes on top of the payload.
// Source: Duda, "Asymmetric numeral systems", arXiv 1311.2540, section 3; four interleaved states as in Giesen,
// "Interleaved entropy coders", arXiv 1402.3392.
namespace gosset {

namespace detail {

struct RansTable {
  static constexpr int kBits = 14;
  static constexpr std::uint32_t kTotal = 1u << kBits;

  std::array<std::uint32_t, 256> frequency{};
  std::array<std::uint32_t, 256> start{};

  void accumulate() {
    std::uint32_t sum = 0;
    for (std::size_t s = 0; s < 256; ++s) {
      start[s] = sum;
      sum += frequency[s];
    }
  }
};

inline constexpr std::uint32_t kRansLeast = 1u << 23;  ///< states lie in [kRansLeast, 2^8 kRansLeast)
inline constexpr std::size_t kRansLanes = 4;

inline std::uint64_t ransCheck(std::span<const std::uint8_t> bytes) {
  std::uint64_t hash = 0xcbf29ce484222325u;
  for (const std::uint8_t byte : bytes) hash = (hash ^ byte) * 0x100000001b3u;
  return hash;
}

/// Frequencies that sum to kTotal, in proportion to the counts, each symbol that occurs keeping at least 1. What
/// rounding leaves over or lacks goes to the largest ones, where it costs least.
inline RansTable ransTable(std::span<const std::uint8_t> bytes) {
  std::array<std::uint64_t, 256> counts{};
  for (const std::uint8_t byte : bytes) ++counts[byte];
  RansTable table;
  std::int64_t left = RansTable::kTotal;
  for (std::size_t s = 0; s < 256; ++s) {
    if (counts[s] == 0) continue;
    // counts * kTotal fits: a count below 2^50
    const std::uint64_t share = (counts[s] * RansTable::kTotal + bytes.size() / 2) / bytes.size();
    table.frequency[s] = static_cast<std::uint32_t>(std::max<std::uint64_t>(1, share));
    left -= table.frequency[s];
  }
  while (left != 0 && !bytes.empty()) {
    auto& largest = *std::max_element(table.frequency.begin(), table.frequency.end());
    const std::int64_t change = std::max<std::int64_t>(left, -static_cast<std::int64_t>(largest / 2));
    largest = static_cast<std::uint32_t>(static_cast<std::int64_t>(largest) + change);
    left -= change;
  }
  table.accumulate();
  return table;
}

template <class Number>
void appendNumber(std::vector<std::uint8_t>& bytes, Number value) {
  for (std::size_t i = 0; i < sizeof(Number); ++i) {
    bytes.push_back(static_cast<std::uint8_t>(static_cast<std::uint64_t>(value) >> (8 * i)));
  }
}

/// Takes numbers off the front of an archive. Errors: FormatError where it ends too early.
class ArchiveReader {
 public:
  explicit ArchiveReader(std::span<const std::uint8_t> bytes) : rest_(bytes) {}

  template <class Number>
  Number number() {
    std::uint64_t value = 0;
    const auto bytes = take(sizeof(Number));
    for (std::size_t i = 0; i < sizeof(Number); ++i) value |= static_cast<std::uint64_t>(bytes[i]) << (8 * i);
    return static_cast<Number>(value);
  }

  std::span<const std::uint8_t> take(std::uint64_t count) {
    expect(count <= rest_.size(), "it ends where ", count, " more bytes were expected and ", rest_.size(), " are left");
    const auto taken = rest_.first(static_cast<std::size_t>(count));
    rest_ = rest_.subspan(static_cast<std::size_t>(count));
    return taken;
  }

  std::span<const std::uint8_t> rest() const { return rest_; }

  template <class... Parts>
  static void expect(bool condition, const Parts&... parts) {
    if (!condition) throw FormatError(concat("gosset: corrupted archive: ", parts...));
  }

 private:
  std::span<const std::uint8_t> rest_;
};

struct RansDecoder {
  std::array<std::uint32_t, kRansLanes> states;
  std::span<const std::uint8_t> payload;
  RansTable table;
  std::vector<std::uint8_t> symbol_at;  ///< of each of the kTotal slots

  void run(std::span<std::uint8_t> bytes) {
    std::size_t next = 0;
    std::size_t i = 0;
    const auto step = [&](std::size_t lane, std::uint8_t& byte) {
      std::uint32_t& x = states[lane];
      const std::uint32_t slot = x & (RansTable::kTotal - 1);
      byte = symbol_at[slot];
      x = table.frequency[byte] * (x >> RansTable::kBits) + slot - table.start[byte];
      for (; x < kRansLeast && next < payload.size(); ++next) x = (x << 8) | payload[next];
    };
    for (; i + kRansLanes <= bytes.size(); i += kRansLanes) {
      for (std::size_t lane = 0; lane < kRansLanes; ++lane) step(lane, bytes[i + lane]);
    }
    for (std::size_t lane = 0; i < bytes.size(); ++i, ++lane) step(lane, bytes[i]);
    ArchiveReader::expect(next == payload.size(), "its payload is ", payload.size(), " bytes, of which ", next,
                          " were needed");
    for (const std::uint32_t x : states)
      ArchiveReader::expect(x == kRansLeast, "the decoder does not end at its start");
  }
};

inline RansTable readRansTable(ArchiveReader& reader, std::uint16_t symbols) {
  RansTable table;
  std::uint64_t sum = 0;
  int previous = -1;
  for (int i = 0; i < symbols; ++i) {
    const auto symbol = reader.number<std::uint8_t>();
    const auto frequency = reader.number<std::uint16_t>();
    ArchiveReader::expect(symbol > previous, "its symbols do not rise");
    ArchiveReader::expect(frequency > 0, "symbol ", int{symbol}, " has frequency 0");
    previous = symbol;
    table.frequency[symbol] = frequency;
    sum += frequency;
  }
  ArchiveReader::expect(sum == RansTable::kTotal, "its frequencies sum to ", sum, ", expected ", RansTable::kTotal);
  table.accumulate();
  return table;
}

}  // namespace detail

/// Bytes to archive.
inline std::vector<std::uint8_t> encodeBytes(std::span<const std::uint8_t> bytes) {
  using namespace detail;
  const RansTable table = ransTable(bytes);
  std::vector<std::uint8_t> archive = {'g', 'A', 'N', 'S'};
  appendNumber(archive, static_cast<std::uint64_t>(bytes.size()));
  appendNumber(archive, ransCheck(bytes));
  const auto symbols = std::count_if(table.frequency.begin(), table.frequency.end(), [](auto f) { return f > 0; });
  appendNumber(archive, static_cast<std::uint16_t>(symbols));
  for (std::size_t s = 0; s < 256; ++s) {
    if (table.frequency[s] == 0) continue;
    appendNumber(archive, static_cast<std::uint8_t>(s));
    appendNumber(archive, static_cast<std::uint16_t>(table.frequency[s]));
  }
  if (symbols < 2) return archive;

  // Backwards, as the decoder undoes the last step first. A symbol of frequency f takes x in [0, f 2^17) without
  // passing 2^31; above, bytes are moved out beforehand.
  std::vector<std::uint8_t> payload;
  payload.reserve(bytes.size() / 2);
  std::array<std::uint32_t, kRansLanes> states;
  states.fill(kRansLeast);
  for (std::size_t i = bytes.size(); i-- > 0;) {
    std::uint32_t& x = states[i % kRansLanes];
    const std::uint32_t frequency = table.frequency[bytes[i]];
    const std::uint64_t limit = std::uint64_t{frequency} << (23 + 8 - RansTable::kBits);
    for (; x >= limit; x >>= 8) payload.push_back(static_cast<std::uint8_t>(x));
    x = ((x / frequency) << RansTable::kBits) + x % frequency + table.start[bytes[i]];
  }
  for (const std::uint32_t x : states) appendNumber(archive, x);
  archive.insert(archive.end(), payload.rbegin(), payload.rend());
  return archive;
}

/// Archive to bytes: `bytes` has as many as were coded. Errors: FormatError where the archive is truncated or
/// corrupted, or holds another number of bytes; nothing is allocated on the archive's word.
inline void decodeBytes(std::span<const std::uint8_t> archive, std::span<std::uint8_t> bytes) {
  using namespace detail;
  ArchiveReader reader(archive);
  const auto magic = reader.take(4);
  ArchiveReader::expect(std::string(magic.begin(), magic.end()) == "gANS", "it does not begin with gANS");
  const auto count = reader.number<std::uint64_t>();
  ArchiveReader::expect(count == bytes.size(), "it holds ", count, " bytes, expected ", bytes.size());
  const auto check = reader.number<std::uint64_t>();
  const auto symbols = reader.number<std::uint16_t>();
  ArchiveReader::expect(symbols <= 256 && (symbols > 0) == (count > 0), "it has ", symbols, " symbols for ", count,
                        " bytes");
  if (symbols > 0) {
    const RansTable table = readRansTable(reader, symbols);
    std::vector<std::uint8_t> symbol_at(RansTable::kTotal);
    for (std::size_t s = 0; s < 256; ++s) {
      std::fill_n(symbol_at.begin() + table.start[s], table.frequency[s], static_cast<std::uint8_t>(s));
    }
    if (symbols == 1) {
      std::fill(bytes.begin(), bytes.end(), symbol_at[0]);
      ArchiveReader::expect(reader.rest().empty(), reader.rest().size(), " bytes follow its end");
    } else {
      std::array<std::uint32_t, kRansLanes> states;
      for (std::uint32_t& x : states) {
        x = reader.number<std::uint32_t>();
        ArchiveReader::expect(x >= kRansLeast && x < kRansLeast << 8, "a state of ", x, " is out of range");
      }
      RansDecoder{states, reader.rest(), table, std::move(symbol_at)}.run(bytes);
    }
  } else {
    ArchiveReader::expect(reader.rest().empty(), reader.rest().size(), " bytes follow its end");
  }
  ArchiveReader::expect(ransCheck(bytes) == check, "the bytes do not give the number it was sealed with");
}

}  // namespace gosset
