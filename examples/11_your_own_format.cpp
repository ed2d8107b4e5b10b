// SPDX-License-Identifier: Apache-2.0
// A format of your own, around any other: the mean of each row is kept beside what the inner format makes of the rest.
// format/concepts.hpp says what a format is. Everything else, products and files included, then works with it.
#include "data.hpp"

#include <gosset/gosset.hpp>

#include <cstdio>
#include <iostream>

/// W = inner + mean 1^T: one Float16 a row more than the inner format, 16 / n bits a weight.
template <class Format>
struct RowMean {
  using Inner = Format;
};

template <gosset::Format F>
class gosset::Packed<RowMean<F>> : public gosset::PackedWrapper<gosset::Packed<RowMean<F>>, F> {
 public:
  using Base = PackedWrapper<Packed<RowMean<F>>, F>;

  Packed() : Packed(Packed<F>()) {}
  static Packed shaped(Index rows, Index cols, const FieldLengths& lengths = {}) {
    return Packed(Base::innerShaped(rows, cols, lengths));
  }

  template <class Rounding>
  static Packed quantize(RowMatrixXf w, Rounding rounding, const QuantizeOptions& options) {
    StoredArray<Float16> means(static_cast<std::size_t>(w.rows()));
    for (Index row = 0; row < w.rows(); ++row) {
      means.writable()[static_cast<std::size_t>(row)] = Float16(w.row(row).mean());
    }
    w.colwise() -= widened(means);
    Packed packed(Packed<F>::quantize(std::move(w), std::move(rounding), options));
    packed.means_ = std::move(means);
    return packed;
  }

  static std::string formatName() { return "RowMean<" + Packed<F>::formatName() + ">"; }

  template <class Self, class Visit>
  static void fields(Self& self, const Visit& visit) {
    visit("means", self.means_);
    visitWithin("inner.", self.inner_, visit);
  }

  void computeRows(Index first, Index count, Eigen::Ref<RowMatrixXf> w) const {
    this->inner_.decodeRows(first, count, w);
    w.colwise() += widened(means_).segment(first, count);
  }

  // Defaults would decode the matrix first; the inner format's own products are faster.
  void computeProduct(const Eigen::Ref<const Eigen::MatrixXf>& x, Eigen::Ref<Eigen::MatrixXf> y,
                      Activations activations) const {
    this->inner_.multiply(x, y, activations);
    y.noalias() += widened(means_) * x.colwise().sum();
  }
  void computeProductRows(Index first, Index count, const Eigen::Ref<const Eigen::MatrixXf>& x,
                          Eigen::Ref<Eigen::MatrixXf> y, Activations activations) const {
    this->inner_.multiplyRows(first, count, x, y, activations);
    y.middleRows(first, count).noalias() += widened(means_).segment(first, count) * x.colwise().sum();
  }

 private:
  explicit Packed(Packed<F> inner) : Base(std::move(inner)), means_(static_cast<std::size_t>(this->rows())) {}

  static Eigen::VectorXf widened(const StoredArray<Float16>& means) {
    return Eigen::Map<const Eigen::Matrix<Float16, Eigen::Dynamic, 1>>(means.data(), static_cast<Index>(means.size()))
        .template cast<float>();
  }

  StoredArray<Float16> means_;
};

int main() {
  Eigen::MatrixXf W = example::gaussian(128, 192, 1);
  for (int row = 0; row < 128; ++row) W.row(row).array() += 0.05f * static_cast<float>(row - 64);
  using Int4 = gosset::PerChannel<gosset::Symmetric<4>>;
  const auto plain = gosset::quantize<Int4>(W);
  const auto mine = gosset::quantize<RowMean<Int4>>(W);
  std::cout << plain << '\n' << mine << '\n';
  std::printf("relative error: %.3f and %.3f\n", gosset::distortion(W, plain.dequantized()).relative,
              gosset::distortion(W, mine.dequantized()).relative);

  const Eigen::MatrixXf x = example::activations(5, 192, 2).transpose(), z = example::gaussian(128, 3, 3);
  const auto agree = [](const auto& a, const auto& b) { return (a - b).norm() < 0.01 * b.norm() ? "yes" : "no"; };
  std::printf("products agree: %s, transposed: %s\n", agree((mine * x).eval(), (mine.dequantized() * x).eval()),
              agree(mine.transpose() * z, (mine.dequantized().transpose() * z).eval()));
}

/* Prints:
PerChannel<Symmetric<4>>, 128 x 192, 4.08464 bits a weight, 12548 bytes
RowMean<PerChannel<Symmetric<4>>>, 128 x 192, 4.16797 bits a weight, 12804 bytes
relative error: 0.087 and 0.058
products agree: yes, transposed: yes
*/
