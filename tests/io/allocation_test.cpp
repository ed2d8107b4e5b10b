// SPDX-License-Identifier: Apache-2.0
#include <gosset/codebook/asymmetric.hpp>
#include <gosset/codebook/e8p.hpp>
#include <gosset/codebook/symmetric.hpp>
#include <gosset/codebook/ternary.hpp>
#include <gosset/entropy/archive.hpp>
#include <gosset/format.hpp>
#include <gosset/io/hessian.hpp>
#include <gosset/io/kv_cache.hpp>
#include <gosset/io/quantized.hpp>
#include <gosset/kv/formats.hpp>
#include <gosset/kv/presets.hpp>

#include "counting_allocation.hpp"
#include "io/temporary_folder.hpp"
#include "testing.hpp"

#include <algorithm>
#include <cctype>
#include <cstdint>
#include <cstring>
#include <functional>
#include <span>
#include <string>
#include <vector>

// What a reader asks memory for is bounded by the file: each number of a sound file becomes one that is far too large,
// and every operator new is counted. (Eigen's own memory is watched by the limit of tests/fuzz.)

namespace gosset::allocation_test {
namespace {

using testing::readText;
using testing::TemporaryFolder;
using testing::writeText;

constexpr std::uint64_t kLarge[] = {0, 255, 1 << 28, 0x7fffffff, std::uint64_t{1} << 61};

/// Reads `bytes` of a file, sound or not, and compares what was asked for with their number.
void expectBounded(std::size_t bytes, const std::function<void()>& read) {
  testing::Allocations& asked = testing::allocations();
  asked.reset();
  try {
    read();
  } catch (const FormatError&) {
  }
  constexpr std::size_t kTimes = 64, kConstant = 100'000;
  EXPECT_LE(asked.largest, kTimes * bytes + kConstant / 5);
  EXPECT_LE(asked.total, 2 * kTimes * bytes + kConstant);
}

/// Whole files whose header has one number changed, its length corrected; and whose data have one word changed.
std::vector<std::string> changedFiles(const std::string& file) {
  std::uint64_t length = 0;
  std::memcpy(&length, file.data(), 8);
  const std::string header = file.substr(8, length), data = file.substr(8 + length);
  std::vector<std::string> files = {file};
  const auto isDigit = [](char c) { return std::isdigit(static_cast<unsigned char>(c)) != 0; };
  for (std::size_t at = 0, end = 0; at < header.size(); at = end + 1) {
    at = static_cast<std::size_t>(
        std::find_if(header.begin() + static_cast<std::ptrdiff_t>(at), header.end(), isDigit) - header.begin());
    for (end = at; end < header.size() && isDigit(header[end]);) ++end;
    if (end == at) break;
    for (const std::uint64_t number : kLarge) {
      files.push_back(
          testing::safetensorsBytes(std::string(header).replace(at, end - at, std::to_string(number)), data));
    }
  }
  const std::string unknown = "\"F2\"";  // a type of which any number may be claimed
  for (const char* type : {"\"F16\"", "\"U64\"", "\"I64\"", "\"U8\"", "\"I8\""}) {
    for (std::size_t at = 0; (at = header.find(type, at)) != std::string::npos; ++at) {
      std::string other = std::string(header).replace(at, std::strlen(type), unknown);
      const std::size_t shape = other.find('[', at), shape_end = other.find(']', at);
      other.replace(shape + 1, shape_end - shape - 1, std::to_string(std::uint64_t{1} << 61));
      files.push_back(testing::safetensorsBytes(other, data));
    }
  }
  for (std::size_t at = 0; at + 8 <= data.size() && at < 128; at += 8) {
    for (const std::uint64_t number : kLarge) {
      std::string changed = file;
      std::memcpy(changed.data() + 8 + length + at, &number, 8);
      files.push_back(changed);
    }
  }
  return files;
}

/// read(file) of whatever `writer` writes, changed.
void expectFilesBounded(const SafetensorsWriter& writer, const std::function<void(const SafetensorsFile&)>& read) {
  const TemporaryFolder folder;
  writer.write(folder / "file");
  for (const std::string& bytes : changedFiles(readText(folder / "file"))) {
    writeText(folder / "changed", bytes);
    expectBounded(bytes.size(), [&] { read(SafetensorsFile(folder / "changed", FileAccess::kLoad)); });
    if (::testing::Test::HasFailure()) return;
  }
}

template <class F>
class AllocationOf : public ::testing::Test {};

using Formats = ::testing::Types<PerChannel<Ternary>, Grouped<Asymmetric<3>, 32>, Incoherent<E8P>,
                                 ChannelScaled<LlmInt8>, LowRank<Outliers<PerChannel<Asymmetric<4>>, 100>, 2>, float>;
TYPED_TEST_SUITE(AllocationOf, Formats);

TYPED_TEST(AllocationOf, QuantizedMatrices) {
  using P = Packed<TypeParam>;
  const FieldLengths lengths = [](std::string_view name) { return name.ends_with("columns") ? 1 : 5; };
  SafetensorsWriter writer;
  addPacked(writer, "w", P::shaped(5, 70, lengths));
  for (const PackedAccess access : {PackedAccess::kCopy, PackedAccess::kView}) {
    expectFilesBounded(writer, [&](const SafetensorsFile& file) { (void)readPacked<P>(file, "w", access); });
  }
}

TYPED_TEST(AllocationOf, Archives) {
  const std::vector<std::uint8_t> sound = archive(QuantizedMatrix<TypeParam>(Packed<TypeParam>::shaped(5, 70)));
  for (std::size_t at = 0; at + 8 <= sound.size() && at < 256; ++at) {
    for (const std::uint64_t number : kLarge) {
      std::vector<std::uint8_t> changed = sound;
      std::memcpy(changed.data() + at, &number, 8);
      expectBounded(changed.size(), [&] { (void)unarchive<TypeParam>(changed); });
    }
  }
}

template <class C>
class AllocationOfCache : public ::testing::Test {};

using Caches = ::testing::Types<KvCache<Float16>, KvCache<Gear<2, 32, 2, 50>, Kivi<3, 32>>, KvCache<KvRotated<E8P, 1>>>;
TYPED_TEST_SUITE(AllocationOfCache, Caches);

TYPED_TEST(AllocationOfCache, Caches) {
  const KvOptions options = {.window = 8, .longest_block = 16, .merge = true};
  const KvContents contents = {.ends = {16, 24}, .stored = {16, 8}, .staged = 1, .window = 3};
  SafetensorsWriter writer;
  addKvCache(writer, "c", TypeParam::shaped({4, 2, 12}, options, contents));
  expectFilesBounded(writer, [](const SafetensorsFile& file) { (void)readKvCache<TypeParam>(file, "c"); });
}

TEST(Allocation, LengthsWhoseHadamardMatrixIsLarge) {
  using F = Incoherent<PerChannel<Ternary>>;
  const std::vector<std::uint8_t> sound = archive(QuantizedMatrix<F>(Packed<F>::shaped(1, 262148)));
  expectBounded(sound.size(), [&] { (void)unarchive<F>(sound); });
  SafetensorsWriter writer;
  addPacked(writer, "w", Packed<F>::shaped(1, 262148));
  const TemporaryFolder folder;
  writer.write(folder / "file");
  const auto bytes = readText(folder / "file").size();
  expectBounded(bytes, [&] { (void)readPacked<Packed<F>>(SafetensorsFile(folder / "file"), "w"); });
}

TEST(Allocation, Hessians) {
  Hessian hessian(4);
  hessian.accumulate(Eigen::MatrixXd::Identity(4, 4));
  SafetensorsWriter writer;
  addHessian(writer, "h", hessian);
  expectFilesBounded(writer, [](const SafetensorsFile& file) { (void)readHessian(file, "h"); });
}

}  // namespace
}  // namespace gosset::allocation_test
