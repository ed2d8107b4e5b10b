// SPDX-License-Identifier: Apache-2.0
// What an inference engine does: formats by name, any of them behind one type, rows shared out among threads of its
// own.
#include "data.hpp"

#include <gosset/gosset.hpp>

#include <algorithm>
#include <cstdio>
#include <iostream>
#include <string>
#include <thread>
#include <vector>

namespace gs = gosset;

// The formats that this program knows. A new one costs a line.
using Formats = gs::FormatList<gs::PerChannel<gs::Symmetric<8>>,    //
                               gs::Grouped<gs::Asymmetric<4>, 32>,  //
                               gs::Incoherent<gs::E8P>,             //
                               gs::Float16>;

int main() {
  const Eigen::MatrixXf W = example::gaussian(640, 192, 1), X = example::activations(3, 192, 2).transpose();
  for (const std::string& name : Formats::names()) {
    const gs::AnyMatrix w = gs::quantizeAs<Formats>(name, W);
    const Eigen::MatrixXf y = w * X;
    std::cout << w << '\n';

    if (!w.hasIndependentRows()) continue;
    Eigen::MatrixXf shared(y.rows(), y.cols());
    std::vector<std::thread> threads;
    for (gs::Index first = 0; first < w.rows(); first += gs::kRowBlock) {
      threads.emplace_back(
          [&, first] { w.multiplyRows(first, std::min<gs::Index>(gs::kRowBlock, w.rows() - first), X, shared); });
    }
    for (std::thread& thread : threads) thread.join();
    std::printf("  by %d threads: %s\n", static_cast<int>(threads.size()),
                shared == y ? "the same bits" : "something else");
  }
  try {
    (void)gs::quantizeAs<Formats>("Grouped<Asymmetric<5>, 32>", W);
  } catch (const std::invalid_argument& refused) {
    const std::string text = refused.what();  // it goes on with the names of those that there are
    std::cout << text.substr(0, text.find(';')) << '\n';
  }
}

/* Prints:
PerChannel<Symmetric<8>>, 640 x 192, 8.08359 bits a weight, 124164 bytes
  by 3 threads: the same bits
Grouped<Asymmetric<4>, 32>, 640 x 192, 5.00026 bits a weight, 76804 bytes
  by 3 threads: the same bits
Incoherent<E8P>, 640 x 192, 2.00091 bits a weight, 30734 bytes
Float16, 640 x 192, 16 bits a weight, 245760 bytes
  by 3 threads: the same bits
gosset: quantizeAs: there is no format Grouped<Asymmetric<5>, 32> here
*/
