// SPDX-License-Identifier: Apache-2.0
#include <gosset/format/concepts.hpp>

#include <gosset/codebook.hpp>
#include <gosset/format/grouped.hpp>
#include <gosset/format/low_rank.hpp>
#include <gosset/format/per_channel.hpp>
#include <gosset/format/per_tensor.hpp>
#include <gosset/format/plain.hpp>

#include "testing.hpp"

#include <limits>
#include <span>
#include <string_view>
#include <thread>
#include <utility>
#include <vector>

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

/// Floats that write nothing but their rows, so that all else is what every format is given.
struct Rows : PackedBase<Rows> {
  explicit Rows(RowMatrixXf numbers) : w(std::move(numbers)) {}

  Index rows() const { return w.rows(); }
  Index cols() const { return w.cols(); }
  void computeRows(Index first, Index count, Eigen::Ref<RowMatrixXf> to) const { to = w.middleRows(first, count); }
  using PackedBase<Rows>::forStretches;

  RowMatrixXf w;
};

TEST(Packed, OfAFormatThatWritesOnlyRowsHasAllProducts) {
  for (const Index rows : {1, 127, 128, 129, 300}) {
    const Rows packed(testing::gaussian(rows, 9));
    for (const Index tokens : {1, 3}) {
      const Eigen::MatrixXf x = testing::gaussian(9, tokens, 2), z = testing::gaussian(rows, tokens, 3);
      const Eigen::MatrixXf expected = packed.w * x;
      Eigen::MatrixXf y(rows, tokens), part = Eigen::MatrixXf::Constant(rows, tokens, 7);
      packed.multiply(x, y);
      EXPECT_LT((y - expected).norm(), 1e-5f * expected.norm()) << rows;
      const Index first = rows / 3, count = (rows - first + 1) / 2;
      packed.multiplyRows(first, count, x, part);
      Eigen::MatrixXf whole = Eigen::MatrixXf::Constant(rows, tokens, 7);
      whole.middleRows(first, count) = expected.middleRows(first, count);
      EXPECT_LT((part - whole).norm(), 1e-5f * whole.norm()) << rows;
      Eigen::MatrixXf back = Eigen::MatrixXf::Ones(9, tokens);
      packed.addTransposed(z, back);
      const Eigen::MatrixXf transposed = packed.w.transpose() * z;
      EXPECT_LT((back - transposed - Eigen::MatrixXf::Ones(9, tokens)).norm(), 1e-4f * transposed.norm()) << rows;
    }
  }
}

/// So that rows that begin with a piece have the bits of the whole.
TEST(Packed, PiecesOfRowsEndAtMultiplesOf128) {
  using Pieces = std::vector<std::pair<Index, Index>>;
  const auto pieces = [](Index first, Index count) {
    Pieces found;
    Rows::forStretches(first, count, [&](Index start, Index rows) { found.emplace_back(start, rows); });
    return found;
  };
  EXPECT_EQ(pieces(100, 200), (Pieces{{100, 28}, {128, 128}, {256, 44}}));
  EXPECT_EQ(pieces(128, 128), (Pieces{{128, 128}}));
  EXPECT_EQ(pieces(130, 7), (Pieces{{130, 7}}));
  EXPECT_EQ(pieces(5, 0), Pieces{});
}

TEST(Packed, AProductOverNoInputsIsZero) {
  const Packed<Float16> packed = Packed<Float16>::shaped(3, 0);
  const Eigen::MatrixXf none(0, 2);
  Eigen::MatrixXf y = Eigen::MatrixXf::Constant(3, 2, 7);
  packed.multiplyRows(1, 2, none, y);
  Eigen::MatrixXf expected(3, 2);
  expected << 7, 7, 0, 0, 0, 0;
  EXPECT_EQ(y, expected);
  packed.multiply(none, y);
  EXPECT_TRUE(y.isZero(0));
}

/// Writes down which threads its rows are multiplied by.
struct Threads : PackedBase<Threads> {
  Index rows() const { return 64; }
  Index cols() const { return 4; }
  void computeProductRows(Index, Index, const Eigen::Ref<const Eigen::MatrixXf>&, Eigen::Ref<Eigen::MatrixXf> y,
                          Activations) const {
    y.setZero();
    parallelFor(64, 1 << 20, [&](Index i) { threads[static_cast<std::size_t>(i)] = std::this_thread::get_id(); });
  }

  mutable std::vector<std::thread::id> threads = std::vector<std::thread::id>(64);
};

TEST(Packed, RowsAreMultipliedByTheCallersThreadAlone) {
  Eigen::setNbThreads(4);
  const Threads packed;
  Eigen::MatrixXf y(64, 1);
  packed.multiplyRows(0, 64, Eigen::MatrixXf::Ones(4, 1), y);
  EXPECT_THAT(packed.threads, ::testing::Each(std::this_thread::get_id()));
  Eigen::setNbThreads(0);
}

TEST(Packed, AWrapperFindsWhatIsNotFiniteInItsOwnFieldsAndInside) {
  const auto fault = [](std::string_view field) {
    auto packed = Packed<LowRank<Float16, 1>>::shaped(2, 3);
    packed.visitFields([&]<class T>(std::string_view name, std::span<T> values) {
      if (name == field) values[0] = static_cast<T>(std::numeric_limits<float>::quiet_NaN());
    });
    return packed.fault();
  };
  EXPECT_EQ(fault("none"), "");
  EXPECT_EQ(fault("scales"), "scales: expected finite numbers");
  EXPECT_EQ(fault("inner.values"), "inner.values: expected finite numbers");
}

}  // namespace
}  // namespace gosset::concepts_test
