// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <gosset/codebook/asymmetric.hpp>
#include <gosset/format/grouped.hpp>
#include <gosset/format/low_rank.hpp>
#include <gosset/format/outliers.hpp>

namespace gosset::GOSSET_ABI {

/// b bits a number, a scale and a zero point for every g: b + 32 / g bits. In a KvCache the groups run along tokens
/// within a channel for keys, along channels within a token for values.
/// Source: Liu et al., "KIVI", ICML 2024, section 3.
template <int b, int g>
using Kivi = Grouped<Asymmetric<b>, g>;

/// Kivi without the outliers of each line, plus a rank-r correction of what both left over. The outliers go first, so
/// that they spoil no scale and no direction of the correction is spent on them.
/// Source: Kang et al., "GEAR" (2024), section 3.
template <int b, int g, int r, int permille>
using Gear = LowRank<Outliers<Kivi<b, g>, permille>, r>;

/// Gear without outliers.
template <int b, int g, int r>
using GearL = LowRank<Kivi<b, g>, r>;

}  // namespace gosset::GOSSET_ABI
