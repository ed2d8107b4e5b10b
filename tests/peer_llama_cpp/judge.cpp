// SPDX-License-Identifier: Apache-2.0
// What llama.cpp makes of GGUF files:
//   judge LIBRARIES compare MODEL.gguf       largest difference of its logits from the engine's on the same file
//   judge LIBRARIES tokens MODEL.gguf TEXT   whether it cuts a text file's lines into the engine's tokens
//   judge LIBRARIES quantize FROM.gguf TO.gguf FILE_TYPE pure|mixed [IMATRIX]
//   judge LIBRARIES imatrix FILE FOLDER      whether an importance file comes back from ggml's reader and writer
//   judge LIBRARIES kl EXACT.gguf TEXT TOKENS MODEL.gguf...   as llama.cpp computes it, nats a token
#include "../../examples/llama/engine.hpp"
#include "../../examples/llama/evaluate.hpp"
#include "../../examples/llama/gguf_model_read.hpp"
#include "llama_api.hpp"

#include <gosset/io/imatrix.hpp>

#include <cstdio>
#include <cstring>
#include <iostream>
#include <sstream>

namespace {

using llama::Index;

/// Tokens of a fixed sequence that reaches every part of a vocabulary.
std::vector<std::int32_t> someTokens(std::int32_t vocab, int count) {
  std::vector<std::int32_t> tokens;
  for (int i = 0; i < count; ++i) tokens.push_back((i * 73 + i * i * 7 + 5) % vocab);
  return tokens;
}

int compare(const peer::LlamaCpp& library, const std::filesystem::path& path) {
  const llama::GgufModel read = llama::readGgufModel(path);
  const llama::Engine engine(read.model);
  const auto tokens = someTokens(static_cast<std::int32_t>(engine.config().vocab),
                                 static_cast<int>(std::min<Index>(24, engine.config().context)));
  llama::KvCache cache(engine.config(), static_cast<Index>(tokens.size()));
  const Eigen::MatrixXf ours = engine.forward(tokens, cache);
  const std::vector<float> theirs = peer::Model(library, path).logits(tokens);
  if (static_cast<Index>(theirs.size()) != ours.size())
    throw std::runtime_error("llama.cpp gives another number of logits");
  const Eigen::Map<const Eigen::MatrixXf> other(theirs.data(), ours.rows(), ours.cols());
  const float largest = ours.cwiseAbs().maxCoeff();
  std::printf("%.3g of %.3g\n", static_cast<double>((ours - other).cwiseAbs().maxCoeff() / largest),
              static_cast<double>(largest));
  return 0;
}

int compareTokens(const peer::LlamaCpp& library, const std::filesystem::path& path, const std::filesystem::path& text) {
  const gosset::GgufFile file(path);
  const peer::Model theirs(library, path);
  const llama::Tokenizer ours = llama::readGgufTokenizer(file, theirs.size());
  std::istringstream lines(llama::readBytes(text, 1 << 24));
  int same = 0, all = 0;
  for (std::string line; std::getline(lines, line); ++all) {
    const bool equal = theirs.tokens(line) == ours.encode(line);
    if (!equal) std::printf("other tokens: %s\n", line.c_str());
    same += equal ? 1 : 0;
  }
  std::printf("%d of %d lines\n", same, all);
  return same == all ? 0 : 1;
}

int quantize(const peer::LlamaCpp& library, int argc, char** argv) {
  std::vector<peer::Importance> importance;
  std::vector<Eigen::VectorXf> means;
  gosset::Imatrix imatrix;
  if (argc > 7) imatrix = gosset::readImatrix(argv[7]);
  for (const auto& [name, entry] : imatrix.entries) {
    const gosset::RowMatrixXf squares = entry.meanSquares();
    means.emplace_back(Eigen::Map<const Eigen::VectorXf>(squares.data(), squares.size()));
    importance.push_back({name.c_str(), nullptr, static_cast<std::size_t>(squares.size())});
  }
  for (std::size_t i = 0; i < means.size(); ++i) importance[i].data = means[i].data();
  if (!importance.empty()) importance.push_back({nullptr, nullptr, 0});
  peer::quantizeByPeer(library, argv[3], argv[4], std::stoi(argv[5]), std::strcmp(argv[6], "pure") == 0, importance);
  return 0;
}

bool isSame(const gosset::Imatrix& a, const gosset::Imatrix& b) {
  bool same = a.entries.size() == b.entries.size() && a.datasets == b.datasets && a.chunks == b.chunks &&
              a.chunk_size == b.chunk_size;
  for (const auto& [name, entry] : a.entries) {
    const auto found = b.entries.find(name);
    same = same && found != b.entries.end() && found->second.sums.rows() == entry.sums.rows() &&
           found->second.sums.cols() == entry.sums.cols() && found->second.sums == entry.sums &&
           found->second.counts.size() == entry.counts.size() && found->second.counts == entry.counts;
  }
  return same;
}

/// An importance file written in the GGUF form, read and written by ggml, and read again; and the .dat form of that.
int compareImatrix(const peer::LlamaCpp& library, const std::filesystem::path& path,
                   const std::filesystem::path& folder) {
  const gosset::Imatrix read = gosset::readImatrix(path);
  const std::filesystem::path ours = folder / "ours.imatrix", theirs = folder / "theirs.imatrix",
                              old = folder / "theirs.dat";
  gosset::writeImatrix(ours, read);
  peer::rewriteByPeer(library, ours, theirs);
  const gosset::Imatrix back = gosset::readImatrix(theirs);
  gosset::writeImatrixDat(old, back);
  const bool same = isSame(read, back) && isSame(read, gosset::readImatrix(old));
  std::printf("imatrix: %zu entries of %u chunks, %s by ggml's reader and writer\n", read.entries.size(), read.chunks,
              same ? "kept" : "changed");
  return same ? 0 : 1;
}

/// log softmax of each column.
Eigen::MatrixXd logProbabilities(const std::vector<float>& logits, std::int32_t vocab) {
  Eigen::MatrixXd x =
      Eigen::Map<const Eigen::MatrixXf>(logits.data(), vocab, static_cast<Index>(logits.size()) / vocab).cast<double>();
  for (Index i = 0; i < x.cols(); ++i) {
    const double most = x.col(i).maxCoeff();
    x.col(i).array() -= most + std::log((x.col(i).array() - most).exp().sum());
  }
  return x;
}

int divergence(const peer::LlamaCpp& library, int argc, char** argv) {
  const peer::Model exact(library, argv[3]);
  const gosset::GgufFile file(argv[3]);
  const llama::Tokenizer tokenizer = llama::readGgufTokenizer(file, exact.size());
  const auto sequences = llama::sequencesOf(tokenizer, llama::readBytes(argv[4], 1 << 28), 256, std::stoll(argv[5]));
  std::vector<Eigen::MatrixXd> expected;
  for (const auto& sequence : sequences) expected.push_back(logProbabilities(exact.logits(sequence), exact.size()));
  for (int i = 6; i < argc; ++i) {
    const peer::Model model(library, argv[i]);
    double sum = 0, surprise = 0;
    Index tokens = 0;
    for (std::size_t s = 0; s < sequences.size(); ++s) {
      const Eigen::MatrixXd log = logProbabilities(model.logits(sequences[s]), model.size());
      const Eigen::MatrixXd& p = expected[s];
      for (Index t = 0; t + 1 < p.cols(); ++t, ++tokens) {
        sum += (p.col(t).array().exp() * (p.col(t) - log.col(t)).array()).sum();
        surprise -= log(sequences[s][static_cast<std::size_t>(t + 1)], t);
      }
    }
    std::printf("%.6f %.4f %ju %s\n", sum / static_cast<double>(tokens),
                std::exp(surprise / static_cast<double>(tokens)),
                static_cast<std::uintmax_t>(std::filesystem::file_size(argv[i])), argv[i]);
    std::fflush(stdout);
  }
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  try {
    const std::string what = argc > 2 ? argv[2] : "";
    if (argc < 4) throw std::invalid_argument("see the comment at the beginning of judge.cpp");
    const peer::LlamaCpp library(argv[1]);
    if (what == "compare" && argc == 4) return compare(library, argv[3]);
    if (what == "tokens" && argc == 5) return compareTokens(library, argv[3], argv[4]);
    if (what == "quantize" && argc >= 7) return quantize(library, argc, argv);
    if (what == "imatrix" && argc == 5) return compareImatrix(library, argv[3], argv[4]);
    if (what == "kl" && argc >= 7) return divergence(library, argc, argv);
    throw std::invalid_argument("see the comment at the beginning of judge.cpp");
  } catch (const std::exception& error) {
    std::cerr << "judge: " << error.what() << '\n';
    return 2;
  }
}
