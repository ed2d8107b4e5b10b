// SPDX-License-Identifier: Apache-2.0
// The same for what stands around the codebooks: wrappers, calibration, the KV cache, training, entropy.
#include <gosset/calibration/awq.hpp>
#include <gosset/calibration/observers.hpp>
#include <gosset/codebook.hpp>
#include <gosset/entropy/code_entropy.hpp>
#include <gosset/format.hpp>
#include <gosset/kv.hpp>
#include <gosset/matrix.hpp>
#include <gosset/rounding.hpp>
#include <gosset/train.hpp>

namespace gs = gosset;
using Int4 = gs::PerChannel<gs::Symmetric<4>>;

/// Nearest, in an order that nothing can do without.
struct Ordered : gs::Nearest {
  std::vector<std::uint32_t> columnOrder(gs::Index n) const { return std::vector<std::uint32_t>(std::size_t(n)); }
};

void program(const Eigen::MatrixXf& w, const Eigen::MatrixXi& integers, const Eigen::VectorXi& integer_query,
             gs::KvCache<gs::Float16>& cache) {
#ifndef REFUSED  // the neighbours of the cases below are all right
  (void)gs::quantize<gs::ChannelScaled<Int4>>(w, gs::ChannelScales(Eigen::VectorXf::Ones(w.cols())));
  (void)gs::quantize<gs::LlmInt8>(w, gs::OutlierColumns(w, {.threshold = 6.f}));
  (void)gs::quantize<gs::ChannelScaled<gs::LlmInt8>>(w, gs::OutlierColumns(w, {}, gs::Awq(w)));
  (void)gs::quantize<Int4>(w, gs::Awq(w));
  (void)gs::quantize<gs::ActOrder<Int4>>(w, gs::Gptq(gs::Hessian(w.cols())));
  (void)gs::quantize<gs::Outliers<Int4, 1000>>(w);
  (void)gs::quantize<gs::LowRank<Int4, 1>>(w);
  (void)sizeof(gs::KvCache<Int4, gs::Float16>);
  cache.append(w, w.cast<double>());
  (void)cache.attend(w.row(0));
  (void)cache.attend(w.cast<double>());
  (void)gs::FakeQuant<gs::Grouped<gs::LloydMax<2>, 32>>().forward(w);
  (void)gs::LearnedStep<gs::Asymmetric<2>>(w).quantized(w);
  (void)gs::codeEntropy(gs::quantize<Int4>(w));
  (void)gs::affineOf<gs::Asymmetric<8>>(gs::ValueRange{-1, 1});
#endif

#ifdef CASE_CHANNEL_SCALED_WITHOUT_SCALES  // a ChannelScaled format takes its scales from the argument beside the
                                           // matrix
  (void)gs::quantize<gs::ChannelScaled<Int4>>(w);
#endif
#ifdef CASE_LLM_INT8_WITHOUT_COLUMNS  // a MixedColumns format such as LlmInt8 takes its outlier columns from the
                                      // argument
  (void)gs::quantize<gs::LlmInt8>(w);
#endif
#ifdef CASE_ACT_ORDER_WITHOUT_ORDER  // an ActOrder format takes the order of its columns from the argument beside the
  (void)gs::quantize<gs::ActOrder<Int4>>(w);
#endif
#ifdef CASE_IDLE_COLUMN_ORDER  // this rounding gives an order of the columns, which the format would ignore
  (void)gs::quantize<Int4>(w, Ordered{});
#endif
#ifdef CASE_IDLE_CHANNEL_SCALES  // this rounding gives scales of input channels, which the format would ignore
  (void)gs::quantize<Int4>(w, gs::ChannelScales(Eigen::VectorXf::Ones(w.cols())));
#endif
#ifdef CASE_IDLE_OUTLIER_COLUMNS  // this rounding gives outlier columns, which the format would ignore
  (void)gs::quantize<Int4>(w, gs::OutlierColumns(w));
#endif
#ifdef CASE_IDLE_OUTLIER_WEIGHTS  // this rounding weighs outliers, which the format would ignore
  (void)gs::quantize<Int4>(w, gs::BySensitivity(gs::Hessian(w.cols())));
#endif
#ifdef CASE_AWQ_WITHOUT_COLUMNS  // a MixedColumns format such as LlmInt8 takes its outlier columns from the argument
  (void)gs::quantize<gs::ChannelScaled<gs::LlmInt8>>(w, gs::Awq(w));
#endif
#ifdef CASE_CACHE_THAT_NEEDS_SCALES  // a cache rounds to nearest, so a format cannot be in it that takes scales
  (void)sizeof(gs::KvCache<gs::ChannelScaled<Int4>>);
#endif
#ifdef CASE_TOO_MANY_OUTLIERS  // Outliers<Format, permille>: between 1 and 1000 of a thousand numbers
  (void)gs::quantize<gs::Outliers<Int4, 1001>>(w);
#endif
#ifdef CASE_NO_RANK  // LowRank<Format, r>: the rank must be at least 1
  (void)gs::quantize<gs::LowRank<Int4, 0>>(w);
#endif
#ifdef CASE_CACHE_OF_NO_FORMAT  // KvCache<KeyFormat, ValueFormat>: each is a format that quantize<Format>(W) takes
  (void)sizeof(gs::KvCache<Int4, double>);
#endif
#ifdef CASE_INTEGER_KEYS  // KvCache::append(K, V): both must hold float, double, Eigen::half or Eigen::bfloat16
  cache.append(integers, w);
#endif
#ifdef CASE_INTEGER_QUERY  // KvCache::attend(q): q must hold float, double, Eigen::half or Eigen::bfloat16
  (void)cache.attend(integer_query);
#endif
#ifdef CASE_INTEGER_QUERIES  // KvCache::attend(q): q must hold float, double, Eigen::half or Eigen::bfloat16
  (void)cache.attend(integers);
#endif
#ifdef CASE_FAKE_QUANT_OF_A_LATTICE  // FakeQuant<Format> takes a codebook of single numbers
  (void)gs::FakeQuant<gs::E8P>().forward(w);
#endif
#ifdef CASE_LEARNED_STEP_OF_FLOATS  // LearnedStep<Format> takes a codebook of single numbers
  (void)gs::LearnedStep<gs::Float16>(w).quantized(w);
#endif
#ifdef CASE_ENTROPY_OF_FLOATS  // codeEntropy(q): the format of q stores no codes
  (void)gs::codeEntropy(gs::quantize<gs::Float16>(w));
#endif
#ifdef CASE_RANGE_FOR_GAUSSIAN_LEVELS  // affineOf(range): the codebook must take its scale from a range
  (void)gs::affineOf<gs::LloydMax<4>>(gs::ValueRange{-1, 1});
#endif
}
