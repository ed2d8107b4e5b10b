// SPDX-License-Identifier: Apache-2.0
#include "../../examples/llama/shared_rows.hpp"

#include "../../examples/llama/formats.hpp"

#include "meeting.hpp"
#include "reference.hpp"

#include <algorithm>

namespace llama::testing::shared_rows_test {
namespace {

class SharedRowsTest : public ::testing::TestWithParam<const char*> {};

TEST_P(SharedRowsTest, AnyNumberOfProcessesComesToTheSameBits) {
  const FormatEntry& format = findFormat(GetParam());
  for (const auto& [rows, cols] : {std::pair<Index, Index>(417, 65), {256, 64}, {172, 63}, {700, 40}}) {
    const LinearInfo info{"w", rows, cols};
    const RowMatrixXf w = gosset::testing::gaussian(rows, cols, 3);
    Calibration calibration;
    calibration.try_emplace("w", cols).first->second.add(gosset::testing::gaussian(90, cols, 4));
    const gosset::AnyMatrix alone = packLayer(info, w, format, 1, 0, calibration);
    for (const Index count : {1, 2, 3, 4, 9}) {
      Meeting meeting(count);
      const auto together =
          meeting.each([&](const Peers& peers) { return packLayer(info, w, format, 1, 0, calibration, &peers); });
      for (const gosset::AnyMatrix& one : together) EXPECT_EQ(one, alone) << rows << " x " << cols << " by " << count;
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Formats, SharedRowsTest,
                         ::testing::Values("gptq3-g32", "gptq2", "spqr2-g32", "ldlq-ternary", "quip#2", "quip#3",
                                           "trellis#2", "trellis-mixed#2.5"),
                         [](const auto& format) {
                           std::string name = format.param;
                           std::erase_if(name, [](char c) { return !std::isalnum(static_cast<unsigned char>(c)); });
                           return name;
                         });

}  // namespace
}  // namespace llama::testing::shared_rows_test
