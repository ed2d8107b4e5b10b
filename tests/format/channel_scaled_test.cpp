// SPDX-License-Identifier: Apache-2.0
#include <gosset/codebook.hpp>
#include <gosset/format/channel_scaled.hpp>
#include <gosset/format/incoherent.hpp>
#include <gosset/format/mixed_columns.hpp>
#include <gosset/matrix.hpp>
#include <gosset/rounding.hpp>
#include <gosset/theory.hpp>

#include "testing.hpp"

#include <limits>
#include <map>

namespace gosset::channel_scaled_test {
namespace {

using testing::expectThrows;
using testing::gaussian;

using Int8 = PerChannel<Symmetric<8>>;
using Int4 = Grouped<Asymmetric<4>, 64>;

Eigen::VectorXf randomScales(Index n) {
  Eigen::VectorXf s(n);
  for (Index j = 0; j < n; ++j)
    s[j] = std::ldexp(1.f + randomUniform(3, static_cast<std::uint64_t>(j)), int(j % 7) - 3);
  return s;
}

TEST(ChannelScaled, ScalesOfOneChangeNothing) {
  const RowMatrixXf w = gaussian(9, 65);
  const auto q = quantize<ChannelScaled<Int4>>(w, ChannelScales(Eigen::VectorXf::Ones(65)));
  EXPECT_EQ(q.dequantized(), quantize<Int4>(w).dequantized());
}

/// In 16-bit floats, whose numbers go from 2^-14 to below 2^16: the middle of the exponents becomes 0.
TEST(ChannelScaled, ScalesAreStoredAroundOne) {
  const auto stored = [](float a, float b) {
    return Eigen::Vector2f(detail::widenedScales(detail::storedChannelScales<Float16>(Eigen::Vector2f(a, b))));
  };
  EXPECT_EQ(stored(0x1p-10f, 0x1p10f), Eigen::Vector2f(0x1p-10f, 0x1p10f));
  EXPECT_EQ(stored(3, 0x1p21f), Eigen::Vector2f(3 * 0x1p-11f, 0x1p10f));
  EXPECT_EQ(stored(0x1p-40f, 0x1p-60f), Eigen::Vector2f(0x1p10f, 0x1p-10f));
  EXPECT_EQ(stored(1, 0x1p60f), Eigen::Vector2f(0x1p-14f, 65504)) << "what is beyond ends at the ends";
}

TEST(ChannelScaled, OnlyRatiosMatter) {
  const RowMatrixXf w = gaussian(9, 65);
  const Eigen::VectorXf s = randomScales(65);
  const auto q = quantize<ChannelScaled<Int4>>(w, ChannelScales(s));
  EXPECT_EQ(q, quantize<ChannelScaled<Int4>>(w, ChannelScales(Eigen::VectorXf(s * 0x1p90f))));
  EXPECT_EQ(q, quantize<ChannelScaled<Int4>>(w, ChannelScales(Eigen::VectorXf(s * 0x1p-90f))));
}

TEST(ChannelScaled, IsTheInnerFormatOfTheScaledMatrix) {
  const RowMatrixXf w = gaussian(8, 63);
  const auto q = quantize<ChannelScaled<Int8, float>>(w, ChannelScales(randomScales(63)));
  const Eigen::VectorXf s = q.packed().channelScales();
  const RowMatrixXf scaled = w.array().rowwise() * s.transpose().array();
  const RowMatrixXf expected = quantize<Int8>(scaled).dequantized().array().rowwise() / s.transpose().array();
  EXPECT_LT((q.dequantized() - expected).norm(), 1e-6f * expected.norm());
}

TEST(ChannelScaled, ProductsEqualThoseOfTheDequantizedMatrix) {
  for (const Index rows : {1, 9, 63}) {
    for (const Index cols : testing::kOddSizes) {
      auto q = quantize<ChannelScaled<Int4>>(gaussian(rows, cols), ChannelScales(randomScales(cols)));
      q.setActivations(Activations::kFloat);
      const RowMatrixXf dense = q.dequantized();
      for (const Index columns : {1, 3}) {
        const Eigen::MatrixXf x = gaussian(cols, columns, 2);
        const Eigen::MatrixXf y = q * x, expected = dense * x;
        const float size = (dense.cwiseAbs() * x.cwiseAbs()).norm();  // sums cancel where scales differ a lot
        EXPECT_LT((y - expected).norm(), 1e-5f * size + 1e-6f) << rows << " x " << cols;
      }
    }
  }
}

TEST(ChannelScaled, CountsItsScales) {
  const RowMatrixXf w = gaussian(9, 65);
  const Eigen::VectorXf s = randomScales(65);
  const Index inner = quantize<Int4>(w).bytes();
  EXPECT_EQ(quantize<ChannelScaled<Int4>>(w, ChannelScales(s)).bytes(), inner + 2 * 65 + 4);
  EXPECT_EQ((quantize<ChannelScaled<Int4, float>>(w, ChannelScales(s)).bytes()), inner + 4 * 65 + 4);
  EXPECT_EQ(Packed<ChannelScaled<Int4>>::formatName(), "ChannelScaled<Grouped<Asymmetric<4>, 64>>");
  EXPECT_EQ((Packed<ChannelScaled<Int8, BFloat16>>::formatName()), "ChannelScaled<PerChannel<Symmetric<8>>, BFloat16>");
}

TEST(ChannelScaled, MatricesAndScalesOfAnyMagnitude) {
  const auto error = [](float magnitude) {
    const RowMatrixXf w = gaussian(9, 65) * magnitude;
    const auto q = quantize<ChannelScaled<Int8>>(w, ChannelScales(randomScales(65)));
    return distortion(w / magnitude, q.dequantized() / magnitude).relative;
  };
  for (const float magnitude : {1e-38f, 1e-20f, 1e20f, 1e37f}) EXPECT_NEAR(error(magnitude) / error(1), 1, 0.01);
  Eigen::VectorXf wild = Eigen::VectorXf::Ones(65);
  wild[3] = std::numeric_limits<float>::max();
  wild[4] = std::numeric_limits<float>::denorm_min();
  const auto q = quantize<ChannelScaled<Int8>>(gaussian(9, 65), ChannelScales(wild));
  EXPECT_TRUE(q.dequantized().allFinite());
  EXPECT_TRUE(q.packed().isValid());
  EXPECT_TRUE(
      quantize<ChannelScaled<Int8>>(RowMatrixXf::Zero(3, 5), ChannelScales(randomScales(5))).dequantized().isZero(0));
}

TEST(ChannelScaled, RefusesScalesThatAreNone) {
  const RowMatrixXf w = gaussian(3, 5);
  const auto with = [&](float value) {
    Eigen::VectorXf s = Eigen::VectorXf::Ones(5);
    s[2] = value;
    return quantize<ChannelScaled<Int8>>(w, ChannelScales(s));
  };
  expectThrows([&] { with(0); },
               "ChannelScaled: expected channel scales that are positive and finite, got 0 for channel 2");
  expectThrows([&] { with(-1); }, "got -1 for channel 2");
  expectThrows([&] { with(std::numeric_limits<float>::quiet_NaN()); }, "positive and finite, got");
  expectThrows([&] { with(std::numeric_limits<float>::infinity()); }, "got inf for channel 2");
  expectThrows([&] { (void)quantize<ChannelScaled<Int8>>(w, ChannelScales(Eigen::VectorXf::Ones(4))); },
               "ChannelScaled: expected 5 channel scales, got 4");
  expectThrows(
      [&] {
        (void)quantize<ChannelScaled<Int8>>(RowMatrixXf::Constant(3, 5, 3e38f),
                                            ChannelScales(Eigen::VectorXf::Ones(5)));
      },
      "beyond 2^127");
}

TEST(ChannelScaled, TheRoundingSeesTheHessianOfTheDividedInputs) {
  RowMatrixXf x = gaussian(200, 65, 9);
  for (Index j = 1; j < 65; ++j) x.col(j) = 0.8f * x.col(j - 1) + 0.6f * x.col(j);
  Hessian h(65);
  h.accumulate(x);
  const RowMatrixXf w = gaussian(40, 65);
  const Eigen::VectorXf s = randomScales(65);
  using Int3 = PerChannel<Asymmetric<3>>;
  const auto loss = [&](const auto& rounding) {
    return proxyLoss(w, quantize<ChannelScaled<Int3>>(w, ChannelScales(s, rounding)).dequantized(), h);
  };
  EXPECT_LT(loss(Gptq(h)), 0.8 * loss(Nearest{}));
  // The Hessian in the scaled basis is right if rounding there equals rounding a matrix that was scaled by hand.
  const auto q = quantize<ChannelScaled<Int3, float>>(w, ChannelScales(s, Gptq(h)));
  const Eigen::VectorXf stored = q.packed().channelScales();
  Hessian divided(65);
  divided.accumulate(RowMatrixXf(x.array().rowwise() / stored.transpose().array()));
  const auto by_hand = quantize<Int3>(RowMatrixXf(w.array().rowwise() * stored.transpose().array()), Gptq(divided));
  const RowMatrixXf expected = by_hand.dequantized().array().rowwise() / stored.transpose().array();
  EXPECT_NEAR(proxyLoss(w, q.dequantized(), h) / proxyLoss(w, expected, h), 1, 0.02);
}

/// Outlier columns that try scales before they give them, and keep what came of it.
class Trying : public RoundingWrapper<Trying, OutlierColumns<>> {
 public:
  Trying(Eigen::VectorXf s, RowMatrixXf& tried, const RowMatrixXf& x)
      : RoundingWrapper<Trying, OutlierColumns<>>(OutlierColumns(x)), s_(std::move(s)), tried_(&tried) {}
  Eigen::VectorXf channelScales(const RowMatrixXf& w, const ChannelScaleTrial& trial) const {
    *tried_ = trial(w, s_) / w(0, 1);  // w comes in other units
    return s_;
  }

 private:
  Eigen::VectorXf s_;
  RowMatrixXf* tried_;
};

/// Of activations of 8, 2, 1 and 2, divided by 4, 1, 1 and 1/4, the last alone reaches 6.
TEST(ChannelScaled, ActivationsInsideAreDividedInTrialsToo) {
  RowMatrixXf x(2, 4), w(1, 4), tried;
  x << 8, -1, 1, 1, -4, 2, 1, -2;
  w << 0.75f, 1, 0.3f, 0.5f;
  const Eigen::Vector4f s(4, 1, 1, 0.25f);
  const auto q = quantize<ChannelScaled<LlmInt8, float>>(w, Trying(s, tried, x));
  EXPECT_EQ(q.packed().channelScales(), Eigen::VectorXf(s));
  EXPECT_THAT(q.packed().inner().columns(), ::testing::ElementsAre(3u));
  // The codes are those of (3, 1, 0.3, 0), whose step is 3 / 127.
  Eigen::RowVector4f expected(0.75f, 42 * 3 / 127.f, 13 * 3 / 127.f, 0.5f);
  EXPECT_LT((tried - expected).cwiseAbs().maxCoeff(), 1e-3f);
  EXPECT_EQ(tried, q.dequantized());
}

TEST(ChannelScaled, NestsWithAndAroundIncoherent) {
  const RowMatrixXf w = gaussian(12, 20);
  const Eigen::VectorXf s = randomScales(20);
  EXPECT_LT(distortion(w, quantize<ChannelScaled<Incoherent<Int8>>>(w, ChannelScales(s)).dequantized()).relative, 0.1);
}

TEST(ChannelScaled, ShapedTakesTheFieldsOfAnother) {
  const auto q = quantize<ChannelScaled<Int4>>(gaussian(9, 65), ChannelScales(randomScales(65)));
  std::map<std::string, std::string> fields;
  q.packed().visitFields([&](std::string_view name, auto values) {
    fields[std::string(name)].assign(reinterpret_cast<const char*>(values.data()), values.size_bytes());
  });
  EXPECT_EQ(fields.size(), 6u);
  auto copy = Packed<ChannelScaled<Int4>>::shaped(9, 65);
  EXPECT_TRUE(copy.isValid());
  copy.visitFields([&](std::string_view name, auto values) {
    const std::string& bytes = fields.at(std::string(name));
    ASSERT_EQ(bytes.size(), values.size_bytes());
    std::memcpy(values.data(), bytes.data(), bytes.size());
  });
  EXPECT_EQ(QuantizedMatrix<ChannelScaled<Int4>>(copy), q);
  copy.visitFields([&](std::string_view name, auto values) {
    if (name == "channel_scales") std::memset(static_cast<void*>(values.data()), 0, values.size_bytes());
  });
  EXPECT_FALSE(copy.isValid());
}

}  // namespace
}  // namespace gosset::channel_scaled_test
