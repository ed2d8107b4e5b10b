// SPDX-License-Identifier: Apache-2.0
#include <gosset/matrix/format_list.hpp>

#include <gosset/codebook.hpp>
#include <gosset/format.hpp>
#include <gosset/rounding.hpp>

#include "testing.hpp"

namespace gosset::format_list_test {
namespace {

using testing::expectThrows;
using testing::gaussian;
using Int4 = Grouped<Asymmetric<4>, 32>;
using List = FormatList<PerChannel<Symmetric<8>>, Int4, Incoherent<E8P>, ChannelScaled<Int4>, LlmInt8, Float16>;

TEST(FormatList, KnowsItsNames) {
  EXPECT_EQ((FormatList<Int4, Float16>::names()), (std::vector<std::string>{"Grouped<Asymmetric<4>, 32>", "Float16"}));
  EXPECT_EQ((FormatList<Int4, Float16>::text()), "Grouped<Asymmetric<4>, 32>; Float16");
  EXPECT_TRUE(List::contains("Grouped<Asymmetric<4>,32>"));
  EXPECT_TRUE(List::contains("Incoherent<PerTensor<E8P>>"));
  EXPECT_FALSE(List::contains("E8P"));
  EXPECT_FALSE(FormatList<>::contains("E8P"));
}

TEST(QuantizeAs, IsQuantize) {
  const RowMatrixXf w = gaussian(9, 64);
  Hessian h(64);
  h.accumulate(gaussian(200, 64, 2));
  EXPECT_EQ(quantizeAs<List>("Grouped<Asymmetric<4>, 32>", w), AnyMatrix(quantize<Int4>(w)));
  EXPECT_EQ(quantizeAs<List>("Float16", w), AnyMatrix(quantize<Float16>(w)));
  EXPECT_EQ(quantizeAs<List>("Grouped<Asymmetric<4>,32>", w), AnyMatrix(quantize<Int4>(w))) << "spaces do not matter";
  EXPECT_EQ(quantizeAs<List>("Grouped<Asymmetric<4>, 32>", w, Gptq(h)), AnyMatrix(quantize<Int4>(w, Gptq(h))))
      << "which can do without its order of the columns";
  EXPECT_EQ(quantizeAs<List>("Incoherent<E8P>", w, Ldlq(h), {.seed = 5}),
            AnyMatrix(quantize<Incoherent<E8P>>(w, Ldlq(h), {.seed = 5})));
  EXPECT_EQ(quantizeAs<List>("PerChannel<Symmetric<8>>", w.cast<double>(), Nearest{}, {.fit = LeastSquares{}}),
            AnyMatrix(quantize<PerChannel<Symmetric<8>>>(w, Nearest{}, {.fit = LeastSquares{}})));
}

TEST(QuantizeAs, SaysWhatThereIsAndWhatDoesNotGoTogether) {
  const RowMatrixXf w = gaussian(9, 64);
  Hessian h(64);
  h.accumulate(gaussian(200, 64, 2));
  expectThrows([&] { (void)quantizeAs<List>("Grouped<Asymmetric<5>, 32>", w); },
               "quantizeAs: there is no format Grouped<Asymmetric<5>, 32> here; there are PerChannel<Symmetric<8>>; "
               "Grouped<Asymmetric<4>, 32>; Incoherent<E8P>; ChannelScaled<Grouped<Asymmetric<4>, 32>>; "
               "MixedColumns<PerChannel<Symmetric<8>>>; Float16");
  expectThrows(
      [&] { (void)quantizeAs<List>("Float16", w, Gptq(h)); },
      "quantizeAs: Float16: a plain float format stores numbers as they are: only Nearest rounding applies to it");
  expectThrows([&] { (void)quantizeAs<List>("Incoherent<E8P>", w, Stochastic{}); },
               "the rounding needs a codebook of single numbers");
  expectThrows([&] { (void)quantizeAs<List>("ChannelScaled<Grouped<Asymmetric<4>, 32>>", w); },
               "a ChannelScaled format needs a rounding that gives channel scales, such as Awq or ChannelScales");
  expectThrows([&] { (void)quantizeAs<List>("MixedColumns<PerChannel<Symmetric<8>>>", w); },
               "a MixedColumns format needs a rounding that gives outlier columns, such as OutlierColumns");
  const ChannelScales scales(Eigen::VectorXf::Ones(64).eval());
  expectThrows([&] { (void)quantizeAs<List>("Grouped<Asymmetric<4>, 32>", w, scales); },
               "the rounding's channel scales mean nothing outside a ChannelScaled format");
  expectThrows([&] { (void)quantizeAs<List>("Grouped<Asymmetric<4>, 32>", w, OutlierColumns(w)); },
               "the rounding's outlier columns mean nothing outside a MixedColumns format");
  expectThrows([&] { (void)quantizeAs<List>("Grouped<Asymmetric<4>, 32>", w, BySensitivity(h)); },
               "the rounding's outlier weights mean nothing outside an Outliers format");
  expectThrows([&] { (void)quantizeAs<List>("Float16", w, 5); }, "the argument beside the matrix is no rounding");
  expectThrows([&] { (void)quantizeAs<List>("Float16", RowMatrixXf()); }, "quantize: the matrix is empty (0 x 0)");
}

}  // namespace
}  // namespace gosset::format_list_test
