// SPDX-License-Identifier: Apache-2.0
#include <gosset/calibration/awq.hpp>
#include <gosset/codebook.hpp>
#include <gosset/codebook/trellis.hpp>
#include <gosset/format.hpp>
#include <gosset/matrix/any_matrix.hpp>
#include <gosset/matrix/quantize.hpp>
#include <gosset/rounding/hessian.hpp>
#include <gosset/rounding/ldlq.hpp>
#include <gosset/rounding/outlier_columns.hpp>
#include <gosset/rounding/stochastic.hpp>

#include "same_bits.hpp"

#include <functional>
#include <span>
#include <string_view>
#include <type_traits>
#include <variant>

namespace gosset::same_bits_test {
namespace {

using testing::hashOf;
using testing::OnEverySet;
using testing::SameBits;
using testing::SameOn;

std::uint64_t storedHash(const AnyPacked& packed) {
  std::string bytes;
  packed.visitFields([&](std::string_view, const AnyField& field) {
    std::visit([&](auto values) { bytes.append(reinterpret_cast<const char*>(values.data()), values.size_bytes()); },
               field);
  });
  return testing::hashBytes(bytes.data(), bytes.size());
}

std::uint64_t productHash(const AnyPacked& packed, Index tokens, Activations activations) {
  const Eigen::MatrixXf x = testing::sameNumbers(packed.cols(), tokens, 2);
  Eigen::MatrixXf y(packed.rows(), tokens);
  packed.multiply(x, y, activations);
  return hashOf(y);
}

std::uint64_t transposedHash(const AnyPacked& packed, Index tokens) {
  const Eigen::MatrixXf x = testing::sameNumbers(packed.rows(), tokens, 3);
  Eigen::MatrixXf y = Eigen::MatrixXf::Ones(packed.cols(), tokens);
  packed.addTransposed(x, y);
  return hashOf(y);
}

/// What is stored, what it stands for, and products, of which two kinds are the same on fewer machines.
void checkMatrix(SameBits& bits, const std::string& name, const AnyMatrix& q, SameOn one_float, SameOn transposed) {
  const AnyPacked& packed = q.packed();
  bits.check(name + " stored", storedHash(packed));
  bits.check(name + " decoded", hashOf(q.dequantized()));
  bits.check(name + " x 1", productHash(packed, 1, Activations::kRounded));
  bits.check(name + " x 19", productHash(packed, 19, Activations::kRounded));
  bits.check(name + " x 19 by token", productHash(packed, 19, Activations::kRoundedPerToken));
  bits.check(name + " x 1 float", productHash(packed, 1, Activations::kFloat), one_float);
  bits.check(name + " x 19 float", productHash(packed, 19, Activations::kFloat));
  bits.check(name + " transposed x 3", transposedHash(packed, 3), transposed);
  bits.check(name + " transposed x 19", transposedHash(packed, 19));
}

/// W in a format and a rounding.
template <class Format, class Rounding = Nearest>
AnyMatrix packed(const Rounding& rounding = {}) {
  return AnyMatrix(quantize<Format>(testing::sameNumbers(150, 200, 1), rounding));
}

TEST_P(OnEverySet, OfCodesWithKernels) {
  SameBits bits({
      {"asymmetric stored", 0x3196deed4a131d95u},
      {"asymmetric decoded", 0x801966bd4fde604bu},
      {"asymmetric x 1", 0xfa7969c8576b95f0u},
      {"asymmetric x 19", 0x8091d19aadc68ce0u},
      {"asymmetric x 19 by token", 0x97296e4567cf22b2u},
      {"asymmetric x 1 float", 0xb50a4b707fe08358u},
      {"asymmetric x 19 float", 0x365f5379e782f010u},
      {"asymmetric transposed x 3", 0xa4c745c365f03d69u},
      {"asymmetric transposed x 19", 0x4086c33beb1b8a0au},
      {"symmetric stored", 0x6f682f9f7558496bu},
      {"symmetric decoded", 0xb978971fbe191c84u},
      {"symmetric x 1", 0x9f3a3a184a76b0bau},
      {"symmetric x 19", 0xa365f244f2152a56u},
      {"symmetric x 19 by token", 0xd2d6a2567ebf7a6fu},
      {"symmetric x 1 float", 0x4568c5a33e8ea8a8u},
      {"symmetric x 19 float", 0xbd25a18b58238d05u},
      {"symmetric transposed x 3", 0x070ab7182b8020d2u},
      {"symmetric transposed x 19", 0xba9085de205970e4u},
      {"nf4 stored", 0x95b5f05b9469a2deu},
      {"nf4 decoded", 0xe1da659f582e564cu},
      {"nf4 x 1", 0x38b5ef6fa422e2c1u},
      {"nf4 x 19", 0xf6fd2369a4258730u},
      {"nf4 x 19 by token", 0xb090b62e50f5c34du},
      {"nf4 x 1 float", 0x0643ad427f93caf6u},
      {"nf4 x 19 float", 0x47b28dfd62204a93u},
      {"nf4 transposed x 3", 0x337148ceb862deaeu},
      {"nf4 transposed x 19", 0x3e86b46d71f5e3abu},
      {"e8p stored", 0xad592afdff06a865u},
      {"e8p decoded", 0x34e8b3fbeed0a934u},
      {"e8p x 1", 0x71c9b819bf0fcf4eu},
      {"e8p x 19", 0xfde1bdf4dbbadda2u},
      {"e8p x 19 by token", 0x1ad662f66234dc05u},
      {"e8p x 1 float", 0xee9a87e5623b608fu},
      {"e8p x 19 float", 0x9634412fc5481fbcu},
      {"e8p transposed x 3", 0x4b0a4ea60b076b4eu},
      {"e8p transposed x 19", 0x1cb2db7ed8fc72d9u},
  });
  checkMatrix(bits, "asymmetric", packed<Grouped<Asymmetric<4>, 32>>(), SameOn::kFma, SameOn::kDot);
  checkMatrix(bits, "symmetric", packed<PerChannel<Symmetric<8>>>(Stochastic{.seed = 3}), SameOn::kFma, SameOn::kDot);
  checkMatrix(bits, "nf4", packed<Grouped<NormalFloat4, 64>>(), SameOn::kFma, SameOn::kFma);
  checkMatrix(bits, "e8p", packed<PerChannel<E8P>>(), SameOn::kFma, SameOn::kDot);
  bits.finish();
}

/// Rates of tiles by feedback too, for which Eigen's factorizations promise nothing.
TEST_P(OnEverySet, OfTrellises) {
  SameBits bits({
      {"trellis stored", 0x9582167d75115f24u},
      {"trellis decoded", 0x17c0468c24060486u},
      {"trellis x 1", 0x8b65dc0f183516b3u},
      {"trellis x 19", 0xa69e44ddd251ff2au},
      {"trellis x 19 by token", 0x77918b34ecd158aau},
      {"trellis x 1 float", 0xd9309825729de428u},
      {"trellis x 19 float", 0x43c3b6d396db2dc4u},
      {"trellis transposed x 3", 0x9e3e1ead06a6250du},
      {"trellis transposed x 19", 0xb6036b9e34e50279u},
      {"mixed stored", 0x0d81028c8eb30db5u},
      {"mixed decoded", 0x898ddc21e0d044f9u},
      {"mixed x 1", 0xbda743299b236dacu},
      {"mixed x 19", 0x851d02e0b48b9343u},
      {"mixed x 19 by token", 0x1bd547f22f6bb987u},
      {"mixed x 1 float", 0x49c970bbd5f92f8du},
      {"mixed x 19 float", 0xfa6f54e1467ea2b4u},
      {"mixed transposed x 3", 0x4820599604331b09u},
      {"mixed transposed x 19", 0xa45fdc3e5b11435au},
      {"trellis by feedback stored", 0x2c4a1ef0e08a8c05u},
      {"mixed to nearest stored", 0x78292c27e06a5d96u},
  });
  Hessian h(200);
  h.accumulate(testing::sameActivations(300, 200, 6));
  checkMatrix(bits, "trellis", packed<PerChannel<Trellis<2>>>(), SameOn::kFma, SameOn::kDot);
  checkMatrix(bits, "mixed", packed<Grouped<TrellisMixed, 32>>(Ldlq(h, {.mean_bits = 2.5})), SameOn::kFma,
              SameOn::kDot);
  bits.check("trellis by feedback stored", storedHash(packed<PerChannel<Trellis<2>>>(Ldlq(h)).packed()));
  bits.check("mixed to nearest stored", storedHash(packed<Grouped<TrellisMixed, 32>>().packed()));
  bits.finish();
}

/// A codebook without a kernel: signs of four numbers, and whether they are large.
struct Signs {
  using Code = std::uint8_t;
  static constexpr int kDim = 4, kBits = 5;
  static constexpr ScaleRule kRule = ScaleRule::kRootMeanSquare;
  static constexpr float kGaussianScale = 1;
  static Code encode(const float* x) {
    int code = std::abs(x[0]) + std::abs(x[1]) > 0.75f ? 16 : 0;
    for (int i = 0; i < 4; ++i) code |= (x[i] < 0 ? 1 : 0) << i;
    return static_cast<Code>(code);
  }
  static void decode(Code q, float* y) {
    for (int i = 0; i < 4; ++i) y[i] = ((q >> i) % 2 == 0 ? 0.3f : -0.3f) * (q < 16 ? 1.f : 2.f);
  }
  static std::string name() { return "Signs"; }
};

TEST_P(OnEverySet, OfOtherFormats) {
  SameBits bits({
      {"groups of 24 stored", 0x40e53935c8659bdcu},
      {"groups of 24 decoded", 0x7daf6ebbcc66e8a1u},
      {"groups of 24 x 1", 0x8e766b8fee761c4cu},
      {"groups of 24 x 19", 0x371c07d8dbdedb7cu},
      {"groups of 24 x 19 by token", 0xbcf64f90708f6c9fu},
      {"groups of 24 x 1 float", 0x4c51c13e9e7d900eu},
      {"groups of 24 x 19 float", 0x83b1ec28f5e7d647u},
      {"groups of 24 transposed x 3", 0x2c4215c6dae14179u},
      {"groups of 24 transposed x 19", 0x7669b36fc834c79bu},
      {"groups of 7 stored", 0x2028fead77cbd417u},
      {"groups of 7 decoded", 0x9ee7938727288b80u},
      {"groups of 7 x 1", 0xe83d5c0a15302676u},
      {"groups of 7 x 19", 0xe90111ed17f29ce0u},
      {"groups of 7 x 19 by token", 0x6bae2374ba254817u},
      {"groups of 7 x 1 float", 0xe83d5c0a15302676u},
      {"groups of 7 x 19 float", 0xe90111ed17f29ce0u},
      {"groups of 7 transposed x 3", 0x4acf34ed8cdf0413u},
      {"groups of 7 transposed x 19", 0x8258e61f6fceea11u},
      {"own points stored", 0x59943b0b4429ba31u},
      {"own points decoded", 0x9b1da269546780bdu},
      {"own points x 1", 0x356575d418b65c97u},
      {"own points x 19", 0xcd82341081910254u},
      {"own points x 19 by token", 0xf8054623556d08f4u},
      {"own points x 1 float", 0x356575d418b65c97u},
      {"own points x 19 float", 0xcd82341081910254u},
      {"own points transposed x 3", 0xafca5f3841c5d05cu},
      {"own points transposed x 19", 0x3da0cf154d70f347u},
      {"half stored", 0xafec97ff31e1c135u},
      {"half decoded", 0x5f1e3404940cb13bu},
      {"half x 1", 0xc284a4ab7b148291u},
      {"half x 19", 0x2234463a0480e648u},
      {"half x 19 by token", 0x2234463a0480e648u},
      {"half x 1 float", 0xc284a4ab7b148291u},
      {"half x 19 float", 0x2234463a0480e648u},
      {"half transposed x 3", 0xe6d25a5d08bc970du},
      {"half transposed x 19", 0x1f6de0db9c8f915eu},
      {"rotated stored", 0x6aecf6e5807a92b3u},
      {"rotated decoded", 0xf69fbe615c660b4cu},
      {"rotated x 1", 0xebbbc9c7c72d8191u},
      {"rotated x 19", 0x42ef74cdf8681e70u},
      {"rotated x 19 by token", 0x7372c588daca58c4u},
      {"rotated x 1 float", 0xcf2342b5579da2a3u},
      {"rotated x 19 float", 0x4cc065f38e7453afu},
      {"rotated transposed x 3", 0xa0e74b27acea5937u},
      {"rotated transposed x 19", 0x67c58f071c683da2u},
      {"outliers stored", 0xf300e7364489bab5u},
      {"outliers decoded", 0x90d720ff7553b274u},
      {"outliers x 1", 0x878e4f70f017a9cfu},
      {"outliers x 19", 0x8a53ecf2663f355au},
      {"outliers x 19 by token", 0x902faa72ca88d209u},
      {"outliers x 1 float", 0x3b203fe7e39e6a54u},
      {"outliers x 19 float", 0x12d83c5ced40038cu},
      {"outliers transposed x 3", 0x5f14ddb9e7e8184au},
      {"outliers transposed x 19", 0x05ec12e76d83efbcu},
      {"low rank stored", 0x06dd11e3e3874f2du},
      {"low rank decoded", 0x742f5df5e9e6f038u},
      {"low rank x 1", 0xb12460c3464a7a19u},
      {"low rank x 19", 0x08201985e72774afu},
      {"low rank x 19 by token", 0xaa1a69b5d257ab41u},
      {"low rank x 1 float", 0x30b2fbe377a1015bu},
      {"low rank x 19 float", 0x3080337a612c9f86u},
      {"low rank transposed x 3", 0xdb62429b989edcc2u},
      {"low rank transposed x 19", 0x37626724f7f54767u},
      {"low rank first stored", 0x31cde63840ec3adbu},
      {"low rank first decoded", 0x291264e37c0f03bfu},
      {"low rank first x 1", 0x8d50d577bf831eecu},
      {"low rank first x 19", 0x891632bdd506b36cu},
      {"low rank first x 19 by token", 0x8b9224fe151fc719u},
      {"low rank first x 1 float", 0x6cca8a85d94ecf28u},
      {"low rank first x 19 float", 0x13f725f2a7126ebfu},
      {"low rank first transposed x 3", 0x056d393cebf67aceu},
      {"low rank first transposed x 19", 0xfaa62b3be7732662u},
      {"columns stored", 0xa1018caef4a7e7d5u},
      {"columns decoded", 0xd814affcbb6b1d25u},
      {"columns x 1", 0x4cb23285afde5d12u},
      {"columns x 19", 0x09bf68df9ae4b8b5u},
      {"columns x 19 by token", 0xec2518fb344cf0a3u},
      {"columns x 1 float", 0x063a9c5457bdbf3du},
      {"columns x 19 float", 0x105a3dd74264e1f9u},
      {"columns transposed x 3", 0x8c1dd3309d55de4cu},
      {"columns transposed x 19", 0x6462d66e2fa684b7u},
  });
  const OutlierColumns columns(testing::sameActivations(64, 200, 4));
  checkMatrix(bits, "groups of 24", packed<Grouped<Asymmetric<3>, 24>>(), SameOn::kAll, SameOn::kDot);
  checkMatrix(bits, "groups of 7", packed<Grouped<Asymmetric<3>, 7>>(), SameOn::kAll, SameOn::kDot);
  checkMatrix(bits, "own points", packed<Grouped<Signs, 12>>(), SameOn::kAll, SameOn::kAll);
  checkMatrix(bits, "half", packed<Float16>(), SameOn::kAll, SameOn::kFma);
  checkMatrix(bits, "rotated", packed<Incoherent<PerChannel<Symmetric<8>>>>(), SameOn::kFma, SameOn::kDot);
  checkMatrix(bits, "outliers", packed<Outliers<PerChannel<Symmetric<8>>, 20>>(), SameOn::kFma, SameOn::kDot);
  checkMatrix(bits, "low rank", packed<LowRank<Grouped<Asymmetric<4>, 32>, 4>>(), SameOn::kFma, SameOn::kDot);
  checkMatrix(bits, "low rank first", packed<LowRankFirst<PerChannel<E8P>, 4, std::int8_t>>(), SameOn::kFma,
              SameOn::kDot);
  checkMatrix(bits, "columns", packed<LlmInt8>(columns), SameOn::kFma, SameOn::kDot);
  bits.finish();
}

/// Hash of the codes, scales and factors that a matrix is kept in; the seed kept beside them is the one that was asked
/// for.
template <class Format, class Rounding = Nearest>
std::uint64_t seededHash(const QuantizeOptions& options, const Rounding& rounding = {}) {
  std::string bytes;
  const auto add = [&]<class T>(std::string_view name, std::span<T> values) {
    if (!name.ends_with("seed")) {
      bytes.append(reinterpret_cast<const char*>(values.data()), values.size_bytes());
    } else if constexpr (std::is_integral_v<T>) {
      for (const T value : values) EXPECT_EQ(static_cast<std::uint64_t>(value), options.seed) << name;
    }
  };
  quantize<Format>(testing::sameNumbers(48, 80, 1), rounding, options).packed().visitFields(add);
  return testing::hashBytes(bytes.data(), bytes.size());
}

TEST_P(OnEverySet, OfEverySeed) {
  SameBits bits({
      {"rotated seed 5", 0xd6927c4bff397cfeu},
      {"rotated seed 6", 0x7427944bb176a7a8u},
      {"rotated twice seed 5", 0x166092ec1ebd26ccu},
      {"rotated twice seed 6", 0x52fe9ea9a0430bbfu},
      {"rotated, scaled seed 5", 0x95a215f75d010577u},
      {"rotated, scaled seed 6", 0x9ed889f2ce608a4fu},
      {"low rank seed 5", 0xf3f2fa49100399e4u},
      {"low rank seed 6", 0x66452dcc584bc785u},
      {"low rank iterations 0", 0xbbef1ff22a68364cu},
      {"low rank iterations 1", 0x81a365af1055fa39u},
      {"low rank in bytes seed 5", 0xa2c6dbfb388a3bb9u},
      {"low rank in bytes seed 6", 0x91590645d17c804bu},
      {"low rank in bytes iterations 0", 0xfbfdc969957250cdu},
      {"low rank in bytes iterations 1", 0x4bea03b7b0fac1a6u},
      {"low rank in floats seed 5", 0xed84bc8e2c30f6b0u},
      {"low rank in floats seed 6", 0x484a5983646574e5u},
      {"low rank in floats iterations 0", 0x34e9af6ce70c9f91u},
      {"low rank in floats iterations 1", 0x4144384d7d394cf9u},
      {"low rank first seed 5", 0xa1f06d126b5415bbu},
      {"low rank first seed 6", 0xdac7d7773af93a65u},
      {"low rank first iterations 0", 0xd30f29dac93b0af3u},
      {"low rank first iterations 1", 0xc4ff7897bab0b860u},
      {"low rank, rotated seed 5", 0x69957a1c896721dau},
      {"low rank, rotated seed 6", 0x58de38699a8a379bu},
      {"low rank, rotated iterations 0", 0x60f9079815b24c88u},
      {"low rank, rotated iterations 1", 0x95adc61612a50ea6u},
      {"rotated, low rank seed 5", 0x4243e03d4e1c6b47u},
      {"rotated, low rank seed 6", 0x3d98542bd536fcf9u},
      {"rotated, low rank first seed 5", 0xeb546bf993aba87bu},
      {"rotated, low rank first seed 6", 0x8e3ae0b7215971c6u},
      {"outliers seed 5", 0x8e607d0ed38cc371u},
      {"outliers seed 6", 0xe57a10f985132b26u},
      {"columns seed 5", 0x9a2e82eb9f05a59bu},
      {"columns seed 6", 0x20f6180ba0d45056u},
      {"stochastic seed 5", 0x31a9aadce7dff0e1u},
      {"stochastic seed 6", 0x52d81ab52e6abe74u},
  });
  const OutlierColumns columns(testing::sameActivations(64, 80, 4));
  const Awq awq(testing::sameActivations(64, 80, 4));
  using Backbone = Grouped<Asymmetric<2>, 32>;
  struct {
    std::string name;
    std::function<std::uint64_t(const QuantizeOptions&)> hash;
  } const all[] = {
      {"rotated", [](const auto& o) { return seededHash<Incoherent<Symmetric<8>>>(o); }},
      {"rotated twice", [](const auto& o) { return seededHash<Incoherent<Incoherent<E8P>>>(o); }},
      {"rotated, scaled", [&](const auto& o) { return seededHash<ChannelScaled<Incoherent<Backbone>>>(o, awq); }},
      {"low rank", [](const auto& o) { return seededHash<LowRank<Backbone, 4>>(o); }},
      {"low rank in bytes", [](const auto& o) { return seededHash<LowRank<Backbone, 3, std::int8_t>>(o); }},
      {"low rank in floats", [](const auto& o) { return seededHash<LowRank<Backbone, 3, float>>(o); }},
      {"low rank first", [](const auto& o) { return seededHash<LowRankFirst<E8P, 4, std::int8_t>>(o); }},
      {"low rank, rotated", [](const auto& o) { return seededHash<Incoherent<LowRankFirst<Backbone, 2>>>(o); }},
      {"rotated, low rank", [](const auto& o) { return seededHash<LowRank<Incoherent<Backbone>, 2>>(o); }},
      {"rotated, low rank first", [](const auto& o) { return seededHash<LowRankFirst<Incoherent<Backbone>, 2>>(o); }},
      {"outliers", [](const auto& o) { return seededHash<Outliers<LowRank<Backbone, 2>, 20>>(o); }},
      {"columns", [&](const auto& o) { return seededHash<MixedColumns<Incoherent<Backbone>>>(o, columns); }},
      {"stochastic", [](const auto& o) { return seededHash<Backbone>({}, Stochastic{o.seed}); }},
  };
  for (const auto& [name, hash] : all) {
    const std::uint64_t first = hash({.seed = 5}), second = hash({.seed = 6});
    EXPECT_NE(first, second) << name;
    bits.check(name + " seed 5", first);
    bits.check(name + " seed 6", second);
    if (!name.starts_with("low rank")) continue;
    for (const int iterations : {0, 1}) {
      bits.check(name + " iterations " + std::to_string(iterations),
                 hash({.seed = 5, .low_rank_iterations = iterations}));
    }
  }
  bits.finish();
}

TEST_P(OnEverySet, OfWhatIsLearned) {
  SameBits bits({
      {"hessian", 0x6d815365212ce9ceu},
      {"hessian of doubles", 0x44f99ff2a4e3698eu},
      {"awq", 0xa5df7b5d02263d94u},
  });
  const RowMatrixXf x = testing::sameActivations(170, 200, 6);
  Hessian h(200), of_doubles(200);
  h.accumulate(x.topRows(100));
  h.accumulate(x.bottomRows(70));
  bits.check("hessian", hashOf(h.matrix()));
  of_doubles.accumulate(x.cast<double>() / 3);
  of_doubles.merge(h);
  bits.check("hessian of doubles", hashOf(of_doubles.matrix()));
  const auto q = packed<ChannelScaled<Grouped<Asymmetric<4>, 32>>>(Awq(x));
  bits.check("awq", storedHash(q.packed()));
  bits.finish();
}

INSTANTIATE_TEST_SUITE_P(SameBits, OnEverySet, ::testing::ValuesIn(instructionSets()), testing::nameOfSet);

}  // namespace
}  // namespace gosset::same_bits_test
