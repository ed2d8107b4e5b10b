// SPDX-License-Identifier: Apache-2.0
#include "../../examples/llama/recipe.hpp"

#include "reference.hpp"

#include <gosset/codebook.hpp>
#include <gosset/matrix.hpp>
#include <gosset/rounding.hpp>

namespace llama::testing::recipe_test {
namespace {

using gosset::testing::expectThrows;

TEST(Recipe, ReadsRulesInTheirOrder) {
  const Recipe recipe = parseRecipe(R"(# a comment
seed: 7
rules:
  - match: model.embed_tokens.weight
    format: fp16
  - {match: "*.down_proj.*", format: trellis#, bits: 2.5}
  - match: "*"
    format: gptq3-g32
)",
                                    "r.yaml");
  EXPECT_EQ(recipe.seed, 7u);
  ASSERT_EQ(recipe.rules.size(), 3u);
  EXPECT_EQ(recipe.rules[0].match, "model.embed_tokens.weight");
  EXPECT_EQ(recipe.rules[1].format, "trellis#2.5");
  EXPECT_EQ(recipe.rules[2].match, "*");
  const Recipe again = parseRecipe(recipeText(recipe), "again");
  EXPECT_EQ(again.seed, 7u);
  ASSERT_EQ(again.rules.size(), 3u);
  EXPECT_EQ(again.rules[1].format, "trellis#2.5");
  EXPECT_EQ(parseRecipe("rules: [{match: a, format: b}]", "r").seed, 1u);
}

TEST(Recipe, WhatIsNotOneIsRefusedWithItsLine) {
  const auto refused = [](const std::string& text, const std::string& error) {
    expectThrows<gosset::FormatError>([&] { parseRecipe(text, "r.yaml"); }, error);
  };
  refused("rules:\n  - match: a\n    formt: b\n",
          "r.yaml, line 3: the key \"formt\" is none of bits, damping, format, match, order, rounding, spread, sweeps");
  refused("rules:\n  - match: a\n", "r.yaml, line 2: a rule without \"format\"");
  refused("rules:\n  - format: a\n", "r.yaml, line 2: a rule without \"match\"");
  refused("seeds: 1\nrules: []\n", "r.yaml, line 1: the key \"seeds\" is none of rules, seed");
  refused("seed: 1\n", "\"rules\" is missing");
  refused("rules: []\n", "\"rules\": a list of rules expected");
  refused("rules: 3\n", "\"rules\": a list of rules expected");
  refused("seed: -1\nrules: [{match: a, format: b}]", "\"seed\": a whole number of at least 0 expected, found \"-1\"");
  refused("seed: [1]\nrules: [{match: a, format: b}]",
          "\"seed\": a whole number of at least 0 expected, found no scalar");
  refused("rules: [{match: a, format: b, bits: x}]", "\"bits\": a number of bits expected, found \"x\"");
  refused("rules: [{match: a, format: b, bits: 2x}]", "\"bits\": a number of bits expected, found \"2x\"");
  const auto option = [](const std::string& text) { return "rules: [{match: a, format: b, " + text + "}]"; };
  for (const std::string key : {"damping", "spread"}) {
    for (const std::string value : {"-1", "x", "inf", "nan", ".1x"}) {
      refused(option(key + ": " + value),
              "line 1: \"" + key + "\": a finite number of at least 0 expected, found \"" + value + "\"");
    }
  }
  for (const std::string value : {"-1", "101", "1.5", "many"}) {
    refused(option("sweeps: " + value), "\"sweeps\": a whole number from 0 to 100 expected, found \"" + value + "\"");
  }
  refused(option("order: rows"), "\"order\": diagonal or columns expected, found \"rows\"");
  refused(option("rounding: [gptq]"), "\"rounding\": a text expected");
  refused("rules: [{match: a, format: [b]}]", "\"format\": a text expected");
  refused("rules: [{match: a, format: b, match: c}]", "the key \"match\" is there twice");
  refused("rules: [3]", "keys and their values expected");
  refused("", "keys and their values expected");
  refused("rules: [", "r.yaml, line 1: ");
}

TEST(Recipe, PatternsMatch) {
  const auto matches = [](const char* pattern, const char* name) { return matchesPattern(pattern, name, 12); };
  EXPECT_TRUE(matches("abc", "abc"));
  EXPECT_FALSE(matches("abc", "abcd"));
  EXPECT_FALSE(matches("abcd", "abc"));
  EXPECT_TRUE(matches("*", ""));
  EXPECT_TRUE(matches("a*c", "abbc"));
  EXPECT_TRUE(matches("*b*", "abc"));
  EXPECT_FALSE(matches("a*c", "abd"));
  EXPECT_TRUE(matches("x.{0..1}.y", "x.0.y"));
  EXPECT_TRUE(matches("x.{0..1}.y", "x.1.y"));
  EXPECT_FALSE(matches("x.{0..1}.y", "x.10.y"));
  EXPECT_FALSE(matches("x.{0..1}.y", "x.2.y"));
  EXPECT_TRUE(matches("x.{-1}.y", "x.11.y"));
  EXPECT_FALSE(matches("x.{-1}.y", "x.1.y"));
  EXPECT_TRUE(matches("x.{-2..-1}.*", "x.10.y"));
  EXPECT_FALSE(matches("x.{-2..-1}.*", "x.9.y"));
  EXPECT_FALSE(matches("x.{1}", "x.one"));
  expectThrows([&] { matches("x.{1", "x.1"); }, "pattern \"x.{1\": a } is missing");
  expectThrows([&] { matches("x.{a}", "x.1"); },
               "pattern \"x.{a}\": {a..b} or {a} with whole numbers expected, found {a}");
  expectThrows([&] { matches("x.{1..}", "x.1"); }, "expected, found {1..}");
}

TEST(Recipe, TheFirstRuleThatMatchesDecides) {
  const Config config = smallConfig();
  const Recipe recipe = parseRecipe(R"(rules:
  - {match: model.embed_tokens.weight, format: asym4-g32}
  - {match: "model.layers.{0}.*", format: int8}
  - {match: "*.down_proj.weight", format: trellis#, bits: 2.5}
  - {match: lm_head.weight, format: fp16}
  - {match: "model.*", format: gptq3})",
                                    "r");
  const ChosenFormats chosen = chooseFormats(recipe, config, false);
  EXPECT_EQ(chosen.size(), 16u);
  EXPECT_EQ(chosen.at("model.embed_tokens.weight")->name, "asym4-g32");
  EXPECT_EQ(chosen.at("model.layers.0.mlp.down_proj.weight")->name, "int8");
  EXPECT_EQ(chosen.at("model.layers.1.mlp.down_proj.weight")->name, "trellis#2.5");
  EXPECT_EQ(chosen.at("model.layers.1.mlp.up_proj.weight")->name, "gptq3");
  EXPECT_EQ(chosen.at("lm_head.weight")->name, "fp16");
  expectThrows([&] { chooseFormats(recipe, config, true); }, "recipe: rule \"lm_head.weight\" decides on no matrix");
}

TEST(Recipe, WhatDoesNotFitTheModelIsRefused) {
  const Config config = smallConfig();
  const auto refused = [&](std::vector<RecipeRule> rules, const std::string& text) {
    expectThrows([&] { chooseFormats({1, std::move(rules)}, config, false); }, text);
  };
  refused({{"model.*", "int8"}}, "recipe: no rule matches \"lm_head.weight\"");
  refused({{"*", "int8"}, {"lm_head.weight", "int8"}}, "recipe: rule \"lm_head.weight\" decides on no matrix");
  refused({{"*", "int9"}}, "format \"int9\" is none of");
  refused({{"*", "gptq4"}},
          "recipe: rule \"*\" for \"model.embed_tokens.weight\": format \"gptq4\" looks at a layer's");
}

TEST(Recipe, RulesSayHowCodesAreChosen) {
  const auto named = [](const std::string& rule) {
    const Recipe recipe = parseRecipe("rules: [{match: a, " + rule + "}]", "r");
    const Recipe again = parseRecipe(recipeText(recipe), "again");
    const FormatEntry& format = formatOfRule(recipe.rules.front());
    EXPECT_EQ(&format, &formatOfRule(again.rules.front())) << rule;
    return format.name;
  };
  EXPECT_EQ(named("format: gptq4-g32"), "gptq4-g32");
  EXPECT_EQ(named("format: gptq4-g32, rounding: gptq"), "gptq4-g32");
  EXPECT_EQ(named("format: gptq4-g32, rounding: nearest"), "asym4-g32");
  EXPECT_EQ(named("format: asym4-g32, rounding: gptq"), "gptq4-g32");
  EXPECT_EQ(named("format: int4, rounding: stochastic"), "int4-stochastic");
  EXPECT_EQ(named("format: sparse3-g32, rounding: gptq, damping: 0.02"), "spqr3-g32 (damping 0.02)");
  EXPECT_EQ(named("format: gptq4-g32, rounding: ldlq"), "gptq4-g32 (ldlq)");
  EXPECT_EQ(named("format: asym4-g32, rounding: ldlq, sweeps: 2"), "gptq4-g32 (ldlq, sweeps 2)");
  EXPECT_EQ(named("format: quip#2, rounding: gptq, order: columns"), "quip#2 (gptq, order columns)");
  EXPECT_EQ(named("format: trellis-mixed#, bits: 2.5, spread: 0.5, sweeps: 0"),
            "trellis-mixed#2.5 (sweeps 0, spread 0.5)");
}

TEST(Recipe, WhatAFormatCannotBeRoundedByIsRefused) {
  const auto refused = [](const std::string& rule, const std::string& text) {
    const Recipe recipe = parseRecipe("rules: [{match: \"*\", format: int8}, {match: a, " + rule + "}]", "r");
    expectThrows([&] { formatOfRule(recipe.rules.back()); }, text);
  };
  refused("format: int8, rounding: gptq",
          "\"rounding\": one of those that format \"int8\" has (nearest) expected, found \"gptq\"");
  refused("format: gptq4-g32, rounding: best",
          "\"rounding\": one of those that format \"gptq4-g32\" has (gptq, nearest) expected, found \"best\"");
  refused("format: trellis#2, rounding: gptq", "format \"trellis#2\" has (ldlq) expected, found \"gptq\"");
  refused("format: int8, sweeps: 2", "\"sweeps\": of gptq and ldlq alone, and format \"int8\" is rounded by nearest");
  refused("format: awq4-g32, damping: .1",
          "\"damping\": of gptq and ldlq alone, and format \"awq4-g32\" is rounded by awq");
  refused("format: quip#2, order: columns", "\"order\": of gptq alone, and format \"quip#2\" is rounded by ldlq");
  refused("format: trellis#2, spread: 1",
          "\"spread\": of trellis-mixed# alone, and format \"trellis#2\" is rounded by ldlq");
  const Recipe recipe = parseRecipe("rules: [{match: \"*\", format: int8, sweeps: 1}]", "r");
  expectThrows([&] { chooseFormats(recipe, smallConfig(), false); },
               "recipe: rule \"*\" for \"model.embed_tokens.weight\": \"sweeps\": of gptq and ldlq alone");
}

/// Each option against the library's own rounding.
TEST(Recipe, OptionsReachTheRounding) {
  using G32 = gosset::Grouped<gosset::Asymmetric<4>, 32>;
  const LinearInfo info{"layer", 48, 64};
  const RowMatrixXf w = gosset::testing::gaussian(info.rows, info.cols, 1);
  Calibration calibration;
  calibration.try_emplace(info.name, info.cols).first->second.add(gosset::testing::gaussian(40, info.cols, 2));
  const gosset::Hessian& h = calibration.at(info.name).hessian;
  const auto packed = [&](const std::string& rule) {
    const Recipe recipe = parseRecipe("rules: [{match: a, " + rule + "}]", "r");
    return packLayer(info, w, formatOfRule(recipe.rules.front()), 1, 0, calibration).dequantized();
  };
  const auto expected = [&](const auto& rounding) {
    return RowMatrixXf(gosset::quantize<G32>(w, rounding, {.fit = gosset::LeastSquares{}}).dequantized());
  };
  const RowMatrixXf usual = packed("format: gptq4-g32");
  EXPECT_EQ(usual, expected(gosset::Gptq(h, {.act_order = true})));
  const std::pair<const char*, RowMatrixXf> cases[] = {
      {"damping: 0.5", expected(gosset::Gptq(h, {.damping = .5, .act_order = true}))},
      {"sweeps: 3", expected(gosset::Gptq(h, {.sweeps = 3, .act_order = true}))},
      {"order: columns", expected(gosset::Gptq(h))},
      {"rounding: ldlq", expected(gosset::Ldlq(h))},
      {"rounding: ldlq, sweeps: 0", expected(gosset::Ldlq(h, {.sweeps = 0}))},
      {"rounding: ldlq, damping: 2", expected(gosset::Ldlq(h, {.damping = 2}))}};
  for (const auto& [rule, values] : cases) {
    EXPECT_EQ(packed(std::string("format: gptq4-g32, ") + rule), values) << rule;
    EXPECT_NE(values, usual) << rule;
  }
  const RowMatrixXf mixed = packed("format: trellis-mixed#2"), even = packed("format: trellis-mixed#2, spread: 0");
  EXPECT_NE(even, mixed);
  EXPECT_EQ(even, packed("format: trellis#2"));
}

TEST(Recipe, OfOneFormat) {
  const ChosenFormats chosen = chooseFormats(uniformRecipe("gptq4", "", 3), smallConfig(), false);
  EXPECT_EQ(chosen.at(embeddingName())->name, "int8");
  EXPECT_EQ(chosen.at(outputName())->name, "gptq4");
  EXPECT_EQ(chooseFormats(uniformRecipe("fp16", "", 3), smallConfig(), true).at(embeddingName())->name, "fp16");
  EXPECT_EQ(uniformRecipe("fp16", "nf4-g64", 3).rules.front().format, "nf4-g64");
  EXPECT_EQ(uniformRecipe("fp16", "", 3).seed, 3u);
}

}  // namespace
}  // namespace llama::testing::recipe_test
