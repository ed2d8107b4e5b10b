// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "json_object.hpp"
#include "pages.hpp"
#include "quality.hpp"

#include <gosset/io/atomic_file.hpp>
#include <gosset/io/mapped_file.hpp>
#include <gosset/version.hpp>

#include <bit>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <optional>
#include <span>

// The predictions of a float model, kept in a file while quantized ones are held against them: in memory they would
// take 4 bytes times vocab times tokens, 10 GB for 20000 tokens of 128256.
//
// In the file, little-endian: "gosset reference logits 1\n"; u64 length of what follows; the key, JSON; then for each
// predicted token
//   f32  step           what a code is worth, in nats
//   i32  likeliest      the likeliest token
//   f64  loss           the negative log-likelihood of the token that came
//   u16  code[vocab]    token j has the logit -step * code[j], counted from the likeliest; code 65535: probability 0
// The range of a column, of which no more than kRange nats are kept, makes the step: at most 48 / 65534 = .00073 nats,
// so that rounding is off by .00037 at most. That is an error of step^2 / 24 = 2.2e-8 nats in a divergence of 0, and
// the average of tens of thousands of errors of either sign in any other.
namespace llama {

/// What logits were computed from. A file is taken for another run's where any of it differs.
struct ReferenceKey {
  std::string model;   ///< modelHash()
  std::string tokens;  ///< tokensHash(): the text, how it was cut up, and by which tokenizer
  std::string how;     ///< how the model was run
  Index vocab = 0;
  Index predicted = 0;  ///< tokens
};

namespace detail {

/// Not a cryptographic hash: it tells files apart that nobody made to be alike.
class Hash {
 public:
  void add(std::span<const std::byte> bytes) {
    addWords(bytes);
    addNumber(bytes.size());
  }
  /// Without their number: what add() makes of bytes that come in pieces of whole words but for the last, where
  /// addNumber() of them all follows.
  void addWords(std::span<const std::byte> bytes) {
    for (std::size_t at = 0; at < bytes.size(); at += sizeof(std::uint64_t)) {
      std::uint64_t word = 0;
      std::memcpy(&word, bytes.data() + at, std::min(sizeof(word), bytes.size() - at));
      state_ = std::rotl((state_ ^ word) * 0x9E3779B97F4A7C15u, 29);
    }
  }
  void addNumber(std::uint64_t number) {
    state_ = std::rotl((state_ ^ number) * 0x9E3779B97F4A7C15u, 29);
    state_ ^= state_ >> 32;
  }
  std::string text() const {
    constexpr char kDigits[] = "0123456789abcdef";
    std::string digits;
    for (unsigned shift = 64; shift != 0; shift -= 4) digits += kDigits[(state_ >> (shift - 4)) & 15u];
    return digits;
  }

 private:
  std::uint64_t state_ = 0xCBF29CE484222325u;
};

inline constexpr std::string_view kReferenceMagic = "gosset reference logits 1\n";
inline constexpr std::size_t kReferenceHeader = sizeof(float) + sizeof(std::int32_t) + sizeof(double);
inline constexpr std::uint16_t kNoProbability = 65535;

/// gosset's, for results that another version need not repeat.
inline std::string versionText() {
  return std::to_string(GOSSET_VERSION_MAJOR) + "." + std::to_string(GOSSET_VERSION_MINOR) + "." +
         std::to_string(GOSSET_VERSION_PATCH);
}

inline std::string referenceKeyText(const ReferenceKey& key) {
  return nlohmann::ordered_json{{"gosset", versionText()}, {"model", key.model}, {"tokens", key.tokens},
                                {"how", key.how},          {"vocab", key.vocab}, {"predicted", key.predicted}}
      .dump();
}

}  // namespace detail

/// Of all bytes of a model: of a folder, config.json and every file of weights in it. They are read a piece at a time
/// and do not stay in memory.
inline std::string modelHash(const std::filesystem::path& model) {
  std::vector<std::filesystem::path> files = {model};
  if (std::filesystem::is_directory(model)) {
    files.clear();
    for (const auto& entry : std::filesystem::directory_iterator(model)) {
      const auto& path = entry.path();
      const bool weights = path.extension() == ".safetensors" || path.filename() == "config.json";
      if (weights) files.push_back(path);
    }
    std::sort(files.begin(), files.end());
  }
  constexpr std::size_t kPiece = std::size_t{1} << 26;
  detail::Hash hash;
  for (const auto& path : files) {
    const gosset::MappedFile file(path);
    const auto bytes = file.bytes();
    for (std::size_t at = 0; at < bytes.size(); at += kPiece) {
      const auto piece = bytes.subspan(at, std::min(kPiece, bytes.size() - at));
      hash.addWords(piece);
      forgetPages(piece);
    }
    hash.addNumber(bytes.size());
  }
  return hash.text();
}

inline std::string tokensHash(const std::vector<Sequence>& sequences) {
  detail::Hash hash;
  for (const Sequence& sequence : sequences) hash.add(std::as_bytes(std::span(sequence)));
  return hash.text();
}

/// Writes such a file, whole or not at all.
class ReferenceWriter {
 public:
  ReferenceWriter(const std::filesystem::path& path, const ReferenceKey& key)
      : file_(path),
        vocab_(key.vocab),
        record_(detail::kReferenceHeader + static_cast<std::size_t>(key.vocab) * sizeof(std::uint16_t)) {
    const std::string text = detail::referenceKeyText(key);
    const std::uint64_t size = text.size();
    file_.write(std::as_bytes(std::span(detail::kReferenceMagic)));
    file_.write(std::as_bytes(std::span(&size, 1)));
    file_.write(std::as_bytes(std::span(text)));
  }

  /// logits: vocab; `loss`: of the token that came. Throws std::invalid_argument where a logit is NaN or infinity.
  void add(const Eigen::Ref<const Eigen::VectorXf>& logits, double loss) {
    constexpr double kRange = 48;  // e^-48 is 1e-21
    constexpr double kCodes = detail::kNoProbability - 1;
    for (Index j = 0; j < logits.size(); ++j) {
      if (!std::isfinite(logits(j)) || logits.size() != vocab_) {
        throw std::invalid_argument("reference: " + std::to_string(vocab_) + " finite logits expected, found " +
                                    std::to_string(logits(j)) + " for token " + std::to_string(j) + " of " +
                                    std::to_string(logits.size()));
      }
    }
    const auto likeliest = static_cast<std::int32_t>(detail::argmax(logits));
    const double top = static_cast<double>(logits(likeliest));
    const auto step = static_cast<float>(std::min(top - static_cast<double>(logits.minCoeff()), kRange) / kCodes);
    std::byte* end = record_.data();
    append(end, step);
    append(end, likeliest);
    append(end, loss);
    for (Index j = 0; j < logits.size(); ++j) append(end, codeOf(top - static_cast<double>(logits(j)), step));
    file_.write(record_);
  }

  void commit() { file_.commit(); }

 private:
  static std::uint16_t codeOf(double below, float step) {
    if (step == 0.f) return 0;
    const double code = std::floor(below / static_cast<double>(step) + 0.5);
    return code >= detail::kNoProbability ? detail::kNoProbability : static_cast<std::uint16_t>(code);
  }

  template <class Number>
  static void append(std::byte*& end, Number number) {
    std::memcpy(end, &number, sizeof(number));
    end += sizeof(number);
  }

  gosset::AtomicFile file_;
  Index vocab_;
  std::vector<std::byte> record_;
};

/// Such a file, mapped.
class ReferenceLogits {
 public:
  /// Throws gosset::FormatError where `path` is no such file, was made from something else than `key` says, or is not
  /// whole.
  ReferenceLogits(const std::filesystem::path& path, const ReferenceKey& key) : file_(path), vocab_(key.vocab) {
    const std::string source = path.string();
    const auto bytes = file_.bytes();
    const std::string_view text(reinterpret_cast<const char*>(bytes.data()), bytes.size());
    check(text.starts_with(detail::kReferenceMagic), source, ": this is no file of reference logits");
    std::uint64_t size = 0;
    std::size_t at = detail::kReferenceMagic.size();
    check(text.size() - at >= sizeof(size), source, ": is cut off");
    std::memcpy(&size, text.data() + at, sizeof(size));
    at += sizeof(size);
    check(size <= text.size() - at, source, ": is cut off");
    checkKey(text.substr(at, static_cast<std::size_t>(size)), key, source);
    begin_ = at + static_cast<std::size_t>(size);
    const std::size_t expected = begin_ + static_cast<std::size_t>(key.predicted) * recordSize();
    check(bytes.size() == expected, source, ": ", expected, " bytes expected, found ", bytes.size());
  }

  struct Column {
    Eigen::VectorXf logits;  ///< vocab; the likeliest has 0
    Index likeliest = 0;
  };

  /// The negative log-likelihood of predicted token `index`, counted over all sequences.
  double loss(Index index) const {
    double loss = 0;
    std::memcpy(&loss, record(index) + sizeof(float) + sizeof(std::int32_t), sizeof(loss));
    return loss;
  }

  Column column(Index index) const {
    constexpr float kNever = -1e4f;  // whose exponential is 0
    const std::byte* bytes = record(index);
    float step = 0;
    std::int32_t likeliest = 0;
    Column column{Eigen::VectorXf(vocab_), 0};
    std::memcpy(&step, bytes, sizeof(step));
    std::memcpy(&likeliest, bytes + sizeof(step), sizeof(likeliest));
    column.likeliest = likeliest;
    for (Index j = 0; j < vocab_; ++j) {
      std::uint16_t code = 0;
      std::memcpy(&code, bytes + detail::kReferenceHeader + static_cast<std::size_t>(j) * sizeof(code), sizeof(code));
      column.logits(j) = code == detail::kNoProbability ? kNever : -step * static_cast<float>(code);
    }
    return column;
  }

 private:
  const std::byte* record(Index index) const {
    return file_.bytes().data() + begin_ + static_cast<std::size_t>(index) * recordSize();
  }
  std::size_t recordSize() const {
    return detail::kReferenceHeader + static_cast<std::size_t>(vocab_) * sizeof(std::uint16_t);
  }

  static void checkKey(std::string_view text, const ReferenceKey& key, const std::string& source) {
    const nlohmann::json found = gosset::parseJson(text, source);
    const nlohmann::json expected = nlohmann::json::parse(detail::referenceKeyText(key));
    for (const auto& [name, value] : expected.items()) {
      const nlohmann::json there = found.is_object() && found.contains(name) ? found[name] : nlohmann::json();
      if (there == value) continue;
      fail(source, ": holds the logits of another run, whose \"", name, "\" is ", shortText(there), "; here it is ",
           shortText(value), "; remove the file or name another");
    }
  }

  gosset::MappedFile file_;
  Index vocab_;
  std::size_t begin_ = 0;
};

}  // namespace llama
