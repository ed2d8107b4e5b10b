// SPDX-License-Identifier: Apache-2.0
#include "../../examples/llama/stream_plan.hpp"

#include "streamed.hpp"

#include <gosset/core/parallel.hpp>

#include <malloc.h>

namespace llama::testing::stream_plan_test {
namespace {

#if defined(__SANITIZE_ADDRESS__)
constexpr bool kSanitized = true;
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
constexpr bool kSanitized = true;
#else
constexpr bool kSanitized = false;
#endif
#else
constexpr bool kSanitized = false;
#endif

/// A line of /proc/self/status, in bytes.
double statusBytes(const std::string& name) {
  std::ifstream status("/proc/self/status");
  for (std::string line; std::getline(status, line);) {
    if (line.starts_with(name + ":")) return 1024 * std::stod(line.substr(name.size() + 1));
  }
  return 0;
}

/// By how many bytes the resident memory of another process grows at most while it works; what the program's own code
/// takes, which is read when it first runs, is there before.
template <class Rehearsal, class Work>
double growth(const fs::path& result, const Rehearsal& rehearsal, const Work& work) {
  const pid_t child = ::fork();
  if (child == 0) {
    Eigen::setNbThreads(1);  // those of the parent are not here
    const gosset::detail::SerialRegion alone;
    ::mallopt(M_MMAP_THRESHOLD, 1 << 16);  // what is given back is given back to the system
    rehearsal();
    ::malloc_trim(0);
    std::ofstream("/proc/self/clear_refs") << 5;  // the peak begins anew
    const double before = statusBytes("VmRSS");
    work();
    std::ofstream(result) << statusBytes("VmHWM") - before;
    ::_exit(0);
  }
  int status = 0;
  ::waitpid(child, &status, 0);
  EXPECT_EQ(status, 0);
  double bytes = 0;
  std::ifstream(result) >> bytes;
  return bytes;
}

class PlannedMemory : public ::testing::TestWithParam<const char*> {};

TEST_P(PlannedMemory, IsWhatARunTakes) {
  if (kSanitized) GTEST_SKIP() << "memory that a sanitizer takes, too, is not planned";
  const TemporaryFolder folder;
  const Config config = {
      .dim = 768, .hidden = 1024, .layers = 1, .heads = 8, .kvHeads = 8, .headDim = 96, .vocab = 64, .context = 256};
  Config little = config;
  little.dim = 64, little.hidden = 96, little.heads = little.kvHeads = 2, little.headDim = 32;
  saveHuggingFace<float>(folder / "model", randomModel(config, false));
  saveHuggingFace<float>(folder / "little", randomModel(little, false));
  const Streamed run{folder / "model", folder / "out", GetParam()};
  const Streamed rehearsal{folder / "little", folder / "out of it", GetParam()};
  LayerSource source(run.model);
  const ChosenFormats formats = chooseFormats(uniformRecipe(run.format, "int8", 1), config, true);
  const StreamPlan plan = planStream({run.model, run.out, run.out}, config, true, formats, someText(config));
  const double planned = plan.memory - kProgramBytes;
  const double taken = growth(
      folder / "taken", [&] { rehearsal.run(); }, [&] { run.run(); });
  EXPECT_LT(taken, 1.1 * planned);
  EXPECT_GT(taken, 0.6 * planned);
}

INSTANTIATE_TEST_SUITE_P(Formats, PlannedMemory,
                         ::testing::Values("int8", "gptq4-g32", "awq4-g32", "spqr4-g32", "gptq-Q4_0"));

TEST(SquaresBeside, AreThoseOfTheRounding) {
  const auto of = [](const char* format, bool shares) {
    return detail::squaresBeside(findFormat(format), 10, shares) / 100;
  };
  EXPECT_EQ(of("gptq4", false), 0);
  EXPECT_EQ(of("gptq4", true), 8);
  EXPECT_EQ(of("importance-Q4_0", true), 8);
  EXPECT_EQ(of("spqr4-g32", false), 8);
  EXPECT_EQ(of("spqr4-g32", true), 8);
  EXPECT_EQ(of("awq4-g32", false), 20);
  EXPECT_EQ(of("awq4-g32", true), 28);
  EXPECT_EQ(of("int8", true), 0);
}

}  // namespace
}  // namespace llama::testing::stream_plan_test
