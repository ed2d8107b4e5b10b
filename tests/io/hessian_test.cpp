// SPDX-License-Identifier: Apache-2.0
#include <gosset/io/hessian.hpp>

#include "temporary_folder.hpp"
#include "testing.hpp"

namespace gosset::hessian_test {
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
  expectThrows([&] { addHessian(writer, "h", Hessian(3)); }, "addHessian: the Hessian 'h' has seen no tokens");
  writer.add("h.hessian", Eigen::MatrixXd::Ones(2, 3));
  writer.add("h.tokens", Eigen::VectorXd::Ones(1));
  writer.add("two.hessian", Eigen::MatrixXd::Ones(2, 2));
  writer.add("two.tokens", Eigen::VectorXd::Ones(2));
  writer.add("no.hessian", Eigen::MatrixXd::Ones(2, 2));
  writer.add("no.tokens", Eigen::VectorXd::Zero(1));
  writer.add("floats.hessian", Eigen::MatrixXf::Ones(2, 2));
  const SafetensorsFile file = written(writer);
  expectThrows<FormatError>([&] { readHessian(file, "h"); }, ": gosset: Hessian: expected a square matrix, got 2 x 3");
  expectThrows<FormatError>([&] { readHessian(file, "two"); }, ": expected one number, found 2");
  expectThrows<FormatError>([&] { readHessian(file, "none"); }, "holds no tensor 'none.hessian'");
  expectThrows<FormatError>([&] { readHessian(file, "floats"); }, "expected F64, the file holds F32");
  expectThrows<FormatError>([&] { readHessian(file, "no"); }, ": expected a positive number, found 0");
  for (const char* name : {"no.tokens", "h.hessian", "two.tokens", "floats.hessian"}) {
    expectThrows<FormatError>([&, n = std::string(name)] { readHessian(file, n.substr(0, n.find('.'))); },
                              "tensor '" + std::string(name) + "' at byte ");
  }
}

TEST_F(HessianFile, ATakenNameAddsNothing) {
  Hessian h(2);
  h.accumulate(gaussian(5, 2));
  SafetensorsWriter writer;
  writer.add("a.tokens", Eigen::VectorXd::Ones(1));
  writer.add("b.hessian", Eigen::VectorXd::Ones(1));
  expectThrows([&] { addHessian(writer, "a", h); }, "name: tensor 'a.tokens' was added before");
  expectThrows([&] { addHessian(writer, "b", h); }, "name: tensor 'b.hessian' was added before");
  EXPECT_FALSE(writer.contains("a.hessian") || writer.contains("b.tokens"));
}

}  // namespace
}  // namespace gosset::hessian_test
