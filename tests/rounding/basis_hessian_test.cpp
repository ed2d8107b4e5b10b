// SPDX-License-Identifier: Apache-2.0
#include <gosset/rounding/basis_hessian.hpp>

#include <gosset/codebook.hpp>
#include <gosset/format.hpp>
#include <gosset/matrix/quantize.hpp>
#include <gosset/rounding.hpp>

#include "testing.hpp"

#include <cstdint>
#include <numeric>
#include <vector>

namespace gosset::basis_hessian_test {
namespace {

/// To twice H, and to H with 1 more everywhere, in either order.
TEST(BasisHessian, ChangesComeInTheOrderInWhichTheyWereAskedFor) {
  Eigen::MatrixXd h(2, 2);
  h << 4, 1, 1, 3;
  const BasisChange twice{.hessian = [](Eigen::MatrixXd& m) { m *= 2; }, .tokens = {}};
  const BasisChange more{.hessian = [](Eigen::MatrixXd& m) { m.array() += 1; }, .tokens = {}};
  const BasisHessian plain(Hessian::fromMatrix(h));
  Eigen::Matrix2d expected;
  expected << 9, 3, 3, 7;
  EXPECT_EQ(plain.inBasis(twice).inBasis(more).matrix(), expected);
  EXPECT_EQ(plain.inBasis(twice).inBasis(more).diagonal(), Eigen::Vector2d(9, 7));
  expected << 10, 4, 4, 8;
  EXPECT_EQ(plain.inBasis(more).inBasis(twice).matrix(), expected);
  EXPECT_EQ(BasisHessian(plain).inBasis(more).inBasis(twice).matrix(), expected);
  expected << 20, 8, 8, 16;
  EXPECT_EQ(plain.inBasis(more).inBasis(twice).inBasis(twice).matrix(), expected);
  EXPECT_EQ(plain.matrix(), h) << "others are left as they are";
  EXPECT_EQ(plain.diagonal(), Eigen::Vector2d(4, 3));
  EXPECT_EQ(plain.inBasis(twice).size(), 2);
}

/// A rounding with every hook, that says in which memory the Hessian came.
class WhereIsH {
 public:
  WhereIsH(Hessian h, const double** where) : hessian_(std::move(h)), where_(where) {}

  template <ScaledFormat F>
  void round(RowMatrixXf& w, Grid<F>& grid, CodeMatrix<typename F::Codebook>& codes) const& {
    WhereIsH(*this).round(w, grid, codes);
  }
  template <ScaledFormat F>
  void round(RowMatrixXf& w, Grid<F>& grid, CodeMatrix<typename F::Codebook>& codes) && {
    const Eigen::MatrixXd h = std::move(hessian_).matrix();
    *where_ = h.data();
    Nearest{}.round(w, grid, codes);
  }
  WhereIsH inBasis(const BasisChange& change) const& { return WhereIsH(*this).inBasis(change); }
  WhereIsH inBasis(const BasisChange& change) && {
    hessian_ = std::move(hessian_).inBasis(change);
    return std::move(*this);
  }

  static constexpr unsigned kOptionalHooks =
      kChannelScalesHook | kOutlierColumnsHook | kOutlierWeightsHook | kColumnOrderHook;
  Eigen::VectorXf channelScales(const RowMatrixXf& w, const ChannelScaleTrial& trial) const {
    const Eigen::VectorXf ones = Eigen::VectorXf::Ones(w.cols());
    trial(w.topRows(1), ones);
    return ones;
  }
  std::vector<std::uint32_t> outlierColumns(Index) const { return {0}; }
  Eigen::VectorXf outlierWeights(Index n) const { return Eigen::VectorXf::Ones(n); }
  std::vector<std::uint32_t> columnOrder(Index n) const {
    std::vector<std::uint32_t> order(static_cast<std::size_t>(n));
    std::iota(order.rbegin(), order.rend(), 0u);
    return order;
  }

 private:
  BasisHessian hessian_;
  const double** where_;
};

Hessian someHessian(Index n) {
  Hessian h(n);
  h.accumulate(testing::gaussian(2 * n, n));
  return h;
}

using Plain = Grouped<Asymmetric<4>, 32>;

/// Whether a quantizer, given the last copy of a Hessian, works in that Hessian's own memory, and elsewhere while there
/// is another copy.
template <class Quantize>
void expectTakenOver(const Quantize& quantizeWith) {
  Hessian h = someHessian(32);
  const Eigen::MatrixXd before = h.matrix();
  const double* const memory = h.matrix().data();
  const double* where = nullptr;
  quantizeWith(h, &where);
  EXPECT_NE(where, nullptr);
  EXPECT_NE(where, memory);
  EXPECT_EQ(h.matrix(), before);
  quantizeWith(std::move(h), &where);
  EXPECT_EQ(where, memory);
}

template <class F>
class TakenOver : public ::testing::Test {};
using Formats = ::testing::Types<Plain, PerTensor<Symmetric<8>>, Incoherent<E8P>, Incoherent<TrellisMixed>,
                                 ChannelScaled<Plain>, MixedColumns<Plain>, Outliers<Plain, 10>, ActOrder<Plain>,
                                 LowRank<Plain, 1>, LowRankFirst<Plain, 1>, ggml::Q4_0,
                                 Incoherent<LowRank<ChannelScaled<MixedColumns<ActOrder<Outliers<Plain, 10>>>>, 1>>>;
TYPED_TEST_SUITE(TakenOver, Formats);

TYPED_TEST(TakenOver, EveryFormatHandsTheLastCopyOn) {
  const RowMatrixXf w = testing::gaussian(16, 32);
  expectTakenOver([&](Hessian h, const double** where) {
    const auto packed = quantize<TypeParam>(w, WhereIsH(std::move(h), where));
    EXPECT_EQ(packed.rows(), 16);
  });
}

TEST(TakenOver, RoundingsAroundARoundingHandTheLastCopyOn) {
  const RowMatrixXf w = testing::gaussian(16, 32);
  expectTakenOver([&](Hessian h, const double** where) {
    BySensitivity both(h, WhereIsH(h, where));
    h = Hessian(1);
    EXPECT_EQ((quantize<Outliers<Plain, 10>>(w, std::move(both)).rows()), 16);
  });
  expectTakenOver([&](Hessian h, const double** where) {
    ChannelScales scaled(Eigen::VectorXf::Ones(32), WhereIsH(std::move(h), where));
    EXPECT_EQ(quantize<Incoherent<ChannelScaled<Plain>>>(w, std::move(scaled)).rows(), 16);
  });
}

TEST(TakenOver, TheSameCodesWhoeverElseHasTheHessian) {
  const Hessian h = someHessian(32);
  const RowMatrixXf w = testing::gaussian(16, 32);
  const Ldlq ldlq(h);
  const Gptq gptq(h, {.act_order = true});
  EXPECT_EQ(quantize<Incoherent<E8P>>(w, ldlq), quantize<Incoherent<E8P>>(w, Ldlq(someHessian(32))));
  EXPECT_EQ(quantize<Incoherent<E8P>>(w, ldlq), quantize<Incoherent<E8P>>(w, ldlq)) << "it is still there";
  EXPECT_EQ(quantize<Plain>(w, gptq), quantize<Plain>(w, Gptq(someHessian(32), {.act_order = true})));
  EXPECT_EQ(quantize<Plain>(w, gptq), quantize<Plain>(RowMatrixXf(w), Gptq(h, {.act_order = true})));
  EXPECT_EQ(h.matrix(), someHessian(32).matrix());
}

}  // namespace
}  // namespace gosset::basis_hessian_test
