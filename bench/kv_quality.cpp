// SPDX-License-Identifier: Apache-2.0
// What KV formats cost and lose: bits a number with everything counted, relative Frobenius errors of keys and values,
// and of the output of attention, on four kinds of synthetic keys and values, 1024 tokens of 1024 numbers in heads of
// 128 or 64; and on those of a model, which examples/llama's program `cache` dumps. Each figure is a geometric mean, of
// three draws or of the layers of the model. The presets were chosen on other draws of such data.
//
//   kv_quality [--head-dim 128] [--data DUMP.safetensors] [--window 1024]
#include <gosset/io/safetensors.hpp>
#include <gosset/kv.hpp>

#include <CLI/CLI.hpp>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <string>
#include <vector>

#include "gaussian.hpp"

namespace gosset {
namespace {

constexpr Index kTokens = 1024;
constexpr Index kWidth = 1024;
constexpr std::uint64_t kDraws = 3;

struct Data {
  RowMatrixXf k, v;
  KvShape shape;
};

KvShape shapeOf(Index width, Index head_dim) {
  return {.heads = width / head_dim, .kv_heads = width / head_dim, .head_dim = head_dim};
}

RowMatrixXf gaussianTokens(std::uint64_t seed) { return bench::gaussianMatrix(kTokens, kWidth, seed); }

/// Calls visit(channel, is the second) for two channels of each head.
template <class Visit>
void forTwoChannels(Index head_dim, Index first, const Visit& visit) {
  for (Index head = 0; head < kWidth / head_dim; ++head) {
    visit(head * head_dim + first, false);
    visit(head * head_dim + head_dim / 2 + first, true);
  }
}

/// Independent numbers; in the keys two channels a head with 10x the spread and a mean of 20 and -20.
Data channelMeans(Index head_dim, std::uint64_t seed) {
  Data data{gaussianTokens(seed), gaussianTokens(seed + 1), shapeOf(kWidth, head_dim)};
  forTwoChannels(head_dim, 5, [&](Index channel, bool second) {
    data.k.col(channel) = (10 * data.k.col(channel).array() + (second ? -20.f : 20.f)).matrix();
  });
  return data;
}

/// Rank 4 a head, plus noise of a third of its size.
RowMatrixXf lowRankPlusNoise(Index head_dim, std::uint64_t seed) {
  RowMatrixXf w = gaussianTokens(seed) / 3;
  for (Index head = 0; head < kWidth / head_dim; ++head) {
    const auto at = seed + 10 * static_cast<std::uint64_t>(head);
    w.middleCols(head * head_dim, head_dim) +=
        bench::gaussianMatrix(kTokens, 4, at + 1) * bench::gaussianMatrix(4, head_dim, at + 2) / 2;
  }
  return w;
}

/// Two channels a head 20 times as large.
RowMatrixXf channelOutliers(Index head_dim, std::uint64_t seed) {
  RowMatrixXf w = gaussianTokens(seed);
  forTwoChannels(head_dim, 9, [&](Index channel, bool) { w.col(channel) *= 20; });
  return w;
}

/// One number in a hundred 8 times as large, anywhere.
RowMatrixXf entryOutliers(Index, std::uint64_t seed) {
  RowMatrixXf w = gaussianTokens(seed);
  for (Index i = 0; i < w.size(); ++i) {
    if (randomUniform(seed + 1, static_cast<std::uint64_t>(i)) < 0.01f) w.data()[i] *= 8;
  }
  return w;
}

/// Draws of one kind for keys and values alike.
std::vector<Data> draws(RowMatrixXf (*kind)(Index, std::uint64_t), Index head_dim, std::uint64_t seed) {
  std::vector<Data> all;
  for (std::uint64_t i = 0; i < kDraws; ++i) {
    const std::uint64_t at = seed + 1000 * i;
    all.push_back({kind(head_dim, at), kind(head_dim, at + 500), shapeOf(kWidth, head_dim)});
  }
  return all;
}

std::vector<Data> draws(Data (*kind)(Index, std::uint64_t), Index head_dim, std::uint64_t seed) {
  std::vector<Data> all;
  for (std::uint64_t i = 0; i < kDraws; ++i) all.push_back(kind(head_dim, seed + 1000 * i));
  return all;
}

/// The layers of a dump: their first tokens.
std::vector<Data> layersOf(const SafetensorsFile& file, Index tokens) {
  const Index head_dim = std::stol(file.metadata().find("head_dim")->second);
  std::vector<Data> all;
  for (Index layer = 0; file.contains("layers." + std::to_string(layer) + ".keys"); ++layer) {
    const std::string name = "layers." + std::to_string(layer);
    Data data{file.matrixAs<float>(name + ".keys"), file.matrixAs<float>(name + ".values"), {}};
    const Index count = std::min(tokens, data.k.rows());
    data.k.conservativeResize(count, Eigen::NoChange);
    data.v.conservativeResize(count, Eigen::NoChange);
    data.shape = shapeOf(data.k.cols(), head_dim);
    all.push_back(std::move(data));
  }
  return all;
}

/// The geometric mean of what is added.
class Mean {
 public:
  void add(double x) {
    sum_ += std::log(x);
    ++count_;
  }
  double value() const { return std::exp(sum_ / count_); }

 private:
  double sum_ = 0;
  int count_ = 0;
};

/// Data of one kind, with queries and what attention gives for them.
class Table {
 public:
  Table(const std::string& name, const std::vector<Data>& all, Index window) : window_(window) {
    for (const Data& data : all) {
      KvCache<float> exact(data.shape);
      exact.append(data.k, data.v);
      const RowMatrixXf queries = makeQueries(data);
      cases_.push_back({data, queries, attend(exact, queries)});
    }
    const Data& data = all.front();
    std::printf(
        "\n%s: %td tokens, %td heads of %td\n\n| %-40s | bits | K error | V error | output |\n"
        "|---|---|---|---|---|\n",
        name.c_str(), data.k.rows(), data.shape.kv_heads, data.shape.head_dim, "format");
  }

  template <class Keys, class Values = Keys>
  void row(const std::string& name, const ScaleFit& fit = PublishedRule{}) const {
    Mean bits, k, v, output;
    for (const Case& c : cases_) {
      KvCache<Keys, Values> cache(c.data.shape, {.window = window_, .quantize = {.fit = fit}});
      cache.append(c.data.k, c.data.v);
      bits.add(cache.bitsPerElement());
      k.add(relative(cache.keys(), c.data.k));
      v.add(relative(cache.values(), c.data.v));
      output.add(relative(attend(cache, c.queries), c.expected));
    }
    std::printf("| %-40s | %.2f | %.4f | %.4f | %.4f |\n", name.c_str(), bits.value(), k.value(), v.value(),
                output.value());
    std::fflush(stdout);
  }

 private:
  struct Case {
    Data data;
    RowMatrixXf queries, expected;
  };

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
  static RowMatrixXf attend(const Cache& cache, const RowMatrixXf& queries) {
    RowMatrixXf o(queries.rows(), queries.cols());
    for (Index i = 0; i < o.rows(); ++i) o.row(i) = cache.attend(queries.row(i)).transpose();
    return o;
  }

  Index window_;
  std::vector<Case> cases_;
};

template <class Formats>
void presetRow(const Table& table, const std::string& name) {
  table.row<typename Formats::Keys, typename Formats::Values>(name);
}

void print(const std::string& name, const std::vector<Data>& all, Index window) {
  const Table table(name, all, window);
  table.row<Kivi<2, 64>>("KIVI-2 g64");
  table.row<Kivi<2, 64>>("KIVI-2 g64, least squares", LeastSquares{});
  table.row<Kivi<3, 64>>("KIVI-3 g64");
  table.row<Kivi<4, 64>>("KIVI-4 g64");
  table.row<GearL<2, 64, 4>>("GEAR-L-2 g64 r4");
  table.row<Gear<2, 64, 4, 20>>("GEAR-2 g64 r4 s2%");
  table.row<Gear<3, 64, 4, 20>>("GEAR-3 g64 r4 s2%");
  table.row<Gear<4, 64, 4, 20>>("GEAR-4 g64 r4 s2%");
  table.row<Incoherent<Kivi<3, 64>>>("rotated KIVI-3 g64");
  if (const Index head_dim = all.front().shape.head_dim; head_dim > 64) {
    presetRow<KvPreset2>(table, "KvPreset2");
    presetRow<KvPreset3>(table, "KvPreset3");
    presetRow<KvPreset4>(table, "KvPreset4");
    presetRow<KvTrellis2>(table, "KvTrellis2");
    presetRow<KvTrellis25>(table, "KvTrellis25");
    presetRow<KvTrellis3>(table, "KvTrellis3");
    presetRow<KvTrellis4>(table, "KvTrellis4");
  } else {
    presetRow<KvPreset2Heads64>(table, "KvPreset2Heads64");
    presetRow<KvPreset3Heads64>(table, "KvPreset3Heads64");
    presetRow<KvPreset4Heads64>(table, "KvPreset4Heads64");
    if (head_dim > 32) {
      presetRow<KvTrellis25Heads64>(table, "KvTrellis25Heads64");
      presetRow<KvTrellis3Heads64>(table, "KvTrellis3Heads64");
      presetRow<KvTrellis4Heads64>(table, "KvTrellis4Heads64");
    } else {
      presetRow<KvTrellis25Heads32>(table, "KvTrellis25Heads32");
      presetRow<KvTrellis35Heads32>(table, "KvTrellis35Heads32");
      presetRow<KvTrellis45Heads32>(table, "KvTrellis45Heads32");
    }
  }
}

}  // namespace
}  // namespace gosset

int main(int argc, char** argv) {
  using namespace gosset;
  CLI::App app("What KV formats cost and lose, as Markdown tables.");
  std::string path;
  Index window = 1024, tokens = 1024, head_dim = 128;
  app.option_defaults()->always_capture_default();
  app.add_option("--data", path, "Keys and values of a model, which examples/llama's program cache dumps");
  app.add_option("--tokens", tokens, "Of the model's, so many at most")->check(CLI::Range(16, 1000000000));
  app.add_option("--window", window, "Tokens that are packed together where they come one by one");
  app.add_option("--head-dim", head_dim, "Numbers a head of the synthetic keys and values")
      ->check(CLI::IsMember({32, 64, 128, 256}));
  CLI11_PARSE(app, argc, argv);
  if (!path.empty()) {
    const SafetensorsFile file(path);
    print(file.path().filename().string() + ", all layers", layersOf(file, tokens), window);
    return 0;
  }
  print("keys with two channels a head of 10x spread and mean +-20, values iid", draws(channelMeans, head_dim, 100'001),
        window);
  print("rank 4 a head plus noise of a third", draws(lowRankPlusNoise, head_dim, 200'001), window);
  print("two channels a head 20 times as large", draws(channelOutliers, head_dim, 300'001), window);
  print("one number in a hundred 8 times as large", draws(entryOutliers, head_dim, 400'001), window);
}
