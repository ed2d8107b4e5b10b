// SPDX-License-Identifier: Apache-2.0
#include <gosset/codebook/e8p.hpp>
#include <gosset/format/incoherent.hpp>
#include <gosset/kv/formats.hpp>
#include <gosset/matrix/quantize.hpp>

#include "testing.hpp"

namespace gosset::add_transposed_test {
namespace {

using testing::gaussian;

template <class Format>
class AddTransposed : public ::testing::Test {};
using Formats = ::testing::Types<Float16, Kivi<2, 32>, Kivi<3, 64>, Kivi<4, 32>, Kivi<8, 16>, Gear<3, 32, 2, 40>,
                                 LowRank<Kivi<2, 32>, 3, std::int8_t>, Outliers<Kivi<2, 32>, 600>, Incoherent<E8P>>;
TYPED_TEST_SUITE(AddTransposed, Formats);

TYPED_TEST(AddTransposed, AddsTheProductOfTheDequantizedMatrix) {
  for (const Index rows : {1, 9, 65}) {
    for (const Index cols : {1, 7, 63, 128, 417}) {
      const auto q = quantize<TypeParam>(gaussian(rows, cols) * 50.f);
      for (const Index columns : {1, 4, 6, 20}) {
        const Eigen::MatrixXf x = gaussian(rows, columns, 2), before = gaussian(cols, columns, 3);
        Eigen::MatrixXf y = before;
        q.packed().addTransposed(x, y);
        const Eigen::MatrixXf expected = q.dequantized().transpose() * x + before;
        EXPECT_LE((y - expected).norm(), 1e-5f * (1 + expected.norm()))
            << rows << " x " << cols << ", " << columns << " columns";
      }
    }
  }
}

}  // namespace
}  // namespace gosset::add_transposed_test
