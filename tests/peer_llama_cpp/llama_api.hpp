// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <dlfcn.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <filesystem>
#include <stdexcept>
#include <string>
#include <vector>

// A prebuilt llama.cpp, opened at run time: the functions that the judge calls, with their prototypes. Parameters are
// structs whose fields move between versions: they are taken as bytes, and the few fields that are set are found by the
// defaults that they must have. Source: github.com/ggml-org/llama.cpp, include/llama.h.
namespace peer {

struct Batch {
  std::int32_t count;
  std::int32_t* token;
  float* embedding;
  std::int32_t* position;
  std::int32_t* sequences;
  std::int32_t** sequence;
  std::int8_t* wanted;
};

/// Larger than any version's.
struct Parameters {
  alignas(16) unsigned char bytes[512];

  template <class T>
  T& at(std::size_t byte) {
    return *reinterpret_cast<T*>(bytes + byte);
  }
};

/// Throws std::runtime_error where a field is not where it was, which another value shows.
inline void requireDefault(Parameters& parameters, std::size_t byte, std::int32_t expected) {
  const auto found = parameters.at<std::int32_t>(byte);
  if (found == expected) return;
  throw std::runtime_error("llama.cpp: another version than 0.5.0: byte " + std::to_string(byte) +
                           " of its default parameters holds " + std::to_string(found) + ", expected " +
                           std::to_string(expected));
}

/// What llama_model_quantize() takes of importance, ended by one without a name.
struct Importance {
  const char* name;
  const float* data;
  std::size_t size;
};

class LlamaCpp {
 public:
  /// folder: of the package's libraries. Throws std::runtime_error where they are not there or not as expected.
  explicit LlamaCpp(const std::filesystem::path& folder) {
    for (const auto& entry : std::filesystem::directory_iterator(folder)) {
      const std::string name = entry.path().filename().string();
      if (name.starts_with("libllama.") && name.find(".so") != std::string::npos) llama_ = open(entry.path());
      if (name.starts_with("libggml.") && name.find(".so") != std::string::npos) ggml_ = open(entry.path());
    }
    if (llama_ == nullptr || ggml_ == nullptr) {
      throw std::runtime_error(folder.string() + ": holds no libllama.so and libggml.so");
    }
    function<void(void (*)(int, const char*, void*), void*)>(llama_, "llama_log_set")(
        [](int level, const char* text, void*) {
          constexpr int kError = 4;
          if (level == kError) std::fputs(text, stderr);
        },
        nullptr);
    function<void(const char*)>(ggml_, "ggml_backend_load_all_from_path")(folder.c_str());
  }

  template <class Signature>
  Signature* llama(const char* name) const {
    return function<Signature>(llama_, name);
  }
  /// Of ggml, which libraries are built upon.
  template <class Signature>
  Signature* ggml(const char* name) const {
    return function<Signature>(ggml_, name);
  }

 private:
  static void* open(const std::filesystem::path& path) {
    void* library = dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL);
    if (library == nullptr) throw std::runtime_error(dlerror());
    return library;
  }
  template <class Signature>
  static Signature* function(void* library, const char* name) {
    void* found = dlsym(library, name);
    if (found == nullptr) throw std::runtime_error(std::string("llama.cpp has no ") + name);
    return reinterpret_cast<Signature*>(found);
  }

  void* llama_ = nullptr;
  void* ggml_ = nullptr;
};

/// A model loaded by llama.cpp on one thread, its cache in 32-bit floats.
class Model {
 public:
  /// Throws std::runtime_error where llama.cpp refuses the file.
  Model(const LlamaCpp& library, const std::filesystem::path& path) : library_(library) {
    model_ = library.llama<void*(const char*, Parameters)>("llama_model_load_from_file")(
        path.c_str(), library.llama<Parameters()>("llama_model_default_params")());
    if (model_ == nullptr) throw std::runtime_error("llama.cpp refuses " + path.string());
    vocab_ = library.llama<const void*(const void*)>("llama_model_get_vocab")(model_);
    size_ = library.llama<std::int32_t(const void*)>("llama_vocab_n_tokens")(vocab_);
  }
  ~Model() { library_.llama<void(void*)>("llama_model_free")(model_); }
  Model(const Model&) = delete;
  Model& operator=(const Model&) = delete;

  std::int32_t size() const { return size_; }

  /// The tokens of a text, special ones found in it, what comes before it put there.
  std::vector<std::int32_t> tokens(const std::string& text) const {
    std::vector<std::int32_t> result(text.size() + 16);
    const auto count =
        library_.llama<std::int32_t(const void*, const char*, std::int32_t, std::int32_t*, std::int32_t, bool, bool)>(
            "llama_tokenize")(vocab_, text.data(), static_cast<std::int32_t>(text.size()), result.data(),
                              static_cast<std::int32_t>(result.size()), true, true);
    if (count < 0) throw std::runtime_error("llama.cpp cannot cut the text");
    result.resize(static_cast<std::size_t>(count));
    return result;
  }

  /// The logits behind each token, token after token.
  std::vector<float> logits(const std::vector<std::int32_t>& tokens) const {
    void* context = newContext(tokens.size());
    const auto count = static_cast<std::int32_t>(tokens.size());
    std::vector<std::int32_t> token = tokens, position, one(tokens.size(), 1), zero = {0};
    std::vector<std::int32_t*> sequence(tokens.size(), zero.data());
    std::vector<std::int8_t> wanted(tokens.size(), 1);
    for (std::int32_t i = 0; i < count; ++i) position.push_back(i);
    const Batch batch{count, token.data(), nullptr, position.data(), one.data(), sequence.data(), wanted.data()};
    const int failed = library_.llama<std::int32_t(void*, Batch)>("llama_decode")(context, batch);
    std::vector<float> result;
    for (std::int32_t i = 0; failed == 0 && i < count; ++i) {
      const float* row = library_.llama<float*(void*, std::int32_t)>("llama_get_logits_ith")(context, i);
      result.insert(result.end(), row, row + size_);
    }
    library_.llama<void(void*)>("llama_free")(context);
    if (failed != 0) throw std::runtime_error("llama_decode gives " + std::to_string(failed));
    return result;
  }

 private:
  /// n_ctx, n_batch and n_ubatch come first in llama_context_params.
  void* newContext(std::size_t tokens) const {
    Parameters p = library_.llama<Parameters()>("llama_context_default_params")();
    const auto size = static_cast<std::uint32_t>(std::max<std::size_t>(tokens, 64));
    for (const std::size_t field : {std::size_t{0}, std::size_t{4}, std::size_t{8}}) p.at<std::uint32_t>(field) = size;
    constexpr std::size_t kThreads = 28, kFlash = 52, kTypes = 104;
    requireDefault(p, kThreads, 4);
    requireDefault(p, kThreads + 4, 4);
    requireDefault(p, kFlash, -1);
    requireDefault(p, kTypes, 1);
    requireDefault(p, kTypes + 4, 1);
    p.at<std::int32_t>(kThreads) = p.at<std::int32_t>(kThreads + 4) = 1;
    p.at<std::int32_t>(kFlash) = 0;
    p.at<std::int32_t>(kTypes) = p.at<std::int32_t>(kTypes + 4) = 0;  // F32
    void* context = library_.llama<void*(void*, Parameters)>("llama_init_from_model")(model_, p);
    if (context == nullptr) throw std::runtime_error("llama.cpp makes no context");
    return context;
  }

  const LlamaCpp& library_;
  void* model_;
  const void* vocab_;
  std::int32_t size_;
};

/// Quantizes a file of floats as llama-quantize does. fileType: as general.file_type; pure: one type for all matrices.
/// Throws std::runtime_error where llama.cpp refuses.
inline void quantizeByPeer(const LlamaCpp& library, const std::filesystem::path& from, const std::filesystem::path& to,
                           std::int32_t fileType, bool pure, const std::vector<Importance>& importance) {
  Parameters p = library.llama<Parameters()>("llama_model_quantize_default_params")();
  requireDefault(p, 4, 7);     // ftype, Q8_0
  requireDefault(p, 8, 43);    // the number of types, for those of output and embedding
  requireDefault(p, 16, 256);  // quantize_output_tensor alone
  p.at<std::int32_t>(0) = 1;
  p.at<std::int32_t>(4) = fileType;
  p.at<bool>(19) = pure;
  if (!importance.empty()) p.at<const Importance*>(24) = importance.data();
  const auto failed = library.llama<std::uint32_t(const char*, const char*, const Parameters*)>("llama_model_quantize")(
      from.c_str(), to.c_str(), &p);
  if (failed != 0) throw std::runtime_error("llama.cpp cannot quantize " + from.string());
}

/// Reads a GGUF file by ggml's reader and writes what it holds by ggml's writer. Source: github.com/ggml-org/ggml,
/// include/gguf.h. Throws std::runtime_error where either refuses.
inline void rewriteByPeer(const LlamaCpp& library, const std::filesystem::path& from, const std::filesystem::path& to) {
  struct Init {
    bool no_alloc;
    void** tensors;
  };
  void* tensors = nullptr;
  void* read = library.ggml<void*(const char*, Init)>("gguf_init_from_file")(from.c_str(), Init{false, &tensors});
  if (read == nullptr) throw std::runtime_error("ggml refuses " + from.string());
  void* copy = library.ggml<void*()>("gguf_init_empty")();
  library.ggml<void(void*, const void*)>("gguf_set_kv")(copy, read);
  const auto count = library.ggml<std::int64_t(const void*)>("gguf_get_n_tensors")(read);
  for (std::int64_t i = 0; i < count; ++i) {
    const char* name = library.ggml<const char*(const void*, std::int64_t)>("gguf_get_tensor_name")(read, i);
    const void* tensor = library.ggml<const void*(void*, const char*)>("ggml_get_tensor")(tensors, name);
    library.ggml<void(void*, const void*)>("gguf_add_tensor")(copy, tensor);
  }
  const bool written =
      library.ggml<bool(const void*, const char*, bool)>("gguf_write_to_file")(copy, to.c_str(), false);
  for (void* file : {copy, read}) library.ggml<void(void*)>("gguf_free")(file);
  library.ggml<void(void*)>("ggml_free")(tensors);
  if (!written) throw std::runtime_error("ggml cannot write " + to.string());
}

}  // namespace peer
