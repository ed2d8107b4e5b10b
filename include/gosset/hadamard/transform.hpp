// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <gosset/core/empty_after_move.hpp>
#include <gosset/core/error.hpp>
#include <gosset/core/parallel.hpp>
#include <gosset/core/simd.hpp>
#include <gosset/core/types.hpp>
#include <gosset/hadamard/kernels.hpp>
#include <gosset/hadamard/matrix.hpp>

#include <algorithm>
#include <bit>
#include <cmath>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <type_traits>
#include <vector>

// The fast Walsh-Hadamard transform x <- H x of any length: in place, orthonormal (H H^T = I), and with the same bits
// on every instruction set, compiler and number of threads. matrix.hpp says what H is, kernels.hpp in
// which order its additions are done.
//
// The scale 1/sqrt(n) is applied last, so no number may be so large that the sum of all magnitudes overflows. NaN and
// infinities spread to the whole vector.
namespace gosset::GOSSET_ABI {

namespace detail {

/// Only declared: a segment of a vector is a DenseBase of its base class, so a test for DenseBase<X> would refuse it.
template <class Derived>
void asDense(const Eigen::DenseBase<Derived>&);

/// A dense Eigen object of float or double that can be written in place: a matrix, Map, Ref, block, row or column.
template <class X, class Plain = std::remove_cvref_t<X>>
concept WritableInPlace = requires(const Plain& x) {
  asDense(x);
}
&&(std::same_as<typename Plain::Scalar, float> ||
   std::same_as<typename Plain::Scalar, double>)&&!std::is_const_v<std::remove_reference_t<X>> &&
    (Plain::Flags & Eigen::LvalueBit) != 0 && (Plain::Flags & Eigen::DirectAccessBit) != 0;

template <class X>
constexpr void checkWritableVector() {
  static_assert(WritableInPlace<X>,
                "the Hadamard transform works in place: it takes a writable Eigen vector of float or double (or a row, "
                "column, segment or Map of one), not a constant or an expression that has yet to be computed");
  static_assert(std::remove_cvref_t<X>::IsVectorAtCompileTime != 0,
                "this Hadamard transform takes a vector; for a matrix, call the one for its rows or its columns");
}

template <class X>
constexpr void checkWritableMatrix() {
  static_assert(
      WritableInPlace<X>,
      "the Hadamard transform works in place: it takes a writable Eigen matrix of float or double (or a block "
      "or Map of one), not a constant or an expression that has yet to be computed");
}

/// `count` vectors of n numbers: number j of vector i is at data[i * vector_stride + j * stride].
template <class T>
struct StridedVectors {
  T* data;
  Index count;
  Index vector_stride;
  Index stride;
};

}  // namespace detail

/// The transform of one length: what hadamard() and its relatives build for each call, kept. Worth having where n is
/// not a power of two and the same length is transformed again and again. Const operations are safe from many threads.
/// What was moved from is the transform of one number.
template <class Scalar>
class HadamardTransform {
  static_assert(std::is_same_v<Scalar, float> || std::is_same_v<Scalar, double>,
                "HadamardTransform computes in float or double");

 public:
  /// n: the length, at least 1, else std::invalid_argument.
  explicit HadamardTransform(Index n) : plan_(makePlan(n)) {
    Index hadamard_order = n;
    for (const HadamardFactor& factor : plan_.factors) {
      if (factor.construction == HadamardConstruction::kHartley) {
        hadamard_order /= factor.order;
        hartley_ = hartleyTable(factor.order);
        for (double& entry : hartley_) entry = static_cast<double>(static_cast<Scalar>(entry));
        continue;
      }
      const SignMatrix h = hadamardMatrix(factor.order);
      forward_.emplace_back(h);
      if (factor.construction == HadamardConstruction::kWilliamson) transposed_.emplace_back(h.transpose());
    }
    scale_ = static_cast<Scalar>(detail::inverseRoot(hadamard_order));
  }

  Index size() const { return plan_.size; }
  const HadamardPlan& plan() const { return plan_; }
  HadamardKind kind() const { return plan_.kind(); }

  /// x <- H x. x: a vector of n numbers, contiguous or strided.
  template <class X>
  void forward(X&& x) const {
    applyToVector(x, false);
  }
  /// x <- H^T x, which undoes forward().
  template <class X>
  void inverse(X&& x) const {
    applyToVector(x, true);
  }

  /// Each row of w, m x n, by forward(): w <- w H^T.
  template <class M>
  void forwardRows(M&& w) const {
    applyToRows(w, false);
  }
  template <class M>
  void inverseRows(M&& w) const {
    applyToRows(w, true);
  }

  /// Each column of w, n x m, by forward(): w <- H w.
  template <class M>
  void forwardCols(M&& w) const {
    applyToCols(w, false);
  }
  template <class M>
  void inverseCols(M&& w) const {
    applyToCols(w, true);
  }

 private:
  using Buffer = Eigen::Matrix<Scalar, Eigen::Dynamic, 1>;

  /// What one thread needs: a panel of vectors side by side, and the sums of a factor.
  struct Workspace {
    Buffer panel;
    Eigen::VectorXd work;
  };

  static HadamardPlan makePlan(Index n) {
    detail::require(n >= 1, "hadamard: expected a length of at least 1, got ", n);
    return hadamardPlan(n);
  }

  template <class X>
  void applyToVector(X& x, bool inverse) const {
    detail::checkWritableVector<X>();
    detail::require(x.size() == size(), "hadamard: x: expected a vector of ", size(), " numbers, got ", x.size());
    apply({x.data(), 1, 1, x.innerStride()}, inverse);
  }

  template <class M>
  void applyToRows(M& w, bool inverse) const {
    detail::checkWritableMatrix<M>();
    detail::require(w.cols() == size(), "hadamard: w: expected ", size(), " columns, got ", w.rows(), " x ", w.cols());
    apply({w.data(), w.rows(), w.rowStride(), w.colStride()}, inverse);
  }

  template <class M>
  void applyToCols(M& w, bool inverse) const {
    detail::checkWritableMatrix<M>();
    detail::require(w.rows() == size(), "hadamard: w: expected ", size(), " rows, got ", w.rows(), " x ", w.cols());
    apply({w.data(), w.cols(), w.colStride(), w.rowStride()}, inverse);
  }

  void apply(const detail::StridedVectors<Scalar>& vectors, bool inverse) const;
  void applyChunk(detail::StridedVectors<Scalar> vectors, bool inverse, Workspace& workspace) const;
  void applyPanel(const detail::StridedVectors<Scalar>& vectors, bool inverse, Workspace& workspace) const;
  void transform(Scalar* x, detail::Layout layout, bool inverse, double* work) const;

  /// Numbers in a cache line, or in a vector if that is longer.
  static constexpr Index kLine = 64 / static_cast<Index>(sizeof(Scalar));
  /// Numbers that stand side by side in one chunk of interleaved vectors: a page of each element, which is a long
  /// enough run for the memory, while the parts of a chunk still fit in cache.
  static constexpr Index kChunk = 4096 / static_cast<Index>(sizeof(Scalar));
  /// With fewer it is faster to copy them together than to work where they are.
  static constexpr Index kLeastInPlace = 512 / static_cast<Index>(sizeof(Scalar));

  /// Vectors that are copied into a panel together: a cache line of each element, more if they fit in half the
  /// second-level cache.
  Index panelWidth() const {
    constexpr Index kPanelBytes = Index{1} << 19;
    const Index fitting = kPanelBytes / (size() * static_cast<Index>(sizeof(Scalar)) * kLine);
    return kLine * std::clamp<Index>(fitting, 1, 4);
  }

  /// Doubles that the factors need: two for each number that one call takes.
  Index workSize() const {
    Index largest = 0;
    for (const HadamardFactor& factor : plan_.factors) largest = std::max(largest, factor.order);
    return 2 * largest * detail::kMixVectors * detail::kMostLanes<double>;
  }

  template <class T>
  using Kept = detail::EmptyAfterMove<std::vector<T>>;

  detail::EmptyAfterMove<HadamardPlan> plan_;
  detail::EmptyAfterMove<Scalar, 1> scale_;
  Kept<double> hartley_;
  Kept<detail::SignedSums<Scalar>> forward_;     // in the order of the plan, without a Hartley factor
  Kept<detail::SignedSums<Scalar>> transposed_;  // of the Williamson factors only; the others are symmetric
};

/// x <- H x in place, H orthonormal. x: a vector of n numbers, float or double, contiguous or strided: a VectorXf, a
/// row, a segment, a Map. n < 1 throws std::invalid_argument. About n log2(n) additions where n = 2^p.
template <class X>
void hadamard(X&& x) {
  detail::checkWritableVector<X>();
  using Scalar = typename std::remove_cvref_t<X>::Scalar;
  const Index n = x.size();
  if (n > 0 && (n & (n - 1)) == 0 && x.innerStride() == 1) {  // what HadamardTransform does, without building one
    const int bits = std::countr_zero(static_cast<std::uint64_t>(n));
    return detail::sylvester(x.data(), bits, {1, 1}, 1, static_cast<Scalar>(detail::inverseRoot(n)));
  }
  HadamardTransform<Scalar>(n).forward(x);
}

/// x <- H^T x in place: undoes hadamard(x).
template <class X>
void hadamardInverse(X&& x) {
  detail::checkWritableVector<X>();
  HadamardTransform<typename std::remove_cvref_t<X>::Scalar>(x.size()).inverse(x);
}

/// hadamard() of each row of w: m x n, row- or column-major, n >= 1.
template <class M>
void hadamardRows(M&& w) {
  detail::checkWritableMatrix<M>();
  HadamardTransform<typename std::remove_cvref_t<M>::Scalar>(w.cols()).forwardRows(w);
}
template <class M>
void hadamardInverseRows(M&& w) {
  detail::checkWritableMatrix<M>();
  HadamardTransform<typename std::remove_cvref_t<M>::Scalar>(w.cols()).inverseRows(w);
}

/// hadamard() of each column of w: n x m, row- or column-major, n >= 1.
template <class M>
void hadamardCols(M&& w) {
  detail::checkWritableMatrix<M>();
  HadamardTransform<typename std::remove_cvref_t<M>::Scalar>(w.rows()).forwardCols(w);
}
template <class M>
void hadamardInverseCols(M&& w) {
  detail::checkWritableMatrix<M>();
  HadamardTransform<typename std::remove_cvref_t<M>::Scalar>(w.rows()).inverseCols(w);
}

template <class Scalar>
void HadamardTransform<Scalar>::transform(Scalar* x, detail::Layout layout, bool inverse, double* work) const {
  const auto& factors = plan_.factors;
  Index row = Index{1} << plan_.log2Sylvester;  // elements that the next factor takes as one
  detail::sylvester(x, plan_.log2Sylvester, layout, size() / row, factors.empty() ? scale_.get() : Scalar{1});
  std::size_t sums = forward_.size();
  std::size_t transposed = transposed_.size();
  for (std::size_t k = factors.size(); k-- > 0;) {
    const bool is_hartley = factors[k].construction == HadamardConstruction::kHartley;
    const bool is_symmetric = factors[k].construction != HadamardConstruction::kWilliamson;
    if (!is_hartley) --sums;
    if (!is_symmetric) --transposed;
    const Scalar scale = k == 0 ? scale_.get() : Scalar{1};
    for (Index block = 0; block < size(); block += row * factors[k].order) {
      Scalar* begin = x + block * layout.stride;
      if (is_hartley) {
        detail::mixByHartley(begin, row, layout, hartley_, scale, work);
      } else {
        const auto& matrix = !is_symmetric && inverse ? transposed_[transposed] : forward_[sums];
        detail::mixBySigns(begin, row, layout, matrix, scale, reinterpret_cast<Scalar*>(work));
      }
    }
    row *= factors[k].order;
  }
}

/// Copies the vectors into a panel, where they lie side by side, padded to whole SIMD vectors; and back.
template <class Scalar>
void HadamardTransform<Scalar>::applyPanel(const detail::StridedVectors<Scalar>& v, bool inverse,
                                           Workspace& workspace) const {
  const Index width = v.count == 1 ? 1 : ceilDiv(v.count, detail::kMostLanes<Scalar>) * detail::kMostLanes<Scalar>;
  Scalar* panel = workspace.panel.data();
  const auto copy = [&](const Scalar* from, Index from_stride, Index from_step, Scalar* to, Index to_stride,
                        Index to_step) {
    for (Index i = 0; i < size(); ++i, from += from_stride, to += to_stride) {
      if (from_step == 1 && to_step == 1) {
        std::copy(from, from + v.count, to);
      } else {
        for (Index j = 0; j < v.count; ++j) to[j * to_step] = from[j * from_step];
      }
    }
  };
  if (width != v.count) std::fill(panel, panel + size() * width, Scalar{0});
  copy(v.data, v.stride, v.vector_stride, panel, width, 1);
  transform(panel, {width, width}, inverse, workspace.work.data());
  copy(panel, width, 1, v.data, v.stride, v.vector_stride);
}

/// At most kChunk vectors: where they are, if they lie side by side, else panel by panel.
template <class Scalar>
void HadamardTransform<Scalar>::applyChunk(detail::StridedVectors<Scalar> v, bool inverse, Workspace& workspace) const {
  const Index whole = v.count - v.count % detail::kMostLanes<Scalar>;
  if (v.vector_stride == 1 && whole > 0 && (whole >= kLeastInPlace || whole == v.stride)) {
    transform(v.data, {v.stride, whole}, inverse, workspace.work.data());
    v.data += whole;
    v.count -= whole;
  }
  const Index width = panelWidth();
  for (; v.count > 0; v.data += width * v.vector_stride, v.count -= width) {
    applyPanel({v.data, std::min(width, v.count), v.vector_stride, v.stride}, inverse, workspace);
  }
}

template <class Scalar>
void HadamardTransform<Scalar>::apply(const detail::StridedVectors<Scalar>& v, bool inverse) const {
  if (v.count == 0) return;
  const bool is_contiguous = v.stride == 1 || size() == 1;
  if (v.count == 1 && is_contiguous && plan_.factors.empty()) return transform(v.data, {1, 1}, inverse, nullptr);

  const Index threads = std::min<Index>(v.count, Eigen::nbThreads());
  const Index chunk = is_contiguous ? 1 : std::min(kChunk, ceilDiv(ceilDiv(v.count, threads), kLine) * kLine);
  const Index chunks = ceilDiv(v.count, chunk);
  std::vector<Workspace> workspaces(static_cast<std::size_t>(threads));
  for (Workspace& workspace : workspaces) {
    if (!is_contiguous) workspace.panel.resize(size() * std::min(panelWidth(), ceilDiv(v.count, kLine) * kLine));
    workspace.work.resize(workSize());
  }
  parallelFor(threads, 16 * size() * ceilDiv(v.count, threads), [&](Index thread) {
    Workspace& workspace = workspaces[static_cast<std::size_t>(thread)];
    for (Index i = chunks * thread / threads; i < chunks * (thread + 1) / threads; ++i) {
      Scalar* data = v.data + i * chunk * v.vector_stride;
      if (is_contiguous) {
        transform(data, {1, 1}, inverse, workspace.work.data());
      } else {
        applyChunk({data, std::min(chunk, v.count - i * chunk), v.vector_stride, v.stride}, inverse, workspace);
      }
    }
  });
}

namespace detail {

/// Row i of a Hadamard matrix times x, in the order that kernels.hpp gives.
template <class T>
T signedSumReference(const SignMatrix& h, Index i, const std::vector<T>& x) {
  const auto at = [&](Index j) { return x[static_cast<std::size_t>(j)]; };
  const auto relative = [&](Index of, Index to) { return static_cast<T>(h(i, of) * h(i, to)); };
  T sum{};
  for (Index j = 0; j < h.cols(); j += 4) {
    const T first = at(j) + relative(j + 1, j) * at(j + 1);
    const T last = at(j + 2) + relative(j + 3, j + 2) * at(j + 3);
    const T group = static_cast<T>(h(i, j)) * (first + relative(j + 2, j) * last);
    sum = j == 0 ? group : sum + group;
  }
  return sum;
}

/// Row i of the Hartley matrix times x, and times the scale of the whole transform: this factor is always the last.
template <class T>
T hartleySumReference(const std::vector<double>& table, Index i, const std::vector<T>& x, T scale) {
  double sum = 0;
  for (std::size_t j = 0; j < x.size(); ++j) {
    const auto entry = static_cast<T>(table[static_cast<std::size_t>(i) * j % x.size()]);
    sum = std::fma(static_cast<double>(entry), static_cast<double>(x[j]), sum);
  }
  return static_cast<T>(sum * static_cast<double>(scale));
}

/// One factor of the plan, in plain loops: each element of its input is `row` numbers.
template <class T>
void factorReference(T* x, Index n, const HadamardFactor& factor, Index row, T scale, bool inverse) {
  const bool is_hartley = factor.construction == HadamardConstruction::kHartley;
  const std::vector<double> table = is_hartley ? hartleyTable(factor.order) : std::vector<double>{};
  const SignMatrix matrix = is_hartley ? SignMatrix() : hadamardMatrix(factor.order);
  const SignMatrix h = inverse ? SignMatrix(matrix.transpose()) : matrix;
  for (Index start = 0; start < n;
       start += start % (row * factor.order) == row - 1 ? row * (factor.order - 1) + 1 : 1) {
    std::vector<T> in;
    for (Index j = 0; j < factor.order; ++j) in.push_back(x[start + j * row]);
    for (Index i = 0; i < factor.order; ++i) {
      x[start + i * row] = is_hartley ? hartleySumReference(table, i, in, scale) : signedSumReference(h, i, in) * scale;
    }
  }
}

/// The definition: x <- H x (H^T x for the inverse) in plain loops, n = plan.size numbers, with the additions in the
/// order that kernels.hpp gives.
template <class T>
void hadamardReference(T* x, const HadamardPlan& plan, bool inverse = false) {
  Index row = Index{1} << plan.log2Sylvester;
  for (Index h = 1; h < row; h *= 2) {
    for (Index i = 0; i < plan.size; ++i) {
      if ((i / h) % 2 != 0) continue;
      const T a = x[i];
      const T b = x[i + h];
      x[i] = a + b;
      x[i + h] = a - b;
    }
  }
  const Index hadamard_order = plan.kind() == HadamardKind::kOrthogonal ? plan.size / plan.factors[0].order : plan.size;
  const auto scale = static_cast<T>(inverseRoot(hadamard_order));
  for (std::size_t k = plan.factors.size(); k-- > 0;) {
    factorReference(x, plan.size, plan.factors[k], row, k == 0 ? scale : T{1}, inverse);
    row *= plan.factors[k].order;
  }
  for (Index i = 0; plan.factors.empty() && i < plan.size; ++i) x[i] *= scale;
}

}  // namespace detail
}  // namespace gosset::GOSSET_ABI
