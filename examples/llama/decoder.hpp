// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "pretokenizer.hpp"

#include <functional>
#include <string>
#include <vector>

// The "decoder" of a tokenizer.json: what a token adds to a text.
namespace llama {

/// Goes token by token, so that a text can be shown while it is written.
struct TokenDecoder {
  /// The name of a token, or what the step before made of it, to what the next step gets, in the end to bytes; `first`:
  /// no token is before it.
  using Step = std::function<std::string(std::string, bool first)>;

  std::vector<Step> steps;
  std::string stripped;          ///< taken away from the beginning of the whole text
  std::size_t mostStripped = 0;  ///< so many times at most

  std::string operator()(std::string name, bool first) const {
    for (const Step& step : steps) name = step(std::move(name), first);
    for (std::size_t i = 0; first && i < mostStripped && name.starts_with(stripped); ++i)
      name.erase(0, stripped.size());
    return name;
  }
};

namespace detail {

/// "<0x0A>" to its byte.
inline std::string fromByteName(const std::string& name) {
  constexpr std::string_view kDigits = "0123456789abcdefABCDEF";
  const bool isByte = name.size() == 6 && name.starts_with("<0x") && name.back() == '>' &&
                      kDigits.find(name[3]) != std::string_view::npos &&
                      kDigits.find(name[4]) != std::string_view::npos;
  return isByte ? std::string(1, static_cast<char>(std::stoi(name.substr(3, 2), nullptr, 16))) : name;
}

inline TokenDecoder::Step byteLevelStep() {
  return [](const std::string& name, bool) { return fromByteLevel(name).value_or(name); };
}
inline TokenDecoder::Step byteFallbackStep() {
  return [](const std::string& name, bool) { return fromByteName(name); };
}
inline TokenDecoder::Step replaceStep(Normalizer normalizer) {
  return [normalizer = std::move(normalizer)](std::string name, bool) { return normalizer(std::move(name)); };
}

/// The marks of the first token vanish where encoding may have put one there.
inline TokenDecoder::Step metaspaceStep(const JsonObject& object) {
  object.expectOnly({"type", "replacement", "prepend_scheme", "add_prefix_space", "split", "str_rep"});
  const bool prepended = prependScheme(object) != PrependScheme::kNever;
  return [mark = object.string("replacement"), prepended](const std::string& name, bool first) {
    return replaced(mark, name, first && prepended ? "" : " ");
  };
}

/// Takes `content` away from the ends of each token.
inline TokenDecoder::Step stripStep(const std::string& content, std::size_t start, std::size_t stop) {
  return [content, start, stop](std::string name, bool) {
    for (std::size_t i = 0; i < start && name.starts_with(content); ++i) name.erase(0, content.size());
    for (std::size_t i = 0; i < stop && name.ends_with(content); ++i) name.resize(name.size() - content.size());
    return name;
  };
}

/// Behind "Fuse" a step works on the text as a whole: only a strip at its beginning is possible token by token.
inline void addDecoderStep(const nlohmann::json& json, const std::string& where, TokenDecoder& decoder, bool& fused) {
  const JsonObject object(json, where);
  const std::string type = object.string("type");
  if (type == "Sequence") {
    object.expectOnly({"type", "decoders"});
    std::size_t index = 0;
    for (const auto& step : object.array("decoders")) {
      addDecoderStep(step, where + ".decoders[" + std::to_string(index++) + "]", decoder, fused);
    }
    return;
  }
  if (type == "Strip") {
    object.expectOnly({"type", "content", "start", "stop"});
    const std::string content = object.string("content");
    const std::size_t start = object.count("start"), stop = object.count("stop");
    check(!content.empty(), where, ": \"content\" must not be empty");
    if (!fused) return decoder.steps.push_back(stripStep(content, start, stop));
    check(stop == 0 && decoder.mostStripped == 0, where,
          ": behind Fuse, one Strip at the beginning of the text can be read");
    decoder.stripped = content;
    decoder.mostStripped = start;
    return;
  }
  check(!fused, where, ": a decoder of type \"", type, "\" behind Fuse cannot be read");
  if (type == "Fuse") {
    object.expectOnly({"type"});
    fused = true;
  } else if (type == "ByteLevel") {
    object.expectOnly({"type", "add_prefix_space", "trim_offsets", "use_regex"});
    decoder.steps.push_back(byteLevelStep());
  } else if (type == "ByteFallback") {
    object.expectOnly({"type"});
    decoder.steps.push_back(byteFallbackStep());
  } else if (type == "Replace") {
    decoder.steps.push_back(replaceStep(replaceNormalizer(object)));
  } else if (type == "Metaspace") {
    decoder.steps.push_back(metaspaceStep(object));
  } else {
    fail(where, ": a decoder of type \"", type, "\" cannot be read");
  }
}

}  // namespace detail

/// The decoder that `json` describes. Throws gosset::FormatError for a type that is not known, or one that needs the
/// whole text.
inline TokenDecoder makeDecoder(const nlohmann::json& json, const std::string& where) {
  TokenDecoder decoder;
  bool fused = false;
  detail::addDecoderStep(json, where, decoder, fused);
  return decoder;
}

/// For files without one: what SentencePiece's vocabularies mean by their names.
inline TokenDecoder sentencePieceDecoder() {
  TokenDecoder decoder;
  decoder.steps = {[](const std::string& name, bool) { return detail::replaced("\xE2\x96\x81", name, " "); },  // U+2581
                   detail::byteFallbackStep()};
  decoder.stripped = " ";
  decoder.mostStripped = 1;
  return decoder;
}

/// The same for vocabularies of bytes.
inline TokenDecoder byteLevelDecoder() {
  TokenDecoder decoder;
  decoder.steps = {detail::byteLevelStep()};
  return decoder;
}

}  // namespace llama
