// SPDX-License-Identifier: Apache-2.0
// Trains the little Llama that ships in examples/llama/model on the stories of grammar.hpp. That folder is what
//   train --out examples/llama/model
// writes, with every option at its default. With --stories it only prints stories, such as it trains on.
#include "byte_pair.hpp"
#include "checkpoint_huggingface.hpp"
#include "evaluate.hpp"
#include "training.hpp"

#include <CLI/CLI.hpp>

#include <chrono>
#include <cstdio>
#include <filesystem>
#include <fstream>

namespace {

using namespace llama;

struct Options {
  std::filesystem::path out;
  std::uint64_t seed = 1;
  Index steps = 12000;
  Index batch = 4;
  Index report = 500;
  float rate = 2.5e-3f;
  Index heldOut = 130;
  std::uint64_t stories = 0;
  Config config = {.dim = 128, .hidden = 172, .layers = 4, .heads = 4, .kvHeads = 2, .vocab = 1024, .context = 256};
};

Options parse(int argc, char** argv) {
  Options o;
  CLI::App app("Trains a small Llama on stories from a grammar and writes it as a Hugging Face folder.");
  app.option_defaults()->always_capture_default();
  auto* out =
      app.add_option("--out", o.out, "Folder to write: config.json, model.safetensors, tokenizer.bin, heldout.txt");
  app.add_option("--stories", o.stories, "Print so many training stories instead of training")->excludes(out);
  app.add_option("--seed", o.seed, "Of the stories and the first weights");
  app.add_option("--steps", o.steps, "Steps to train for")->check(CLI::PositiveNumber);
  app.add_option("--batch", o.batch, "Sequences a step")->check(CLI::PositiveNumber);
  app.add_option("--report", o.report, "Steps between two reports")->check(CLI::PositiveNumber);
  app.add_option("--rate", o.rate, "The highest learning rate")->check(CLI::PositiveNumber);
  app.add_option("--held-out", o.heldOut, "Held-out stories")->check(CLI::PositiveNumber);
  app.add_option("--dim", o.config.dim, "Width")->check(CLI::PositiveNumber);
  app.add_option("--hidden", o.config.hidden, "Width of the feed-forward network")->check(CLI::PositiveNumber);
  app.add_option("--layers", o.config.layers, "Blocks")->check(CLI::PositiveNumber);
  app.add_option("--heads", o.config.heads, "Query heads")->check(CLI::PositiveNumber);
  app.add_option("--kv-heads", o.config.kvHeads, "Key and value heads")->check(CLI::PositiveNumber);
  app.add_option("--vocab", o.config.vocab, "Tokens")->check(CLI::PositiveNumber);
  app.add_option("--context", o.config.context, "Tokens in a training sequence")->check(CLI::PositiveNumber);
  try {
    app.parse(argc, argv);
    if (o.out.empty() && o.stories == 0) throw CLI::RequiredError("--out or --stories");
  } catch (const CLI::ParseError& error) {
    std::exit(app.exit(error));
  }
  if (o.config.dim % o.config.heads != 0) throw gosset::FormatError("--dim must be a multiple of --heads");
  o.config.headDim = o.config.dim / o.config.heads;
  checkConfig(o.config, "options");
  return o;
}

// What a seed is used for: streams that have nothing to do with each other.
enum Stream : std::uint64_t { kVocabularyStream, kTrainingStream, kHeldOutStream, kWeightsStream };

Tokenizer makeTokenizer(const Options& o) {
  constexpr std::uint64_t kStories = 4000;
  std::vector<std::string> texts;
  for (std::uint64_t i = 0; i < kStories; ++i) {
    texts.push_back(writeStory(gosset::randomBits(o.seed, kVocabularyStream), i).text);
  }
  return trainTokenizer(texts, o.config.vocab);
}

/// The surprise of the grammar's choices in nats a token: about what the best of models would be left with.
double entropyPerToken(const std::vector<Story>& stories, const std::vector<Sequence>& sequences) {
  double nats = 0;
  for (const Story& story : stories) nats += story.nats;
  std::size_t tokens = 0;
  for (const Sequence& sequence : sequences) tokens += sequence.size() - 1;
  return nats / static_cast<double>(tokens);
}

void writeFile(const std::filesystem::path& path, const std::string& bytes) {
  std::ofstream file(path, std::ios::binary);
  file << bytes;
  if (!file.flush()) throw gosset::FormatError(path.string() + ": cannot be written");
}

void printStories(const Options& o) {
  for (std::uint64_t i = 0; i < o.stories; ++i) {
    std::printf("%s\n", writeStory(gosset::randomBits(o.seed, kTrainingStream), i).text.c_str());
  }
}

void train(const Options& o) {
  const Tokenizer tokenizer = makeTokenizer(o);
  const std::vector<Story> stories =
      heldOutStories(gosset::randomBits(o.seed, kHeldOutStream), static_cast<std::uint64_t>(o.heldOut));
  const std::vector<Sequence> heldOut = sequencesOf(tokenizer, joined(stories), o.config.context, Index{1} << 40);
  std::printf("%td parameters; the held-out stories' entropy is at most %.4f nats a token, perplexity %.4f\n",
              Parameters<float>::count(o.config), entropyPerToken(stories, heldOut),
              std::exp(entropyPerToken(stories, heldOut)));

  Parameters<float> parameters(o.config);
  initialize(parameters, gosset::randomBits(o.seed, kWeightsStream));
  Adam adam(decaying(o.config));
  BatchBackprop backprop(o.config);
  const auto batch = static_cast<std::size_t>(o.batch);
  const auto length = static_cast<std::size_t>(o.config.context + 1);
  const std::uint64_t stream = gosset::randomBits(o.seed, kTrainingStream);
  constexpr Index kWarmup = 200;
  const auto begin = std::chrono::steady_clock::now();
  double loss = 0;
  for (Index step = 0; step < o.steps; ++step) {
    const auto sequence = [&](std::size_t i) {
      return trainingSequence(tokenizer, stream, static_cast<std::uint64_t>(step) * batch + i, length);
    };
    loss += backprop.lossAndGradient(parameters, batch, sequence);
    adam.step(parameters.values(), backprop.gradient().values(),
              warmupCosine(step, o.steps, std::min(o.steps / 10, kWarmup), o.rate));
    if ((step + 1) % o.report != 0 && step + 1 != o.steps) continue;
    const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
    const Index since = step % o.report + 1;
    std::printf("step %5td  loss %.4f  held-out perplexity %.4f  %.0f s\n", step + 1, loss / static_cast<double>(since),
                std::exp(backprop.loss(parameters, heldOut)), seconds);
    std::fflush(stdout);
    loss = 0;
  }

  std::filesystem::create_directories(o.out);
  saveHuggingFace<gosset::Float16>(o.out, toModel(parameters));
  writeFile(o.out / "tokenizer.bin", tokenizerBytes(tokenizer));
  writeFile(o.out / "heldout.txt", joined(stories));
}

}  // namespace

int main(int argc, char** argv) {
  try {
    Eigen::setNbThreads(1);  // the sequences of a batch have the threads
    const Options options = parse(argc, argv);
    options.stories > 0 ? printStories(options) : train(options);
  } catch (const std::exception& error) {
    std::fprintf(stderr, "train: %s\n", error.what());
    return 1;
  }
  return 0;
}
