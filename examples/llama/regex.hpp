// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "oniguruma.hpp"
#include "utf8.hpp"

#ifndef PCRE2_CODE_UNIT_WIDTH
#define PCRE2_CODE_UNIT_WIDTH 8
#endif
#include <pcre2.h>

#include <memory>
#include <optional>
#include <stdexcept>
#include <string>
#include <string_view>

namespace llama {

/// A regular expression of a tokenizer.json, matched by PCRE2, compiled to machine code where that can be had. Const
/// operations are safe from many threads.
class Regex {
 public:
  /// Throws std::invalid_argument, which names the pattern, where it is none.
  explicit Regex(std::string_view pattern) : pattern_(pattern) {
    const std::string pcre = pcreFromOniguruma(pattern);
    int error = 0;
    PCRE2_SIZE offset = 0;
    const std::unique_ptr<pcre2_compile_context, Free> context(pcre2_compile_context_create(nullptr));
    pcre2_set_newline(context.get(), PCRE2_NEWLINE_LF);
    code_.reset(pcre2_compile(reinterpret_cast<PCRE2_SPTR>(pcre.data()), pcre.size(),
                              PCRE2_UTF | PCRE2_UCP | PCRE2_MULTILINE | PCRE2_NEVER_BACKSLASH_C, &error, &offset,
                              context.get()));
    if (!code_) {
      throw std::invalid_argument("regular expression \"" + pattern_.substr(0, 80) + "\": " + errorText(error));
    }
    pcre2_jit_compile(code_.get(), PCRE2_JIT_COMPLETE);  // without it, it is interpreted
  }

  /// Calls visit(begin, end) for each match, from left to right; none is empty and at the end of the one before. `text`
  /// must be UTF-8. Throws std::runtime_error, which names the pattern, where matching takes more steps than
  /// kMostSteps for a match: a pattern that backtracks without end is no answer.
  template <class Visit>
  void forEachMatch(std::string_view text, Visit&& visit) const {
    const std::unique_ptr<pcre2_match_data, Free> data(pcre2_match_data_create_from_pattern(code_.get(), nullptr));
    const std::unique_ptr<pcre2_match_context, Free> context(pcre2_match_context_create(nullptr));
    pcre2_set_match_limit(context.get(), kMostSteps);
    std::optional<std::size_t> last;
    for (std::size_t from = 0; from <= text.size();) {
      if (!matches(text, from, data.get(), context.get())) return;
      const PCRE2_SIZE* ends = pcre2_get_ovector_pointer(data.get());
      const std::size_t begin = ends[0], end = ends[1];
      from = end;
      if (begin == end) {
        from += end < text.size() ? characterAt(text, end).size : 1;
        if (last == end) continue;
      }
      last = end;
      visit(begin, end);
    }
  }

  static constexpr std::uint32_t kMostSteps = 100'000'000;

 private:
  struct Free {
    void operator()(pcre2_code* code) const { pcre2_code_free(code); }
    void operator()(pcre2_compile_context* context) const { pcre2_compile_context_free(context); }
    void operator()(pcre2_match_data* data) const { pcre2_match_data_free(data); }
    void operator()(pcre2_match_context* context) const { pcre2_match_context_free(context); }
  };

  static std::string errorText(int error) {
    unsigned char text[256];
    pcre2_get_error_message(error, text, sizeof(text));
    return reinterpret_cast<const char*>(text);
  }

  bool matches(std::string_view text, std::size_t from, pcre2_match_data* data, pcre2_match_context* context) const {
    const auto match = [&](std::uint32_t options) {
      return pcre2_match(code_.get(), reinterpret_cast<PCRE2_SPTR>(text.data()), text.size(), from,
                         options | PCRE2_NO_UTF_CHECK, data, context);
    };
    int result = match(0);
    if (result == PCRE2_ERROR_JIT_STACKLIMIT) result = match(PCRE2_NO_JIT);  // whose memory is on the heap
    if (result == PCRE2_ERROR_NOMATCH) return false;
    if (result >= 0) return true;
    throw std::runtime_error("regular expression \"" + pattern_.substr(0, 80) + "\" fails on a text of " +
                             std::to_string(text.size()) + " bytes at byte " + std::to_string(from) + ": " +
                             errorText(result));
  }

  std::string pattern_;
  std::unique_ptr<pcre2_code, Free> code_;
};

}  // namespace llama
