// SPDX-License-Identifier: Apache-2.0
#pragma once

// The room that all others stand on: shape letters and Eigen concepts, errors, 16-bit floats, counter-based random
// numbers, threads, vector types and dot products. It alone knows an instruction set. What may not enter: anything that
// knows what a code or a scale is.
#include <gosset/core/activations.hpp>
#include <gosset/core/aligned.hpp>
#include <gosset/core/bits.hpp>
#include <gosset/core/dot.hpp>
#include <gosset/core/empty_after_move.hpp>
#include <gosset/core/error.hpp>
#include <gosset/core/exact_sum.hpp>
#include <gosset/core/finite.hpp>
#include <gosset/core/float_rows.hpp>
#include <gosset/core/float_storage.hpp>
#include <gosset/core/late.hpp>
#include <gosset/core/lookup.hpp>
#include <gosset/core/ordered_product.hpp>
#include <gosset/core/parallel.hpp>
#include <gosset/core/random.hpp>
#include <gosset/core/round.hpp>
#include <gosset/core/shorts.hpp>
#include <gosset/core/shuffle.hpp>
#include <gosset/core/simd.hpp>
#include <gosset/core/transpose.hpp>
#include <gosset/core/types.hpp>
