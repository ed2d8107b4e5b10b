// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <gosset/rounding/basis.hpp>
#include <gosset/rounding/basis_hessian.hpp>
#include <gosset/rounding/by_sensitivity.hpp>
#include <gosset/rounding/channel_scales.hpp>
#include <gosset/rounding/concepts.hpp>
#include <gosset/rounding/gptq.hpp>
#include <gosset/rounding/hessian.hpp>
#include <gosset/rounding/ldlq.hpp>
#include <gosset/rounding/nearest.hpp>
#include <gosset/rounding/outlier_columns.hpp>
#include <gosset/rounding/stochastic.hpp>
