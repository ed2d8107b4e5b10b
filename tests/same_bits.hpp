// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <gosset/core/dot.hpp>
#include <gosset/core/types.hpp>

#include "testing.hpp"

#include <cstdint>
#include <iomanip>
#include <map>
#include <sstream>
#include <string>

// What tests need that hold hashes of the same results on every machine: of CMakePresets.json, dispatch runs them on
// each instruction set of this one, neon on 64-bit Arm.
namespace gosset::testing {

/// Nearly Gaussian numbers, by integers and exact sums alone: the functions of C libraries differ.
inline RowMatrixXf sameNumbers(Index rows, Index cols, std::uint64_t seed) {
  RowMatrixXf w(rows, cols);
  for (Index i = 0; i < w.size(); ++i) {
    std::int64_t sum = 0;
    for (std::uint64_t k = 0; k < 12; ++k) {
      sum += static_cast<std::int64_t>(randomBits(seed, 12 * static_cast<std::uint64_t>(i) + k) >> 40);
    }
    w.data()[i] = static_cast<float>(sum - (std::int64_t{6} << 24)) * 0x1p-24f;
  }
  return w;
}

/// Activations: as above, each input akin to the one before it, every seventh five times as large.
inline RowMatrixXf sameActivations(Index tokens, Index inputs, std::uint64_t seed) {
  RowMatrixXf x = sameNumbers(tokens, inputs, seed);
  for (Index j = 1; j < inputs; ++j) x.col(j) += x.col(j - 1) / 2;
  for (Index j = 0; j < inputs; j += 7) x.col(j) *= 4;
  return x;
}

template <class Matrix>
std::uint64_t hashOf(const Matrix& m) {
  const typename Matrix::PlainObject plain = m;
  return hashBytes(plain.data(), sizeof(typename Matrix::Scalar) * static_cast<std::size_t>(plain.size()));
}

/// Which machines come to the same bits.
enum class SameOn {
  kAll,
  kFma,  ///< all that multiply and add at once: x86-64-v3, AVX-512, 64-bit Arm
  kDot   ///< all that have a dot product of bytes: AVX-512, 64-bit Arm
};

/// Results by name, compared with what is written down.
class SameBits {
 public:
  explicit SameBits(std::map<std::string, std::uint64_t> expected) : expected_(std::move(expected)) {}

  void check(const std::string& name, std::uint64_t hash, SameOn machines = SameOn::kAll) {
    const bool promised =
        machines == SameOn::kAll || (machines == SameOn::kFma && has_fma_) || (machines == SameOn::kDot && has_dot_);
    ++checked_;
    if (!promised) return;
    const auto found = expected_.find(name);
    if (found != expected_.end() && found->second == hash) return;
    std::ostringstream line;
    line << "{\"" << name << "\", 0x" << std::hex << std::setw(16) << std::setfill('0') << hash << "u},";
    ADD_FAILURE() << line.str();
  }

  /// Nothing that is written down was left out.
  void finish() const { EXPECT_EQ(checked_, expected_.size()); }

 private:
  bool has_fma_ = gosset::detail::runningAbilities().has_fma, has_dot_ = gosset::detail::runningAbilities().has_dot;
  std::map<std::string, std::uint64_t> expected_;
  std::size_t checked_ = 0;
};

/// A name for tests: letters and digits.
inline std::string nameOfSet(const ::testing::TestParamInfo<std::string>& info) {
  std::string name = info.param;
  std::erase(name, '_');
  return name;
}

/// Tests that run once on each instruction set that there is.
class OnEverySet : public ::testing::TestWithParam<std::string> {
 protected:
  void SetUp() override { useInstructionSet(GetParam()); }
  void TearDown() override { useInstructionSet(before_); }

 private:
  std::string before_ = instructionSet();
};

}  // namespace gosset::testing
