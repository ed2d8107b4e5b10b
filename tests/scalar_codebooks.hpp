// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <gosset/codebook.hpp>

#include "testing.hpp"

#include <string>
#include <vector>

namespace gosset::testing {

/// Every scalar codebook, for typed tests.
using ScalarCodebooks =
    ::testing::Types<Symmetric<2>, Symmetric<3>, Symmetric<4>, Symmetric<5>, Symmetric<6>, Symmetric<7>, Symmetric<8>,
                     Asymmetric<1>, Asymmetric<2>, Asymmetric<3>, Asymmetric<4>, Asymmetric<5>, Asymmetric<6>,
                     Asymmetric<7>, Asymmetric<8>, LloydMax<1>, LloydMax<2>, LloydMax<3>, LloydMax<4>, NormalFloat4,
                     Binary, Ternary>;

struct CodebookName {
  template <class C>
  static std::string GetName(int) {
    std::string name = C::name();
    std::erase_if(name, [](char c) { return c == '<' || c == '>'; });
    return name;
  }
};

template <ScalarCodebook C>
std::vector<double> levelsOf() {
  std::vector<double> levels;
  for (int q = 0; q < C::kLevels; ++q) levels.push_back(C::level(static_cast<typename C::Code>(q)));
  return levels;
}

}  // namespace gosset::testing
