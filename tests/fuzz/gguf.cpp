// SPDX-License-Identifier: Apache-2.0
#include "fuzz.hpp"

#include <gosset/io/gguf_writer.hpp>

#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <span>
#include <string>
#include <utility>
#include <vector>

namespace gosset::fuzz {
namespace {

Bytes bytesOf(const GgufWriter& writer) {
  static const std::filesystem::path path =
      std::filesystem::temp_directory_path() / ("gosset-fuzz-gguf-" + std::to_string(::getpid()));
  writer.write(path);
  std::ifstream file(path, std::ios::binary);
  Bytes bytes(std::istreambuf_iterator<char>(file), {});
  std::filesystem::remove(path);
  return bytes;
}

void addTensor(GgufWriter& writer, const std::string& name, const GgmlType& type, const std::vector<Index>& shape,
               Bytes data) {
  writer.addSource(name, type, shape,
                   [data = std::move(data)](const GgufWriter::Put& put) { put(std::as_bytes(std::span(data))); });
}

/// What type it is or another, nothing worse than a refusal may come of it.
void useValue(const GgufFile& file, const std::string& key) {
  const GgufValue value = file.value(key);
  expect(!value.typeText().empty(), "a value's type");
  (void)value.as<bool>();
  (void)value.as<std::int8_t>();
  (void)value.as<double>();
  (void)value.as<std::string>();
  (void)value.as<std::vector<std::uint64_t>>();
  (void)value.as<std::vector<std::string>>();
  (void)value.as<std::vector<std::vector<float>>>();
}

void useTensor(const GgufFile& file, const std::string& name) {
  const GgufTensor& info = file.info(name);
  expect(file.data(name).size() == info.bytes(), "a tensor's bytes");
  try {
    expect(file.matrix(name).size() == info.size(), "a tensor's numbers");
  } catch (const FormatError&) {
  }
}

void readFile(View input, Progress& progress) {
  const GgufFile file(pathOf(input), FileAccess::kLoad);
  progress.load();
  for (const std::string& key : file.keys()) useValue(file, key);
  for (const std::string& name : file.names()) useTensor(file, name);
  if (!isRare(input)) return;
  GgufWriter again;
  again.setAll(file);
  for (const std::string& name : file.names()) {
    if (name.size() > GgufWriter::kMostName) return;
    const GgufTensor& info = file.info(name);
    again.addSource(name, *info.type, info.shape, [data = file.data(name)](const GgufWriter::Put& put) { put(data); });
  }
  const GgufFile other(pathOf(bytesOf(again), 1), FileAccess::kLoad);
  expect(other.keys() == file.keys() && other.names() == file.names(), "the same names");
  for (const std::string& key : file.keys()) expect(other.value(key) == file.value(key), "the same value");
  for (const std::string& name : file.names()) {
    const auto a = file.data(name), b = other.data(name);
    expect(other.info(name).shape == file.info(name).shape && std::equal(a.begin(), a.end(), b.begin(), b.end()),
           "the same tensor");
  }
}

std::vector<Bytes> fileSeeds() {
  std::vector<Bytes> seeds = {bytesOf(GgufWriter())};
  GgufWriter writer;
  writer.set("general.architecture", "llama");
  writer.set("small", std::int8_t{-1});
  writer.set("flag", true);
  writer.set("large", ~std::uint64_t{0});
  writer.set("eps", 1e-5);
  writer.set("tokens", std::vector<std::string>{"<s>", "", "b"});
  writer.set("nested", std::vector<std::vector<float>>{{1, 2}, {}});
  seeds.push_back(bytesOf(writer));
  writer.set("general.alignment", std::uint32_t{8});
  writer.add("w", someMatrix(3, 5));
  writer.add("h", someMatrix(1, 4).cast<Float16>());
  for (const std::uint32_t type : {2u, 8u, 39u}) {
    const GgmlType& blocks = *ggmlType(type);
    addTensor(writer, std::string(blocks.name), blocks, {2, blocks.block}, Bytes(2 * blocks.block_bytes, 7));
  }
  seeds.push_back(bytesOf(writer));
  return seeds;
}

/// A value of other bytes, or of the file's.
GgufValue someValue(const GgufFile& file, Random& random) {
  switch (below(5, random)) {
    case 0:
      return GgufValue(strangeNumber(1, random));
    case 1:
      return GgufValue(std::string(below(20, random), 'x'));
    case 2:
      return GgufValue(std::vector<bool>(below(9, random)));
    case 3:
      return GgufValue(std::vector<std::vector<std::string>>(below(4, random), {"a"}));
    default:
      return file.keys().empty() ? GgufValue(1.f) : file.value(file.keys()[below(file.keys().size(), random)]);
  }
}

/// A change of a key or a tensor, after which the file's header agrees with it again, or of any bytes.
Bytes mutate(View input, std::size_t most, Random& random) {
  if (below(4, random) == 0) {
    Bytes bytes(input.begin(), input.end());
    const std::size_t widths[] = {1, 4, 8}, width = widths[below(3, random)], skip = below(width, random);
    if (bytes.size() > skip) mutateNumber(std::span(bytes).subspan(skip), width, random);
    return bytes;
  }
  const GgufFile file(pathOf(input, 1), FileAccess::kLoad);
  GgufWriter writer;
  writer.setAll(file);
  if (below(2, random) == 0) {
    const bool rename = file.keys().empty() || below(3, random) == 0;
    const std::string key = rename ? mutateText("key", random) : file.keys()[below(file.keys().size(), random)];
    if (key != "general.alignment") writer.set(key, someValue(file, random));
  }
  const std::size_t chosen = below(2 * file.names().size() + 1, random);
  for (std::size_t i = 0; i < file.names().size(); ++i) {
    const std::string& name = file.names()[i];
    const GgufTensor& info = file.info(name);
    const auto data = file.data(name);
    const auto* first = reinterpret_cast<const std::uint8_t*>(data.data());
    Bytes bytes(first, first + data.size());
    std::vector<Index> shape = info.shape;
    if (i == chosen) mutateInPlace(bytes);
    if (i + 1 == chosen && !shape.empty()) {
      shape.insert(shape.begin(), static_cast<Index>(below(3, random)));
      Bytes more;
      for (Index copy = 0; copy < shape.front(); ++copy) more.insert(more.end(), bytes.begin(), bytes.end());
      bytes = std::move(more);
    }
    addTensor(writer, name, *info.type, shape, std::move(bytes));
  }
  Bytes bytes = bytesOf(writer);
  if (bytes.size() > most) bytes.assign(input.begin(), input.end());
  return bytes;
}

}  // namespace

Reader ggufReader() { return {"gguf", fileSeeds, readFile, mutate}; }

}  // namespace gosset::fuzz
