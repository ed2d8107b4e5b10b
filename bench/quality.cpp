// SPDX-License-Identifier: Apache-2.0
// Quality tables: the error of every codebook on a Gaussian, and the proxy loss of the roundings on real layer shapes.
//
//   quality                      the Gaussian table
//   quality --json FILE          and its rows in FILE
//   quality --layers FOLDER      and the table of proxy losses on FOLDER/{W_iid,W_outcol,H_damped}.npy
#include <gosset/gosset.hpp>

#include <CLI/CLI.hpp>
#include <nlohmann/json.hpp>

#include <cmath>
#include <cstdint>
#include <fstream>
#include <iomanip>
#include <iostream>
#include <string>
#include <type_traits>

#include "gaussian.hpp"
#include "npy.hpp"

namespace {

using namespace gosset;

nlohmann::ordered_json gaussian_rows = nlohmann::ordered_json::array();

template <Format F>
void gaussianRow(const RowMatrixXf& w, const QuantizeOptions& options = {}) {
  const auto q = quantize<F>(w, Nearest{}, options);
  const double bits = q.bitsPerWeight();
  const Distortion d = distortion(w, q.dequantized());
  const double limit = gaussianDistortion(bits);
  std::cout << std::left << std::setw(44) << Packed<F>::formatName() << std::right << std::fixed << std::setprecision(3)
            << std::setw(8) << bits << std::setprecision(5) << std::setw(11) << d.mse << std::setprecision(2)
            << std::setw(9) << d.sqnr_db << std::setw(9) << 10 * std::log10(d.mse / limit) << '\n';
  gaussian_rows.push_back({{"format", Packed<F>::formatName()}, {"bits", bits}, {"mse", d.mse}});
}

void gaussianTable() {
  const RowMatrixXf w = bench::gaussianMatrix(1024, 4096, 1);
  const QuantizeOptions best{.fit = LeastSquares{}};
  std::cout << "Mean squared error on N(0,1), " << w.size() << " numbers, bits with everything counted\n"
            << std::left << std::setw(44) << "format" << std::right << std::setw(8) << "bits" << std::setw(11) << "MSE"
            << std::setw(9) << "SQNR dB" << std::setw(9) << "to D(R)" << '\n';
  gaussianRow<PerTensor<Binary>>(w);
  gaussianRow<PerTensor<Ternary>>(w, best);
  gaussianRow<PerTensor<Trits5>>(w, best);
  gaussianRow<PerTensor<Asymmetric<2>>>(w, best);
  gaussianRow<PerTensor<LloydMax<2>>>(w);
  gaussianRow<E8P>(w);
  gaussianRow<PerTensor<Asymmetric<3>>>(w, best);
  gaussianRow<PerTensor<LloydMax<3>>>(w);
  gaussianRow<E8PRvq3>(w);
  gaussianRow<PerTensor<Asymmetric<4>>>(w, best);
  gaussianRow<PerTensor<LloydMax<4>>>(w);
  gaussianRow<PerTensor<NormalFloat4>>(w, best);
  gaussianRow<E8PRvq4>(w);
  gaussianRow<PerTensor<Symmetric<8>>>(w, best);
  gaussianRow<Grouped<NormalFloat4, 64>>(w);
  gaussianRow<Grouped<Asymmetric<2>, 32>>(w);
  gaussianRow<Grouped<Asymmetric<3>, 32>>(w);
  gaussianRow<Grouped<Asymmetric<4>, 32>>(w);
  gaussianRow<Grouped<Asymmetric<8>, 32>>(w);
  gaussianRow<Grouped<Asymmetric<2>, 128>>(w);
  gaussianRow<Grouped<Asymmetric<3>, 128>>(w);
  gaussianRow<Grouped<Asymmetric<4>, 128>>(w);
  gaussianRow<Grouped<Asymmetric<8>, 128>>(w);
}

template <int b>
using Row = PerChannel<Asymmetric<b>>;
template <int b>
using Group128 = Grouped<Asymmetric<b>, 128>;
template <int b>
using QuipSharp = Incoherent<std::conditional_t<b == 2, E8P, std::conditional_t<b == 3, E8PRvq3, E8PRvq4>>>;

/// A row a method: the proxy loss of F<2>, F<3> and F<4>.
class LossTable {
 public:
  LossTable(const std::string& name, const RowMatrixXf& w, const Hessian& h) : w_(w), h_(h) {
    std::cout << "\nRelative proxy loss tr(E H E^T) / tr(W H W^T) on " << name << ", " << w.rows() << " x " << w.cols()
              << '\n'
              << std::left << std::setw(44) << "method" << std::right << std::setw(11) << "2 bits" << std::setw(11)
              << "3 bits" << std::setw(11) << "4 bits" << '\n';
  }

  template <template <int> class F, class Rounding>
  void row(const std::string& method, const Rounding& rounding, const ScaleFit& fit = PublishedRule{}) const {
    std::cout << std::left << std::setw(44) << method << std::right << std::fixed << std::setprecision(5);
    for (const double loss : {cell<F<2>>(rounding, fit), cell<F<3>>(rounding, fit), cell<F<4>>(rounding, fit)}) {
      std::cout << std::setw(11) << loss;
    }
    std::cout << std::endl;
  }

 private:
  template <Format F, class Rounding>
  double cell(const Rounding& rounding, const ScaleFit& fit) const {
    return proxyLoss(w_, quantize<F>(w_, rounding, {.fit = fit}).dequantized(), h_);
  }

  const RowMatrixXf& w_;
  const Hessian& h_;
};

void lossTable(const std::string& name, const RowMatrixXf& w, const Hessian& h) {
  const LossTable table(name, w, h);
  const Gptq in_order(h, {.damping = 0});
  const Gptq act_order(h, {.damping = 0, .act_order = true});
  table.row<Row>("nearest, row, min-max", Nearest{});
  table.row<Row>("nearest, row, least squares", Nearest{}, LeastSquares{});
  table.row<Row>("GPTQ, row, least squares, act-order", act_order, LeastSquares{});
  table.row<Group128>("GPTQ, groups of 128, min-max", in_order);
  table.row<Group128>("GPTQ, groups of 128, least sq., act-order", act_order, LeastSquares{});
  for (const int sweeps : {0, 1, 4, 10}) {
    table.row<QuipSharp>("QuIP#, sweeps: " + std::to_string(sweeps), Ldlq(h, {.damping = 0, .sweeps = sweeps}));
  }
}

}  // namespace

int main(int argc, char** argv) {
  CLI::App app{"Quality of gosset's codebooks and roundings"};
  std::string layers, json;
  app.add_option("--json", json, "where to write the Gaussian table");
  app.add_option("--layers", layers, "folder with W_iid.npy, W_outcol.npy and H_damped.npy");
  CLI11_PARSE(app, argc, argv);
  gaussianTable();
  if (!json.empty()) std::ofstream(json) << gaussian_rows.dump(2) << '\n';
  if (!layers.empty()) {
    // The Hessian is damped already.
    const Hessian h = Hessian::fromMatrix(bench::readNpy(layers + "/H_damped.npy"));
    for (const std::string name : {"W_iid", "W_outcol"})
      lossTable(name, bench::readNpy(layers + "/" + name + ".npy"), h);
  }
}
