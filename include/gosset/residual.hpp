// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <gosset/residual/low_rank.hpp>
#include <gosset/residual/outlier_columns.hpp>
#include <gosset/residual/outliers.hpp>
#include <gosset/residual/sensitivity.hpp>
