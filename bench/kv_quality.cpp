// SPDX-License-Identifier: Apache-2.0
// What KV formats cost and lose: bits a number with everything counted, relative Frobenius errors of keys and values,
// and of the output of attention, on four kinds of synthetic keys and values, 1024 tokens, 8 heads of 128; and on those
// of a model, which examples/llama's program `cache` dumps.
//
//   kv_quality [--data DUMP.safetensors] [--window 1024]
#include <gosset/io/safetensors.hpp>
#include <gosset/kv.hpp>

#include <CLI/CLI.hpp>

#include <cmath>
#include <cstdio>
#include <string>

#include "gaussian.hpp"

namespace gosset {
namespace {

constexpr Index kTokens = 1024;
constexpr KvShape kShape{.heads = 8, .kv_heads = 8, .head_dim = 128};

struct Data {
  std::string name;
  RowMatrixXf k, v;
  KvShape shape = kShape;
};

/// Independent numbers; in the keys 16 channels with 10x the spread and a mean of +-20.
Data channelMeans() {
  Data data{"keys with 16 channels of 10x spread and mean +-20, values iid",
            bench::gaussianMatrix(kTokens, kShape.kvWidth(), 1), bench::gaussianMatrix(kTokens, kShape.kvWidth(), 2),
            kShape};
  for (Index i = 0; i < 16; ++i) {
    auto channel = data.k.col(64 * i + 5);
    channel = (10 * channel.array() + (i % 2 == 0 ? 20.f : -20.f)).matrix();
  }
  return data;
}

/// Rank 4 a head, plus noise of a third of its size.
RowMatrixXf lowRankPlusNoise(std::uint64_t seed) {
  RowMatrixXf w = bench::gaussianMatrix(kTokens, kShape.kvWidth(), seed) / 3;
  for (Index head = 0; head < kShape.kv_heads; ++head) {
    const auto at = seed + 10 * static_cast<std::uint64_t>(head);
    w.middleCols(head * 128, 128) +=
        bench::gaussianMatrix(kTokens, 4, at + 1) * bench::gaussianMatrix(4, 128, at + 2) / 2;
  }
  return w;
}

/// Two channels a head 20 times as large, in keys and values alike.
RowMatrixXf channelOutliers(std::uint64_t seed) {
  RowMatrixXf w = bench::gaussianMatrix(kTokens, kShape.kvWidth(), seed);
  for (Index i = 0; i < 16; ++i) w.col(64 * i + 9) *= 20;
  return w;
}

/// One number in a hundred 8 times as large, anywhere.
RowMatrixXf entryOutliers(std::uint64_t seed) {
  RowMatrixXf w = bench::gaussianMatrix(kTokens, kShape.kvWidth(), seed);
  for (Index i = 0; i < w.size(); ++i) {
    if (randomUniform(seed + 1, static_cast<std::uint64_t>(i)) < 0.01f) w.data()[i] *= 8;
  }
  return w;
}

/// One layer's tokens, of a dump.
Data ofModel(const SafetensorsFile& file, Index layer, Index tokens) {
  const std::string name = "layers." + std::to_string(layer);
  Data data{file.path().filename().string() + ", " + name,
            file.matrixAs<float>(name + ".keys"),
            file.matrixAs<float>(name + ".values"),
            {}};
  const Index count = std::min(tokens, data.k.rows());
  data.k.conservativeResize(count, Eigen::NoChange);
  data.v.conservativeResize(count, Eigen::NoChange);
  const Index dim = std::stol(file.metadata().find("head_dim")->second);
  data.shape = {.heads = data.k.cols() / dim, .kv_heads = data.k.cols() / dim, .head_dim = dim};
  return data;
}

class Table {
 public:
  Table(const Data& data, Index window) : data_(data), window_(window), queries_(makeQueries(data)) {
    KvCache<float> exact(data.shape);
    exact.append(data.k, data.v);
    expected_ = attend(exact);
    std::printf(
        "\n%s: %td tokens, %td heads of %td\n\n| %-40s | bits | K error | V error | output |\n"
        "|---|---|---|---|---|\n",
        data.name.c_str(), data.k.rows(), data.shape.kv_heads, data.shape.head_dim, "format");
  }

  /// With scales by the published rule, and by least squares.
  template <class Keys, class Values = Keys>
  void rows(const std::string& name) const {
    row<Keys, Values>(name, PublishedRule{});
    row<Keys, Values>(name + ", least squares", LeastSquares{});
  }

  template <class Keys, class Values = Keys>
  void row(const std::string& name, const ScaleFit& fit) const {
    KvCache<Keys, Values> cache(data_.shape, {.window = window_, .quantize = {.fit = fit}});
    cache.append(data_.k, data_.v);
    std::printf("| %-40s | %.2f | %.4f | %.4f | %.4f |\n", name.c_str(), cache.bitsPerElement(),
                relative(cache.keys(), data_.k), relative(cache.values(), data_.v), relative(attend(cache), expected_));
    std::fflush(stdout);
  }

 private:
  static double relative(const RowMatrixXf& a, const RowMatrixXf& b) {
    return static_cast<double>((a - b).norm() / b.norm());
  }

  /// Keys of other tokens with noise: such queries find what they look for, as a model's do; scores have a spread of 2.
  static RowMatrixXf makeQueries(const Data& data) {
    RowMatrixXf q = bench::gaussianMatrix(16, data.shape.queryWidth(), 99);
    for (Index i = 0; i < q.rows(); ++i) q.row(i) += data.k.row((i * 61 + 7) % data.k.rows());
    q.rowwise() -= q.colwise().mean().eval();
    // Scores q . (k - mean) / sqrt(head_dim) with a spread of 2.
    const RowMatrixXf k = data.k.rowwise() - data.k.colwise().mean();
    const Index dim = data.shape.head_dim;
    for (Index head = 0; head < data.shape.heads; ++head) {
      auto part = q.middleCols(head * dim, dim);
      const RowMatrixXf scores = part * k.middleCols(head * dim, dim).transpose();
      const float spread = scores.norm() / std::sqrt(static_cast<float>(scores.size() * dim));
      part *= 2 / spread;
    }
    return q;
  }

  template <class Cache>
  RowMatrixXf attend(const Cache& cache) const {
    RowMatrixXf o(queries_.rows(), queries_.cols());
    for (Index i = 0; i < o.rows(); ++i) o.row(i) = cache.attend(queries_.row(i)).transpose();
    return o;
  }

  const Data& data_;
  Index window_;
  RowMatrixXf queries_, expected_;
};

void print(const Data& data, Index window) {
  const Table table(data, window);
  table.rows<Kivi<2, 64>>("KIVI-2 g64");
  table.rows<Kivi<3, 64>>("KIVI-3 g64");
  table.rows<Kivi<4, 64>>("KIVI-4 g64");
  table.row<GearL<2, 64, 4>>("GEAR-L-2 g64 r4", PublishedRule{});
  table.row<Gear<2, 64, 4, 20>>("GEAR-2 g64 r4 s2%", PublishedRule{});
  table.rows<Gear<3, 64, 4, 20>>("GEAR-3 g64 r4 s2%");
  table.row<Gear<4, 64, 4, 20>>("GEAR-4 g64 r4 s2%", PublishedRule{});
  table.rows<Incoherent<Kivi<3, 64>>>("rotated KIVI-3 g64");
  table.rows<LowRankFirst<Kivi<3, 64>, 4, std::int8_t>>("rank 4 first, KIVI-3 g64");
  table.rows<KvPreset2>("KvPreset2");
  table.rows<KvPreset3>("KvPreset3");
  table.rows<KvPreset4>("KvPreset4");
}

}  // namespace
}  // namespace gosset

int main(int argc, char** argv) {
  using namespace gosset;
  CLI::App app("What KV formats cost and lose, as Markdown tables.");
  std::string path;
  Index window = 1024, tokens = 1024;
  app.add_option("--data", path, "Keys and values of a model, which examples/llama's program cache dumps");
  app.add_option("--window", window, "Tokens that are packed together where they come one by one")
      ->capture_default_str();
  CLI11_PARSE(app, argc, argv);
  if (path.empty()) {
    print(channelMeans(), window);
    print({"rank 4 a head plus noise of a third", lowRankPlusNoise(11), lowRankPlusNoise(12), kShape}, window);
    print({"two channels a head 20 times as large", channelOutliers(21), channelOutliers(22), kShape}, window);
    print({"one number in a hundred 8 times as large", entryOutliers(31), entryOutliers(33), kShape}, window);
    return 0;
  }
  const SafetensorsFile file(path);
  for (Index layer = 0; file.contains("layers." + std::to_string(layer) + ".keys"); ++layer) {
    print(ofModel(file, layer, tokens), window);
  }
}
