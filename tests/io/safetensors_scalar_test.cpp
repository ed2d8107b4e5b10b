// SPDX-License-Identifier: Apache-2.0
// Every number type of a file, through SafetensorsWriter and SafetensorsFile.
#include <gosset/io/safetensors.hpp>

#include "io/temporary_folder.hpp"
#include "testing.hpp"

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

namespace gosset::safetensors_scalar_test {
namespace {

using testing::TemporaryFolder;

template <class T>
using RowMatrix = Eigen::Matrix<T, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;

template <class T>
class SafetensorsScalar : public ::testing::Test {};
using Scalars = ::testing::Types<bool, std::uint8_t, std::int8_t, std::int16_t, std::uint16_t, Float16, BFloat16,
                                 std::int32_t, std::uint32_t, float, double, std::int64_t, std::uint64_t>;
TYPED_TEST_SUITE(SafetensorsScalar, Scalars);

/// Any bits of T: NaNs, infinities and denormals among them.
template <class T>
RowMatrix<T> anyBits(Index rows, Index cols) {
  RowMatrix<T> values(rows, cols);
  for (Index i = 0; i < values.size(); ++i) {
    const std::uint64_t bits = randomBits(3, static_cast<std::uint64_t>(i)) & (std::is_same_v<T, bool> ? 1 : ~0ull);
    std::memcpy(static_cast<void*>(values.data() + i), &bits, sizeof(T));
  }
  return values;
}

TYPED_TEST(SafetensorsScalar, RoundTripIsExact) {
  using T = TypeParam;
  const TemporaryFolder folder;
  SafetensorsWriter writer;
  const std::vector<std::pair<Index, Index>> shapes = {{1, 1}, {7, 9}, {65, 63}, {0, 5}, {5, 0}, {172, 8}};
  for (const auto& [rows, cols] : shapes) {
    const RowMatrix<T> values = anyBits<T>(rows, cols);
    const Eigen::Matrix<T, Eigen::Dynamic, Eigen::Dynamic> column_major = values;
    const std::string name = std::to_string(rows) + "x" + std::to_string(cols);
    writer.add(name, values);
    writer.add(name + ".column-major", column_major);
    writer.add<T>(name + ".view", {1, rows, cols}, {values.data(), static_cast<std::size_t>(values.size())});
  }
  writer.write(folder / "f");
  const SafetensorsFile file(folder / "f");
  for (const auto& [rows, cols] : shapes) {
    const RowMatrix<T> expected = anyBits<T>(rows, cols);
    const std::string name = std::to_string(rows) + "x" + std::to_string(cols);
    const auto bytes = static_cast<std::size_t>(expected.size()) * sizeof(T);
    for (const std::string& tensor : {name, name + ".column-major"}) {
      const auto values = file.matrix<T>(tensor);
      ASSERT_EQ(values.rows(), rows);
      ASSERT_EQ(values.cols(), cols);
      EXPECT_TRUE(bytes == 0 || std::memcmp(values.data(), expected.data(), bytes) == 0) << tensor;
    }
    EXPECT_EQ(file.info(name + ".view").shape, (std::vector<Index>{1, rows, cols}));
    EXPECT_EQ(file.flat<T>(name + ".view").size(), rows * cols);
  }
}

TYPED_TEST(SafetensorsScalar, Converts) {
  using T = TypeParam;
  const TemporaryFolder folder;
  SafetensorsWriter writer;
  const Eigen::Matrix<T, 2, 1> values(static_cast<T>(1.f), static_cast<T>(0.f));
  writer.add("v", values);
  writer.write(folder / "f");
  const SafetensorsFile file(folder / "f");
  EXPECT_EQ(file.vectorAs<float>("v"), Eigen::Vector2f(1.f, 0.f));
  EXPECT_EQ(file.vectorAs<double>("v"), Eigen::Vector2d(1., 0.));
  EXPECT_EQ(file.matrixAs<Float16>("v")(0, 0), Float16(1.f));
  EXPECT_EQ(file.flatAs<BFloat16>("v")(0), BFloat16(1.f));
}

}  // namespace
}  // namespace gosset::safetensors_scalar_test
