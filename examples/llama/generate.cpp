// SPDX-License-Identifier: Apache-2.0
// Writes text with a Llama model, packed or not.
#include "engine.hpp"
#include "load.hpp"
#include "packed_file.hpp"
#include "sample.hpp"

#include <CLI/CLI.hpp>

#include <iostream>

namespace {

using namespace llama;

struct Options {
  fs::path model = GOSSET_EXAMPLE_MODEL_DIR;
  fs::path tokenizer;
  std::string prompt;
  Index steps = 200;
  double temperature = 0.8;
  std::uint64_t seed = 1;
};

void parse(int argc, char** argv, Options& o) {
  CLI::App app(
      "Writes text with a Llama model, until it ends the text, the steps are used up, or its context is full. Without "
      "arguments it takes the little model that comes with gosset.");
  app.option_defaults()->always_capture_default();
  app.add_option("--model", o.model, "A model packed by compress --out, a Hugging Face folder, or a llama2.c .bin");
  app.add_option("--tokenizer", o.tokenizer, "llama2.c tokenizer or tokenizer.json; packed models have their own");
  app.add_option("--prompt", o.prompt, "How the text begins");
  app.add_option("--steps", o.steps, "Most tokens to write")->check(CLI::Range(0, 1000000000));
  app.add_option("--temperature", o.temperature, "0 takes the likeliest token, 1 draws by the model's probabilities")
      ->check(CLI::Range(0.0, 100.0));
  app.add_option("--seed", o.seed, "Of the draws: the same seed writes the same text");
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    std::exit(app.exit(error));
  }
}

PackedFile load(const Options& o) {
  if (isPackedFile(o.model)) return readPackedFile(o.model);
  const Model model = readModel(o.model);
  return {floatModel(model), readTokenizerFor(o.model, o.tokenizer, model.config.vocab)};
}

void run(const Options& o) {
  PackedFile file = load(o);
  const Engine engine(std::move(file.model));
  std::vector<Token> tokens = file.tokenizer.encode(o.prompt);
  if (tokens.empty()) throw std::invalid_argument("--prompt: a model without a begin token needs one");
  const auto prompt = static_cast<Index>(tokens.size());
  if (prompt > engine.config().context) {
    throw std::invalid_argument("--prompt has " + std::to_string(prompt) + " tokens, the model's context " +
                                std::to_string(engine.config().context));
  }
  const Index last = prompt + std::min(o.steps, engine.config().context - prompt);
  KvCache cache(engine.config(), last);
  TextStream text(file.tokenizer);
  for (const Token token : tokens) std::cout << text.add(token);
  Eigen::VectorXf logits = engine.forwardLast(tokens, cache);
  for (Index position = prompt; position < last; ++position) {
    const float uniform = gosset::randomUniform(o.seed, static_cast<std::uint64_t>(position));
    const Token next = sampleToken(logits, o.temperature, static_cast<double>(uniform));
    if (file.tokenizer.isEnd(next)) break;
    std::cout << text.add(next) << std::flush;
    tokens.push_back(next);
    logits = engine.forwardLast({&next, 1}, cache);
  }
  std::cout << text.finish() << '\n';
}

}  // namespace

int main(int argc, char** argv) {
  try {
    Options options;
    parse(argc, argv, options);
    run(options);
    return 0;
  } catch (const std::exception& error) {
    std::cerr << "generate: " << error.what() << '\n';
    return 1;
  }
}
