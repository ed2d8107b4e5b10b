// SPDX-License-Identifier: Apache-2.0
#include <gosset/calibration/awq.hpp>
#include <gosset/codebook/asymmetric.hpp>
#include <gosset/format.hpp>
#include <gosset/matrix/quantize.hpp>
#include <gosset/rounding.hpp>

#include "testing.hpp"

#include <bit>
#include <cmath>
#include <span>
#include <string_view>

// What a rounding is given inside a format that changes the basis of the inputs: the inner codes must be those of the
// changed matrix with a Hessian that was changed by hand.
namespace gosset::basis_test {
namespace {

using testing::gaussian;
using Codes = Grouped<Asymmetric<3>, 16>;
using Sparse = Outliers<Codes, 60>;
using Scaled = ChannelScaled<Codes, float>;

constexpr Index kInputs = 64, kOutputs = 16;  // powers of two, whose Hadamard matrices are Sylvester's

RowMatrixXf tokens() {
  RowMatrixXf x = gaussian(200, kInputs, 3);
  for (Index j = 1; j < kInputs; ++j) x.col(j) += 0.75f * x.col(j - 1);
  for (Index j = 0; j < kInputs; j += 5) x.col(j) *= 6.f;
  return x;
}

Hessian hessian() {
  Hessian h(kInputs);
  h.accumulate(tokens());
  return h;
}

/// H S of size n: +-1 / sqrt(n), times a sign a column.
Eigen::MatrixXd rotation(std::uint64_t seed, Index n) {
  Eigen::MatrixXd v(n, n);
  for (Index i = 0; i < n; ++i) {
    for (Index j = 0; j < n; ++j) {
      const bool odd = std::popcount(static_cast<std::uint64_t>(i & j)) % 2 != 0;
      v(i, j) = (odd ? -1 : 1) / std::sqrt(static_cast<double>(n)) *
                static_cast<double>(randomSign(seed, static_cast<std::uint64_t>(j)));
    }
  }
  return v;
}

const auto kLdlq = [](const Hessian& h) { return Ldlq(h, {.sweeps = 1}); };
const auto kGptq = [](const Hessian& h) { return Gptq(h); };
const auto kAwq = [](const Hessian& h) { return Awq(h); };
const auto kSensitivity = [](const Hessian& h) { return BySensitivity(h); };
const auto kSensitivityGptq = [](const Hessian& h) { return BySensitivity(h, Gptq(h)); };

/// A code of the 1024 that differs is about a hundredth of the matrix.
void expectAlike(const RowMatrixXf& a, const RowMatrixXf& b) { EXPECT_LT((a - b).norm(), 1e-5f * b.norm()); }

/// rounding(h) makes it of a Hessian. W' = U W V^T and H' = V H V^T, the signs of the inputs being drawn from number 0
/// of the seed's stream, those of the outputs from number 1.
template <class F, class MakeRounding>
void expectRotated(const MakeRounding& rounding) {
  constexpr std::uint64_t kSeed = 9;
  const RowMatrixXf w = gaussian(kOutputs, kInputs, 8);
  const Hessian h = hessian();
  const Eigen::MatrixXd u = rotation(randomBits(kSeed, 1), kOutputs), v = rotation(randomBits(kSeed, 0), kInputs);
  const RowMatrixXf turned = (u * w.cast<double>() * v.transpose()).cast<float>();
  const auto inner = quantize<F>(turned, rounding(Hessian::fromMatrix(v * h.matrix() * v.transpose())));
  const auto unturned = quantize<F>(turned, rounding(h));
  EXPECT_GT((inner.dequantized() - unturned.dequantized()).norm(), 1e-3f * w.norm()) << "the basis decides nothing";
  const auto q = quantize<Incoherent<F>>(w, rounding(h), {.seed = kSeed});
  expectAlike(q.dequantized(),
              (u.transpose() * inner.dequantized().template cast<double>() * v).template cast<float>());
}

/// A rounding that is only given away.
struct GivenAway {
  bool changed = false;
  GivenAway inBasis(const BasisChange&) && { return {true}; }
};

TEST(Basis, ARoundingThatIsGivenAwayFollows) { EXPECT_TRUE(inBasis(GivenAway{}, BasisChange{}).changed); }

TEST(Basis, RoundingsSeeTheRotatedInputs) {
  expectRotated<Codes>(kLdlq);
  expectRotated<Codes>(kGptq);
  expectRotated<Codes>(kAwq);
  expectRotated<Scaled>(kAwq);
  expectRotated<Sparse>(kSensitivity);
  expectRotated<Sparse>(kSensitivityGptq);
}

/// W' = W diag(s) and H' = diag(1/s) H diag(1/s), s being powers of two, so that nothing is rounded.
template <class F, class MakeRounding>
void expectScaled(const MakeRounding& rounding) {
  const RowMatrixXf w = gaussian(kOutputs, kInputs, 8);
  const Hessian h = hessian();
  Eigen::VectorXf s(kInputs);
  for (Index j = 0; j < kInputs; ++j) s[j] = std::ldexp(1.f, static_cast<int>(j % 5) - 2);
  const Eigen::VectorXd inverse = s.cast<double>().cwiseInverse();
  const auto divided = Hessian::fromMatrix(inverse.asDiagonal() * h.matrix() * inverse.asDiagonal());
  const RowMatrixXf scaled = w * s.asDiagonal();
  const auto inner = quantize<F>(scaled, rounding(divided));
  const auto undivided = quantize<F>(scaled, rounding(h));
  EXPECT_GT((inner.dequantized() - undivided.dequantized()).norm(), 1e-3f * w.norm()) << "the basis decides nothing";
  const auto q = quantize<ChannelScaled<F, float>>(w, ChannelScales(s, rounding(h)));
  expectAlike(q.dequantized() * s.asDiagonal(), inner.dequantized());
}

TEST(Basis, RoundingsSeeTheDividedInputs) {
  expectScaled<Codes>(kLdlq);
  expectScaled<Codes>(kAwq);
  expectScaled<Sparse>(kSensitivity);
}

/// Tokens that are loud in one input once they are turned: X = Y V, so that X V^T = Y.
TEST(Basis, OutlierColumnsAreThoseOfTheRotatedTokens) {
  constexpr std::uint64_t kSeed = 9;
  RowMatrixXf y = 0.1f * gaussian(20, kInputs, 3);
  y.col(5).setConstant(20.f);
  const RowMatrixXf x = (y.cast<double>() * rotation(randomBits(kSeed, 0), kInputs)).cast<float>();
  const RowMatrixXf w = gaussian(kOutputs, kInputs, 8);
  const auto q = quantize<Incoherent<LlmInt8>>(w, OutlierColumns(x), {.seed = kSeed});
  q.packed().visitFields([]<class T>(std::string_view name, std::span<T> values) {
    if (name != "inner.columns") return;
    ASSERT_EQ(values.size(), 1u);
    EXPECT_EQ(values[0], T(5));
  });
  EXPECT_TRUE(OutlierColumns(x).columns().empty()) << "none is loud before";
}

}  // namespace
}  // namespace gosset::basis_test
