// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <gosset/core/aligned.hpp>
#include <gosset/core/empty_after_move.hpp>

#include <algorithm>
#include <cstddef>
#include <memory>
#include <span>
#include <utility>

namespace gosset::GOSSET_ABI {

namespace detail {

/// While one lives, arrays that this thread makes get no memory before they are written to: for those that are about to
/// be shown a file's.
class DeferredArrays {
 public:
  DeferredArrays() { ++depth(); }
  ~DeferredArrays() { --depth(); }
  DeferredArrays(const DeferredArrays&) = delete;
  DeferredArrays& operator=(const DeferredArrays&) = delete;

  static bool areMade() { return depth() > 0; }

 private:
  static int& depth() {
    thread_local int lives = 0;
    return lives;
  }
};

}  // namespace detail

/// One array of a packed matrix: memory of its own that starts where a cache line does, or a view of somebody else's,
/// such as a mapped file, that is never written to. A copy of an array that owns its memory is independent; copies of a
/// view look at the same memory and keep it alive together.
template <class T>
class StoredArray {
 public:
  StoredArray() = default;
  /// `size` zeros of its own.
  explicit StoredArray(std::size_t size) {
    if (detail::DeferredArrays::areMade()) {
      deferred_ = size;
    } else {
      own_.resize(size);
    }
  }

  std::size_t size() const { return owns() ? own_.size() + deferred_ : view_.size(); }
  bool empty() const { return size() == 0; }
  const T* data() const { return owns() ? own_.data() : view_.data(); }
  const T& operator[](std::size_t i) const { return data()[i]; }
  const T* begin() const { return data(); }
  const T* end() const { return data() + size(); }
  std::span<const T> values() const { return {data(), size()}; }

  /// Whether the memory is its own.
  bool owns() const { return view_.data() == nullptr; }

  /// The numbers, to be written; a view becomes a copy of its own first.
  std::span<T> writable() {
    if (deferred_ > 0) {
      own_.resize(deferred_);
      deferred_ = 0;
    }
    if (!owns()) {
      own_.assign(view_.begin(), view_.end());
      view_ = std::span<const T>();
      keeper_.reset();
    }
    return {own_.data(), own_.size()};
  }

  /// From now on it shows `values`, which `keeper` keeps alive, and has no memory of its own.
  void show(std::span<const T> values, std::shared_ptr<const void> keeper) {
    own_ = detail::AlignedVector<T>();
    deferred_ = 0;
    view_ = values;
    keeper_ = std::move(keeper);
  }

 private:
  detail::EmptyAfterMove<detail::AlignedVector<T>> own_;
  detail::EmptyAfterMove<std::size_t> deferred_;     ///< numbers that wait for memory
  detail::EmptyAfterMove<std::span<const T>> view_;  ///< null where the memory is its own
  std::shared_ptr<const void> keeper_;
};

}  // namespace gosset::GOSSET_ABI
