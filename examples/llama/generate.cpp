// SPDX-License-Identifier: Apache-2.0
// Writes text with a language model, packed or not.
#include "chat.hpp"
#include "engine.hpp"
#include "load.hpp"
#include "packed_file.hpp"
#include "packed_folder.hpp"
#include "program.hpp"
#include "sample.hpp"

#include <chrono>
#include <cstdio>
#include <iostream>

namespace {

using namespace llama;

struct Options {
  fs::path model = GOSSET_EXAMPLE_MODEL_DIR;
  fs::path tokenizer;
  std::string prompt;
  bool chat = false;
  std::string chatTemplate, system;
  Index tokens = 200;
  Sampling sampling = {.temperature = 0.8};
  std::uint64_t seed = 1;
};

std::string templateHelp() {
  std::string text = "With --chat: how a conversation is written; else as the model's own template says:";
  for (const ChatFormat& format : chatFormats()) text += "\n" + format.name + ": " + format.about;
  return text;
}

void parse(int argc, char** argv, Options& o) {
  CLI::App app(
      "Writes text with a language model, until it ends the text, the tokens are used up, or its context is full. The "
      "speeds go to the standard error. Without arguments it takes the little model that comes with gosset.");
  app.option_defaults()->always_capture_default();
  app.add_option("--model", o.model,
                 "A model packed by compress --out, a Hugging Face folder, a GGUF file, or a llama2.c .bin");
  app.add_option("--tokenizer", o.tokenizer,
                 "llama2.c tokenizer or tokenizer.json; else the one in the model's folder; packed models have theirs");
  app.add_option("--prompt", o.prompt, "How the text begins; with --chat, what the user says");
  auto* chat =
      app.add_flag("--chat", o.chat, "Answer the prompt: write it in the format that the model was trained on");
  app.add_option("--template", o.chatTemplate, templateHelp())->needs(chat);
  app.add_option("--system", o.system, "With --chat: what the system says first")->needs(chat);
  app.add_option("-n,--n,--steps", o.tokens, "Most tokens to write")->check(CLI::Range(0, 1000000000));
  app.add_option("--temp,--temperature", o.sampling.temperature,
                 "0 takes the likeliest token, 1 draws by the model's probabilities")
      ->check(CLI::Range(0.0, 100.0));
  app.add_option("--top-k", o.sampling.topK, "Draw among so many likeliest tokens; 0 for all")
      ->check(CLI::Range(0, 1000000000));
  app.add_option("--top-p", o.sampling.topP, "Draw among the likeliest tokens whose probabilities together reach this")
      ->check(CLI::Range(0.0, 1.0));
  app.add_option("--seed", o.seed, "Of the draws: the same seed writes the same text");
  parseArguments(app, argc, argv);
  if (!o.chatTemplate.empty()) findChatFormat(o.chatTemplate);
  if (o.chat && o.prompt.empty()) throw std::invalid_argument("--chat needs a --prompt to answer");
  const bool packed = isPackedFile(o.model) || isPackedFolder(o.model);
  if (!o.tokenizer.empty() && (packed || isGgufFile(o.model))) {
    throw std::invalid_argument(std::string("--tokenizer: a ") + (packed ? "packed model" : "GGUF file") +
                                " has its own");
  }
}

PackedFile load(const Options& o) {
  if (isPackedFile(o.model)) return readPackedFile(o.model);
  if (isPackedFolder(o.model)) return readPackedFolder(o.model);
  if (isGgufFile(o.model)) {
    GgufModel read = readGgufModel(o.model);
    return {std::move(read.model), std::move(read.tokenizer)};
  }
  if (hasIntegerLayers(o.model)) {
    PackedModel model = readHuggingFaceAsStored(o.model);
    Tokenizer tokenizer = readTokenizerFor(o.model, o.tokenizer, model.config.vocab);
    return {std::move(model), std::move(tokenizer)};
  }
  const Model model = readModel(o.model);
  return {floatModel(model), readTokenizerFor(o.model, o.tokenizer, model.config.vocab)};
}

/// What the model reads first, and the tokens that end what it writes besides the tokenizer's.
struct Prompt {
  std::vector<Token> tokens;
  std::vector<Token> ends;
};

Prompt readPrompt(const Options& o, const Tokenizer& tokenizer) {
  if (!o.chat) return {tokenizer.encode(o.prompt), {}};
  const std::string& own = tokenizer.frame().chatTemplate;
  if (o.chatTemplate.empty() && own.empty()) {
    throw std::invalid_argument("--chat: the model has no chat template; name one with --template");
  }
  const ChatFormat format = o.chatTemplate.empty() ? recognizeChatFormat(own) : findChatFormat(o.chatTemplate);
  std::vector<ChatMessage> messages;
  if (!o.system.empty()) messages.push_back({ChatMessage::Role::kSystem, o.system});
  messages.push_back({ChatMessage::Role::kUser, o.prompt});
  Prompt prompt{chatTokens(tokenizer, format, messages), {}};
  if (const auto end = tokenizer.vocabulary().find(format.end)) prompt.ends.push_back(*end);
  return prompt;
}

/// Tokens a second since it was made.
class Stopwatch {
 public:
  double speed(Index tokens) const {
    const std::chrono::duration<double> seconds = Clock::now() - start_;
    return static_cast<double>(tokens) / seconds.count();
  }

 private:
  using Clock = std::chrono::steady_clock;
  Clock::time_point start_ = Clock::now();
};

/// The logits behind a prompt, which is read a piece at a time, so that a long one takes no more memory than its cache.
Eigen::VectorXf prefill(const Engine& engine, std::span<const Token> tokens, KvCache& cache) {
  constexpr std::size_t kPiece = 256;
  Eigen::VectorXf logits;
  for (std::size_t at = 0; at < tokens.size(); at += kPiece) {
    logits = engine.forwardLast(tokens.subspan(at, std::min(kPiece, tokens.size() - at)), cache);
  }
  return logits;
}

void run(const Options& o) {
  PackedFile file = load(o);
  const Engine engine(std::move(file.model));
  const Prompt prompt = readPrompt(o, file.tokenizer);
  const auto size = static_cast<Index>(prompt.tokens.size()), context = engine.config().context;
  if (size == 0) throw std::invalid_argument("--prompt: a model without a begin token needs one");
  if (size > context) {
    throw std::invalid_argument("--prompt has " + std::to_string(size) + " tokens, the model's context " +
                                std::to_string(context));
  }
  const Index last = size + std::min(o.tokens, context - size);
  KvCache cache(engine.config(), last);
  TextStream text(file.tokenizer);
  if (!o.chat) {
    for (const Token token : prompt.tokens) std::cout << text.add(token);
    std::cout << std::flush;
  }
  const Stopwatch reading;
  Eigen::VectorXf logits = prefill(engine, prompt.tokens, cache);
  const double readSpeed = reading.speed(size);

  const Stopwatch writing;
  Index written = 0;
  const auto ends = [&](Token token) {
    return file.tokenizer.isEnd(token) || std::find(prompt.ends.begin(), prompt.ends.end(), token) != prompt.ends.end();
  };
  for (Index position = size; position < last; ++position) {
    const float uniform = gosset::randomUniform(o.seed, static_cast<std::uint64_t>(position));
    const Token next = sampleToken(logits, o.sampling, static_cast<double>(uniform));
    if (ends(next)) break;
    std::cout << text.add(next) << std::flush;
    ++written;
    if (position + 1 < last) logits = engine.forwardLast({&next, 1}, cache);
  }
  const double writeSpeed = writing.speed(written);
  std::cout << text.finish() << std::endl;
  std::fprintf(stderr, "prompt: %td tokens, %.1f tokens/s; written: %td tokens, %.1f tokens/s\n", size, readSpeed,
               written, writeSpeed);
}

}  // namespace

int main(int argc, char** argv) {
  return runProgram("generate", [&] {
    Options options;
    parse(argc, argv, options);
    run(options);
  });
}
