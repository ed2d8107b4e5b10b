// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "check.hpp"
#include "pages.hpp"

#include <gosset/core/float_storage.hpp>
#include <gosset/io/atomic_file.hpp>
#include <gosset/io/mapped_file.hpp>

#include <Eigen/Core>
#include <algorithm>
#include <cmath>
#include <cstring>
#include <string>
#include <string_view>
#include <vector>

// What goes from one block of a model to the next, for all tokens of a text, in a file: of 262144 tokens 4096 wide, 2
// GB in place of 4 GB of memory.
//
// In the file, little-endian: "gosset activations 1\n", 43 bytes of zeros so that what follows is aligned; u64 bits,
// dim, tokens; then for each token
//   f32       unit       of its numbers, a power of two; 1 where bits = 32
//   f16[dim]  numbers    f32 where bits = 32
// The unit brings the largest of a token's numbers to between 2^14 and 2^15: none is too large for 16 bits, whatever a
// model's few large channels hold, and those down to 2^-28 of the largest keep 11 binary digits (a relative error of
// 2^-11).
namespace llama {

using gosset::Index;

/// How activations are kept.
struct ActivationShape {
  int bits = 16;  ///< or 32: as they are
  Index dim = 0;
  Index tokens = 0;

  std::size_t recordBytes() const { return sizeof(float) + static_cast<std::size_t>(dim * bits / 8); }
  std::size_t bytes() const { return kHeader + static_cast<std::size_t>(tokens) * recordBytes(); }

  static constexpr std::string_view kMagic = "gosset activations 1\n";
  static constexpr std::size_t kHeader = 64 + 3 * sizeof(std::uint64_t);
};

/// Writes such a file, whole or not at all.
class ActivationWriter {
 public:
  ActivationWriter(const std::filesystem::path& path, const ActivationShape& shape) : file_(path), shape_(shape) {
    std::string header(64, '\0');
    std::copy(ActivationShape::kMagic.begin(), ActivationShape::kMagic.end(), header.begin());
    for (const Index number : {Index{shape.bits}, shape.dim, shape.tokens}) {
      const auto word = static_cast<std::uint64_t>(number);
      header.append(reinterpret_cast<const char*>(&word), sizeof(word));
    }
    file_.write(std::as_bytes(std::span(header)));
  }

  /// The next tokens: dim x tokens. Throws std::invalid_argument where one is not finite, or there are too many.
  void add(const Eigen::MatrixXf& x) {
    if (x.rows() != shape_.dim || added_ + x.cols() > shape_.tokens) {
      throw std::invalid_argument("activations: " + std::to_string(shape_.tokens - added_) + " tokens more of " +
                                  std::to_string(shape_.dim) + " numbers expected, found " + std::to_string(x.cols()) +
                                  " of " + std::to_string(x.rows()));
    }
    std::vector<std::byte> bytes(static_cast<std::size_t>(x.cols()) * shape_.recordBytes());
    std::byte* to = bytes.data();
    for (Index t = 0; t < x.cols(); ++t, to += shape_.recordBytes()) put(x.col(t), to);
    file_.write(bytes);
  }

  /// Throws std::invalid_argument where tokens are missing.
  void commit() {
    if (added_ != shape_.tokens) {
      throw std::invalid_argument("activations: " + std::to_string(shape_.tokens) + " tokens expected, found " +
                                  std::to_string(added_));
    }
    file_.commit();
  }

 private:
  void put(const Eigen::Ref<const Eigen::VectorXf>& x, std::byte* to) {
    if (!x.allFinite()) {
      throw std::invalid_argument("activations: finite numbers expected, found others in token " +
                                  std::to_string(added_));
    }
    ++added_;
    constexpr int kLargest = 14, kLeastExponent = -126;
    const float largest = x.cwiseAbs().maxCoeff();
    const bool asTheyAre = shape_.bits == 32 || !(largest > 0);
    const float unit = asTheyAre ? 1.f : std::ldexp(1.f, std::max(std::ilogb(largest) - kLargest, kLeastExponent));
    std::memcpy(to, &unit, sizeof(unit));
    to += sizeof(unit);
    if (shape_.bits == 32) {
      std::memcpy(to, x.data(), static_cast<std::size_t>(x.size()) * sizeof(float));
      return;
    }
    const Eigen::Matrix<gosset::Float16, Eigen::Dynamic, 1> numbers = (x / unit).cast<gosset::Float16>();
    std::memcpy(to, numbers.data(), static_cast<std::size_t>(x.size()) * sizeof(gosset::Float16));
  }

  gosset::AtomicFile file_;
  ActivationShape shape_;
  Index added_ = 0;
};

/// Such a file, mapped.
class ActivationFile {
 public:
  /// Throws gosset::FormatError where it is not such a file, or of another shape.
  ActivationFile(const std::filesystem::path& path, const ActivationShape& shape) : file_(path), shape_(shape) {
    const std::string source = path.string();
    const auto bytes = file_.bytes();
    const std::string_view text(reinterpret_cast<const char*>(bytes.data()), bytes.size());
    check(text.starts_with(ActivationShape::kMagic) && bytes.size() >= ActivationShape::kHeader, source,
          ": this is no file of activations");
    std::array<std::uint64_t, 3> found{};
    std::memcpy(found.data(), bytes.data() + 64, sizeof(found));
    const std::array<std::uint64_t, 3> expected = {static_cast<std::uint64_t>(shape.bits),
                                                   static_cast<std::uint64_t>(shape.dim),
                                                   static_cast<std::uint64_t>(shape.tokens)};
    check(found == expected, source, ": ", shape.tokens, " tokens of ", shape.dim, " numbers in ", shape.bits,
          " bits expected, found ", found[2], " of ", found[1], " in ", found[0]);
    check(bytes.size() == shape.bytes(), source, ": ", shape.bytes(), " bytes expected, found ", bytes.size());
  }

  /// Tokens first .. first + count - 1: dim x count. Their pages are given back to the system.
  Eigen::MatrixXf read(Index first, Index count) const {
    const std::size_t record = shape_.recordBytes();
    const auto bytes = file_.bytes().subspan(ActivationShape::kHeader + static_cast<std::size_t>(first) * record,
                                             static_cast<std::size_t>(count) * record);
    Eigen::MatrixXf x(shape_.dim, count);
    const std::byte* from = bytes.data();
    for (Index t = 0; t < count; ++t, from += record) {
      const std::byte* numbers = from + sizeof(float);
      if (shape_.bits == 32) {
        std::memcpy(x.col(t).data(), numbers, static_cast<std::size_t>(shape_.dim) * sizeof(float));
        continue;
      }
      float unit = 0;
      std::memcpy(&unit, from, sizeof(unit));
      Eigen::Matrix<gosset::Float16, Eigen::Dynamic, 1> halves(shape_.dim);
      std::memcpy(halves.data(), numbers, static_cast<std::size_t>(shape_.dim) * sizeof(gosset::Float16));
      x.col(t) = unit * halves.cast<float>();
    }
    forgetPages(bytes);
    return x;
  }

 private:
  gosset::MappedFile file_;
  ActivationShape shape_;
};

}  // namespace llama
