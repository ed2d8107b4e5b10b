// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <gosset/core/error.hpp>
#include <gosset/core/types.hpp>

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <limits>
#include <numbers>
#include <optional>
#include <utility>
#include <vector>

// Which orthogonal matrix of order n the transform multiplies by: a Kronecker product of small ones.
namespace gosset::GOSSET_ABI {

/// What can be said of all entries of an orthogonal matrix of order n.
enum class HadamardKind {
  kSylvester,  ///< n = 2^p: +-1/sqrt(n), the Walsh-Hadamard matrix in natural order
  kHadamard,   ///< +-1/sqrt(n), with factors after Paley or Williamson
  kOrthogonal  ///< no Hadamard matrix of order n is built here: |entry| <= sqrt(2/n), one factor is a Hartley matrix
};

/// How one factor is made.
enum class HadamardConstruction {
  kPaley1,      ///< order q + 1, q = 3 mod 4 a prime power
  kPaley2,      ///< order 2 (q + 1), q = 1 mod 4 a prime power
  kWilliamson,  ///< order 92, 116, 156 or 172; the only one that is not symmetric
  kHartley      ///< the discrete Hartley transform, of any order; not a Hadamard matrix
};

struct HadamardFactor {
  HadamardConstruction construction;
  Index order;
  bool operator==(const HadamardFactor&) const = default;
};

/// The matrix of order `size` is factors[0] (x) factors[1] (x) .. (x) Sylvester(2^log2Sylvester). A Hartley factor, of
/// which there is at most one, stands first.
struct HadamardPlan {
  Index size = 1;
  int log2Sylvester = 0;
  std::vector<HadamardFactor> factors;

  HadamardKind kind() const {
    if (factors.empty()) return HadamardKind::kSylvester;
    return factors[0].construction == HadamardConstruction::kHartley ? HadamardKind::kOrthogonal
                                                                     : HadamardKind::kHadamard;
  }
};

/// A matrix of +1 and -1.
using SignMatrix = Eigen::Matrix<std::int8_t, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;

namespace detail {

/// The finite field of q = p^k elements, p odd, as far as Paley's constructions need it: element a is the polynomial
/// whose coefficients are the digits of a in base p.
class QuadraticField {
 public:
  QuadraticField(Index p, int k) : p_(p), q_(1) {
    for (int i = 0; i < k; ++i) q_ *= p;
    for (Index reduction = 1; !listPowers(reduction); ++reduction) {
    }
  }

  Index size() const { return q_; }

  Index add(Index a, Index b) const { return addMultiple(a, 1, b); }

  Index subtract(Index a, Index b) const { return addMultiple(a, p_ - 1, b); }

  /// 1 for a nonzero square, -1 for a non-square, 0 for zero.
  int character(Index a) const { return character_[static_cast<std::size_t>(a)]; }

 private:
  /// a + factor * b.
  Index addMultiple(Index a, Index factor, Index b) const {
    if (q_ == p_) return (a + factor * b) % p_;
    Index sum = 0;
    for (Index place = 1; place < q_; place *= p_, a /= p_, b /= p_) sum += (a + factor * b) % p_ * place;
    return sum;
  }

  /// Lists 1, X, X^2, .. where X^k equals the polynomial `reduction`. If that meets every nonzero element, X generates
  /// the field's multiplicative group, and its even powers are the squares.
  bool listPowers(Index reduction) {
    character_.assign(static_cast<std::size_t>(q_), 0);
    const Index top = q_ / p_;
    Index power = 1;
    for (Index exponent = 0; exponent < q_ - 1; ++exponent) {
      std::int8_t& character = character_[static_cast<std::size_t>(power)];
      if (power == 0 || character != 0) return false;
      character = exponent % 2 == 0 ? 1 : -1;
      power = addMultiple(power % top * p_, power / top, reduction);
    }
    return true;
  }

  Index p_;
  Index q_;
  std::vector<std::int8_t> character_;
};

/// q = p^k for a prime p, if it is one.
inline std::optional<std::pair<Index, int>> primePower(Index q) {
  if (q < 2) return std::nullopt;
  Index p = 2;
  while (p * p <= q && q % p != 0) ++p;
  if (q % p != 0) p = q;
  int k = 0;
  for (; q % p == 0; q /= p) ++k;
  if (q != 1) return std::nullopt;
  return std::pair{p, k};
}

/// First rows of the four symmetric circulant matrices of order m in Williamson's array, for the orders 4 m that
/// Paley's constructions leave out. Bit j of a row is set where entries j and m - j are -1. Found by Baumert, Golomb
/// and Hall (m = 23, 1962), Baumert (29, 1966), Baumert and Hall (43, 1965); all are in the tables of Holzmann,
/// Kharaghani and Tayfeh-Rezaie, "Williamson matrices up to order 59", Des. Codes Cryptogr. 46 (2008).
struct WilliamsonRows {
  Index m;
  std::array<std::uint32_t, 4> rows;
};
inline constexpr WilliamsonRows kWilliamsonRows[] = {
    {23, {0x5dc, 0x192, 0x538, 0xe88}},
    {29, {0x6b38, 0xb3a, 0xe90, 0x116c}},
    {39, {0xcdf58, 0xdae98, 0xaf370, 0x47d4e}},
    {43, {0x3cda1c, 0x342b28, 0x135e04, 0x2450ce}},
};

inline const WilliamsonRows* williamsonRows(Index order) {
  for (const WilliamsonRows& rows : kWilliamsonRows) {
    if (4 * rows.m == order) return &rows;
  }
  return nullptr;
}

/// Paley's first construction, with rows negated and columns permuted (a -> -a) to make it symmetric: entry (a, b) is
/// -1 where a + b is zero or a square; a border of ones.
inline SignMatrix paleyMatrix1(const QuadraticField& field) {
  const Index q = field.size();
  SignMatrix h = SignMatrix::Ones(q + 1, q + 1);
  for (Index a = 0; a < q; ++a) {
    for (Index b = 0; b < q; ++b) h(a + 1, b + 1) = field.character(field.add(a, b)) >= 0 ? -1 : 1;
  }
  return h;
}

/// Paley's second construction. C, the symmetric conference matrix, has a border of ones, the character of a - b inside
/// and a zero diagonal; each entry c of it becomes c * [1 1; 1 -1], a zero [1 -1; -1 -1].
inline SignMatrix paleyMatrix2(const QuadraticField& field) {
  const Index q = field.size();
  SignMatrix h(2 * (q + 1), 2 * (q + 1));
  for (Index i = 0; i <= q; ++i) {
    for (Index j = 0; j <= q; ++j) {
      const int c = i == j ? 0 : i == 0 || j == 0 ? 1 : field.character(field.subtract(i - 1, j - 1));
      const auto diagonal = static_cast<std::int8_t>(c == 0 ? 1 : c);
      const auto off = static_cast<std::int8_t>(c == 0 ? -1 : c);
      h.block<2, 2>(2 * i, 2 * j) << diagonal, off, off, static_cast<std::int8_t>(-diagonal);
    }
  }
  return h;
}

/// Williamson's array [A B C D; -B A -D C; -C D A -B; -D -C B A].
inline SignMatrix williamsonMatrix(const WilliamsonRows& williamson) {
  constexpr int kBlock[4][4] = {{0, 1, 2, 3}, {1, 0, 3, 2}, {2, 3, 0, 1}, {3, 2, 1, 0}};
  constexpr int kSign[4][4] = {{1, 1, 1, 1}, {-1, 1, -1, 1}, {-1, 1, 1, -1}, {-1, -1, 1, 1}};
  const Index m = williamson.m;
  SignMatrix h(4 * m, 4 * m);
  for (Index row = 0; row < 4; ++row) {
    for (Index col = 0; col < 4; ++col) {
      const std::uint32_t bits = williamson.rows[static_cast<std::size_t>(kBlock[row][col])];
      for (Index i = 0; i < m; ++i) {
        for (Index j = 0; j < m; ++j) {
          const Index distance = std::min(std::abs(i - j), m - std::abs(i - j));
          const int entry = ((bits >> distance) & 1u) != 0 ? -1 : 1;
          h(row * m + i, col * m + j) = static_cast<std::int8_t>(kSign[row][col] * entry);
        }
      }
    }
  }
  return h;
}

}  // namespace detail

/// How the Hadamard matrix of this order is made as one factor, if it is: by Paley's constructions (J. Math. Phys. 12
/// (1933)) or, for 92, 116, 156 and 172, by Williamson's array (Duke Math. J. 11 (1944)). Orders 1, 2 and 4 are left to
/// Sylvester's.
inline std::optional<HadamardConstruction> hadamardConstruction(Index order) {
  if (order <= 4 || order % 4 != 0) return std::nullopt;
  if (detail::primePower(order - 1)) return HadamardConstruction::kPaley1;
  if (order / 2 % 4 == 2 && detail::primePower(order / 2 - 1)) return HadamardConstruction::kPaley2;
  if (detail::williamsonRows(order) != nullptr) return HadamardConstruction::kWilliamson;
  return std::nullopt;
}

/// The Hadamard matrix H of an order for which hadamardConstruction() gives one: entries +1 and -1, H H^T = order * I.
/// Any other order throws std::invalid_argument.
inline SignMatrix hadamardMatrix(Index order) {
  const auto construction = hadamardConstruction(order);
  detail::require(construction.has_value(),
                  "hadamardMatrix: order: expected one that Paley's constructions or Williamson's array give, got ",
                  order);
  if (*construction == HadamardConstruction::kWilliamson)
    return detail::williamsonMatrix(*detail::williamsonRows(order));
  const bool first = *construction == HadamardConstruction::kPaley1;
  const auto [p, k] = *detail::primePower(first ? order - 1 : order / 2 - 1);
  const detail::QuadraticField field(p, k);
  return first ? detail::paleyMatrix1(field) : detail::paleyMatrix2(field);
}

namespace detail {

/// sin and cos of x in [0, pi/4], by their Taylor series: the same bits everywhere, which std::sin does not promise.
/// The first term left out is below 2^-56.
inline double sinSmall(double x) {
  const double z = x * x;
  double sum = 0;
  for (int i = 17; i >= 3; i -= 2) sum = std::fma(sum, -z, 1.0) * (1.0 / static_cast<double>(i * (i - 1)));
  return std::fma(-x * z, sum, x);
}
inline double cosSmall(double x) {
  const double z = x * x;
  double sum = 0;
  for (int i = 18; i >= 2; i -= 2) sum = std::fma(sum, -z, 1.0) * (1.0 / static_cast<double>(i * (i - 1)));
  return std::fma(-z, sum, 1.0);
}

/// cos(2 pi i / n) + sin(2 pi i / n) for 0 <= i < n. The angle is brought into the first eighth of the circle by
/// integers, so that it is rounded once.
inline double cas(Index i, Index n) {
  const Index eighths = 8 * i;  // of n
  const Index quadrant = eighths / (2 * n);
  const Index rest = eighths - 2 * n * quadrant;  // 0 .. 2n - 1: the angle within the quadrant, in eighths of n
  const bool reflected = rest > n;
  const double angle =
      std::numbers::pi / 4 * static_cast<double>(reflected ? 2 * n - rest : rest) / static_cast<double>(n);
  const double sine = reflected ? cosSmall(angle) : sinSmall(angle);
  const double cosine = reflected ? sinSmall(angle) : cosSmall(angle);
  switch (quadrant) {
    case 0:
      return cosine + sine;
    case 1:
      return cosine - sine;
    case 2:
      return -cosine - sine;
    default:
      return sine - cosine;
  }
}

}  // namespace detail

/// The discrete Hartley transform of an order (Bracewell, J. Opt. Soc. Am. 73 (1983)): entry (i, j) is number (i j mod
/// order) of this table, (cos + sin)(2 pi i j / order) / sqrt(order). Symmetric and orthogonal.
inline std::vector<double> hartleyTable(Index order) {
  detail::require(order >= 1, "hartleyTable: order: expected at least 1, got ", order);
  const double scale = 1.0 / std::sqrt(static_cast<double>(order));
  std::vector<double> table(static_cast<std::size_t>(order));
  for (Index i = 0; i < order; ++i) table[static_cast<std::size_t>(i)] = detail::cas(i, order) * scale;
  return table;
}

namespace detail {

/// 1 / sqrt(n), without a division or a root where n is a power of two.
inline double inverseRoot(Index n) {
  if ((n & (n - 1)) != 0) return 1.0 / std::sqrt(static_cast<double>(n));
  const int log2 = std::countr_zero(static_cast<std::uint64_t>(n));
  const auto power = std::bit_cast<double>(static_cast<std::uint64_t>(1023 - log2 / 2) << 52);  // 2^-(log2 / 2)
  return log2 % 2 == 0 ? power : power * (1 / std::numbers::sqrt2);
}

/// Of a factor's order: its matrix takes as many bytes as the square of this.
inline constexpr Index kMostHadamardOrder = 1 << 14;

/// Searches the ways to write n as a product of factors for the one that costs the least.
class HadamardPlanner {
 public:
  explicit HadamardPlanner(Index n) : best_{n, std::countr_zero(static_cast<std::uint64_t>(n)), {}} {
    const Index odd = n >> best_.log2Sylvester;
    for (Index d = 3; d <= odd; d += 2) {
      if (odd % d == 0) divisors_.push_back(d);
    }
    search(odd, best_.log2Sylvester, 0, 0.0);
  }

  const HadamardPlan& best() const { return best_; }

 private:
  /// `odd` remains to be covered, `twos` factors of two are left, and the divisors before `first` have had their turn.
  void search(Index odd, int twos, std::size_t first, double cost) {
    if (odd == 1) return offer(twos, cost);
    // A Hartley matrix is the last resort: its entries are less even. The large cost says so.
    factors_.insert(factors_.begin(), {HadamardConstruction::kHartley, odd});
    offer(twos, cost + 1e12 + 2.0 * static_cast<double>(odd));
    factors_.erase(factors_.begin());
    for (std::size_t i = first; i < divisors_.size(); ++i) {
      if (odd % divisors_[i] != 0) continue;
      for (int power = 2; power <= twos; ++power) {
        const Index order = divisors_[i] << power;
        if (order > kMostHadamardOrder) break;
        const auto construction = hadamardConstruction(order);
        if (!construction) continue;
        factors_.push_back({*construction, order});
        search(odd / divisors_[i], twos - power, i, cost + 3.0 + static_cast<double>(order) / 4);
        factors_.pop_back();
        break;  // a larger order with the same odd part costs more and leaves fewer twos
      }
    }
  }

  void offer(int twos, double cost) {
    cost += twos;
    if (cost >= best_cost_) return;
    best_cost_ = cost;
    best_.log2Sylvester = twos;
    best_.factors = factors_;
  }

  HadamardPlan best_;
  double best_cost_ = std::numeric_limits<double>::infinity();
  std::vector<HadamardFactor> factors_;
  std::vector<Index> divisors_;
};

}  // namespace detail

/// The factors of the transform of order n: a product of Hadamard matrices wherever one can be built, of those the one
/// that needs the fewest additions, K/4 + 3 a number for a factor of order K; so 29568 = 12 * 28 * 44 * 2 rather than
/// 924 * 32. Where there is none (n = 2 * odd, odd n, 4 * 107, ..), or none up to 2^14, one factor is an odd Hartley
/// matrix.
/// n < 1 throws std::invalid_argument.
inline HadamardPlan hadamardPlan(Index n) {
  detail::require(n >= 1, "hadamardPlan: n: expected a length of at least 1, got ", n);
  if ((n & (n - 1)) == 0) return {n, std::countr_zero(static_cast<std::uint64_t>(n)), {}};
  return detail::HadamardPlanner(n).best();
}

/// What entries the orthogonal matrix of order n has. n < 1 throws std::invalid_argument.
inline HadamardKind hadamardKind(Index n) { return hadamardPlan(n).kind(); }

}  // namespace gosset::GOSSET_ABI
