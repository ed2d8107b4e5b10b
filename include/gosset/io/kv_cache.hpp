// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <gosset/core/error.hpp>
#include <gosset/io/quantized.hpp>
#include <gosset/io/safetensors.hpp>
#include <gosset/kv/kv_cache.hpp>

#include <cstdint>
#include <cstring>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

// KV caches in safetensors files. The cache `name` is kept as one tensor of rank 1 for each array of its blocks,
// `name.keys.codes`, `name.values.scales` and so on, in which the arrays of all blocks and heads follow each other,
// block after block and head after head, those that wait to be merged as `name.keys.staged.codes`; and
//
//   name.keys.window, name.values.window   the window's tokens, each kv_heads * head_dim (value_dim) numbers
//   name.keys.first, name.values.first     likewise, the first tokens, where such are kept
//   name.ends      I64: position after the last token of each block
//   name.stored    I64: tokens that each block keeps, more than count where it was cut
//   name.options   U64: heads, kv_heads, head_dim, window, longest_block, low_rank_iterations, merge, staged, seed;
//   and,
//                  in version 4, value_dim, keep_first, forget_beyond, values_in_keys, forgotten
//
// The metadata have gosset.<name>.format, such as "KvCache<Float16, Float16>", and gosset.<name>.version. The round
// trip is exact to the bit.
namespace gosset::GOSSET_ABI {

/// The version of the layout of caches that this gosset writes. It reads version 3, too, and writes it where a cache
/// has none of what came with version 4: value_dim, keep_first, forget_beyond, values_in_keys. In version 2 what waited
/// to be merged had no zero points.
inline constexpr int kKvCacheVersion = 4;
inline constexpr int kOldestKvCacheVersion = 3;

namespace detail {

/// A cache's arrays by tensor, in their order.
template <class Cache, class Visit>
void visitKvArrays(Cache& cache, std::string_view name, const Visit& visit) {
  cache.visitFields([&](std::string_view field, auto values) { visit(concat(name, ".", field), values); });
}

template <class T>
void addKvTensor(SafetensorsWriter& writer, const std::string& name, const std::vector<T>& values) {
  writer.add<T>(name, {static_cast<Index>(values.size())}, std::span<const T>(values));
}

/// A tensor of rank 1. Throws FormatError where it is missing or another.
template <class T>
std::vector<T> kvNumbers(const SafetensorsFile& file, const std::string& name, std::optional<std::size_t> count = {}) {
  const TensorInfo& info = file.info(name);
  if (info.dtype != dtypeOf<T>() || info.shape.size() != 1) {
    file.fail(name, "expected ", dtypeName(dtypeOf<T>()), " of rank 1, the file holds ", dtypeName(info.dtype),
              " of shape ", listText(std::span(info.shape)));
  }
  std::vector<T> values(static_cast<std::size_t>(info.shape[0]));
  if (count && values.size() != *count) file.fail(name, "expected ", *count, " numbers, got ", values.size());
  if (!values.empty()) std::memcpy(values.data(), file.data(name).data(), values.size() * sizeof(T));
  return values;
}

/// The version of a cache's file.
inline int kvCacheVersion(const KvShape& shape, const KvOptions& options) {
  const bool plain = shape.value_dim == 0 && options.keep_first == 0 && options.forget_beyond == 0;
  return plain && !options.values_in_keys ? kOldestKvCacheVersion : kKvCacheVersion;
}

struct KvHeader {
  KvShape shape;
  KvOptions options;
  KvContents contents;
};

/// Reads everything but the arrays, and makes sure that it agrees, and that the file has bytes enough for arrays of
/// that size, before memory is asked for.
class KvHeaderReader {
 public:
  template <class Cache>
  static KvHeader read(const SafetensorsFile& file, std::string_view name, Index version, const ScaleFit& fit) {
    KvHeaderReader reader(file, name);
    reader.readOptions(version, fit);
    if (reader.header_.options.values_in_keys && !Cache::kOneFormat) {
      reader.fail("options: values_in_keys is 1, expected 0 for two formats");
    }
    reader.readFirst();
    reader.readBlocks();
    reader.checkBlocks();
    reader.template checkBytes<Cache>();
    reader.checkStaged();
    reader.readWindow();
    return std::move(reader.header_);
  }

 private:
  KvHeaderReader(const SafetensorsFile& file, std::string_view name) : file_(file), name_(name) {}

  template <class... Parts>
  [[noreturn]] void fail(const Parts&... text) const {
    fileError(file_.path(), "KV cache ", printable(name_), ": ", text...);
  }

  std::size_t blocks() const { return header_.contents.ends.size(); }
  Index begin(std::size_t block) const {
    const KvContents& contents = header_.contents;
    return block == 0 ? contents.forgotten + contents.first : contents.ends[block - 1];
  }

  void readOptions(Index version, const ScaleFit& fit) {
    constexpr std::size_t kSeed = 8, kInKeys = 12, kForgotten = 13;
    auto options = kvNumbers<std::uint64_t>(file_, concat(name_, ".options"), version == 3 ? 9 : 14);
    options.resize(14);
    for (std::size_t i = 0; i < options.size(); ++i) {
      const bool large = i == kSeed || i == kForgotten;
      if (!large && options[i] > 0x7fffffffu) fail("options: number ", i, " is ", options[i], ", beyond 2^31 - 1");
    }
    if (options[6] > 1) fail("options: merge is ", options[6], ", expected 0 or 1");
    if (options[kInKeys] > 1) fail("options: values_in_keys is ", options[kInKeys], ", expected 0 or 1");
    if (options[kForgotten] > std::uint64_t{1} << 62) {
      fail("options: forgotten is ", options[kForgotten], ", beyond 2^62");
    }
    const auto at = [&](std::size_t i) { return static_cast<Index>(options[i]); };
    header_ = {{at(0), at(1), at(2), at(9)},
               {.window = at(3),
                .longest_block = at(4),
                .merge = at(6) != 0,
                .keep_first = at(10),
                .forget_beyond = at(11),
                .values_in_keys = at(kInKeys) != 0,
                .quantize = {.fit = fit, .seed = options[kSeed], .low_rank_iterations = static_cast<int>(at(5))}},
               {.staged = at(7), .forgotten = at(kForgotten)}};
    try {
      validate(header_.shape);
      validate(header_.options);
      validate(header_.shape, header_.options);
    } catch (const std::invalid_argument& error) {
      fail(error.what());
    }
    if (header_.contents.forgotten > 0 && header_.options.forget_beyond == 0) {
      fail("options: ", header_.contents.forgotten, " tokens are forgotten, expected none with forget_beyond = 0");
    }
  }

  /// Tokens in floats, of a tensor of the keys.
  Index tokensIn(const char* what, const std::string& tensor) const {
    const auto width = static_cast<std::uint64_t>(header_.shape.kvWidth());
    const TensorInfo& info = file_.info(tensor);
    const auto numbers = static_cast<std::uint64_t>(info.size());
    if (numbers > info.bytes()) fail(what, " of ", numbers, " numbers in ", info.bytes(), " bytes");
    if (numbers % width != 0) fail(what, " of ", numbers, " numbers, no multiple of kv_heads * head_dim = ", width);
    return static_cast<Index>(numbers / width);
  }

  void readFirst() {
    const std::string tensor = concat(name_, ".keys.first");
    if (header_.options.keep_first == 0 || !file_.contains(tensor)) return;
    header_.contents.first = tokensIn("first tokens", tensor);
    if (header_.contents.first > header_.options.keep_first) {
      fail(header_.contents.first, " first tokens, expected at most keep_first = ", header_.options.keep_first);
    }
  }

  void readBlocks() {
    for (const std::int64_t end : kvNumbers<std::int64_t>(file_, concat(name_, ".ends"))) {
      header_.contents.ends.push_back(static_cast<Index>(end));
    }
    for (const std::int64_t tokens : kvNumbers<std::int64_t>(file_, concat(name_, ".stored"), blocks())) {
      header_.contents.stored.push_back(static_cast<Index>(tokens));
    }
  }

  /// Each block counts some of the tokens that it keeps, and these are whole windows.
  void checkBlocks() const {
    const Index window = header_.options.window, longest = tokensInLongestBlock(header_.options);
    for (std::size_t i = 0; i < blocks(); ++i) {
      const Index end = header_.contents.ends[i], stored = header_.contents.stored[i];
      if (end <= begin(i) || stored < end - begin(i)) {
        fail("block ", i, " ends at ", end, " and keeps ", stored, " tokens, after a block that ends at ", begin(i));
      }
      if (stored > longest || stored % window != 0) {
        fail("block ", i, " keeps ", stored, " tokens, expected a multiple of the window, ", window, ", up to ",
             longest);
      }
    }
  }

  /// What the file's bytes cannot fill is a lie.
  template <class Cache>
  void checkBytes() const {
    const std::uint64_t bytes = packedBytes(file_, name_);
    double least = 0;
    for (std::size_t i = 0; i < blocks(); ++i) {
      least += Cache::leastBytes(header_.shape, header_.options, header_.contents.stored[i]);
      if (least > static_cast<double>(bytes)) {
        fail("its tensors hold ", bytes, " bytes, too few for the numbers of ", i + 1, " blocks");
      }
    }
  }

  /// Blocks wait only in a cache that merges, and fewer tokens than a whole block, or they would have been merged.
  void checkStaged() const {
    const auto staged = static_cast<std::size_t>(header_.contents.staged);
    if (staged > blocks()) fail("options: ", staged, " staged blocks of ", blocks());
    if (staged > 0 && !header_.options.merge) {
      fail("options: ", staged, " staged blocks, which wait to be merged, expected none with merge = 0");
    }
    const Index waiting = begin(blocks()) - begin(blocks() - staged);
    if (const Index longest = tokensInLongestBlock(header_.options); waiting >= longest) {
      fail(waiting, " tokens wait to be merged, expected fewer than the ", longest, " of a block");
    }
  }

  void readWindow() {
    header_.contents.window = tokensIn("a window", concat(name_, ".keys.window"));
    if (header_.contents.window >= header_.options.window) {
      fail("a window of ", header_.contents.window, " tokens, expected fewer than the ", header_.options.window,
           " of a block");
    }
    const Index first = header_.contents.first, kept = header_.options.keep_first;
    if (first < kept && (blocks() > 0 || header_.contents.window > 0)) {
      fail(first, " first tokens before others, expected keep_first = ", kept);
    }
  }

  const SafetensorsFile& file_;
  std::string_view name_;
  KvHeader header_;
};

}  // namespace detail

/// Adds a copy of a cache to what `writer` will write. Throws std::invalid_argument where a name is taken.
template <class KeyFormat, class ValueFormat>
void addKvCache(SafetensorsWriter& writer, std::string_view name, const KvCache<KeyFormat, ValueFormat>& cache) {
  using detail::concat;
  detail::require(!writer.contains(concat(name, ".options")), "name: tensor ",
                  detail::printable(concat(name, ".options")), " was added before");
  SafetensorsWriter added;
  // The arrays of a tensor, gathered; bytes, for their types differ.
  std::map<std::string, std::vector<std::byte>> bytes;
  std::map<std::string, Dtype> types;
  detail::visitKvArrays(cache, name, [&]<class T>(const std::string& tensor, std::span<T> values) {
    const auto source = std::as_bytes(values);
    auto& target = bytes[tensor];
    target.insert(target.end(), source.begin(), source.end());
    types.emplace(tensor, dtypeOf<std::remove_const_t<T>>());
  });
  for (auto& [tensor, all] : bytes) {
    const Dtype type = types.at(tensor);
    const auto count = static_cast<Index>(all.size() / dtypeSize(type));
    const auto kept = std::make_shared<std::vector<std::byte>>(std::move(all));
    added.addSource(tensor, type, {count}, [kept](const SafetensorsWriter::Put& put) { put(*kept); });
  }
  const KvContents contents = cache.contents();
  const KvShape& shape = cache.shape();
  const KvOptions& options = cache.options();
  const auto number = [](Index n) { return static_cast<std::uint64_t>(n); };
  detail::addKvTensor(added, concat(name, ".ends"),
                      std::vector<std::int64_t>(contents.ends.begin(), contents.ends.end()));
  detail::addKvTensor(added, concat(name, ".stored"),
                      std::vector<std::int64_t>(contents.stored.begin(), contents.stored.end()));
  const int version = detail::kvCacheVersion(shape, options);
  std::vector<std::uint64_t> numbers = {number(shape.heads),
                                        number(shape.kv_heads),
                                        number(shape.head_dim),
                                        number(options.window),
                                        number(options.longest_block),
                                        number(options.quantize.low_rank_iterations),
                                        options.merge ? 1u : 0u,
                                        number(contents.staged),
                                        options.quantize.seed,
                                        number(shape.value_dim),
                                        number(options.keep_first),
                                        number(options.forget_beyond),
                                        options.values_in_keys ? 1u : 0u,
                                        number(contents.forgotten)};
  if (version == kOldestKvCacheVersion) numbers.resize(9);
  detail::addKvTensor(added, concat(name, ".options"), numbers);
  added.setMetadata(detail::packedKey(name, "format"), cache.formatName());
  added.setMetadata(detail::packedKey(name, "version"), std::to_string(version));
  writer.add(std::move(added));
}

/// Reads the cache `name`, such as readKvCache<KvCache<Kivi<4, 64>>>(file, "layers.0"); `fit` is that of blocks to
/// come, of which the file says nothing. Throws FormatError, which names the cache or the tensor, where it is not
/// there, has another format or version, or its arrays do not fit; memory is asked for only when the file has bytes
/// enough.
template <class Cache>
Cache readKvCache(const SafetensorsFile& file, std::string_view name, const ScaleFit& fit = PublishedRule{}) {
  const auto fail = [&](const auto&... text) {
    detail::fileError(file.path(), "KV cache ", detail::printable(name), ": ", text...);
  };
  const std::string& format = detail::packedEntry(file, name, "format");
  if (format != Cache::formatName()) {
    fail("expected the format ", detail::printable(Cache::formatName()), ", the file holds ",
         detail::printable(format));
  }
  const Index version = detail::packedNumber(file, name, "version");
  if (version < kOldestKvCacheVersion || version > kKvCacheVersion) {
    fail("expected version ", kOldestKvCacheVersion, " or ", kKvCacheVersion, ", the file holds ", version);
  }
  const detail::KvHeader header = detail::KvHeaderReader::read<Cache>(file, name, version, fit);
  Cache cache = [&] {
    const detail::DeferredArrays
        deferred;  // memory for the arrays is asked for when their tensors have been found to fit
    return Cache::shaped(header.shape, header.options, header.contents);
  }();

  // How many numbers of which type each tensor must have, then what they are.
  std::map<std::string, std::pair<Dtype, std::size_t>> expected;
  detail::visitKvArrays(std::as_const(cache), name, [&]<class T>(const std::string& tensor, std::span<T> values) {
    auto& [type, size] = expected[tensor];
    type = dtypeOf<std::remove_const_t<T>>();
    size += values.size();
  });
  for (const auto& [tensor, wanted] : expected) {
    const TensorInfo& info = file.info(tensor);
    const std::vector<Index> shape = {static_cast<Index>(wanted.second)};
    if (info.dtype != wanted.first || info.shape != shape) {
      file.fail(tensor, "expected ", dtypeName(wanted.first), " of shape ", detail::listText(std::span(shape)),
                ", the file holds ", dtypeName(info.dtype), " of shape ", detail::listText(std::span(info.shape)));
    }
  }
  std::map<std::string, std::size_t> taken;
  detail::visitKvArrays(cache, name, [&](const std::string& tensor, auto values) {
    std::size_t& first = taken[tensor];
    if (!values.empty()) std::memcpy(values.data(), file.data(tensor).data() + first, values.size_bytes());
    first += values.size_bytes();
  });
  if (const std::string fault = cache.fault(); !fault.empty()) {
    fail("its arrays hold numbers that make no sense in ", detail::printable(format), ": ", fault);
  }
  return cache;
}

}  // namespace gosset::GOSSET_ABI
