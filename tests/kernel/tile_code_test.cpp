// SPDX-License-Identifier: Apache-2.0
#include <gosset/kernel/tile_code.hpp>

#include <gosset/codebook.hpp>
#include <gosset/kernel/e8p_tile.hpp>
#include <gosset/kernel/product.hpp>
#include <gosset/kernel/trits5_tile.hpp>

#include "testing.hpp"

namespace gosset::GOSSET_ABI::detail::tile_code_test {
namespace {

/// A user's codebook whose codes stand in no order.
struct Shuffled {
  using Code = std::uint8_t;
  static constexpr int kDim = 1, kBits = 3, kLevels = 5;
  static constexpr bool kHasZero = false;
  static constexpr ScaleRule kRule = ScaleRule::kAbsMax;
  static constexpr float level(Code q) { return q == 0 ? 0.f : (q % 2 == 0 ? -1.f : 1.f) * (q < 3 ? 2.f : 0.5f); }
  static constexpr Code encode(float x) {
    Code best = 0;
    for (Code q = 1; q < kLevels; ++q) {
      const float a = x - level(q), b = x - level(best);
      if (a * a < b * b) best = q;
    }
    return best;
  }
  static std::string name() { return "Shuffled"; }
};

/// One large level among many small ones, which bytes in one unit tell apart badly.
struct Wide : Shuffled {
  static constexpr int kBits = 4, kLevels = 16;
  static constexpr float level(Code q) { return q == 0 ? 1.f : 0.0041f * static_cast<float>(q % 4) + 0.002f; }
  static Code encode(float) { return 0; }
};
/// Levels that are their codes: one byte beyond those of 7 bits, and none.
template <int levels>
struct Plain : Shuffled {
  static constexpr int kBits = 8, kLevels = levels;
  static constexpr float level(Code q) { return static_cast<float>(q); }
};
static_assert(TileCode<Plain<128>>::kTerm[0].small && !TileCode<Plain<129>>::kTerm[0].small);

static_assert(TileCodebook<Shuffled> && ByteLevels<Shuffled>::kLargest == 8);
// 120 units would do as well as 60, but levels would no longer be bytes of 7 bits.
static_assert(ByteLevels<LloydMax<2>>::kLargest == 120);
static_assert(!TileCodebook<Wide>);

template <class C>
class TileCodeTest : public ::testing::Test {
 protected:
  using L = TileLayout<C>;

  /// All numbers of a tile of random codes, by the codebook.
  void fill(std::uint64_t seed) {
    for (Index row = 0; row < kBlockRows; ++row) {
      for (Index i = 0; i < L::kTileCodes; ++i) {
        const std::uint64_t bits = randomBits(seed, static_cast<std::uint64_t>(row * L::kTileCodes + i)) >> 16;
        typename C::Code code;
        if constexpr (ScalarCodebook<C>) {
          code = static_cast<typename C::Code>(bits % static_cast<std::uint64_t>(C::kLevels));
          expected[row][i] = C::level(code);
        } else {
          code = static_cast<typename C::Code>(bits & ((std::uint64_t{1} << C::kBits) - 1));
          C::decode(code, &expected[row][C::kDim * i]);
        }
        L::putCode(code, row, i, tile);
      }
    }
  }

  alignas(64) std::uint8_t tile[L::kTileBytes];
  float expected[kBlockRows][L::kTileColumns];

  void clear() { std::fill_n(tile, L::kTileBytes, std::uint8_t{0}); }
};
using Codebooks = ::testing::Types<Binary, Ternary, Symmetric<2>, Asymmetric<3>, Symmetric<4>, Asymmetric<5>,
                                   Asymmetric<6>, Asymmetric<7>, Symmetric<8>, NormalFloat4, LloydMax<1>, LloydMax<2>,
                                   LloydMax<3>, LloydMax<4>, Shuffled, Trits5, E81B, E8P, E8PRvq3, E8PRvq4>;
TYPED_TEST_SUITE(TileCodeTest, Codebooks);

TYPED_TEST(TileCodeTest, LevelsAreTheCodebooks) {
  for (std::uint64_t seed = 0; seed < 300; ++seed) {
    this->clear();
    this->fill(seed);
    int seen = 0;
    for (int p = 0; p < kParts; ++p) {
      TileCode<TypeParam>::levels(this->tile + p * simd::kByteLanes, [&](int column, simd::Floats level) {
        ++seen;
        for (int lane = 0; lane < simd::kWordLanes; ++lane) {
          ASSERT_EQ(level[lane], this->expected[p * simd::kWordLanes + lane][column]) << "column " << column;
        }
      });
    }
    ASSERT_EQ(seen, kParts * TileLayout<TypeParam>::kTileColumns);
  }
}

TYPED_TEST(TileCodeTest, BytesAreTheLevelsInUnits) {
  using C = TypeParam;
  using Code = TileCode<C>;
  constexpr bool kExact = [] {
    if constexpr (ScalarCodebook<C>) return ByteLevels<C>::kUniform || C::kLevels == 2;
    return true;
  }();
  for (std::uint64_t seed = 0; seed < 300; ++seed) {
    this->clear();
    this->fill(seed);
    simd::unroll<kParts * kSlices<C>>([&](auto part) {
      constexpr int kSlice = part % kSlices<C>, kPart = part / kSlices<C>;
      Tile terms[Code::kTerms];
      simd::unroll<Code::kTerms>(
          [&](auto t) { Code::template bytes<t, kSlice>(this->tile + kPart * simd::kByteLanes, terms[t]); });
      for (int i = 0; i < 8; ++i) {
        for (int at = 0; at < simd::kByteLanes; ++at) {
          float value = 0;
          for (int t = 0; t < Code::kTerms; ++t) {
            value += Code::kTerm[t].unit * static_cast<float>(terms[t][i][at] - Code::kTerm[t].zero);
            if (Code::kTerm[t].small) {
              ASSERT_LT(terms[t][i][at], 128);
            }
          }
          const int column = Code::Order::column(kSlice, i, at % 4);
          const float level = this->expected[kPart * simd::kWordLanes + at / 4][column];
          ASSERT_NEAR(value, level, kExact ? 1e-6 : 0.51 / 48);
        }
      }
    });
  }
}

/// The polynomial of a table, which machines without a shuffle of bytes take, against the table, on every machine.
template <class C>
void checkPolynomial() {
  using L = ByteLevels<C>;
  for (int code = 0; code < 16; ++code) {
    const auto index = simd::splat<simd::Bytes>(static_cast<std::uint8_t>(code));
    ASSERT_EQ(simd::polynomialOfBits<4>(L::kPolynomial.data(), index)[0], L::kTable[static_cast<std::size_t>(code)])
        << C::name() << ' ' << code;
  }
}
TEST(TileCode, PolynomialsAreTheirTables) {
  checkPolynomial<NormalFloat4>();
  checkPolynomial<LloydMax<2>>();
  checkPolynomial<LloydMax<3>>();
  checkPolynomial<LloydMax<4>>();
}

/// Every column belongs to one byte of one register of one slice; a register alone has the levels that all have.
TYPED_TEST(TileCodeTest, RegistersDivideTheColumns) {
  using C = TypeParam;
  using Order = typename TileCode<C>::Order;
  this->clear();
  this->fill(1);
  std::vector<int> seen(static_cast<std::size_t>(TileLayout<C>::kTileColumns));
  simd::unroll<kSlices<C>>([&](auto slice) {
    simd::unroll<8>([&](auto i) {
      simd::unroll<4>([&](auto k) { ++seen[static_cast<std::size_t>(Order::column(slice, i, k))]; });
      if constexpr (requires { TileCode<C>::template columns<0>(this->tile, 0, [](int, simd::Floats) {}); }) {
        TileCode<C>::template columns<slice>(this->tile, Index{i}, [&](int k, simd::Floats level) {
          for (int lane = 0; lane < simd::kWordLanes; ++lane) {
            ASSERT_EQ(level[lane], this->expected[lane][Order::column(slice, i, k)]);
          }
        });
      }
    });
  });
  EXPECT_THAT(seen, ::testing::Each(1));
}

struct Pairs : Trits5 {
  static constexpr int kDim = 2;
};

TEST(TileCode, WhoHasAKernel) {
  static_assert(hasKernel<Trits5>() && hasKernel<E8PRvq3>() && hasKernel<NormalFloat4>() && hasKernel<Shuffled>());
  static_assert(!hasKernel<Wide>() && !hasKernel<Pairs>());
  static_assert(hasKernel<Ternary>(64) && hasKernel<Ternary>(48) && hasKernel<Ternary>(8) && !hasKernel<Ternary>(20));
  static_assert(hasKernel<Trits5>(160) && !hasKernel<Trits5>(32));
  static_assert(hasKernel<E8P>(32) && !hasKernel<E8P>(16) && !hasKernel<Wide>(32));
}

TEST(ByteLevels, TablesCostLittle) {
  const auto error = []<class C>(C) {
    double off = 0, all = 0;
    for (int q = 0; q < C::kLevels; ++q) {
      const auto level = static_cast<double>(ByteLevels<C>::levelOf(q));
      const double byte = (ByteLevels<C>::kTable[static_cast<std::size_t>(q)] - ByteLevels<C>::kZero) /
                          static_cast<double>(ByteLevels<C>::kUnits);
      off += (byte - level) * (byte - level);
      all += level * level;
    }
    return std::sqrt(off / all);
  };
  EXPECT_LT(error(NormalFloat4{}), 0.0034);
  EXPECT_LT(error(LloydMax<4>{}), 0.0034);
  EXPECT_LT(error(LloydMax<3>{}), 0.001);
  EXPECT_LT(error(LloydMax<2>{}), 0.0003);
  EXPECT_LT(error(LloydMax<1>{}), 1e-7);
}

}  // namespace
}  // namespace gosset::GOSSET_ABI::detail::tile_code_test
