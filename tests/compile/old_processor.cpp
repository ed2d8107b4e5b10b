// SPDX-License-Identifier: Apache-2.0
// Compiled without flags: prints the instruction sets that there are and hashes of products, which are to be the same
// on a processor of 2008 and on this one (see CMakeLists.txt).
#include <gosset/codebook.hpp>
#include <gosset/core/instruction_set.hpp>
#include <gosset/format.hpp>
#include <gosset/matrix.hpp>

#include <cstdint>
#include <cstdio>
#include <cstring>

namespace {

template <class Format>
void printProducts(const char* name) {
  Eigen::MatrixXf w(80, 100), x(100, 9);
  for (Eigen::Index i = 0; i < w.size(); ++i) w.data()[i] = static_cast<float>(i * i % 61) - 30;
  for (Eigen::Index i = 0; i < x.size(); ++i) x.data()[i] = static_cast<float>(i * i % 53) - 26;
  const auto q = gosset::quantize<Format>(w);
  const Eigen::MatrixXf y = q * x, z = q.transpose() * Eigen::MatrixXf(w.leftCols(20));
  const Eigen::VectorXf one = q * Eigen::VectorXf(x.col(3));
  std::uint64_t hash = 0;
  const auto add = [&](const auto& m) {
    for (Eigen::Index i = 0; i < m.size(); ++i) {
      std::uint32_t bits;
      std::memcpy(&bits, m.data() + i, 4);
      hash = (hash ^ bits) * 0x100000001b3u;
    }
  };
  add(y);
  add(z);
  add(one);
  std::printf("%s %016llx\n", name, static_cast<unsigned long long>(hash));
}

}  // namespace

int main() {
  for (const std::string& set : gosset::instructionSets()) {
    gosset::useInstructionSet(set);
    std::printf("%s\n", set.c_str());
    printProducts<gosset::Incoherent<gosset::Grouped<gosset::Asymmetric<4>, 32>>>("Asymmetric");
  }
}
