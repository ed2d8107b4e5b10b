// SPDX-License-Identifier: Apache-2.0
// Files of caches with what version 4 of their layout brought: values of another width or in the keys, first tokens
// that are kept, old ones that are forgotten.
#include <gosset/io/kv_cache.hpp>

#include <gosset/codebook.hpp>
#include <gosset/kv/formats.hpp>

#include "io/temporary_folder.hpp"
#include "testing.hpp"

#include <functional>
#include <limits>

namespace gosset::kv_cache_options_test {
namespace {

using testing::expectThrows;
using testing::gaussian;
using testing::TemporaryFolder;

using Words = std::vector<std::uint64_t>;

template <class Cache>
void addTokens(Cache& cache, Index count) {
  const KvShape& shape = cache.shape();
  const RowMatrixXf k = gaussian(count, shape.kvWidth(), 1), v = gaussian(count, shape.valueWidth(), 2);
  if (cache.options().values_in_keys) return cache.append(k);
  cache.append(k, v);
}

template <class Cache>
Cache filled(const KvShape& shape, const KvOptions& options, Index tokens) {
  Cache cache(shape, options);
  for (; cache.size() < tokens;) addTokens(cache, std::min<Index>(50, tokens - cache.size()));
  return cache;
}

template <class Cache>
void save(const Cache& cache, const std::filesystem::path& path) {
  SafetensorsWriter writer;
  addKvCache(writer, "c", cache);
  writer.write(path);
}

template <class Format>
class KvCacheOptions : public ::testing::Test {};
using Formats = ::testing::Types<Float16, Kivi<3, 32>, Incoherent<Gear<2, 32, 2, 40>>>;
TYPED_TEST_SUITE(KvCacheOptions, Formats);

TYPED_TEST(KvCacheOptions, ComeBackToTheBit) {
  using Cache = KvCache<TypeParam>;
  const KvShape plain{4, 2, 20}, latent{4, 2, 24, 16};
  const KvOptions all[] = {{.window = 32, .longest_block = 64, .keep_first = 4},
                           {.window = 32, .longest_block = 64, .forget_beyond = 100},
                           {.window = 32, .longest_block = 64, .merge = true, .forget_beyond = 100},
                           {.window = 32, .longest_block = 64, .values_in_keys = true},
                           {.window = 32, .longest_block = 64, .merge = true, .keep_first = 7, .values_in_keys = true},
                           {.window = 32, .longest_block = 64}};
  for (const KvOptions& options : all) {
    for (const KvShape& shape : {plain, latent}) {
      for (const Index tokens : {0, 3, 30, 290}) {
        auto cache = filled<Cache>(shape, options, tokens);
        if (tokens > 100) cache.truncate(tokens - 10);
        const TemporaryFolder folder;
        save(cache, folder / "kv");
        const SafetensorsFile file(folder / "kv");
        const bool old = shape == plain && &options == all + 5;
        EXPECT_EQ(file.metadata().at("gosset.c.version"), old ? "3" : "4");
        auto back = readKvCache<Cache>(file, "c");
        EXPECT_EQ(back, cache);
        EXPECT_EQ(back.forgotten(), cache.forgotten());
        EXPECT_EQ(back.bytes(), cache.bytes());
        for (auto* each : {&cache, &back}) addTokens(*each, 100);
        EXPECT_EQ(back, cache);
        EXPECT_EQ(back.forgotten(), cache.forgotten());
      }
    }
  }
}

/// A copy of a cache's file with other options, or without its tensor of first keys.
void rewrite(const std::filesystem::path& from, const std::filesystem::path& to,
             const std::function<void(Words&)>& change, const std::string& dropped = "") {
  const SafetensorsFile file(from);
  SafetensorsWriter writer;
  for (const auto& [key, value] : file.metadata()) writer.setMetadata(key, value);
  for (const auto& [name, info] : file.tensors()) {
    if (name == dropped) continue;
    std::vector<std::byte> bytes(file.data(name).begin(), file.data(name).end());
    std::vector<Index> shape = info.shape;
    if (name == "c.options") {
      Words words(bytes.size() / 8);
      std::memcpy(words.data(), bytes.data(), bytes.size());
      change(words);
      bytes.resize(words.size() * 8);
      std::memcpy(bytes.data(), words.data(), bytes.size());
      shape = {static_cast<Index>(words.size())};
    }
    writer.addSource(name, info.dtype, shape, [bytes](const SafetensorsWriter::Put& put) { put(bytes); });
  }
  writer.write(to);
}

template <class Cache>
void expectLie(const Cache& cache, const std::function<void(Words&)>& change, const std::string& text,
               const std::string& dropped = "") {
  const TemporaryFolder folder;
  save(cache, folder / "kv");
  rewrite(folder / "kv", folder / "lie", change, dropped);
  expectThrows<FormatError>([&] { (void)readKvCache<Cache>(SafetensorsFile(folder / "lie"), "c"); }, text);
}

TEST(KvCacheOptionsErrors, Lies) {
  using Cache = KvCache<Kivi<3, 32>>;
  const auto kept = filled<Cache>({4, 2, 20}, {.window = 32, .keep_first = 4}, 80);
  const auto forgets = filled<Cache>({4, 2, 20, 10}, {.window = 32, .longest_block = 32, .forget_beyond = 50}, 290);
  ASSERT_GT(forgets.forgotten(), 0);
  expectLie(
      kept, [](Words& o) { o.pop_back(); }, "expected 14 numbers, got 13");
  expectLie(
      kept, [](Words& o) { o[9] = 8193; }, "expected a value_dim of 0 to 8192, got 8193");
  expectLie(
      kept, [](Words& o) { o[9] = 10; }, "c.values.");
  expectLie(
      kept, [](Words& o) { o[10] = 3; }, "4 first tokens, expected at most keep_first = 3");
  expectLie(
      kept, [](Words& o) { o[10] = 5; }, "4 first tokens before others, expected keep_first = 5");
  expectLie(
      kept, [](Words& o) { o[10] = std::uint64_t{1} << 31; }, "options: number 10 is 2147483648, beyond 2^31 - 1");
  expectLie(
      kept, [](Words& o) { o[11] = 9; }, "one of them must be 0");
  expectLie(
      kept, [](Words& o) { o[12] = 2; }, "options: values_in_keys is 2, expected 0 or 1");
  expectLie(
      kept, [](Words& o) { o[13] = 1; }, "options: 1 tokens are forgotten, expected none with forget_beyond = 0");
  expectLie(
      kept, [](Words&) {}, "block 0 ends at 36 and keeps 32", "c.keys.first");
  expectLie(
      filled<Cache>({4, 2, 20}, {.window = 32, .keep_first = 4}, 9), [](Words&) {},
      "0 first tokens before others, expected keep_first = 4", "c.keys.first");
  expectLie(
      kept, [](Words&) {}, "c.values.first", "c.values.first");
  expectLie(
      forgets, [](Words& o) { o[9] = 0; }, "too few for the numbers of 3 blocks");
  expectLie(
      forgets, [](Words& o) { o[13] -= 1; }, "block 0 ends at ");
  expectLie(
      forgets, [](Words& o) { o[13] = 290; }, "block 0 ends at ");
  expectLie(
      forgets, [](Words& o) { o[13] = (std::uint64_t{1} << 62) + 1; },
      "options: forgotten is 4611686018427387905, beyond 2^62");
  expectLie(
      forgets, [](Words& o) { o[13] = std::uint64_t{1} << 62; }, "after a block that ends at 4611686018427387904");
  expectLie(
      forgets, [](Words& o) { o[12] = 1, o[9] = 21; },
      "values_in_keys needs a value_dim of at most head_dim = 20, got 21");
  using Two = KvCache<Float16, BFloat16>;
  expectLie(
      filled<Two>({4, 2, 20}, {.window = 32, .keep_first = 4}, 80), [](Words& o) { o[12] = 1; },
      "options: values_in_keys is 1, expected 0 for two formats");
  using Half = KvCache<Float16>;
  auto infinite = filled<Half>({1, 1, 2}, {.window = 32, .keep_first = 4}, 10);
  infinite.visitFields([](std::string_view name, auto values) {
    using T = typename decltype(values)::value_type;
    if (name == "values.first") values[1] = static_cast<T>(std::numeric_limits<float>::infinity());
  });
  expectLie(
      infinite, [](Words&) {}, "values.first: expected finite numbers");
}

}  // namespace
}  // namespace gosset::kv_cache_options_test
