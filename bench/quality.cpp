// SPDX-License-Identifier: Apache-2.0
// Quality tables: the error of every codebook on a Gaussian, and the proxy loss of the roundings on real layer shapes.
//
//   quality                      the Gaussian table
//   quality --json FILE          and its rows in FILE
//   quality --trellis            and that of trellis codes, every quarter of a bit
//   quality --layers FOLDER      and the table of proxy losses on FOLDER/{W_iid,W_outcol,H_damped}.npy
//   quality --weights FILE       and the table of relative errors on the matrices of a safetensors file
#include <gosset/gosset.hpp>
#include <gosset/io.hpp>

#include <CLI/CLI.hpp>
#include <nlohmann/json.hpp>

#include <cmath>
#include <cstdint>
#include <fstream>
#include <iomanip>
#include <iostream>
#include <numeric>
#include <string>
#include <type_traits>
#include <vector>

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
  gaussianRow<Trellis<2>>(w);
  gaussianRow<PerTensor<Asymmetric<3>>>(w, best);
  gaussianRow<PerTensor<LloydMax<3>>>(w);
  gaussianRow<E8PRvq3>(w);
  gaussianRow<Trellis<3>>(w);
  gaussianRow<PerTensor<Asymmetric<4>>>(w, best);
  gaussianRow<PerTensor<LloydMax<4>>>(w);
  gaussianRow<PerTensor<NormalFloat4>>(w, best);
  gaussianRow<E8PRvq4>(w);
  gaussianRow<Trellis<4>>(w);
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

/// The squared error of a frozen trellis code on fresh numbers, in rings of 512.
template <int L>
double trellisDistortion(const RowMatrixXf& w, int rate8) {
  const detail::TrellisTable& table = detail::trellisTable<L>(rate8);
  constexpr Index kRing = 512;
  const Index rings = w.size() / kRing;
  std::vector<double> errors(static_cast<std::size_t>(rings));
  parallelFor(rings, Index{1} << 20, [&](Index ring) {
    detail::TrellisSearch search(table, kRing);
    std::vector<std::uint16_t> states(kRing);
    const float* x = w.data() + ring * kRing;
    search.nearest(x, kRing, 4, {kRing / 4, 4}, states.data());
    for (Index i = 0; i < kRing; ++i) {
      const double error =
          static_cast<double>(x[i]) - static_cast<double>(table.value(states[static_cast<std::size_t>(i)]));
      errors[static_cast<std::size_t>(ring)] += error * error;
    }
  });
  return std::accumulate(errors.begin(), errors.end(), 0.) / static_cast<double>(rings * kRing);
}

void trellisTable() {
  const RowMatrixXf w = bench::gaussianMatrix(256, 4096, 2);
  std::cout << "\nTrellis codes on N(0,1), " << w.size() << " numbers: mean squared error, dB from D(R)\n"
            << "bits        L = 12               L = 14               L = 16\n";
  for (int rate8 = detail::kLeastTrellisRate8; rate8 <= detail::kMostTrellisRate8; rate8 += 2) {
    const double limit = gaussianDistortion(rate8 / 8.);
    std::cout << std::fixed << std::setprecision(2) << rate8 / 8.;
    for (const double mse :
         {trellisDistortion<12>(w, rate8), trellisDistortion<14>(w, rate8), trellisDistortion<16>(w, rate8)}) {
      std::cout << std::setprecision(6) << std::setw(13) << mse << std::setprecision(3) << std::setw(8)
                << 10 * std::log10(mse / limit);
    }
    std::cout << std::endl;
  }
}

template <int b>
using Row = PerChannel<Asymmetric<b>>;
template <int b>
using Group128 = Grouped<Asymmetric<b>, 128>;
template <int b>
using QuipSharp = Incoherent<std::conditional_t<b == 2, E8P, std::conditional_t<b == 3, E8PRvq3, E8PRvq4>>>;

template <int b>
using Trellises = Incoherent<Trellis<b>>;
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

  /// Mixed rates of 2, 3 and 4 bits on average.
  void means(const std::string& method, const Hessian& h) const {
    std::cout << std::left << std::setw(44) << method << std::right << std::fixed << std::setprecision(5);
    for (const double bits : {2., 3., 4.}) {
      std::cout << std::setw(11)
                << cell<Incoherent<TrellisMixed>>(Ldlq(h, {.damping = 0, .mean_bits = bits}), PublishedRule{});
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
  for (const int sweeps : {0, 1, 4}) {
    table.row<Trellises>("trellis, sweeps: " + std::to_string(sweeps), Ldlq(h, {.damping = 0, .sweeps = sweeps}));
  }
  table.means("trellis, mixed rates", h);
}

/// ||W - What|| / ||W|| of weights alone.
template <Format F>
void weightsRow(const std::vector<RowMatrixXf>& matrices, const std::string& method,
                const ScaleFit& fit = PublishedRule{}) {
  double errors = 0, squares = 0, bits = 0, count = 0;
  for (const RowMatrixXf& w : matrices) {
    const auto q = quantize<F>(w, Nearest{}, {.fit = fit});
    errors += static_cast<double>((w - q.dequantized()).squaredNorm());
    squares += static_cast<double>(w.squaredNorm());
    bits += 8. * static_cast<double>(q.bytes());
    count += static_cast<double>(w.size());
  }
  std::cout << std::left << std::setw(44) << method << std::right << std::fixed << std::setprecision(3) << std::setw(8)
            << bits / count << std::setprecision(5) << std::setw(11) << std::sqrt(errors / squares) << std::endl;
}

void weightsTable(const std::string& path) {
  const SafetensorsFile file(path);
  std::vector<RowMatrixXf> matrices;
  for (const auto& [name, info] : file.tensors()) {
    if (info.shape.size() == 2 && info.shape[0] > 1 && info.shape[1] > 1)
      matrices.push_back(file.matrixAs<float>(name));
  }
  std::cout << "\nRelative error ||W - What|| / ||W|| on the " << matrices.size() << " matrices of " << path << '\n'
            << std::left << std::setw(44) << "format" << std::right << std::setw(8) << "bits" << std::setw(11)
            << "error\n";
  const LeastSquares best;
  weightsRow<Grouped<Asymmetric<2>, 128>>(matrices, "2 bits, groups of 128, least squares", best);
  weightsRow<Outliers<Grouped<Asymmetric<2>, 128>, 10>>(matrices, "the same beside 1% in 16 bits", best);
  weightsRow<PerChannel<E8P>>(matrices, "E8P, a scale a row");
  weightsRow<Incoherent<E8P>>(matrices, "E8P, rotated");
  weightsRow<PerChannel<Trellis<2>>>(matrices, "trellis, 2 bits, a scale a row");
  weightsRow<Incoherent<Trellis<2>>>(matrices, "trellis, 2 bits, rotated");
  weightsRow<Outliers<PerChannel<Trellis<2>>, 10>>(matrices, "trellis, 2 bits, beside 1% in 16 bits");
  weightsRow<Grouped<Asymmetric<3>, 128>>(matrices, "3 bits, groups of 128, least squares", best);
  weightsRow<Incoherent<E8PRvq3>>(matrices, "RVQ of E8, 3 bits, rotated");
  weightsRow<PerChannel<Trellis<3>>>(matrices, "trellis, 3 bits, a scale a row");
  weightsRow<Incoherent<Trellis<3>>>(matrices, "trellis, 3 bits, rotated");
  weightsRow<Grouped<Asymmetric<4>, 128>>(matrices, "4 bits, groups of 128, least squares", best);
  weightsRow<Incoherent<E8PRvq4>>(matrices, "RVQ of E8, 4 bits, rotated");
  weightsRow<PerChannel<Trellis<4>>>(matrices, "trellis, 4 bits, a scale a row");
  weightsRow<Incoherent<Trellis<4>>>(matrices, "trellis, 4 bits, rotated");
}

}  // namespace

int main(int argc, char** argv) {
  CLI::App app{"Quality of gosset's codebooks and roundings"};
  std::string layers, json, weights;
  bool trellis = false;
  app.add_option("--json", json, "where to write the Gaussian table");
  app.add_option("--layers", layers, "folder with W_iid.npy, W_outcol.npy and H_damped.npy");
  app.add_flag("--trellis", trellis, "the table of trellis codes");
  app.add_option("--weights", weights, "safetensors file with matrices");
  CLI11_PARSE(app, argc, argv);
  gaussianTable();
  if (trellis) trellisTable();
  if (!json.empty()) std::ofstream(json) << gaussian_rows.dump(2) << '\n';
  if (!layers.empty()) {
    // The Hessian is damped already.
    const Hessian h = Hessian::fromMatrix(bench::readNpy(layers + "/H_damped.npy"));
    for (const std::string name : {"W_iid", "W_outcol"})
      lossTable(name, bench::readNpy(layers + "/" + name + ".npy"), h);
  }
  if (!weights.empty()) weightsTable(weights);
}
