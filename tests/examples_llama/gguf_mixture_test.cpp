// SPDX-License-Identifier: Apache-2.0
#include "../../examples/llama/gguf_mixture.hpp"

#include "testing.hpp"

namespace llama::testing::gguf_mixture_test {
namespace {

std::string typeOf(const char* mixture, const char* tensor, std::int64_t width = 256, const GgufRules& rules = {},
                   bool pure = false) {
  return std::string(ggufTypeFor(findGgufMixture(mixture), tensor, width, rules, pure).type);
}

TEST(GgufMixture, NamesAreThoseOfFiles) {
  EXPECT_EQ(findGgufMixture("Q4_K_M").fileType, 15u);
  EXPECT_EQ(findGgufMixture("BF16").fileType, 32u);
  EXPECT_THAT([] { findGgufMixture("Q4_K"); },
              ::testing::ThrowsMessage<std::invalid_argument>(::testing::StartsWith(
                  "type \"Q4_K\" is none of F32, F16, BF16, Q4_0, Q4_1, Q5_0, Q5_1, Q8_0, Q2_K, Q2_K_S, Q3_K_S")));
}

TEST(GgufMixture, FloatsStayFloatsWhateverTheirShape) {
  for (const char* type : {"F32", "F16", "BF16"}) {
    EXPECT_EQ(typeOf(type, "output.weight", 7), type);
    EXPECT_EQ(typeOf(type, "blk.3.attn_v.weight", 417), type);
  }
}

TEST(GgufMixture, OutputHasSixBits) {
  const GgufRules tied = {.ownOutput = false}, own = {.ownOutput = true};
  EXPECT_EQ(typeOf("Q2_K", "output.weight"), "Q6_K");
  EXPECT_EQ(typeOf("Q2_K", "token_embd.weight", 256, tied), "Q6_K");
  EXPECT_EQ(typeOf("Q2_K", "token_embd.weight", 256, own), "Q2_K");
  EXPECT_EQ(typeOf("TQ2_0", "token_embd.weight", 256, own), "Q4_K");
  EXPECT_EQ(typeOf("Q8_0", "output.weight"), "Q8_0");
  EXPECT_EQ(typeOf("Q4_K_M", "output.weight", 352), "Q8_0");
  EXPECT_EQ(typeOf("Q4_0", "output.weight", 352), "Q8_0");  // Q6_K has blocks of 256
}

TEST(GgufMixture, BlocksThatMoreBitsServeGetThem) {
  std::string types;
  for (int layer = 0; layer < 16; ++layer) {
    types += typeOf("Q4_K_M", ("blk." + std::to_string(layer) + ".ffn_down.weight").c_str(), 256, {.layers = 16}) + " ";
  }
  EXPECT_EQ(types, "Q6_K Q6_K Q4_K Q4_K Q6_K Q4_K Q4_K Q6_K Q4_K Q4_K Q6_K Q4_K Q4_K Q6_K Q6_K Q6_K ");
}

TEST(GgufMixture, RulesOfEachPart) {
  const GgufRules shared = {.layers = 32, .headsPerKv = 4}, plain = {.layers = 32};
  EXPECT_EQ(typeOf("Q2_K", "blk.9.attn_v.weight", 256, shared), "Q4_K");
  EXPECT_EQ(typeOf("Q2_K", "blk.9.attn_v.weight", 256, plain), "Q3_K");
  EXPECT_EQ(typeOf("Q2_K_S", "blk.9.attn_v.weight", 256, shared), "Q4_K");
  EXPECT_EQ(typeOf("Q2_K_S", "blk.3.ffn_down.weight", 256, plain), "Q4_K");
  EXPECT_EQ(typeOf("Q2_K_S", "blk.4.ffn_down.weight", 256, plain), "Q2_K");
  EXPECT_EQ(typeOf("Q2_K", "blk.9.attn_output.weight", 256, plain), "Q3_K");
  EXPECT_EQ(typeOf("Q3_K_M", "blk.1.attn_v.weight", 256, plain), "Q5_K");
  EXPECT_EQ(typeOf("Q3_K_M", "blk.2.attn_v.weight", 256, plain), "Q4_K");
  EXPECT_EQ(typeOf("Q3_K_M", "blk.1.ffn_down.weight", 256, plain), "Q5_K");
  EXPECT_EQ(typeOf("Q3_K_M", "blk.2.ffn_down.weight", 256, plain), "Q4_K");
  EXPECT_EQ(typeOf("Q3_K_L", "blk.2.attn_output.weight", 256, plain), "Q5_K");
  EXPECT_EQ(typeOf("Q3_K_L", "blk.2.ffn_down.weight", 256, plain), "Q5_K");
  EXPECT_EQ(typeOf("Q4_K_S", "blk.3.attn_v.weight", 256, plain), "Q5_K");
  EXPECT_EQ(typeOf("Q4_K_S", "blk.4.attn_v.weight", 256, plain), "Q4_K");
  EXPECT_EQ(typeOf("IQ4_XS", "blk.9.attn_v.weight", 256, shared), "Q5_K");
  EXPECT_EQ(typeOf("IQ4_XS", "blk.0.ffn_down.weight", 256, plain), "Q5_K");
  EXPECT_EQ(typeOf("IQ4_XS", "blk.0.ffn_down.weight", 256, {.layers = 32, .importance = true}), "IQ4_XS");
  EXPECT_EQ(typeOf("Q4_0", "blk.0.ffn_down.weight", 256, {.layers = 32, .importance = true}), "Q4_1");
  EXPECT_EQ(typeOf("Q5_0", "blk.0.ffn_down.weight", 256, {.layers = 32, .importance = true}), "Q5_1");
  EXPECT_EQ(typeOf("Q4_K_M", "blk.9.attn_qkv.weight"), "Q5_K");
  EXPECT_EQ(typeOf("Q5_K_M", "blk.9.attn_qkv.weight"), "Q6_K");
  EXPECT_EQ(typeOf("Q3_K_L", "blk.9.attn_qkv.weight"), "Q4_K");
  EXPECT_EQ(typeOf("Q3_K_S", "blk.9.attn_qkv.weight"), "Q3_K");
  EXPECT_EQ(typeOf("Q4_K_M", "blk.13.attn_v.weight", 256, {.layers = 80, .headsPerKv = 8}), "Q5_K");
}

TEST(GgufMixture, EightExpertsHaveRulesOfTheirOwn) {
  const GgufRules eight = {.layers = 32, .headsPerKv = 4, .experts = 8};
  EXPECT_EQ(typeOf("Q4_K_M", "blk.9.attn_v.weight", 256, eight), "Q8_0");
  EXPECT_EQ(typeOf("Q2_K", "blk.9.attn_k.weight", 256, eight), "Q8_0");
  EXPECT_EQ(typeOf("Q2_K", "blk.9.attn_output.weight", 256, eight), "Q5_K");
  EXPECT_EQ(typeOf("Q6_K", "blk.9.attn_output.weight", 256, eight), "Q6_K");
}

TEST(GgufMixture, RowsThatAreNoBlocksGetOtherTypes) {
  const std::array<std::array<const char*, 2>, 8> wider = {{{"IQ4_XS", "IQ4_NL"},
                                                            {"Q2_K_S", "Q4_0"},
                                                            {"Q3_K_S", "Q4_0"},
                                                            {"TQ1_0", "Q4_0"},
                                                            {"TQ2_0", "Q4_0"},
                                                            {"Q4_K_S", "Q5_0"},
                                                            {"Q5_K_S", "Q5_1"},
                                                            {"Q6_K", "Q8_0"}}};
  for (const auto& [mixture, type] : wider) {
    const GgufTypeChoice choice = ggufTypeFor(findGgufMixture(mixture), "blk.9.ffn_up.weight", 352, {});
    EXPECT_EQ(choice.type, type) << mixture;
    EXPECT_EQ(choice.wanted, findGgufMixture(mixture).type) << mixture;
    EXPECT_EQ(typeOf(mixture, "blk.9.ffn_up.weight", 172), "F16") << mixture;
  }
  EXPECT_EQ(typeOf("Q4_0", "blk.9.ffn_up.weight", 172), "F16");
}

TEST(GgufMixture, PureIsOneTypeForAll) {
  for (const char* tensor : {"token_embd.weight", "output.weight", "blk.0.attn_v.weight", "blk.0.ffn_down.weight"}) {
    EXPECT_EQ(typeOf("Q4_K_M", tensor, 256, {.layers = 32}, true), "Q4_K") << tensor;
    EXPECT_EQ(typeOf("Q4_K_M", tensor, 352, {.layers = 32}, true), "Q5_0") << tensor;
  }
}

}  // namespace
}  // namespace llama::testing::gguf_mixture_test
