// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <gosset/core/abi.hpp>

#include <type_traits>
#include <utility>

namespace gosset::GOSSET_ABI::detail {

/// A number, a container or a smart pointer that a move leaves empty, T() or kEmpty, and that keeps what it has when it
/// is moved to itself. A class whose members are such needs no move operations of its own: what was moved from is an
/// empty one, which can be asked for its size, copied, compared and written to.
template <class T, int kEmpty = 0>
class EmptyAfterMove : public T {
 public:
  using T::T;
  EmptyAfterMove() = default;
  EmptyAfterMove(T value) noexcept : T(std::move(value)) {}
  EmptyAfterMove(const EmptyAfterMove&) = default;
  EmptyAfterMove(EmptyAfterMove&& other) noexcept : T(other.taken()) {}
  EmptyAfterMove& operator=(const EmptyAfterMove&) = default;
  EmptyAfterMove& operator=(EmptyAfterMove&& other) noexcept {
    T::operator=(other.taken());
    return *this;
  }
  ~EmptyAfterMove() = default;

 private:
  T taken() noexcept {
    T value(static_cast<T&&>(*this));
    if constexpr (std::is_nothrow_default_constructible_v<T>) T::operator=(T());
    return value;
  }
};

template <class T, int kEmpty>
requires std::is_arithmetic_v<T>
class EmptyAfterMove<T, kEmpty> {
 public:
  EmptyAfterMove() = default;
  EmptyAfterMove(T value) noexcept : value_(value) {}
  EmptyAfterMove(const EmptyAfterMove&) = default;
  EmptyAfterMove(EmptyAfterMove&& other) noexcept : value_(std::exchange(other.value_, T{kEmpty})) {}
  EmptyAfterMove& operator=(const EmptyAfterMove&) = default;
  EmptyAfterMove& operator=(EmptyAfterMove&& other) noexcept {
    value_ = std::exchange(other.value_, T{kEmpty});
    return *this;
  }
  ~EmptyAfterMove() = default;

  operator T() const { return value_; }
  T& get() { return value_; }
  const T& get() const { return value_; }

 private:
  T value_ = T{kEmpty};
};

}  // namespace gosset::GOSSET_ABI::detail
