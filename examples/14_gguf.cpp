// SPDX-License-Identifier: Apache-2.0
// GGUF files, llama.cpp's: one is read, a tensor of it rounded by GPTQ into Q4_K, the block format that llama.cpp runs,
// and all written to another file. What does not change is shown where it lies in the first file, and copied from
// there.
#include "data.hpp"

#include <gosset/gosset.hpp>
#include <gosset/io.hpp>

#include <cmath>
#include <cstdio>
#include <filesystem>

int main() {
  const std::filesystem::path folder = std::filesystem::temp_directory_path(), from = folder / "gosset_example_14.gguf",
                              to = folder / "gosset_example_14_q4_k.gguf";
  {  // a file to begin with: of a model there are many such
    gosset::GgufWriter file;
    file.set("general.architecture", "llama");
    file.add("blk.0.attn_q.weight", gosset::quantize<gosset::Float16>(example::gaussian(64, 256, 1)));
    file.add("blk.0.ffn_up.weight", gosset::quantize<gosset::ggml::Q8_0>(example::gaussian(96, 256, 2)));
    file.write(from);
  }
  const gosset::GgufFile in(from);
  gosset::Hessian H(256);
  H.accumulate(example::activations(2000, 256, 3));  // what enters the layer: tokens x in
  gosset::GgufWriter out;
  out.setAll(in);
  for (const std::string& name : in.names()) {
    const gosset::AnyMatrix q = gosset::readGguf(in, name);
    if (name != "blk.0.attn_q.weight") {
      out.add(name, q);
      continue;
    }
    const gosset::RowMatrixXf W = q.dequantized();
    out.add(name, gosset::quantize<gosset::ggml::Q4_K>(W, gosset::Gptq(H, {.sweeps = 4})));
  }
  out.write(to);

  const gosset::GgufFile written(to);
  for (const std::string& name : written.names()) {
    std::printf("%s: %s, then %s\n", name.c_str(), gosset::readGguf(in, name).format().c_str(),
                gosset::readGguf(written, name).format().c_str());
  }
  const gosset::RowMatrixXf W = gosset::readGguf(in, "blk.0.attn_q.weight").dequantized();
  const auto q = gosset::readGguf<gosset::ggml::Q4_K>(written, "blk.0.attn_q.weight");
  const auto nearest = gosset::quantize<gosset::ggml::Q4_K>(W);
  const auto lost = [&](const auto& matrix) {
    return 100 * std::sqrt(gosset::proxyLoss(W, matrix.dequantized(), H) / gosset::proxyLoss(W, 0 * W, H));
  };
  std::printf("%.1f bits a weight, output error %.1f%%, by rounding to nearest %.1f%%\n", q.bitsPerWeight(), lost(q),
              lost(nearest));
  std::filesystem::remove(from);
  std::filesystem::remove(to);
}

/* Prints:
blk.0.attn_q.weight: Float16, then ggml::Q4_K
blk.0.ffn_up.weight: ggml::Q8_0, then ggml::Q8_0
4.5 bits a weight, output error 1.4%, by rounding to nearest 6.8%
*/
