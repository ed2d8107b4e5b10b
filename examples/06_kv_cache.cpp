// SPDX-License-Identifier: Apache-2.0
// A KV cache that stays compressed while attention reads it: KIVI's 2 bits, and GEAR, which adds outliers and a
// low-rank correction. Keys have channels that are large for every token; groups that run along tokens take them in
// their stride.
#include "data.hpp"

#include <gosset/gosset.hpp>

#include <cstdio>

int main() {
  const gosset::KvShape shape{.heads = 8, .kv_heads = 2, .head_dim = 64};  // 4 queries share a head of keys and values
  const Eigen::Index width = shape.kv_heads * shape.head_dim;
  Eigen::MatrixXf K = example::gaussian(512, width, 1);  // tokens x kv_heads * head_dim
  K.col(3).array() += 10.f;
  Eigen::MatrixXf V = example::gaussian(512, width, 2);
  V.rowwise() += 2 * example::gaussian(1, width, 4).row(0);  // channels with means of their own
  const Eigen::MatrixXf q = example::gaussian(1, shape.heads * shape.head_dim, 3);

  gosset::KvCache<gosset::Float16> exact(shape);
  exact.append(K, V);
  const auto report = [&](const char* name, auto cache) {
    cache.append(K.topRows(400), V.topRows(400));                              // a prompt at once,
    for (int t = 400; t < 512; ++t) cache.append(K.row(t), V.row(t));          // then token by token
    const Eigen::MatrixXf o = exact.attend(q), approximate = cache.attend(q);  // softmax(q K^T / sqrt(d)) V
    std::printf("%-16s %5.2f bits an element, attention error %4.1f%%\n", name, cache.bitsPerElement(),
                100.0 * (approximate - o).norm() / o.norm());
  };
  using gosset::KvCache, gosset::Kivi, gosset::Gear;
  report("16 bits", KvCache<gosset::Float16>(shape));
  report("KIVI, 4 bits", KvCache<Kivi<4, 32>>(shape, {.window = 64}));
  report("KIVI, 2 bits", KvCache<Kivi<2, 32>>(shape, {.window = 64}));
  report("GEAR, 2 bits", KvCache<Gear<2, 32, /*rank*/ 2, /*outliers, per mille*/ 10>>(shape, {.window = 64}));
  report("keys 4, values 2", KvCache<Kivi<4, 32>, Kivi<2, 32>>(shape, {.window = 64}));  // they need not agree
}

/* Prints:
16 bits          16.00 bits an element, attention error  0.0%
KIVI, 4 bits      5.00 bits an element, attention error  0.8%
KIVI, 2 bits      3.00 bits an element, attention error  4.9%
GEAR, 2 bits      3.81 bits an element, attention error  4.5%
keys 4, values 2  4.00 bits an element, attention error  4.4%
*/
