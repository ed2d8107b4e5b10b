// SPDX-License-Identifier: Apache-2.0
#include "fuzz.hpp"

#include <gosset/core/error.hpp>

#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <string>
#include <vector>

// fuzz READER [options and folders of libFuzzer]: see .github/CONTRIBUTING.md.
namespace gosset::fuzz {
namespace {

namespace fs = std::filesystem;

Reader reader;
fs::path seed_folder;
long inputs = 0, past_header = 0, loaded = 0;

/// Inputs that were loaded, and so are worth changing: most of what libFuzzer finds new are new ways to be refused.
std::vector<Bytes> sound;

void keepSound(View input) {
  constexpr std::size_t kMost = 256;
  if (sound.size() < kMost) {
    sound.emplace_back(input.begin(), input.end());
  } else if (loaded % 8 == 0) {
    sound[static_cast<std::size_t>(loaded / 8 * 31) % kMost].assign(input.begin(), input.end());
  }
}

std::vector<Reader> allReaders() {
  return {safetensorsReader(), hessianReader(),   quantizedReader(), kvCacheReader(),   archiveReader(),
          modelReader(),       tokenizerReader(), ggufReader(),      ggufModelReader(), imatrixReader()};
}

/// libFuzzer's options, before those of the command line, which win. One change an input, for a change may be several
/// already; leaks are looked for at the end, not whenever `sound` grows.
const std::vector<std::string>& options() {
  static const std::vector<std::string> kOptions = {"-mutate_depth=1", "-max_len=4096",       "-detect_leaks=0",
                                                    "-entropic=0",     "-malloc_limit_mb=16", "-print_funcs=0",
                                                    "-timeout=10"};
  return kOptions;
}

[[noreturn]] void usage(const std::vector<Reader>& readers) {
  std::fprintf(stderr, "usage: fuzz READER [options and folders of libFuzzer], READER being one of");
  for (const Reader& each : readers) std::fprintf(stderr, " %s", each.name.c_str());
  std::fprintf(stderr, "\n");
  std::_Exit(2);
}

void writeSeeds() {
  std::string name = (fs::temp_directory_path() / "gosset-fuzz-XXXXXX").string();
  expect(::mkdtemp(name.data()) != nullptr, "a folder for seeds");
  seed_folder = name;
  int number = 0;
  for (const Bytes& seed : reader.seeds()) {
    std::ofstream file(seed_folder / std::to_string(number++), std::ios::binary);
    file.write(reinterpret_cast<const char*>(seed.data()), static_cast<std::streamsize>(seed.size()));
  }
}

/// Fails where the changes no longer get past the header: then the reader is hardly tested.
void report() {
  std::error_code ignored;
  fs::remove_all(seed_folder, ignored);
  const auto percent = [](long count) { return 100.0 * static_cast<double>(count) / static_cast<double>(inputs); };
  std::fprintf(stderr, "%s: %ld inputs, %.1f%% past the header, %.1f%% loaded and used\n", reader.name.c_str(), inputs,
               percent(past_header), percent(loaded));
  constexpr long kTelling = 2000;
  if (inputs >= kTelling && 2 * past_header <= inputs) {
    std::fprintf(stderr, "%s: more than half should get past the header\n", reader.name.c_str());
    std::_Exit(1);
  }
}

}  // namespace
}  // namespace gosset::fuzz

extern "C" int LLVMFuzzerInitialize(int* argc, char*** argv) {
  using namespace gosset::fuzz;
  const std::vector<Reader> readers = allReaders();
  const std::string name = *argc > 1 ? (*argv)[1] : "";
  const auto found = std::find_if(readers.begin(), readers.end(), [&](const Reader& r) { return r.name == name; });
  if (found == readers.end()) usage(readers);
  reader = *found;
  static std::vector<std::string> words = {(*argv)[0]};
  words.insert(words.end(), options().begin(), options().end());
  words.insert(words.end(), *argv + 2, *argv + *argc);
  const bool named =
      std::any_of(words.begin() + 1, words.end(), [](const auto& word) { return fs::is_regular_file(word); });
  if (!named) {  // else these inputs alone; new ones go to the first folder, which is not that of the seeds
    writeSeeds();
    words.push_back(seed_folder.string());
  }
  static std::vector<char*> pointers;
  for (std::string& word : words) pointers.push_back(word.data());
  *argc = static_cast<int>(pointers.size());
  pointers.push_back(nullptr);
  *argv = pointers.data();
  std::atexit(report);
  return 0;
}

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace gosset::fuzz;
  Progress progress;
  try {
    reader.read({data, size}, progress);
  } catch (const gosset::FormatError&) {
  }
  ++inputs;
  past_header += progress.pastHeader() ? 1 : 0;
  loaded += progress.loaded() ? 1 : 0;
  if (progress.loaded()) keepSound({data, size});
  return 0;
}

extern "C" std::size_t LLVMFuzzerCustomMutator(std::uint8_t* data, std::size_t size, std::size_t most, unsigned seed) {
  using namespace gosset::fuzz;
  Random random(seed);
  View base(data, size);
  if (!sound.empty() && below(4, random) != 0) base = sound[below(sound.size(), random)];
  Bytes changed;
  try {
    changed = reader.mutate(base, most, random);
  } catch (const std::exception&) {  // what cannot be read cannot be changed by its structure
    changed = mutateFreely(base, most);
  }
  if (changed.size() > most) changed = mutateFreely(base, most);
  std::copy(changed.begin(), changed.end(), data);
  return changed.size();
}
