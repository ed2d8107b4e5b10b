// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <gosset/core/types.hpp>

#include <cstddef>
#include <span>
#include <vector>

namespace llama {

using gosset::Index;

/// The processes that quantize one model together. All of them take the same steps in the same order.
class Peers {
 public:
  virtual ~Peers() = default;
  virtual Index count() const = 0;
  virtual Index rank() const = 0;
  /// Waits until all are here.
  virtual void wait() const = 0;
  /// What each has, all.size() bytes in total, of which those from ends[rank - 1] (or 0) to ends[rank] are a process's
  /// own, to all of them.
  virtual void share(std::span<std::byte> all, const std::vector<std::size_t>& ends) const = 0;

  bool first() const { return rank() == 0; }
};

/// One process alone.
class Alone final : public Peers {
 public:
  Index count() const override { return 1; }
  Index rank() const override { return 0; }
  void wait() const override {}
  void share(std::span<std::byte>, const std::vector<std::size_t>&) const override {}
};

}  // namespace llama
