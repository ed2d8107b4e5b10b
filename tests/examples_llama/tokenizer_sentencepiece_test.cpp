// SPDX-License-Identifier: Apache-2.0
#include "../../examples/llama/tokenizer_file.hpp"

#include "files.hpp"

#include <cstdio>

namespace llama::testing::tokenizer_sentencepiece_test {
namespace {

using gosset::FormatError;
using gosset::testing::expectThrows;
using Tokens = std::vector<Token>;

/// Three control tokens, the bytes, then `words` with falling scores.
SentencePieces piecesOf(const std::vector<std::string>& words) {
  std::vector<SentencePieces::Piece> pieces = {{"<unk>", 0.f}, {"\n<s>\n", 0.f}, {"\n</s>\n", 0.f}};
  for (int byte = 0; byte < 256; ++byte) {
    char name[8];
    std::snprintf(name, sizeof(name), "<0x%02X>", static_cast<unsigned>(byte));
    pieces.push_back({name, 0.f});
  }
  for (const auto& word : words) pieces.push_back({word, -static_cast<float>(pieces.size() - 259)});
  return SentencePieces(pieces);
}

constexpr Token kFirst = 259;  // the first word

Tokenizer wordsTokenizer(const std::vector<std::string>& words) { return tokenizerOf(piecesOf(words)); }

/// The rule as it stands: look at all neighbours, join the best pair (the leftmost of equals), and begin again.
Tokens slowMerges(const SentencePieces& tokenizer, Tokens tokens) {
  const auto text = [&](Token t) { return tokenizer.pieces()[static_cast<std::size_t>(t)].text; };
  for (;;) {
    float best = -1e10f;
    std::size_t at = 0;
    Token joined = -1;
    for (std::size_t i = 0; i + 1 < tokens.size(); ++i) {
      for (std::size_t id = 0; id < tokenizer.pieces().size(); ++id) {
        const auto& piece = tokenizer.pieces()[id];
        if (piece.score > best && piece.text == text(tokens[i]) + text(tokens[i + 1])) {
          best = piece.score;
          at = i;
          joined = static_cast<Token>(id);
        }
      }
    }
    if (joined < 0) return tokens;
    tokens[at] = joined;
    tokens.erase(tokens.begin() + static_cast<std::ptrdiff_t>(at) + 1);
  }
}

TEST(SentencePieces, JoinsTheBestPairFirst) {
  const Tokenizer t = wordsTokenizer({" ", "a", "b", "c", "bc", "ab", " a", " ab"});
  const auto word = [](int i) { return kFirst + i; };
  EXPECT_EQ(t.encode(""), (Tokens{1}));
  EXPECT_EQ(t.encode("a"), (Tokens{1, word(6)}));
  EXPECT_EQ(t.encode("abc"), (Tokens{1, word(6), word(4)}));  // "bc" before "ab"
  EXPECT_EQ(t.encode("ab"), (Tokens{1, word(7)}));            // "ab", then " ab"
  EXPECT_EQ(t.encode("a b"), (Tokens{1, word(6), word(0), word(2)}));
}

TEST(SentencePieces, AmongEqualPairsTheLeftmostIsJoined) {
  const Tokenizer t = wordsTokenizer({" ", "a", "aa"});
  EXPECT_EQ(t.encode("aaa"), (Tokens{1, kFirst, kFirst + 2, kFirst + 1}));
}

TEST(SentencePieces, AnUnknownCharacterStandsAsItsBytes) {
  const Tokenizer t = wordsTokenizer({" ", "\xC3\xA9", "\xF0\x9F\x98\x80"});
  EXPECT_EQ(t.encode("\xC3\xA9"), (Tokens{1, kFirst, kFirst + 1}));
  EXPECT_EQ(t.encode("\xF0\x9F\x98\x80"), (Tokens{1, kFirst, kFirst + 2}));
  EXPECT_EQ(t.encode("\xE2\x82\xAC"), (Tokens{1, kFirst, 3 + 0xE2, 3 + 0x82, 3 + 0xAC}));
  EXPECT_EQ(t.encode("\x80\x80"), (Tokens{1, kFirst, 3 + 0x80, 3 + 0x80}));
  EXPECT_EQ(t.decode(t.encode("\x80")), "\xEF\xBF\xBD");
  EXPECT_EQ(t.decode(t.encode("\xE2\x82\xAC")), "\xE2\x82\xAC");
}

TEST(SentencePieces, WithoutByteTokensAnUnknownCharacterIsUnknown) {
  const Tokenizer t = tokenizerOf(SentencePieces({{"<unk>", 0.f}, {"<s>", 0.f}, {"</s>", 0.f}, {"a", 0.f}}));
  EXPECT_EQ(t.encode("axa"), (Tokens{1, 3, 0, 3}));
  EXPECT_EQ(t.decode(Tokens{0}), "<unk>");
}

TEST(SentencePieces, OfTokensOfOneTextTheFirstIsFound) {
  const SentencePieces t(
      {{"<unk>", 0.f}, {"<s>", 0.f}, {"</s>", 0.f}, {"a", 0.f}, {"a", 1.f}, {"<0x42>", 0.f}, {"<0x42>", 0.f}});
  EXPECT_EQ(t.find("a"), 3);
  EXPECT_EQ(t.encode("aB"), (Tokens{3, 5}));
  EXPECT_EQ(t.bytes(4, false), "a");
  EXPECT_EQ(t.bytes(5, false), "B");
  EXPECT_EQ(t.bytes(6, false), "<0x42>");  // no byte, but a text that looks like one
}

TEST(SentencePieces, DecodesWhatItEncodes) {
  const Tokenizer t = wordsTokenizer({" ", "t", "h", "e", "th", "the", " the"});
  for (const std::string text : {"", "the", " the", "  the the", "\n\x01", "th\xC3\xA9 <0x41> <s>"}) {
    EXPECT_EQ(t.decode(t.encode(text)), text);
  }
  EXPECT_EQ(t.decode(Tokens{1, kFirst + 6}), "the");
  EXPECT_EQ(t.decode(Tokens{7, kFirst + 6}), "\x04 the");
  EXPECT_EQ(t.decode(Tokens{1, 2, -1, 100000}), "");
}

TEST(SentencePieces, TheHeapFindsTheMergesOfTheSlowRule) {
  const SentencePieces pieces =
      piecesOf({" ", "a", "b", "c", "ab", "ba", "aa", "abc", "cab", "aab", "abab", " ab", "bc", "bcb"});
  for (std::uint64_t seed = 0; seed < 300; ++seed) {
    Tokens characters = {kFirst};
    std::string text;
    for (std::uint64_t i = 0; i < 1 + seed % 40; ++i) {
      const auto letter = static_cast<Token>(gosset::randomBits(seed, i) % 3);
      text += static_cast<char>('a' + letter);
      characters.push_back(kFirst + 1 + letter);
    }
    const Tokens expected = slowMerges(pieces, characters);
    ASSERT_EQ(pieces.encode(text), expected) << text;
  }
}

TEST(SentencePieces, ALongTextIsEncodedWhole) {
  const Tokenizer t = wordsTokenizer({" ", "a", "aa", "aaaa"});
  EXPECT_EQ(t.encode(std::string(400000, 'a')).size(), 100002u);
}

TEST(Llama2cTokenizer, BytesComeBack) {
  const Tokenizer t = wordsTokenizer({" ", "a", std::string("\0b", 2), ""});
  const std::string bytes = t.vocabulary().file();
  const auto again = parseLlama2cTokenizer(bytes, t.size(), "x");
  EXPECT_EQ(again->file(), bytes);
  EXPECT_EQ(again->pieces()[261].text, std::string("\0b", 2));
  EXPECT_EQ(again->pieces()[261].score, -2.f);
}

TEST(Llama2cTokenizer, CutOffAnywhereItIsRefused) {
  const Tokenizer t = wordsTokenizer({" ", "abc"});
  const std::string bytes = t.vocabulary().file();
  for (std::size_t size = 0; size < bytes.size(); ++size) {
    EXPECT_THROW(parseLlama2cTokenizer(bytes.substr(0, size), t.size(), "x"), FormatError) << size;
  }
}

TEST(Llama2cTokenizer, SaysWhatIsWrong) {
  const Tokenizer t = tokenizerOf(SentencePieces({{"<unk>", 0.f}, {"a", 0.f}}));
  const std::string bytes = t.vocabulary().file();
  const auto with = [&bytes](std::size_t at, auto number) {
    std::string changed = bytes;
    std::memcpy(changed.data() + at, &number, sizeof(number));
    return changed;
  };
  expectThrows<FormatError>([&] { parseLlama2cTokenizer(bytes, 3, "x.bin"); },
                            "x.bin: the model knows 3 tokens, the tokenizer 2");
  expectThrows<FormatError>([&] { parseLlama2cTokenizer("abc", 3, "x.bin"); },
                            "x.bin: the tokenizer is cut off at byte 0");
  expectThrows<FormatError>([&] { parseLlama2cTokenizer(with(8, std::int32_t{-1}), 2, "x"); },
                            "x: token 0 at byte 12 claims a length of -1 (the longest is 5, and 14 bytes follow)");
  expectThrows<FormatError>([&] { parseLlama2cTokenizer(with(8, std::int32_t{2000000000}), 2, "x"); },
                            "claims a length");
  expectThrows<FormatError>([&] { parseLlama2cTokenizer(with(4, std::nanf("")), 2, "x"); },
                            "x: token 0 has no score (NaN)");
  expectThrows<FormatError>([&] { readTokenizer("/nowhere/t.bin", 2); }, "/nowhere/t.bin: there is no such file");
}

TEST(SentencePieces, OnRealTextItIsTheSlowRule) {
  const auto data = gosset::testing::dataFolder();
  if (!data) GTEST_SKIP() << "no data folder";
  const Tokenizer t = readTokenizer(*data / "models/tok512.bin", 512);
  const auto pieces = parseLlama2cTokenizer(t.vocabulary().file(), 512, "x");
  EXPECT_EQ(t.encode("Once upon a time"), (Tokens{1, 403, 407, 261, 378}));  // as llama2.c encodes it
  const std::string text = readBytes(*data / "text/tinystories_400k.txt", 1 << 20);
  const std::string start = text.substr(0, 300);
  Tokens characters;
  for (const char c : " " + start) {
    for (std::size_t id = kFirst; id < 512; ++id) {
      if (pieces->pieces()[id].text == std::string(1, c)) characters.push_back(static_cast<Token>(id));
    }
    if (c == '\n') characters.push_back(3 + '\n');
  }
  ASSERT_EQ(characters.size(), 301u);
  Tokens expected = slowMerges(*pieces, characters);
  expected.insert(expected.begin(), 1);
  EXPECT_EQ(t.encode(start), expected);
  EXPECT_EQ(t.decode(t.encode(text)), text);
}

}  // namespace
}  // namespace llama::testing::tokenizer_sentencepiece_test
