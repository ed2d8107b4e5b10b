// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "../../examples/llama/peers.hpp"

#include <gosset/core/parallel.hpp>

#include <algorithm>
#include <barrier>
#include <thread>
#include <utility>
#include <vector>

namespace llama::testing {

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
  auto each(Action&& action) {
    std::vector<decltype(action(std::declval<const Member&>()))> results(static_cast<std::size_t>(count_));
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

}  // namespace llama::testing
