// SPDX-License-Identifier: Apache-2.0
// Searches the constants of codebook/trellis_constants.hpp: which high bits of a state turn which bits of its index,
// and the levels.
//
//   trellis_search L FIRST LAST [BITS]
//
// For 2^L states and all rates from FIRST to LAST eighths of a bit it prints a row of constants each. BITS is the
// number of index bits where it should not be the usual one. Numbers are standard normal. Many random mixings are tried
// under the same levels, the best of them on more numbers, the best of these is varied bit by bit; then its levels are
// trained (Lloyd's algorithm: each becomes the mean of the numbers that are given to it) and rounded to 1/32. The
// distortion that is printed is that of numbers seen never before.
#include <gosset/codebook/trellis_search.hpp>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <random>
#include <span>
#include <string>
#include <utility>
#include <vector>

namespace gosset {
namespace {

using detail::ChainExtent, detail::TrellisSearch, detail::TrellisTable;

constexpr Index kChain = 512, kColumns = 4;

std::vector<float> gaussians(std::size_t count, std::uint64_t seed) {
  std::mt19937_64 random(seed);
  std::normal_distribution<float> normal;
  std::vector<float> x(count);
  double squares = 0;
  for (float& v : x) squares += std::pow(v = normal(random), 2);
  const double scale = std::sqrt(static_cast<double>(count) / squares);
  for (float& v : x) v = static_cast<float>(v * scale);
  return x;
}

struct Code {
  int state_bits, rate8, index_bits;
  std::array<double, 128> half{};  ///< levels, not rounded
  std::array<std::uint8_t, 16> mix{};

  int mixBits() const { return state_bits - index_bits; }
  std::array<std::int8_t, 128> rounded() const {
    std::array<std::int8_t, 128> levels{};
    for (std::size_t i = 0; i < half.size(); ++i) {
      levels[i] = static_cast<std::int8_t>(std::lround(std::clamp(half[i] / TrellisTable::kLevelUnit, -127., 127.)));
    }
    return levels;
  }
  TrellisTable table() const {
    const auto levels = rounded();
    return {state_bits, rate8, index_bits, levels.data(), mix.data()};
  }
};

/// Encodes x; calls visit(number, index of its level) where given.
template <class Visit>
double distortion(const Code& code, std::span<const float> x, const Visit& visit) {
  const TrellisTable table = code.table();
  TrellisSearch search(table, kChain);
  std::vector<std::uint16_t> states(kChain);
  double squares = 0;
  std::size_t count = 0;
  for (; count + kChain <= x.size(); count += kChain) {
    search.nearest(x.data() + count, kChain, kColumns, {kChain / kColumns, kColumns}, states.data());
    for (std::size_t i = 0; i < states.size(); ++i) {
      squares += std::pow(static_cast<double>(x[count + i]) - static_cast<double>(table.value(states[i])), 2);
      visit(x[count + i], table.index(states[i]));
    }
  }
  return squares / static_cast<double>(count);
}
double distortion(const Code& code, std::span<const float> x) {
  return distortion(code, x, [](float, int) {});
}

void train(Code& code, std::span<const float> x, int rounds) {
  const int count = 1 << code.index_bits;
  for (int round = 0; round < rounds; ++round) {
    std::vector<double> sum(static_cast<std::size_t>(count / 2)), weight(sum.size(), 1.);
    for (std::size_t i = 0; i < sum.size(); ++i) sum[i] = code.half[i];
    distortion(code, x, [&](float number, int index) {
      const bool upper = index >= count / 2;
      const auto at = static_cast<std::size_t>(upper ? count - 1 - index : index);
      sum[at] += static_cast<double>(upper ? -number : number);
      weight[at] += 1;
    });
    for (std::size_t i = 0; i < sum.size(); ++i) code.half[i] = sum[i] / weight[i];
  }
}

/// The normal quantile, by bisection.
double quantile(double p) {
  double low = -9, high = 9;
  for (int i = 0; i < 80; ++i) {
    const double middle = (low + high) / 2;
    (0.5 * std::erfc(-middle / std::sqrt(2.)) < p ? low : high) = middle;
  }
  return low;
}

Code start(int state_bits, int rate8, int index_bits) {
  Code code{state_bits, rate8, index_bits};
  const int count = 1 << index_bits;
  for (int i = 0; i < count / 2; ++i) {
    int reversed = 0;
    for (int bit = 0; bit < index_bits; ++bit) reversed |= (i >> bit & 1) << (index_bits - 1 - bit);
    const double shrink = std::sqrt(1 - std::pow(4, -rate8 / 8.)) * 1.03;
    code.half[static_cast<std::size_t>(i)] = quantile((reversed + .5) / count) * shrink;
  }
  return code;
}

Code search(int state_bits, int rate8, int index_bits) {
  std::mt19937_64 random(static_cast<std::uint64_t>(1000 * state_bits + rate8));
  const int mixings = state_bits >= 16 ? 30 : 100, variations = state_bits >= 16 ? 20 : 60;
  const auto few = gaussians(1 << 15, 1), more = gaussians(1 << 17, 2), training = gaussians(1 << 18, 3);
  Code code = start(state_bits, rate8, index_bits);
  const auto draw = [&](std::uint8_t& bits) { bits = static_cast<std::uint8_t>(random() % (1u << index_bits)); };
  const auto drawAll = [&] { std::for_each_n(code.mix.begin(), code.mixBits(), draw); };
  drawAll();
  train(code, more, 6);

  std::vector<std::pair<double, Code>> tried;
  for (int i = 0; i < mixings; ++i) {
    drawAll();
    tried.emplace_back(distortion(code, few), code);
  }
  const auto better = [](const auto& a, const auto& b) { return a.first < b.first; };
  std::sort(tried.begin(), tried.end(), better);
  tried.resize(static_cast<std::size_t>(mixings / 10));
  for (auto& [error, candidate] : tried) error = distortion(candidate, more);
  auto [least, best] = *std::min_element(tried.begin(), tried.end(), better);
  for (int i = 0; i < variations; ++i) {
    code = best;
    draw(code.mix[random() % static_cast<unsigned>(code.mixBits())]);
    const double error = distortion(code, more);
    if (error < least) {
      least = error;
      best = code;
    }
  }
  train(best, training, 6);
  return best;
}

int usualIndexBits(int rate8) { return rate8 <= 16 ? 6 : rate8 <= 26 ? 7 : 8; }

void print(const Code& code) {
  const double error = distortion(code, gaussians(1 << 20, 4));
  std::printf("    {%d, %d, %.6ff, {", code.rate8, code.index_bits, error);
  const auto levels = code.rounded();
  for (int i = 0; i < 1 << (code.index_bits - 1); ++i)
    std::printf("%s%d", i > 0 ? ", " : "", levels[static_cast<std::size_t>(i)]);
  std::printf("}, {");
  for (int i = 0; i < code.mixBits(); ++i)
    std::printf("%s%d", i > 0 ? ", " : "", code.mix[static_cast<std::size_t>(i)]);
  std::printf("}},\n");
  const double bound = std::pow(4, -code.rate8 / 8.);
  std::fprintf(stderr, "L=%d, %.3f bits, %d index bits: %.6f, %.3f dB from the bound\n", code.state_bits,
               code.rate8 / 8., code.index_bits, error, 10 * std::log10(error / bound));
  std::fflush(stdout);
}

}  // namespace
}  // namespace gosset

int main(int argc, char** argv) {
  if (argc < 4) {
    std::fprintf(stderr, "usage: trellis_search L FIRST LAST [BITS]\n");
    return 1;
  }
  for (int rate8 = std::atoi(argv[2]); rate8 <= std::atoi(argv[3]); ++rate8) {
    const int bits = argc > 4 ? std::atoi(argv[4]) : gosset::usualIndexBits(rate8);
    gosset::print(gosset::search(std::atoi(argv[1]), rate8, bits));
  }
}
