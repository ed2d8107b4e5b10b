// SPDX-License-Identifier: Apache-2.0
// Where memory runs out in what a matrix does, std::bad_alloc is all that happens.
#include <gosset/codebook.hpp>
#include <gosset/format.hpp>
#include <gosset/matrix/any_matrix.hpp>
#include <gosset/matrix/quantize.hpp>
#include <gosset/rounding/hessian.hpp>
#include <gosset/rounding/ldlq.hpp>

#include "failing_allocation.hpp"
#include "testing.hpp"

namespace gosset::failing_allocation_test {
namespace {

using testing::failEachAllocation;
using testing::gaussian;

using Four = Grouped<Asymmetric<4>, 32>;

/// result = make(), or it stays empty.
template <class Result, class Make>
void failResult(const Make& make) {
  const Result expected = make();
  failEachAllocation([] { return Result(); }, [&](Result& result) { result = make(); },
                     [&](const Result& result, bool done) { EXPECT_TRUE(result == (done ? expected : Result())); });
}

template <class Format>
class FailingAllocation : public ::testing::Test {};
using Formats =
    ::testing::Types<Float16, Four, PerChannel<Symmetric<8>>, PerTensor<Ternary>, Symmetric<3>,
                     Grouped<NormalFloat4, 7>, LowRank<Outliers<Four, 50>, 3>, LowRankFirst<Four, 2>, Incoherent<Four>>;
TYPED_TEST_SUITE(FailingAllocation, Formats);

TYPED_TEST(FailingAllocation, Quantizes) {
  const RowMatrixXf w = gaussian(70, 64);
  failResult<QuantizedMatrix<TypeParam>>([&] { return quantize<TypeParam>(w); });
}

TYPED_TEST(FailingAllocation, Multiplies) {
  auto q = quantize<TypeParam>(gaussian(120, 96, 1));
  for (const Activations activations : {Activations::kRounded, Activations::kFloat, Activations::kRoundedPerToken}) {
    q.setActivations(activations);
    for (const Index tokens : {1, 40}) {
      const Eigen::MatrixXf x = gaussian(96, tokens, 2), z = gaussian(120, tokens, 3);
      failResult<Eigen::MatrixXf>([&] { return Eigen::MatrixXf(q * x); });
      failResult<Eigen::MatrixXf>([&] { return Eigen::MatrixXf(q.transpose() * z); });
      failResult<Eigen::MatrixXf>([&] {
        Eigen::MatrixXf y = Eigen::MatrixXf::Zero(120, tokens);
        q.multiplyRows(3, 100, x, y);
        return y;
      });
    }
  }
}

TYPED_TEST(FailingAllocation, Copies) {
  using Matrix = QuantizedMatrix<TypeParam>;
  const Matrix q = quantize<TypeParam>(gaussian(70, 64)), other = quantize<TypeParam>(gaussian(5, 9));
  failEachAllocation([&] { return other; }, [&](Matrix& copy) { copy = q; },
                     [&](const Matrix& copy, bool done) { EXPECT_TRUE(copy == (done ? q : other)); });
  failResult<RowMatrixXf>([&] { return q.dequantized(); });
}

TYPED_TEST(FailingAllocation, BecomesAnAnyMatrix) {
  const auto q = quantize<TypeParam>(gaussian(70, 64));
  failResult<AnyMatrix>([&] { return AnyMatrix(q); });
  const AnyMatrix any(q);
  const Eigen::MatrixXf x = gaussian(64, 5, 2);
  failResult<Eigen::MatrixXf>([&] { return Eigen::MatrixXf(any * x); });
}

TEST(FailingAllocationInHessian, AccumulatesAndMerges) {
  const RowMatrixXf first = gaussian(30, 230, 1), second = gaussian(40, 230, 2);
  Hessian before(230), seen(230);
  before.accumulate(first);
  seen.accumulate(second);
  const auto expectIs = [](const Hessian& h, const Hessian& expected) {
    EXPECT_EQ(h.tokens(), expected.tokens());
    EXPECT_TRUE(h.matrix() == expected.matrix());
  };
  Hessian more = before, merged = before;
  more.accumulate(second);
  merged.merge(seen);
  const auto shared = [&] { return before; };
  const auto alone = [&] {
    Hessian h(230);
    h.accumulate(first);
    return h;
  };
  const auto accumulate = [&](Hessian& h) { h.accumulate(second); };
  const auto isMore = [&](const Hessian& h, bool done) { expectIs(h, done ? more : before); };
  failEachAllocation(shared, accumulate, isMore);
  failEachAllocation(alone, accumulate, isMore);
  failEachAllocation(
      shared, [&](Hessian& h) { h.merge(seen); },
      [&](const Hessian& h, bool done) { expectIs(h, done ? merged : before); });
}

TEST(FailingAllocationInRounding, Ldlq) {
  Hessian h(64);
  h.accumulate(gaussian(100, 64, 1));
  const RowMatrixXf w = gaussian(30, 64, 2);
  failResult<QuantizedMatrix<Four>>([&] { return quantize<Four>(w, Ldlq(h)); });
}

}  // namespace
}  // namespace gosset::failing_allocation_test
