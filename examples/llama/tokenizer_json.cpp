// SPDX-License-Identifier: Apache-2.0
#include "tokenizer_json.hpp"

#include "added_tokens.hpp"
#include "decoder.hpp"
#include "merges.hpp"
#include "pretokenizer.hpp"

#include <array>
#include <unordered_map>

namespace llama {
namespace {

using nlohmann::json;

struct TextHash {
  using is_transparent = void;
  std::size_t operator()(std::string_view text) const { return std::hash<std::string_view>()(text); }
};
using TokenIds = std::unordered_map<std::string, Token, TextHash, std::equal_to<>>;

/// The "model": what becomes of a piece.
class BytePairModel {
 public:
  BytePairModel(const JsonObject& object, Index vocab) : where_(object.where()) {
    checkKind(object);
    byteFallback_ = object.flag("byte_fallback", false);
    fuseUnknown_ = object.flag("fuse_unk", false);
    ignoreMerges_ = object.flag("ignore_merges", false);
    readVocabulary(object, vocab);
    readMerges(object.array("merges"));
    if (object.has("unk_token")) unknown_ = idOf(object.string("unk_token"), "the unknown token");
    for (std::size_t byte = 0; byte < 256; ++byte) bytes_[byte] = find(byteName(byte));
  }

  const TokenIds& ids() const { return ids_; }
  bool byteFallback() const { return byteFallback_; }
  std::optional<Token> find(std::string_view name) const {
    const auto found = ids_.find(name);
    return found == ids_.end() ? std::nullopt : std::optional(found->second);
  }

  void encode(std::string_view piece, std::vector<Token>& tokens) const {
    if (ignoreMerges_) {
      if (const auto whole = find(piece)) return tokens.push_back(*whole);
    }
    std::vector<Token> characters;
    appendCharacters(piece, characters);
    mergeNeighbours(characters, [this](Token a, Token b) -> std::optional<Merge> {
      const auto found = merges_.find(pairKey(a, b));
      return found == merges_.end() ? std::nullopt : std::optional(found->second);
    });
    tokens.insert(tokens.end(), characters.begin(), characters.end());
  }

 private:
  static std::string byteName(std::size_t byte) {
    constexpr char kDigits[] = "0123456789ABCDEF";
    return std::string("<0x") + kDigits[byte / 16] + kDigits[byte % 16] + ">";
  }
  static std::uint64_t pairKey(Token a, Token b) {
    return static_cast<std::uint64_t>(a) << 32 | static_cast<std::uint64_t>(b);
  }

  void checkKind(const JsonObject& object) const {
    if (object.has("type")) {  // older files leave it out
      const std::string type = object.string("type");
      check(type == "BPE", where_, ": a model of type \"", type, "\" cannot be read, only BPE");
    }
    object.expectOnly({"type", "dropout", "unk_token", "continuing_subword_prefix", "end_of_word_suffix", "fuse_unk",
                       "byte_fallback", "ignore_merges", "vocab", "merges"});
    if (object.has("dropout") && object.at("dropout") != 0) {
      fail(where_, ": \"dropout\" (", shortText(object.at("dropout")), ") is for training and cannot be read");
    }
    for (const char* key : {"continuing_subword_prefix", "end_of_word_suffix"}) {
      if (!object.has(key) || object.at(key) == "") continue;
      fail(where_, ": \"", key, "\" (", shortText(object.at(key)), ") cannot be read");
    }
  }

  void readVocabulary(const JsonObject& object, Index vocab) {
    const json& names = object.at("vocab");
    if (!names.is_object()) fail(where_, ": \"vocab\" must be an object, found ", shortText(names));
    ids_.reserve(names.size());
    for (const auto& [name, id] : names.items()) {
      const bool known = id.is_number_unsigned() && id.get<std::uint64_t>() < static_cast<std::uint64_t>(vocab);
      if (!known) {
        fail(where_, ": token ", shortText(json(name)), " has id ", shortText(id), ", the model knows ", vocab,
             " tokens");
      }
      ids_.emplace(name, id.get<Token>());
    }
  }

  Token idOf(const std::string& name, const char* what) const {
    const auto found = find(name);
    if (!found) fail(where_, ": ", what, " ", shortText(json(name)), " is not in \"vocab\"");
    return *found;
  }

  /// A merge is "left right" or ["left", "right"].
  void readMerges(const json& merges) {
    merges_.reserve(merges.size());
    for (const json& merge : merges) {
      std::string left, right;
      if (merge.is_array() && merge.size() == 2 && merge[0].is_string() && merge[1].is_string()) {
        left = merge[0].get<std::string>();
        right = merge[1].get<std::string>();
      } else {
        const std::string both = merge.is_string() ? merge.get<std::string>() : std::string();
        const std::size_t space = both.find(' ');
        const bool two = space != std::string::npos && both.find(' ', space + 1) == std::string::npos;
        if (!two) fail(where_, ": each merge must be a pair of strings, found ", shortText(merge));
        left = both.substr(0, space);
        right = both.substr(space + 1);
      }
      const Token a = idOf(left, "a merge's token"), b = idOf(right, "a merge's token");
      const Token joined = idOf(left + right, "a merge's token");
      merges_.insert_or_assign(pairKey(a, b), Merge{static_cast<double>(merges_.size()), joined});
    }
  }

  void appendCharacters(std::string_view piece, std::vector<Token>& tokens) const {
    bool unknownBefore = false;
    for (std::size_t at = 0; at < piece.size();) {
      const std::string_view character = piece.substr(at, characterAt(piece, at).size);
      at += character.size();
      if (const auto id = find(character)) {
        tokens.push_back(*id);
        unknownBefore = false;
      } else if (byteFallback_ && appendBytes(character, tokens)) {
        unknownBefore = false;
      } else {
        if (!unknown_) {
          throw std::invalid_argument("text: the character " + shortText(json(character)) +
                                      " is no token, and the tokenizer has none for what it does not know");
        }
        if (!unknownBefore || !fuseUnknown_) tokens.push_back(*unknown_);
        unknownBefore = true;
      }
    }
  }

  /// Whether each byte has a token.
  bool appendBytes(std::string_view character, std::vector<Token>& tokens) const {
    const std::size_t before = tokens.size();
    for (const char byte : character) {
      const auto id = bytes_[static_cast<unsigned char>(byte)];
      if (!id) {
        tokens.resize(before);
        return false;
      }
      tokens.push_back(*id);
    }
    return true;
  }

  std::string where_;
  TokenIds ids_;
  std::unordered_map<std::uint64_t, Merge> merges_;
  std::array<std::optional<Token>, 256> bytes_{};
  std::optional<Token> unknown_;
  bool byteFallback_ = false, fuseUnknown_ = false, ignoreMerges_ = false;
};

AddedToken addedToken(const json& entry, const std::string& where) {
  const JsonObject object(entry, where);
  object.expectOnly({"id", "content", "single_word", "lstrip", "rstrip", "normalized", "special"});
  AddedToken token;
  token.content = object.string("content");
  token.id = static_cast<Token>(object.count("id"));
  token.special = object.flag("special", false);
  token.singleWord = object.flag("single_word", false);
  token.lstrip = object.flag("lstrip", false);
  token.rstrip = object.flag("rstrip", false);
  token.normalized = object.flag("normalized", !token.special);
  return token;
}

class JsonTokenizer : public Vocabulary {
 public:
  JsonTokenizer(std::string file, const json& root, Index vocab, const std::string& source)
      : file_(std::move(file)),
        vocab_(vocab),
        model_(JsonObject(root.at("model"), source + ": model"), vocab),
        normalizer_(makeNormalizer(optional(root, "normalizer"), source + ": normalizer")),
        preTokenizer_(makePreTokenizer(optional(root, "pre_tokenizer"), source + ": pre_tokenizer")) {
    for (const auto& [name, id] : model_.ids()) nameToken(name, id);
    readAdded(optional(root, "added_tokens"), source + ": added_tokens");
    const json decoder = optional(root, "decoder");
    if (!decoder.is_null()) {
      decoder_ = makeDecoder(decoder, source + ": decoder");
    } else if (model_.byteFallback()) {
      decoder_ = sentencePieceDecoder();
    } else if (optional(root, "pre_tokenizer").dump().find("ByteLevel") != std::string::npos) {
      decoder_ = byteLevelDecoder();
    }
  }

  Kind kind() const override { return Kind::kHuggingFace; }
  std::string file() const override { return file_; }
  Index size() const override { return static_cast<Index>(names_.size()); }
  bool byteFallback() const { return model_.byteFallback(); }

  std::vector<Token> encode(std::string_view text) const override {
    if (const auto wrong = firstInvalidUtf8(text)) {
      throw std::invalid_argument("text: UTF-8 expected, found at byte " + std::to_string(*wrong) + " the byte " +
                                  std::to_string(static_cast<unsigned char>(text[*wrong])));
    }
    std::vector<Token> tokens;
    for (const TextSegment& segment : plain_.segments(text)) {
      if (segment.token) {
        tokens.push_back(known(segment));
        continue;
      }
      encodeNormalized(normalizer_(std::string(segment.text)), segment.text.data() == text.data(), tokens);
    }
    return tokens;
  }

  std::string bytes(Token token, bool first) const override {
    return decoder_(names_[static_cast<std::size_t>(token)], first);
  }
  std::optional<Token> find(std::string_view name) const override {
    const auto added = added_.find(name);
    return added != added_.end() ? std::optional(added->second) : model_.find(name);
  }
  std::string name(Token token) const override { return names_[static_cast<std::size_t>(token)]; }
  bool isSpecial(Token token) const override { return special_[static_cast<std::size_t>(token)]; }

 private:
  static json optional(const json& root, const char* key) { return root.contains(key) ? root[key] : json(); }

  /// Files know tokens that a model has no embedding for, as Gemma 3 those of images: no text may have them.
  Token known(const TextSegment& segment) const {
    if (*segment.token < vocab_) return *segment.token;
    throw std::invalid_argument("text: has the token " + shortText(json(std::string(segment.text))) + ", " +
                                std::to_string(*segment.token) + ", but the model knows " + std::to_string(vocab_) +
                                " tokens");
  }

  void nameToken(const std::string& name, Token id) {
    const auto at = static_cast<std::size_t>(id);
    if (at >= names_.size()) {
      names_.resize(at + 1);
      special_.resize(at + 1);
    }
    names_[at] = name;
  }

  void readAdded(const json& list, const std::string& where) {
    if (list.is_null()) return;
    if (!list.is_array()) fail(where, ": an array expected, found ", shortText(list));
    std::size_t index = 0;
    for (const json& entry : list) {
      const AddedToken token = addedToken(entry, where + "[" + std::to_string(index++) + "]");
      if (token.id < vocab_) {
        nameToken(token.content, token.id);
        special_[static_cast<std::size_t>(token.id)] = token.special;
        added_.insert_or_assign(token.content, token.id);
      }
      if (token.normalized) {
        normalized_.add(token, normalizedContent(token, where));
      } else {
        plain_.add(token, token.content);
      }
    }
  }

  std::string normalizedContent(const AddedToken& token, const std::string& where) const {
    try {
      return normalizer_(token.content);
    } catch (const std::exception& error) {
      fail(where, ": token ", shortText(json(token.content)), " cannot be normalized: ", error.what());
    }
  }

  void encodeNormalized(const std::string& text, bool atStart, std::vector<Token>& tokens) const {
    for (const TextSegment& segment : normalized_.segments(text)) {
      if (segment.token) {
        tokens.push_back(known(segment));
        continue;
      }
      TextPieces pieces;
      preTokenizer_({std::string(segment.text), atStart && segment.text.data() == text.data()}, pieces);
      for (const TextPiece& piece : pieces) model_.encode(piece.text, tokens);
    }
  }

  std::string file_;
  Index vocab_;
  BytePairModel model_;
  Normalizer normalizer_;
  PreTokenizer preTokenizer_;
  TokenDecoder decoder_;
  AddedTokenFinder plain_, normalized_;
  TokenIds added_;
  std::vector<std::string> names_;
  std::vector<bool> special_;
};

/// What a TemplateProcessing puts around a single text: a token before it, or none.
std::optional<Token> beginOf(const JsonObject& object, const Vocabulary& vocabulary) {
  object.expectOnly({"type", "single", "pair", "special_tokens"});
  std::optional<Token> begin;
  bool text = false;
  for (const json& part : object.array("single")) {
    const JsonObject kind(part, object.where() + ".single");
    kind.expectOnly({"SpecialToken", "Sequence"});
    if (kind.has("Sequence")) {
      text = true;
      continue;
    }
    const std::string name = JsonObject(kind.at("SpecialToken"), kind.where()).string("id");
    check(!text && !begin, object.where(), ": more than one token before a text, or one behind it (", name,
          "), cannot be read");
    begin = vocabulary.find(name);
    check(begin.has_value(), object.where(), ": the token ", shortText(json(name)), " is not in the vocabulary");
  }
  check(text, object.where(), ": \"single\" has no place for the text");
  return begin;
}

void readPostProcessor(const json& entry, const std::string& where, HuggingFaceVocabulary& result) {
  if (entry.is_null()) return;
  const JsonObject object(entry, where);
  const std::string type = object.string("type");
  if (type == "ByteLevel") {  // about places in the text
    object.expectOnly({"type", "add_prefix_space", "trim_offsets", "use_regex"});
  } else if (type == "Sequence") {
    object.expectOnly({"type", "processors"});
    for (const auto& step : object.array("processors")) readPostProcessor(step, where + ".processors", result);
  } else if (type == "TemplateProcessing") {
    check(!result.hasTemplate, where, ": more than one TemplateProcessing cannot be read");
    result.templateBegin = beginOf(object, *result.vocabulary);
    result.hasTemplate = true;
  } else {
    fail(where, ": a post-processor of type \"", type, "\" cannot be read");
  }
}

}  // namespace

HuggingFaceVocabulary parseHuggingFaceTokenizer(std::string_view text, Index vocab, const std::string& source) {
  const json root = gosset::parseJson(text, source);
  const JsonObject object(root, source);
  // How long the texts of a batch shall be is for who asks; nobody does here, as in the library.
  object.expectOnly({"version", "truncation", "padding", "added_tokens", "normalizer", "pre_tokenizer",
                     "post_processor", "decoder", "model"});
  object.at("model");
  auto vocabulary = std::make_shared<const JsonTokenizer>(std::string(text), root, vocab, source);
  HuggingFaceVocabulary result{vocabulary, std::nullopt, false, vocabulary->byteFallback()};
  readPostProcessor(root.contains("post_processor") ? root["post_processor"] : json(), source + ": post_processor",
                    result);
  return result;
}

}  // namespace llama
