// SPDX-License-Identifier: Apache-2.0
#include <gosset/kv/recommend.hpp>

#include <gosset/format/incoherent.hpp>
#include <gosset/kv/formats.hpp>
#include <gosset/kv/presets.hpp>
#include <gosset/kv/shape.hpp>

#include "testing.hpp"

#include <algorithm>
#include <limits>
#include <set>
#include <string>

namespace gosset::kv_recommend_test {
namespace {

using testing::expectThrows;

KvShape heads(Index head_dim, Index value_dim = 0) {
  return {.heads = 8, .kv_heads = 2, .head_dim = head_dim, .value_dim = value_dim};
}

std::string name(Index head_dim, double bits, Index block = 1024) {
  return recommendCache(heads(head_dim), bits, block).formats.name;
}

TEST(RecommendCache, LongBlocks) {
  EXPECT_EQ(name(128, 2), "KvTrellis2");
  EXPECT_EQ(name(128, 2.5), "KvTrellis25");
  EXPECT_EQ(name(128, 3), "KvTrellis3");
  EXPECT_EQ(name(128, 4), "KvTrellis4");
  EXPECT_EQ(name(256, 4), "KvTrellis4");
  EXPECT_EQ(name(64, 2.5), "KvTrellis25Heads64");
  EXPECT_EQ(name(64, 3), "KvTrellis3Heads64");
  EXPECT_EQ(name(32, 3.6), "KvTrellis35Heads32");
  EXPECT_EQ(name(32, 4.6), "KvTrellis45Heads32");
  EXPECT_EQ(name(128, 9), "KIVI-8");
  EXPECT_EQ(name(128, 16), "Float16");
  const CacheRecommendation r = recommendCache(heads(128), 2.5, 1024);
  EXPECT_STREQ(r.formats.keys, "Incoherent<LowRankFirst<PerChannel<Trellis<2, 1, 12>>, 4, std::int8_t>>");
  EXPECT_STREQ(r.formats.values, "Incoherent<LowRankFirst<PerChannel<Trellis<9, 4, 12>>, 4, std::int8_t>>");
  EXPECT_EQ(r.output_error, r.formats.output_errors[2]);
  EXPECT_EQ(r.reason,
            "KvTrellis25: 2.47778 bits a number, an error of 0.2316 in the output on heads of 128; the least "
            "within the bits");
}

/// Ranks are dear in short blocks: what fits 1024 tokens does not fit 64.
TEST(RecommendCache, ShortBlocksTakeMoreBits) {
  EXPECT_GT(recommendCache(heads(128), 3.1, 64).output_error, recommendCache(heads(128), 3.1, 1024).output_error);
  EXPECT_EQ(name(128, 4.5, 64), "KvTrellis3");
  EXPECT_EQ(name(64, 2.5, 64), "KIVI-2");
}

TEST(RecommendCache, HeadsBetweenTheMeasuredOnesTakeTheNarrower) {
  EXPECT_EQ(name(127, 4.2), name(64, 4.2));
  EXPECT_EQ(name(129, 4), name(128, 4));
  EXPECT_EQ(name(8, 6), name(32, 6));
  EXPECT_EQ(recommendCache(heads(1000), 4, 1024).output_error, recommendCache(heads(256), 4, 1024).output_error);
}

template <class Formats>
double bitsOf(Index head_dim, Index value_dim, Index block) {
  return Formats::Cache::shaped(heads(head_dim, value_dim), {}, {.ends = {block}, .stored = {block}}).bitsPerElement();
}

/// With a limit at its own bits a row is taken, or one with less error; below them it is not.
template <class Formats>
void expectBits(const std::string& row_name, Index head_dim, Index block, Index value_dim = 0) {
  SCOPED_TRACE(row_name);
  const double bits = bitsOf<Formats>(head_dim, value_dim, block);
  const double d = static_cast<double>(head_dim), v = value_dim == 0 ? d : static_cast<double>(value_dim);
  for (const MeasuredCache& row : measuredCaches()) {
    if (row.name != row_name) continue;
    const double n = static_cast<double>(block);
    const double told = (row.key_bits.bits(d, n) * d + row.value_bits.bits(n, v) * v) / (d + v);
    EXPECT_NEAR(told, bits, 200 / (2 * n * (d + v)));
    EXPECT_EQ(std::string(row.keys), Packed<typename Formats::Keys>::formatName());
    EXPECT_EQ(std::string(row.values), Packed<typename Formats::Values>::formatName());
    return;
  }
  ADD_FAILURE() << "there is no such row";
}

TEST(RecommendCache, RowsTellTheBitsAndFormatsOfTheCaches) {
  expectBits<KvTrellis25>("KvTrellis25", 128, 1024);
  expectBits<KvTrellis25>("KvTrellis25", 192, 256, 128);
  expectBits<KvTrellis4>("KvTrellis4", 256, 128);
  expectBits<KvTrellis4Heads64>("KvTrellis4Heads64", 64, 1024);
  expectBits<KvTrellis25Heads32>("KvTrellis25Heads32", 32, 1024);
  expectBits<KvTrellis45Heads32>("KvTrellis45Heads32", 32, 128);
  expectBits<KvPreset3>("KvPreset3", 128, 1024);
  expectBits<KvPreset4Heads64>("KvPreset4Heads64", 64, 512);
  expectBits<KvFormats<Kivi<3, 64>, Kivi<3, 64>>>("KIVI-3", 128, 1024);
  expectBits<KvFormats<Kivi<2, 64>, Kivi<2, 64>>>("KIVI-2", 32, 64);
  expectBits<KvFormats<Float16, Float16>>("Float16", 64, 64);
}

TEST(RecommendCache, NothingWithinTheBitsIsBetter) {
  for (std::size_t at = 0; at < kMeasuredHeads.size(); ++at) {
    const auto d = static_cast<double>(kMeasuredHeads[at]);
    const auto bitsOfRow = [&](const MeasuredCache& row) {
      return (row.key_bits.bits(d, 1024) + row.value_bits.bits(1024, d)) / 2;
    };
    for (const MeasuredCache& limit : measuredCaches()) {
      if (limit.output_errors[at] == 0) continue;
      const double bits = bitsOfRow(limit);
      const CacheRecommendation r = recommendCache(heads(kMeasuredHeads[at]), bits + 1e-9, 1024);
      EXPECT_LE(r.output_error, limit.output_errors[at]) << limit.name;
      for (const MeasuredCache& row : measuredCaches()) {
        if (row.output_errors[at] == 0 || bitsOfRow(row) > bits) continue;
        EXPECT_GE(row.output_errors[at], r.output_error) << row.name;
      }
    }
  }
}

TEST(RecommendCache, RowsHaveNamesOfTheirOwnAndFigures) {
  std::set<std::string> names;
  for (const MeasuredCache& row : measuredCaches()) {
    EXPECT_TRUE(names.insert(row.name).second) << row.name;
    double most = 0;
    for (const double error : row.output_errors) {
      EXPECT_TRUE(error >= 0 && error < 1) << row.name;
      most = std::max(most, error);
    }
    EXPECT_GT(most, 0) << row.name;
  }
}

TEST(RecommendCache, RefusesWhatNothingKeepsTo) {
  expectThrows([] { recommendCache(heads(128), 1.5, 1024); },
               "recommendCache: no measured formats take at most 1.5 bits a number in blocks of 1024 tokens, heads of "
               "128; the smallest take 1.97778");
  expectThrows([] { recommendCache(heads(128), 2, 32); }, "heads of 128; the smallest take 2.75");
  expectThrows([] { recommendCache(heads(128), 0, 1024); }, "recommendCache: expected bits > 0, got 0");
  expectThrows([] { recommendCache(heads(128), std::numeric_limits<double>::quiet_NaN(), 1024); },
               "recommendCache: expected bits > 0, got nan");
  expectThrows([] { recommendCache(heads(128), 4, 0); }, "recommendCache: expected a block of at least 1 token, got 0");
  expectThrows([] { recommendCache({}, 4, 1024); }, "KvShape: expected positive sizes");
}

}  // namespace
}  // namespace gosset::kv_recommend_test
