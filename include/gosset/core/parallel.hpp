// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <gosset/core/types.hpp>

namespace gosset {

/// Calls body(i) for i in 0 .. count - 1, on as many threads as Eigen uses: OpenMP's where the program is compiled with
/// it, else one. The calls must be independent of each other and must not throw.
template <class Body>
void parallelFor(Index count, const Body& body) {
#ifdef _OPENMP
#pragma omp parallel for schedule(static) num_threads(Eigen::nbThreads()) if (count > 1)
#endif
  for (Index i = 0; i < count; ++i) body(i);
}

}  // namespace gosset
