// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <gosset/format/concepts.hpp>
#include <gosset/io/safetensors.hpp>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <random>
#include <span>
#include <string>
#include <string_view>
#include <type_traits>
#include <vector>

// What the harnesses have in common. A reader is fed inputs that libFuzzer makes of seeds, which are what gosset itself
// writes; changes know the format, so that most inputs get past its header. Whatever is read is used: multiplied by,
// appended to, written again and compared. A fault is a crash, what a sanitizer reports, an exception that the reader
// does not promise, or a difference: std::abort().
namespace gosset::fuzz {

using Bytes = std::vector<std::uint8_t>;
using View = std::span<const std::uint8_t>;
using Random = std::minstd_rand;

/// How far reading came.
class Progress {
 public:
  void passHeader() { past_header_ = true; }
  void load() { loaded_ = true; }
  bool pastHeader() const { return past_header_ || loaded_; }
  bool loaded() const { return loaded_; }

 private:
  bool past_header_ = false, loaded_ = false;
};

struct Reader {
  std::string name;
  std::vector<Bytes> (*seeds)();
  /// Reads and uses; throws FormatError where the input is refused.
  void (*read)(View input, Progress& progress);
  /// Another input, at most about as long as `most`.
  Bytes (*mutate)(View input, std::size_t most, Random& random);
};

// readers, each in the file of its name
Reader safetensorsReader();
Reader hessianReader();
Reader quantizedReader();
Reader kvCacheReader();
Reader archiveReader();
Reader modelReader();
Reader tokenizerReader();
Reader ggufReader();
Reader ggufModelReader();
Reader imatrixReader();

/// A number below `count`.
inline std::size_t below(std::size_t count, Random& random) { return random() % count; }

/// A number that programs stumble over, or one near `old`.
std::uint64_t strangeNumber(std::uint64_t old, Random& random);

/// libFuzzer's own changes to the bytes, up to a length.
Bytes mutateFreely(View input, std::size_t most);
/// The same, but the length stays.
void mutateInPlace(std::span<std::uint8_t> bytes);
/// Sets one of the numbers of `width` bytes among the bytes to a strange one.
void mutateNumber(std::span<std::uint8_t> bytes, std::size_t width, Random& random);
/// A small change of a text, which stays printable ASCII.
std::string mutateText(std::string text, Random& random);

/// A change of a safetensors file's content, after which its header agrees with it again.
Bytes mutateSafetensors(View input, std::size_t most, Random& random);
/// A change of one value somewhere in JSON.
std::string mutateJson(const std::string& text, Random& random);

/// A path under which the bytes can be read, until the next call with this `slot`.
std::string pathOf(View bytes, int slot = 0);

/// The file that a writer writes.
Bytes bytesOf(const SafetensorsWriter& writer);

/// True for one input in 64: for checks that take long.
bool isRare(View input);

/// std::abort() unless it holds.
void expect(bool holds, const char* what);

/// Numbers from -1 to 1, the same every time.
Eigen::MatrixXf someMatrix(Index rows, Index cols);

/// Some rate for each tile of 32 columns, in eighths of a bit, where trellis codes have several.
inline int someRate(Index tile) { return 8 + static_cast<int>(tile * 29 % 41); }

/// Bytes of the codes of a matrix with these rates.
inline Index bytesAtRates(Index rows, Index cols) {
  Index bytes = 0;
  for (Index col = 0; col < cols; col += 32) bytes += ceilDiv(std::min<Index>(32, cols - col), 4) * someRate(col / 32);
  return ceilDiv(rows, 16) * bytes;
}

/// A matrix of some format, its arrays filled without quantizing, for which every format would have to be compiled:
/// codes of any kind, but zeros where bits belong to none, scales of a half, columns and sums of rates that rise.
template <class F>
Packed<F> somePacked(Index rows, Index cols) {
  const FieldLengths lengths = [rows, cols](std::string_view name) {
    return name.ends_with("columns") ? 2 : name.ends_with("codes") ? bytesAtRates(rows, cols) : 2 * rows;
  };
  auto packed = Packed<F>::shaped(rows, cols, lengths);
  packed.visitFields([&]<class T>(std::string_view name, std::span<T> values) {
    for (std::size_t i = 0; i < values.size(); ++i) {
      if constexpr (std::is_integral_v<T>) {
        if (name.ends_with("rate_sums")) {
          values[i] = static_cast<T>((i == 0 ? T{} : values[i - 1]) + static_cast<T>(someRate(static_cast<Index>(i))));
          continue;
        }
        if (name.ends_with("indices")) {
          values[i] = static_cast<T>(i % (values.size() / static_cast<std::size_t>(rows)));
          continue;
        }
        values[i] = name.ends_with("counts") ? T{} : static_cast<T>(sizeof(T) == 1 ? 37 * i : i);
        if (packed.fault().ends_with("bits that belong to no code")) values[i] = T{};
      } else if (!name.ends_with("unit")) {
        values[i] = T(0.5f);
      }
    }
  });
  expect(packed.isValid(), "a seed that makes sense");
  return packed;
}

}  // namespace gosset::fuzz
