// SPDX-License-Identifier: Apache-2.0
// The vectors of include/gosset/io/LAYOUTS.md, against the library, and against a reader that is written from that page
// alone and shares no line with it.
#include <gosset/codebook.hpp>
#include <gosset/entropy.hpp>
#include <gosset/format.hpp>
#include <gosset/hadamard.hpp>
#include <gosset/io.hpp>
#include <gosset/matrix.hpp>

#include "io/layouts_records.hpp"
#include "testing.hpp"

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <fstream>
#include <map>
#include <numbers>
#include <span>
#include <sstream>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <vector>

namespace gosset::layouts_test {
namespace {

Index numberIn(const Record& record, const char* key) { return std::stol(record.at(key)); }
std::uint64_t seedIn(const Record& record) { return std::stoull(record.at("seed")); }

/// The reader: plain numbers and loops, from LAYOUTS.md's formulas.
namespace reader {

using Size = std::size_t;
using Doubles = std::vector<double>;

std::uint64_t mix(std::uint64_t z) {
  z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
  z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
  return z ^ (z >> 31);
}
std::uint64_t bits(std::uint64_t s, std::uint64_t i) {
  constexpr std::uint64_t kG = 0x9e3779b97f4a7c15u;
  return mix(mix(s + kG) + (i + 1) * kG);
}
double sign(std::uint64_t s, std::uint64_t i) { return (bits(s, i) >> 63) != 0 ? -1 : 1; }

std::uint64_t number(const Bytes& bytes, Size at, Size size) {
  std::uint64_t value = 0;
  for (Size i = 0; i < size; ++i) value |= std::uint64_t{bytes.at(at + i)} << (8 * i);
  return value;
}

/// An array's numbers, by the name of their type.
Doubles numbers(const std::string& dtype, const Bytes& bytes) {
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
std::vector<Plane> planes(Size b) {
  std::vector<Plane> result;
  Size shift = 0;
  for (const Size p : {Size{8}, Size{4}, Size{2}, Size{1}}) {
    for (; shift + p <= b && (p == 8 || result.empty() || result.back().bits > p); shift += p) {
      result.push_back({p, shift});
    }
  }
  return result;
}
Size planeBytes(Size c, Size p) { return 4 * (c / (32 / p)) + std::min<Size>(4, c % (32 / p)); }
Size rowBytes(Size k, Size b) {
  Size sum = 0;
  for (const Plane& plane : planes(b)) sum += planeBytes(k, plane.bits);
  return sum;
}

/// m rows of k codes.
std::uint64_t codeAt(const Bytes& bytes, Size m, Size k, Size b, Size d, Size row, Size i) {
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
E8PPattern e8pPattern(unsigned pattern) {
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
Doubles e8p(unsigned code) {
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

Doubles e81b(unsigned q) {
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
std::pair<std::string, std::vector<std::string>> split(const std::string& format) {
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

Codebook codebook(const std::string& name) {
  const auto [kind, arguments] = split(name);
  const std::map<std::string, Codebook> fixed = {{"Binary", {1, 1}},  {"Ternary", {1, 2}}, {"NormalFloat4", {1, 4}},
                                                 {"Trits5", {5, 8}},  {"E8P", {8, 16}},    {"E8PRvq3", {8, 24}},
                                                 {"E8PRvq4", {8, 32}}};
  if (const auto found = fixed.find(kind); found != fixed.end()) return found->second;
  return {1, std::stoul(arguments.at(0))};
}

/// The d numbers of a code, before the scale.
Doubles point(const std::string& name, std::uint64_t q) {
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

struct Factor {
  std::string kind;
  Size order;
};

bool primePower(Size q, Size& p) {
  p = 2;
  while (p < q && q % p != 0) ++p;
  Size rest = q;
  while (rest % p == 0) rest /= p;
  return q > 1 && rest == 1;
}

std::string construction(Size order) {
  Size p = 0;
  if (order <= 4 || order % 4 != 0) return "";
  if (primePower(order - 1, p)) return "paley1";
  if (order / 2 % 4 == 2 && primePower(order / 2 - 1, p)) return "paley2";
  return order == 92 || order == 116 || order == 156 || order == 172 ? "williamson" : "";
}

struct Plan {
  std::vector<Factor> factors;
  Size sylvester = 1;
};

class Planner {
 public:
  explicit Planner(Size n) {
    Size twos = 0;
    for (odd_ = n; odd_ % 2 == 0; odd_ /= 2) ++twos;
    search(odd_, twos, 3, 0, {});
  }
  const Plan& best() const { return best_; }

 private:
  void offer(std::vector<Factor> factors, Size twos, double cost) {
    if (cost >= least_) return;
    least_ = cost;
    best_ = {std::move(factors), Size{1} << twos};
  }
  void search(Size rest, Size twos, Size d0, double cost, const std::vector<Factor>& factors) {
    if (rest == 1) return offer(factors, twos, cost + static_cast<double>(twos));
    std::vector<Factor> more = factors;
    more.insert(more.begin(), {"hartley", rest});
    offer(more, twos, cost + 1e12 + 2 * static_cast<double>(rest) + static_cast<double>(twos));
    for (Size d = d0; d <= odd_; d += 2) {
      if (odd_ % d != 0 || rest % d != 0) continue;
      for (Size p = 2; p <= twos; ++p) {
        const Size order = d << p;
        if (construction(order).empty()) continue;
        more = factors;
        more.push_back({construction(order), order});
        search(rest / d, twos - p, d, cost + 3 + static_cast<double>(order) / 4, more);
        break;
      }
    }
  }
  Size odd_ = 1;
  double least_ = 1e300;
  Plan best_;
};

/// The field of q elements, as LAYOUTS.md defines it.
class Field {
 public:
  explicit Field(Size q) : q_(q) {
    primePower(q, p_);
    if (p_ == q_) {
      squares_.assign(q, false);
      for (Size a = 1; a < q; ++a) squares_[a * a % q] = true;
      return;
    }
    for (Size r = 1; !tryReduction(r); ++r) {
    }
  }
  bool isSquare(Size a) const { return squares_[a]; }
  Size sum(Size a, Size b, Size times) const {  // a + times b
    Size result = 0;
    for (Size place = 1; place < q_; place *= p_) {
      result += (a / place % p_ + times * (b / place % p_)) % p_ * place;
    }
    return result;
  }
  Size difference(Size a, Size b) const { return sum(a, b, p_ - 1); }

 private:
  bool tryReduction(Size r) {
    squares_.assign(q_, false);
    std::vector<bool> met(q_);
    Size power = 1;
    for (Size e = 0; e + 1 < q_; ++e) {
      if (power == 0 || met[power]) return false;
      met[power] = true;
      squares_[power] = e % 2 == 0;
      const Size top = power / (q_ / p_), low = power % (q_ / p_) * p_;  // times X
      power = sum(low, r, top);
    }
    return true;
  }
  Size q_, p_ = 0;
  std::vector<bool> squares_;
};

using Table = std::vector<Doubles>;

Table signTable(const Factor& factor) {
  const Size order = factor.order;
  Table h(order, Doubles(order, 1));
  if (factor.kind == "paley1") {
    const Field field(order - 1);
    for (Size a = 0; a + 1 < order; ++a) {
      for (Size b = 0; b + 1 < order; ++b) {
        const Size both = field.sum(a, b, 1);
        h[a + 1][b + 1] = both == 0 || field.isSquare(both) ? -1 : 1;
      }
    }
  } else if (factor.kind == "paley2") {
    const Field field(order / 2 - 1);
    for (Size i = 0; i < order / 2; ++i) {
      for (Size j = 0; j < order / 2; ++j) {
        const bool plus = i == 0 || j == 0 || i == j || field.isSquare(field.difference(i - 1, j - 1));
        const double c = plus ? 1 : -1;
        h[2 * i][2 * j] = c;
        h[2 * i][2 * j + 1] = h[2 * i + 1][2 * j] = i == j ? -1 : c;
        h[2 * i + 1][2 * j + 1] = -c;
      }
    }
  } else {
    const std::map<Size, std::array<unsigned, 4>> all = {{92, {0x5dc, 0x192, 0x538, 0xe88}},
                                                         {116, {0x6b38, 0xb3a, 0xe90, 0x116c}},
                                                         {156, {0xcdf58, 0xdae98, 0xaf370, 0x47d4e}},
                                                         {172, {0x3cda1c, 0x342b28, 0x135e04, 0x2450ce}}};
    constexpr std::string_view kArray[4] = {"+A+B+C+D", "-B+A-D+C", "-C+D+A-B", "-D-C+B+A"};
    const Size m = order / 4;
    for (Size i = 0; i < order; ++i) {
      for (Size j = 0; j < order; ++j) {
        const Size apart = i % m > j % m ? i % m - j % m : j % m - i % m;
        const std::string_view cell = kArray[i / m].substr(j / m * 2, 2);
        const unsigned word = all.at(order).at(static_cast<Size>(cell[1] - 'A'));
        h[i][j] = ((word >> std::min(apart, m - apart) & 1u) != 0 ? -1 : 1) * (cell[0] == '-' ? -1 : 1);
      }
    }
  }
  return h;
}

/// The orthonormal matrix of order n.
Table orthonormal(Size n) {
  const Plan plan = Planner(n).best();
  Table q = {{1}};
  const auto kronecker = [&q](const Table& b, double scale) {
    Table product(q.size() * b.size(), Doubles(q.size() * b.size()));
    for (Size i = 0; i < product.size(); ++i) {
      for (Size j = 0; j < product.size(); ++j) {
        product[i][j] = q[i / b.size()][j / b.size()] * b[i % b.size()][j % b.size()] * scale;
      }
    }
    q = product;
  };
  for (const Factor& factor : plan.factors) {
    const auto order = static_cast<double>(factor.order);
    if (factor.kind != "hartley") {
      kronecker(signTable(factor), 1 / std::sqrt(order));
      continue;
    }
    Table h(factor.order, Doubles(factor.order));
    for (Size i = 0; i < factor.order; ++i) {
      for (Size j = 0; j < factor.order; ++j) {
        const double angle = 2 * std::numbers::pi * static_cast<double>(i * j % factor.order) / order;
        h[i][j] = std::cos(angle) + std::sin(angle);
      }
    }
    kronecker(h, 1 / std::sqrt(order));
  }
  Table sylvester(plan.sylvester, Doubles(plan.sylvester));
  for (Size i = 0; i < plan.sylvester; ++i) {
    for (Size j = 0; j < plan.sylvester; ++j) sylvester[i][j] = std::popcount(i & j) % 2 != 0 ? -1 : 1;
  }
  kronecker(sylvester, 1 / std::sqrt(static_cast<double>(plan.sylvester)));
  return q;
}

struct Array {
  std::string dtype;
  Bytes bytes;
};
using Arrays = std::map<std::string, Array>;

Doubles numbersOf(const Arrays& arrays, const std::string& name) {
  const Array& array = arrays.at(name);
  return numbers(array.dtype, array.bytes);
}

/// What is called inner.NAME.
Arrays inner(const Arrays& arrays) {
  Arrays result;
  for (const auto& [name, array] : arrays) {
    if (name.starts_with("inner.")) result[name.substr(6)] = array;
  }
  return result;
}

/// m x n numbers, row after row.
Doubles matrix(const std::string& format, const Arrays& arrays, Size m, Size n);

Doubles scaled(const std::string& kind, const std::vector<std::string>& arguments, const Arrays& arrays, Size m,
               Size n) {
  const auto [d, b] = codebook(arguments.at(0));
  const Size k = (n + d - 1) / d;
  const bool one = kind == "PerTensor";
  const Size width = kind == "Grouped" ? std::stoul(arguments.at(1)) : k * d, groups = (k * d + width - 1) / width;
  const Doubles scales = numbersOf(arrays, "scales");
  const Doubles zeros = arrays.contains("zeros") ? numbersOf(arrays, "zeros") : Doubles(scales.size());
  const double unit = numbersOf(arrays, "unit").at(0);
  const Bytes& codes = arrays.at("codes").bytes;
  EXPECT_EQ(codes.size(), m * rowBytes(k, b));
  EXPECT_EQ(scales.size(), one ? 1 : m * groups);
  Doubles w;
  for (Size row = 0; row < m; ++row) {
    for (Size j = 0; j < n; ++j) {
      const Size rows = std::min<Size>(16, m - row / 16 * 16);
      const Size at = one ? 0 : 16 * (row / 16) * groups + j / width * rows + row % 16;
      const double level = point(arguments.at(0), codeAt(codes, m, k, b, d, row, j / d)).at(j % d);
      const auto off = static_cast<float>(level - zeros.at(at));  // each step is rounded to float
      const auto value = static_cast<float>(scales.at(at) * static_cast<double>(off));
      w.push_back(static_cast<double>(static_cast<float>(static_cast<double>(value) * unit)));
    }
  }
  return w;
}

Doubles incoherent(const std::string& format, const Arrays& arrays, Size m, Size n) {
  const std::uint64_t seed = number(arrays.at("seed").bytes, 0, 8);
  const Doubles inside = matrix(format, inner(arrays), m, n);
  const Table left = orthonormal(m), right = orthonormal(n);
  Doubles w(m * n);
  for (Size i = 0; i < m; ++i) {
    for (Size j = 0; j < n; ++j) {
      double sum = 0;  // (Q_m^T W' Q_n)_ij
      for (Size a = 0; a < m; ++a) {
        for (Size c = 0; c < n; ++c) sum += left[a][i] * inside[a * n + c] * right[c][j];
      }
      w[i * n + j] = sign(bits(seed, 1), i) * sum * sign(bits(seed, 0), j);
    }
  }
  return w;
}

struct Entry {
  Size column;
  double value;
};

/// The entries of one row of Outliers' sparse matrix.
std::vector<Entry> outliers(const Arrays& arrays, Size permille, Size n, Size row) {
  const Size kept = 2 * std::min((n * permille + 1000) / 2000, n / 2), blocks = (n + 255) / 256;
  const Doubles values = numbersOf(arrays, "values"), indices = numbersOf(arrays, "indices"),
                counts = numbersOf(arrays, "counts");
  const double unit = numbersOf(arrays, "unit").at(0);
  std::vector<Entry> entries;
  for (Size block = 0; block < blocks; ++block) {
    const Size count =
        block + 1 < blocks ? static_cast<Size>(counts.at(row * (blocks - 1) + block)) : kept - entries.size();
    for (Size i = 0; i < count; ++i) {
      const Size at = row * kept + entries.size();
      entries.push_back({256 * block + static_cast<Size>(indices.at(at)), values.at(at) * unit});
    }
  }
  return entries;
}

Doubles matrix(const std::string& format, const Arrays& arrays, Size m, Size n) {
  const auto [kind, arguments] = split(format);
  if (kind == "Float16" || kind == "BFloat16" || kind == "float") return numbersOf(arrays, "values");
  if (kind == "PerTensor" || kind == "PerChannel" || kind == "Grouped") return scaled(kind, arguments, arrays, m, n);
  if (kind == "Incoherent") return incoherent(arguments.at(0), arrays, m, n);
  if (arguments.empty() || kind == "Symmetric" || kind == "Asymmetric") {  // a bare codebook
    return scaled("PerTensor", {format}, arrays, m, n);
  }
  Doubles w = matrix(arguments.at(0), inner(arrays), m, n);
  if (kind == "ChannelScaled") {
    const Doubles s = numbersOf(arrays, "channel_scales");
    const double unit = numbersOf(arrays, "unit").at(0);
    for (Size i = 0; i < m * n; ++i) w[i] = w[i] / s.at(i % n) * unit;
  } else if (kind == "Outliers") {
    for (Size row = 0; row < m; ++row) {
      for (const auto& [column, value] : outliers(arrays, std::stoul(arguments.at(1)), n, row)) {
        w[row * n + column] += value;
      }
    }
  } else if (kind == "MixedColumns") {
    const Doubles columns = numbersOf(arrays, "columns"), values = numbersOf(arrays, "values");
    const double unit = numbersOf(arrays, "unit").at(0);
    for (Size i = 0; i < values.size(); ++i) {
      w[i / columns.size() * n + static_cast<Size>(columns[i % columns.size()])] = values[i] * unit;
    }
  } else if (kind == "ActOrder") {
    const Doubles order = numbersOf(arrays, "order"), inside = w;
    for (Size i = 0; i < m * n; ++i) w[i / n * n + static_cast<Size>(order.at(i % n))] = inside[i];
  } else if (kind == "LowRank" || kind == "LowRankFirst") {
    const Size k = std::min({static_cast<Size>(std::stoul(arguments.at(1))), m, n});
    const Doubles left = numbersOf(arrays, "left"), right = numbersOf(arrays, "right"),
                  scales = numbersOf(arrays, "scales");
    for (Size i = 0; i < m * n; ++i) {
      for (Size q = 0; q < k; ++q) w[i] += scales.at(q) * left.at(q * m + i / n) * right.at(q * n + i % n);
    }
  } else {
    ADD_FAILURE() << "no format that LAYOUTS.md knows: " << format;
  }
  return w;
}

std::uint64_t check(const Bytes& bytes) {
  std::uint64_t h = 0xcbf29ce484222325u;
  for (Size i = 0; i < bytes.size(); i += 8) {
    h = (h ^ number(bytes, i, std::min<Size>(8, bytes.size() - i))) * 0x100000001b3u;
    h ^= h >> 32;
  }
  return h;
}

Bytes unrans(const Bytes& archive) {
  EXPECT_EQ(std::string(archive.begin(), archive.begin() + 4), "gANS");
  const auto count = static_cast<Size>(number(archive, 4, 8)), symbols = static_cast<Size>(number(archive, 20, 2));
  Bytes slots, symbol;
  std::vector<std::uint64_t> frequency, start;
  Size at = 22;
  for (Size s = 0; s < symbols; ++s, at += 3) {
    symbol.push_back(archive.at(at));
    frequency.push_back(number(archive, at + 1, 2));
    start.push_back(slots.size());
    slots.insert(slots.end(), static_cast<Size>(frequency.back()), static_cast<std::uint8_t>(s));
  }
  if (symbols < 2) return Bytes(count, symbols == 0 ? 0 : symbol[0]);
  std::array<std::uint64_t, 4> states{};
  for (std::uint64_t& x : states) {
    x = number(archive, at, 8);
    at += 8;
  }
  Bytes bytes;
  for (Size i = 0; i < count; ++i) {
    std::uint64_t& x = states[i % 4];
    const Size s = slots.at(x & 16383);
    bytes.push_back(symbol[s]);
    x = frequency[s] * (x >> 14) + (x & 16383) - start[s];
    if (x >= std::uint64_t{1} << 31) continue;
    x = x << 32 | number(archive, at, 4);
    at += 4;
  }
  EXPECT_EQ(at, archive.size());
  for (const std::uint64_t x : states) EXPECT_EQ(x, std::uint64_t{1} << 31);
  EXPECT_EQ(check(bytes), number(archive, 12, 8));
  return bytes;
}

}  // namespace reader

reader::Arrays arraysOf(const Record& record) {
  reader::Arrays arrays;
  for (const auto& [key, value] : record) {
    const auto parts = words(key);
    if (parts[0] == "array") arrays[parts[1]] = {parts[2], bytesOf(value)};
  }
  return arrays;
}

/// The library's matrix with a record's arrays.
template <class P>
P packedOf(const Record& record) {
  const reader::Arrays arrays = arraysOf(record);
  P packed = P::shaped(numberIn(record, "rows"), numberIn(record, "cols"), [&](std::string_view name) {
    const reader::Array& array = arrays.at(std::string(name));
    return static_cast<Index>(reader::numbers(array.dtype, array.bytes).size());
  });
  std::size_t visited = 0;
  packed.visitFields([&]<class T>(std::string_view name, std::span<T> values) {
    ++visited;
    const auto found = arrays.find(std::string(name));
    ASSERT_NE(found, arrays.end()) << name;
    EXPECT_EQ(found->second.dtype, dtypeName(dtypeOf<T>())) << name;
    ASSERT_EQ(found->second.bytes.size(), values.size_bytes()) << name;
    if (!values.empty()) std::memcpy(values.data(), found->second.bytes.data(), values.size_bytes());
  });
  EXPECT_EQ(visited, arrays.size());
  return packed;
}

/// A record's matrix as the library reads it, and that quantize() gives the same bytes of its weights.
template <class Format>
void checkMatrix(const Record& record, double tolerance) {
  const auto packed = packedOf<Packed<Format>>(record);
  const RowMatrixXf decoded = packed.dequantized();
  const std::vector<float> expected = floats(record.at("values"));
  ASSERT_EQ(decoded.size(), static_cast<Index>(expected.size()));
  for (std::size_t i = 0; i < expected.size(); ++i) {
    EXPECT_NEAR(decoded.data()[i], expected[i], tolerance) << "number " << i;
  }
  if constexpr (Codebook<Format> || ScaledFormat<Format> || StorageScalar<Format>) {
    std::vector<float> w = floats(record.at("weights"));
    const Eigen::Map<RowMatrixXf> weights(w.data(), packed.rows(), packed.cols());
    EXPECT_EQ(quantize<Format>(weights), QuantizedMatrix<Format>(packed));
  }
}

/// Calls check<Format>() for the format of that name.
template <class... Formats, class Check>
void withFormat(const std::string& name, const Check& check) {
  bool found = false;
  const auto tryOne = [&]<class F>(std::type_identity<F>) {
    if (Packed<F>::formatName() != name) return;
    found = true;
    check(std::type_identity<F>{});
  };
  (tryOne(std::type_identity<Formats>{}), ...);
  EXPECT_TRUE(found) << "this test knows no " << name;
}

TEST(Layouts, RandomNumbers) {
  for (const Record& record : records("random")) {
    const std::uint64_t seed = seedIn(record);
    const auto bits = words(record.at("bits"));
    const auto uniform = floats(record.at("uniform"));
    for (std::uint64_t i = 0; i < bits.size(); ++i) {
      const std::uint64_t expected = std::stoull(bits[i], nullptr, 16);
      EXPECT_EQ(randomBits(seed, i), expected);
      EXPECT_EQ(reader::bits(seed, i), expected);
      EXPECT_EQ(randomUniform(seed, i), uniform[i]);
      EXPECT_EQ(static_cast<double>(reader::bits(seed, i) >> 40) / (1 << 24), static_cast<double>(uniform[i]));
    }
  }
  for (const Record& record : records("signs")) {
    const std::string& signs = record.at("signs");
    const auto library = randomSigns<double>(seedIn(record), static_cast<Index>(signs.size()));
    for (std::size_t i = 0; i < signs.size(); ++i) {
      EXPECT_EQ(library[static_cast<Index>(i)], signs[i] == '-' ? -1 : 1);
      EXPECT_EQ(reader::sign(seedIn(record), i), signs[i] == '-' ? -1 : 1);
    }
  }
}

template <class C>
void checkTiles(const Record& record, const Bytes& bytes) {
  const Index rows = numberIn(record, "rows"), count = numberIn(record, "codes");
  const detail::TileLayout<C> layout(rows, count);
  ASSERT_EQ(static_cast<Index>(bytes.size()), layout.bytes());
  CodeMatrix<C> codes(rows, count);
  Bytes packed(bytes.size());
  for (Index block = 0; block < layout.blocks(); ++block) {
    layout.unpackBlock(bytes.data(), block, codes.row(16 * block).data(), count);
    layout.packBlock(codes.row(16 * block).data(), count, block, packed.data());
  }
  EXPECT_EQ(packed, bytes);
  const auto m = static_cast<std::size_t>(rows), k = static_cast<std::size_t>(count);
  for (std::size_t row = 0; row < m; ++row) {
    for (std::size_t i = 0; i < k; ++i) {
      const std::uint64_t expected = reader::bits(seedIn(record), row * k + i) & ((std::uint64_t{1} << C::kBits) - 1);
      EXPECT_EQ(reader::codeAt(bytes, m, k, C::kBits, C::kDim, row, i), expected) << row << ", " << i;
      EXPECT_EQ(codes(static_cast<Index>(row), static_cast<Index>(i)), expected) << row << ", " << i;
    }
  }
}

TEST(Layouts, Tiles) {
  for (const Record& record : records("tiles")) {
    const Bytes bytes = bytesOf(record.at("bytes"));
    SCOPED_TRACE(record.at("bits") + " bits");
    switch (numberIn(record, "bits")) {
      case 3:
        checkTiles<Asymmetric<3>>(record, bytes);
        break;
      case 4:
        checkTiles<Symmetric<4>>(record, bytes);
        break;
      case 16:
        checkTiles<E8P>(record, bytes);
        break;
      default:
        checkTiles<E8PRvq3>(record, bytes);
    }
  }
}

/// The state of a number of a trellis code, as the page says. sums[t]: of the rates of the tiles up to and with t.
unsigned trellisState(const Bytes& codes, std::size_t rows, std::size_t cols, const std::vector<std::size_t>& sums,
                      std::size_t row, std::size_t col) {
  constexpr std::size_t kStateBits = 14;
  const std::size_t blocks = (rows + 15) / 16, bands = std::max<std::size_t>(1, blocks / 8), block = row / 16;
  const std::size_t band = std::min(block / 8, bands - 1), end = band + 1 < bands ? 8 * band + 8 : blocks;
  const std::size_t next = block + 1 < end ? block + 1 : 8 * band;
  const auto before = [&](std::size_t tile) { return tile == 0 ? 0 : sums[tile - 1]; };
  const std::size_t last = (cols - 1) / 32, tile = col / 32, r = sums[tile] - before(tile);
  const std::size_t block_bytes = 8 * before(last) + (cols - 32 * last + 3) / 4 * (sums[last] - before(last));
  const std::size_t piece = 8 * before(tile) + col % 32 / 4 * r;
  unsigned state = 0;
  for (std::size_t i = 0; i < kStateBits; ++i) {
    const std::size_t bit = r * (4 * (row % 16) + col % 4) / 8 + i;
    const std::size_t at =
        bit < 8 * r ? 8 * (block * block_bytes + piece) + bit : 8 * (next * block_bytes + piece) + bit - 8 * r;
    state |= (codes[at / 8] >> (at % 8) & 1u) << i;
  }
  return state;
}

/// And its level at r eighths of a bit.
int trellisLevel(unsigned state, std::size_t r) {
  const auto& c = detail::kTrellis14[r - detail::kLeastTrellisRate8];
  const unsigned count = 1u << c.index_bits;
  unsigned x = state & (count - 1);
  for (int bit = 0; bit < 14 - c.index_bits; ++bit) {
    if ((state >> (c.index_bits + bit) & 1u) != 0) x ^= c.mix[bit];
  }
  return x < count / 2 ? c.half_levels[x] : -c.half_levels[count - 1 - x];
}

/// A record against the library's layout, whose sums of rates are `sums`; its states are those of the rows from one on.
template <class C>
void checkTrellis(const Record& record, const std::vector<std::size_t>& sums) {
  const Index m = numberIn(record, "rows"), n = numberIn(record, "cols");
  const Index first = record.contains("from_row") ? numberIn(record, "from_row") : 0;
  const std::vector<std::uint32_t> stored(sums.begin(), sums.end());
  const detail::TileLayout<C> layout(m, codesInRow<C>(n), stored.data());
  Bytes bytes(static_cast<std::size_t>(layout.bytes()));
  for (std::size_t i = 0; i < bytes.size(); ++i) {
    bytes[i] = static_cast<std::uint8_t>(reader::bits(seedIn(record), i) & 255);
  }
  if (record.contains("bytes")) {
    EXPECT_EQ(bytes, bytesOf(record.at("bytes")));
  }
  const std::vector<std::string> states = words(record.at("states")), levels = words(record.at("levels"));
  ASSERT_EQ(static_cast<Index>(states.size()), (m - first) * n);
  ASSERT_EQ(levels.size(), states.size());
  for (std::size_t i = 0; i < states.size(); ++i) {
    const Index row = first + static_cast<Index>(i) / n, col = static_cast<Index>(i) % n;
    const auto tile = static_cast<std::size_t>(col / 32), r = sums[tile] - (tile == 0 ? 0 : sums[tile - 1]);
    const unsigned state = trellisState(bytes, static_cast<std::size_t>(m), static_cast<std::size_t>(n), sums,
                                        static_cast<std::size_t>(row), static_cast<std::size_t>(col));
    EXPECT_EQ(std::to_string(state), states[i]) << i;
    EXPECT_EQ(layout.state(bytes.data(), row / 16, row % 16, col), static_cast<int>(state)) << i;
    EXPECT_EQ(std::to_string(trellisLevel(state, r)), levels[i]) << i;
    EXPECT_EQ(C::table(static_cast<int>(r)).level(static_cast<int>(state)), trellisLevel(state, r)) << i;
  }
}

TEST(Layouts, TrellisCodes) {
  int plain = 0, mixed = 0;
  for (const Record& record : records("trellis")) {
    if (record.at("format") == "Trellis<2>") {
      ++plain;
      checkTrellis<Trellis<2>>(record, {16});
    } else {
      ++mixed;
      ASSERT_EQ(record.at("format"), "TrellisMixed");
      std::vector<std::size_t> sums;
      for (const std::string& sum : words(record.at("rate_sums"))) sums.push_back(std::stoul(sum));
      checkTrellis<TrellisMixed>(record, sums);
    }
  }
  EXPECT_EQ(plain, 1);
  EXPECT_EQ(mixed, 1);
}

/// The formula for bytes of all widths, shapes with edges in every direction included.
template <class C>
void checkFormula() {
  for (const Index rows : {1, 15, 16, 17, 33}) {
    for (const Index count : {1, 3, 4, 5, 31, 32, 33, 41, 66}) {
      const detail::TileLayout<C> layout(rows, count);
      CodeMatrix<C> codes(rows, count);
      for (Index i = 0; i < codes.size(); ++i) {
        codes.data()[i] = static_cast<typename C::Code>(reader::bits(9, static_cast<std::uint64_t>(i)) &
                                                        ((std::uint64_t{1} << C::kBits) - 1));
      }
      Bytes bytes(static_cast<std::size_t>(layout.bytes()));
      for (Index block = 0; block < layout.blocks(); ++block) {
        layout.packBlock(codes.row(16 * block).data(), count, block, bytes.data());
      }
      const auto m = static_cast<std::size_t>(rows), k = static_cast<std::size_t>(count);
      ASSERT_EQ(bytes.size(), m * reader::rowBytes(k, C::kBits));
      for (Index i = 0; i < codes.size(); ++i) {
        const auto row = static_cast<std::size_t>(i / count), column = static_cast<std::size_t>(i % count);
        ASSERT_EQ(reader::codeAt(bytes, m, k, C::kBits, C::kDim, row, column), codes.data()[i])
            << C::name() << ", " << rows << " x " << count << ", code " << i;
      }
    }
  }
}

TEST(Layouts, TheFormulaOfTilesHoldsForEveryWidth) {
  checkFormula<Asymmetric<1>>();
  checkFormula<Asymmetric<2>>();
  checkFormula<Asymmetric<3>>();
  checkFormula<Asymmetric<4>>();
  checkFormula<Asymmetric<5>>();
  checkFormula<Asymmetric<6>>();
  checkFormula<Asymmetric<7>>();
  checkFormula<Asymmetric<8>>();
  checkFormula<Trits5>();
  checkFormula<E8P>();
  checkFormula<E8PRvq3>();
  checkFormula<E8PRvq4>();
}

TEST(Layouts, Matrices) {
  for (const Record& record : records("matrix")) {
    const std::string& format = record.at("format");
    SCOPED_TRACE(format);
    const bool inner = format.find("<PerChannel<Symmetric") != std::string::npos || format.starts_with("Outliers");
    const std::vector<float> expected = floats(record.at("values"));
    const float largest = std::abs(*std::max_element(expected.begin(), expected.end(),
                                                     [](float a, float b) { return std::abs(a) < std::abs(b); }));
    // What wrappers add may be fused or ordered as a compiler likes.
    const double tolerance = inner ? 1e-6 * static_cast<double>(largest) : 0;

    const auto m = static_cast<std::size_t>(numberIn(record, "rows")),
               n = static_cast<std::size_t>(numberIn(record, "cols"));
    const reader::Doubles read = reader::matrix(format, arraysOf(record), m, n);
    ASSERT_EQ(read.size(), expected.size());
    for (std::size_t i = 0; i < read.size(); ++i) EXPECT_NEAR(read[i], expected[i], tolerance) << "number " << i;

    withFormat<PerChannel<Symmetric<4>>, Grouped<Asymmetric<3>, 2>, E8P, PerChannel<Trits5>,
               PerTensor<NormalFloat4, BFloat16>, Float16, Incoherent<PerChannel<Symmetric<8>>>,
               ChannelScaled<PerChannel<Symmetric<4>>>, Outliers<Grouped<Asymmetric<2>, 4>, 400>,
               MixedColumns<PerChannel<Symmetric<8>>>, ActOrder<Grouped<Symmetric<4>, 2>>,
               LowRank<PerChannel<Symmetric<2>>, 1>, LowRankFirst<PerChannel<Symmetric<2>>, 1, std::int8_t>>(
        format, [&]<class F>(std::type_identity<F>) { checkMatrix<F>(record, tolerance); });
  }
}

TEST(Layouts, OutliersOfALongRow) {
  for (const Record& record : records("outliers of a long row")) {
    const auto n = static_cast<std::size_t>(numberIn(record, "cols"));
    const auto expected = words(record.at("entries"));
    const auto entries = reader::outliers(arraysOf(record), 8, n, 0);
    ASSERT_EQ(entries.size(), expected.size());
    RowMatrixXf w = RowMatrixXf::Zero(1, static_cast<Index>(n));
    for (std::size_t i = 0; i < expected.size(); ++i) {
      const auto equals = expected[i].find('=');
      EXPECT_EQ(entries[i].column, std::stoul(expected[i]));
      EXPECT_EQ(entries[i].value, std::stod(expected[i].substr(equals + 1)));
      w(0, static_cast<Index>(entries[i].column)) = std::stof(expected[i].substr(equals + 1));
    }
    const auto q = quantize<Outliers<PerTensor<Binary>, 8>>(w);
    const reader::Arrays arrays = arraysOf(record);
    q.packed().visitFields([&]<class T>(std::string_view name, std::span<T> values) {
      if (name.starts_with("inner.")) return;
      const auto* bytes = reinterpret_cast<const std::uint8_t*>(values.data());
      EXPECT_EQ(Bytes(bytes, bytes + values.size_bytes()), arrays.at(std::string(name)).bytes) << name;
    });
  }
}

template <class C>
void checkPoints(const std::string& kind, const std::string& name) {
  for (const Record& record : records(kind)) {
    const auto code = static_cast<typename C::Code>(std::stoul(record.at("code"), nullptr, 16));
    const std::vector<float> expected = floats(record.at("values"));
    float library[C::kDim];
    C::decode(code, library);
    const reader::Doubles read = kind == "e81b" ? reader::e81b(code) : reader::point(name, code);
    for (std::size_t i = 0; i < expected.size(); ++i) {
      EXPECT_FLOAT_EQ(library[i], expected[i]) << kind << ' ' << record.at("code");
      EXPECT_FLOAT_EQ(static_cast<float>(read[i]), expected[i]) << kind << ' ' << record.at("code");
    }
  }
}

TEST(Layouts, VectorCodebooks) {
  checkPoints<E8P>("e8p", "E8P");
  checkPoints<E81B>("e81b", "E81B");
  checkPoints<E8PRvq3>("E8PRvq3", "E8PRvq3");
  checkPoints<E8PRvq4>("E8PRvq4", "E8PRvq4");
  checkPoints<Trits5>("trits5", "Trits5");
}

TEST(Layouts, EveryPointOfEveryCodebook) {
  float y[8];
  for (unsigned code = 0; code < 65536; code += 31) {  // every pattern, with eight or nine low bytes
    E8P::decode(static_cast<E8P::Code>(code), y);
    const reader::Doubles point = reader::e8p(code);
    for (std::size_t i = 0; i < 8; ++i) ASSERT_EQ(static_cast<double>(y[i]), point[i]) << code;
  }
  for (unsigned code = 0; code < 256; ++code) {
    E81B::decode(static_cast<E81B::Code>(code), y);
    const reader::Doubles point = reader::e81b(code);
    for (std::size_t i = 0; i < 8; ++i) ASSERT_EQ(static_cast<double>(y[i]), point[i]) << code;
    Trits5::decode(static_cast<Trits5::Code>(code), y);
    for (std::size_t i = 0; i < 5; ++i) ASSERT_EQ(static_cast<double>(y[i]), reader::point("Trits5", code)[i]) << code;
  }
  for (unsigned q = 0; q < 16; ++q) {
    const auto code = static_cast<std::uint8_t>(q);
    EXPECT_EQ(NormalFloat4::level(code), static_cast<float>(reader::point("NormalFloat4", q)[0]));
  }
}

TEST(Layouts, HadamardMatrices) {
  for (const Record& record : records("signs of a Hadamard matrix")) {
    const Index order = numberIn(record, "order");
    const auto size = static_cast<std::size_t>(order);
    const SignMatrix library = hadamardMatrix(order);
    const reader::Table read = reader::signTable({reader::construction(size), size});
    for (const auto& [key, signs] : record) {
      if (!key.starts_with("row ")) continue;
      const std::size_t row = std::stoul(key.substr(4));
      for (std::size_t j = 0; j < size; ++j) {
        EXPECT_EQ(library(static_cast<Index>(row), static_cast<Index>(j)), signs[j] == '-' ? -1 : 1) << order;
        EXPECT_EQ(read[row][j], signs[j] == '-' ? -1 : 1) << order << ", " << row << ", " << j;
      }
    }
  }
  for (const Index order : {12, 20, 28, 36, 52, 92, 100, 116, 148, 156, 172}) {
    const auto size = static_cast<std::size_t>(order);
    const SignMatrix library = hadamardMatrix(order);
    const reader::Table read = reader::signTable({reader::construction(size), size});
    for (Index i = 0; i < library.size(); ++i) {
      ASSERT_EQ(library.data()[i], read[static_cast<std::size_t>(i / order)][static_cast<std::size_t>(i % order)])
          << order;
    }
  }
}

std::string planText(const std::vector<reader::Factor>& factors, std::size_t sylvester) {
  std::string text;
  for (const auto& [kind, order] : factors) text += (text.empty() ? "" : " x ") + kind + " " + std::to_string(order);
  if (sylvester == 1 && !factors.empty()) return text;
  return text + (text.empty() ? "" : " x ") + "sylvester " + std::to_string(sylvester);
}

std::string libraryPlan(Index n) {
  const HadamardPlan plan = hadamardPlan(n);
  std::vector<reader::Factor> factors;
  for (const HadamardFactor& factor : plan.factors) {
    constexpr const char* kNames[] = {"paley1", "paley2", "williamson", "hartley"};
    factors.push_back({kNames[static_cast<int>(factor.construction)], static_cast<std::size_t>(factor.order)});
  }
  return planText(factors, std::size_t{1} << plan.log2Sylvester);
}

std::string readerPlan(Index n) {
  const reader::Plan plan = reader::Planner(static_cast<std::size_t>(n)).best();
  return planText(plan.factors, plan.sylvester);
}

TEST(Layouts, PlansOfHadamardTransforms) {
  for (const Record& record : records("plans")) {
    for (const auto& [key, plan] : record) {
      if (key == "kind") continue;
      EXPECT_EQ(libraryPlan(std::stol(key)), plan) << key;
      EXPECT_EQ(readerPlan(std::stol(key)), plan) << key;
    }
  }
  for (Index n = 1; n <= 600; ++n) EXPECT_EQ(libraryPlan(n), readerPlan(n)) << n;
}

TEST(Layouts, Transforms) {
  for (const Record& record : records("transform")) {
    std::vector<float> x = floats(record.at("x"));
    const std::vector<float> y = floats(record.at("y"));
    const reader::Table q = reader::orthonormal(x.size());
    for (std::size_t i = 0; i < y.size(); ++i) {
      double sum = 0;
      for (std::size_t j = 0; j < x.size(); ++j) sum += q[i][j] * static_cast<double>(x[j]);
      EXPECT_NEAR(sum, y[i], 2e-6) << x.size();
    }
    Eigen::Map<Eigen::VectorXf> map(x.data(), static_cast<Index>(x.size()));
    hadamard(map);
    EXPECT_EQ(x, y);
  }
}

TEST(Layouts, CodedBytes) {
  for (const Record& record : records("rans")) {
    const Bytes bytes = bytesOf(record.at("bytes")), coded = bytesOf(record.at("archive"));
    EXPECT_EQ(encodeBytes(bytes), coded);
    EXPECT_EQ(reader::unrans(coded), bytes);
  }
}

TEST(Layouts, Archives) {
  for (const Record& record : records("archive")) {
    ASSERT_EQ(record.at("format"), "PerChannel<Symmetric<4>>");
    const Bytes bytes = bytesOf(record.at("bytes"));
    const auto q = unarchive<PerChannel<Symmetric<4>>>(bytes);
    EXPECT_EQ(archive(q), bytes);

    EXPECT_EQ(std::string(bytes.begin(), bytes.begin() + 4), "gAR2");
    std::size_t at = 4;
    const auto take = [&](std::size_t size) {
      const std::uint64_t value = reader::number(bytes, at, size);
      at += size;
      return value;
    };
    const auto text = [&] {
      const auto size = static_cast<std::size_t>(take(2));
      at += size;
      return std::string(bytes.begin() + static_cast<std::ptrdiff_t>(at - size),
                         bytes.begin() + static_cast<std::ptrdiff_t>(at));
    };
    EXPECT_EQ(text(), record.at("format"));
    EXPECT_EQ(take(8), 3u);
    EXPECT_EQ(take(8), 5u);
    reader::Arrays arrays;
    for (const std::string dtype : {"U8", "F16", "F32"}) {
      const std::string name = text();
      take(8);
      EXPECT_EQ(take(1), 0u);
      const auto size = static_cast<std::size_t>(take(8));
      arrays[name] = {dtype, Bytes(bytes.begin() + static_cast<std::ptrdiff_t>(at),
                                   bytes.begin() + static_cast<std::ptrdiff_t>(at + size))};
      at += size;
    }
    EXPECT_EQ(at, bytes.size());
    const reader::Doubles read = reader::matrix(record.at("format"), arrays, 3, 5);
    const RowMatrixXf library = q.dequantized();
    for (std::size_t i = 0; i < 15; ++i) EXPECT_EQ(read[i], static_cast<double>(library.data()[i]));
  }
}

}  // namespace
}  // namespace gosset::layouts_test
