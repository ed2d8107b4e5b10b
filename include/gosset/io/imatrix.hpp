// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <gosset/core/error.hpp>
#include <gosset/core/types.hpp>
#include <gosset/io/atomic_file.hpp>
#include <gosset/io/file_descriptor.hpp>
#include <gosset/io/gguf.hpp>
#include <gosset/io/gguf_writer.hpp>
#include <gosset/io/mapped_file.hpp>

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <filesystem>
#include <functional>
#include <limits>
#include <map>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

// Importance files of llama.cpp (imatrix): for each tensor, sums of squares of its input activations, channel by
// channel. Two forms,
//
//   GGUF   general.type "imatrix", imatrix.datasets (strings), imatrix.chunk_count, imatrix.chunk_size (uint32);
//          of each tensor NAME two F32 tensors, NAME.in_sum2 (experts x channels) and NAME.counts (experts x 1)
//   .dat   i32 entries; an entry: i32 length, name, i32 count, i32 channels, F32 each; then, in newer ones, i32 chunks,
//          i32 length, the data set's name
//
// Source: github.com/ggml-org/llama.cpp, tools/imatrix/imatrix.cpp.
namespace gosset::GOSSET_ABI {

/// What is known of one tensor's inputs.
struct ImatrixEntry {
  RowMatrixXf sums;        ///< experts x channels (one expert where a layer has none): sums of x^2
  Eigen::VectorXf counts;  ///< experts: what their sums are divided by to be means; 0 where an expert saw nothing

  /// The mean of x^2, experts x channels; 0 where an expert saw nothing.
  RowMatrixXf meanSquares() const {
    RowMatrixXf result = RowMatrixXf::Zero(sums.rows(), sums.cols());
    for (Index i = 0; i < sums.rows(); ++i) {
      if (counts[i] > 0) result.row(i) = sums.row(i) / counts[i];
    }
    return result;
  }
};

struct Imatrix {
  std::map<std::string, ImatrixEntry, std::less<>> entries;  ///< by the tensor's name
  std::vector<std::string> datasets;                         ///< what it was made from
  std::uint32_t chunks = 0;                                  ///< of that, so many
  std::uint32_t chunk_size = 0;                              ///< tokens each; 0 where the file does not say
};

namespace detail {

inline constexpr std::string_view kImatrixSums = ".in_sum2", kImatrixCounts = ".counts";

/// Whether sums are such, and counts 0 or at least 1.
inline bool isSound(const ImatrixEntry& entry) {
  const auto sums = entry.sums.array();
  const auto counts = entry.counts.array();
  return sums.isFinite().all() && (sums >= 0).all() && counts.isFinite().all() && (counts == 0 || counts >= 1).all();
}

/// Takes the .dat form from front to back.
class ImatrixReader {
 public:
  ImatrixReader(std::span<const std::byte> bytes, const std::filesystem::path& path) : bytes_(bytes), path_(path) {}

  Imatrix read() {
    Imatrix result;
    constexpr std::size_t kLeast = 16;  // bytes of an entry
    const std::uint32_t entries = count("entries", kLeast);
    for (std::uint32_t i = 0; i < entries; ++i) readEntry(result);
    if (at_ == bytes_.size()) return result;  // of older programs
    result.chunks = take("the number of chunks");
    if (at_ == bytes_.size()) return result;
    result.datasets.push_back(takeText(count("bytes", 1)));
    if (at_ != bytes_.size()) fail(at_, "expected the end of the file, which has ", bytes_.size(), " bytes");
    return result;
  }

 private:
  template <class... Parts>
  [[noreturn]] void fail(std::size_t byte, const Parts&... parts) const {
    fileError(path_, "byte ", byte, ": ", parts...);
  }

  /// An integer that is not negative.
  std::uint32_t take(std::string_view what) {
    if (bytes_.size() - at_ < 4) fail(at_, "the file ends within ", what);
    std::int32_t value;
    std::memcpy(&value, bytes_.data() + at_, sizeof(value));
    if (value < 0) fail(at_, what, " is ", value);
    at_ += sizeof(value);
    return static_cast<std::uint32_t>(value);
  }

  /// How many things there are, which take at least `size` bytes each.
  std::uint32_t count(std::string_view what, std::size_t size) {
    const std::size_t at = at_;
    const std::uint32_t number = take(what);
    if (number > (bytes_.size() - at_) / size) {
      fail(at, "it claims ", number, " ", what, ", of which the ", bytes_.size() - at_, " bytes left hold at most ",
           (bytes_.size() - at_) / size);
    }
    return number;
  }

  std::string takeText(std::uint32_t size) {
    const std::string text(reinterpret_cast<const char*>(bytes_.data() + at_), size);
    at_ += size;
    return text;
  }

  void readEntry(Imatrix& result) {
    const std::size_t at = at_;
    std::string name = takeText(count("bytes", 1));
    if (name.empty()) fail(at, "an entry has no name");
    ImatrixEntry entry;
    entry.counts = Eigen::VectorXf::Constant(1, static_cast<float>(take("an entry's count")));
    const std::uint32_t channels = count("channels", sizeof(float));
    entry.sums.resize(1, static_cast<Index>(channels));
    if (channels == 0) fail(at, "entry ", printable(name), " has no channels");
    std::memcpy(entry.sums.data(), bytes_.data() + at_, channels * sizeof(float));
    at_ += channels * sizeof(float);
    if (!isSound(entry)) fail(at, "entry ", printable(name), " holds sums of squares that are negative or not finite");
    if (result.entries.contains(name)) fail(at, "entry ", printable(name), " appears twice");
    result.entries.emplace(std::move(name), std::move(entry));
  }

  std::span<const std::byte> bytes_;
  const std::filesystem::path& path_;
  std::size_t at_ = 0;
};

inline Imatrix readImatrixGguf(const GgufFile& file) {
  if (const auto type = file.get<std::string>("general.type"); type != "imatrix") {
    fileError(file.path(), "key 'general.type': expected 'imatrix', got ", printable(type));
  }
  Imatrix result;
  result.datasets = file.get<std::vector<std::string>>("imatrix.datasets");
  result.chunks = file.get<std::uint32_t>("imatrix.chunk_count");
  result.chunk_size = file.get<std::uint32_t>("imatrix.chunk_size");
  for (const std::string& sums : file.names()) {
    if (!sums.ends_with(kImatrixSums)) continue;
    const std::string name = sums.substr(0, sums.size() - kImatrixSums.size()),
                      counts = name + std::string(kImatrixCounts);
    ImatrixEntry entry{file.matrix(sums), {}};
    const RowMatrixXf numbers = file.matrix(counts);
    if (numbers.size() != entry.sums.rows() || entry.sums.size() == 0) {
      file.fail(counts, "expected a count for each of ", entry.sums.rows(), " rows of ", printable(sums), ", got ",
                numbers.size());
    }
    entry.counts = Eigen::Map<const Eigen::VectorXf>(numbers.data(), numbers.size());
    if (!isSound(entry))
      file.fail(sums, "holds sums of squares that are negative or not finite, or counts that are none");
    result.entries.emplace(name, std::move(entry));
  }
  for (const std::string& name : file.names()) {
    const bool known = name.ends_with(kImatrixSums) ||
                       (name.ends_with(kImatrixCounts) &&
                        result.entries.contains(std::string_view(name).substr(0, name.size() - kImatrixCounts.size())));
    if (!known) file.fail(name, "it is no part of an imatrix");
  }
  return result;
}

}  // namespace detail

/// Reads an importance file in either form. Throws FormatError, which names the path and the byte, entry or tensor,
/// where it is truncated, lies about its sizes, or holds sums that are negative or not finite.
inline Imatrix readImatrix(const std::filesystem::path& path) {
  const MappedFile file(path, FileAccess::kLoad);
  const std::span<const std::byte> bytes = file.bytes();
  const bool is_gguf = bytes.size() >= 4 && std::memcmp(bytes.data(), detail::kGgufMagic.data(), 4) == 0;
  if (is_gguf) return detail::readImatrixGguf(GgufFile(path, FileAccess::kLoad));
  return detail::ImatrixReader(bytes, path).read();
}

/// Writes the GGUF form (as AtomicFile does). Errors: std::invalid_argument where an entry has not a count for each row
/// of sums.
inline void writeImatrix(const std::filesystem::path& path, const Imatrix& imatrix) {
  GgufWriter writer;
  writer.set("general.type", "imatrix");
  writer.set("imatrix.datasets", imatrix.datasets);
  writer.set("imatrix.chunk_count", imatrix.chunks);
  writer.set("imatrix.chunk_size", imatrix.chunk_size);
  for (const auto& [name, entry] : imatrix.entries) {
    detail::require(entry.counts.size() == entry.sums.rows() && entry.sums.size() > 0, "imatrix: entry ",
                    detail::printable(name), " has ", entry.counts.size(), " counts for ", entry.sums.rows(),
                    " rows of sums");
    writer.add(name + std::string(detail::kImatrixSums), entry.sums);
    writer.add(name + std::string(detail::kImatrixCounts), RowMatrixXf(entry.counts));
  }
  writer.write(path);
}

/// Writes the .dat form, for programs of before. It has a single count for each entry, a whole number, and one name of
/// a data set. Errors: std::invalid_argument where an entry has more experts than one or another count, or there are
/// more data sets.
inline void writeImatrixDat(const std::filesystem::path& path, const Imatrix& imatrix) {
  std::string bytes;
  const auto put = [&](std::size_t number) {
    constexpr std::size_t kMost = std::numeric_limits<std::int32_t>::max();
    detail::require(number <= kMost, "imatrix: the .dat form holds no number beyond ", kMost, ", got ", number);
    detail::putNumber(bytes, static_cast<std::int32_t>(number));
  };
  put(imatrix.entries.size());
  for (const auto& [name, entry] : imatrix.entries) {
    const float calls = entry.counts.size() == 1 ? entry.counts[0] : -1.f;
    detail::require(calls >= 0 && calls <= 0x1p24f && std::floor(calls) == calls && entry.sums.rows() == 1 &&
                        entry.sums.cols() > 0 && !name.empty(),
                    "imatrix: the .dat form takes entries of one row and a whole count, not ", detail::printable(name),
                    " of ", entry.sums.rows(), " x ", entry.sums.cols());
    put(name.size());
    bytes += name;
    put(static_cast<std::size_t>(calls));
    put(static_cast<std::size_t>(entry.sums.cols()));
    bytes.append(reinterpret_cast<const char*>(entry.sums.data()),
                 static_cast<std::size_t>(entry.sums.size()) * sizeof(float));
  }
  detail::require(imatrix.datasets.size() <= 1, "imatrix: the .dat form names one data set, got ",
                  imatrix.datasets.size());
  put(imatrix.chunks);
  const std::string dataset = imatrix.datasets.empty() ? std::string() : imatrix.datasets.front();
  put(dataset.size());
  bytes += dataset;
  AtomicFile file(path);
  file.write(std::as_bytes(std::span(bytes)));
  file.commit();
}

}  // namespace gosset::GOSSET_ABI
