// SPDX-License-Identifier: Apache-2.0
#include "formats_entry.hpp"

namespace llama {

const std::vector<FormatEntry>& formatTable() {
  static const std::vector<FormatEntry> table = [] {
    std::vector<FormatEntry> all;
    for (const auto& part : {detail::scalarFormats(), detail::activationFormats(), detail::sparseFormats(),
                             detail::gptqFormats(), detail::latticeFormats()}) {
      all.insert(all.end(), part.begin(), part.end());
    }
    return all;
  }();
  return table;
}

}  // namespace llama
