// SPDX-License-Identifier: Apache-2.0
#include "kv.hpp"

#include <gosset/kv/formats.hpp>
#include <gosset/kv/kv_cache.hpp>
#include <gosset/kv/presets.hpp>

namespace llama {
namespace {

template <class Keys, class Values>
class FormatKv : public CompressedKv {
 public:
  FormatKv(const Config& c, Index window) : config_(c) {
    for (std::size_t layer = 0; layer < static_cast<std::size_t>(c.layers); ++layer) {
      const Index seen = c.block(layer).window;
      const bool slides = seen != Block::kNoWindow;
      layers_.emplace_back(gosset::KvShape{c.heads, c.kvHeads, c.headDim},
                           gosset::KvOptions{.window = window, .forget_beyond = slides ? seen : 0});
    }
  }

  void append(std::size_t layer, const Eigen::MatrixXf& keys, const Eigen::MatrixXf& values) override {
    naming(blockName(layer) + "self_attn", [&] { layers_[layer].append(keys.transpose(), values.transpose()); });
  }
  Eigen::MatrixXf attend(std::size_t layer, const Eigen::MatrixXf& q) const override {
    const gosset::AttendOptions options{config_.scoreScale(), config_.block(layer).window};
    const RowMatrixXf queries = q.transpose();
    if (config_.scoreCap == 0.f) return layers_[layer].attend(queries, options).transpose();
    return layers_[layer].attend(queries, options, gosset::SoftCap{config_.scoreCap}).transpose();
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
  Config config_;
  std::vector<gosset::KvCache<Keys, Values>> layers_;
};

template <class Keys, class Values = Keys>
KvFormatEntry entry(const char* name, const char* about) {
  return {name, about, [](const Config& config, Index window) -> std::unique_ptr<CompressedKv> {
            return std::make_unique<FormatKv<Keys, Values>>(config, window);
          }};
}

template <class Formats>
KvFormatEntry preset(const char* name, const char* about) {
  return entry<typename Formats::Keys, typename Formats::Values>(name, about);
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
      preset<gosset::KvPreset2Heads64>("preset2", "rotated, ranks 3 and 2 first, E8P in 2 bits"),
      preset<gosset::KvPreset3Heads64>("preset3", "the same, values in 3 bits"),
      preset<gosset::KvPreset4Heads64>("preset4", "the same, keys in 3 and values in 4 bits"),
      preset<gosset::KvTrellis25Heads32>("trellis25", "for heads of 32: rotated trellis codes in 2.5 bits"),
      preset<gosset::KvTrellis35Heads32>("trellis35", "for heads of 32: KIVI keys, rotated trellis values in 3.5 bits"),
      preset<gosset::KvTrellis45Heads32>("trellis45", "the same in 4.5 bits"),
  };
  return table;
}

}  // namespace llama
