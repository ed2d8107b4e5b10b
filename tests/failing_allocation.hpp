// SPDX-License-Identifier: Apache-2.0
#pragma once

// What happens where memory runs out: the n-th allocation of an action fails, for every n. The functions of the C
// library that all others come down to, operator new's and Eigen's among them, are replaced for the whole program,
// which glibc allows and which the address sanitizer does not: one file of a program includes this, and skips there.
#include <gosset/core/parallel.hpp>

#include "testing.hpp"

#include <atomic>
#include <cerrno>
#include <cstddef>
#include <cstdlib>
#include <new>

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define GOSSET_CANNOT_FAIL_ALLOCATIONS
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer) || __has_feature(memory_sanitizer)
#define GOSSET_CANNOT_FAIL_ALLOCATIONS
#endif
#endif
#if !defined(__GLIBC__) && !defined(GOSSET_CANNOT_FAIL_ALLOCATIONS)
#define GOSSET_CANNOT_FAIL_ALLOCATIONS
#endif

namespace gosset::testing {

/// How many more allocations succeed before one fails; none does where it is negative.
inline std::atomic<long>& allocationsLeft() {
  static constinit std::atomic<long> left{-1};
  return left;
}

inline bool allocationFails() { return allocationsLeft() >= 0 && allocationsLeft().fetch_sub(1) == 0; }

#ifdef GOSSET_CANNOT_FAIL_ALLOCATIONS
inline constexpr bool kCanFailAllocations = false;
#else
inline constexpr bool kCanFailAllocations = true;
#endif

/// act(state) on a new state = setup() for every allocation that it makes, which fails. It is to throw std::bad_alloc,
/// or to do without the memory; check(state, done) then looks at what is left. `done` says whether act came to its end.
template <class Setup, class Act, class Check>
void failEachAllocation(const Setup& setup, const Act& act, const Check& check) {
  if (!kCanFailAllocations) GTEST_SKIP() << "allocations cannot be made to fail here";
  parallelFor(64, Index{1} << 40, [](Index) {});  // OpenMP's threads are there
  for (long n = 0;; ++n) {
    SCOPED_TRACE("allocation " + std::to_string(n));
    auto state = setup();
    bool done = false;
    allocationsLeft() = n;
    try {
      act(state);
      done = true;
    } catch (const std::bad_alloc&) {
    }
    const bool failed = allocationsLeft().exchange(-1) < 0;
    check(state, done);
    if (::testing::Test::HasFailure()) return;
    if (failed) continue;
    EXPECT_TRUE(done);
    EXPECT_GT(n, 0) << "nothing was allocated";
    return;
  }
}

}  // namespace gosset::testing

#ifndef GOSSET_CANNOT_FAIL_ALLOCATIONS
extern "C" {
void* __libc_malloc(std::size_t size);
void* __libc_memalign(std::size_t alignment, std::size_t size);

void* malloc(std::size_t size) { return gosset::testing::allocationFails() ? nullptr : __libc_malloc(size); }
void* aligned_alloc(std::size_t alignment, std::size_t size) {
  return gosset::testing::allocationFails() ? nullptr : __libc_memalign(alignment, size);
}
int posix_memalign(void** memory, std::size_t alignment, std::size_t size) {
  if (gosset::testing::allocationFails()) return ENOMEM;
  *memory = __libc_memalign(alignment, size);
  return *memory == nullptr ? ENOMEM : 0;
}
}
#endif
