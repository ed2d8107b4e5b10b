// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <gosset/core/error.hpp>
#include <gosset/core/types.hpp>

#include <cstdint>
#include <cstdio>
#include <fstream>
#include <string>

namespace gosset::bench {

/// A float32 matrix in C order from a NumPy .npy file, version 1.0. Errors: FormatError.
/// Source: NumPy's documentation of numpy.lib.format.
inline RowMatrixXf readNpy(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  if (!file) throw FormatError(path + ": cannot be opened");
  std::string start(10, '\0');
  file.read(start.data(), 10);
  if (start.substr(0, 8) != std::string("\x93NUMPY\x01\x00", 8))
    throw FormatError(path + ": no .npy file of version 1.0");
  const auto byte = [&](std::size_t i) { return static_cast<std::size_t>(static_cast<std::uint8_t>(start[i])); };
  std::string header(byte(8) | byte(9) << 8, '\0');
  file.read(header.data(), static_cast<std::streamsize>(header.size()));
  long rows = 0, cols = 0;
  const std::size_t shape = header.find("'shape': (");
  if (shape == std::string::npos || std::sscanf(header.c_str() + shape, "'shape': (%ld, %ld)", &rows, &cols) != 2 ||
      header.find("'<f4'") == std::string::npos || header.find("'fortran_order': False") == std::string::npos) {
    throw FormatError(path + ": expected a float32 matrix in C order, got " + header);
  }
  RowMatrixXf matrix(rows, cols);
  const auto bytes = static_cast<std::streamsize>(matrix.size()) * static_cast<std::streamsize>(sizeof(float));
  file.read(reinterpret_cast<char*>(matrix.data()), bytes);
  if (file.gcount() != bytes) throw FormatError(path + ": truncated");
  return matrix;
}

}  // namespace gosset::bench
