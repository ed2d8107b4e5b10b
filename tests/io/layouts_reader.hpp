// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "io/layouts_records.hpp"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <map>
#include <string>
#include <utility>
#include <vector>

// A reader of codes from LAYOUTS.md's formulas alone: plain numbers and loops.
namespace gosset::layouts_test::reader {

using Size = std::size_t;
using Doubles = std::vector<double>;

inline std::uint64_t mix(std::uint64_t z) {
  z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
  z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
  return z ^ (z >> 31);
}
inline std::uint64_t bits(std::uint64_t s, std::uint64_t i) {
  constexpr std::uint64_t kG = 0x9e3779b97f4a7c15u;
  return mix(mix(s + kG) + (i + 1) * kG);
}
inline double sign(std::uint64_t s, std::uint64_t i) { return (bits(s, i) >> 63) != 0 ? -1 : 1; }

inline std::uint64_t number(const Bytes& bytes, Size at, Size size) {
  std::uint64_t value = 0;
  for (Size i = 0; i < size; ++i) value |= std::uint64_t{bytes.at(at + i)} << (8 * i);
  return value;
}

/// An array's numbers, by the name of their type.
inline Doubles numbers(const std::string& dtype, const Bytes& bytes) {
  const std::map<std::string, Size> sizes = {{"I8", 1},  {"U8", 1},  {"F16", 2}, {"BF16", 2},
                                             {"U16", 2}, {"F32", 4}, {"U32", 4}, {"U64", 8}};
  const Size size = sizes.at(dtype);
  Doubles result;
  for (Size at = 0; at < bytes.size(); at += size) {
    const std::uint64_t raw = number(bytes, at, size);
    if (dtype == "F16") {
      const auto exponent = static_cast<int>(raw >> 10 & 31), mantissa = static_cast<int>(raw & 1023);
      const double magnitude = exponent == 0 ? std::ldexp(mantissa, -24) : std::ldexp(1024 + mantissa, exponent - 25);
      result.push_back((raw >> 15) != 0 ? -magnitude : magnitude);
    } else if (dtype == "BF16") {
      result.push_back(static_cast<double>(std::bit_cast<float>(static_cast<std::uint32_t>(raw << 16))));
    } else if (dtype == "F32") {
      result.push_back(static_cast<double>(std::bit_cast<float>(static_cast<std::uint32_t>(raw))));
    } else if (dtype == "I8") {
      result.push_back(raw < 128 ? static_cast<double>(raw) : static_cast<double>(raw) - 256);
    } else {
      result.push_back(static_cast<double>(raw));
    }
  }
  return result;
}

struct Plane {
  Size bits, shift;
};
inline std::vector<Plane> planes(Size b) {
  std::vector<Plane> result;
  Size shift = 0;
  for (const Size p : {Size{8}, Size{4}, Size{2}, Size{1}}) {
    for (; shift + p <= b && (p == 8 || result.empty() || result.back().bits > p); shift += p) {
      result.push_back({p, shift});
    }
  }
  return result;
}
inline Size planeBytes(Size c, Size p) { return 4 * (c / (32 / p)) + std::min<Size>(4, c % (32 / p)); }
inline Size rowBytes(Size k, Size b) {
  Size sum = 0;
  for (const Plane& plane : planes(b)) sum += planeBytes(k, plane.bits);
  return sum;
}

/// m rows of k codes.
inline std::uint64_t codeAt(const Bytes& bytes, Size m, Size k, Size b, Size d, Size row, Size i) {
  const Size tile = d == 8 && b % 8 == 0 ? 4 : 32;
  const Size block = row / 16, r = row % 16, rows = std::min<Size>(16, m - 16 * block);
  const Size t = i / tile, j = i % tile, c = std::min(tile, k - t * tile);
  Size begin = 16 * block * rowBytes(k, b) + rows * t * tile * b / 8;
  std::uint64_t code = 0;
  for (const auto& [p, shift] : planes(b)) {
    const Size in = j % (32 / p), u = j / (32 / p), w = std::min<Size>(4, c - u * (32 / p));
    const std::uint64_t byte = bytes.at(begin + 4 * rows * u + r * w + in % 4);
    code |= (byte >> (p * (in / 4)) & ((1u << p) - 1)) << shift;
    begin += rows * planeBytes(c, p);
  }
  return code;
}

struct E8PPattern {
  unsigned threes, fives;
};
inline E8PPattern e8pPattern(unsigned pattern) {
  if (pattern >= 192) {
    const unsigned i = (pattern - 192) / 8, j = (pattern - 192) % 8;
    return {i == j ? 0 : 1u << j, 1u << i};
  }
  unsigned at = 0;
  for (int count = 0; count <= 5; ++count) {
    for (unsigned mask = 0; mask < 256; ++mask) {
      if (std::popcount(mask) != count) continue;
      const unsigned z = ~mask & 255u;
      const int l = std::popcount(z & 15u);
      if (count == 5 && l != 3 && !(l == 1 && z != 0x32) && z != 0x13 && z != 0x8c) continue;
      if (at++ == pattern) return {mask, 0};
    }
  }
  return {0, 0};
}
inline Doubles e8p(unsigned code) {
  const unsigned low = code & 255u;
  const auto [threes, fives] = e8pPattern(code >> 8);
  const unsigned odd = std::popcount(threes) % 2 != 0 ? 0x80u : 0;
  const unsigned negative = ((low & 0x7fu) ^ (low << 1) ^ odd) & 0xffu;
  Doubles point;
  for (unsigned i = 0; i < 8; ++i) {
    const double v = 0.5 + (threes >> i & 1u) + 2 * (fives >> i & 1u);
    point.push_back(((negative >> i & 1u) != 0 ? -v : v) + ((low & 0x80u) != 0 ? 0.25 : -0.25));
  }
  return point;
}

inline Doubles e81b(unsigned q) {
  Doubles point(8);
  if (q < 128) {
    for (unsigned i = 0; i < 7; ++i) point[i] = (q >> i & 1u) != 0 ? -0.5 : 0.5;
    point[7] = std::popcount(q) % 2 != 0 ? -0.5 : 0.5;
  } else if (q < 240) {
    unsigned pair = 0;
    for (unsigned i = 0; i < 8; ++i) {
      for (unsigned j = i + 1; j < 8; ++j, ++pair) {
        if (pair != (q - 128) / 4) continue;
        point[i] = (q & 1u) != 0 ? -1 : 1;
        point[j] = (q & 2u) != 0 ? -1 : 1;
      }
    }
  } else if (q > 240) {
    point[q < 249 ? q - 241 : q - 249] = q < 249 ? 2 : -2;
  }
  return point;
}

struct Codebook {
  Size d, b;
};

/// "Grouped<Asymmetric<4>, 64>" as its name and its arguments.
inline std::pair<std::string, std::vector<std::string>> split(const std::string& format) {
  const auto open = format.find('<');
  if (open == std::string::npos) return {format, {}};
  std::vector<std::string> arguments(1);
  int depth = 0;
  for (const char c : format.substr(open + 1, format.size() - open - 2)) {
    depth += c == '<' ? 1 : c == '>' ? -1 : 0;
    if (c == ',' && depth == 0) {
      arguments.emplace_back();
    } else if (c != ' ' || !arguments.back().empty()) {
      arguments.back() += c;
    }
  }
  return {format.substr(0, open), arguments};
}

inline Codebook codebook(const std::string& name) {
  const auto [kind, arguments] = split(name);
  const std::map<std::string, Codebook> fixed = {{"Binary", {1, 1}},  {"Ternary", {1, 2}}, {"NormalFloat4", {1, 4}},
                                                 {"Trits5", {5, 8}},  {"E8P", {8, 16}},    {"E8PRvq3", {8, 24}},
                                                 {"E8PRvq4", {8, 32}}};
  if (const auto found = fixed.find(kind); found != fixed.end()) return found->second;
  return {1, std::stoul(arguments.at(0))};
}

/// The d numbers of a code, before the scale.
inline Doubles point(const std::string& name, std::uint64_t q) {
  const auto [kind, arguments] = split(name);
  const auto code = static_cast<unsigned>(q);
  if (kind == "Symmetric") return {static_cast<double>(q) - ((1 << (std::stoi(arguments.at(0)) - 1)) - 1)};
  if (kind == "Asymmetric") return {static_cast<double>(q)};
  if (kind == "Binary") return {q != 0 ? 1. : -1.};
  if (kind == "Ternary") return {static_cast<double>(q) - 1};
  if (kind == "NormalFloat4") {
    constexpr double kLevels[] = {-1,
                                  -0.6961928009986877,
                                  -0.5250730514526367,
                                  -0.39491748809814453,
                                  -0.28444138169288635,
                                  -0.18477343022823334,
                                  -0.09105003625154495,
                                  0,
                                  0.07958029955625534,
                                  0.16093020141124725,
                                  0.24611230194568634,
                                  0.33791524171829224,
                                  0.44070982933044434,
                                  0.5626170039176941,
                                  0.7229568362236023,
                                  1};
    return {kLevels[q]};
  }
  if (kind == "Trits5") {
    Doubles result;
    for (unsigned rest = std::min(code, 242u), e = 0; e < 5; ++e, rest /= 3) result.push_back(rest % 3 - 1.);
    return result;
  }
  if (kind == "E8P") return e8p(code);
  Doubles first = e8p(kind == "E8PRvq3" ? code >> 8 : code >> 16);
  const Doubles second = kind == "E8PRvq3" ? e81b(code & 255u) : e8p(code & 65535u);
  for (Size i = 0; i < 8; ++i) first[i] += (kind == "E8PRvq3" ? 9. / 16 : 35. / 128) * second[i];
  return first;
}

}  // namespace gosset::layouts_test::reader
