// SPDX-License-Identifier: Apache-2.0
#include "fuzz.hpp"

#include <gosset/codebook/e8p.hpp>
#include <gosset/io/kv_cache.hpp>
#include <gosset/kv.hpp>

#include <algorithm>
#include <stdexcept>

namespace gosset::fuzz {
namespace {

template <class Cache>
void attend(const Cache& cache) {
  if (cache.size() == 0) return;
  const Index held = cache.size() - cache.forgotten();
  const Eigen::MatrixXf queries = someMatrix(std::min<Index>(held, 5), cache.shape().queryWidth());
  try {
    const RowMatrixXf all = cache.attend(queries);
    expect(all.rows() == queries.rows() && all.cols() == cache.shape().outputWidth(), "a result a query");
    const Eigen::VectorXf last = queries.row(queries.rows() - 1).transpose();
    (void)cache.attend(last, {.sliding_window = 3});
  } catch (const std::invalid_argument&) {  // keys of any size may give scores beyond float
  }
}

template <class Cache>
void append(Cache& cache, const Eigen::MatrixXf& w) {
  if (cache.options().values_in_keys) return cache.append(w.leftCols(cache.shape().kvWidth()));
  cache.append(w.leftCols(cache.shape().kvWidth()), w.leftCols(cache.shape().valueWidth()));
}

Index widest(const KvShape& shape) { return std::max(shape.kvWidth(), shape.valueWidth()); }

template <class Cache>
void use(Cache cache, bool write) {
  const Index size = cache.size(), held = size - cache.forgotten(), width = widest(cache.shape());
  expect(cache.contents().ends.empty() || cache.contents().ends.back() <= size, "blocks within the cache");
  attend(cache);
  const RowMatrixXf keys = cache.keys(), values = cache.values();
  expect(keys.rows() == held && values.rows() == held, "a row a token");
  if (write) {
    SafetensorsWriter writer;
    addKvCache(writer, "c", cache);
    const Bytes bytes = bytesOf(writer);
    expect(readKvCache<Cache>(SafetensorsFile(pathOf(bytes, 1), FileAccess::kLoad), "c") == cache, "the same cache");
  }
  const Eigen::MatrixXf more = someMatrix(std::min<Index>(cache.options().window + 3, 40), width);
  append(cache, more);
  expect(cache.size() == size + more.rows(), "tokens to be appended");
  attend(cache);
  cache.truncate(cache.size() - (cache.size() - cache.forgotten()) / 2);
  for (int token = 0; token < 3; ++token) append(cache, more.topRows(1));
  attend(cache);
}

template <class Cache>
void readOne(const SafetensorsFile& file, bool write, Progress& progress) {
  Cache cache = readKvCache<Cache>(file, "c");
  progress.load();
  const KvShape& shape = cache.shape();
  constexpr Index kMostNumbers = 20'000, kMostIterations = 20;
  const bool small = shape.queryWidth() <= 1024 && shape.outputWidth() <= 1024 &&
                     (cache.size() - cache.forgotten() + cache.options().window) * widest(shape) <= kMostNumbers;
  if (small && cache.options().quantize.low_rank_iterations <= kMostIterations) use(std::move(cache), write);
}

template <class... Caches>
struct CacheList {
  static void read(View input, Progress& progress) {
    const SafetensorsFile file(pathOf(input), FileAccess::kLoad);
    progress.passHeader();
    const std::string format = packedFormat(file, "c").value_or("");
    const auto tryOne = [&]<class Cache>(std::type_identity<Cache>) {
      if (format != Cache::formatName()) return false;
      readOne<Cache>(file, isRare(input), progress);
      return true;
    };
    (void)(tryOne(std::type_identity<Caches>{}) || ...);
  }

  static std::vector<Bytes> seeds() {
    std::vector<Bytes> seeds;
    (addSeeds<Caches>(seeds), ...);
    return seeds;
  }

 private:
  template <class Cache>
  static void addSeeds(std::vector<Bytes>& seeds) {
    for (const bool merge : {false, true}) {
      for (const Index tokens : {3, 45}) {
        Cache cache({4, 2, merge ? 24 : 16}, {.window = 8, .longest_block = 32, .merge = merge});
        const Eigen::MatrixXf w = someMatrix(tokens, cache.shape().kvWidth());
        cache.append(w, 2 * w);
        if (merge) cache.truncate(cache.size() - 1);
        seeds.push_back(fileOf(cache));
      }
    }
    for (const KvOptions& options : {KvOptions{.window = 8, .longest_block = 16, .keep_first = 4},
                                     KvOptions{.window = 8, .longest_block = 16, .forget_beyond = 20},
                                     KvOptions{.window = 8, .longest_block = 16, .values_in_keys = true}}) {
      if (options.values_in_keys && !Cache::kOneFormat) continue;
      Cache cache({4, 2, 16, 8}, options);
      for (const Index tokens : {30, 15}) append(cache, someMatrix(tokens, cache.shape().kvWidth()));
      seeds.push_back(fileOf(cache));
    }
  }

  template <class Cache>
  static Bytes fileOf(const Cache& cache) {
    SafetensorsWriter writer;
    addKvCache(writer, "c", cache);
    return bytesOf(writer);
  }
};

using Caches = CacheList<KvCache<Float16>, KvCache<Gear<2, 32, 2, 50>, Kivi<3, 32>>, KvCache<KvRotated<E8P, 1>>>;

}  // namespace

Reader kvCacheReader() { return {"kv_cache", Caches::seeds, Caches::read, mutateSafetensors}; }

}  // namespace gosset::fuzz
