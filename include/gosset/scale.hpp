// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <gosset/scale/affine.hpp>
#include <gosset/scale/block_coder.hpp>
#include <gosset/scale/fit.hpp>
#include <gosset/scale/granularity.hpp>
#include <gosset/scale/grid.hpp>
#include <gosset/scale/least_squares.hpp>
#include <gosset/scale/options.hpp>
#include <gosset/scale/rules.hpp>
