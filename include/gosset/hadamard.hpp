// SPDX-License-Identifier: Apache-2.0
#pragma once

// The room of the fast Walsh-Hadamard transform of any length and of random signs: it knows numbers and nothing of
// quantization, and is usable alone. What may not enter: matrices of weights, codes, scales.
#include <gosset/hadamard/lazy.hpp>
#include <gosset/hadamard/matrix.hpp>
#include <gosset/hadamard/random_signs.hpp>
#include <gosset/hadamard/transform.hpp>
