// SPDX-License-Identifier: Apache-2.0
#include "fuzz.hpp"

#include <gosset/io/gguf_quantized.hpp>
#include <gosset/io/gguf_writer.hpp>
#include <gosset/io/imatrix.hpp>

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

std::string pathOfWriter() {
  return (std::filesystem::temp_directory_path() / ("gosset-fuzz-gguf-" + std::to_string(::getpid()))).string();
}

/// What was written there, which is removed.
Bytes bytesAt(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  Bytes bytes(std::istreambuf_iterator<char>(file), {});
  std::filesystem::remove(path);
  return bytes;
}

Bytes bytesOf(const GgufWriter& writer) {
  const std::string path = pathOfWriter();
  writer.write(path);
  return bytesAt(path);
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
  constexpr Index kMost = 4096;  // numbers
  if (info.size() > kMost) return;
  try {
    const AnyMatrix matrix = readGguf(file, name);
    expect(matrix.rows() * matrix.cols() == info.size(), "a matrix's numbers");
    const RowMatrixXf w = matrix.dequantized();
    expect(w.size() == 0 || (matrix * someMatrix(matrix.cols(), 2)).rows() == w.rows(), "a product");
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
  for (const std::uint32_t type : {2u, 8u, 12u, 16u, 39u}) {
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

void readImatrixFile(View input, Progress& progress) {
  const Imatrix imatrix = readImatrix(pathOf(input));
  progress.load();
  for (const auto& [name, entry] : imatrix.entries) {
    expect(entry.counts.size() == entry.sums.rows() && entry.meanSquares().allFinite(), "an entry's means");
  }
}

Bytes bytesOf(const Imatrix& imatrix, bool old_form) {
  const std::string path = pathOfWriter();
  old_form ? writeImatrixDat(path, imatrix) : writeImatrix(path, imatrix);
  return bytesAt(path);
}

std::vector<Bytes> imatrixSeeds() {
  Imatrix imatrix;
  imatrix.datasets = {"text"};
  imatrix.chunks = 3;
  imatrix.entries["a"] = {someMatrix(1, 5).cwiseAbs(), Eigen::VectorXf::Constant(1, 2)};
  imatrix.entries["b"] = {someMatrix(1, 2).cwiseAbs(), Eigen::VectorXf::Constant(1, 0)};
  return {bytesOf(imatrix, true), bytesOf(imatrix, false)};
}

/// One number of the .dat form, or any change.
Bytes mutateImatrix(View input, std::size_t most, Random& random) {
  if (below(4, random) == 0) return mutateFreely(input, most);
  Bytes bytes(input.begin(), input.end());
  for (int tries = 0; tries < 20; ++tries) {  // most changes of the sums leave a file sound
    Bytes changed = bytes;
    const std::size_t skip = below(4, random);
    if (changed.size() > skip) mutateNumber(std::span(changed).subspan(skip), 4, random);
    if (below(4, random) == 0) return changed;
    try {
      (void)readImatrix(pathOf(changed, 1));
      return changed;
    } catch (const FormatError&) {
    }
  }
  return bytes;
}

}  // namespace

Reader ggufReader() { return {"gguf", fileSeeds, readFile, mutate}; }
Reader imatrixReader() { return {"imatrix", imatrixSeeds, readImatrixFile, mutateImatrix}; }

}  // namespace gosset::fuzz
