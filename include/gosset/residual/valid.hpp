// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <concepts>

namespace gosset::detail {

/// What a packed matrix says of itself, if it says anything: false where a file holds codes that mean nothing.
template <class P>
bool isValid(const P& packed) {
  if constexpr (requires {
                  { packed.isValid() } -> std::convertible_to<bool>;
                }) {
    return packed.isValid();
  } else {
    return true;
  }
}

}  // namespace gosset::detail
