// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "../../examples/llama/quality.hpp"

#include <gosset/io/safetensors.hpp>

#include "python.hpp"
#include "testing.hpp"

#include <cstdint>
#include <cstdlib>
#include <filesystem>
#include <string>
#include <system_error>

#include <stdlib.h>

namespace llama::testing {

/// Tests of models that a script in Python, Suite::kScript of this folder, makes once for all of them, with the logits
/// that it computes in double: GetParam() is the model's folder, its tokens and logits lie beside it.
template <class Suite>
class NumpyModels : public ::testing::TestWithParam<std::string> {
 protected:
  static void SetUpTestSuite() {
    const auto interpreter = gosset::testing::pythonWithNumpy();
    if (!interpreter) return;
    std::string name = (std::filesystem::temp_directory_path() / "gosset-models-XXXXXX").string();
    ASSERT_NE(::mkdtemp(name.data()), nullptr);
    root_ = name;
    const std::string script = std::string(GOSSET_SOURCE_DIR) + "/tests/examples_llama/" + Suite::kScript;
    ASSERT_EQ(std::system((*interpreter + " " + script + " " + name).c_str()), 0);
  }
  static void TearDownTestSuite() {
    std::error_code ignored;
    if (!root_.empty()) std::filesystem::remove_all(root_, ignored);
    root_.clear();
  }

  void SetUp() override {
    if (root_.empty()) GTEST_SKIP() << "no python3 with numpy (Debian: python3-numpy)";
    folder_ = root_ / GetParam();
    const gosset::SafetensorsFile expected(folder_.string() + ".expected.safetensors");
    logits_ = expected.matrix<double>("logits").transpose();
    for (const std::int64_t id : expected.vector<std::int64_t>("ids")) ids_.push_back(static_cast<Token>(id));
  }

  /// The largest error of logits, of the largest logit.
  double error(const Eigen::MatrixXf& logits) const {
    return (logits.cast<double>() - logits_).cwiseAbs().maxCoeff() / logits_.cwiseAbs().maxCoeff();
  }

  static inline std::filesystem::path root_;
  std::filesystem::path folder_;
  Eigen::MatrixXd logits_;  // vocab x tokens
  Sequence ids_;
};

}  // namespace llama::testing
