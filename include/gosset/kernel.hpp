// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <gosset/core/dot.hpp>
#include <gosset/kernel/activations.hpp>
#include <gosset/kernel/definition.hpp>
#include <gosset/kernel/e8p_tile.hpp>
#include <gosset/kernel/layout.hpp>
#include <gosset/kernel/plain.hpp>
#include <gosset/kernel/product.hpp>
#include <gosset/kernel/row_floats.hpp>
#include <gosset/kernel/row_product.hpp>
#include <gosset/kernel/tile_code.hpp>
#include <gosset/kernel/transposed.hpp>
#include <gosset/kernel/trellis_decoder.hpp>
#include <gosset/kernel/trellis_layout.hpp>
#include <gosset/kernel/trellis_tile.hpp>
#include <gosset/kernel/trits5_tile.hpp>
