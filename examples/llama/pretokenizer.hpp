// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "byte_level.hpp"
#include "normalizer.hpp"

#include <functional>
#include <memory>
#include <string>
#include <vector>

// The "pre_tokenizer" of a tokenizer.json: how a text is cut into the pieces that no token reaches across.
namespace llama {

/// A part of a text.
struct TextPiece {
  std::string text;
  bool atStart = false;  ///< nothing of the text is before it
};

using TextPieces = std::vector<TextPiece>;

/// Cuts one piece and appends what comes of it; no part is empty.
using PreTokenizer = std::function<void(const TextPiece&, TextPieces&)>;

namespace detail {

/// What becomes of the parts that match, as tokenizers' documentation names it.
enum class SplitBehavior { kRemoved, kIsolated, kMergedWithPrevious, kMergedWithNext, kContiguous };

inline SplitBehavior splitBehavior(const std::string& name, const std::string& where) {
  if (name == "Removed") return SplitBehavior::kRemoved;
  if (name == "Isolated") return SplitBehavior::kIsolated;
  if (name == "MergedWithPrevious") return SplitBehavior::kMergedWithPrevious;
  if (name == "MergedWithNext") return SplitBehavior::kMergedWithNext;
  if (name == "Contiguous") return SplitBehavior::kContiguous;
  fail(where, ": the behavior \"", name, "\" is none of Removed, Isolated, MergedWithPrevious, MergedWithNext, ",
       "Contiguous");
}

/// A part of a text, and whether it matches.
struct Span {
  std::size_t begin = 0, end = 0;
  bool match = false;
};

/// The matches and what is between them, which together are the text.
template <class Pattern>
std::vector<Span> spansOf(const Pattern& pattern, const std::string& text) {
  std::vector<Span> spans;
  std::size_t done = 0;
  pattern.forEachMatch(text, [&](std::size_t begin, std::size_t end) {
    if (begin > done) spans.push_back({done, begin, false});
    spans.push_back({begin, end, true});
    done = end;
  });
  if (done < text.size()) spans.push_back({done, text.size(), false});
  return spans;
}

/// Joins spans as `behavior` says.
inline std::vector<Span> joined(const std::vector<Span>& spans, SplitBehavior behavior) {
  std::vector<Span> result;
  for (const Span& span : spans) {
    const bool joins =
        !result.empty() && ((behavior == SplitBehavior::kContiguous && span.match == result.back().match) ||
                            (behavior == SplitBehavior::kMergedWithPrevious && span.match && !result.back().match) ||
                            (behavior == SplitBehavior::kMergedWithNext && !span.match && result.back().match));
    if (behavior == SplitBehavior::kRemoved && span.match) continue;
    if (!joins) {
      result.push_back(span);
      continue;
    }
    result.back().end = span.end;
    // What has taken a neighbour in takes no second one: of two matches in a row, one belongs to the text before.
    if (behavior == SplitBehavior::kMergedWithPrevious) result.back().match = true;
    if (behavior == SplitBehavior::kMergedWithNext) result.back().match = false;
  }
  return result;
}

template <class Pattern>
PreTokenizer splitAt(std::shared_ptr<const Pattern> pattern, SplitBehavior behavior, bool invert) {
  return [pattern, behavior, invert](const TextPiece& piece, TextPieces& parts) {
    std::vector<Span> spans = spansOf(*pattern, piece.text);
    for (Span& span : spans) span.match = span.match != invert;
    for (const Span& span : joined(spans, behavior)) {
      if (span.begin == span.end) continue;
      parts.push_back({piece.text.substr(span.begin, span.end - span.begin), piece.atStart && span.begin == 0});
    }
  };
}

/// A string as a pattern.
struct Literal {
  std::string text;

  template <class Visit>
  void forEachMatch(const std::string& in, Visit&& visit) const {
    for (std::size_t at = in.find(text); at != std::string::npos; at = in.find(text, at + text.size())) {
      visit(at, at + text.size());
    }
  }
};

inline PreTokenizer splitAtRegex(const char* pattern, SplitBehavior behavior, const std::string& where) {
  return splitAt(regexOf(pattern, where), behavior, false);
}

inline PreTokenizer splitPreTokenizer(const JsonObject& object) {
  object.expectOnly({"type", "pattern", "behavior", "invert"});
  const SplitBehavior behavior = splitBehavior(object.string("behavior"), object.where());
  const bool invert = object.flag("invert", false);
  return withPattern(object, [&](const auto& pattern) -> PreTokenizer {
    if constexpr (std::is_convertible_v<decltype(pattern), std::string>) {
      return splitAt(std::make_shared<const Literal>(Literal{pattern}), behavior, invert);
    } else {
      return splitAt(pattern, behavior, invert);
    }
  });
}

/// GPT-2's words.
inline constexpr const char* kGpt2Words =
    R"('s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+)";

/// "trim_offsets" is about places in the text, which nobody asks for here.
inline PreTokenizer byteLevelPreTokenizer(const JsonObject& object) {
  object.expectOnly({"type", "add_prefix_space", "trim_offsets", "use_regex"});
  const bool prefix = object.flag("add_prefix_space", true);
  const PreTokenizer words = object.flag("use_regex", true)
                                 ? splitAtRegex(kGpt2Words, SplitBehavior::kIsolated, object.where())
                                 : [](const TextPiece& piece, TextPieces& parts) { parts.push_back(piece); };
  return [prefix, words](const TextPiece& piece, TextPieces& parts) {
    const std::size_t first = parts.size();
    const bool spaced = !prefix || piece.text.starts_with(' ');
    words(spaced ? piece : TextPiece{' ' + piece.text, piece.atStart}, parts);
    for (std::size_t i = first; i < parts.size(); ++i) parts[i].text = toByteLevel(parts[i].text);
  };
}

enum class PrependScheme { kAlways, kFirst, kNever };

/// "prepend_scheme", or "add_prefix_space" of older files.
inline PrependScheme prependScheme(const JsonObject& object) {
  const bool space = object.flag("add_prefix_space", true);
  if (!object.has("prepend_scheme")) return space ? PrependScheme::kAlways : PrependScheme::kNever;
  const std::string scheme = object.string("prepend_scheme");
  check(space || scheme == "never", object.where(), ": \"add_prefix_space\" is false, but \"prepend_scheme\" is \"",
        scheme, "\"");
  if (scheme == "always") return PrependScheme::kAlways;
  if (scheme == "first") return PrependScheme::kFirst;
  check(scheme == "never", object.where(), ": \"prepend_scheme\" must be always, first or never, found \"", scheme,
        "\"");
  return PrependScheme::kNever;
}

/// SentencePiece's words: a mark in place of each space and, by the scheme, before the text.
inline PreTokenizer metaspacePreTokenizer(const JsonObject& object) {
  object.expectOnly({"type", "replacement", "prepend_scheme", "add_prefix_space", "split", "str_rep"});
  const std::string mark = object.string("replacement");
  check(!mark.empty(), object.where(), ": \"replacement\" must not be empty");
  const PrependScheme scheme = prependScheme(object);
  const PreTokenizer words =
      object.flag("split", true)
          ? splitAt(std::make_shared<const Literal>(Literal{mark}), SplitBehavior::kMergedWithNext, false)
          : [](const TextPiece& piece, TextPieces& parts) { parts.push_back(piece); };
  return [mark, scheme, words](const TextPiece& piece, TextPieces& parts) {
    std::string text = replaced(" ", piece.text, mark);
    const bool prepend = scheme == PrependScheme::kAlways || (scheme == PrependScheme::kFirst && piece.atStart);
    if (prepend && !text.starts_with(mark)) text.insert(0, mark);
    words({std::move(text), piece.atStart}, parts);
  };
}

}  // namespace detail

/// The pre-tokenizer that `json` describes; null is none. Throws gosset::FormatError for a type that is not known.
inline PreTokenizer makePreTokenizer(const nlohmann::json& json, const std::string& where) {
  using detail::splitAtRegex;
  using detail::SplitBehavior;
  if (json.is_null()) return [](const TextPiece& piece, TextPieces& parts) { parts.push_back(piece); };
  const JsonObject object(json, where);
  const std::string type = object.string("type");
  if (type == "Split") return detail::splitPreTokenizer(object);
  if (type == "ByteLevel") return detail::byteLevelPreTokenizer(object);
  if (type == "Metaspace") return detail::metaspacePreTokenizer(object);
  if (type == "Digits") {
    object.expectOnly({"type", "individual_digits"});
    const bool each = object.flag("individual_digits", false);
    return splitAtRegex("\\p{N}", each ? SplitBehavior::kIsolated : SplitBehavior::kContiguous, where);
  }
  if (type == "Punctuation") {
    object.expectOnly({"type", "behavior"});
    const std::string behavior = object.has("behavior") ? object.string("behavior") : "Isolated";
    return splitAtRegex("[\\p{P}$+<=>^`|~]", detail::splitBehavior(behavior, where), where);
  }
  if (type == "Whitespace") {
    object.expectOnly({"type"});
    constexpr const char* kWords =
        "[\\p{Alphabetic}\\p{M}\\p{Nd}\\p{Pc}\\p{Join_Control}]+|"
        "[^\\p{Alphabetic}\\p{M}\\p{Nd}\\p{Pc}\\p{Join_Control}\\s]+";
    return detail::splitAt(detail::regexOf(kWords, where), SplitBehavior::kRemoved, true);
  }
  if (type == "WhitespaceSplit") {
    object.expectOnly({"type"});
    return splitAtRegex("\\s", SplitBehavior::kRemoved, where);
  }
  if (type == "Sequence") {
    object.expectOnly({"type", "pretokenizers"});
    std::vector<PreTokenizer> steps;
    for (const auto& step : object.array("pretokenizers")) {
      steps.push_back(makePreTokenizer(step, where + ".pretokenizers[" + std::to_string(steps.size()) + "]"));
    }
    return [steps](const TextPiece& piece, TextPieces& parts) {
      TextPieces pieces = {piece};
      for (const PreTokenizer& step : steps) {
        TextPieces next;
        for (const TextPiece& each : pieces) step(each, next);
        pieces = std::move(next);
      }
      parts.insert(parts.end(), std::make_move_iterator(pieces.begin()), std::make_move_iterator(pieces.end()));
    };
  }
  fail(where, ": a pre-tokenizer of type \"", type, "\" cannot be read");
}

}  // namespace llama
