// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <gosset/core/bits.hpp>
#include <gosset/core/error.hpp>
#include <gosset/core/exact_sum.hpp>
#include <gosset/core/float_storage.hpp>
#include <gosset/core/late.hpp>
#include <gosset/core/packed.hpp>
#include <gosset/core/parallel.hpp>
#include <gosset/core/random.hpp>
#include <gosset/core/round.hpp>
#include <gosset/core/types.hpp>
