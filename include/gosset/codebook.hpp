// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <gosset/codebook/asymmetric.hpp>
#include <gosset/codebook/binary.hpp>
#include <gosset/codebook/block_lanes.hpp>
#include <gosset/codebook/concepts.hpp>
#include <gosset/codebook/e8.hpp>
#include <gosset/codebook/e81b.hpp>
#include <gosset/codebook/e8p.hpp>
#include <gosset/codebook/e8p_rvq.hpp>
#include <gosset/codebook/level_table.hpp>
#include <gosset/codebook/lloyd_max.hpp>
#include <gosset/codebook/normal_float4.hpp>
#include <gosset/codebook/residual.hpp>
#include <gosset/codebook/symmetric.hpp>
#include <gosset/codebook/ternary.hpp>
#include <gosset/codebook/trellis.hpp>
#include <gosset/codebook/trits5.hpp>
