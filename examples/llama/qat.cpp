// SPDX-License-Identifier: Apache-2.0
#include "qat.hpp"

#include "adam.hpp"

#include <gosset/codebook.hpp>
#include <gosset/entropy/archive.hpp>
#include <gosset/matrix.hpp>
#include <gosset/train.hpp>

namespace llama {

namespace {

template <class Format>
double archivedBitsOf(const gosset::QuantizedMatrix<Format>& q) {
  return 8.0 * static_cast<double>(gosset::archive(q).size()) / static_cast<double>(q.rows() * q.cols());
}

template <class Format>
class FittedLayer : public QatLayer {
 public:
  explicit FittedLayer(const Weights&) {}

  RowMatrixXf forward(const Weights& weights) const override { return quant_.forward(weights); }
  RowMatrixXf backward(const Weights& weights, const Weights& gradient) override {
    return quant_.backward(weights, gradient);
  }
  void step(float) override {}
  gosset::AnyMatrix packed(const Weights& weights) const override { return gosset::AnyMatrix(quantized(weights)); }
  double archivedBits(const Weights& weights) const override { return archivedBitsOf(quantized(weights)); }

 private:
  static gosset::QuantizedMatrix<Format> quantized(const Weights& weights) { return gosset::quantize<Format>(weights); }

  gosset::FakeQuant<Format> quant_;
};

/// Scales are trained as logarithms of what they began as: they stay positive, and a step of the optimizer is a
/// relative one, as small scales need. Zero points move in levels.
template <class Format>
class LearnedLayer : public QatLayer {
 public:
  explicit LearnedLayer(const Weights& weights)
      : quant_(weights),
        first_(quant_.scales()),
        moved_(Eigen::VectorXf::Zero(scales() + quant_.zeros().size())),
        gradient_(Eigen::VectorXf::Zero(moved_.size())),
        adam_(Eigen::VectorXf::Zero(moved_.size())) {
    moved_.tail(quant_.zeros().size()) = flat(quant_.zeros());
  }

  RowMatrixXf forward(const Weights& weights) const override { return quant_.forward(weights); }
  RowMatrixXf backward(const Weights& weights, const Weights& gradient) override {
    auto gradients = quant_.backward(weights, gradient);
    gradient_.head(scales()) = flat(gradients.scales).cwiseProduct(flat(quant_.scales()));
    gradient_.tail(gradients.zeros.size()) = flat(gradients.zeros);
    return std::move(gradients.weights);
  }
  void step(float rate) override {
    adam_.step(moved_, gradient_, rate);
    flat(quant_.scales()) = flat(first_).array() * moved_.head(scales()).array().exp();
    flat(quant_.zeros()) = moved_.tail(quant_.zeros().size());
  }
  gosset::AnyMatrix packed(const Weights& weights) const override {
    return gosset::AnyMatrix(quant_.quantized(weights));
  }
  double archivedBits(const Weights& weights) const override { return archivedBitsOf(quant_.quantized(weights)); }

 private:
  static Eigen::Map<Eigen::VectorXf> flat(RowMatrixXf& matrix) { return {matrix.data(), matrix.size()}; }

  Index scales() const { return first_.size(); }

  gosset::LearnedStep<Format> quant_;
  RowMatrixXf first_;
  Eigen::VectorXf moved_, gradient_;  // logarithms of scales / first_, then zero points; the derivatives by them
  Adam adam_;
};

template <class Layer>
std::unique_ptr<QatLayer> make(const QatLayer::Weights& weights) {
  return std::make_unique<Layer>(weights);
}

template <class Format>
QatFormat entry(const char* name, const char* about) {
  return {name, about, &make<FittedLayer<Format>>, &make<LearnedLayer<Format>>};
}

}  // namespace

const std::vector<QatFormat>& qatTable() {
  using namespace gosset;  // NOLINT: a table of its names
  static const std::vector<QatFormat> table = {
      entry<Grouped<Asymmetric<4>, 32>>("asym4-g32", "4 bits, scale and zero point for 32 weights"),
      entry<Grouped<Asymmetric<3>, 32>>("asym3-g32", "3 bits, scale and zero point for 32 weights"),
      entry<Grouped<Asymmetric<2>, 32>>("asym2-g32", "2 bits, scale and zero point for 32 weights"),
      entry<Grouped<LloydMax<2>, 64>>("lloyd2-g64", "2 bits, Gaussian levels, a scale for 64 weights"),
      entry<PerChannel<Ternary>>("ternary", "-1, 0 or 1, a scale a row"),
  };
  return table;
}

const QatFormat& findQatFormat(const std::string& name) {
  std::string known;
  for (const QatFormat& format : qatTable()) {
    if (format.name == name) return format;
    known += (known.empty() ? "" : ", ") + format.name;
  }
  throw std::invalid_argument("training format \"" + name + "\" is none of " + known);
}

}  // namespace llama
