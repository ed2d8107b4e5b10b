// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <gosset/rounding/nearest.hpp>
#include <gosset/rounding/stochastic.hpp>
