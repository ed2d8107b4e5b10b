// SPDX-License-Identifier: Apache-2.0
// What KV formats cost and lose: bits a number with everything counted, relative Frobenius errors of keys and values,
// and of the output of attention, on four kinds of synthetic keys and values. 1024 tokens, 8 heads of 128.
#include <gosset/kv.hpp>

#include <cmath>
#include <cstdio>
#include <numbers>
#include <string>

namespace gosset {
namespace {

constexpr Index kTokens = 1024;
constexpr KvShape kShape{.heads = 8, .kv_heads = 8, .head_dim = 128};

RowMatrixXf gaussian(Index rows, Index cols, std::uint64_t seed) {
  RowMatrixXf w(rows, cols);
  for (Index i = 0; i < w.size(); ++i) {
    const auto at = static_cast<std::uint64_t>(i);
    const double u = (static_cast<double>(randomBits(seed, 2 * at) >> 11) + 0.5) * 0x1p-53;
    const double v = static_cast<double>(randomBits(seed, 2 * at + 1) >> 11) * 0x1p-53;
    w.data()[i] = static_cast<float>(std::sqrt(-2 * std::log(u)) * std::cos(2 * std::numbers::pi * v));
  }
  return w;
}

struct Data {
  std::string name;
  RowMatrixXf k, v;
};

/// Independent numbers; in the keys 16 channels with 10x the spread and a mean of +-20.
Data channelMeans() {
  Data data{"keys with 16 channels of 10x spread and mean +-20, values iid", gaussian(kTokens, kShape.kvWidth(), 1),
            gaussian(kTokens, kShape.kvWidth(), 2)};
  for (Index i = 0; i < 16; ++i) {
    auto channel = data.k.col(64 * i + 5);
    channel = (10 * channel.array() + (i % 2 == 0 ? 20.f : -20.f)).matrix();
  }
  return data;
}

/// Rank 4 a head, plus noise of a third of its size.
RowMatrixXf lowRankPlusNoise(std::uint64_t seed) {
  RowMatrixXf w = gaussian(kTokens, kShape.kvWidth(), seed) / 3;
  for (Index head = 0; head < kShape.kv_heads; ++head) {
    const auto at = seed + 10 * static_cast<std::uint64_t>(head);
    w.middleCols(head * 128, 128) += gaussian(kTokens, 4, at + 1) * gaussian(4, 128, at + 2) / 2;
  }
  return w;
}

/// Two channels a head 20 times as large, in keys and values alike.
RowMatrixXf channelOutliers(std::uint64_t seed) {
  RowMatrixXf w = gaussian(kTokens, kShape.kvWidth(), seed);
  for (Index i = 0; i < 16; ++i) w.col(64 * i + 9) *= 20;
  return w;
}

/// One number in a hundred 8 times as large, anywhere.
RowMatrixXf entryOutliers(std::uint64_t seed) {
  RowMatrixXf w = gaussian(kTokens, kShape.kvWidth(), seed);
  for (Index i = 0; i < w.size(); ++i) {
    if (randomUniform(seed + 1, static_cast<std::uint64_t>(i)) < 0.01f) w.data()[i] *= 8;
  }
  return w;
}

template <class Keys, class Values = Keys>
void row(const Data& data, const char* name, const KvOptions& options = {.window = 64}) {
  KvCache<Keys, Values> cache(kShape, options);
  KvCache<float> exact(kShape);
  cache.append(data.k, data.v);
  exact.append(data.k, data.v);
  const auto relative = [](const auto& a, const auto& b) { return static_cast<double>((a - b).norm() / b.norm()); };
  // Queries small enough that many tokens share the weight.
  const RowMatrixXf q = gaussian(16, kShape.queryWidth(), 99) * 0.5f;
  RowMatrixXf o(16, kShape.queryWidth()), expected = o;
  for (Index i = 0; i < 16; ++i) {
    o.row(i) = cache.attend(q.row(i)).transpose();
    expected.row(i) = exact.attend(q.row(i)).transpose();
  }
  std::printf("| %-30s | %5.2f | %.4f | %.4f | %.4f |\n", name, cache.bitsPerElement(), relative(cache.keys(), data.k),
              relative(cache.values(), data.v), relative(o, expected));
}

void table(const Data& data) {
  std::printf("\n%s\n| %-30s | bits  | K err  | V err  | output |\n|---|---|---|---|---|\n", data.name.c_str(),
              "format");
  const KvOptions fitted{.window = 64, .quantize = {.fit = LeastSquares{}}};
  row<Kivi<2, 64>>(data, "KIVI-2 g64");
  row<Kivi<2, 64>>(data, "KIVI-2 g64, least squares", fitted);
  row<Kivi<2, 32>>(data, "KIVI-2 g32");
  row<Kivi<3, 64>>(data, "KIVI-3 g64");
  row<Kivi<3, 64>>(data, "KIVI-3 g64, least squares", fitted);
  row<Kivi<4, 64>>(data, "KIVI-4 g64");
  row<GearL<2, 64, 4>>(data, "GEAR-L-2 g64 r4");
  row<GearL<2, 128, 4>>(data, "GEAR-L-2 g128 r4");
  row<Gear<2, 64, 4, 20>>(data, "GEAR-2 g64 r4 s2%");
  row<Gear<3, 64, 4, 20>>(data, "GEAR-3 g64 r4 s2%");
  row<Gear<4, 64, 4, 20>>(data, "GEAR-4 g64 r4 s2%");
  row<GearL<2, 64, 4>, Kivi<3, 64>>(data, "K GEAR-L-2 r4, V KIVI-3");
  row<Kivi<3, 64>, Incoherent<Kivi<3, 64>>>(data, "K KIVI-3, V rotated KIVI-3");
  row<Incoherent<Kivi<2, 64>>>(data, "rotated KIVI-2 g64");
  row<Incoherent<Kivi<3, 64>>>(data, "rotated KIVI-3 g64");
  row<Incoherent<Kivi<4, 64>>>(data, "rotated KIVI-4 g64");
}

}  // namespace
}  // namespace gosset

int main() {
  using namespace gosset;
  table(channelMeans());
  table({"rank 4 a head plus noise of a third", lowRankPlusNoise(11), lowRankPlusNoise(12)});
  table({"two channels a head 20 times as large", channelOutliers(21), channelOutliers(22)});
  table({"one number in a hundred 8 times as large", entryOutliers(31), entryOutliers(33)});
}
