// SPDX-License-Identifier: Apache-2.0
#include "kv.hpp"

#include <gosset/kv/formats.hpp>
#include <gosset/kv/kv_cache.hpp>

namespace llama {
namespace {

template <class Format>
class FormatKv : public CompressedKv {
 public:
  FormatKv(const Config& c, Index window)
      : layers_(static_cast<std::size_t>(c.layers),
                gosset::KvCache<Format>({c.heads, c.kvHeads, c.headDim}, {.window = window})) {}

  void append(std::size_t layer, const Eigen::MatrixXf& keys, const Eigen::MatrixXf& values) override {
    layers_[layer].append(keys.transpose(), values.transpose());
  }
  Eigen::MatrixXf attend(std::size_t layer, const Eigen::MatrixXf& q) const override {
    return layers_[layer].attend(RowMatrixXf(q.transpose())).transpose();
  }
  void clear() override {
    for (auto& layer : layers_) layer.clear();
  }
  Index bytes() const override {
    Index bytes = 0;
    for (const auto& layer : layers_) bytes += layer.bytes();
    return bytes;
  }

 private:
  std::vector<gosset::KvCache<Format>> layers_;
};

template <class Format>
KvFormatEntry entry(const char* name, const char* about) {
  return {name, about, [](const Config& config, Index window) -> std::unique_ptr<CompressedKv> {
            return std::make_unique<FormatKv<Format>>(config, window);
          }};
}

}  // namespace

const std::vector<KvFormatEntry>& kvFormatTable() {
  using gosset::Gear;
  using gosset::Kivi;
  static const std::vector<KvFormatEntry> table = {
      entry<gosset::Float16>("fp16", "16-bit floats"),
      entry<Kivi<4, 32>>("kivi4", "KIVI, 4 bits in groups of 32"),
      entry<Kivi<2, 32>>("kivi2", "KIVI, 2 bits in groups of 32"),
      entry<Gear<4, 32, 2, 20>>("gear4", "GEAR, 4 bits, rank 2, 2% outliers"),
      entry<Gear<3, 32, 2, 20>>("gear3", "GEAR, 3 bits, rank 2, 2% outliers"),
      entry<Gear<2, 32, 2, 20>>("gear2", "GEAR, 2 bits, rank 2, 2% outliers"),
      entry<gosset::KvPreset2>("preset2", "rotated, rank 4 first, E8P"),
      entry<gosset::KvPreset3>("preset3", "rotated, rank 4 first, E8P in 3 bits"),
      entry<gosset::KvPreset4>("preset4", "rotated, rank 4 first, E8P in 4 bits"),
  };
  return table;
}

}  // namespace llama
