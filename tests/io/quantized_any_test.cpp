// SPDX-License-Identifier: Apache-2.0
// Files whose formats a program learns when it reads them; views; every format through a file; what files get wrong.
#include <gosset/codebook.hpp>
#include <gosset/format.hpp>
#include <gosset/io/quantized.hpp>
#include <gosset/matrix.hpp>
#include <gosset/rounding.hpp>

#include "io/temporary_folder.hpp"
#include "testing.hpp"

#include <fstream>
#include <limits>
#include <memory>
#include <optional>

namespace gosset {
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
  addQuantized(writer, "b", quantize<Incoherent<E8P>>(gaussian(9, 65)));
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
  writer.write(folder / "f");
  const SafetensorsFile file(folder / "f");
  const auto view = readQuantized<QuantizedMatrix<Float16>>(file, "w", PackedAccess::kView);
  EXPECT_FALSE(view.owns());
  EXPECT_EQ(view, q);
  EXPECT_TRUE(readQuantized<QuantizedMatrix<Float16>>(file, "w").owns());
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
  static constexpr unsigned kOptionalHooks = kChannelScalesHook | kOutlierColumnsHook;
  Eigen::VectorXf channelScales(const RowMatrixXf& w, const ChannelScaleTrial&) const {
    return Eigen::VectorXf::LinSpaced(w.cols(), 1.f, 3.f);
  }
  std::vector<std::uint32_t> outlierColumns(Index n) const { return {0, static_cast<std::uint32_t>(n - 1)}; }
};

template <class F>
class ThroughFile : public ::testing::Test {};
// Every wrapper of every wrapper.
using Base = Grouped<Asymmetric<3>, 8>;
template <class Inner>
using A = Incoherent<Inner>;
template <class Inner>
using B = ChannelScaled<Inner>;
template <class Inner>
using C = Outliers<Inner, 60>;
template <class Inner>
using D = MixedColumns<Inner>;
template <class Inner>
using E = LowRank<Inner, 2>;
template <class Inner>
using G = LowRankFirst<Inner, 2, std::int8_t>;
using Nested = ::testing::Types<Base, E8P, PerChannel<Trits5>, PerTensor<Symmetric<8>, float>, BFloat16, A<A<Base>>,
                                A<B<Base>>, A<C<Base>>, A<D<Base>>, A<E<Base>>, A<G<Base>>, B<A<Base>>, B<B<Base>>,
                                B<C<Base>>, B<D<Base>>, B<E<Base>>, B<G<Base>>, C<A<Base>>, C<B<Base>>, C<C<Base>>,
                                C<D<Base>>, C<E<Base>>, C<G<Base>>, D<A<Base>>, D<B<Base>>, D<C<Base>>, D<D<Base>>,
                                D<E<Base>>, D<G<Base>>, E<A<Base>>, E<B<Base>>, E<C<Base>>, E<D<Base>>, E<E<Base>>,
                                E<G<Base>>, G<A<Base>>, G<B<Base>>, G<C<Base>>, G<D<Base>>, G<E<Base>>, G<G<Base>>>;
TYPED_TEST_SUITE(ThroughFile, Nested);

TYPED_TEST(ThroughFile, ComesBack) {
  const TemporaryFolder folder;
  const auto q = quantize<TypeParam>(gaussian(9, 21), Everything{});
  SafetensorsWriter writer;
  addQuantized(writer, "w", q);
  writer.write(folder / "f");
  const SafetensorsFile file(folder / "f");
  EXPECT_EQ(readQuantized<QuantizedMatrix<TypeParam>>(file, "w"), q);
  EXPECT_EQ(readQuantized<QuantizedMatrix<TypeParam>>(file, "w", PackedAccess::kView), q);
}

TYPED_TEST(ThroughFile, AFloatThatIsNotFiniteIsRefusedInEveryArray) {
  const TemporaryFolder folder;
  const auto good = quantize<TypeParam>(gaussian(9, 21), Everything{}).packed();
  std::vector<std::string> arrays;
  good.visitFields([&]<class T>(std::string_view name, std::span<T> values) {
    if (StorageScalar<std::remove_const_t<T>> && !values.empty()) arrays.emplace_back(name);
  });
  ASSERT_FALSE(arrays.empty());
  for (const std::string& array : arrays) {
    for (const float wrong : {std::numeric_limits<float>::quiet_NaN(), -std::numeric_limits<float>::infinity()}) {
      auto packed = good;
      packed.visitFields([&]<class T>(std::string_view name, std::span<T> values) {
        if constexpr (StorageScalar<T>) {
          if (name == array) values[values.size() / 2] = static_cast<T>(wrong);
        }
      });
      SafetensorsWriter writer;
      addPacked(writer, "w", packed);
      writer.write(folder / "f");
      const SafetensorsFile file(folder / "f");
      expectThrows<FormatError>([&] { (void)readPacked<Packed<TypeParam>>(file, "w"); },
                                "packed matrix 'w': its arrays hold numbers that make no sense in");
    }
  }
}

}  // namespace
}  // namespace gosset
