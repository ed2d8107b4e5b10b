// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <gosset/rounding/hessian.hpp>
#include <gosset/rounding/ldl.hpp>
#include <gosset/rounding/ldlq.hpp>
#include <gosset/rounding/nearest.hpp>
#include <gosset/rounding/stochastic.hpp>
