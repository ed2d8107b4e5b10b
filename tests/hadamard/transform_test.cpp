// SPDX-License-Identifier: Apache-2.0
#include <gosset/core/instruction_set.hpp>
#include <gosset/hadamard/transform.hpp>

#include <testing.hpp>

#include <cmath>
#include <cstring>
#include <limits>
#include <string>
#include <utility>
#include <vector>

namespace gosset::transform_test {
namespace {

/// Lengths of every kind: powers of two across all cache blocks, Paley, Williamson, products of factors, Hartley, odd.
constexpr Index kLengths[] = {1,   2,    3,    4,    5,    7,    8,    9,    11,    12,   16,  20,  24,
                              28,  32,   36,   40,   43,   56,   63,   64,   65,    92,   96,  100, 116,
                              128, 144,  156,  172,  188,  256,  344,  417,  512,   516,  544, 564, 768,
                              924, 1024, 1376, 2048, 2752, 3584, 4096, 8192, 11008, 16384};

template <class Scalar>
using Vector = Eigen::Matrix<Scalar, Eigen::Dynamic, 1>;

/// n numbers in [-1, 1), multiples of 2^-23.
template <class Scalar>
Vector<Scalar> numbers(Index n, std::uint64_t seed = 1) {
  Vector<Scalar> x(n);
  for (Index i = 0; i < n; ++i) x[i] = static_cast<Scalar>(2 * randomUniform(seed, static_cast<std::uint64_t>(i)) - 1);
  return x;
}

template <class A, class B>
bool sameBits(const A& a, const B& b) {
  for (Index j = 0; j < a.cols(); ++j) {
    for (Index i = 0; i < a.rows(); ++i) {
      const auto x = a(i, j);
      const auto y = b(i, j);
      if (std::memcmp(&x, &y, sizeof(x)) != 0) return false;
    }
  }
  return a.rows() == b.rows() && a.cols() == b.cols();
}

/// max |a_i - b_i|, without Eigen's vectorized reductions.
template <class A, class B>
double distance(const A& a, const B& b) {
  double largest = 0;
  for (Index i = 0; i < a.size(); ++i) largest = std::max(largest, std::abs(static_cast<double>(a[i] - b[i])));
  return largest;
}

double dot(const Eigen::VectorXd& a, const Eigen::VectorXd& b) {
  double sum = 0;
  for (Index i = 0; i < a.size(); ++i) sum += a[i] * b[i];
  return sum;
}

template <class T>
class Hadamard : public ::testing::Test {};
using Scalars = ::testing::Types<float, double>;
TYPED_TEST_SUITE(Hadamard, Scalars);

TYPED_TEST(Hadamard, KnownAnswers) {
  using T = TypeParam;
  Vector<T> one(1);
  one << 3;
  hadamard(one);
  EXPECT_EQ(one[0], T{3});

  Vector<T> four(4);
  four << 1, 2, 3, 4;
  hadamard(four);
  EXPECT_EQ(four, (Vector<T>(4) << 5, -1, -2, 0).finished());

  Vector<T> constant = Vector<T>::Constant(64, 2);
  hadamard(constant);
  EXPECT_EQ(constant, Vector<T>::Unit(64, 0) * T{16});

  // A unit vector gives a column of the Hadamard matrix.
  const SignMatrix h = hadamardMatrix(12);
  for (Index j = 0; j < 12; ++j) {
    Vector<T> unit = Vector<T>::Unit(12, j);
    hadamard(unit);
    for (Index i = 0; i < 12; ++i) EXPECT_EQ(unit[i], static_cast<T>(h(i, j)) * static_cast<T>(1 / std::sqrt(12.0)));
  }

  // n = 3: cas(0), cas(120), cas(240 degrees).
  Vector<T> three = Vector<T>::Unit(3, 1) * static_cast<T>(std::sqrt(3.0));
  hadamard(three);
  EXPECT_NEAR(static_cast<double>(three[0]), 1.0, 1e-6);
  EXPECT_NEAR(static_cast<double>(three[1]), -0.5 + std::sqrt(0.75), 1e-6);
  EXPECT_NEAR(static_cast<double>(three[2]), -0.5 - std::sqrt(0.75), 1e-6);
}

TYPED_TEST(Hadamard, EqualsItsDefinitionBitForBit) {
  using T = TypeParam;
  for (Index n : kLengths) {
    const Vector<T> x = numbers<T>(n, 5);
    Vector<T> fast = x;
    Vector<T> slow = x;
    hadamard(fast);
    detail::hadamardReference(slow.data(), hadamardPlan(n));
    EXPECT_TRUE(sameBits(fast, slow)) << n;

    fast = slow = x;
    hadamardInverse(fast);
    detail::hadamardReference(slow.data(), hadamardPlan(n), true);
    EXPECT_TRUE(sameBits(fast, slow)) << n;
  }
}

TYPED_TEST(Hadamard, TransformsWhatLiesAnywhere) {
  using T = TypeParam;
  for (Index n : {7, 12, 64, 172, 417, 512}) {
    const Vector<T> x = numbers<T>(n, 6);
    Vector<T> expected = x;
    hadamard(expected);

    Eigen::Matrix<T, Eigen::Dynamic, Eigen::Dynamic> columns = Eigen::Matrix<T, -1, -1>::Constant(n, 3, 9);
    columns.col(1) = x;
    hadamard(columns.col(1));
    EXPECT_TRUE(sameBits(columns.col(1), expected)) << n;
    EXPECT_TRUE((columns.col(0).array() == 9).all() && (columns.col(2).array() == 9).all());

    Eigen::Matrix<T, Eigen::Dynamic, Eigen::Dynamic> rows = Eigen::Matrix<T, -1, -1>::Constant(3, n, 9);
    rows.row(1) = x.transpose();
    hadamard(rows.row(1));
    EXPECT_TRUE(sameBits(rows.row(1).transpose(), expected)) << n;
    EXPECT_TRUE((rows.row(0).array() == 9).all() && (rows.row(2).array() == 9).all());

    Vector<T> longer = Vector<T>::Constant(n + 5, 9);  // not aligned
    longer.segment(3, n) = x;
    hadamard(longer.segment(3, n));
    EXPECT_TRUE(sameBits(longer.segment(3, n), expected)) << n;
    EXPECT_TRUE((longer.head(3).array() == 9).all() && (longer.tail(2).array() == 9).all());

    std::vector<T> strided(static_cast<std::size_t>(4 * n), T{9});
    Eigen::Map<Vector<T>, 0, Eigen::InnerStride<>> map(strided.data() + 1, n, Eigen::InnerStride<>(4));
    map = x;
    hadamard(map);
    EXPECT_TRUE(sameBits(map, expected)) << n;
    for (std::size_t i = 0; i < strided.size(); ++i) EXPECT_TRUE(i % 4 == 1 || strided[i] == T{9});
  }
}

/// Rows and columns of both storage orders, inside a larger matrix, equal the transform of each vector.
template <class Matrix>
void expectRowsAndColumnsAlike(Index n, Index count) {
  using T = typename Matrix::Scalar;
  const HadamardTransform<T> transform(n);
  Matrix wide = Matrix::Constant(count + 3, n + 4, 9);
  for (Index i = 0; i < count; ++i)
    wide.row(i + 1).segment(2, n) = numbers<T>(n, static_cast<std::uint64_t>(i)).transpose();
  Matrix tall = wide.transpose();
  const Matrix before = wide;
  auto rows = wide.block(1, 2, count, n);
  auto cols = tall.block(2, 1, n, count);
  transform.forwardRows(rows);
  transform.forwardCols(cols);
  for (Index i = 0; i < count; ++i) {
    Vector<T> expected = numbers<T>(n, static_cast<std::uint64_t>(i));
    transform.forward(expected);
    EXPECT_TRUE(sameBits(rows.row(i).transpose(), expected)) << n << " row " << i;
    EXPECT_TRUE(sameBits(cols.col(i), expected)) << n << " column " << i;
  }
  rows.setConstant(9);
  cols.setConstant(9);
  EXPECT_TRUE((wide.array() == 9).all() && (tall.array() == 9).all()) << "nothing else was written";

  wide = before;
  tall = before.transpose();
  auto undone = tall.block(2, 1, n, count);
  hadamardRows(rows);
  hadamardInverseRows(rows);
  hadamardCols(undone);
  hadamardInverseCols(undone);
  const double tolerance = 40 * static_cast<double>(std::numeric_limits<T>::epsilon());
  for (Index i = 0; i < count; ++i) {
    const Vector<T> expected = numbers<T>(n, static_cast<std::uint64_t>(i));
    EXPECT_LT(distance(rows.row(i), expected), tolerance) << n;
    EXPECT_LT(distance(undone.col(i), expected), tolerance) << n;
  }
}

TYPED_TEST(Hadamard, RowsAndColumnsAreVectors) {
  using T = TypeParam;
  using RowMajor = Eigen::Matrix<T, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;
  using ColMajor = Eigen::Matrix<T, Eigen::Dynamic, Eigen::Dynamic>;
  for (Index n : {1, 2, 7, 12, 64, 86, 172}) {
    for (Index count : {1, 17, 150}) {
      expectRowsAndColumnsAlike<RowMajor>(n, count);
      expectRowsAndColumnsAlike<ColMajor>(n, count);
    }
  }
  expectRowsAndColumnsAlike<RowMajor>(64, 1300);  // more than one chunk
  expectRowsAndColumnsAlike<ColMajor>(4096, 19);
}

TYPED_TEST(Hadamard, WholeMatricesLieSideBySide) {
  using T = TypeParam;
  for (Index n : {4, 12, 1024}) {
    for (Index count : {16, 32, 48}) {
      Eigen::Matrix<T, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor> w(n, count);
      for (Index j = 0; j < count; ++j) w.col(j) = numbers<T>(n, static_cast<std::uint64_t>(j));
      hadamardCols(w);
      for (Index j = 0; j < count; ++j) {
        Vector<T> expected = numbers<T>(n, static_cast<std::uint64_t>(j));
        hadamard(expected);
        EXPECT_TRUE(sameBits(w.col(j), expected)) << n << " x " << count;
      }
    }
  }
}

TYPED_TEST(Hadamard, DoesNotDependOnThreads) {
  using T = TypeParam;
  const int threads = Eigen::nbThreads();
  for (Index n : {64, 172, 301}) {
    Eigen::Matrix<T, Eigen::Dynamic, Eigen::Dynamic> w(n, 300);
    for (Index j = 0; j < w.cols(); ++j) w.col(j) = numbers<T>(n, static_cast<std::uint64_t>(j));
    Eigen::Matrix<T, Eigen::Dynamic, Eigen::Dynamic> v = w.transpose();
    auto w1 = w;
    auto v1 = v;
    Eigen::setNbThreads(1);
    hadamardCols(w1);
    hadamardRows(v1);
    Eigen::setNbThreads(3);
    hadamardCols(w);
    hadamardRows(v);
    EXPECT_TRUE(sameBits(w, w1)) << n;
    EXPECT_TRUE(sameBits(v, v1)) << n;
  }
  Eigen::setNbThreads(threads);
}

TYPED_TEST(Hadamard, TakesExtremes) {
  using T = TypeParam;
  using Limits = std::numeric_limits<T>;
  for (Index n : {1, 7, 8, 12, 43, 64, 172}) {
    // A power of two times the numbers gives the same power times the result, while nothing leaves the range.
    const Vector<T> x = numbers<T>(n, 9);
    Vector<T> y = x;
    hadamard(y);
    for (T factor : {std::ldexp(T{1}, Limits::max_exponent / 2), std::ldexp(T{1}, Limits::min_exponent / 2)}) {
      Vector<T> scaled = x * factor;
      hadamard(scaled);
      EXPECT_TRUE(sameBits(scaled, (y * factor).eval())) << n;
    }
    Vector<T> zeros = Vector<T>::Zero(n);
    hadamard(zeros);
    EXPECT_EQ(zeros, Vector<T>::Zero(n));
    Vector<T> minusZeros = -Vector<T>::Zero(n);
    hadamard(minusZeros);
    EXPECT_EQ(minusZeros, Vector<T>::Zero(n));

    Vector<T> spoilt = x;
    spoilt[n / 2] = Limits::quiet_NaN();
    hadamard(spoilt);
    for (Index i = 0; i < n; ++i) EXPECT_TRUE(std::isnan(spoilt[i])) << n;
    spoilt = x;
    spoilt[n / 2] = Limits::infinity();
    hadamard(spoilt);
    for (Index i = 0; i < n; ++i) EXPECT_FALSE(std::isfinite(spoilt[i])) << n;
  }
}

TYPED_TEST(Hadamard, KeepsDenormals) {
  using T = TypeParam;
  constexpr T kLeast = std::numeric_limits<T>::denorm_min();
  for (Index n : {1, 8, 12, 64}) {  // orders whose first row is constant
    Vector<T> x = Vector<T>::Constant(n, kLeast);
    hadamard(x);
    EXPECT_EQ(x[0], static_cast<T>(n) * kLeast * static_cast<T>(1 / std::sqrt(static_cast<double>(n)))) << n;
    EXPECT_GT(x[0], T{0});
    EXPECT_EQ(x.tail(n - 1), Vector<T>::Zero(n - 1)) << n;
  }
}

TYPED_TEST(Hadamard, RefusesWhatDoesNotFit) {
  using T = TypeParam;
  Vector<T> empty(0);
  Eigen::Matrix<T, Eigen::Dynamic, Eigen::Dynamic> w(3, 0);
  testing::expectThrows([&] { hadamard(empty); }, "hadamard: expected a length of at least 1, got 0");
  testing::expectThrows([&] { hadamardInverse(empty); }, "got 0");
  testing::expectThrows([&] { hadamardRows(w); }, "hadamard: expected a length of at least 1, got 0");
  testing::expectThrows([&] { hadamardInverseRows(w); }, "got 0");
  auto flat = w.transpose();
  testing::expectThrows([&] { hadamardCols(flat); }, "got 0");
  testing::expectThrows([&] { hadamardInverseCols(flat); }, "got 0");
  hadamardCols(w);  // no column, nothing to do
  EXPECT_EQ(w.rows(), 3);

  const HadamardTransform<T> transform(8);
  Vector<T> x(7);
  w.resize(7, 9);
  testing::expectThrows([&] { transform.forward(x); }, "hadamard: x: expected a vector of 8 numbers, got 7");
  testing::expectThrows([&] { transform.inverseRows(w); }, "hadamard: w: expected 8 columns, got 7 x 9");
  testing::expectThrows([&] { transform.forwardCols(w); }, "hadamard: w: expected 8 rows, got 7 x 9");
  testing::expectThrows([] { HadamardTransform<T>(-1); }, "got -1");
}

TYPED_TEST(Hadamard, KnowsItsPlan) {
  const HadamardTransform<TypeParam> transform(344);
  EXPECT_EQ(transform.size(), 344);
  EXPECT_EQ(transform.kind(), HadamardKind::kHadamard);
  EXPECT_EQ(transform.plan().factors.size(), 1u);
}

/// H as a matrix, column by column.
Eigen::MatrixXd matrixOf(Index n) {
  Eigen::MatrixXd h = Eigen::MatrixXd::Identity(n, n);
  hadamardCols(h);
  return h;
}

TEST(HadamardOrthogonality, OfWholeMatrices) {
  for (Index n = 1; n <= 417; n += n < 100 ? 1 : 79) {
    const Eigen::MatrixXd h = matrixOf(n);
    const Eigen::MatrixXd product = h * h.transpose();
    const bool isHartley = hadamardKind(n) == HadamardKind::kOrthogonal;
    double worst = 0;
    double largest = 0;
    double least = 1;
    for (Index j = 0; j < n; ++j) {
      worst = std::max(worst, distance(product.col(j), Eigen::VectorXd::Unit(n, j)));
      for (Index i = 0; i < n; ++i) {
        largest = std::max(largest, std::abs(h(i, j)));
        least = std::min(least, std::abs(h(i, j)));
      }
    }
    EXPECT_LT(worst, 1e-14) << n;
    const double root = 1 / std::sqrt(static_cast<double>(n));
    EXPECT_LE(largest, root * (isHartley ? std::sqrt(2.0) : 1.0) * (1 + 1e-15)) << n;
    EXPECT_TRUE(isHartley || least >= root * (1 - 1e-15)) << n;
  }
}

/// Together with the tests of the factors in hadamard_matrix_test.cpp, which multiply each factor by its transpose: the
/// transform of a length is the Kronecker product of its factors.
TEST(HadamardOrthogonality, OfEveryLengthTo2048) {
  for (Index n = 1; n <= 2048; ++n) {
    const HadamardTransform<double> transform(n);
    const bool isHartley = transform.kind() == HadamardKind::kOrthogonal;
    if (isHartley && transform.plan().factors[0].order > 300 && n % 23 != 0) continue;  // order^2 multiplications each
    const Eigen::VectorXd x = numbers<double>(n, 1);
    const Eigen::VectorXd y = numbers<double>(n, 2);
    Eigen::VectorXd hx = x;
    Eigen::VectorXd hy = y;
    transform.forward(hx);
    transform.forward(hy);
    EXPECT_NEAR(dot(hx, hx) / dot(x, x), 1.0, 1e-13) << n;
    EXPECT_NEAR(dot(hx, hy), dot(x, y), 1e-12 * static_cast<double>(n)) << n;

    Eigen::VectorXd unit = Eigen::VectorXd::Unit(n, n / 3);
    transform.inverse(unit);
    EXPECT_NEAR(dot(unit, x), hx[n / 3], 1e-12) << "row " << n / 3 << " of " << n << " is column of the transpose";

    transform.inverse(hx);
    EXPECT_LT(distance(hx, x), 1e-13) << n;
  }
}

TEST(HadamardOrthogonality, OfSomeLargerLengths) {
  for (Index n : {4095, 11008, 13696, 14336, 29568, 1 << 17, 3 << 16}) {
    const Eigen::VectorXd x = numbers<double>(n, 3);
    Eigen::VectorXd y = x;
    hadamard(y);
    EXPECT_NEAR(dot(y, y) / dot(x, x), 1.0, 1e-12) << n;
    hadamardInverse(y);
    EXPECT_LT(distance(y, x), 1e-12) << n;
  }
}

TEST(HadamardOrthogonality, OfFloatsIsAsGoodAsFloatsAre) {
  for (Index n : {43, 172, 417, 1024, 11008, 13696, 1 << 16}) {
    Eigen::VectorXd exact = numbers<double>(n, 4);
    Eigen::VectorXf x = exact.cast<float>();
    hadamard(exact);
    hadamard(x);
    EXPECT_LT(distance(x.cast<double>().eval(), exact), 2e-6) << n;
  }
}

struct Hashed {
  Index n;
  std::uint64_t floats;
  std::uint64_t doubles;
};

class HadamardBits : public ::testing::TestWithParam<Hashed> {};

TEST_P(HadamardBits, AreTheSameEverywhere) {
  const auto [n, floats, doubles] = GetParam();
  Eigen::VectorXf x = numbers<float>(n, 42);
  hadamard(x);
  EXPECT_EQ(testing::hashBytes(x.data(), static_cast<std::size_t>(n) * sizeof(float)), floats) << n;
  Eigen::VectorXd y = numbers<double>(n, 42);
  for (Index i = 0; i < n; ++i) y[i] += 0x1p-40 * static_cast<double>(i % 7);
  hadamardInverse(y);
  EXPECT_EQ(testing::hashBytes(y.data(), static_cast<std::size_t>(n) * sizeof(double)), doubles) << n;
}

INSTANTIATE_TEST_SUITE_P(
    Lengths, HadamardBits,
    ::testing::Values(
        Hashed{2, 0x30f728428fd28490u, 0xfd135f81d27bf7a8u}, Hashed{7, 0x2bd319d14645b241u, 0xa7611761fbcd3437u},
        Hashed{8, 0x4a519398a917401bu, 0xf049a20ac155d3ddu}, Hashed{48, 0xb61c655352e0e4d9u, 0xfead9254cc014432u},
        Hashed{64, 0x8c84c4eb1acb6805u, 0x4cbf785a3dc876aau}, Hashed{172, 0x3d902c341eb0ad7du, 0xf78a0eaf6ef320d5u},
        Hashed{344, 0x889e03ab904e34a5u, 0xe70f1936b0ea7637u}, Hashed{417, 0x77e9a6793ba4f1fbu, 0xc49c40b1718b347eu},
        Hashed{512, 0x39fbf336a0d55340u, 0x136f11589d6a9d72u}, Hashed{1032, 0x84e6e8f5a07da56bu, 0x0e53561afe0ae3fcu},
        Hashed{4096, 0x9e3ae4d9d3199e07u, 0x7fae73de761bf4a1u}, Hashed{11008, 0x9e54fcb337563308u, 0x68385a064277496bu},
        Hashed{131072, 0xef513854297249d7u, 0xbe2b3c51f81ec819u}));

/// Sylvester's part alone and with factors of each kind, of a vector, of rows and of columns.
TEST(HadamardTransform, EveryInstructionSetGivesTheSameBits) {
  const std::string before = instructionSet();
  for (const Index n : {1, 2, 8, 64, 1024, 12, 28, 172, 1664}) {
    const RowMatrixXf w = RowMatrixXf::Random(37, n);
    RowMatrixXf expected = w;
    for (Index row = 0; row < w.rows(); ++row) detail::hadamardReference(expected.row(row).data(), hadamardPlan(n));
    for (const std::string& name : instructionSets()) {
      useInstructionSet(name);
      RowMatrixXf rows = w, columns = w.transpose();
      hadamardRows(rows);
      EXPECT_EQ(rows, expected) << name << ", " << n;
      hadamardCols(columns);
      EXPECT_EQ(columns, expected.transpose()) << name << ", " << n;
      Eigen::VectorXd x = w.row(5).cast<double>(), y = x;
      detail::hadamardReference(y.data(), hadamardPlan(n));
      hadamard(x);
      EXPECT_EQ(x, y) << name << ", " << n;
    }
  }
  useInstructionSet(before);
}

TEST(HadamardTransform, WhatWasMovedFromIsThatOfOneNumber) {
  for (const Index n : {16, 12, 28, 7}) {
    const HadamardTransform<float> before(n);
    HadamardTransform<float> from = before;
    HadamardTransform<float> to = std::move(from);
    auto& same = to;
    to = std::move(same);
    Eigen::VectorXf x = testing::gaussian(n, 1), y = x, one = Eigen::VectorXf::Constant(1, 5);
    before.forward(x);
    to.forward(y);
    EXPECT_EQ(x, y) << n;
    EXPECT_EQ(from.size(), 1);
    from.forward(one);
    EXPECT_EQ(one[0], 5);
    from = std::move(to);
    from.inverse(y);
    before.inverse(x);
    EXPECT_EQ(x, y);
  }
}

}  // namespace
}  // namespace gosset::transform_test
