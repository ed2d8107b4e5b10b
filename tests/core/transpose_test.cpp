// SPDX-License-Identifier: Apache-2.0
#include <gosset/core/transpose.hpp>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstddef>
#include <vector>

namespace gosset::transpose_test {
namespace {

TEST(Transpose, EveryShapeMovesEachNumberAndNoOther) {
  for (const Index rows : {0, 1, 3, 4, 15, 16, 17, 33, 40}) {
    for (const Index cols : {0, 1, 5, 8, 16, 23, 32, 47}) {
      const Index stride = cols + 3, to_stride = rows + 2;
      std::vector<float> from(static_cast<std::size_t>(rows * stride)),
          expected(static_cast<std::size_t>(cols * to_stride), -1.f);
      for (std::size_t i = 0; i < from.size(); ++i) from[i] = static_cast<float>(i);
      std::vector<float> to = expected;
      for (Index i = 0; i < rows; ++i) {
        for (Index j = 0; j < cols; ++j) {
          expected[static_cast<std::size_t>(j * to_stride + i)] = from[static_cast<std::size_t>(i * stride + j)];
        }
      }
      detail::transposeInto(from.data(), rows, cols, stride, to.data(), to_stride);
      EXPECT_EQ(to, expected) << rows << " x " << cols;
    }
  }
}

}  // namespace
}  // namespace gosset::transpose_test
