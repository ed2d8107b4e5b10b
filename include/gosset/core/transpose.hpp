// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <gosset/core/types.hpp>
#include <gosset/core/vectors.hpp>

namespace gosset::GOSSET_ABI::detail {

/// to (cols x rows, rows `to_stride` apart) = the transpose of from (rows x cols, rows `stride` apart), in floats.
template <StorageScalar T>
void transposeInto(const T* from, Index rows, Index cols, Index stride, float* to, Index to_stride) {
  GOSSET_CALL_RUNNING(transposeInSet(from, rows, cols, stride, to, to_stride))
}

}  // namespace gosset::GOSSET_ABI::detail
