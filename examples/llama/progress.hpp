// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <unistd.h>

#include <algorithm>
#include <iostream>
#include <string>
#include <utility>

namespace llama {

/// A line on stderr that fills while work goes on; nothing where stderr is no terminal.
class Progress {
 public:
  Progress(std::string label, std::size_t total) : label_(std::move(label)), total_(std::max<std::size_t>(total, 1)) {
    draw();
  }
  ~Progress() {
    if (terminal_) std::cerr << "\r\x1b[K" << std::flush;
  }
  Progress(const Progress&) = delete;
  Progress& operator=(const Progress&) = delete;

  void step(std::size_t steps = 1) {
    done_ = std::min(done_ + steps, total_);
    draw();
  }

 private:
  void draw() {
    constexpr std::size_t kWidth = 40;
    const std::size_t filled = done_ * kWidth / total_;
    if (!terminal_ || filled == drawn_) return;
    drawn_ = filled;
    std::cerr << "\r\x1b[K" << label_ << " [" << std::string(filled, '#') << std::string(kWidth - filled, '.') << ']'
              << std::flush;
  }

  std::string label_;
  std::size_t total_;
  std::size_t done_ = 0;
  std::size_t drawn_ = static_cast<std::size_t>(-1);
  bool terminal_ = isatty(STDERR_FILENO) == 1;
};

}  // namespace llama
