// SPDX-License-Identifier: Apache-2.0
#include "formats_entry.hpp"

#include <gosset/codebook.hpp>
#include <gosset/format.hpp>

// Lattice codes in a random basis.
namespace llama::detail {

/// QuIP#: block LDLQ in the rotated basis.
template <class Codebook>
static std::unique_ptr<Linear> packQuip(const PackJob& job) {
  return packed<gosset::Incoherent<Codebook>>(job, gosset::Ldlq(job.inputs->hessian));
}

std::vector<FormatEntry> latticeFormats() {
  using namespace gosset;  // NOLINT: a table of its names
  return {
      calibrated<Incoherent<E8PRvq4>>("quip#4", "QuIP#, 4 bits", &packQuip<E8PRvq4>),
      calibrated<Incoherent<E8PRvq3>>("quip#3", "QuIP#, 3 bits", &packQuip<E8PRvq3>),
      calibrated<Incoherent<E8P>>("quip#2", "QuIP#, 2 bits", &packQuip<E8P>),
  };
}

}  // namespace llama::detail
