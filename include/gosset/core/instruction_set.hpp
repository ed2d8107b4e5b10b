// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <gosset/core/abi.hpp>
#include <gosset/core/error.hpp>

#include <atomic>
#include <cstdlib>
#include <string>
#include <string_view>
#include <vector>

#if defined(__x86_64__) && defined(__GNUC__)
#include <cpuid.h>
#endif
#if defined(__aarch64__) && defined(__linux__)
#include <sys/auxv.h>
#endif

// Which instruction sets kernels are compiled for, and which of them runs. A file that is compiled without flags has
// its kernels several times: for what the flags promise, and for better sets, by attributes of functions; the first
// product asks the machine. Flags that promise a set leave those that are better.
//
//   by_flags      what the compiler's flags promise
//   avx2          AVX2, FMA, F16C
//   avx2_vnni     and AVX-VNNI, a dot product of bytes                                     GOSSET_DISPATCH 2 alone
//   avx512        AVX-512 F, VL, BW, DQ, as AVX2 with registers twice as wide              GOSSET_DISPATCH 2 alone
//   avx512_vbmi   and VNNI, VBMI, GFNI: dot products of bytes, look-ups of 256 bytes       Zen 4, Ice Lake and later
//
//   dotprod       64-bit Arm: dot products of bytes                                        GCC on Linux; with others
//   i8mm          and of bytes of which one has no sign                                    what the flags promise
//
// The macro GOSSET_DISPATCH, the same in all files of a program, says how many: 0 by_flags alone, which compiles
// soonest; 1, the default, the others above; 2 all. How it is done: kernels stand in headers that begin with
//
//   #ifndef GOSSET_SET
//   #include <gosset/kernel/kernels.hpp>
//   #else
//
// and kernels.hpp includes each once for every set (for_each_set.inc), with GOSSET_SET the set's name, which is the
// namespace that it stands in, GOSSET_AVX2 and the like defined, and the functions' attributes set. In the functions
// that choose, GOSSET_CALL_RUNNING calls the running set's.

#ifndef GOSSET_DISPATCH
#define GOSSET_DISPATCH 1
#endif
#if defined(__x86_64__) && defined(__SSE2__) && GOSSET_DISPATCH >= 1
#if !(defined(__AVX2__) && defined(__FMA__) && defined(__F16C__))
#define GOSSET_COMPILES_AVX2 1
#endif
#if !defined(__AVX512BW__) && !defined(__AVXVNNI__) && GOSSET_DISPATCH >= 2
#define GOSSET_COMPILES_AVX2_VNNI 1
#endif
#if !defined(__AVX512BW__) && GOSSET_DISPATCH >= 2
#define GOSSET_COMPILES_AVX512 1
#endif
#if !(defined(__AVX512BW__) && defined(__AVX512VNNI__) && defined(__AVX512VBMI__) && defined(__GFNI__))
#define GOSSET_COMPILES_AVX512_VBMI 1
#endif
#endif

#if defined(__aarch64__) && defined(__linux__) && defined(__GNUC__) && !defined(__clang__) && GOSSET_DISPATCH >= 1
#if !defined(__ARM_FEATURE_DOTPROD)
#define GOSSET_COMPILES_DOTPROD 1
#endif
#if !defined(__ARM_FEATURE_MATMUL_INT8)
#define GOSSET_COMPILES_I8MM 1
#endif
#endif

#if GOSSET_COMPILES_AVX2
#define GOSSET_IF_AVX2(...) __VA_ARGS__
#else
#define GOSSET_IF_AVX2(...)
#endif
#if GOSSET_COMPILES_AVX2_VNNI
#define GOSSET_IF_AVX2_VNNI(...) __VA_ARGS__
#else
#define GOSSET_IF_AVX2_VNNI(...)
#endif
#if GOSSET_COMPILES_AVX512
#define GOSSET_IF_AVX512(...) __VA_ARGS__
#else
#define GOSSET_IF_AVX512(...)
#endif
#if GOSSET_COMPILES_AVX512_VBMI
#define GOSSET_IF_AVX512_VBMI(...) __VA_ARGS__
#else
#define GOSSET_IF_AVX512_VBMI(...)
#endif
#if GOSSET_COMPILES_DOTPROD
#define GOSSET_IF_DOTPROD(...) __VA_ARGS__
#else
#define GOSSET_IF_DOTPROD(...)
#endif
#if GOSSET_COMPILES_I8MM
#define GOSSET_IF_I8MM(...) __VA_ARGS__
#else
#define GOSSET_IF_I8MM(...)
#endif

/// return <namespace of the running set>::detail::<call>;
#define GOSSET_CALL_RUNNING(...)                                                                                  \
  switch (::gosset::detail::runningSet()) {                                                                       \
    GOSSET_IF_AVX2(case ::gosset::detail::Set::kAvx2 : return ::gosset::avx2::detail::__VA_ARGS__;)               \
    GOSSET_IF_AVX2_VNNI(case ::gosset::detail::Set::kAvx2Vnni : return ::gosset::avx2_vnni::detail::__VA_ARGS__;) \
    GOSSET_IF_AVX512(case ::gosset::detail::Set::kAvx512 : return ::gosset::avx512::detail::__VA_ARGS__;)         \
    GOSSET_IF_AVX512_VBMI(case ::gosset::detail::Set::kAvx512Vbmi                                                 \
                          : return ::gosset::avx512_vbmi::detail::__VA_ARGS__;)                                   \
    GOSSET_IF_DOTPROD(case ::gosset::detail::Set::kDotprod : return ::gosset::dotprod::detail::__VA_ARGS__;)      \
    GOSSET_IF_I8MM(case ::gosset::detail::Set::kI8mm : return ::gosset::i8mm::detail::__VA_ARGS__;)               \
    default:                                                                                                      \
      return ::gosset::by_flags::detail::__VA_ARGS__;                                                             \
  }

// What a set's namespace sees: gosset's own, and vectors of its own. Outside of them stands what the flags promise.
#define GOSSET_DECLARE_SET(set)       \
  namespace gosset::GOSSET_ABI::set { \
  namespace simd {}                   \
  namespace detail {                  \
  using namespace ::gosset::detail;   \
  }                                   \
  }
namespace gosset::GOSSET_ABI::detail {}
GOSSET_DECLARE_SET(by_flags)
GOSSET_IF_AVX2(GOSSET_DECLARE_SET(avx2))
GOSSET_IF_AVX2_VNNI(GOSSET_DECLARE_SET(avx2_vnni))
GOSSET_IF_AVX512(GOSSET_DECLARE_SET(avx512))
GOSSET_IF_AVX512_VBMI(GOSSET_DECLARE_SET(avx512_vbmi))
GOSSET_IF_DOTPROD(GOSSET_DECLARE_SET(dotprod))
GOSSET_IF_I8MM(GOSSET_DECLARE_SET(i8mm))
#undef GOSSET_DECLARE_SET

namespace gosset::GOSSET_ABI {

namespace simd = by_flags::simd;

namespace detail {

using namespace by_flags::detail;

/// From the least to the best.
enum class Set { kByFlags, kAvx2, kAvx2Vnni, kAvx512, kAvx512Vbmi, kDotprod, kI8mm };

/// A set that is compiled.
struct NamedSet {
  Set set;
  std::string_view name;
};
// clang-format off
inline constexpr NamedSet kCompiledSets[] = {
    {Set::kByFlags, "by_flags"},
    GOSSET_IF_AVX2({Set::kAvx2, "avx2"}, )
    GOSSET_IF_AVX2_VNNI({Set::kAvx2Vnni, "avx2_vnni"}, )
    GOSSET_IF_AVX512({Set::kAvx512, "avx512"}, )
    GOSSET_IF_AVX512_VBMI({Set::kAvx512Vbmi, "avx512_vbmi"}, )
    GOSSET_IF_DOTPROD({Set::kDotprod, "dotprod"}, )
    GOSSET_IF_I8MM({Set::kI8mm, "i8mm"}, )};
// clang-format on

/// simd::kHasFma and simd::kHasDot of a set.
struct Abilities {
  bool has_fma, has_dot;
};

/// Whether this machine has a set.
inline bool isThere([[maybe_unused]] Set set) {
#if defined(__x86_64__) && defined(__GNUC__)
  unsigned a = 0, b = 0, c = 0, d = 0;
  const bool has_f16c = __get_cpuid(1, &a, &b, &c, &d) != 0 && (c >> 29 & 1) != 0;
  const bool has_vnni = __get_cpuid_count(7, 1, &a, &b, &c, &d) != 0 && (a >> 4 & 1) != 0;
  const bool has_avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && has_f16c;
  const bool has_avx512 = has_avx2 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512vl") &&
                          __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512dq");
  switch (set) {
    case Set::kByFlags:
      return true;
    case Set::kAvx2:
      return has_avx2;
    case Set::kAvx2Vnni:
      return has_avx2 && has_vnni;
    case Set::kAvx512:
      return has_avx512;
    case Set::kAvx512Vbmi:
      return has_avx512 && __builtin_cpu_supports("avx512vnni") && __builtin_cpu_supports("avx512vbmi") &&
             __builtin_cpu_supports("gfni");
    default:
      return false;
  }
#elif defined(__aarch64__) && defined(__linux__)
  constexpr unsigned long kDotProducts = 1ul << 20, kMatrixProducts = 1ul << 13;  // HWCAP_ASIMDDP, HWCAP2_I8MM
  const bool has_dotprod = (getauxval(AT_HWCAP) & kDotProducts) != 0;
  if (set == Set::kDotprod) return has_dotprod;
  if (set == Set::kI8mm) return has_dotprod && (getauxval(AT_HWCAP2) & kMatrixProducts) != 0;
#endif
  return true;
}

}  // namespace detail

/// The instruction sets that kernels are compiled for and that this machine has, from the least to the best.
inline std::vector<std::string> instructionSets() {
  std::vector<std::string> names;
  for (const detail::NamedSet& named : detail::kCompiledSets) {
    if (detail::isThere(named.set)) names.emplace_back(named.name);
  }
  return names;
}

namespace detail {

/// The set of this name. Errors: std::invalid_argument where there is none, naming those that there are.
inline Set setOf(std::string_view name, std::string_view argument) {
  for (const NamedSet& named : kCompiledSets) {
    if (named.name == name && isThere(named.set)) return named.set;
  }
  std::string all;
  for (const std::string& available : instructionSets()) all += (all.empty() ? "" : ", ") + available;
  invalidArgument(argument, ": expected an instruction set that is compiled and that this machine has, of ", all,
                  ", got \"", name, "\"");
}

/// The best; or what the environment's GOSSET_SET asks for.
inline Set firstSet() {
  if (const char* name = std::getenv("GOSSET_SET"); name != nullptr && *name != '\0') {
    return setOf(name, "the environment's GOSSET_SET");
  }
  return setOf(instructionSets().back(), "instructionSets");
}

inline std::atomic<Set>& runningSetSlot() {
  static std::atomic<Set> slot(firstSet());
  return slot;
}

inline Set runningSet() { return runningSetSlot().load(std::memory_order_relaxed); }

}  // namespace detail

/// The one that runs: the best, but for the environment variable GOSSET_SET and useInstructionSet(). Errors:
/// std::invalid_argument where GOSSET_SET names none of instructionSets(); every function that comes to a kernel throws
/// it then.
inline std::string instructionSet() {
  const detail::Set running = detail::runningSet();
  for (const detail::NamedSet& named : detail::kCompiledSets) {
    if (named.set == running) return std::string(named.name);
  }
  return {};
}

/// Has another of instructionSets() run from now on, for tests and to tell where an error comes from; results are the
/// same on all, as far as include/gosset/README.md says. Errors: std::invalid_argument where there is none of the name.
inline void useInstructionSet(std::string_view name) {
  detail::runningSetSlot().store(detail::setOf(name, "useInstructionSet"), std::memory_order_relaxed);
}

}  // namespace gosset::GOSSET_ABI
