// SPDX-License-Identifier: Apache-2.0
#include "../../examples/llama/byte_pair.hpp"
#include "../../examples/llama/load.hpp"

#include "fuzz.hpp"

#include <unistd.h>

#include <cstring>
#include <filesystem>
#include <string>

// What the programs of examples/llama read. An input is a byte, which says what it is, and
//   model      0: the length of a config.json (u32), the config.json, a model.safetensors; 1: a llama2.c checkpoint
//   tokenizer  0: a tokenizer.json; 1: a llama2.c tokenizer
namespace gosset::fuzz {
namespace {

using llama::Config, llama::Model, llama::Token, llama::Tokenizer;

constexpr Index kVocab = 24;

Config someConfig() {
  Config config;
  config.dim = 4;
  config.hidden = 6;
  config.layers = 1;
  config.heads = 2;
  config.kvHeads = 1;
  config.headDim = 2;
  config.vocab = 5;
  config.context = 8;
  return config;
}

Model someModel(const Config& config, bool tied) {
  auto model = llama::emptyWeights<RowMatrixXf>(config, !tied);
  model.embedding = someMatrix(model.config.vocab, model.config.dim);
  llama::forEachFloat(
      model, [&](const llama::FloatInfo& info, auto& numbers) { numbers = someMatrix(info.shape.front(), 1); });
  llama::forEachLinear(model,
                       [](const llama::LinearInfo& info, RowMatrixXf& w) { w = someMatrix(info.rows, info.cols); });
  return model;
}

std::string text(View bytes) { return {reinterpret_cast<const char*>(bytes.data()), bytes.size()}; }

void append(Bytes& bytes, const std::string& more) { bytes.insert(bytes.end(), more.begin(), more.end()); }

template <class Number>
void appendNumber(Bytes& bytes, Number number) {
  const auto* first = reinterpret_cast<const std::uint8_t*>(&number);
  bytes.insert(bytes.end(), first, first + sizeof(Number));
}

// Models

std::pair<View, View> configAndTensors(View input) {
  std::uint32_t length = 0;
  if (input.size() >= 5) std::memcpy(&length, input.data() + 1, 4);
  const View rest = input.subspan(std::min<std::size_t>(5, input.size()));
  const std::size_t split = std::min<std::size_t>(length, rest.size());
  return {rest.first(split), rest.subspan(split)};
}

/// A folder whose files are what pathOf() shows.
const std::filesystem::path& modelFolder() {
  static const std::filesystem::path folder = [] {
    std::string name = (std::filesystem::temp_directory_path() / "gosset-fuzz-model-XXXXXX").string();
    expect(::mkdtemp(name.data()) != nullptr, "a folder for a model");
    std::filesystem::create_symlink(pathOf({}, 0), name + "/config.json");
    std::filesystem::create_symlink(pathOf({}, 1), name + "/model.safetensors");
    static const std::string kept = name;
    std::atexit([] { std::filesystem::remove_all(kept); });
    return name;
  }();
  return folder;
}

void useModel(const Model& model) {
  expect(model.layers.size() == static_cast<std::size_t>(model.config.layers), "as many layers");
  llama::forEachLinear(model, [](const llama::LinearInfo& info, const RowMatrixXf& w) {
    expect(w.rows() == info.rows && w.cols() == info.cols && w.allFinite(), "finite weights of the shape");
  });
  llama::forEachFloat(model, [&](const llama::FloatInfo& info, const auto& numbers) {
    expect(numbers.size() > 0 && numbers.rows() == info.shape.front() && numbers.allFinite(), "finite floats");
  });
  const bool plain = model.configText.empty();
  const std::string config = plain ? llama::huggingFaceConfigText(model.config, !model.output) : model.configText;
  expect(llama::parseHuggingFaceConfig(config, "again").config == model.config, "the same config");
}

void readFolder(View input, Progress& progress) {
  const auto [config, tensors] = configAndTensors(input);
  modelFolder();
  pathOf(config, 0);
  pathOf(tensors, 1);
  llama::parseHuggingFaceConfig(text(config), "config");
  progress.passHeader();
  const Model model = llama::readHuggingFace(modelFolder());
  progress.load();
  useModel(model);
}

void readCheckpoint(View input, Progress& progress) {
  const View bytes = input.subspan(1);
  // The sizes fit where the file's length is what they ask for: that is the header.
  const Model model = llama::readLlama2c(pathOf(bytes));
  progress.load();
  useModel(model);
}

void readModel(View input, Progress& progress) {
  if (input.empty()) return;
  input[0] % 2 == 0 ? readFolder(input, progress) : readCheckpoint(input, progress);
}

std::string checkpointBytes(const Model& model) {
  const Config& c = model.config;
  Bytes bytes;
  for (const Index size :
       {c.dim, c.hidden, c.layers, c.heads, c.kvHeads, model.output ? -c.vocab : c.vocab, c.context}) {
    appendNumber(bytes, static_cast<std::int32_t>(size));
  }
  const std::uint64_t floats = llama::detail::llama2cFloats(c, model.output.has_value());
  for (std::uint64_t i = 0; i < floats; ++i) appendNumber(bytes, static_cast<float>(i % 7) - 3);
  return text(bytes);
}

/// A folder's input: its config, and the tensors that the config asks for.
Bytes folderSeed(const std::string& config, const Model& model) {
  SafetensorsWriter writer;
  const auto add = [&](const std::string& name, const auto& numbers) {
    writer.add(name, numbers.template cast<Float16>().eval());
  };
  add(llama::embeddingName(), model.embedding);
  llama::forEachFloat(model, [&](const llama::FloatInfo& info, const auto& numbers) { add(info.name, numbers); });
  llama::forEachLinear(model, [&](const llama::LinearInfo& info, const RowMatrixXf& w) { add(info.name, w); });
  Bytes folder = {0};
  appendNumber(folder, static_cast<std::uint32_t>(config.size()));
  append(folder, config);
  append(folder, text(bytesOf(writer)));
  return folder;
}

/// Families whose tensors are called as the engine calls them, with all that a config can ask for.
std::vector<std::string> familyConfigs() {
  const std::string sizes =
      R"("hidden_size":4,"intermediate_size":6,"num_hidden_layers":1,"num_attention_heads":2,"num_key_value_heads":1,)"
      R"("vocab_size":5,"max_position_embeddings":8,"head_dim":2,"tie_word_embeddings":true,)";
  return {"{" + sizes +
              R"("model_type":"qwen2_moe","num_experts":2,"num_experts_per_tok":1,"moe_intermediate_size":3,)"
              R"("shared_expert_intermediate_size":2})",
          "{" + sizes +
              R"("model_type":"gemma3_text","sliding_window":3,"layer_types":["sliding_attention"],)"
              R"("rope_scaling":{"rope_type":"linear","factor":8.0},"attention_bias":true})",
          "{" + sizes +
              R"("model_type":"smollm3","mlp_bias":true,"no_rope_layers":[0],"rope_scaling":)"
              R"({"rope_type":"yarn","factor":4.0,"original_max_position_embeddings":4}})",
          "{" + sizes +
              R"("model_type":"llama","rope_parameters":{"rope_type":"llama3","rope_theta":500000.0,)"
              R"("factor":8.0,"low_freq_factor":1.0,"high_freq_factor":4.0}})"};
}

std::vector<Bytes> modelSeeds() {
  std::vector<Bytes> seeds;
  for (const bool tied : {false, true}) {
    const Model model = someModel(someConfig(), tied);
    seeds.push_back(folderSeed(llama::huggingFaceConfigText(model.config, tied), model));
    Bytes checkpoint = {1};
    append(checkpoint, checkpointBytes(model));
    seeds.push_back(checkpoint);
  }
  for (const std::string& config : familyConfigs()) {
    seeds.push_back(folderSeed(config, someModel(llama::parseHuggingFaceConfig(config, "seed").config, true)));
  }
  return seeds;
}

/// Another size in the header, and a file as long as that asks for.
Bytes mutateCheckpoint(View input, std::size_t most, Random& random) {
  Bytes bytes(input.begin(), input.end());
  if (bytes.size() < 30 || below(16, random) == 0) return mutateFreely(input, most);
  if (below(2, random) == 0) {
    mutateInPlace(std::span(bytes).subspan(29));
    return bytes;
  }
  const std::size_t place = below(7, random);
  std::int32_t size = 0;
  std::memcpy(&size, bytes.data() + 1 + 4 * place, 4);
  size = static_cast<std::int32_t>(static_cast<std::uint32_t>(size) + below(5, random) - 2);
  if (below(16, random) == 0) size = static_cast<std::int32_t>(strangeNumber(static_cast<std::uint32_t>(size), random));
  std::memcpy(bytes.data() + 1 + 4 * place, &size, 4);
  std::int32_t header[7];
  std::memcpy(header, bytes.data() + 1, 28);
  if (header[3] <= 0) return bytes;
  Config c = someConfig();
  c.dim = header[0], c.hidden = header[1], c.layers = header[2], c.heads = header[3], c.kvHeads = header[4];
  c.headDim = c.dim / c.heads;
  c.vocab = std::abs(static_cast<Index>(header[5]));
  c.context = header[6];
  const std::uint64_t expected = 29 + 4 * llama::detail::llama2cFloats(c, header[5] < 0);
  if (expected <= most) bytes.resize(static_cast<std::size_t>(expected));
  return bytes;
}

Bytes mutateModel(View input, std::size_t most, Random& random) {
  if (input.empty()) return {static_cast<std::uint8_t>(below(2, random))};
  if (input[0] % 2 == 1) return mutateCheckpoint(input, most, random);
  const auto [config, tensors] = configAndTensors(input);
  std::string json = text(config);
  Bytes data(tensors.begin(), tensors.end());
  if (below(3, random) == 0) {
    json = below(8, random) == 0 ? text(mutateFreely(config, config.size() + 32)) : mutateJson(json, random);
  } else {
    data = mutateSafetensors(tensors, most, random);
  }
  Bytes bytes = {0};
  appendNumber(bytes, static_cast<std::uint32_t>(json.size()));
  append(bytes, json);
  bytes.insert(bytes.end(), data.begin(), data.end());
  return bytes;
}

// Tokenizers

void useTokenizer(const Tokenizer& tokenizer) {
  expect(tokenizer.size() <= kVocab, "no more tokens");
  for (const std::string_view words : {"", "abc ab", "\xc3\xa9\xff<0x41>", "a  b", "<s> \xc3\xa9t 12"}) {
    std::vector<Token> tokens;
    try {
      tokens = tokenizer.encode(words);
    } catch (const std::invalid_argument&) {  // a text that the tokenizer has no tokens for
    } catch (const std::runtime_error&) {     // a pattern that backtracks without end
    }
    for (const Token token : tokens) expect(token >= 0 && token < tokenizer.size(), "tokens that exist");
    (void)tokenizer.decode(tokens);
  }
  const std::string bytes = tokenizer.vocabulary().file();
  const bool json = tokenizer.vocabulary().kind() == llama::Vocabulary::Kind::kHuggingFace;
  expect((json ? llama::parseHuggingFaceTokenizer(bytes, kVocab, "again").vocabulary->file()
               : llama::parseLlama2cTokenizer(bytes, kVocab, "again")->file()) == bytes,
         "the same tokenizer");
}

void readTokenizer(View input, Progress& progress) {
  if (input.empty()) return;
  const std::string bytes = text(input.subspan(1));
  progress.passHeader();
  if (input[0] % 2 == 0) {
    const auto read = llama::parseHuggingFaceTokenizer(bytes, kVocab, "tokenizer");
    progress.load();
    return useTokenizer({read.vocabulary, {read.templateBegin, {}}});
  }
  const auto vocabulary = llama::parseLlama2cTokenizer(bytes, kVocab, "tokenizer");
  progress.load();
  useTokenizer({vocabulary, llama::llama2cFrame(*vocabulary)});
}

std::vector<llama::SentencePieces::Piece> somePieces() {
  std::vector<llama::SentencePieces::Piece> pieces = {{"<unk>", 0}, {"<s>", 0}, {"</s>", 0}};
  for (const std::size_t byte : {0x0au, 0x41u, 0xc3u, 0xffu})
    pieces.push_back({llama::SentencePieces::byteName(byte), 0});
  for (const char* word : {" ", "a", "b", "c", "ab", "abc", " a", "\xc3\xa9"}) {
    pieces.push_back({word, -static_cast<float>(pieces.size())});
  }
  while (static_cast<Index>(pieces.size()) < kVocab) pieces.push_back({"t" + std::to_string(pieces.size()), -1});
  return pieces;
}

std::vector<Bytes> tokenizerSeeds() {
  const std::vector<llama::SentencePieces::Piece> pieces = somePieces();
  nlohmann::json json = {{"model", {{"type", "BPE"}, {"byte_fallback", true}}}};
  json["model"]["merges"] = {"a b", {"ab", "c"}, nlohmann::json::array({" ", "a"})};
  json["normalizer"] = {{"type", "Sequence"},
                        {"normalizers",
                         {{{"type", "NFC"}},
                          {{"type", "Replace"}, {"pattern", {{"Regex", "b{2,3}"}}}, {"content", "c"}},
                          {{"type", "Prepend"}, {"prepend", " "}}}}};
  json["pre_tokenizer"] = {{"type", "Sequence"},
                           {"pretokenizers",
                            {{{"type", "Digits"}, {"individual_digits", true}},
                             {{"type", "Split"},
                              {"pattern", {{"Regex", " ?[^\\s]+|\\s+(?!\\S)"}}},
                              {"behavior", "MergedWithNext"},
                              {"invert", false}}}}};
  json["decoder"] = {{"type", "Sequence"},
                     {"decoders",
                      {{{"type", "ByteFallback"}},
                       {{"type", "Fuse"}},
                       {{"type", "Strip"}, {"content", " "}, {"start", 1}, {"stop", 0}}}}};
  for (std::size_t i = 0; i < pieces.size(); ++i) json["model"]["vocab"][pieces[i].text] = i;
  json["added_tokens"] = {{{"content", "<s>"}, {"id", 1}}};
  Bytes hugging_face = {0}, llama2c = {1};
  append(hugging_face, json.dump());
  append(llama2c, llama::SentencePieces(pieces).file());
  return {hugging_face, llama2c};
}

Bytes mutateTokenizer(View input, std::size_t most, Random& random) {
  if (input.empty()) return {static_cast<std::uint8_t>(below(2, random))};
  Bytes bytes = {input[0]};
  const View rest = input.subspan(1);
  if (below(8, random) == 0) {
    const Bytes changed = mutateFreely(rest, most - 1);
    bytes.insert(bytes.end(), changed.begin(), changed.end());
  } else if (input[0] % 2 == 0) {
    append(bytes, mutateJson(text(rest), random));
  } else {
    bytes.insert(bytes.end(), rest.begin(), rest.end());
    mutateInPlace(std::span(bytes).subspan(1));
  }
  return bytes;
}

}  // namespace

Reader modelReader() { return {"model", modelSeeds, readModel, mutateModel}; }
Reader tokenizerReader() { return {"tokenizer", tokenizerSeeds, readTokenizer, mutateTokenizer}; }

}  // namespace gosset::fuzz
