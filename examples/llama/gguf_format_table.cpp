// SPDX-License-Identifier: Apache-2.0
#include "formats.hpp"
#include "gguf_formats.hpp"
#include "shared_rows.hpp"

#include <algorithm>
#include <array>
#include <cstddef>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

// The types of GGUF files as formats of recipes.
namespace llama {

namespace {

using gosset::AnyMatrix;

struct Type {
  const char* name;
  const char* about;
};

constexpr std::array kTypes = {Type{"F32", "32-bit floats"},
                               Type{"F16", "16-bit floats"},
                               Type{"BF16", "bfloat16"},
                               Type{"Q4_0", "4.5 bits, a scale for 32 weights"},
                               Type{"Q4_1", "5 bits, scale and minimum for 32 weights"},
                               Type{"Q5_0", "5.5 bits, a scale for 32 weights"},
                               Type{"Q5_1", "6 bits, scale and minimum for 32 weights"},
                               Type{"Q8_0", "8.5 bits, a scale for 32 weights"},
                               Type{"Q2_K", "2.6 bits, scale and minimum for 16 weights"},
                               Type{"Q3_K", "3.4 bits, a scale for 16 weights"},
                               Type{"Q4_K", "4.5 bits, scale and minimum for 32 weights"},
                               Type{"Q5_K", "5.5 bits, scale and minimum for 32 weights"},
                               Type{"Q6_K", "6.6 bits, a scale for 16 weights"},
                               Type{"IQ4_NL", "4.5 bits, levels that are not even"},
                               Type{"IQ4_XS", "4.25 bits, levels that are not even"},
                               Type{"TQ1_0", "1.7 bits, -1, 0 and 1"},
                               Type{"TQ2_0", "2.1 bits, -1, 0 and 1"},
                               Type{"MXFP4", "4.25 bits, floats of 4 bits"}};
constexpr std::size_t kFloats = 3;

/// The bytes of all rows.
std::vector<std::byte> bytesOf(const AnyMatrix& matrix) {
  std::vector<std::byte> bytes;
  gosset::GgufWriter::putMatrix(
      matrix, [&](std::span<const std::byte> more) { bytes.insert(bytes.end(), more.begin(), more.end()); });
  return bytes;
}

GgufFeedback feedbackOf(const PackJob& job) {
  return {job.options.damping, job.options.sweeps, job.options.byDiagonal};
}

/// A band of rows each, whose codes depend on no other band; all get all of them.
AnyMatrix packShared(const char* name, const PackJob& job, std::optional<gosset::Hessian> hessian) {
  const gosset::GgmlType& type = *gosset::detail::ggmlTypeNamed(name);
  const Peers& peers = *job.peers;
  const Index rows = job.weights.rows(), cols = job.weights.cols();
  const std::size_t rowBytes = static_cast<std::size_t>(cols / type.block) * type.block_bytes;
  const auto endOf = [&](Index rank) { return rank < 0 ? 0 : bandEnd(rank, peers.count(), rows); };
  const Index begin = endOf(peers.rank() - 1), end = endOf(peers.rank());
  std::vector<std::byte> bytes(static_cast<std::size_t>(rows) * rowBytes);
  if (end > begin) {
    const gosset::RowMatrixXf mine = job.weights.middleRows(begin, end - begin);
    const std::vector<std::byte> band =
        bytesOf(packGguf(name, mine, GgufRounding::kGptq, std::move(hessian), feedbackOf(job)));
    std::copy(band.begin(), band.end(), bytes.begin() + begin * static_cast<Index>(rowBytes));
  }
  std::vector<std::size_t> ends;
  for (Index rank = 0; rank < peers.count(); ++rank) ends.push_back(static_cast<std::size_t>(endOf(rank)) * rowBytes);
  peers.share(bytes, ends);
  return ggufMatrix(type, rows, cols, bytes);
}

template <std::size_t type, GgufRounding rounding>
AnyMatrix packType(PackJob job) {
  constexpr const char* kName = kTypes[type].name;
  if constexpr (rounding == GgufRounding::kNearest) return packGguf(kName, job.weights, rounding, nullptr);
  std::optional<gosset::Hessian> hessian;
  if (job.inputs) hessian = std::exchange(job.inputs, std::nullopt)->hessian;
  const bool shared = rounding == GgufRounding::kGptq && job.peers != nullptr && job.peers->count() > 1 &&
                      job.weights.rows() >= 2 * kBand;
  if (shared) return packShared(kName, job, std::move(hessian));
  return packGguf(kName, job.weights, rounding, std::move(hessian), feedbackOf(job));
}

template <std::size_t type, GgufRounding rounding>
void addEntry(std::vector<FormatEntry>& table) {
  constexpr bool kNearest = rounding == GgufRounding::kNearest, kGptq = rounding == GgufRounding::kGptq;
  const std::string name = kTypes[type].name;
  const std::string way = kNearest ? "nearest" : kGptq ? "gptq" : "importance";
  FormatEntry entry{kNearest ? name : way + "-" + name, kTypes[type].about, "ggml::" + name, &packType<type, rounding>};
  if (type < kFloats) entry.stored = type == 0 ? "float" : type == 1 ? "Float16" : "BFloat16";
  entry.needsCalibration = !kNearest;
  entry.rounding = way;
  table.push_back(std::move(entry));
}

template <std::size_t... types>
std::vector<FormatEntry> makeTable(std::index_sequence<types...>) {
  std::vector<FormatEntry> table;
  (addEntry<types, GgufRounding::kNearest>(table), ...);
  const auto add = [&]<std::size_t type>(std::integral_constant<std::size_t, type>) {
    if constexpr (type >= kFloats) {
      addEntry<type, GgufRounding::kImportance>(table);
      addEntry<type, GgufRounding::kGptq>(table);
    }
  };
  (add(std::integral_constant<std::size_t, types>()), ...);
  return table;
}

}  // namespace

const std::vector<FormatEntry>& ggufFormatTable() {
  static const std::vector<FormatEntry> table = makeTable(std::make_index_sequence<kTypes.size()>());
  return table;
}

}  // namespace llama
