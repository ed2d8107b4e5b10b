// SPDX-License-Identifier: Apache-2.0
// All kernels, in a namespace for each instruction set (core/instruction_set.hpp).
#ifdef GOSSET_SET

#include <gosset/kernel/tile_code.hpp>
//
#include <gosset/kernel/e8p_tile.hpp>
#include <gosset/kernel/scalar_tile.hpp>
#include <gosset/kernel/trits5_tile.hpp>
//
#include <gosset/kernel/view.hpp>
//
#include <gosset/kernel/trellis_decoder.hpp>
//
#include <gosset/kernel/trellis_tile.hpp>
//
#include <gosset/kernel/activations.hpp>
#include <gosset/kernel/folded_rows.hpp>
//
#include <gosset/kernel/fixed_point.hpp>
//
#include <gosset/kernel/float_product.hpp>
#include <gosset/kernel/plain_product.hpp>
#include <gosset/kernel/point_kernel.hpp>
#include <gosset/kernel/rounded_product.hpp>
#include <gosset/kernel/row_product.hpp>
#include <gosset/kernel/transposed_float.hpp>
#include <gosset/kernel/transposed_planes.hpp>
//
#include <gosset/kernel/transposed_integer.hpp>
//
#include <gosset/kernel/row_floats.hpp>
//
#include <gosset/kernel/code_product.hpp>
#include <gosset/kernel/transposed_codes.hpp>

#elif !defined(GOSSET_KERNEL_KERNELS)
#define GOSSET_KERNEL_KERNELS

#include <gosset/codebook/concepts.hpp>
#include <gosset/codebook/point_table.hpp>
#include <gosset/codebook/trellis.hpp>
#include <gosset/codebook/trits5.hpp>
#include <gosset/core/activations.hpp>
#include <gosset/core/aligned.hpp>
#include <gosset/core/ordered_product.hpp>
#include <gosset/core/parallel.hpp>
#include <gosset/core/types.hpp>
#include <gosset/core/vectors.hpp>
#include <gosset/kernel/byte_levels.hpp>
#include <gosset/kernel/code_view.hpp>
#include <gosset/kernel/e8p_tile_tables.hpp>
#include <gosset/kernel/layout.hpp>
#include <gosset/kernel/tile_order.hpp>
#include <gosset/kernel/trellis_decoder_tables.hpp>
#include <gosset/kernel/trellis_layout.hpp>
#include <gosset/kernel/trits5_tables.hpp>

#define GOSSET_FRAGMENTS <gosset/kernel/kernels.hpp>
#include <gosset/core/for_each_set.inc>
#undef GOSSET_FRAGMENTS

namespace gosset::GOSSET_ABI {

// Outside of kernels, as for codebooks of your own, these are what the flags promise.
using by_flags::hasKernel;
using by_flags::levelsOfTerms;
using by_flags::Tile;
using by_flags::TileCode;
using by_flags::TileCodebook;
using by_flags::tileCodes;

namespace detail {

using gosset::TileCodebook;

/// Whether a codebook's kernel is known to all sets: to those of gosset's own, that is, while a TileCode of your own is
/// what the flags make of it.
template <class C>
inline constexpr bool kInAllSets = TileCodebook<C> GOSSET_IF_AVX2(&&avx2::TileCodebook<C>)
    GOSSET_IF_AVX2_VNNI(&&avx2_vnni::TileCodebook<C>) GOSSET_IF_AVX512(&&avx512::TileCodebook<C>)
        GOSSET_IF_AVX512_VBMI(&&avx512_vbmi::TileCodebook<C>);

}  // namespace detail
}  // namespace gosset::GOSSET_ABI

#endif
