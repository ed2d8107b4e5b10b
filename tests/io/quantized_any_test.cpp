// SPDX-License-Identifier: Apache-2.0
// Files whose formats a program learns when it reads them; views; every format through a file; what files get wrong.
#include <gosset/codebook.hpp>
#include <gosset/format.hpp>
#include <gosset/io/quantized.hpp>
#include <gosset/matrix.hpp>
#include <gosset/rounding.hpp>

#include "io/temporary_folder.hpp"
#include "testing.hpp"

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <functional>
#include <limits>
#include <memory>
#include <optional>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

namespace gosset::quantized_any_test {
namespace {

using testing::expectThrows;
using testing::gaussian;
using testing::TemporaryFolder;
using Int4 = Grouped<Asymmetric<4>, 32>;
using Known = FormatList<Int4, Incoherent<E8P>, E8P, Float16>;

TEST(ReadAny, ShowsTheFilesMemoryAndKeepsIt) {
  const TemporaryFolder folder;
  const auto q = quantize<Int4>(gaussian(48, 96));
  SafetensorsWriter writer;
  addQuantized(writer, "a", AnyMatrix(q));
  addQuantized(writer, "b", quantize<Incoherent<E8P>>(gaussian(9, 65)));  // of which nothing fills whole cache lines
  writer.write(folder / "f");
  for (const FileAccess access : {FileAccess::kMap, FileAccess::kLoad}) {
    std::optional<SafetensorsFile> file(std::in_place, folder / "f", access);
    const AnyMatrix view = readAny<Known>(*file, "a"), copy = readAny<Known>(*file, "a", PackedAccess::kCopy);
    const AnyMatrix other = readAny<Known>(*file, "b");
    const std::span<const std::byte> codes = file->data("a.codes");
    EXPECT_FALSE(view.owns());
    EXPECT_TRUE(copy.owns());
    view.packed().visitFields([&](std::string_view name, const AnyField& field) {
      if (name != "codes") return;
      EXPECT_EQ(static_cast<const void*>(std::get<std::span<const std::uint8_t>>(field).data()), codes.data());
      EXPECT_EQ(reinterpret_cast<std::uintptr_t>(codes.data()) % 64, 0u) << "as kernels like it";
    });
    file.reset();  // the view goes on
    EXPECT_EQ(view, AnyMatrix(q));
    EXPECT_EQ(copy, view);
    EXPECT_EQ(other.format(), "Incoherent<E8P>");
    const Eigen::VectorXf x = gaussian(96, 1, 2);
    EXPECT_EQ(view * x, q * x);
  }
}

TEST(ReadAny, ViewsOfATypedMatrixToo) {
  const TemporaryFolder folder;
  const auto q = quantize<Float16>(gaussian(7, 9));
  SafetensorsWriter writer;
  addQuantized(writer, "w", q);
  addQuantized(writer, "none", QuantizedMatrix<Float16>());
  writer.write(folder / "f");
  const SafetensorsFile file(folder / "f");
  const auto view = readQuantized<QuantizedMatrix<Float16>>(file, "w", PackedAccess::kView);
  EXPECT_FALSE(view.owns());
  EXPECT_EQ(view, q);
  EXPECT_TRUE(readQuantized<QuantizedMatrix<Float16>>(file, "w").owns());
  const auto none = readQuantized<QuantizedMatrix<Float16>>(file, "none", PackedAccess::kView);
  EXPECT_TRUE(none.owns()) << "nothing to keep the file for";
  EXPECT_EQ(none.rows() + none.cols(), 0);
}

TEST(ReadAny, SaysWhichFormatsThereAre) {
  const TemporaryFolder folder;
  SafetensorsWriter writer;
  addQuantized(writer, "w", quantize<PerChannel<Symmetric<8>>>(gaussian(7, 9)));
  writer.write(folder / "f");
  const SafetensorsFile file(folder / "f");
  expectThrows<FormatError>([&] { (void)readAny<Known>(file, "w"); },
                            "packed matrix 'w': it has the format 'PerChannel<Symmetric<8>>', which is not among "
                            "those known here: Grouped<Asymmetric<4>, 32>; Incoherent<E8P>; E8P; Float16");
  expectThrows<FormatError>([&] { (void)readAny<Known>(file, "v"); }, "holds no packed matrix 'v'");
  SafetensorsWriter empty;
  expectThrows([&] { addQuantized(empty, "w", AnyMatrix()); }, "AnyMatrix: the matrix is empty and of no format");
}

TEST(ReadAny, ABareCodebookAndOneScaleForTheMatrixAreTheSame) {
  const TemporaryFolder folder;
  const auto bare = quantize<E8P>(gaussian(7, 16));
  const auto spelled = quantize<PerTensor<E8P>>(gaussian(7, 16));
  SafetensorsWriter writer;
  addQuantized(writer, "bare", bare);
  addQuantized(writer, "spelled", spelled);
  addQuantized(writer, "rotated", quantize<Incoherent<PerTensor<E8P>>>(gaussian(7, 16)));
  writer.write(folder / "f");
  const SafetensorsFile file(folder / "f");
  EXPECT_EQ(readQuantized<QuantizedMatrix<PerTensor<E8P>>>(file, "bare"), spelled);
  EXPECT_EQ(readQuantized<QuantizedMatrix<E8P>>(file, "spelled"), bare);
  EXPECT_EQ(readAny<Known>(file, "rotated").format(), "Incoherent<E8P>");
}

/// Whatever hooks a format needs.
struct Everything : Nearest {
  static constexpr unsigned kOptionalHooks = kChannelScalesHook | kOutlierColumnsHook | kColumnOrderHook;
  Eigen::VectorXf channelScales(const RowMatrixXf& w, const ChannelScaleTrial&) const {
    return Eigen::VectorXf::LinSpaced(w.cols(), 1.f, 3.f);
  }
  std::vector<std::uint32_t> outlierColumns(Index n) const { return {0, static_cast<std::uint32_t>(n - 1)}; }
  std::vector<std::uint32_t> columnOrder(Index n) const {  // the last column first
    std::vector<std::uint32_t> order;
    for (Index k = n; k-- > 0;) order.push_back(static_cast<std::uint32_t>(k));
    return order;
  }
};

/// A format behind one type, so that what tests do is compiled once.
struct Case {
  AnyMatrix (*quantized)(const RowMatrixXf&);
  AnyMatrix (*read)(const SafetensorsFile&, PackedAccess);
};
template <class... F>
std::vector<Case> casesOf() {
  return {Case{[](const RowMatrixXf& w) { return AnyMatrix(quantize<F>(w, Everything{})); },
               [](const SafetensorsFile& file, PackedAccess access) {
                 return AnyMatrix(readQuantized<QuantizedMatrix<F>>(file, "w", access));
               }}...};
}

using Base = Grouped<Asymmetric<3>, 8>;
template <class F>
using A = Incoherent<F>;
template <class F>
using B = ChannelScaled<F>;
template <class F>
using C = Outliers<F, 60>;
template <class F>
using D = MixedColumns<F>;
template <class F>
using H = ActOrder<F>;
template <class F>
using E = LowRank<F, 2>;
template <class F>
using G = LowRankFirst<F, 2, std::int8_t>;

std::vector<Case> simpleCases() {
  return casesOf<Base, E8P, PerChannel<Trits5>, PerTensor<Symmetric<8>, float>, BFloat16, Float16, float, A<Base>,
                 B<Base>, C<Base>, D<Base>, H<Base>, E<Base>, G<Base>>();
}
/// Every wrapper of a wrapper.
template <template <class> class... Outer>
struct Around {
  template <class Inner>
  static std::vector<Case> cases() {
    return casesOf<Outer<Inner>...>();
  }
};

void save(const std::filesystem::path& path, const AnyMatrix& q) {
  SafetensorsWriter writer;
  addQuantized(writer, "w", q);
  writer.write(path);
}

void expectBack(const std::vector<Case>& cases) {
  const TemporaryFolder folder;
  for (const Case& format : cases) {
    const AnyMatrix q = format.quantized(gaussian(9, 21));
    save(folder / "f", q);
    const SafetensorsFile file(folder / "f");
    EXPECT_EQ(format.read(file, PackedAccess::kCopy), q) << q;
    EXPECT_EQ(format.read(file, PackedAccess::kView), q) << q;
  }
}

TEST(ThroughFile, EveryFormatComesBack) { expectBack(simpleCases()); }

TEST(ThroughFile, EveryWrapperOfEveryWrapperComesBack) {
  using All = Around<A, B, C, D, H, E, G>;
  expectBack(All::cases<A<Base>>());
  expectBack(All::cases<B<Base>>());
  expectBack(All::cases<C<Base>>());
  expectBack(All::cases<D<Base>>());
  expectBack(All::cases<H<Base>>());
  expectBack(All::cases<E<Base>>());
  expectBack(All::cases<G<Base>>());
}

/// Where a tensor begins in its file.
std::uint64_t placeOf(const std::filesystem::path& path, const std::string& tensor) {
  const SafetensorsFile file(path, FileAccess::kLoad);
  const std::byte* begin = file.data(file.names().front()).data();
  std::uint64_t header = std::filesystem::file_size(path);
  for (const std::string& name : file.names()) {
    begin = std::min(begin, file.data(name).data(), std::less<>());
    header -= file.data(name).size();
  }
  return header + static_cast<std::uint64_t>(file.data(tensor).data() - begin);
}

template <class T>
void overwrite(const std::filesystem::path& path, std::uint64_t at, const T& value) {
  std::fstream file(path, std::ios::binary | std::ios::in | std::ios::out);
  file.seekp(static_cast<std::streamoff>(at));
  file.write(reinterpret_cast<const char*>(&value), sizeof(value));
  ASSERT_TRUE(file.good());
}

/// Overwrites a number of a tensor of 16- or 32-bit floats in a file; false where the tensor is of another type.
bool spoil(const std::filesystem::path& path, const std::string& tensor, float wrong) {
  const TensorInfo info = SafetensorsFile(path).info(tensor);
  if (info.bytes() == 0) return false;
  const std::uint64_t at = placeOf(path, tensor);
  if (info.dtype == Dtype::kF16) return overwrite(path, at, Float16(wrong)), true;
  if (info.dtype == Dtype::kBF16) return overwrite(path, at, BFloat16(wrong)), true;
  if (info.dtype == Dtype::kF32) return overwrite(path, at, wrong), true;
  return false;
}

TEST(ThroughFile, AFloatThatIsNotFiniteIsRefusedInEveryArray) {
  const TemporaryFolder folder;
  for (const Case& format : simpleCases()) {
    const AnyMatrix q = format.quantized(gaussian(9, 21));
    save(folder / "f", q);
    int spoiled = 0;
    for (const std::string& tensor : SafetensorsFile(folder / "f").names()) {
      for (const float wrong : {std::numeric_limits<float>::quiet_NaN(), -std::numeric_limits<float>::infinity()}) {
        save(folder / "f", q);
        if (!spoil(folder / "f", tensor, wrong)) continue;
        ++spoiled;
        const SafetensorsFile file(folder / "f");
        for (const PackedAccess access : {PackedAccess::kCopy, PackedAccess::kView}) {
          expectThrows<FormatError>([&] { (void)format.read(file, access); },
                                    "packed matrix 'w': its arrays hold numbers that make no sense in");
        }
      }
    }
    EXPECT_GE(spoiled, 2) << q;
  }
}

TEST(ThroughFile, AScaleBelowZeroOrAnOddUnitIsRefused) {
  const TemporaryFolder folder;
  const AnyMatrix q(quantize<Base>(gaussian(9, 21)));
  const std::string said = "'Grouped<Asymmetric<3>, 8>': ";
  const std::string scales = "scales: expected none below 0", unit = "unit: expected a power of two";
  for (const auto& [tensor, wrong, expected] : std::vector<std::tuple<std::string, float, std::string>>{
           {"w.scales", -1.f, scales}, {"w.unit", 0.75f, unit}, {"w.unit", -2.f, unit}, {"w.unit", 0.f, unit}}) {
    save(folder / "f", q);
    ASSERT_TRUE(spoil(folder / "f", tensor, wrong));
    const SafetensorsFile file(folder / "f");
    expectThrows<FormatError>([&] { (void)readAny<FormatList<Base>>(file, "w"); }, said + expected);
  }
}

/// The last byte of 21 codes of 3 bits has the high bits of 5: another file would have the same matrix if it were read.
TEST(ThroughFile, BitsThatBelongToNoCodeAreRefused) {
  const TemporaryFolder folder;
  using All = Around<A, B, C, D, E, G>;
  for (const auto& cases :
       {casesOf<Base, PerTensor<Base::Codebook>, A<Base>, B<Base>, C<Base>, D<Base>, E<Base>, G<Base>>(),
        All::cases<A<Base>>(), All::cases<C<Base>>()}) {
    for (const Case& format : cases) {
      const AnyMatrix q = format.quantized(gaussian(9, 21));
      save(folder / "f", q);
      std::string tensor;
      for (const std::string& name : SafetensorsFile(folder / "f").names())
        tensor = name.ends_with("codes") ? name : tensor;
      const std::uint64_t last = placeOf(folder / "f", tensor) + SafetensorsFile(folder / "f").info(tensor).bytes() - 1;
      std::ifstream whole(folder / "f", std::ios::binary);
      whole.seekg(static_cast<std::streamoff>(last));
      overwrite(folder / "f", last, static_cast<char>(whole.get() | 0x80));
      const SafetensorsFile file(folder / "f");
      for (const PackedAccess access : {PackedAccess::kCopy, PackedAccess::kView}) {
        expectThrows<FormatError>([&] { (void)format.read(file, access); },
                                  tensor.substr(2) + ": expected zeros in the bits that belong to no code");
      }
    }
  }
}

}  // namespace
}  // namespace gosset::quantized_any_test
