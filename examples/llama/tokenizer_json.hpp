// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "tokenizer.hpp"

#include <memory>
#include <string>
#include <string_view>

// Hugging Face's tokenizer.json with a BPE model, as its library "tokenizers" reads it:
//   1. added tokens are found in the text (added_tokens.hpp);
//   2. what is between them is normalized (normalizer.hpp), and added tokens that are "normalized" are found in that;
//   3. what is left is cut into pieces (pretokenizer.hpp);
//   4. each piece becomes its characters, and these are merged by rank (merges.hpp). A character without a token stands
//      as its bytes where there is "byte_fallback", else as "unk_token".
// A Unigram or WordPiece model, a word's prefix or suffix, dropout, and every type or field of a name that is not known
// are refused by that name.
namespace llama {

/// What a tokenizer.json says besides its vocabulary.
struct HuggingFaceVocabulary {
  std::shared_ptr<const Vocabulary> vocabulary;
  std::optional<Token> templateBegin;  ///< what its post_processor puts before a text
  bool hasTemplate = false;            ///< it has a post_processor that says so, or that nothing is put there
  bool byteFallback = false;
};

/// Throws gosset::FormatError, its text beginning with `source`, where `text` is none, or its model has a token that is
/// not below `vocab`. Encoding throws std::invalid_argument where a text is no UTF-8, has an added token that is not
/// below `vocab`, or a character that is no token while there is neither byte fallback nor an unknown token.
HuggingFaceVocabulary parseHuggingFaceTokenizer(std::string_view text, Index vocab, const std::string& source);

}  // namespace llama
