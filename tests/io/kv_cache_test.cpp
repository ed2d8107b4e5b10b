// SPDX-License-Identifier: Apache-2.0
#include <gosset/io/kv_cache.hpp>

#include <gosset/kv/formats.hpp>
#include <gosset/kv/presets.hpp>

#include "io/temporary_folder.hpp"
#include "testing.hpp"

#include <functional>
#include <limits>
#include <map>

namespace gosset::kv_cache_test {
namespace {

using testing::expectThrows;
using testing::gaussian;
using testing::TemporaryFolder;

using Small = Kivi<2, 32>;
using Mixed = KvCache<LowRank<Outliers<Kivi<3, 32>, 40>, 2, std::int8_t>, Incoherent<Small>>;

/// Blocks of a prompt, one of them cut, blocks of single tokens, and a window.
template <class Cache>
Cache filled() {
  const KvShape shape{.heads = 4, .kv_heads = 2, .head_dim = 20};
  Cache cache(shape, {.window = 32, .longest_block = 96, .quantize = {.seed = 0x123456789abcdef0u}});
  cache.append(gaussian(300, 40, 1), gaussian(300, 40, 2));
  cache.truncate(250);
  cache.append(gaussian(77, 40, 3), gaussian(77, 40, 4));
  return cache;
}

/// Blocks that wait to be merged, too.
template <class Cache>
Cache merging() {
  const KvShape shape{.heads = 4, .kv_heads = 2, .head_dim = 20};
  Cache cache(shape, {.window = 32, .longest_block = 96, .merge = true});
  for (const Index tokens : {120, 10, 40}) cache.append(gaussian(tokens, 40, 1), gaussian(tokens, 40, 2));
  return cache;
}

template <class Cache>
void save(const Cache& cache, const std::filesystem::path& path) {
  SafetensorsWriter writer;
  addKvCache(writer, "layer.0", cache);
  writer.write(path);
}

template <class Cache>
Cache load(const std::filesystem::path& path) {
  return readKvCache<Cache>(SafetensorsFile(path), "layer.0");
}

template <class Cache>
class KvCacheFile : public ::testing::Test {};
using Caches = ::testing::Types<KvCache<Float16>, Mixed, KvPreset3::Cache, KvTrellis25::Cache>;
TYPED_TEST_SUITE(KvCacheFile, Caches);

TYPED_TEST(KvCacheFile, ComesBackToTheBit) {
  ASSERT_EQ(merging<TypeParam>().contents().staged, 2);
  for (auto cache : {filled<TypeParam>(), merging<TypeParam>()}) {
    const TemporaryFolder folder;
    save(cache, folder / "kv");
    auto back = load<TypeParam>(folder / "kv");
    EXPECT_EQ(back, cache);
    EXPECT_EQ(back.bytes(), cache.bytes());
    EXPECT_EQ(back.keys(), cache.keys());
    EXPECT_EQ(back.values(), cache.values());
    // And goes on as the first would have.
    for (auto* each : {&cache, &back}) each->append(gaussian(100, 40, 5), gaussian(100, 40, 6));
    EXPECT_EQ(back, cache);
  }
}

TYPED_TEST(KvCacheFile, Empty) {
  const TemporaryFolder folder;
  const TypeParam cache({2, 1, 8});
  save(cache, folder / "kv");
  EXPECT_EQ(load<TypeParam>(folder / "kv"), cache);
}

TEST(KvCacheFileErrors, NamesAndFormats) {
  const TemporaryFolder folder;
  SafetensorsWriter writer;
  addKvCache(writer, "a", KvCache<Float16>({2, 1, 8}));
  expectThrows([&] { addKvCache(writer, "a", KvCache<Float16>({2, 1, 8})); }, "tensor 'a.options' was added before");
  addKvCache(writer, "b", KvCache<Float16>({2, 1, 8}));
  writer.setMetadata("gosset.b.version", "2");
  addKvCache(writer, "d", KvCache<Kivi<3, 32>>({2, 1, 8}));
  writer.write(folder / "kv");
  const SafetensorsFile file(folder / "kv");
  expectThrows<FormatError>([&] { (void)readKvCache<KvCache<Float16>>(file, "c"); }, "the metadata has no");
  expectThrows<FormatError>([&] { (void)readKvCache<KvCache<float>>(file, "a"); },
                            "KV cache 'a': expected the format 'KvCache<float, float>', the file holds "
                            "'KvCache<Float16, Float16>'");
  expectThrows<FormatError>([&] { (void)readKvCache<KvCache<Float16>>(file, "b"); },
                            "KV cache 'b': expected version 3 or 4, the file holds 2");
  expectThrows<FormatError>([&] { (void)readKvCache<KvCache<Kivi<4, 32>>>(file, "d"); },
                            "KV cache 'd': expected the format 'KvCache<Grouped<Asymmetric<4>, 32>");
}

/// A copy of a file in which one tensor has another content: `change` takes its numbers.
template <class T>
void rewrite(const std::filesystem::path& from, const std::filesystem::path& to, const std::string& tensor,
             const std::function<void(std::vector<T>&)>& change) {
  const SafetensorsFile file(from);
  SafetensorsWriter writer;
  for (const auto& [key, value] : file.metadata()) writer.setMetadata(key, value);
  for (const auto& [name, info] : file.tensors()) {
    std::vector<std::byte> bytes(file.data(name).begin(), file.data(name).end());
    std::vector<Index> shape = info.shape;
    if (name == tensor) {
      std::vector<T> values(bytes.size() / sizeof(T));
      std::memcpy(static_cast<void*>(values.data()), bytes.data(), bytes.size());
      change(values);
      bytes.resize(values.size() * sizeof(T));
      std::memcpy(bytes.data(), values.data(), bytes.size());
      shape = {static_cast<Index>(values.size())};
    }
    writer.addSource(name, info.dtype, shape, [bytes](const SafetensorsWriter::Put& put) { put(bytes); });
  }
  writer.write(to);
}

template <class T>
void expectLie(const std::string& tensor, const std::function<void(std::vector<T>&)>& change, const std::string& text) {
  const TemporaryFolder folder;
  save(filled<Mixed>(), folder / "kv");
  rewrite<T>(folder / "kv", folder / "lie", "layer.0." + tensor, change);
  expectThrows<FormatError>([&] { (void)load<Mixed>(folder / "lie"); }, text);
}

TEST(KvCacheFileErrors, MoreThanABlockThatWaitsToBeMerged) {
  const TemporaryFolder folder;
  save(merging<Mixed>(), folder / "kv");
  rewrite<std::uint64_t>(folder / "kv", folder / "lie", "layer.0.options", [](auto& options) { options[7] = 3; });
  expectThrows<FormatError>([&] { (void)load<Mixed>(folder / "lie"); },
                            "160 tokens wait to be merged, expected fewer than the 96 of a block");
}

TEST(KvCacheFileErrors, AWindowThatWouldHaveBeenPacked) {
  const TemporaryFolder folder;
  KvCache<Float16> cache({2, 1, 8}, {.window = 32});
  cache.append(gaussian(20, 8, 1), gaussian(20, 8, 2));
  save(cache, folder / "kv");
  rewrite<std::uint64_t>(folder / "kv", folder / "lie", "layer.0.options", [](auto& options) { options[3] = 20; });
  expectThrows<FormatError>([&] { (void)load<KvCache<Float16>>(folder / "lie"); },
                            "a window of 20 tokens, expected fewer than the 20 of a block");
}

TEST(KvCacheFileErrors, BlocksThatWaitInACacheThatDoesNotMerge) {
  const TemporaryFolder folder;
  save(merging<Mixed>(), folder / "kv");
  rewrite<std::uint64_t>(folder / "kv", folder / "lie", "layer.0.options", [](auto& options) { options[6] = 0; });
  expectThrows<FormatError>([&] { (void)load<Mixed>(folder / "lie"); },
                            "options: 2 staged blocks, which wait to be merged, expected none with merge = 0");
}

TEST(KvCacheFile, AnEmptyCacheOfLargeHeadsIsSetUpWhenTokensCome) {
  const TemporaryFolder folder;
  using Rotated = KvCache<Incoherent<Small>>;
  save(Rotated({1, 1, 8191}), folder / "kv");
  auto cache = load<Rotated>(folder / "kv");
  EXPECT_EQ(cache.keys().rows(), 0);
  cache.append(gaussian(1, 8191, 1), gaussian(1, 8191, 2));
  EXPECT_LT((cache.keys() - gaussian(1, 8191, 1)).norm(), 0.1f);
  EXPECT_EQ(load<Rotated>(folder / "kv"), Rotated({1, 1, 8191}));
}

TEST(KvCacheFileErrors, Lies) {
  using Words = std::vector<std::uint64_t>;
  using Signed = std::vector<std::int64_t>;
  expectLie<std::uint64_t>(
      "options", [](Words& o) { o[1] = 3; }, "heads must be a multiple of kv_heads, got 4 and 3");
  expectLie<std::uint64_t>(
      "options", [](Words& o) { o[2] = std::uint64_t{1} << 40; }, "options: number 2 is");
  expectLie<std::uint64_t>(
      "options", [](Words& o) { o[3] = 0; }, "window must be at least 2 tokens, got 0");
  expectLie<std::uint64_t>(
      "options", [](Words& o) { o.pop_back(); }, "expected 9 numbers, got 8");
  expectLie<std::uint64_t>(
      "options", [](Words& o) { o[2] = 19; }, "no multiple of kv_heads * head_dim = 38");
  expectLie<std::uint64_t>(
      "options", [](Words& o) { o[7] = 100; }, "options: 100 staged blocks of ");
  expectLie<std::int64_t>(
      "ends", [](Signed& e) { e[1] = e[0]; }, "block 1 ends at 96 and keeps");
  expectLie<std::int64_t>(
      "ends", [](Signed& e) { e[0] = -1; }, "block 0 ends at -1");
  expectLie<std::int64_t>(
      "ends", [](Signed& e) { e[0] = 97; }, "block 0 ends at 97 and keeps 96 tokens");
  expectLie<std::int64_t>(
      "stored", [](Signed& s) { s.push_back(1); }, "numbers, got");
  expectLie<std::int64_t>(
      "stored", [](Signed& s) { s[1] = std::int64_t{1} << 60; },
      "block 1 keeps 1152921504606846976 tokens, expected a multiple of the window, 32, up to 96");
  expectLie<std::int64_t>(
      "stored", [](Signed& s) { s[0] += 1; },
      "block 0 keeps 97 tokens, expected a multiple of the window, 32, up to 96");
  expectLie<std::uint64_t>(
      "options", [](Words& o) { o[3] = 48; },
      "block 3 keeps 64 tokens, expected a multiple of the window, 48, up to 96");
  expectLie<std::uint64_t>(
      "options", [](Words& o) { o[1] = 4, o[2] = 8192; }, "bytes, too few for the numbers of 1 blocks");
  expectLie<std::uint64_t>(
      "options", [](Words& o) { o[2] = 8193; }, "expected a head_dim of at most 8192, got 8193");
  expectLie<std::uint64_t>(
      "options", [](Words& o) { o[0] = 65538; }, "expected at most 65536 heads, got 65538");
  expectLie<std::uint64_t>(
      "options", [](Words& o) { o[4] = 0; }, "longest_block must be at least 1 token, got 0");
  expectLie<std::uint64_t>(
      "options", [](Words& o) { o[5] = 0x7fffffff; }, "low_rank_iterations must be at most 1000, got 2147483647");
  expectLie<std::uint64_t>(
      "options", [](Words& o) { o[6] = 2; }, "options: merge is 2, expected 0 or 1");
  expectLie<std::uint64_t>(
      "options", [](Words& o) { o[7] = 1; },
      "options: 1 staged blocks, which wait to be merged, expected none with merge = 0");
  expectLie<std::uint8_t>(
      "keys.inner.inner.codes", [](std::vector<std::uint8_t>& c) { c.pop_back(); }, "expected U8 of shape");
  expectLie<std::uint8_t>(
      "keys.inner.indices", [](std::vector<std::uint8_t>& c) { c[0] = 255; },
      "keys.inner.indices: expected columns below");
  expectLie<std::uint8_t>(
      "keys.inner.indices", [](std::vector<std::uint8_t>& c) { c[1] = c[0]; },
      "keys.inner.indices: expected columns that rise within a row");
  expectLie<Float16>(
      "values.window",
      [](std::vector<Float16>& w) { w[3] = static_cast<Float16>(std::numeric_limits<float>::infinity()); },
      "values.window: expected finite numbers");
  expectLie<Float16>(
      "values.window", [](std::vector<Float16>& w) { w.resize(w.size() - 40); }, "expected F16 of shape");
}

TEST(KvCacheFileErrors, BitsThatBelongToNoCode) {
  using Cache = KvCache<LowRank<Kivi<3, 32>, 2>, Incoherent<Small>>;  // 20 channels of 2 bits, in 2 bundles
  const TemporaryFolder folder;
  Cache cache({4, 2, 20}, {.window = 40, .longest_block = 120, .merge = true});
  for (const Index tokens : {130, 50}) cache.append(gaussian(tokens, 40, 1), gaussian(tokens, 40, 2));
  ASSERT_EQ(cache.contents().staged, 1);
  save(cache, folder / "kv");
  EXPECT_EQ(load<Cache>(folder / "kv"), cache);
  for (const std::string array : {"keys.inner.codes", "values.codes"}) {
    rewrite<std::uint8_t>(folder / "kv", folder / "lie", "layer.0." + array, [](auto& codes) { codes.back() |= 0x80; });
    expectThrows<FormatError>([&] { (void)load<Cache>(folder / "lie"); },
                              array + ": expected zeros in the bits that belong to no code");
  }
}

TEST(KvCacheFileErrors, BlocksThatWaitToBeMerged) {
  using Cache = KvCache<Kivi<3, 32>>;
  const TemporaryFolder folder;
  Cache cache({4, 2, 20}, {.window = 40, .longest_block = 120, .merge = true});
  for (const Index tokens : {130, 50}) cache.append(gaussian(tokens, 40, 1), gaussian(tokens, 40, 2));
  ASSERT_EQ(cache.contents().staged, 1);
  save(cache, folder / "kv");
  for (const std::string side : {"keys", "values"}) {
    rewrite<float>(folder / "kv", folder / "lie", "layer.0." + side + ".staged.scales",
                   [](auto& scales) { scales.back() = -1; });
    expectThrows<FormatError>([&] { (void)load<Cache>(folder / "lie"); },
                              side + ".staged.scales: expected none below 0");
  }
}

/// The largest sizes that one check lets through have to meet the next; and the least that it does not.
TEST(KvCacheFileErrors, SizesThatPassOneCheckMeetTheNext) {
  using Words = std::vector<std::uint64_t>;
  using Signed = std::vector<std::int64_t>;
  constexpr std::uint64_t kMost = 0x7fffffff;
  constexpr std::int64_t kLongest = std::numeric_limits<std::int64_t>::max();
  for (std::size_t i = 0; i < 8; ++i) {
    const std::uint64_t beyond = i % 2 == 0 ? kMost + 1 : ~std::uint64_t{0};
    expectLie<std::uint64_t>(
        "options", [&](Words& o) { o[i] = beyond; },
        "options: number " + std::to_string(i) + " is " + std::to_string(beyond) + ", beyond 2^31 - 1");
  }
  const std::map<std::size_t, std::string> next = {
      {0, "heads must be a multiple of kv_heads, got 2147483647 and 2"},
      {1, "heads must be a multiple of kv_heads, got 4 and 2147483647"},
      {2, "expected a head_dim of at most 8192, got 2147483647"},
      {3, "expected a multiple of the window, 2147483647, up to 2147483647"},
      {5, "low_rank_iterations must be at most 1000, got 2147483647"},
      {6, "options: merge is 2147483647, expected 0 or 1"},
      {7, "options: 2147483647 staged blocks of 4"}};
  for (const auto& [i, text] : next) {
    expectLie<std::uint64_t>(
        "options", [i = i](Words& o) { o[i] = kMost; }, text);
  }
  // Blocks: ends that do not rise, whatever the difference; tokens that are whole windows, but fewer than count.
  for (const std::int64_t end : {std::int64_t{96}, std::int64_t{-1}, -kLongest - 1}) {
    expectLie<std::int64_t>(
        "ends", [&](Signed& e) { e[1] = end; }, "block 1 ends at " + std::to_string(end) + " and keeps 96 tokens");
  }
  for (const std::int64_t tokens : {std::int64_t{64}, std::int64_t{0}, std::int64_t{-32}, -kLongest - 1}) {
    expectLie<std::int64_t>(
        "stored", [&](Signed& s) { s[0] = tokens; },
        "block 0 ends at 96 and keeps " + std::to_string(tokens) + " tokens, after a block that ends at 0");
  }
  for (const std::int64_t tokens : {std::int64_t{128}, kLongest - 31, kLongest}) {
    expectLie<std::int64_t>(
        "stored", [&](Signed& s) { s[1] = tokens; },
        "block 1 keeps " + std::to_string(tokens) + " tokens, expected a multiple of the window, 32, up to 96");
  }
  // Heads that the bytes of the first blocks fill, but not those of all; the most there can be.
  expectLie<std::uint64_t>(
      "options", [](Words& o) { o[2] = 40; }, "bytes, too few for the numbers of 3 blocks");
  expectLie<std::uint64_t>(
      "options", [](Words& o) { o[0] = o[1] = 65536, o[2] = 8192; }, "bytes, too few for the numbers of 1 blocks");
  expectLie<std::uint64_t>(
      "options", [](Words& o) { o[7] = 5; }, "options: 5 staged blocks of 4");
}

/// What is said of a file whose tensor is said to have numbers of another type, its bytes being the same.
void expectWrongType(const std::string& tensor, Dtype type, const std::string& text) {
  const TemporaryFolder folder;
  save(filled<Mixed>(), folder / "kv");
  const SafetensorsFile file(folder / "kv");
  SafetensorsWriter writer;
  for (const auto& [key, value] : file.metadata()) writer.setMetadata(key, value);
  for (const auto& [name, info] : file.tensors()) {
    const bool other = name == "layer.0." + tensor;
    const auto numbers = static_cast<Index>(8 * info.bytes() / dtypeBits(type));
    writer.addSource(name, other ? type : info.dtype, other ? std::vector{numbers} : info.shape,
                     [&file, name = name](const SafetensorsWriter::Put& put) { put(file.data(name)); });
  }
  writer.write(folder / "lie");
  expectThrows<FormatError>([&] { (void)load<Mixed>(folder / "lie"); }, text);
}

/// Numbers of four bits each, of which there are more than bytes.
TEST(KvCacheFileErrors, AWindowOfMoreNumbersThanBytes) {
  expectWrongType("keys.window", Dtype::kF4, "a window of 2080 numbers in 1040 bytes");
}

TEST(KvCacheFileErrors, NumbersOfAnotherTypeOfTheSameSize) {
  expectWrongType("keys.window", Dtype::kBF16, "expected F16 of shape [520], the file holds BF16 of shape [520]");
  expectWrongType("options", Dtype::kI64, "expected U64 of rank 1, the file holds I64 of shape [9]");
  expectWrongType("ends", Dtype::kF64, "expected I64 of rank 1, the file holds F64 of shape [4]");
}

/// One window of a block that is as long as all that waits.
TEST(KvCacheFileErrors, AsManyTokensAsABlockWait) {
  const TemporaryFolder folder;
  using Plain = KvCache<Small>;
  Plain cache({2, 1, 8}, {.window = 32, .longest_block = 96, .merge = true});
  for (int i = 0; i < 2; ++i) cache.append(gaussian(32, 8, 1), gaussian(32, 8, 2));
  save(cache, folder / "kv");
  EXPECT_EQ(load<Plain>(folder / "kv"), cache);
  rewrite<std::uint64_t>(folder / "kv", folder / "lie", "layer.0.options", [](auto& options) { options[4] = 64; });
  expectThrows<FormatError>([&] { (void)load<Plain>(folder / "lie"); },
                            "64 tokens wait to be merged, expected fewer than the 64 of a block");
}

TEST(KvCacheFileErrors, MissingTensors) {
  const TemporaryFolder folder;
  save(filled<Mixed>(), folder / "kv");
  const SafetensorsFile file(folder / "kv");
  for (const std::string& missing : file.names()) {
    SafetensorsWriter writer;
    for (const auto& [key, value] : file.metadata()) writer.setMetadata(key, value);
    for (const auto& [name, info] : file.tensors()) {
      if (name == missing) continue;
      writer.addSource(name, info.dtype, info.shape,
                       [&file, name = name](const SafetensorsWriter::Put& put) { put(file.data(name)); });
    }
    writer.write(folder / "less");
    try {  // bytes that are missing are found out first
      (void)load<Mixed>(folder / "less");
      ADD_FAILURE() << missing << " is missing";
    } catch (const FormatError& error) {
      using ::testing::HasSubstr;
      EXPECT_THAT(error.what(), ::testing::AnyOf(HasSubstr("holds no tensor"), HasSubstr("too few for the numbers")));
    }
  }
}

}  // namespace
}  // namespace gosset::kv_cache_test
