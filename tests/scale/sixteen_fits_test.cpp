// SPDX-License-Identifier: Apache-2.0
#include <gosset/scale/sixteen_fits.hpp>

#include <gosset/codebook.hpp>

#include "testing.hpp"

#include <bit>
#include <span>
#include <string>

namespace gosset::GOSSET_ABI::detail::sixteen_fits_test {
namespace {

struct Sixteen {
  float scale[16], zero[16];
  unsigned left;
};

template <class C, class T>
Sixteen fitsOf(const RowMatrixXf& w) {
  Sixteen fits;
  fits.left = fitSixteen(w.data(), w.cols(), w.cols(), levelRule<C, T>(), fits.scale, fits.zero);
  return fits;
}

/// Bit by bit what fitAffine() finds, wherever it is not asked for; how many groups are left to it.
template <class C, class T>
int expectAsOneByOne(const RowMatrixXf& w) {
  const std::string before = instructionSet();
  int left = 0;
  for (const std::string& set : instructionSets()) {
    useInstructionSet(set);
    const Sixteen fits = fitsOf<C, T>(w);
    EXPECT_EQ(fits.left >> 16, 0u);
    for (Index row = 0; row < 16; ++row) {
      if ((fits.left >> row & 1) != 0) {
        ++left;
        continue;
      }
      const Affine a =
          fitAffine<C, T>(PublishedRule{}, std::span(w.row(row).data(), static_cast<std::size_t>(w.cols())));
      EXPECT_EQ(std::bit_cast<std::uint32_t>(fits.scale[row]), std::bit_cast<std::uint32_t>(a.scale))
          << C::name() << ", " << set << ", " << w.cols() << " columns, row " << row << ": " << w.row(row);
      EXPECT_EQ(std::bit_cast<std::uint32_t>(fits.zero[row]), std::bit_cast<std::uint32_t>(a.zero))
          << C::name() << ", " << set << ", " << w.cols() << " columns, row " << row << ": " << w.row(row);
    }
  }
  useInstructionSet(before);
  return left;
}

template <class C, class T>
void expectAllAsOneByOne() {
  const int sets = static_cast<int>(instructionSets().size());
  for (const Index width : {16, 17, 23, 32, 63, 65, 172}) {
    int left = 0;
    for (unsigned seed = 0; seed < 20; ++seed) {
      RowMatrixXf w = testing::gaussian(16, width, seed);
      left += expectAsOneByOne<C, T>(w);
      for (Index row = 0; row < 16; ++row) w.row(row).array() += static_cast<float>(row * row) / 4 - 2;
      left += expectAsOneByOne<C, T>(w);
      left += expectAsOneByOne<C, T>(w * 100);
    }
    EXPECT_LT(left, sets * 16 * 60 / 50) << C::name() << ": the quick way is for nearly all groups";
    RowMatrixXf rare = testing::gaussian(16, width, 77);
    rare.row(0).setZero();
    rare.row(1) = rare.row(1).cwiseAbs();
    rare.row(2).setConstant(-3);
    rare.row(3).array() *= 0;  // zeros of both signs
    rare.row(4) = rare.row(4).cwiseSign();
    rare.row(5) *= 1e-30f;
    rare.row(6) *= 1e30f;
    rare(7, 3) = 4000;
    rare.row(8).setConstant(1), rare(8, 5) = 1 + 0x1p-20f;
    rare.row(9) = rare.row(9).cwiseMax(0);
    rare.row(10).array() += 1e6f;
    rare.row(13) = rare.row(13).cwiseMin(0);
    rare.row(14) = -rare.row(14).cwiseMax(0);  // up to a zero of the other sign
    rare.row(11) *= 0x1p-14f;
    rare(12, 0) = -rare.row(12).cwiseAbs().maxCoeff() * 3, rare(12, 1) = -rare(12, 0);
    expectAsOneByOne<C, T>(rare);
  }
}

TEST(SixteenFits, AreThoseOfGroupsOneByOne) {
  expectAllAsOneByOne<Symmetric<4>, Float16>();
  expectAllAsOneByOne<Symmetric<8>, BFloat16>();
  expectAllAsOneByOne<Symmetric<3>, float>();
  expectAllAsOneByOne<NormalFloat4, Float16>();
  expectAllAsOneByOne<Asymmetric<1>, Float16>();
  expectAllAsOneByOne<Asymmetric<2>, BFloat16>();
  expectAllAsOneByOne<Asymmetric<4>, Float16>();
  expectAllAsOneByOne<Asymmetric<8>, float>();
}

TEST(SixteenFits, LeaveWhatIsRare) {
  RowMatrixXf w = testing::gaussian(16, 32);
  w.row(2).setZero();
  w.row(5).setConstant(2);
  w.row(9) = w.row(9).cwiseMax(0);
  w.row(15) *= 1e-20f;
  EXPECT_EQ((fitsOf<Asymmetric<4>, Float16>(w).left), 1u << 2 | 1u << 5 | 1u << 9 | 1u << 15);
  EXPECT_EQ((fitsOf<Symmetric<4>, Float16>(w).left), 1u << 2 | 1u << 5 | 1u << 15);
}

TEST(SixteenFits, RowsMayBeApart) {
  const RowMatrixXf w = testing::gaussian(16, 100);
  const RowMatrixXf part = w.middleCols(7, 40);
  float scale[16], zero[16];
  fitSixteen(w.data() + 7, 100, 40, levelRule<Symmetric<4>, Float16>(), scale, zero);
  const Sixteen fits = fitsOf<Symmetric<4>, Float16>(part);
  for (int row = 0; row < 16; ++row) EXPECT_EQ(scale[row], fits.scale[row]);
}

}  // namespace
}  // namespace gosset::GOSSET_ABI::detail::sixteen_fits_test
