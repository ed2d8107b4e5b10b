// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "peers.hpp"

#include <gosset/rounding/concepts.hpp>

#include <algorithm>
#include <utility>
#include <vector>

namespace llama {

/// Where the rows end that process `rank` of `processes` rounds. Bands begin at multiples of kBand rows, and the last
/// has what is left behind them, so that rows which a rounding takes together stay together: chunks of 64, and of
/// trellis codes 8 blocks of 16 rows. The last process has a band in any case.
inline constexpr Index kBand = 128;
inline Index bandEnd(Index rank, Index processes, Index rows) {
  if (rank + 1 == processes) return rows;
  return rows / kBand * (rank + 1) / processes * kBand;
}

/// A rounding with feedback whose rows are shared out among processes: each row's codes depend on the Hessian and on
/// no other row, once a scale that serves all of them is fitted. Each process rounds a band of rows and gets the codes
/// and scales of the others; what comes out has the same bits for any number of them, and those of `Inner` alone.
/// Of formats whose grids cannot be cut into bands, every process rounds all rows. A null `peers` stands for a process
/// alone.
template <class Inner>
class SharedRows : public gosset::RoundingWrapper<SharedRows<Inner>, Inner> {
 public:
  SharedRows(Inner inner, const Peers* peers)
      : gosset::RoundingWrapper<SharedRows<Inner>, Inner>(std::move(inner)), peers_(peers) {}

  template <gosset::ScaledFormat F>
  requires gosset::RoundsInto<Inner, F>
  void round(gosset::RowMatrixXf& w, gosset::Grid<F>& grid, gosset::CodeMatrix<typename F::Codebook>& codes) const& {
    SharedRows(*this).round(w, grid, codes);
  }
  template <gosset::ScaledFormat F>
  requires gosset::RoundsInto<Inner, F>
  void round(gosset::RowMatrixXf& w, gosset::Grid<F>& grid, gosset::CodeMatrix<typename F::Codebook>& codes) && {
    constexpr bool kCanBeCut = requires { grid.rowsOf(Index{0}, Index{1}); };
    if constexpr (kCanBeCut) {
      if (peers_ != nullptr && peers_->count() > 1 && w.rows() >= 2 * kBand) return roundMine(w, grid, codes);
    }
    std::move(this->inner_).round(w, grid, codes);
  }

 private:
  Index endOf(Index rank, Index rows) const { return bandEnd(rank, peers_->count(), rows); }

  template <gosset::ScaledFormat F>
  void roundMine(gosset::RowMatrixXf& w, gosset::Grid<F>& grid, gosset::CodeMatrix<typename F::Codebook>& codes) {
    if constexpr (!F::kOneRowOnly) grid.fitAll(w);
    const Index rows = w.rows(), rank = peers_->rank();
    const Index begin = rank == 0 ? 0 : endOf(rank - 1, rows), end = endOf(rank, rows);
    if (end > begin) {
      gosset::RowMatrixXf mine = w.middleRows(begin, end - begin);
      gosset::Grid<F> band = grid.rowsOf(begin, end - begin);
      gosset::CodeMatrix<typename F::Codebook> bandCodes = codes.middleRows(begin, end - begin);
      std::move(this->inner_).round(mine, band, bandCodes);
      codes.middleRows(begin, end - begin) = bandCodes;
      grid.setRowsOf(begin, band);
    }
    shareRows(std::as_writable_bytes(std::span(codes.data(), static_cast<std::size_t>(codes.size()))), rows);
    if constexpr (gosset::MixedRates<typename F::Codebook>) {
      std::vector<std::uint8_t> rates(grid.rates().begin(), grid.rates().end());
      std::vector<std::size_t> ends(static_cast<std::size_t>(peers_->count()), 0);
      ends.back() = rates.size();
      peers_->share(std::as_writable_bytes(std::span(rates)), ends);
      grid.setRates(std::move(rates));
    }
    if constexpr (F::kOneRowOnly) {
      std::vector<gosset::Affine> affines(grid.affines().begin(), grid.affines().end());
      shareRows(std::as_writable_bytes(std::span(affines)), rows);
      for (Index row = 0; row < rows; ++row) {
        for (Index group = 0; group < grid.groups(); ++group) {
          grid.setAffine(row, group, affines[static_cast<std::size_t>(row * grid.groups() + group)]);
        }
      }
    }
  }

  /// Of an array that has as many bytes for each row.
  void shareRows(std::span<std::byte> bytes, Index rows) const {
    std::vector<std::size_t> ends;
    for (Index rank = 0; rank < peers_->count(); ++rank) {
      ends.push_back(bytes.size() / static_cast<std::size_t>(rows) * static_cast<std::size_t>(endOf(rank, rows)));
    }
    peers_->share(bytes, ends);
  }

  const Peers* peers_;
};

}  // namespace llama
