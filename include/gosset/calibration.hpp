// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <gosset/calibration/awq.hpp>
#include <gosset/calibration/bit_budget.hpp>
#include <gosset/calibration/observers.hpp>
#include <gosset/calibration/power.hpp>
#include <gosset/calibration/recommend.hpp>
#include <gosset/calibration/smoothquant.hpp>
