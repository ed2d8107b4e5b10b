// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <gosset/format/plain.hpp>
#include <gosset/matrix/eigen_product.hpp>
#include <gosset/matrix/quantize.hpp>
#include <gosset/matrix/quantized_matrix.hpp>
