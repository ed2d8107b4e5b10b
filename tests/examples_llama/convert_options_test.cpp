// SPDX-License-Identifier: Apache-2.0
#include "../../examples/llama/convert_options.hpp"

#include "testing.hpp"

namespace llama::testing::convert_options_test {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::ThrowsMessage;

ConvertOptions with(GgufRounding rounding, const char* type) {
  ConvertOptions o;
  o.gguf.rounding = rounding;
  o.types = {type};
  return o;
}

void expectRefused(const ConvertOptions& o, const std::string& text) {
  EXPECT_THAT([&] { refuseIgnored(o); }, ThrowsMessage<std::invalid_argument>(text));
}

const std::string kByInputs = "take --rounding importance or gptq, and a --type of fewer than 16 bits";

TEST(ConvertOptions, RoundingsHaveNames) {
  EXPECT_EQ(findRounding("nearest"), GgufRounding::kNearest);
  EXPECT_EQ(findRounding("importance"), GgufRounding::kImportance);
  EXPECT_EQ(findRounding("gptq"), GgufRounding::kGptq);
  EXPECT_THAT([] { findRounding("awq"); },
              ThrowsMessage<std::invalid_argument>("rounding \"awq\" is none of nearest, importance, gptq"));
}

TEST(ConvertOptions, TextsAreNeededByWhatLooksAtInputs) {
  EXPECT_TRUE(needsText(with(GgufRounding::kGptq, "Q4_K_M")));
  EXPECT_FALSE(needsText(with(GgufRounding::kGptq, "F16")));
  ConvertOptions o = with(GgufRounding::kNearest, "Q4_K_M");
  EXPECT_FALSE(needsText(o));
  o.awq = true;
  EXPECT_TRUE(needsText(o));
  EXPECT_FALSE(looksAtInputs(o));
  o.awq = false;
  o.budget = GgufBudget{4, 0};
  EXPECT_TRUE(needsText(o));
}

TEST(ConvertOptions, WhatWouldBeIgnoredIsRefused) {
  ConvertOptions o = with(GgufRounding::kNearest, "Q4_0");
  refuseIgnored(o);
  o.sequential = true;
  expectRefused(o, "--sequential: no codes are chosen by what enters the layers; " + kByInputs);
  o.awq = true;
  expectRefused(o, "--sequential: no codes are chosen by what enters the layers; " + kByInputs);
  o = with(GgufRounding::kGptq, "F16");
  o.imatrix = "i";
  expectRefused(o, "--imatrix: nothing is known of what enters the layers, as no codes are chosen by it; " + kByInputs);
  o.budget = GgufBudget{4, 0};
  refuseIgnored(o);
  o.gguf.pure = true;
  expectRefused(o, "--budget chooses a type for each matrix, without --pure");
}

TEST(ConvertOptions, ScalesHaveToServe) {
  ConvertOptions o = with(GgufRounding::kNearest, "F16");
  o.awq = true;
  expectRefused(o, "--awq: floats need no scales; take a --type of fewer than 16 bits");
  o = with(GgufRounding::kGptq, "Q4_0");
  o.awq = o.sequential = true;
  refuseIgnored(o);
  o.imatrix = "i";
  expectRefused(
      o, "--imatrix: what enters the layers is not the model's own behind the scales of --awq; write it without");
}

TEST(ConvertOptions, TypesAreMixturesOrWhatABudgetChoosesFrom) {
  ConvertOptions o;
  chooseTypes(o, {}, false);
  EXPECT_THAT(o.types, ElementsAre("Q4_K_M"));
  EXPECT_FALSE(o.budget);
  o.types = {"Q4_K"};
  EXPECT_THAT([&] { chooseTypes(o, {}, true); },
              ThrowsMessage<std::invalid_argument>(HasSubstr("type \"Q4_K\" is none of F32, ")));
  chooseTypes(o, "3.5", true);
  EXPECT_THAT(o.types, ElementsAre("Q4_K"));
  EXPECT_EQ(o.budget->bits, 3.5);
  o.types = {"Q4_K_M"};
  EXPECT_THAT([&] { chooseTypes(o, "3.5", true); },
              ThrowsMessage<std::invalid_argument>("--type: type \"Q4_K_M\" is none of GGUF's"));
  chooseTypes(o, "3MB", false);
  EXPECT_THAT(o.types, IsEmpty());
  EXPECT_EQ(o.budget->bytes, 3000000u);
  for (const char* text : {"", "much"}) {
    EXPECT_THAT([&] { chooseTypes(o, text, false); },
                ThrowsMessage<std::invalid_argument>(HasSubstr("--budget: bits a weight expected, such as 4.5, ")));
  }
}

}  // namespace
}  // namespace llama::testing::convert_options_test
