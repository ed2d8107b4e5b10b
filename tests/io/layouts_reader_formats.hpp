// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "io/layouts_reader.hpp"

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <cstdint>
#include <map>
#include <numbers>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

// The same for transforms, formats, coded bytes and archives.
namespace gosset::layouts_test::reader {

struct Factor {
  std::string kind;
  Size order;
};

inline bool primePower(Size q, Size& p) {
  p = 2;
  while (p < q && q % p != 0) ++p;
  Size rest = q;
  while (rest % p == 0) rest /= p;
  return q > 1 && rest == 1;
}

inline std::string construction(Size order) {
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

inline Table signTable(const Factor& factor) {
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
inline Table orthonormal(Size n) {
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

inline Doubles numbersOf(const Arrays& arrays, const std::string& name) {
  const Array& array = arrays.at(name);
  return numbers(array.dtype, array.bytes);
}

/// What is called inner.NAME.
inline Arrays inner(const Arrays& arrays) {
  Arrays result;
  for (const auto& [name, array] : arrays) {
    if (name.starts_with("inner.")) result[name.substr(6)] = array;
  }
  return result;
}

/// m x n numbers, row after row.
inline Doubles matrix(const std::string& format, const Arrays& arrays, Size m, Size n);

inline Doubles scaled(const std::string& kind, const std::vector<std::string>& arguments, const Arrays& arrays, Size m,
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

inline Doubles incoherent(const std::string& format, const Arrays& arrays, Size m, Size n) {
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
inline std::vector<Entry> outliers(const Arrays& arrays, Size permille, Size n, Size row) {
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

inline Doubles matrix(const std::string& format, const Arrays& arrays, Size m, Size n) {
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

inline std::uint64_t check(const Bytes& bytes) {
  std::uint64_t h = 0xcbf29ce484222325u;
  for (Size i = 0; i < bytes.size(); i += 8) {
    h = (h ^ number(bytes, i, std::min<Size>(8, bytes.size() - i))) * 0x100000001b3u;
    h ^= h >> 32;
  }
  return h;
}

inline Bytes unrans(const Bytes& archive) {
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

}  // namespace gosset::layouts_test::reader
