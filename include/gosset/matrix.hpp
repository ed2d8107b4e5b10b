// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <gosset/matrix/eigen_product.hpp>
#include <gosset/matrix/plain.hpp>
#include <gosset/matrix/quantize.hpp>
#include <gosset/matrix/quantized_matrix.hpp>
