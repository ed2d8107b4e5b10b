// SPDX-License-Identifier: Apache-2.0
#include "fuzz.hpp"

#include <gosset/codebook.hpp>
#include <gosset/format.hpp>
#include <gosset/io/quantized.hpp>
#include <gosset/matrix/any_matrix.hpp>
#include <gosset/matrix/format_list.hpp>

#include <type_traits>

namespace gosset::fuzz {
namespace {

/// Every kind of format, in few: they take long to compile.
using Formats = FormatList<Grouped<Asymmetric<4>, 32>, ChannelScaled<PerChannel<Trits5>>,
                           LowRank<Outliers<PerChannel<Asymmetric<3>>, 100>, 2>, Incoherent<LlmInt8>,
                           ActOrder<Grouped<Symmetric<4>, 32>>, LowRankFirst<Incoherent<E8P>, 2, std::int8_t>,
                           PerChannel<Trellis<11, 8, 12>>, Grouped<TrellisMixed, 64>, Float16>;

void use(AnyMatrix matrix) {
  const RowMatrixXf w = matrix.dequantized();
  expect(w.rows() == matrix.rows() && w.cols() == matrix.cols(), "the matrix's shape");
  (void)matrix.bitsPerWeight();
  if (matrix.rows() > 0) (void)matrix.row(matrix.rows() - 1);
  for (const auto activations : {Activations::kRounded, Activations::kFloat, Activations::kRoundedPerToken}) {
    matrix.setActivations(activations);
    for (const Index tokens : {1, 3}) {
      const Eigen::MatrixXf y = matrix * someMatrix(matrix.cols(), tokens);
      expect(y.rows() == matrix.rows() && y.cols() == tokens, "a product's shape");
    }
  }
  Eigen::MatrixXf transposed = Eigen::MatrixXf::Zero(matrix.cols(), 2);
  matrix.packed().addTransposed(someMatrix(matrix.rows(), 2), transposed);
}

void readMatrix(View input, Progress& progress) {
  const SafetensorsFile file(pathOf(input), FileAccess::kLoad);
  progress.passHeader();
  const AnyMatrix matrix = readAny<Formats>(file, "w");
  progress.load();
  constexpr Index kLarge = 2000;  // the products of some lengths take memory that grows with their square
  if (matrix.rows() <= kLarge && matrix.cols() <= kLarge) use(matrix);
  const AnyMatrix copy = readAny<Formats>(file, "w", PackedAccess::kCopy);
  expect(copy == matrix, "the copy to be the view");
  if (!isRare(input)) return;
  SafetensorsWriter writer;
  addQuantized(writer, "w", matrix);
  const Bytes bytes = bytesOf(writer);
  expect(readAny<Formats>(SafetensorsFile(pathOf(bytes, 1), FileAccess::kLoad), "w") == matrix, "the same matrix");
}

std::vector<Bytes> seeds() {
  std::vector<Bytes> seeds;
  for (const std::string& name : Formats::names()) {
    Formats::visit(name, [&]<class F>(std::type_identity<F>) {
      for (const Index cols : {33, 64}) {
        SafetensorsWriter writer;
        addPacked(writer, "w", somePacked<F>(cols == 64 ? 17 : 5, cols));
        seeds.push_back(bytesOf(writer));
      }
      return 0;
    });
  }
  return seeds;
}

}  // namespace

Reader quantizedReader() { return {"quantized", seeds, readMatrix, mutateSafetensors}; }

}  // namespace gosset::fuzz
