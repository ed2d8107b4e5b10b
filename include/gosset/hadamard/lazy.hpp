// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <gosset/core/types.hpp>
#include <gosset/hadamard/transform.hpp>

#include <memory>
#include <mutex>
#include <optional>

namespace gosset::GOSSET_ABI {

/// A HadamardTransform that is built when it is first asked for, by whatever thread: some lengths take memory that
/// grows with their square, which a file that names a length must not be able to ask for. Copies share it.
template <class Scalar>
class LazyHadamard {
 public:
  /// n: the length, at least 1.
  explicit LazyHadamard(Index n) : size_(n), built_(std::make_shared<Built>()) {}
  // No moves, which would leave one that cannot build anything.
  LazyHadamard(const LazyHadamard&) = default;
  LazyHadamard& operator=(const LazyHadamard&) = default;

  Index size() const { return size_; }

  const HadamardTransform<Scalar>& operator*() const {
    std::call_once(built_->once, [this] { built_->transform.emplace(size_); });
    return *built_->transform;
  }
  const HadamardTransform<Scalar>* operator->() const { return &**this; }

 private:
  struct Built {
    std::once_flag once;
    std::optional<HadamardTransform<Scalar>> transform;
  };

  Index size_;
  std::shared_ptr<Built> built_;
};

}  // namespace gosset::GOSSET_ABI
