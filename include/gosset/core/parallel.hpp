// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <gosset/core/types.hpp>

namespace gosset {

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

}  // namespace detail

/// Calls body(i) for i in 0 .. count - 1, on as many threads as Eigen uses: OpenMP's where the program is compiled with
/// it, else one. `work` is about how many multiply-adds a call takes; where all calls together are too few to be worth
/// waking threads, the caller makes them itself. The calls must be independent of each other and must not throw. Even a
/// single large call runs inside the parallel region: Eigen's products see that and start no threads of their own, with
/// whose number the order of their sums would change. Small ones stay below what Eigen would share out.
template <class Body>
void parallelFor(Index count, Index work, const Body& body) {
#ifdef _OPENMP
  constexpr Index kWorthThreads = Index{1} << 16;
  if (count > 0 && work > kWorthThreads / count && !detail::SerialRegion::isActive()) {
#pragma omp parallel for schedule(static) num_threads(Eigen::nbThreads())
    for (Index i = 0; i < count; ++i) body(i);
    return;
  }
#endif
  (void)work;
  for (Index i = 0; i < count; ++i) body(i);
}

}  // namespace gosset
