// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <stdexcept>
#include <string>
#include <string_view>

// The regular expressions of tokenizer.json are Oniguruma's, in Ruby's syntax (its doc/RE). PCRE2 reads nearly the same
// language; this is the rest.
namespace llama {

namespace detail {

/// Goes through a pattern once, copying what both languages read alike.
class OnigurumaReader {
 public:
  explicit OnigurumaReader(std::string_view pattern) : pattern_(pattern) {}

  std::string translated() {
    while (at_ < pattern_.size()) {
      switch (pattern_[at_]) {
        case '\\':
          escape(false);
          break;
        case '[':
          characterClass();
          break;
        case '{':
          repetition();
          break;
        case '(':
          group();
          break;
        default:
          out_ += pattern_[at_++];
      }
    }
    return out_;
  }

 private:
  [[noreturn]] void refuse(const std::string& what) const {
    throw std::invalid_argument("regular expression \"" + std::string(pattern_.substr(0, 80)) + "\": " + what +
                                " at byte " + std::to_string(at_) + " cannot be read");
  }
  char next(std::size_t ahead) const { return at_ + ahead < pattern_.size() ? pattern_[at_ + ahead] : '\0'; }
  bool startsWith(std::string_view text) const { return pattern_.substr(at_).starts_with(text); }
  void copyThrough(char last) {
    const std::size_t end = pattern_.find(last, at_);
    if (end == std::string_view::npos) refuse(std::string("what has no '") + last + '\'');
    out_ += pattern_.substr(at_, end + 1 - at_);
    at_ = end + 1;
  }
  void replace(std::size_t size, std::string_view by) {
    out_ += by;
    at_ += size;
  }

  /// White space is the Unicode property, to which U+0085 belongs; words have marks and no numbers but digits.
  void escape(bool inClass) {
    switch (next(1)) {
      case 's':
        return replace(2, "\\p{White_Space}");
      case 'S':
        return replace(2, "\\P{White_Space}");
      case 'd':
        return replace(2, "\\p{Nd}");
      case 'D':
        return replace(2, "\\P{Nd}");
      case 'w':
        return replace(2, inClass ? "\\p{L}\\p{M}\\p{Nd}\\p{Pc}" : "[\\p{L}\\p{M}\\p{Nd}\\p{Pc}]");
      case 'h':
        return replace(2, inClass ? "0-9A-Fa-f" : "[0-9A-Fa-f]");
      case 'W':
        if (inClass) refuse("\\W in brackets");
        return replace(2, "[^\\p{L}\\p{M}\\p{Nd}\\p{Pc}]");
      case 'u':
        return codePoint();
      case 'p':
      case 'P':
      case 'x':
        if (next(2) == '{') return copyThrough('}');
        return replace(2, pattern_.substr(at_, 2));
      case 'b':
        if (inClass) break;
        [[fallthrough]];
      case 'B':
      case 'H':
      case 'R':
      case 'X':
      case 'K':
      case 'G':
      case 'y':
      case 'Y':
        refuse(std::string("\\") + next(1));
      case '\0':
        refuse("a backslash with nothing behind it");
        break;
      default:
        break;
    }
    replace(2, pattern_.substr(at_, 2));
  }

  /// backslash, u, four hexadecimal digits.
  void codePoint() {
    const std::string digits(pattern_.substr(std::min(at_ + 2, pattern_.size()), 4));
    const bool four = digits.size() == 4 && digits.find_first_not_of("0123456789abcdefABCDEF") == std::string::npos;
    if (!four) refuse("\\u without four hexadecimal digits");
    replace(6, "\\x{" + digits + "}");
  }

  void characterClass() {
    out_ += pattern_[at_++];
    if (next(0) == '^') out_ += pattern_[at_++];
    if (next(0) == ']') refuse("']' first in brackets");
    while (next(0) != ']') {
      if (at_ >= pattern_.size()) refuse("an open bracket without its closing one");
      if (startsWith("&&")) refuse("&& in brackets");
      if (startsWith("[:")) {
        copyThrough(']');
      } else if (next(0) == '[') {
        refuse("brackets in brackets");
      } else if (next(0) == '\\') {
        escape(true);
      } else {
        out_ += pattern_[at_++];
      }
    }
    out_ += pattern_[at_++];
  }

  /// {n,m}+ repeats the repetition there, and takes without giving back here; {n}? is optional there.
  void repetition() {
    const std::size_t end = pattern_.find('}', at_);
    const bool counts = end != std::string_view::npos && end > at_ + 1 &&
                        pattern_.substr(at_ + 1, end - at_ - 1).find_first_not_of("0123456789,") == std::string::npos;
    if (!counts) return replace(1, "\\{");
    const char behind = end + 1 < pattern_.size() ? pattern_[end + 1] : '\0';
    const bool exact = pattern_.substr(at_, end - at_).find(',') == std::string_view::npos;
    if (behind == '+' || (behind == '?' && exact)) refuse(std::string("a count followed by '") + behind + '\'');
    if (next(1) == ',') {  // {,m} is {0,m} there and no count here
      replace(1, "{0");
    }
    copyThrough('}');
  }

  /// (?m means that a dot takes line ends there.
  void group() {
    if (startsWith("(?")) {
      const std::size_t end = pattern_.find_first_of(":)", at_);
      const std::string_view flags = pattern_.substr(at_ + 2, end == std::string_view::npos ? 0 : end - at_ - 2);
      const bool plain = flags.find_first_not_of("imxsu-") == std::string_view::npos;
      if (plain && flags.find_first_of("mxsu") != std::string_view::npos) refuse("the flag m, x, s or u");
    }
    out_ += pattern_[at_++];
  }

  std::string_view pattern_;
  std::size_t at_ = 0;
  std::string out_;
};

}  // namespace detail

/// A pattern for PCRE2 (with UTF, UCP, MULTILINE) that matches what `pattern` matches in Oniguruma. Throws
/// std::invalid_argument, which names it, at what has no like or means something else.
inline std::string pcreFromOniguruma(std::string_view pattern) { return detail::OnigurumaReader(pattern).translated(); }

}  // namespace llama
