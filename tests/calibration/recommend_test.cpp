// SPDX-License-Identifier: Apache-2.0
#include <gosset/calibration/recommend.hpp>

#include <gosset/codebook.hpp>
#include <gosset/format.hpp>
#include <gosset/format/concepts.hpp>
#include <gosset/format/incoherent.hpp>
#include <gosset/format/plain.hpp>
#include <gosset/format/scaled.hpp>
#include <gosset/kv/formats.hpp>

#include "testing.hpp"

#include <cmath>
#include <set>

namespace gosset::recommend_test {
namespace {

using testing::expectThrows;

std::string weights(const Constraint& constraint) { return recommend(constraint).weights.name; }

TEST(Recommend, MemoryBound) {
  EXPECT_EQ(weights({.most_bits = 16}), "int8");
  EXPECT_EQ(weights({.most_bits = 5.1}), "trellis-mixed#4");
  EXPECT_EQ(weights({.most_bits = 3.1}), "trellis-mixed#3");
  EXPECT_EQ(weights({.most_bits = 2.6}), "trellis-mixed#2.5");
  EXPECT_EQ(weights({.most_bits = 2.2}), "trellis-mixed#2");
  EXPECT_EQ(weights({.most_bits = 1.8}), "trellis#1.5");
  const Recommendation r = recommend({.most_bits = 2.2});
  EXPECT_STREQ(r.weights.format, "Incoherent<TrellisMixed>");
  EXPECT_STREQ(r.weights.rounding, "Ldlq(h, {.mean_bits = 2})");
  EXPECT_STREQ(r.weights.fit, "PublishedRule{}");
  EXPECT_TRUE(r.within);
  EXPECT_EQ(r.keys, "Float16");
  EXPECT_EQ(r.reason, "trellis-mixed#2: 2.01 bits a weight, KL 0.169526 nats; the least divergence within the bits");
}

TEST(Recommend, MemoryBoundWithoutText) {
  EXPECT_EQ(weights({.most_bits = 5.1, .calibration_text = false}), "asym4-g32");
  EXPECT_EQ(weights({.most_bits = 4.5, .calibration_text = false}), "nf4-g64");
  EXPECT_EQ(weights({.most_bits = 4.05, .calibration_text = false}), "asym3-g32-mse");
  EXPECT_EQ(weights({.most_bits = 3.5, .calibration_text = false}), "lloyd3-g64");
  EXPECT_EQ(weights({.most_bits = 2.5, .calibration_text = false}), "lloyd2-g64");
  EXPECT_EQ(weights({.most_bits = 1.5, .calibration_text = false}), "binary-g64");
  const auto training = ::testing::HasSubstr("; of use only after training through it (FakeQuant)");
  EXPECT_THAT(recommend({.most_bits = 1.4}).reason, training);
  EXPECT_THAT(recommend({.most_bits = 2, .calibration_text = false}).reason, training) << "2.24 nats";
  EXPECT_THAT(recommend({.most_bits = 2.5, .calibration_text = false}).reason, ::testing::Not(training)) << "0.92 nats";
}

TEST(Recommend, AccuracyBound) {
  EXPECT_EQ(weights({.most_divergence = 0.001}), "int8");
  EXPECT_EQ(weights({.most_divergence = 0.006}), "trellis-mixed#4");
  EXPECT_EQ(weights({.most_divergence = 0.03}), "trellis-mixed#3");
  EXPECT_EQ(weights({.most_divergence = 0.06}), "trellis-mixed#2.5");
  EXPECT_EQ(weights({.most_divergence = 0.5}), "trellis-mixed#2");
  EXPECT_EQ(weights({.most_divergence = 0.019, .calibration_text = false}), "nf4-g64");
  EXPECT_EQ(weights({}), "int8");
}

TEST(Recommend, Both) {
  EXPECT_EQ(weights({.most_bits = 4.5, .most_divergence = 0.02}), "trellis-mixed#4");
  const Recommendation r = recommend({.most_bits = 2.5, .most_divergence = 0.02});
  EXPECT_FALSE(r.within);
  EXPECT_STREQ(r.weights.name, "trellis-mixed#2");
  EXPECT_THAT(r.reason, ::testing::HasSubstr("the least divergence within the bits, none of which keeps to 0.02"));
}

TEST(Recommend, LongContext) {
  const Recommendation r = recommend({.most_bits = 4.1, .long_context = true});
  EXPECT_STREQ(r.weights.name, "trellis-mixed#4");
  EXPECT_EQ(r.keys, "Kivi<4, 64>");
  EXPECT_EQ(r.values, "Incoherent<Kivi<4, 64>>");
  EXPECT_THAT(r.reason, ::testing::HasSubstr("keys and values at 4.5 bits"));
}

TEST(Recommend, NothingBeatsWhatItTakes) {
  for (const MeasuredFormat& limit : measuredFormats()) {
    for (const bool text : {true, false}) {
      if (!text && limit.bits < 1.3) continue;
      const Recommendation r = recommend({.most_bits = limit.bits, .calibration_text = text});
      for (const MeasuredFormat& row : measuredFormats()) {
        if (row.bits > limit.bits || (row.calibrated && !text)) continue;
        EXPECT_GE(row.meanDivergence(), r.weights.meanDivergence()) << row.name;
      }
    }
  }
}

TEST(Recommend, RowsAreOrderedAndEachIsTheBestForSomeone) {
  double before = 17;
  std::set<std::string> names;
  for (const MeasuredFormat& row : measuredFormats()) {
    EXPECT_LT(row.bits, before) << row.name;
    before = row.bits;
    EXPECT_TRUE(names.insert(row.name).second) << row.name;
    const Constraint constraint{.most_bits = row.bits, .calibration_text = row.calibrated};
    EXPECT_EQ(weights(constraint), row.name);
  }
}

/// A limit that equals a row's own figure lets it in; one below it does not.
TEST(Recommend, LimitsIncludeWhatEqualsThem) {
  for (const MeasuredFormat& row : measuredFormats()) {
    const double divergence = row.meanDivergence();
    const Recommendation r =
        recommend({.most_bits = row.bits, .most_divergence = divergence, .calibration_text = row.calibrated});
    EXPECT_TRUE(r.within) << row.name;
    EXPECT_LE(r.weights.bits, row.bits) << row.name;
    EXPECT_LE(r.weights.meanDivergence(), divergence) << row.name;
    const Recommendation closer = recommend({.most_divergence = std::nextafter(divergence, 0.0)});
    EXPECT_TRUE(!closer.within || closer.weights.name != std::string(row.name)) << row.name;
  }
  EXPECT_EQ(weights({.most_divergence = measuredFormats()[6].meanDivergence()}), "trellis-mixed#4");
  EXPECT_EQ(weights({.most_divergence = measuredFormats().back().meanDivergence(), .calibration_text = false}),
            "binary-g64");
  EXPECT_EQ(weights({.most_bits = 1.257}), "binary-g64");
  expectThrows([] { recommend({.most_bits = std::nextafter(1.257, 0.0)}); }, "the smallest takes 1.257");
}

/// The formats of the rows are written as they are called.
TEST(Recommend, FormatsAreNamedAsTheyAre) {
  const std::set<std::string> known = {
      Packed<PerChannel<Symmetric<8>>>::formatName(),   Packed<Outliers<Grouped<Asymmetric<4>, 32>, 10>>::formatName(),
      Packed<Grouped<Asymmetric<4>, 32>>::formatName(), Packed<Grouped<NormalFloat4, 64>>::formatName(),
      Packed<PerChannel<Asymmetric<4>>>::formatName(),  Packed<PerChannel<Symmetric<4>>>::formatName(),
      Packed<Incoherent<TrellisMixed>>::formatName(),   Packed<Grouped<LloydMax<3>, 64>>::formatName(),
      Packed<Grouped<LloydMax<2>, 64>>::formatName(),   Packed<PerChannel<Trits5>>::formatName(),
      Packed<Grouped<Binary, 64>>::formatName(),        Packed<Grouped<Asymmetric<3>, 32>>::formatName(),
      Packed<Grouped<Asymmetric<2>, 32>>::formatName()};
  for (const MeasuredFormat& row : measuredFormats()) EXPECT_TRUE(known.contains(row.format)) << row.format;
  static_assert(Format<Kivi<4, 64>> && Format<Incoherent<Kivi<4, 64>>>);
}

TEST(Recommend, RefusesWhatNothingKeepsTo) {
  expectThrows([] { recommend({.most_bits = 1}); },
               "recommend: no measured format takes at most 1 bits a weight; the smallest takes 1.257");
  expectThrows([] { recommend({.most_bits = 0}); },
               "recommend: expected limits > 0, got 0 bits and a divergence of inf");
  expectThrows([] { recommend({.most_divergence = -1}); },
               "recommend: expected limits > 0, got inf bits and a divergence of -1");
}

}  // namespace
}  // namespace gosset::recommend_test
