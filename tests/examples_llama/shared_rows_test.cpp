// SPDX-License-Identifier: Apache-2.0
#include "../../examples/llama/shared_rows.hpp"

#include "../../examples/llama/formats.hpp"

#include "reference.hpp"

#include <algorithm>
#include <barrier>
#include <thread>

namespace llama::testing::shared_rows_test {
namespace {

/// Threads that act as processes: what each shares goes by way of one array.
class Meeting {
 public:
  explicit Meeting(Index count) : count_(count), barrier_(count) {}

  class Member final : public Peers {
   public:
    Member(Meeting& meeting, Index rank) : meeting_(meeting), rank_(rank) {}
    Index count() const override { return meeting_.count_; }
    Index rank() const override { return rank_; }
    void wait() const override { meeting_.barrier_.arrive_and_wait(); }
    void share(std::span<std::byte> all, const std::vector<std::size_t>& ends) const override {
      if (rank_ == 0) meeting_.bytes_.resize(all.size());
      wait();
      const std::size_t begin = rank_ == 0 ? 0 : ends[static_cast<std::size_t>(rank_ - 1)];
      const std::size_t end = ends[static_cast<std::size_t>(rank_)];
      std::copy(all.data() + begin, all.data() + end, meeting_.bytes_.data() + begin);
      wait();
      std::copy(meeting_.bytes_.begin(), meeting_.bytes_.end(), all.data());
      wait();
    }

   private:
    Meeting& meeting_;
    Index rank_;
  };

  /// What action(member) gives each of them.
  template <class Action>
  std::vector<gosset::AnyMatrix> each(Action&& action) {
    std::vector<gosset::AnyMatrix> results(static_cast<std::size_t>(count_));
    std::vector<std::thread> threads;
    for (Index rank = 0; rank < count_; ++rank) {
      threads.emplace_back([&, rank] {
        const gosset::detail::SerialRegion alone;
        results[static_cast<std::size_t>(rank)] = action(Member(*this, rank));
      });
    }
    for (std::thread& thread : threads) thread.join();
    return results;
  }

 private:
  Index count_;
  std::barrier<> barrier_;
  std::vector<std::byte> bytes_;
};

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
