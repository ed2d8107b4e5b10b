// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <gosset/core/error.hpp>
#include <gosset/core/types.hpp>

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

// Bytes in about as many bits as their entropy says, and back, bit for bit: an asymmetric numeral system over ranges
// (rANS) with the bytes' own frequencies. Integers alone, so that every machine writes the same.
//
//   magic     4 bytes, "gANS"
//   count     u64, how many bytes were coded            (all numbers little-endian)
//   check     u64, detail::ransCheck of these bytes
//   symbols   u16, how many different ones there are, S
//   table     S times: the symbol, u8, rising, and its frequency, u16; the frequencies sum to 2^14
//   states    4 times u64, where the decoder starts; none of the fields from here on where S < 2
//   payload   u32s that the decoder draws, to the end
//
// That is 22 + 3 S + 32 bytes on top of the payload.
//
// A state x stands for what has been coded so far. Coding a symbol of frequency f, the first of whose 2^14 slots is s,
// makes it (x / f) 2^14 + x % f + s: larger by the factor 2^14 / f, that is by the symbol's log2(2^14 / f) bits. Byte i
// belongs to state i % 4: what a processor waits for in one, it spends on the others. With states of 64 bits and words
// of 32 a step moves at most one word, so that nothing branches on the data.
// Source: Duda, "Asymmetric numeral systems", arXiv 1311.2540, section 3; interleaved states as in Giesen, "Interleaved
// entropy coders", arXiv 1402.3392.
namespace gosset::GOSSET_ABI {

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

inline constexpr std::uint64_t kRansLeast = std::uint64_t{1} << 31;  ///< states lie in [kRansLeast, 2^32 kRansLeast)
inline constexpr std::size_t kRansLanes = 4;
inline constexpr std::size_t kRansWord = 4;  ///< bytes that a state moves at once

/// `count` bytes at p, up to 8, as a little-endian number.
inline std::uint64_t littleEndian(const std::uint8_t* p, std::size_t count) {
  std::uint64_t value = 0;
  for (std::size_t i = 0; i < count; ++i) value |= std::uint64_t{p[i]} << (8 * i);
  return value;
}

/// A hash of bytes, eight at a time, the last ones filled up with zeros: FNV-1a's step, and a shift that brings high
/// bits down, which multiplication alone does not.
inline std::uint64_t ransCheck(std::span<const std::uint8_t> bytes) {
  std::uint64_t hash = 0xcbf29ce484222325u;
  const auto take = [&](std::uint64_t word) {
    hash = (hash ^ word) * 0x100000001b3u;
    hash ^= hash >> 32;
  };
  std::size_t i = 0;
  for (; i + 8 <= bytes.size(); i += 8) take(littleEndian(bytes.data() + i, 8));
  if (i < bytes.size()) take(littleEndian(bytes.data() + i, bytes.size() - i));
  return hash;
}

/// How often each byte occurs. Four counters each, as neighbours are often equal and would wait for each other.
inline std::array<std::uint64_t, 256> countBytes(std::span<const std::uint8_t> bytes) {
  std::array<std::array<std::uint64_t, 256>, 4> parts{};
  std::size_t i = 0;
  for (; i + 4 <= bytes.size(); i += 4) {
    for (std::size_t part = 0; part < 4; ++part) ++parts[part][bytes[i + part]];
  }
  for (; i < bytes.size(); ++i) ++parts[0][bytes[i]];
  for (std::size_t s = 0; s < 256; ++s) parts[0][s] += parts[1][s] + parts[2][s] + parts[3][s];
  return parts[0];
}

/// Frequencies that sum to kTotal, in proportion to the counts, each symbol that occurs keeping at least 1. What
/// rounding leaves over or lacks goes to the largest ones, where it costs least.
inline RansTable ransTable(std::span<const std::uint8_t> bytes) {
  const std::array<std::uint64_t, 256> counts = countBytes(bytes);
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
    return static_cast<Number>(littleEndian(take(sizeof(Number)).data(), sizeof(Number)));
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
    if (!condition) throw FormatError("gosset: corrupted archive: " + concat(parts...));
  }

 private:
  std::span<const std::uint8_t> rest_;
};

/// How one symbol is coded.
struct RansEncoding {
  std::uint64_t reciprocal =
      0;                    ///< ceil(2^(63 + shift) / frequency), with shift the logarithm of frequency, rounded up
  std::uint64_t limit = 0;  ///< states from here on move a word out first
  std::uint32_t frequency = 0;
  std::uint32_t start = 0;
  int shift = 0;

  RansEncoding() = default;
  /// f, s: the symbol's frequency and first slot.
  RansEncoding(std::uint32_t f, std::uint32_t s)
      : limit(std::uint64_t{f} << (63 - RansTable::kBits)), frequency(f), start(s) {
    while ((1u << shift) < f) ++shift;
#ifdef __SIZEOF_INT128__
    reciprocal = static_cast<std::uint64_t>(((Wide{1} << (63 + shift)) + f - 1) / f);
#endif
  }

  /// x / frequency for x < 2^63. The reciprocal r exceeds 2^(63 + shift) / f by less than 1, so x r / 2^(63 + shift)
  /// exceeds x / f by less than 2^-shift <= 1 / f, too little to reach the next integer.
  std::uint64_t quotient(std::uint64_t x) const {
#ifdef __SIZEOF_INT128__
    return static_cast<std::uint64_t>(Wide{2 * x} * reciprocal >> 64) >> shift;
#else
    return x / frequency;
#endif
  }

  /// (x / f) 2^14 + x % f + s.
  std::uint64_t next(std::uint64_t x) const { return x + start + quotient(x) * (RansTable::kTotal - frequency); }

#ifdef __SIZEOF_INT128__
 private:
  __extension__ using Wide = unsigned __int128;
#endif
};

/// States and payload of bytes that have a table, appended to the archive. Backwards, as the decoder undoes the last
/// step first.
inline void appendRansPayload(std::vector<std::uint8_t>& archive, std::span<const std::uint8_t> bytes,
                              const RansTable& table) {
  std::array<RansEncoding, 256> encodings;
  for (std::size_t s = 0; s < 256; ++s) {
    if (table.frequency[s] > 0) encodings[s] = {table.frequency[s], table.start[s]};
  }
  // A symbol takes kBits at most; a word is written before it is known whether it counts.
  const std::size_t room = bytes.size() / 8 * RansTable::kBits + 64;
  const auto payload = std::make_unique_for_overwrite<std::uint8_t[]>(room);
  std::uint8_t* first = payload.get() + room;
  std::array<std::uint64_t, kRansLanes> states;
  states.fill(kRansLeast);
  const auto step = [&](std::uint64_t& x, std::uint8_t byte) {
    const RansEncoding& encoding = encodings[byte];
    for (std::size_t i = 0; i < kRansWord; ++i) *(first - kRansWord + i) = static_cast<std::uint8_t>(x >> (8 * i));
    const bool full = x >= encoding.limit;
    first -= full ? kRansWord : 0;
    x = encoding.next(full ? x >> 32 : x);
  };
  std::size_t i = bytes.size();
  for (; i % kRansLanes != 0; --i) step(states[(i - 1) % kRansLanes], bytes[i - 1]);
  std::uint64_t a = states[0], b = states[1], c = states[2], d = states[3];
  for (; i > 0; i -= kRansLanes) {
    step(d, bytes[i - 1]);
    step(c, bytes[i - 2]);
    step(b, bytes[i - 3]);
    step(a, bytes[i - 4]);
  }
  for (const std::uint64_t x : {a, b, c, d}) appendNumber(archive, x);
  archive.insert(archive.end(), first, payload.get() + room);
}

/// Undoes appendRansPayload. Errors: FormatError where the payload does not lead back to where the encoder began.
class RansDecoder {
 public:
  explicit RansDecoder(const RansTable& table) : symbol_at_(RansTable::kTotal) {
    for (std::size_t s = 0; s < 256; ++s) {
      std::fill_n(symbol_at_.begin() + table.start[s], table.frequency[s], static_cast<std::uint8_t>(s));
      ranges_[s] = {table.frequency[s], table.start[s]};
    }
  }

  std::uint8_t symbolAt(std::uint32_t slot) const { return symbol_at_[slot]; }

  void run(std::array<std::uint64_t, kRansLanes> states, std::span<const std::uint8_t> payload,
           std::span<std::uint8_t> bytes) const {
    const std::uint8_t* next = payload.data();
    const std::uint8_t* const end = next + payload.size();
    std::size_t i = 0;
    std::uint64_t a = states[0], b = states[1], c = states[2], d = states[3];
    const auto fast = [&](std::uint64_t& x, std::uint8_t& byte) {
      x = undone(x, byte);
      const std::uint64_t word = littleEndian(next, kRansWord);
      const bool empty = x < kRansLeast;
      x = empty ? x << 32 | word : x;
      next += empty ? kRansWord : 0;
    };
    while (i + kRansLanes <= bytes.size() && end - next >= std::ptrdiff_t{kRansLanes * kRansWord}) {
      fast(a, bytes[i]);
      fast(b, bytes[i + 1]);
      fast(c, bytes[i + 2]);
      fast(d, bytes[i + 3]);
      i += kRansLanes;
    }
    states = {a, b, c, d};
    for (; i < bytes.size(); ++i) {
      std::uint64_t& x = states[i % kRansLanes];
      x = undone(x, bytes[i]);
      if (x >= kRansLeast) continue;
      ArchiveReader::expect(end - next >= std::ptrdiff_t{kRansWord}, "its payload of ", payload.size(),
                            " bytes ends too early");
      x = x << 32 | littleEndian(next, kRansWord);
      next += kRansWord;
    }
    ArchiveReader::expect(next == end, "its payload is ", payload.size(), " bytes, of which ", next - payload.data(),
                          " were needed");
    for (const std::uint64_t x : states)
      ArchiveReader::expect(x == kRansLeast, "the decoder does not end at its start");
  }

 private:
  struct Range {
    std::uint32_t frequency, start;
  };

  /// The state before the last step, which coded `byte`.
  std::uint64_t undone(std::uint64_t x, std::uint8_t& byte) const {
    const std::uint32_t slot = static_cast<std::uint32_t>(x) & (RansTable::kTotal - 1);
    byte = symbol_at_[slot];
    const Range range = ranges_[byte];
    return range.frequency * (x >> RansTable::kBits) + (slot - range.start);
  }

  std::vector<std::uint8_t> symbol_at_;  // of each of the kTotal slots
  std::array<Range, 256> ranges_{};
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
  appendRansPayload(archive, bytes, table);
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
    const RansDecoder decoder(readRansTable(reader, symbols));
    if (symbols == 1) {
      std::fill(bytes.begin(), bytes.end(), decoder.symbolAt(0));
      ArchiveReader::expect(reader.rest().empty(), reader.rest().size(), " bytes follow its end");
    } else {
      std::array<std::uint64_t, kRansLanes> states;
      for (std::uint64_t& x : states) {
        x = reader.number<std::uint64_t>();
        ArchiveReader::expect(x >= kRansLeast && x < kRansLeast << 32, "a state of ", x, " is out of range");
      }
      decoder.run(states, reader.rest(), bytes);
    }
  } else {
    ArchiveReader::expect(reader.rest().empty(), reader.rest().size(), " bytes follow its end");
  }
  ArchiveReader::expect(ransCheck(bytes) == check, "the bytes do not give the number it was sealed with");
}

}  // namespace gosset::GOSSET_ABI
