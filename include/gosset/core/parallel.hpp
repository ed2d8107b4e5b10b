// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <gosset/core/types.hpp>

#ifdef _OPENMP
#include <omp.h>

#include <exception>
#include <limits>
#include <mutex>
#endif

namespace gosset::GOSSET_ABI {

namespace detail {

/// While one lives, what this thread hands to parallelFor() is done by this thread alone: for callers that share work
/// out among threads of their own.
class SerialRegion {
 public:
  SerialRegion() { ++depth(); }
  ~SerialRegion() { --depth(); }
  SerialRegion(const SerialRegion&) = delete;
  SerialRegion& operator=(const SerialRegion&) = delete;

  static bool isActive() { return depth() > 0; }

 private:
  static int& depth() {
    thread_local int regions = 0;
    return regions;
  }
};

#ifdef _OPENMP
/// Of the exceptions that calls in several threads throw, that of the lowest index: the one that a loop in one thread
/// would meet.
class FirstException {
 public:
  /// Keeps the exception that is being handled.
  void keep(Index i) noexcept {
    const std::lock_guard lock(mutex_);
    if (i >= index_) return;
    index_ = i;
    exception_ = std::current_exception();
  }

  void rethrow() const {
    if (exception_) std::rethrow_exception(exception_);
  }

 private:
  std::mutex mutex_;
  Index index_ = std::numeric_limits<Index>::max();
  std::exception_ptr exception_;
};
#endif

}  // namespace detail

/// Calls body(i) for i in 0 .. count - 1, on as many threads as Eigen uses: OpenMP's where the program is compiled with
/// it, else one. `work` is about how many multiply-adds a call takes; where all calls together are too few to be worth
/// waking threads, or this is called within a parallel region, the caller makes them itself. The calls must be
/// independent of each other. Where some throw, the exception of the lowest i comes out of parallelFor(), whatever the
/// number of threads; calls of higher i may have been made or not. (OpenMP itself ends the process where it finds no
/// memory for its threads.)
template <class Body>
void parallelFor(Index count, Index work, const Body& body) {
#ifdef _OPENMP
  constexpr Index kWorthThreads = Index{1} << 16;
  if (count > 0 && work > kWorthThreads / count && !detail::SerialRegion::isActive() && omp_in_parallel() == 0) {
    detail::FirstException first;
#pragma omp parallel num_threads(Eigen::nbThreads())
    {
      const Index thread = omp_get_thread_num(), threads = omp_get_num_threads(), end = count * (thread + 1) / threads;
      Index i = count * thread / threads;
      try {
        for (; i < end; ++i) body(i);
      } catch (...) {
        first.keep(i);
      }
    }
    return first.rethrow();
  }
#endif
  (void)work;
  for (Index i = 0; i < count; ++i) body(i);
}

}  // namespace gosset::GOSSET_ABI
