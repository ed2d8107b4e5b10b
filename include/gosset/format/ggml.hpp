// SPDX-License-Identifier: Apache-2.0
#pragma once

// The block layouts of GGUF files as formats: ggml::Q4_0, Q4_1, Q5_0, Q5_1, Q8_0, IQ4_NL, MXFP4; Q2_K, Q3_K, Q4_K,
// Q5_K, Q6_K, IQ4_XS; TQ1_0, TQ2_0; and, to be read only, IQ2_XXS, IQ2_XS, IQ2_S, IQ3_XXS, IQ3_S.
#include <gosset/format/ggml/block.hpp>
#include <gosset/format/ggml/k_quants.hpp>
#include <gosset/format/ggml/levels.hpp>
#include <gosset/format/ggml/packed.hpp>
#include <gosset/format/ggml/points.hpp>
#include <gosset/format/ggml/simple.hpp>
#include <gosset/format/ggml/ternary.hpp>
