// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <gosset/core/abi.hpp>

namespace gosset::GOSSET_ABI::detail {

template <class>
struct LateVoid {
  using type = void;
};

/// void, but not before T is known: what a template uses with it compiles where that template is used, and not wherever
/// its header is included. Eigen's decompositions take seconds.
template <class T>
using Late = typename LateVoid<T>::type;

}  // namespace gosset::GOSSET_ABI::detail
