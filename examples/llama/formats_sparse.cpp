// SPDX-License-Identifier: Apache-2.0
#include "formats_entry.hpp"

#include <gosset/codebook.hpp>
#include <gosset/format.hpp>

// Sparse and dense: one number of a hundred exactly, the others in few bits.
namespace llama::detail {

namespace {

using namespace gosset;  // NOLINT: a table of its names
template <int b>
using Sparse = Outliers<Grouped<Asymmetric<b>, 32>, 10>;

template <int b>
std::unique_ptr<Linear> packSensitive(const PackJob& job) {
  return packed<Sparse<b>>(job, BySensitivity(job.inputs->hessian));
}

template <int b>
std::unique_ptr<Linear> packSensitiveGptq(const PackJob& job) {
  const Hessian& h = job.inputs->hessian;
  return packed<Sparse<b>>(job, BySensitivity(h, Gptq(h, {.act_order = true})), LeastSquares{});
}

}  // namespace

std::vector<FormatEntry> sparseFormats() {
  return {
      entry<Sparse<4>>("sparse4-g32", "asym4-g32 and the largest 1% of a row in 16 bits"),
      entry<Sparse<3>>("sparse3-g32", "asym3-g32 and the largest 1% of a row in 16 bits"),
      entry<Sparse<2>>("sparse2-g32", "asym2-g32 and the largest 1% of a row in 16 bits"),
      calibrated<Sparse<3>>("sparse3-g32-h", "sparse3-g32, the 1% that matter most", &packSensitive<3>),
      calibrated<Sparse<2>>("sparse2-g32-h", "sparse2-g32, the 1% that matter most", &packSensitive<2>),
      calibrated<Sparse<4>>("spqr4-g32", "GPTQ, 4 bits, and the 1% that matter most", &packSensitiveGptq<4>),
      calibrated<Sparse<3>>("spqr3-g32", "GPTQ, 3 bits, and the 1% that matter most", &packSensitiveGptq<3>),
      calibrated<Sparse<2>>("spqr2-g32", "GPTQ, 2 bits, and the 1% that matter most", &packSensitiveGptq<2>),
  };
}

}  // namespace llama::detail
