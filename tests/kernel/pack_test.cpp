// SPDX-License-Identifier: Apache-2.0
#include <gosset/kernel/pack.hpp>

#include <gosset/codebook.hpp>

#include "testing.hpp"

#include <string>
#include <vector>

namespace gosset::GOSSET_ABI::detail::pack_test {
namespace {

template <Codebook C>
void expectAsLaneByLane() {
  const std::string before = instructionSet();
  for (const Index rows : {1, 15, 16, 17, 40}) {
    for (const Index codes : {1, 31, 32, 33, 64, 95, 96, 172}) {
      const TileLayout<C> layout(rows, codes);
      const Index stride = codes + 3;
      std::vector<typename C::Code> source(static_cast<std::size_t>(rows * stride));
      for (std::size_t i = 0; i < source.size(); ++i) {
        source[i] = static_cast<typename C::Code>(randomBits(5, i) & ((1u << C::kBits) - 1));
      }
      std::vector<std::uint8_t> expected(static_cast<std::size_t>(layout.bytes()));
      for (Index block = 0; block < layout.blocks(); ++block) {
        layout.packBlock(source.data() + block * kBlockRows * stride, stride, block, expected.data());
      }
      for (const std::string& set : instructionSets()) {
        useInstructionSet(set);
        std::vector<std::uint8_t> bytes(expected.size());
        for (Index block = 0; block < layout.blocks(); ++block) {
          packBlock(layout, source.data() + block * kBlockRows * stride, stride, block, bytes.data());
        }
        ASSERT_EQ(bytes, expected) << C::name() << ", " << set << ", " << rows << " x " << codes;
      }
    }
  }
  useInstructionSet(before);
}

TEST(Pack, AnyBitsAsLaneByLane) {
  expectAsLaneByLane<Binary>();
  expectAsLaneByLane<Ternary>();
  expectAsLaneByLane<Asymmetric<3>>();
  expectAsLaneByLane<Asymmetric<4>>();
  expectAsLaneByLane<Asymmetric<5>>();
  expectAsLaneByLane<Asymmetric<6>>();
  expectAsLaneByLane<Asymmetric<7>>();
  expectAsLaneByLane<Asymmetric<8>>();
  expectAsLaneByLane<E8P>();
}

}  // namespace
}  // namespace gosset::GOSSET_ABI::detail::pack_test
