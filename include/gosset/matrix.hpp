// SPDX-License-Identifier: Apache-2.0
#pragma once

// The room of matrices as users hold them: quantize() makes one, QuantizedMatrix and AnyMatrix are usable in Eigen
// expressions. What may not enter: how numbers are stored (format/), and anything that touches Eigen's internals but
// eigen_product.hpp.
#include <gosset/matrix/any_matrix.hpp>
#include <gosset/matrix/eigen_product.hpp>
#include <gosset/matrix/format_list.hpp>
#include <gosset/matrix/from_codes.hpp>
#include <gosset/matrix/quantize.hpp>
#include <gosset/matrix/quantized_matrix.hpp>
#include <gosset/matrix/transposed.hpp>
