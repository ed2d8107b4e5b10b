// SPDX-License-Identifier: Apache-2.0
#include <gosset/io/integer_scheme.hpp>
#include <gosset/io/json.hpp>

#include "testing.hpp"

namespace gosset::integer_scheme_test {
namespace {

using testing::expectThrows;
using Method = IntegerScheme::Method;

constexpr const char* kGptq = R"({"quant_method": "gptq", "bits": 4, "group_size": 128, "desc_act": true, "sym": false,
  "damp_percent": 0.01, "dataset": null, "model_name_or_path": "x"})";
constexpr const char* kAwq = R"({"quant_method": "awq", "bits": 4, "group_size": 64, "version": "gemm",
  "zero_point": true, "modules_to_not_convert": ["lm_head"]})";
constexpr const char* kCompressed = R"({"quant_method": "compressed-tensors", "format": "pack-quantized",
  "quantization_status": "compressed", "version": "0.11.0", "ignore": ["lm_head"], "sparsity_config": {},
  "config_groups": {"group_0": {"targets": ["Linear"], "input_activations": null, "weights": {"num_bits": 4,
  "type": "int", "symmetric": false, "strategy": "group", "group_size": 32, "dynamic": false, "actorder": "group"}}}})";

/// With these keys in place of its own.
IntegerScheme parsed(const char* text, const std::string& patch = "{}") {
  nlohmann::json json = parseJson(text, "text");
  json.merge_patch(parseJson(patch, "patch"));
  return parseIntegerScheme(json, "config");
}

TEST(IntegerScheme, OfGptq) {
  const IntegerScheme scheme{.group_size = 128, .needs_group_index = true};
  EXPECT_EQ(parsed(kGptq), scheme);
  EXPECT_EQ(parsed(kGptq, R"({"quant_method": null})"), scheme) << "quantize_config.json names no method";
  IntegerScheme v2 = scheme;
  v2.zeros_minus_one = false;
  EXPECT_EQ(parsed(kGptq, R"({"checkpoint_format": "gptq_v2"})"), v2);
  EXPECT_EQ(parsed(kGptq, R"({"format": "gptq_v2", "checkpoint_format": "gptq_v2"})"), v2);
  EXPECT_EQ(parsed(kGptq, R"({"checkpoint_format": "gptq", "pack_dtype": "int32", "dynamic": {}})"), scheme);
  EXPECT_EQ(parsed(kGptq, R"({"group_size": -1})").group_size, 0);
  for (const int bits : {2, 3, 4, 8}) {
    EXPECT_EQ(parsed(kGptq, R"({"bits": )" + std::to_string(bits) + "}").bits, bits);
  }
}

TEST(IntegerScheme, OfAwq) {
  const IntegerScheme scheme{.method = Method::kAwq, .group_size = 64, .zeros_minus_one = false};
  EXPECT_EQ(parsed(kAwq), scheme);
  EXPECT_EQ(parsed(kAwq, R"({"version": "GEMM"})"), scheme);
  EXPECT_EQ(parsed(kAwq, R"({"bits": null, "group_size": null, "w_bit": 4, "q_group_size": 64})"), scheme);
}

TEST(IntegerScheme, OfCompressedTensors) {
  const IntegerScheme scheme{.method = Method::kCompressedTensors, .group_size = 32, .zeros_minus_one = false};
  EXPECT_EQ(parsed(kCompressed), scheme);
  const auto weights = [](const std::string& patch) {
    return parsed(kCompressed, R"({"config_groups": {"group_0": {"weights": )" + patch + "}}}");
  };
  EXPECT_EQ(weights(R"({"strategy": "channel", "group_size": null})").group_size, 0);
  EXPECT_EQ(weights(R"({"strategy": null})").group_size, 32);
  EXPECT_EQ(weights(R"({"strategy": null, "group_size": null})").group_size, 0);
  EXPECT_TRUE(weights(R"({"symmetric": true})").symmetric);
  EXPECT_TRUE(weights(R"({"symmetric": null})").symmetric);
  EXPECT_EQ(weights(R"({"num_bits": 8})").bits, 8);
}

TEST(IntegerScheme, RefusesWhatItDoesNotKnow) {
  const auto refused = [](const char* config, const std::string& patch, const std::string& text) {
    expectThrows<FormatError>([&] { (void)parsed(config, patch); }, "config: " + text);
  };
  refused(kGptq, R"({"quant_method": "fp8"})",
          "\"quant_method\": expected \"gptq\", \"awq\" or \"compressed-tensors\", found \"fp8\"");
  refused(kGptq, R"({"quant_method": 3})", "\"quant_method\": expected a string, found 3");
  refused(kGptq, R"({"bits": 5})", "\"bits\": expected 2, 3, 4 or 8, found 5");
  refused(kGptq, R"({"bits": 1})", "\"bits\": expected an integer of 2 to 8, found 1");
  refused(kGptq, R"({"bits": null})", "\"bits\": expected an integer of 2 to 8, found nothing");
  refused(kGptq, R"({"group_size": 0})", "\"group_size\": expected -1 or a positive integer, found 0");
  refused(kGptq, R"({"group_size": -2})", "\"group_size\": expected an integer of -1 to 2147483648, found -2");
  refused(kGptq, R"({"desc_act": 1})", "\"desc_act\": expected true or false, found 1");
  refused(kGptq, R"({"checkpoint_format": "marlin"})",
          "\"checkpoint_format\": expected \"gptq\" or \"gptq_v2\", found \"marlin\"");
  refused(kGptq, R"({"dynamic": {"+:mlp": {"bits": 8}}})", "\"dynamic\": expected {} or false, found ");
  refused(kGptq, R"({"pack_dtype": "int16"})", "\"pack_dtype\": expected \"int32\", found \"int16\"");
  refused(kGptq, R"({"planar": true})", "\"planar\" is unknown here, and may change what the numbers mean");
  refused(kGptq, R"({"sym bits": true})", "\"sym bits\" is unknown here, and may change what the numbers mean");
  refused(kAwq, R"({"version": "gemv"})", "\"version\": expected \"gemm\" or \"GEMM\", found \"gemv\"");
  refused(kAwq, R"({"zero_point": false})", "\"zero_point\": expected true, found false");
  refused(kAwq, R"({"bits": 8})", "\"bits\": expected an integer of 4 to 4, found 8");
  refused(kCompressed, R"({"format": "int-quantized"})",
          "\"format\": expected \"pack-quantized\", found \"int-quantized\"");
  refused(kCompressed, R"({"quantization_status": "frozen"})",
          "\"quantization_status\": expected \"compressed\", found \"frozen\"");
  refused(kCompressed, R"({"kv_cache_scheme": {"num_bits": 8}})", "\"kv_cache_scheme\": expected null, found ");
  refused(kCompressed, R"({"config_groups": {"b": {}}})", "\"config_groups\": expected an object of one group, found ");
  refused(kCompressed, R"({"config_groups": {"group_0": {"input_activations": {"num_bits": 8}}}})",
          "'group_0': \"input_activations\": expected null, found {\"num_bits\":8}");
  refused(kCompressed, R"({"config_groups": {"group_0": {"weights": null}}})",
          "'group_0': \"weights\": expected an object, found nothing");
  const auto weights = [&](const std::string& patch, const std::string& text) {
    refused(kCompressed, R"({"config_groups": {"group_0": {"weights": )" + patch + "}}}",
            "'group_0': weights: " + text);
  };
  weights(R"({"type": "float"})", "\"type\": expected \"int\", found \"float\"");
  weights(R"({"strategy": "tensor"})", "\"strategy\": expected \"group\" or \"channel\", found \"tensor\"");
  weights(R"({"group_size": null})", "\"group_size\": expected an integer of -1 to 2147483648, found nothing");
  weights(R"({"num_bits": 9})", "\"num_bits\": expected an integer of 2 to 8, found 9");
  weights(R"({"more": 1})", "\"more\" is unknown here, and may change what the numbers mean");
  expectThrows<FormatError>([] { (void)parseIntegerScheme(nlohmann::json(3), "config"); },
                            "config: expected an object, found 3");
}

}  // namespace
}  // namespace gosset::integer_scheme_test
