// SPDX-License-Identifier: Apache-2.0
#include "fuzz.hpp"

#include <gosset/io/hessian.hpp>

#include <algorithm>
#include <stdexcept>

namespace gosset::fuzz {
namespace {

/// Whether it returns; FormatError is the only exception that it may throw.
template <class Action>
bool reads(const Action& action) {
  try {
    action();
    return true;
  } catch (const FormatError&) {
    return false;
  }
}

/// Every way to look at a tensor.
void useTensor(const SafetensorsFile& file, const std::string& name) {
  const TensorInfo& info = file.info(name);
  expect(file.data(name).size() == info.bytes(), "a tensor's bytes");
  if (hasFileScalar(info.dtype)) {
    visitDtype(info.dtype, [&]<class T>(std::type_identity<T>) {
      reads([&] { expect(file.flat<T>(name).size() == info.size(), "a tensor's numbers"); });
      reads([&] { (void)file.matrix<T>(name); });
      reads([&] { (void)file.vector<T>(name); });
    });
  }
  Eigen::VectorXf flat;
  if (reads([&] { flat = file.flatAs<float>(name); })) expect(flat.size() == info.size(), "converted numbers");
  reads([&] { expect(file.matrixAs<Float16>(name).size() == info.size(), "a converted matrix"); });
}

void readFile(View input, Progress& progress) {
  const SafetensorsFile file(pathOf(input), FileAccess::kLoad);
  progress.load();
  SafetensorsWriter again;
  for (const auto& [key, value] : file.metadata()) again.setMetadata(key, value);
  for (const std::string& name : file.names()) {
    useTensor(file, name);
    const TensorInfo& info = file.info(name);
    if (info.dtype == Dtype::kUnknown) continue;
    again.addSource(name, info.dtype, info.shape,
                    [data = file.data(name)](const SafetensorsWriter::Put& put) { put(data); });
  }
  if (!isRare(input)) return;
  const Bytes bytes = bytesOf(again);
  const SafetensorsFile other(pathOf(bytes, 1), FileAccess::kLoad);
  expect(other.metadata() == file.metadata(), "the same metadata");
  for (const std::string& name : other.names()) {
    const auto a = file.data(name), b = other.data(name);
    expect(std::equal(a.begin(), a.end(), b.begin(), b.end()), "the same bytes");
  }
}

std::vector<Bytes> fileSeeds() {
  std::vector<Bytes> seeds = {bytesOf(SafetensorsWriter())};
  for (const Index n : {0, 1, 5}) {
    const Eigen::MatrixXf w = someMatrix(3, n);
    SafetensorsWriter floats, others;
    floats.setMetadata("format", "pt");
    floats.add("d", w.cast<double>());
    floats.add("h", w.cast<Float16>());
    floats.add("column", Eigen::VectorXf(w.reshaped()));
    others.setMetadata("\xc3\xa9", "");
    others.add("flags", (w.array() > 0).matrix());
    others.add<std::int64_t>("one", {}, std::vector<std::int64_t>{n});
    others.addSource("e4m3", Dtype::kF8E4M3, {1, n, 2}, [n](const SafetensorsWriter::Put& put) {
      put(std::vector<std::byte>(static_cast<std::size_t>(2 * n), std::byte{0x7e}));
    });
    seeds.push_back(bytesOf(floats));
    seeds.push_back(bytesOf(others));
  }
  return seeds;
}

void readHessianFile(View input, Progress& progress) {
  const SafetensorsFile file(pathOf(input), FileAccess::kLoad);
  progress.passHeader();
  Hessian hessian = readHessian(file, "h");
  progress.load();
  const Index n = hessian.size();
  expect(hessian.matrix().allFinite() && hessian.matrix() == hessian.matrix().transpose(), "symmetry");
  SafetensorsWriter again;
  addHessian(again, "h", hessian);
  if (isRare(input)) {
    const Bytes bytes = bytesOf(again);
    const Hessian other = readHessian(SafetensorsFile(pathOf(bytes, 1), FileAccess::kLoad), "h");
    expect(other.matrix() == hessian.matrix() && other.tokens() == hessian.tokens(), "the same Hessian");
  }
  hessian.merge(hessian);
  hessian.accumulate(someMatrix(2, n));
}

std::vector<Bytes> hessianSeeds() {
  std::vector<Bytes> seeds;
  for (const Index n : {1, 4, 9}) {
    Hessian hessian(n);
    hessian.accumulate(someMatrix(n + 3, n));
    SafetensorsWriter writer;
    addHessian(writer, "h", hessian);
    seeds.push_back(bytesOf(writer));
  }
  return seeds;
}

}  // namespace

Reader safetensorsReader() { return {"safetensors", fileSeeds, readFile, mutateSafetensors}; }
Reader hessianReader() { return {"hessian", hessianSeeds, readHessianFile, mutateSafetensors}; }

}  // namespace gosset::fuzz
