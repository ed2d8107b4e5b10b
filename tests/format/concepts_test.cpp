// SPDX-License-Identifier: Apache-2.0
#include <gosset/format/concepts.hpp>

#include <gosset/codebook.hpp>
#include <gosset/format/grouped.hpp>
#include <gosset/format/per_channel.hpp>
#include <gosset/format/per_tensor.hpp>
#include <gosset/format/plain.hpp>

#include "testing.hpp"

namespace gosset::concepts_test {
namespace {

// What may stand where a format is asked for, and what may not.
static_assert(Format<Symmetric<8>> && Format<PerTensor<Binary>> && Format<PerChannel<NormalFloat4, float>>);
static_assert(Format<Grouped<LloydMax<2>, 64, BFloat16>> && Format<float> && Format<Float16> && Format<BFloat16>);
static_assert(!Format<int> && !Format<double> && !Format<Eigen::MatrixXf>);

TEST(Packed, BytesCountEveryField) {
  using F = Grouped<Asymmetric<3>, 4>;
  const auto packed = Packed<F>::shaped(5, 9);
  // 5 rows of 4 bytes for the low two bits and 4 for the third, 5 x 3 scales and zero points of 2 bytes, and the unit.
  EXPECT_EQ(packed.bytes(), 5 * (4 + 4) + 15 * 2 + 15 * 2 + 4);
  EXPECT_EQ(Packed<Float16>::shaped(5, 9).bytes(), 90);
}

TEST(Packed, AnEmptyShapeIsAllZero) {
  EXPECT_TRUE((Packed<Grouped<Asymmetric<3>, 4>>::shaped(5, 9).dequantized().isZero(0)));
  EXPECT_TRUE((Packed<BFloat16>::shaped(2, 3).dequantized().isZero(0)));
}

}  // namespace
}  // namespace gosset::concepts_test
