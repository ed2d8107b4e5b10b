// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "calibration.hpp"
#include "peers.hpp"

#include <algorithm>
#include <array>
#include <map>
#include <span>
#include <string>
#include <utility>
#include <vector>

// Processes that quantize one model together gather the inputs of different layers, each layer's by one of them, and
// tell the others: sums come in the same order whoever makes them, so that bits do not depend on the number of
// processes. Of experts, which are many, each process gathers its share; a dense block has four inputs.
namespace llama {

/// Who gathers the inputs of each layer, by rank: those with the most entries of a Hessian first, each by the process
/// that has the least to do so far. widths: how many inputs each layer has.
inline std::map<std::string, Index> whoGathers(const std::map<std::string, Index>& widths, Index processes) {
  std::vector<std::pair<std::string, Index>> widest(widths.begin(), widths.end());
  std::stable_sort(widest.begin(), widest.end(), [](const auto& a, const auto& b) { return a.second > b.second; });
  std::vector<Index> work(static_cast<std::size_t>(processes), 0);
  std::map<std::string, Index> owners;
  for (const auto& [name, width] : widest) {
    const auto least = std::min_element(work.begin(), work.end());
    owners[name] = least - work.begin();
    *least += width * width;
  }
  return owners;
}

namespace detail {

/// What process `owner` has, to all.
template <class Numbers>
void tellAll(const Peers& peers, Index owner, Numbers&& numbers) {
  const auto bytes = std::as_writable_bytes(std::span(numbers.data(), static_cast<std::size_t>(numbers.size())));
  std::vector<std::size_t> ends(static_cast<std::size_t>(peers.count()), 0);
  std::fill(ends.begin() + owner, ends.end(), bytes.size());
  peers.share(bytes, ends);
}

}  // namespace detail

/// Gives all processes, which all call this, what each has gathered.
inline void shareInputs(const std::map<std::string, Index>& owners, const std::map<std::string, Index>& widths,
                        Calibration& calibration, const Peers& peers) {
  for (const auto& [name, owner] : owners) {
    const Index width = widths.at(name);
    const auto mine = calibration.find(name);
    LayerInputs inputs = mine != calibration.end() ? std::move(mine->second) : LayerInputs(1);
    std::array<double, 2> counts{mine != calibration.end() ? inputs.hessian.tokens() : 0.,
                                 static_cast<double>(inputs.tokens.rows())};
    if (mine != calibration.end()) calibration.erase(mine);
    detail::tellAll(peers, owner, counts);
    if (counts[0] == 0) continue;  // no token came there
    Eigen::MatrixXd h = std::move(inputs.hessian).matrix();
    h.resize(width, width);
    inputs.tokens.resize(static_cast<Index>(counts[1]), width);
    detail::tellAll(peers, owner, h);
    detail::tellAll(peers, owner, inputs.tokens);
    inputs.hessian = gosset::Hessian::fromMatrix(std::move(h), counts[0]);
    calibration.emplace(name, std::move(inputs));
  }
}

}  // namespace llama
