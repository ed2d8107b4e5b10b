// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "io/temporary_folder.hpp"

#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <string>

namespace gosset::testing {

template <class T>
std::string bytesOf(std::initializer_list<T> values) {
  return {reinterpret_cast<const char*>(values.begin()), values.size() * sizeof(T)};
}

/// What a Python program writes that saves these four tensors: wider types first, then by name, header padded to 8.
/// Ours pads it so that the data begins at a multiple of 64.
inline std::string pythonFile(std::size_t data_alignment = 8) {
  std::string header = R"({"__metadata__":{"format":"pt"},)"
                       R"("model.embed.weight":{"dtype":"F32","shape":[2,3],"data_offsets":[0,24]},)"
                       R"("a.weight":{"dtype":"BF16","shape":[1,2],"data_offsets":[24,28]},)"
                       R"("b.bias":{"dtype":"F16","shape":[3],"data_offsets":[28,34]},)"
                       R"("mask":{"dtype":"BOOL","shape":[2,2],"data_offsets":[34,38]}})";
  while ((8 + header.size()) % data_alignment != 0) header += ' ';
  return safetensorsBytes(header, bytesOf<float>({1.f, -2.f, 3.5f, 0.f, 1e30f, -0.f}) +
                                      bytesOf<std::uint16_t>({0x3f80, 0xc000}) +          // 1, -2
                                      bytesOf<std::uint16_t>({0x3c00, 0x0001, 0xfc00}) +  // 1, 2^-24, -inf
                                      std::string("\1\0\0\1", 4));
}

}  // namespace gosset::testing
