// SPDX-License-Identifier: Apache-2.0
#include <gosset/io/hessian.hpp>

#include "temporary_folder.hpp"
#include "testing.hpp"

namespace gosset {
namespace {

using testing::expectThrows;
using testing::gaussian;

class HessianFile : public ::testing::Test {
 protected:
  SafetensorsFile written(const SafetensorsWriter& writer) {
    writer.write(path_);
    return SafetensorsFile(path_);
  }

  testing::TemporaryFolder folder_;
  std::filesystem::path path_ = folder_.path() / "h.safetensors";
};

TEST_F(HessianFile, ComesBackToTheBit) {
  Hessian h(17);
  h.accumulate(gaussian(40, 17));
  SafetensorsWriter writer;
  addHessian(writer, "layer.0", h);
  const Hessian back = readHessian(written(writer), "layer.0");
  EXPECT_EQ(back.matrix(), h.matrix());
  EXPECT_EQ(back.tokens(), 40);
  Hessian more = back, original = h;
  more.accumulate(gaussian(3, 17, 2));
  original.accumulate(gaussian(3, 17, 2));
  EXPECT_EQ(more.matrix(), original.matrix());
}

TEST_F(HessianFile, RefusesWhatIsNoHessian) {
  SafetensorsWriter writer;
  expectThrows([&] { addHessian(writer, "h", Hessian(3)); }, "addHessian: the Hessian has seen no tokens");
  writer.add("h.hessian", Eigen::MatrixXd::Ones(2, 3));
  writer.add("h.tokens", Eigen::VectorXd::Ones(1));
  writer.add("two.hessian", Eigen::MatrixXd::Ones(2, 2));
  writer.add("two.tokens", Eigen::VectorXd::Ones(2));
  writer.add("floats.hessian", Eigen::MatrixXf::Ones(2, 2));
  const SafetensorsFile file = written(writer);
  expectThrows<FormatError>([&] { readHessian(file, "h"); },
                            "tensor h.hessian: gosset: Hessian: expected a square matrix, got 2 x 3");
  expectThrows<FormatError>([&] { readHessian(file, "two"); }, "tensor two.tokens: expected one number, found 2");
  expectThrows<FormatError>([&] { readHessian(file, "none"); }, "none.hessian");
  expectThrows<FormatError>([&] { readHessian(file, "floats"); }, "floats.hessian");
}

}  // namespace
}  // namespace gosset
