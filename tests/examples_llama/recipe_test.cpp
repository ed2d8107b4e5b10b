// SPDX-License-Identifier: Apache-2.0
#include "../../examples/llama/recipe.hpp"

#include "reference.hpp"

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
  refused("rules:\n  - match: a\n    formt: b\n", "r.yaml, line 3: the key \"formt\" is none of bits, format, match");
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
