// SPDX-License-Identifier: Apache-2.0
#pragma once

// The room of formats: one file each, as the grammar has them. concepts.hpp says what a format is. What may not enter:
// how a user holds a matrix (matrix/), and anything that looks at data to choose a format (calibration/).
#include <gosset/format/act_order.hpp>
#include <gosset/format/channel_scaled.hpp>
#include <gosset/format/concepts.hpp>
#include <gosset/format/fields.hpp>
#include <gosset/format/ggml.hpp>
#include <gosset/format/grouped.hpp>
#include <gosset/format/incoherent.hpp>
#include <gosset/format/low_rank.hpp>
#include <gosset/format/mixed_columns.hpp>
#include <gosset/format/name.hpp>
#include <gosset/format/outliers.hpp>
#include <gosset/format/per_channel.hpp>
#include <gosset/format/per_tensor.hpp>
#include <gosset/format/plain.hpp>
#include <gosset/format/scaled.hpp>
