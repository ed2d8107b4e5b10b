// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <memory>
#include <utility>
#include <vector>

namespace gosset::GOSSET_ABI::detail {

/// A block of tokens, one packed matrix a head, that copies of a cache share: it is never written to once it is packed,
/// and who would write to it, as a reader of files does, gets a copy of its own if another has it, too.
template <class Packed>
class SharedHeads {
 public:
  using Heads = std::vector<Packed>;

  explicit SharedHeads(Heads heads) : heads_(std::make_shared<Heads>(std::move(heads))) {}

  const Heads& operator*() const { return *heads_; }
  Heads& own() {
    if (isShared()) heads_ = std::make_shared<Heads>(*heads_);
    return *heads_;
  }
  bool isShared() const { return heads_.use_count() > 1; }
  /// The same for all who share it.
  const void* identity() const { return heads_.get(); }

 private:
  std::shared_ptr<Heads> heads_;
};

}  // namespace gosset::GOSSET_ABI::detail
