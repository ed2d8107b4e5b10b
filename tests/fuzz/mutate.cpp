// SPDX-License-Identifier: Apache-2.0
#include "fuzz.hpp"

#include <nlohmann/json.hpp>

#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <limits>
#include <numeric>

extern "C" std::size_t LLVMFuzzerMutate(std::uint8_t* data, std::size_t size, std::size_t most);

namespace gosset::fuzz {

void expect(bool holds, const char* what) {
  if (holds) return;
  std::fprintf(stderr, "expected: %s\n", what);
  std::abort();
}

bool isRare(View input) { return std::accumulate(input.begin(), input.end(), std::size_t{0}) % 64 == 0; }

Eigen::MatrixXf someMatrix(Index rows, Index cols) {
  std::uint32_t state = 1;
  return Eigen::MatrixXf::NullaryExpr(rows, cols, [&] {
    state = state * 1664525u + 1013904223u;
    return static_cast<float>(state >> 8) * 0x1p-23f - 1.f;
  });
}

std::string pathOf(View bytes, int slot) {
  static std::array<int, 2> files = {::memfd_create("first", 0), ::memfd_create("second", 0)};
  const int file = files[static_cast<std::size_t>(slot)];
  expect(::ftruncate(file, 0) == 0, "an empty file in memory");
  expect(::pwrite(file, bytes.data(), bytes.size(), 0) == static_cast<::ssize_t>(bytes.size()), "a file in memory");
  return "/proc/self/fd/" + std::to_string(file);
}

Bytes bytesOf(const SafetensorsWriter& writer) {
  static const std::filesystem::path path =
      std::filesystem::temp_directory_path() / ("gosset-fuzz-" + std::to_string(::getpid()));
  writer.write(path);
  std::ifstream file(path, std::ios::binary);
  Bytes bytes{std::istreambuf_iterator<char>(file), {}};
  std::filesystem::remove(path);
  return bytes;
}

std::uint64_t strangeNumber(std::uint64_t old, Random& random) {
  constexpr std::array<std::uint64_t, 32> kStrange = {0,
                                                      1,
                                                      2,
                                                      3,
                                                      4,
                                                      7,
                                                      8,
                                                      15,
                                                      16,
                                                      17,
                                                      31,
                                                      32,
                                                      33,
                                                      63,
                                                      64,
                                                      65,
                                                      127,
                                                      128,
                                                      255,
                                                      256,
                                                      257,
                                                      1000,
                                                      4096,
                                                      32767,
                                                      65535,
                                                      65536,
                                                      0x7fffffff,
                                                      0x80000000,
                                                      0xffffffff,
                                                      0x100000000,
                                                      0x7fffffffffffffff,
                                                      0xffffffffffffffff};
  if (below(3, random) == 0) return kStrange[below(kStrange.size(), random)];
  return old + below(9, random) - 4;
}

Bytes mutateFreely(View input, std::size_t most) {
  Bytes bytes(input.begin(), input.begin() + static_cast<std::ptrdiff_t>(std::min(input.size(), most)));
  const std::size_t size = bytes.size();
  bytes.resize(most);
  bytes.resize(LLVMFuzzerMutate(bytes.data(), size, most));
  return bytes;
}

void mutateInPlace(std::span<std::uint8_t> bytes) {
  if (bytes.empty()) return;
  const Bytes changed = mutateFreely(bytes, bytes.size());
  std::copy(changed.begin(), changed.end(), bytes.begin());
}

void mutateNumber(std::span<std::uint8_t> bytes, std::size_t width, Random& random) {
  const std::size_t count = bytes.size() / width;
  if (count == 0) return;
  std::uint8_t* at = bytes.data() + below(count, random) * width;
  std::uint64_t number = 0;
  std::memcpy(&number, at, width);
  number = strangeNumber(number, random);
  std::memcpy(at, &number, width);
}

std::string mutateText(std::string text, Random& random) {
  std::uint64_t number = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  if (error == std::errc{} && end == text.data() + text.size()) return std::to_string(strangeNumber(number, random));
  if (text.empty() || below(4, random) == 0) text.insert(below(text.size() + 1, random), 1, '<');
  text[below(text.size(), random)] = static_cast<char>(' ' + below(95, random));
  return text;
}

namespace {

/// A safetensors file, taken apart.
struct Parts {
  struct Tensor {
    std::string name, type;
    Dtype dtype;
    std::vector<Index> shape;
    Bytes data;
  };
  MetadataMap metadata;
  std::vector<Tensor> tensors;
};

Parts takeApart(View input) {
  const detail::SafetensorsHeader header = detail::readSafetensorsHeader(std::as_bytes(input), "input");
  Parts parts{header.metadata, {}};
  for (const auto& [name, info] : header.tensors) {
    const View data = input.subspan(info.begin, info.bytes());
    parts.tensors.push_back({name, std::string(info.typeName()), info.dtype, info.shape, {data.begin(), data.end()}});
  }
  return parts;
}

std::string quoted(const std::string& text) {
  std::string result = "\"";
  for (const char c : text) {
    if (c == '"' || c == '\\') result += '\\';
    result += static_cast<unsigned char>(c) < 0x20 ? ' ' : c;
  }
  return result + '"';
}

Bytes putTogether(const Parts& parts) {
  std::string header = "{\"__metadata__\":{";
  const char* separator = "";
  for (const auto& [key, value] : parts.metadata) {
    header.append(std::exchange(separator, ",")).append(quoted(key)).append(":").append(quoted(value));
  }
  header += '}';
  std::size_t end = 0;
  for (const Parts::Tensor& tensor : parts.tensors) {
    std::string shape;
    for (const Index size : tensor.shape) shape += (shape.empty() ? "" : ",") + std::to_string(size);
    const std::size_t begin = std::exchange(end, end + tensor.data.size());
    header += "," + quoted(tensor.name) + ":{\"dtype\":" + quoted(tensor.type) + ",\"shape\":[" + shape +
              "],\"data_offsets\":[" + std::to_string(begin) + "," + std::to_string(end) + "]}";
  }
  header += '}';
  header.resize((header.size() + 7) / 8 * 8, ' ');
  const std::uint64_t length = header.size();
  Bytes bytes(8);
  std::memcpy(bytes.data(), &length, 8);
  bytes.insert(bytes.end(), header.begin(), header.end());
  for (const Parts::Tensor& tensor : parts.tensors) {
    bytes.insert(bytes.end(), tensor.data.begin(), tensor.data.end());
  }
  return bytes;
}

/// As many bytes as type and shape ask for, or an empty tensor where they are too many.
void fitData(Parts::Tensor& tensor, std::size_t most) {
  if (tensor.dtype == Dtype::kUnknown) return;
  const auto bytes = detail::tensorBytes(tensor.dtype, tensor.shape);
  if (!bytes || *bytes > most) tensor.shape = {0};
  tensor.data.resize(bytes && *bytes <= most ? static_cast<std::size_t>(*bytes) : 0, 1);
}

void changeShape(Parts::Tensor& tensor, std::size_t most, Random& random) {
  if (tensor.shape.empty() || below(8, random) == 0) {
    tensor.shape.push_back(1);
  } else if (below(8, random) == 0) {
    tensor.shape.pop_back();
  } else {
    Index& size = tensor.shape[below(tensor.shape.size(), random)];
    size = static_cast<Index>(strangeNumber(static_cast<std::uint64_t>(size), random) & 0x7fffffffffffffff);
  }
  fitData(tensor, most);
}

void changeType(Parts::Tensor& tensor, std::size_t most, Random& random) {
  tensor.dtype = static_cast<Dtype>(below(static_cast<std::size_t>(Dtype::kUnknown) + 1, random));
  tensor.type = tensor.dtype == Dtype::kUnknown ? "F2" : std::string(dtypeName(tensor.dtype));
  if (tensor.dtype == Dtype::kUnknown && below(2, random) == 0) tensor.shape = {std::numeric_limits<Index>::max() / 4};
  fitData(tensor, most);
}

void changeData(Parts::Tensor& tensor, Random& random) {
  const std::size_t width = std::max<std::size_t>(dtypeSize(tensor.dtype), 1);
  if (below(2, random) == 0) {
    mutateInPlace(tensor.data);
  } else {
    mutateNumber(tensor.data, width, random);
  }
}

void changeTensor(Parts& parts, std::size_t most, Random& random) {
  if (parts.tensors.empty()) return;
  const std::size_t index = below(parts.tensors.size(), random);
  Parts::Tensor& tensor = parts.tensors[index];
  const std::size_t what = below(16, random);
  if (what < 12) {
    changeData(tensor, random);
  } else if (what < 14) {
    changeShape(tensor, most, random);
  } else if (what == 14) {
    changeType(tensor, most, random);
  } else if (below(2, random) == 0) {
    tensor.name = mutateText(tensor.name, random);
  } else {
    parts.tensors.erase(parts.tensors.begin() + static_cast<std::ptrdiff_t>(index));
  }
}

void changeMetadata(Parts& parts, Random& random) {
  if (parts.metadata.empty()) {
    parts.metadata.emplace("key", "1");
    return;
  }
  const auto entry =
      std::next(parts.metadata.begin(), static_cast<std::ptrdiff_t>(below(parts.metadata.size(), random)));
  if (below(8, random) == 0) {
    parts.metadata.erase(entry);
  } else {
    entry->second = mutateText(entry->second, random);
  }
}

/// A number in the header's text becomes another, whatever that breaks.
Bytes changeHeader(View input, Random& random) {
  Bytes bytes(input.begin(), input.end());
  const auto digits = [](std::uint8_t c) { return c >= '0' && c <= '9'; };
  const std::size_t end = 8 + *reinterpret_cast<const std::uint32_t*>(bytes.data());
  for (int attempt = 0; attempt < 100; ++attempt) {
    std::uint8_t& byte = bytes[8 + below(end - 8, random)];
    if (!digits(byte)) continue;
    byte = static_cast<std::uint8_t>('0' + below(10, random));
    break;
  }
  return bytes;
}

}  // namespace

Bytes mutateSafetensors(View input, std::size_t most, Random& random) {
  Parts parts = takeApart(input);
  const std::size_t what = below(32, random);
  if (what == 0) return mutateFreely(input, most);
  if (what == 1) return changeHeader(input, random);
  for (std::size_t changes = 1 + below(3, random); changes > 0; --changes) {
    if (below(8, random) == 0) {
      changeMetadata(parts, random);
    } else {
      changeTensor(parts, most, random);
    }
  }
  return putTogether(parts);
}

namespace {

/// One value of the tree, each as likely as its place among its neighbours.
nlohmann::json& someValue(nlohmann::json& root, Random& random) {
  nlohmann::json* at = &root;
  while (at->is_structured() && !at->empty() && (at == &root || below(8, random) != 0)) {
    at = &*std::next(at->begin(), static_cast<std::ptrdiff_t>(below(at->size(), random)));
  }
  return *at;
}

void changeValue(nlohmann::json& value, Random& random) {
  const std::size_t what = below(8, random);
  if (what == 0) {
    value = nullptr;
  } else if (what == 1) {
    value = nlohmann::json::array({value});
  } else if (what == 2) {
    value = "text";
  } else if (what == 3) {
    value = 1e300;
  } else if (value.is_number_integer()) {
    value = strangeNumber(value.get<std::uint64_t>(), random);
  } else if (value.is_string()) {
    value = mutateText(value.get<std::string>(), random);
  } else if (value.is_boolean()) {
    value = !value.get<bool>();
  } else if (value.is_number_float()) {
    value = -value.get<double>();
  } else if (value.is_structured() && !value.empty()) {
    value.erase(value.begin());
  }
}

}  // namespace

std::string mutateJson(const std::string& text, Random& random) {
  nlohmann::json root = nlohmann::json::parse(text);
  changeValue(someValue(root, random), random);
  return root.dump();
}

}  // namespace gosset::fuzz
