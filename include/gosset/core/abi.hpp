// SPDX-License-Identifier: Apache-2.0
#pragma once

// The name that stands in the symbols of all that gosset compiles: what the compiler's flags say of the instruction
// set. gosset is headers alone, and of functions with one name a linker keeps one, whichever: were two files that are
// compiled with different flags to share names, either could run what was compiled for the other. So all of gosset
// stands in an inline namespace named after the flags:
//
//   g++                         gosset::x86
//   g++ -march=x86-64-v3        gosset::x86_v3
//   g++ -march=znver4           gosset::x86_v4_vnni_vbmi_gfni
//   aarch64-linux-gnu-g++       gosset::arm
//
// In source it is invisible: gosset::quantize is found through it, and templates are specialized as ever. A program of
// such files links and each keeps its own; to hand a type of gosset's from one to the other is an error of the linker,
// for their layouts may differ as those of Eigen's types do. Eigen and the standard library have no such names.

// How far the levels of x86-64 go that the flags promise, and what they promise of the next one.
#if defined(__AVX512F__) && defined(__AVX512BW__) && defined(__AVX512CD__) && defined(__AVX512DQ__) && \
    defined(__AVX512VL__) && defined(__AVX2__) && defined(__FMA__) && defined(__F16C__) && defined(__BMI2__)
#define GOSSET_ABI_LEVEL x86_v4
#elif defined(__AVX2__) && defined(__FMA__) && defined(__F16C__) && defined(__BMI2__)
#ifdef __AVX512F__
#define GOSSET_ABI_LEVEL x86_v3_avx512
#else
#define GOSSET_ABI_LEVEL x86_v3
#endif
#elif defined(__AVX2__)
#ifdef __FMA__
#define GOSSET_ABI_LEVEL x86_avx2_fma
#else
#define GOSSET_ABI_LEVEL x86_avx2
#endif
#elif defined(__AVX__)
#define GOSSET_ABI_LEVEL x86_avx
#elif defined(__SSE4_2__)
#define GOSSET_ABI_LEVEL x86_v2
#elif defined(__SSSE3__)
#define GOSSET_ABI_LEVEL x86_ssse3
#elif defined(__SSE2__)
#define GOSSET_ABI_LEVEL x86
#elif defined(__ARM_FEATURE_MATMUL_INT8)
#define GOSSET_ABI_LEVEL arm_i8mm
#elif defined(__ARM_FEATURE_DOTPROD)
#define GOSSET_ABI_LEVEL arm_dotprod
#elif defined(__aarch64__)
#define GOSSET_ABI_LEVEL arm
#else
#define GOSSET_ABI_LEVEL other
#endif

#ifdef __AVX512VNNI__
#define GOSSET_ABI_VNNI _vnni
#else
#define GOSSET_ABI_VNNI
#endif
#ifdef __AVXVNNI__
#define GOSSET_ABI_AVXVNNI _avxvnni
#else
#define GOSSET_ABI_AVXVNNI
#endif
#ifdef __AVX512VBMI__
#define GOSSET_ABI_VBMI _vbmi
#else
#define GOSSET_ABI_VBMI
#endif
#ifdef __GFNI__
#define GOSSET_ABI_GFNI _gfni
#else
#define GOSSET_ABI_GFNI
#endif

#define GOSSET_ABI_JOINED(level, avxvnni, vnni, vbmi, gfni) level##avxvnni##vnni##vbmi##gfni
#define GOSSET_ABI_JOIN(level, avxvnni, vnni, vbmi, gfni) GOSSET_ABI_JOINED(level, avxvnni, vnni, vbmi, gfni)

/// Stands in every definition of a namespace: namespace gosset::GOSSET_ABI::detail { .. }
#define GOSSET_ABI inline GOSSET_ABI_NAME
#define GOSSET_ABI_NAME \
  GOSSET_ABI_JOIN(GOSSET_ABI_LEVEL, GOSSET_ABI_AVXVNNI, GOSSET_ABI_VNNI, GOSSET_ABI_VBMI, GOSSET_ABI_GFNI)
