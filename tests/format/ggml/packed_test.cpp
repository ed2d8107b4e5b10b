// SPDX-License-Identifier: Apache-2.0
#include <gosset/calibration/awq.hpp>
#include <gosset/format/channel_scaled.hpp>
#include <gosset/format/incoherent.hpp>
#include <gosset/format/low_rank.hpp>
#include <gosset/format/outliers.hpp>
#include <gosset/matrix/any_matrix.hpp>
#include <gosset/matrix/quantize.hpp>
#include <gosset/rounding/gptq.hpp>
#include <gosset/rounding/ldlq.hpp>
#include <gosset/rounding/stochastic.hpp>
#include <gosset/theory/proxy_loss.hpp>

#include "format/ggml/types.hpp"
#include "testing.hpp"

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <span>
#include <stdexcept>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>

namespace gosset::ggml_packed_test {
namespace {

using testing::expectThrows;
using testing::gaussian;

/// Activations of which neighbours are alike, some of them large.
RowMatrixXf someActivations(Index tokens, Index n) {
  RowMatrixXf x = gaussian(tokens, n, 5);
  for (Index j = 1; j < n; ++j) x.col(j) = 0.8f * x.col(j - 1) + 0.6f * x.col(j);
  for (Index j = 0; j < n; j += 37) x.col(j) *= 8;
  return x;
}

template <class F>
class GgmlPacked : public ::testing::Test {
 protected:
  static constexpr Index kCols = std::max<Index>(2 * F::kBlock, 64);
};
TYPED_TEST_SUITE(GgmlPacked, testing::GgmlTypes, testing::GgmlNames);

TYPED_TEST(GgmlPacked, KeepsGgmlsBytesAndNothingElse) {
  using F = TypeParam;
  const auto q = quantize<F>(gaussian(7, this->kCols));
  EXPECT_EQ(q.bytes(), 7 * this->kCols / F::kBlock * F::kBlockBytes);
  EXPECT_EQ(q.bitsPerWeight(), 8.0 * static_cast<double>(F::kBlockBytes) / static_cast<double>(F::kBlock));
  EXPECT_EQ(Packed<F>::formatName(), "ggml::" + std::string(F::kName));
  EXPECT_TRUE(q.packed().isValid());
  EXPECT_TRUE(q.owns());
  RowMatrixXf expected(7, this->kCols);
  q.packed().visitFields([&](std::string_view name, std::span<const std::uint8_t> bytes) {
    EXPECT_EQ(name, "blocks");
    for (Index i = 0; i * F::kBlock < expected.size(); ++i) {
      ggml::decodeBlock<F>(bytes.data() + i * F::kBlockBytes, expected.data() + i * F::kBlock);
    }
  });
  EXPECT_EQ(q.dequantized(), expected);
  EXPECT_EQ(q.row(3), expected.row(3));
  EXPECT_EQ(AnyMatrix(q).dequantized(), expected);
}

/// No error may exceed what ggml's quantizers make of N(0,1) without importance, by these measured values.
TYPED_TEST(GgmlPacked, ErrorsOnGaussiansAreBelowGgmls) {
  using F = TypeParam;
  const RowMatrixXf w = gaussian(32, 1024);
  constexpr std::pair<std::string_view, double> kTheirs[] = {
      {"Q4_0", .007385}, {"Q4_1", .006095}, {"Q5_0", .001833},   {"Q5_1", .001430},   {"Q8_0", .000029},
      {"Q2_K", .088366}, {"Q3_K", .022659}, {"Q4_K", .005078},   {"Q5_K", .001304},   {"Q6_K", .000314},
      {"TQ1_0", .65472}, {"TQ2_0", .65472}, {"IQ4_NL", .005806}, {"IQ4_XS", .005896}, {"MXFP4", .013026}};
  double theirs = 0;
  for (const auto& [name, error] : kTheirs) theirs += name == F::kName ? error : 0;
  const auto error = [&](const auto& q) {
    return static_cast<double>((q.dequantized() - w).squaredNorm() / w.squaredNorm());
  };
  const double ours = error(quantize<F>(w)), thorough = error(quantize<F>(w, Nearest{}, {.fit = LeastSquares{}}));
  EXPECT_LT(ours, theirs);
  EXPECT_LE(thorough, ours);
  for (const float factor : {0x1p-10f, 0x1p6f}) {
    const RowMatrixXf scaled = factor * w;
    const auto q = quantize<F>(scaled);
    EXPECT_LT(static_cast<double>((q.dequantized() - scaled).squaredNorm() / scaled.squaredNorm()), 1.05 * theirs);
  }
}

TYPED_TEST(GgmlPacked, NumbersThatItHoldsComeBack) {
  using F = TypeParam;
  using C = typename F::Levels;
  RowMatrixXf w(2, this->kCols);
  for (Index i = 0; i < w.size(); ++i) {  // each group of 16 has both ends
    const std::uint64_t code = i % 16 == 0   ? 0
                               : i % 16 == 1 ? C::kLevels - 1
                                             : randomBits(3, static_cast<std::uint64_t>(i)) % C::kLevels;
    w.data()[i] = 0.25f * C::level(static_cast<std::uint8_t>(code));
  }
  // Steps of scales make only those exact that are multiples of the block's.
  const double error =
      static_cast<double>((quantize<F>(w, Nearest{}, {.fit = LeastSquares{}}).dequantized() - w).norm());
  EXPECT_LE(error, F::kMostStep == 1 ? 0. : 1e-3 * static_cast<double>(w.norm()));
  const RowMatrixXf zero = RowMatrixXf::Zero(2, this->kCols);
  EXPECT_EQ(quantize<F>(zero).dequantized(), zero);
  EXPECT_TRUE(quantize<F>(zero).packed().isValid());
}

TYPED_TEST(GgmlPacked, ProductsAreThoseOfItsNumbers) {
  using F = TypeParam;
  for (const Index rows : {1, 7, 9, 65, 172}) {
    auto q = quantize<F>(gaussian(rows, this->kCols));
    const Eigen::MatrixXd w = q.dequantized().template cast<double>();
    for (const Index tokens : {1, 3, 20}) {
      Eigen::MatrixXf x = gaussian(this->kCols, tokens, 2);
      x(5, 0) = 100;  // which dwarfs its neighbours
      const Eigen::MatrixXf back = gaussian(rows, tokens, 3);
      const Eigen::MatrixXd y = w * x.cast<double>(), z = w.transpose() * back.cast<double>();
      EXPECT_LT(((q.transpose() * back).template cast<double>() - z).norm(), 1e-5 * z.norm());
      for (const auto& [how, tolerance] : {std::pair{Activations::kFloat, 1e-5},
                                           {Activations::kRounded, 0.02},
                                           {Activations::kRoundedPerToken, 0.4}}) {
        q.setActivations(how);
        const Eigen::MatrixXf product = q * x;
        EXPECT_LT((product.cast<double>() - y).norm(), tolerance * y.norm())
            << rows << " " << tokens << " " << tolerance;
        Eigen::MatrixXf part = Eigen::MatrixXf::Zero(rows, tokens);
        for (Index first = 0; first < rows; first += 50) {
          q.multiplyRows(first, std::min<Index>(50, rows - first), x, part);
        }
        EXPECT_EQ(part, product);
      }
    }
  }
}

TYPED_TEST(GgmlPacked, FeedbackLowersTheLoss) {
  using F = TypeParam;
  const Index n = std::max<Index>(F::kBlock, 256);
  Hessian h(n);
  h.accumulate(someActivations(512, n));
  const RowMatrixXf w = gaussian(24, n);
  const auto loss = [&](const auto& q) { return proxyLoss(w, q.dequantized(), h); };
  const double nearest = loss(quantize<F>(w)), gptq = loss(quantize<F>(w, Gptq{h}));
  EXPECT_LT(gptq, 0.6 * nearest);
  EXPECT_LT(loss(quantize<F>(w, Gptq{h, {.act_order = true}})), 0.6 * nearest);
  EXPECT_LT(loss(quantize<F>(w, Ldlq{h})), 0.6 * nearest);
  EXPECT_LE(loss(quantize<F>(w, Gptq{h, {.sweeps = 2}})), gptq);
}

TYPED_TEST(GgmlPacked, RefusesWhatItCannotHold) {
  using F = TypeParam;
  const std::string name = "ggml::" + std::string(F::kName);
  for (const Index cols : {Index{1}, F::kBlock - 1, F::kBlock + 1, F::kBlock / 2}) {
    expectThrows([&] { (void)quantize<F>(RowMatrixXf::Ones(4, cols)); },
                 "quantize: " + name + " keeps rows in blocks of " + std::to_string(F::kBlock) +
                     " numbers, got rows of " + std::to_string(cols));
  }
  RowMatrixXf w = gaussian(2, this->kCols);
  expectThrows([&] { (void)quantize<F>(w, Nearest{}, {.fit = Percentile{99}}); },
               "Percentile: " + name + " searches the scales of its blocks");
  if (!std::is_same_v<F, ggml::MXFP4>) {
    w(1, 3) = 1e9f;
    expectThrows([&] { (void)quantize<F>(w); }, "quantize: the matrix holds a magnitude of 1e+09, beyond the ");
    expectThrows(
        [&] { (void)quantize<F>(RowMatrixXf::Constant(1, this->kCols, 1e-12f)); },
        "quantize: the largest magnitude of the matrix is 1e-12, so small that " + name + " would hold nothing of it");
  }
  w(1, 3) = std::numeric_limits<float>::quiet_NaN();
  expectThrows([&] { (void)quantize<F>(w); }, "quantize: expected numbers that are finite in float, got nan at (1, 3)");
  w(1, 3) = std::numeric_limits<float>::infinity();
  expectThrows([&] { (void)quantize<F>(w); }, "quantize: expected numbers that are finite in float, got inf at (1, 3)");
  expectThrows([&] { (void)quantize<F>(RowMatrixXf(0, this->kCols)); }, "quantize: the matrix is empty");
}

TYPED_TEST(GgmlPacked, FaultsOfItsBytes) {
  using F = TypeParam;
  for (const Index more : {Index{1}, Index{8}, F::kBlock / 2}) {
    EXPECT_EQ(Packed<F>::shaped(3, F::kBlock + more).fault(),
              "blocks: expected rows of a multiple of " + std::to_string(F::kBlock) + " numbers");
  }
  auto packed = Packed<F>::shaped(3, F::kBlock);
  EXPECT_TRUE(packed.isValid());
  EXPECT_EQ(Packed<F>().rows(), 0);
  EXPECT_TRUE(Packed<F>().isValid());
  if (std::is_same_v<F, ggml::MXFP4>) return;  // all exponents are scales
  packed.visitFields([](std::string_view, std::span<std::uint8_t> bytes) {
    std::fill(bytes.end() - F::kBlockBytes, bytes.end(), std::uint8_t{0xff});
  });
  EXPECT_EQ(packed.fault(), "blocks: expected finite scales");
}

TEST(GgmlFormats, OtherRoundingsAndWrappers) {
  const RowMatrixXf w = gaussian(16, 256), x = someActivations(256, 256);
  const auto error = [&](const auto& q) {
    return static_cast<double>((q.dequantized() - w).squaredNorm() / w.squaredNorm());
  };
  EXPECT_LT(error(quantize<ggml::Q4_K>(w, Stochastic{.seed = 3})), 0.02);
  EXPECT_GT(error(quantize<ggml::Q4_0>(w, Stochastic{.seed = 3})), error(quantize<ggml::Q4_0>(w)));
  EXPECT_LT(error(quantize<Incoherent<ggml::Q4_0>>(w)), 0.01);
  EXPECT_LT(error(quantize<Outliers<ggml::Q3_K, 10>>(w)), 0.03);
  EXPECT_LT(error(quantize<LowRank<ggml::Q2_K, 4>>(w)), 0.08);
  Hessian h(256);
  h.accumulate(x);
  const auto scaled = quantize<ChannelScaled<ggml::Q4_K>>(w, Awq(x)),
             plain = quantize<ChannelScaled<ggml::Q4_K>>(w, Awq(x, {.clip = true}));
  EXPECT_LT(proxyLoss(w, scaled.dequantized(), h), proxyLoss(w, quantize<ggml::Q4_K>(w).dequantized(), h));
  EXPECT_LT(proxyLoss(w, plain.dequantized(), h), proxyLoss(w, quantize<ggml::Q4_K>(w).dequantized(), h));
}

/// The mean over seeds of what Stochastic gives is the number itself, with scales of either sign.
TEST(GgmlFormats, StochasticIsUnbiased) {
  RowMatrixXf w = gaussian(1, 32);
  w(0, 5) = 4;  // the end of the levels: Q4_0 has more of them below 0, so the scale is negative
  RowMatrixXf sum = RowMatrixXf::Zero(1, 32);
  constexpr int kSeeds = 2000;
  for (int seed = 0; seed < kSeeds; ++seed)
    sum += quantize<ggml::Q4_0>(w, Stochastic{.seed = static_cast<std::uint64_t>(seed)}).dequantized();
  sum /= kSeeds;
  sum(0, 5) = w(0, 5);
  EXPECT_LT((sum - w).cwiseAbs().maxCoeff(), 0.06f);
}

TEST(GgmlFormats, SameBitsEverywhere) {
  const RowMatrixXf w = gaussian(8, 512);
  const auto hash = [&](const auto& q) {
    std::uint64_t result = 0;
    q.packed().visitFields(
        [&](std::string_view, auto bytes) { result = testing::hashBytes(bytes.data(), bytes.size_bytes()); });
    return result;
  };
  EXPECT_EQ(hash(quantize<ggml::Q4_0>(w)), 0x9f8bc4faccc2973fu);
  EXPECT_EQ(hash(quantize<ggml::Q5_1>(w)), 0x981c977a787e9c83u);
  EXPECT_EQ(hash(quantize<ggml::MXFP4>(w)), 0x2e1838fc79b3fe5bu);
  EXPECT_EQ(hash(quantize<ggml::Q2_K>(w)), 0x217b2e2e7e8a9636u);
  EXPECT_EQ(hash(quantize<ggml::Q3_K>(w)), 0xb181d052eec762d9u);
  EXPECT_EQ(hash(quantize<ggml::Q4_K>(w)), 0x8e98eb2d957a184cu);
  EXPECT_EQ(hash(quantize<ggml::Q6_K>(w)), 0x67a57c9fc9aa8346u);
  EXPECT_EQ(hash(quantize<ggml::IQ4_XS>(w)), 0x994170a5447f9ff2u);
  EXPECT_EQ(hash(quantize<ggml::TQ2_0>(w)), 0xb818f8afed16f50fu);
  EXPECT_EQ(hash(quantize<ggml::Q4_K>(w, Nearest{}, {.fit = LeastSquares{}})), 0xde6b7f0935cdd306u);
}

}  // namespace
}  // namespace gosset::ggml_packed_test
