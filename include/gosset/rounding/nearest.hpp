// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <gosset/core/parallel.hpp>
#include <gosset/scale/grid.hpp>

namespace gosset {

/// Every number by itself to the nearest value of its group; ties as the codebook says. The default.
struct Nearest {
  static constexpr bool kRowByRow = true;  ///< no row's codes depend on another row: a matrix may come in parts

  template <ScaledFormat F>
  void round(RowMatrixXf& w, Grid<F>& grid, CodeMatrix<typename F::Codebook>& codes) const {
    grid.fitAll(w);
    parallelFor(w.rows(), 8 * w.cols(),
                [&](Index row) { grid.encodeRow(row, w.row(row).data(), codes.row(row).data()); });
  }
};

}  // namespace gosset
