// SPDX-License-Identifier: Apache-2.0
// With a workspace attendTo() takes no memory: every operator new of this program is counted, and Eigen's own
// allocations are forbidden.
#ifndef EIGEN_RUNTIME_NO_MALLOC  // as tests/precompiled.hpp does
#define EIGEN_RUNTIME_NO_MALLOC
#endif
#include <gosset/codebook.hpp>
#include <gosset/kv/formats.hpp>
#include <gosset/kv/kv_cache.hpp>

#include "counting_allocation.hpp"
#include "testing.hpp"

namespace gosset::attend_allocation_test {
namespace {

using testing::gaussian;

long allocations() { return testing::allocations().count; }

template <class Format>
class AttendAllocation : public ::testing::Test {};
using Formats =
    ::testing::Types<Float16, Kivi<2, 64>, Kivi<8, 64>, Gear<2, 64, 4, 20>, LowRank<Kivi<4, 64>, 4, std::int8_t>,
                     Incoherent<Gear<3, 64, 2, 20>>, Incoherent<Grouped<E8P, 64>>, Grouped<NormalFloat4, 64>>;
TYPED_TEST_SUITE(AttendAllocation, Formats);

TYPED_TEST(AttendAllocation, None) {
  const KvShape shape{.heads = 8, .kv_heads = 2, .head_dim = 64};
  KvCache<TypeParam> cache(shape, {.window = 64, .longest_block = 192});
  cache.append(gaussian(500, shape.kvWidth(), 1), gaussian(500, shape.kvWidth(), 2));
  cache.truncate(470);  // within a block
  cache.append(gaussian(30, shape.kvWidth(), 3), gaussian(30, shape.kvWidth(), 4));
  Eigen::VectorXf q = gaussian(shape.queryWidth(), 1, 5), output(shape.queryWidth());
  AttendWorkspace workspace;
  const auto attend = [&] {
    cache.attendTo(q, output, {.workspace = &workspace});
    cache.attendTo(q, output, {.scale = 2.f, .sliding_window = 100, .workspace = &workspace}, SoftCap{20});
  };
  const long before = allocations();
  attend();
  EXPECT_GT(allocations(), before) << "the first sets up its workspace; and they are counted";
  const long ready = allocations();
  Eigen::internal::set_is_malloc_allowed(false);
  attend();
  Eigen::internal::set_is_malloc_allowed(true);
  EXPECT_EQ(allocations(), ready);
  EXPECT_TRUE(output.allFinite());
  // Another layer of the same shape, which is merging.
  KvCache<TypeParam> layer(shape, {.window = 64, .longest_block = 192, .merge = true});
  layer.append(gaussian(470, shape.kvWidth(), 6), gaussian(470, shape.kvWidth(), 7));
  const long before_layer = allocations();
  layer.attendTo(q, output, {.workspace = &workspace});
  EXPECT_EQ(allocations(), before_layer);
}

TEST(AttendAllocation, NoneOverPiecesOfALongCache) {
  const KvShape shape{.heads = 2, .kv_heads = 1, .head_dim = 16};
  KvCache<Kivi<4, 64>> cache(shape, {.keep_first = 4});
  cache.append(gaussian(9000, 16, 1), gaussian(9000, 16, 2));
  const Eigen::VectorXf q = gaussian(shape.queryWidth(), 1, 5), sinks = Eigen::VectorXf::Zero(2);
  Eigen::VectorXf output(shape.queryWidth());
  AttendWorkspace workspace;
  const AttendOptions options{.workspace = &workspace, .sinks = sinks, .activations = Activations::kRounded};
  cache.attendTo(q, output, options);
  const long ready = allocations();
  Eigen::internal::set_is_malloc_allowed(false);
  cache.attendTo(q, output, options);
  Eigen::internal::set_is_malloc_allowed(true);
  EXPECT_EQ(allocations(), ready);
}

}  // namespace
}  // namespace gosset::attend_allocation_test
