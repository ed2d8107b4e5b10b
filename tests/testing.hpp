// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <gosset/core/random.hpp>
#include <gosset/core/types.hpp>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <cstdint>
#include <cstdlib>
#include <filesystem>
#include <numbers>
#include <optional>
#include <stdexcept>
#include <string>

namespace gosset::testing {

/// The odd lengths that every kernel is tried on.
inline constexpr Index kOddSizes[] = {1, 7, 8, 9, 63, 65, 172, 417};

/// Number `index` of a stream of N(0,1) draws (Box-Muller).
inline double normal(std::uint64_t seed, std::uint64_t index) {
  const double u = (static_cast<double>(randomBits(seed, 2 * index) >> 11) + 0.5) * 0x1p-53;
  const double v = static_cast<double>(randomBits(seed, 2 * index + 1) >> 11) * 0x1p-53;
  return std::sqrt(-2.0 * std::log(u)) * std::cos(2.0 * std::numbers::pi * v);
}

/// rows x cols independent N(0,1) draws.
inline RowMatrixXf gaussian(Index rows, Index cols, std::uint64_t seed = 1) {
  RowMatrixXf w(rows, cols);
  for (Index i = 0; i < w.size(); ++i) w.data()[i] = static_cast<float>(normal(seed, static_cast<std::uint64_t>(i)));
  return w;
}

/// FNV-1a over bytes: for tests that hold results to the same bits everywhere.
inline std::uint64_t hashBytes(const void* data, std::size_t size) {
  std::uint64_t hash = 0xcbf29ce484222325u;
  for (std::size_t i = 0; i < size; ++i) {
    hash = (hash ^ static_cast<const unsigned char*>(data)[i]) * 0x100000001b3u;
  }
  return hash;
}

/// The folder of shared test data (GOSSET_DATA, or the default beside the project), if it is there.
inline std::optional<std::filesystem::path> dataFolder() {
  const char* named = std::getenv("GOSSET_DATA");
  std::filesystem::path folder = named != nullptr ? named : GOSSET_DATA_DEFAULT;
  if (!std::filesystem::is_directory(folder)) return std::nullopt;
  return folder;
}

/// Expects `action` to throw `Error` with a text that contains `text`.
template <class Error = std::invalid_argument, class Action>
void expectThrows(Action&& action, const std::string& text) {
  try {
    action();
    ADD_FAILURE() << "nothing was thrown; expected: " << text;
  } catch (const Error& error) {
    EXPECT_THAT(error.what(), ::testing::HasSubstr(text));
  }
}

}  // namespace gosset::testing
