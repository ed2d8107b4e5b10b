// SPDX-License-Identifier: Apache-2.0
// Vectors and their operations, in a namespace for each instruction set (instruction_set.hpp).
#ifdef GOSSET_SET

#include <gosset/core/simd.hpp>
//
#include <gosset/core/dot.hpp>
#include <gosset/core/lookup.hpp>
#include <gosset/core/ordered_tile.hpp>
#include <gosset/core/shorts.hpp>
#include <gosset/core/shuffle.hpp>
#include <gosset/core/transpose_tile.hpp>

#elif !defined(GOSSET_CORE_VECTORS)
#define GOSSET_CORE_VECTORS

#include <gosset/core/instruction_set.hpp>
#include <gosset/core/parallel.hpp>
#include <gosset/core/strided.hpp>
#include <gosset/core/types.hpp>

#if defined(__AVX__) || defined(__F16C__) || GOSSET_COMPILES_AVX512_VBMI
#if defined(__GNUC__) && !defined(__clang__)  // up to 12 it warns of what its own intrinsics do (GCC bug 105593)
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wuninitialized"
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#include <immintrin.h>
#pragma GCC diagnostic pop
#else
#include <immintrin.h>
#endif
#elif defined(__SSSE3__)
#include <tmmintrin.h>  // the whole takes compilers a quarter of a second
#elif defined(__SSE2__)
#include <emmintrin.h>
#elif defined(__aarch64__)
#include <arm_neon.h>
#endif

#define GOSSET_FRAGMENTS <gosset/core/vectors.hpp>
#include <gosset/core/for_each_set.inc>
#undef GOSSET_FRAGMENTS

namespace gosset::GOSSET_ABI::detail {

/// What the set that runs can do.
inline Abilities runningAbilities() { GOSSET_CALL_RUNNING(abilities()) }

}  // namespace gosset::GOSSET_ABI::detail

#endif
