// SPDX-License-Identifier: Apache-2.0
#pragma once

// What a program takes from operator new, which is replaced for the whole of it: one file of a program includes this.
#include <atomic>
#include <cstddef>
#include <cstdlib>
#include <new>

namespace gosset::testing {

/// Of every operator new since it was last set anew: how many, and of how many bytes.
struct Allocations {
  std::atomic<long> count = 0;
  std::atomic<std::size_t> largest = 0, total = 0;

  void reset() { count = 0, largest = 0, total = 0; }
};

inline Allocations& allocations() {
  static constinit Allocations all;
  return all;
}

inline void* countedAllocation(std::size_t size, std::size_t alignment) {
  Allocations& all = allocations();
  ++all.count;
  all.total += size;
  if (size > all.largest) all.largest = size;
  void* memory = std::aligned_alloc(alignment, (size + alignment) / alignment * alignment);
  if (memory == nullptr) throw std::bad_alloc();
  return memory;
}

}  // namespace gosset::testing

// Not inlined, or GCC takes them for a mixture of new and free.
[[gnu::noinline]] void* operator new(std::size_t size) {
  return gosset::testing::countedAllocation(size, alignof(std::max_align_t));
}
[[gnu::noinline]] void* operator new[](std::size_t size) {
  return gosset::testing::countedAllocation(size, alignof(std::max_align_t));
}
[[gnu::noinline]] void* operator new(std::size_t size, std::align_val_t a) {
  return gosset::testing::countedAllocation(size, static_cast<std::size_t>(a));
}
[[gnu::noinline]] void* operator new[](std::size_t size, std::align_val_t a) {
  return gosset::testing::countedAllocation(size, static_cast<std::size_t>(a));
}
[[gnu::noinline]] void* operator new[](std::size_t size, std::align_val_t a, const std::nothrow_t&) noexcept {
  try {
    return gosset::testing::countedAllocation(size, static_cast<std::size_t>(a));
  } catch (const std::bad_alloc&) {
    return nullptr;
  }
}
[[gnu::noinline]] void operator delete(void* p) noexcept { std::free(p); }
[[gnu::noinline]] void operator delete[](void* p) noexcept { std::free(p); }
[[gnu::noinline]] void operator delete(void* p, std::size_t) noexcept { std::free(p); }
[[gnu::noinline]] void operator delete[](void* p, std::size_t) noexcept { std::free(p); }
[[gnu::noinline]] void operator delete(void* p, std::align_val_t) noexcept { std::free(p); }
[[gnu::noinline]] void operator delete[](void* p, std::align_val_t) noexcept { std::free(p); }
[[gnu::noinline]] void operator delete(void* p, std::size_t, std::align_val_t) noexcept { std::free(p); }
[[gnu::noinline]] void operator delete[](void* p, std::size_t, std::align_val_t) noexcept { std::free(p); }
