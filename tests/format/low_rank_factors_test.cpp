// SPDX-License-Identifier: Apache-2.0
#include <gosset/format/low_rank_factors.hpp>

#include <Eigen/Eigenvalues>
#include <Eigen/QR>
#include <Eigen/SVD>

#include <cmath>
#include <vector>

#include "testing.hpp"

namespace gosset::low_rank_factors_test {
namespace {

using testing::gaussian;

/// The least error that a matrix of rank k can have.
double truncatedSvdError(const RowMatrixXf& w, Index k) {
  const Eigen::JacobiSVD<Eigen::MatrixXd> svd(w.cast<double>());
  const Index count = svd.singularValues().size();
  return k < count ? svd.singularValues().tail(count - k).norm() : 0.;
}

/// Singular values 1, decay, decay^2, ... in random directions.
RowMatrixXf decaying(Index rows, Index cols, float decay) {
  const Index rank = std::min(rows, cols);
  Eigen::VectorXf values(rank);
  for (Index i = 0; i < rank; ++i) values[i] = std::pow(decay, static_cast<float>(i));
  return detail::orthonormalBasis(gaussian(rows, rank, 4)) * values.asDiagonal() *
         detail::orthonormalBasis(gaussian(cols, rank, 5)).transpose();
}

struct Shape {
  Index rows, cols;
};

float offOrthonormal(const Eigen::MatrixXf& basis) {
  return (basis.transpose() * basis - Eigen::MatrixXf::Identity(basis.cols(), basis.cols())).cwiseAbs().maxCoeff();
}

TEST(TransposedProduct, IsTheProductAtAnyShape) {
  for (const Index rows : {1, 7, 64, 417}) {
    for (const Index cols : testing::kOddSizes) {
      const RowMatrixXf a = gaussian(rows, cols, 1);
      for (const Index count : {1, 2, 5, 12, 29}) {
        const Eigen::MatrixXf x = gaussian(rows, count, 2), z = gaussian(cols, count, 3);
        const float tolerance = 1e-5f * static_cast<float>(rows + cols);
        const auto by_rows = detail::transposedProduct(detail::panelsOf(a.data(), rows, cols), x);
        EXPECT_LT((by_rows - a.transpose() * x).cwiseAbs().maxCoeff(), tolerance) << rows << " x " << cols;
        const auto by_columns = detail::transposedProduct(detail::TransposedPanels(a), z);
        EXPECT_LT((by_columns - a * z).cwiseAbs().maxCoeff(), tolerance) << rows << " x " << cols;
      }
    }
  }
}

TEST(OrthonormalBasis, SpansWhatHouseholderDoes) {
  for (const auto [rows, cols] : {Shape{1, 1}, {3, 3}, {65, 12}, {417, 8}, {172, 68}}) {
    const Eigen::MatrixXf columns = gaussian(rows, cols, 2);
    const Eigen::MatrixXf basis = detail::orthonormalBasis(columns);
    EXPECT_LT(offOrthonormal(basis), 2e-6f) << rows << " x " << cols;
    const Eigen::HouseholderQR<Eigen::MatrixXf> qr(columns);
    const Eigen::MatrixXf expected = qr.householderQ() * Eigen::MatrixXf::Identity(rows, cols);
    EXPECT_LT((basis * basis.transpose() - expected * expected.transpose()).norm(), 1e-3f) << rows << " x " << cols;
  }
}

TEST(OrthonormalBasis, IsWholeWhereColumnsAreDependentZeroOrNearlySo) {
  const Eigen::MatrixXf a = gaussian(90, 4, 1);
  for (const float noise : {0.f, 1e-8f, 1e-6f, 1e-4f, 1e-2f}) {
    Eigen::MatrixXf columns = a * gaussian(4, 20, 2) + noise * gaussian(90, 20, 3);
    columns.col(7).setZero();
    columns.col(0) *= 1e4f;
    const Eigen::MatrixXf basis = detail::orthonormalBasis(columns);
    EXPECT_LT(offOrthonormal(basis), 3e-6f) << noise;
    EXPECT_LT((columns - basis * (basis.transpose() * columns)).norm(), 1e-5f * columns.norm()) << noise;
  }
  EXPECT_LT(offOrthonormal(detail::orthonormalBasis(Eigen::MatrixXf::Zero(9, 9))), 1e-6f);
  EXPECT_LT(offOrthonormal(detail::orthonormalBasis(Eigen::MatrixXf::Ones(70, 68))), 3e-6f);
  const Eigen::MatrixXf axes = Eigen::MatrixXf::Identity(12, 5);
  EXPECT_EQ(detail::orthonormalBasis(axes), axes);
}

/// 2^-20 of a column is the least that counts; of (1, 0, 2^-22, 0) the first axis leaves less.
TEST(OrthonormalBasis, AnotherAxisTakesThePlaceOfWhatIsNearlyDependent) {
  const auto second = [](float left) {
    Eigen::MatrixXf columns = Eigen::MatrixXf::Zero(4, 2);
    columns(0, 0) = columns(0, 1) = 1;
    columns(2, 1) = left;
    return Eigen::VectorXf(detail::orthonormalBasis(columns).col(1));
  };
  EXPECT_EQ(second(0x1p-19f), Eigen::VectorXf::Unit(4, 2));
  EXPECT_EQ(second(0x1p-22f), Eigen::VectorXf::Unit(4, 1)) << "the first of those that lie farthest";
}

TEST(JacobiEigenvectors, AreEigens) {
  for (const Index n : {1, 2, 3, 12, 13, 68}) {
    const Eigen::MatrixXd half = gaussian(n, n + 3, 4).cast<double>();
    const Eigen::MatrixXd symmetric = half * half.transpose();
    const Eigen::SelfAdjointEigenSolver<Eigen::MatrixXd> expected(symmetric);
    const Eigen::MatrixXd vectors = detail::JacobiEigenvectors(symmetric).largest(n).cast<double>();
    for (Index i = 0; i < n; ++i) {
      EXPECT_NEAR(std::abs(vectors.col(i).dot(expected.eigenvectors().col(n - 1 - i))), 1, 1e-5) << i << " of " << n;
    }
  }
  // Equal eigenvalues, zeros and numbers far apart.
  EXPECT_EQ(detail::JacobiEigenvectors(Eigen::MatrixXd::Identity(5, 5)).largest(3), Eigen::MatrixXf::Identity(5, 3));
  EXPECT_EQ(detail::JacobiEigenvectors(Eigen::MatrixXd::Zero(4, 4)).largest(2), Eigen::MatrixXf::Identity(4, 2));
  Eigen::MatrixXd far = Eigen::Vector3d(1e-12, 1, 1e12).asDiagonal();
  far(0, 1) = far(1, 0) = 1e-7;
  EXPECT_LT(offOrthonormal(detail::JacobiEigenvectors(far).largest(3)), 1e-6f);
  EXPECT_EQ(detail::JacobiEigenvectors(far).largest(1), Eigen::MatrixXf(Eigen::Vector3f::UnitZ()));
}

TEST(LowRankFactors, ReachTheTruncatedSvd) {
  for (const auto [rows, cols] : {Shape{1, 1}, {7, 1}, {1, 65}, {9, 8}, {63, 172}, {172, 63}, {128, 417}}) {
    for (const Index rank : {1, 4, 8}) {
      const Index k = std::min({rank, rows, cols});
      for (const RowMatrixXf& w : {gaussian(rows, cols, 2), decaying(rows, cols, 0.95f), decaying(rows, cols, 0.5f)}) {
        const auto factors = detail::lowRankFactors(w, k, 4, 3);
        const double error = (w - factors.left * factors.right).cast<double>().norm();
        EXPECT_LE(error, 1.01 * truncatedSvdError(w, k) + 1e-5 * static_cast<double>(w.norm()))
            << rows << " x " << cols << ", rank " << k;
        EXPECT_LT((factors.left.transpose() * factors.left - Eigen::MatrixXf::Identity(k, k)).norm(), 1e-4f);
      }
    }
  }
}

TEST(LowRankFactors, MoreIterationsGetCloser) {
  const RowMatrixXf w = gaussian(172, 417, 8);
  const auto error = [&](int iterations) {
    const auto factors = detail::lowRankFactors(w, 4, iterations, 1);
    return (w - factors.left * factors.right).norm();
  };
  EXPECT_LT(error(2), error(0));
  EXPECT_LE(error(8), error(2));
}

TEST(LowRankFactors, TheStrongestDirectionComesFirst) {
  const auto factors = detail::lowRankFactors(decaying(90, 65, 0.5f), 4, 4, 1);
  for (Index k = 0; k < 4; ++k) EXPECT_NEAR(factors.right.row(k).norm(), std::pow(0.5f, static_cast<float>(k)), 1e-5f);
}

TEST(LowRankFactors, TheSameBitsEverywhere) {
  std::vector<float> all;
  for (const auto [rows, cols] : {Shape{1, 7}, {65, 7}, {64, 128}, {417, 65}, {128, 1024}}) {
    RowMatrixXf w(rows, cols);
    for (Index i = 0; i < w.size(); ++i) w.data()[i] = randomUniform(9, static_cast<std::uint64_t>(i)) - 0.4f;
    if (rows == 64) w.bottomRows(60).setZero();  // so that columns are dependent
    for (const Index rank : {1, 8}) {
      const auto factors = detail::lowRankFactors(w, std::min({rank, rows, cols}), 3, 5);
      all.insert(all.end(), factors.left.data(), factors.left.data() + factors.left.size());
      all.insert(all.end(), factors.right.data(), factors.right.data() + factors.right.size());
    }
  }
  EXPECT_EQ(testing::hashBytes(all.data(), all.size() * sizeof(float)), 6945361201648488640u);
}

}  // namespace
}  // namespace gosset::low_rank_factors_test
