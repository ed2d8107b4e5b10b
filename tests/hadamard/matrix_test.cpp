// SPDX-License-Identifier: Apache-2.0
#include <gosset/hadamard/matrix.hpp>

#include <testing.hpp>

#include <bit>
#include <cmath>
#include <set>
#include <vector>

namespace gosset::matrix_test {
namespace {

using Construction = HadamardConstruction;

/// The rows of a sign matrix as bits, so that an inner product is a count of differing bits.
class PackedRows {
 public:
  explicit PackedRows(const SignMatrix& h) : order_(h.cols()), words_((order_ + 63) / 64) {
    bits_.resize(static_cast<std::size_t>(h.rows() * words_));
    for (Index i = 0; i < h.rows(); ++i) {
      for (Index j = 0; j < order_; ++j) {
        EXPECT_TRUE(h(i, j) == 1 || h(i, j) == -1);
        if (h(i, j) < 0) bits_[static_cast<std::size_t>(i * words_ + j / 64)] |= std::uint64_t{1} << (j % 64);
      }
    }
  }

  Index product(Index a, Index b) const {
    Index differing = 0;
    for (Index k = 0; k < words_; ++k) {
      differing += std::popcount(bits_[static_cast<std::size_t>(a * words_ + k)] ^
                                 bits_[static_cast<std::size_t>(b * words_ + k)]);
    }
    return order_ - 2 * differing;
  }

 private:
  Index order_;
  Index words_;
  std::vector<std::uint64_t> bits_;
};

/// Counts the pairs of rows a, b (every step-th a) whose product is not that of an orthogonal matrix.
Index wrongProducts(const SignMatrix& h, Index step) {
  const PackedRows rows(h);
  Index wrong = 0;
  for (Index a = 0; a < h.rows(); a += step) {
    for (Index b = 0; b < h.rows(); ++b) wrong += rows.product(a, b) != (a == b ? h.rows() : 0);
  }
  return wrong;
}

TEST(HadamardMatrix, HasTheOrdersInUse) {
  for (Index order : {12, 20, 24, 28, 44, 60, 84, 108, 140}) {
    EXPECT_EQ(hadamardConstruction(order), Construction::kPaley1) << order;
  }
  for (Index order : {36, 52, 76, 100, 124}) EXPECT_EQ(hadamardConstruction(order), Construction::kPaley2) << order;
  for (Index order : {92, 116, 156, 172}) EXPECT_EQ(hadamardConstruction(order), Construction::kWilliamson) << order;
  for (Index order : {-4, 0, 1, 2, 3, 4, 6, 11, 14, 43, 188, 236, 428}) {
    EXPECT_EQ(hadamardConstruction(order), std::nullopt) << order;
  }
}

TEST(HadamardMatrix, Order12IsPaleys) {
  // Entry (a, b) of the inside is -1 where a + b mod 11 is 0 or one of the squares 1, 3, 4, 5, 9.
  const SignMatrix h = hadamardMatrix(12);
  const std::set<Index> squares{0, 1, 3, 4, 5, 9};
  for (Index a = 0; a < 11; ++a) {
    EXPECT_EQ(h(0, a), 1);
    EXPECT_EQ(h(a, 0), 1);
    for (Index b = 0; b < 11; ++b) EXPECT_EQ(h(a + 1, b + 1), squares.contains((a + b) % 11) ? -1 : 1);
  }
}

TEST(HadamardMatrix, EveryOrderTo600IsOrthogonal) {
  int orders = 0;
  for (Index order = 8; order <= 600; order += 4) {
    if (!hadamardConstruction(order)) continue;
    const SignMatrix h = hadamardMatrix(order);
    EXPECT_EQ(wrongProducts(h, 1), 0) << order;
    EXPECT_EQ(h == h.transpose(), hadamardConstruction(order) != Construction::kWilliamson) << order;
    ++orders;
  }
  EXPECT_GT(orders, 80);
}

TEST(HadamardMatrix, EveryOtherFactorOfLengthsTo2048IsOrthogonal) {
  // Paley's products of rows depend on the difference of the two elements alone, so some rows against all are enough.
  std::set<Index> orders;
  for (Index n = 1; n <= 2048; ++n) {
    for (const HadamardFactor& factor : hadamardPlan(n).factors) {
      if (factor.construction != Construction::kHartley && factor.order > 600) orders.insert(factor.order);
    }
  }
  EXPECT_GT(orders.size(), 50u);
  for (Index order : orders) EXPECT_EQ(wrongProducts(hadamardMatrix(order), order / 7), 0) << order;
}

TEST(HadamardMatrix, PrimePowersMakeFields) {
  for (const auto& [p, k] : {std::pair<Index, int>{3, 1}, {3, 2}, {3, 3}, {5, 2}, {7, 2}, {3, 5}, {11, 2}, {13, 2}}) {
    const detail::QuadraticField field(p, k);
    const Index q = field.size();
    Index sum = 0;
    for (Index a = 0; a < q; ++a) {
      sum += field.character(a);
      EXPECT_EQ(field.add(field.subtract(a, 1), 1), a);
    }
    EXPECT_EQ(field.character(0), 0);
    EXPECT_EQ(field.character(1), 1);
    EXPECT_EQ(sum, 0) << "as many squares as others in the field of " << q;
  }
  EXPECT_EQ(detail::primePower(27), std::pair(Index{3}, 3));
  EXPECT_EQ(detail::primePower(2039), std::pair(Index{2039}, 1));
  for (Index q : {-1, 0, 1, 6, 15, 45, 77}) EXPECT_EQ(detail::primePower(q), std::nullopt) << q;
}

TEST(HadamardMatrix, RefusesOtherOrders) {
  testing::expectThrows([] { hadamardMatrix(188); }, "order: expected one that Paley's constructions");
  testing::expectThrows([] { hadamardMatrix(0); }, "got 0");
}

TEST(HartleyTable, IsAccurateForEveryOrderTo2048) {
  double worst = 0;
  for (Index order = 1; order <= 2048; ++order) {
    const std::vector<double> table = hartleyTable(order);
    for (Index i = 0; i < order; ++i) {
      const long double angle =
          2 * std::numbers::pi_v<long double> * static_cast<long double>(i) / static_cast<long double>(order);
      const long double exact = (std::cos(angle) + std::sin(angle)) / std::sqrt(static_cast<long double>(order));
      const long double error = (static_cast<long double>(table[static_cast<std::size_t>(i)]) - exact) *
                                std::sqrt(static_cast<long double>(order));
      worst = std::max(worst, static_cast<double>(std::abs(error)));
    }
  }
  EXPECT_LT(worst, 6e-16);
}

TEST(HartleyTable, IsOrthogonal) {
  for (Index order : {1, 2, 3, 5, 7, 8, 9, 11, 43, 63, 65, 107}) {
    const std::vector<double> table = hartleyTable(order);
    Eigen::MatrixXd h(order, order);
    for (Index i = 0; i < order; ++i) {
      for (Index j = 0; j < order; ++j) h(i, j) = table[static_cast<std::size_t>(i * j % order)];
    }
    const Eigen::MatrixXd product = h * h.transpose();
    EXPECT_TRUE(product.isIdentity(1e-14)) << order;
  }
}

TEST(HartleyTable, HasTheSameBitsEverywhere) {
  std::vector<double> all;
  for (Index order : {3, 7, 43, 107, 417, 1001}) {
    const std::vector<double> table = hartleyTable(order);
    all.insert(all.end(), table.begin(), table.end());
  }
  EXPECT_EQ(testing::hashBytes(all.data(), all.size() * sizeof(double)), 0x51cc967823fa9a77u);
}

TEST(HartleyTable, RefusesNoOrder) {
  testing::expectThrows([] { hartleyTable(0); }, "hartleyTable: order: expected at least 1, got 0");
}

TEST(HadamardPlan, KnownPlans) {
  const auto factors = [](Index n) { return hadamardPlan(n).factors; };
  using Factors = std::vector<HadamardFactor>;
  EXPECT_EQ(factors(4096), Factors{});
  EXPECT_EQ(hadamardPlan(4096).log2Sylvester, 12);
  EXPECT_EQ(factors(12), (Factors{{Construction::kPaley1, 12}}));
  EXPECT_EQ(factors(11008), (Factors{{Construction::kWilliamson, 172}}));
  EXPECT_EQ(hadamardPlan(11008).log2Sylvester, 6);
  EXPECT_EQ(factors(14336), (Factors{{Construction::kPaley1, 28}}));
  EXPECT_EQ(factors(29568),
            (Factors{{Construction::kPaley1, 12}, {Construction::kPaley1, 28}, {Construction::kPaley1, 44}}));
  const HadamardFactor twelve{Construction::kPaley1, 12};
  EXPECT_EQ(factors(144), (Factors{twelve, twelve}));  // 12 additions, 36 * 4 would take 14
  EXPECT_EQ(factors(1728), (Factors{twelve, twelve, twelve}));
  EXPECT_EQ(factors(13696), (Factors{{Construction::kHartley, 107}}));
  EXPECT_EQ(factors(417), (Factors{{Construction::kHartley, 417}}));
  EXPECT_EQ(factors(12 * 73), (Factors{{Construction::kHartley, 73}, {Construction::kPaley1, 12}}));
}

TEST(HadamardPlan, TakesNoMatrixThatFillsTheMemory) {
  for (const Index n : {Index{4} * 65521, Index{151936}, Index{1} << 20 | 4}) {
    for (const HadamardFactor& factor : hadamardPlan(n).factors) {
      EXPECT_TRUE(factor.construction == HadamardConstruction::kHartley || factor.order <= 1 << 14) << n;
    }
  }
}

TEST(HadamardPlan, CoversEveryLength) {
  for (Index n = 1; n <= 4096; ++n) {
    const HadamardPlan plan = hadamardPlan(n);
    Index product = Index{1} << plan.log2Sylvester;
    for (std::size_t k = 0; k < plan.factors.size(); ++k) {
      product *= plan.factors[k].order;
      const bool isHartley = plan.factors[k].construction == Construction::kHartley;
      EXPECT_TRUE(k == 0 || !isHartley) << n;
      if (isHartley) continue;
      EXPECT_EQ(hadamardConstruction(plan.factors[k].order), plan.factors[k].construction);
    }
    EXPECT_EQ(product, n);
    EXPECT_EQ(plan.size, n);
    const bool isPowerOfTwo = (n & (n - 1)) == 0;
    EXPECT_EQ(plan.kind() == HadamardKind::kSylvester, isPowerOfTwo) << n;
    EXPECT_TRUE(n % 4 == 0 || n <= 2 || plan.kind() == HadamardKind::kOrthogonal) << n;
  }
}

TEST(HadamardPlan, SaysTheKind) {
  EXPECT_EQ(hadamardKind(1), HadamardKind::kSylvester);
  EXPECT_EQ(hadamardKind(1 << 20), HadamardKind::kSylvester);
  for (Index n : {12, 172, 344, 2000, 5120, 11008, 13824, 29568})
    EXPECT_EQ(hadamardKind(n), HadamardKind::kHadamard) << n;
  for (Index n : {3, 7, 11, 43, 86, 188, 13696}) EXPECT_EQ(hadamardKind(n), HadamardKind::kOrthogonal) << n;
}

TEST(HadamardPlan, RefusesNoLength) {
  testing::expectThrows([] { hadamardPlan(0); }, "hadamardPlan: n: expected a length of at least 1, got 0");
  testing::expectThrows([] { hadamardKind(-3); }, "got -3");
}

}  // namespace
}  // namespace gosset::matrix_test
