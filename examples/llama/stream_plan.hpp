// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "stream_quantizer.hpp"

#include <gosset/core/random.hpp>

#include <algorithm>
#include <cstdio>
#include <map>
#include <string>

// What quantizing a model a block at a time will take, before it is done: memory and disk by arithmetic, time by trying
// small matrices.
namespace llama {

struct StreamPlan {
  double memory = 0;    ///< bytes, at most at once, of floats, Hessians and a batch
  double fullest = 0;   ///< of these, Hessians
  double workDisk = 0;  ///< bytes in the working folder
  double outDisk = 0;   ///< bytes of the packed model, about
  double seconds = 0;   ///< of this machine
};

/// Bytes of the program itself, its tables, and what is small beside a model.
inline constexpr double kProgramBytes = 2e8;

namespace detail {

/// Bytes of n x n matrices that a rounding makes while it packs, beside the Hessian of the layer's inputs. Feedback
/// factorizes that Hessian where it stands, or a copy where another layer is rounded by it, too, or numbers are kept
/// exactly by it. AWQ makes a second moment of the first tokens, of which it has 28 bytes an entry at most at once
/// (measured); it forgets the Hessian before, unless another layer needs it.
inline double squaresBeside(const FormatEntry& format, Index inputs, bool sharesInputs) {
  const double entries = static_cast<double>(inputs) * static_cast<double>(inputs);
  if (format.rounding == "awq") return (sharesInputs ? 28 : 20) * entries;
  const bool looks = format.hasFeedback() || format.rounding == "importance";
  return looks && (sharesInputs || format.stored.starts_with("Outliers")) ? 8 * entries : 0;
}

/// How long a format takes for an m x n matrix: m (a n + b n^2) + c n^3, fitted to small ones.
struct PackTimes {
  double a = 0, b = 0, c = 0, bits = 0;

  double seconds(Index rows, Index cols) const {
    const auto m = static_cast<double>(rows), n = static_cast<double>(cols);
    return m * (a * n + b * n * n) + c * n * n * n;
  }
};

inline double secondsOf(const auto& work) {
  const auto start = std::chrono::steady_clock::now();
  work();
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

inline RowMatrixXf randomMatrix(Index rows, Index cols) {
  RowMatrixXf w(rows, cols);
  for (Index i = 0; i < w.size(); ++i) w.data()[i] = gosset::randomUniform(1, static_cast<std::uint64_t>(i)) - 0.5f;
  return w;
}

inline PackTimes tryFormat(const FormatEntry& format) {
  constexpr Index kRows = 256, kCols = 512;
  double bits = 0;
  const auto time = [&](Index rows, Index cols) {
    const LinearInfo info{"trial", rows, cols};
    Calibration calibration;
    calibration.try_emplace(info.name, cols).first->second.add(randomMatrix(64, cols));
    const RowMatrixXf w = randomMatrix(rows, cols);
    return secondsOf([&] { bits = packLayer(info, w, format, 1, 0, calibration).bitsPerWeight(); });
  };
  time(kRows, kCols);  // makes tables
  const double narrow = time(kRows, kCols), narrowTwice = time(2 * kRows, kCols);
  const double wide = time(kRows, 2 * kCols), wideTwice = time(2 * kRows, 2 * kCols);
  const double n = kCols, m = kRows;
  const double atNarrow = std::max(narrowTwice - narrow, 0.) / m, atWide = std::max(wideTwice - wide, 0.) / m;
  PackTimes times;
  times.b = std::max(atWide - 2 * atNarrow, 0.) / (2 * n * n);
  times.a = std::max(atNarrow / n - times.b * n, 0.);
  times.c = std::max(wide - m * atWide, 0.) / (8 * n * n * n);
  times.bits = bits;
  return times;
}

/// Seconds for a weight and a token, and for an entry of a Hessian and a token.
struct TextTimes {
  double product = 0, hessian = 0;

  static TextTimes tried() {
    constexpr Index kSize = 1024;
    const RowMatrixXf w = randomMatrix(kSize, kSize), x = randomMatrix(kTokensAtOnce, kSize);
    const gosset::AnyMatrix matrix = floatMatrix(w);
    const Eigen::MatrixXf columns = x.transpose();
    Eigen::MatrixXf y(kSize, kTokensAtOnce);
    gosset::Hessian hessian(kSize);
    const double all = static_cast<double>(kSize * kSize * kTokensAtOnce);
    matrix.multiply(columns, y);
    return {secondsOf([&] { matrix.multiply(columns, y); }) / all, secondsOf([&] { hessian.accumulate(x); }) / all};
  }
};

}  // namespace detail

/// What is known without the model's weights.
inline StreamPlan planStream(const StreamOptions& o, const Config& c, bool tied, const ChosenFormats& formats,
                             const std::vector<Sequence>& text) {
  constexpr double kFloat = sizeof(float), kDouble = sizeof(double);
  const BlockQuantizer blocks(formats, text, {1, o.hessianBytes, nullptr});
  const detail::TextTimes times = detail::TextTimes::tried();
  std::map<const FormatEntry*, detail::PackTimes> tried;
  const auto timesOf = [&](const std::string& name) -> const detail::PackTimes& {
    const FormatEntry* format = formats.at(name);
    const auto found = tried.find(format);
    return found != tried.end() ? found->second : tried.emplace(format, detail::tryFormat(*format)).first->second;
  };
  const double tokens = static_cast<double>(tokensOf(text));
  std::size_t longest = 0;
  for (const Sequence& sequence : text) longest = std::max(longest, sequence.size());
  const double batch =
      kFloat * kTokensAtOnce * static_cast<double>(4 * c.dim + 4 * std::max(c.hidden, c.experts.hidden)) +
      2 * kFloat * static_cast<double>(longest) * static_cast<double>(c.kvDim());
  const double sample = kFloat * std::min(tokens, static_cast<double>(LayerInputs::kMostTokens));

  StreamPlan plan;
  // The matrix in the format's basis, twice for GGUF's types, and its codes, with scales, as they are before they are
  // packed; the gradient of some rows and what a panel of columns needs; a copy of what other layers need, too.
  const auto pack = [&](const LinearInfo& info, double others, bool sharesInputs) {
    const FormatEntry& format = *formats.at(info.name);
    const auto rows = static_cast<double>(info.rows), n = static_cast<double>(info.cols);
    const double codeBytes = format.family.empty() ? 1.25 : 2;
    const double panels = kFloat * n * (std::min(rows, 2048.) + 6 * 128);
    const int copies = format.stored.starts_with("ggml::") ? 2 : 1;
    double all = kProgramBytes + others + rows * n * (copies * kFloat + codeBytes);
    if (format.needsCalibration) all += panels + detail::squaresBeside(format, info.cols, sharesInputs);
    if (sharesInputs) all += sample * n;
    plan.memory = std::max(plan.memory, all);
  };
  const auto bitsOf = [&](const LinearInfo& info) { return timesOf(info.name).bits; };
  const auto addCost = [&](const LinearInfo& info) {
    plan.outDisk += static_cast<double>(info.rows * info.cols) * bitsOf(info) / 8;
    plan.seconds += timesOf(info.name).seconds(info.rows, info.cols);
  };
  for (std::size_t block = 0; block < static_cast<std::size_t>(c.layers); ++block) {
    const Config alone = oneBlock(c, block);
    const auto shape = emptyWeights<std::monostate>(alone, false);
    const auto weights = static_cast<double>(linearSize(shape));
    blocks.eachMoment(alone, block, bitsOf, [&](const BlockMoment& now) {
      const double resident = now.floats + now.hessians + now.packed + now.samples;
      plan.fullest = std::max(plan.fullest, now.hessians);
      if (now.packing != nullptr) return pack(*now.packing, resident, now.sharesInputs);
      plan.memory = std::max(plan.memory, kProgramBytes + resident + batch);
    });
    std::map<std::string, double> inputs;
    forEachLinearOf(shape, block, [&](const LinearInfo& info, std::monostate) {
      const auto n = static_cast<double>(info.cols);
      if (formats.at(info.name)->needsCalibration) inputs[sameInput(info.name)] = n * n;
      addCost(info);
    });
    for (const auto& [name, entries] : inputs) plan.seconds += entries * tokens * times.hessian;
    plan.seconds += weights * tokens * times.product * (o.on == CalibrateOn::kPacked ? 2 : 1);
  }
  const LinearInfo embedding = embeddingInfo(c);
  const double embedded = kFloat * static_cast<double>(c.vocab * c.dim);
  plan.memory = std::max(plan.memory, kProgramBytes + 1.25 * embedded);
  plan.outDisk += embedded / kFloat;
  if (!tied) {
    const LinearInfo output = outputInfo(c);
    const double n = formats.at(output.name)->needsCalibration ? static_cast<double>(output.cols) : 0;
    pack(output, embedded + (kDouble * n + sample) * n, false);
    addCost(output);
  }
  const ActivationShape shape{o.activationBits, c.dim, tokensOf(text)};
  plan.workDisk = tokens > 0 ? 2. * static_cast<double>(shape.bytes()) : 0;
  return plan;
}

/// For --dry-run.
inline void printPlan(const StreamOptions& o, const LayerSource& source, const ChosenFormats& formats,
                      const std::vector<Sequence>& text, bool gguf) {
  const Config& c = source.config();
  std::map<std::string, std::size_t> counts;
  for (const auto& [name, format] : formats) ++counts[format->name];
  std::printf("%td blocks, width %td, hidden %td; %.2f GB of files\n", c.layers, c.dim, c.hidden,
              1e-9 * static_cast<double>(source.bytes()));
  for (const auto& [format, count] : counts) std::printf("  %5zu matrices in %s\n", count, format.c_str());
  std::printf("  of them the embedding in %s\n", formats.at(embeddingName())->name.c_str());
  const StreamPlan plan = planStream(o, c, source.tied(), formats, text);
  std::printf("text to calibrate on: %td tokens in %zu sequences\n", tokensOf(text), text.size());
  std::printf("memory: about %.2f GB, of which Hessians %.2f\n", 1e-9 * plan.memory, 1e-9 * plan.fullest);
  std::printf("disk: about %.2f GB for the model,%s %.2f GB for activations meanwhile\n", 1e-9 * plan.outDisk,
              gguf ? " as much again for the GGUF file," : "", 1e-9 * plan.workDisk);
  std::printf("time: about %.0f s here, by trying small matrices\n", plan.seconds);
}

}  // namespace llama
