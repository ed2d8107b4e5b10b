// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

// GGUF files by hand, as github.com/ggml-org/ggml, docs/gguf.md has them.
namespace gosset::testing {

template <class T>
std::string number(T value) {
  return {reinterpret_cast<const char*>(&value), sizeof(T)};
}
inline std::string u32(std::uint32_t value) { return number(value); }
inline std::string u64(std::uint64_t value) { return number(value); }
inline std::string text(std::string_view value) { return u64(value.size()) + std::string(value); }

/// Magic, version and counts.
inline std::string ggufBegin(std::uint64_t tensors, std::uint64_t keys, std::uint32_t version = 3) {
  return "GGUF" + u32(version) + u64(tensors) + u64(keys);
}
inline std::string ggufKey(std::string_view key, std::uint32_t type, const std::string& value) {
  return text(key) + u32(type) + value;
}
/// dims: the length of a row first.
inline std::string ggufTensor(std::string_view name, std::initializer_list<std::uint64_t> dims, std::uint32_t type,
                              std::uint64_t offset) {
  std::string bytes = text(name) + u32(static_cast<std::uint32_t>(dims.size()));
  for (const std::uint64_t dim : dims) bytes += u64(dim);
  return bytes + u32(type) + u64(offset);
}
inline std::string padded(std::string bytes, std::size_t alignment = 32) {
  while (bytes.size() % alignment != 0) bytes += '\0';
  return bytes;
}

}  // namespace gosset::testing
