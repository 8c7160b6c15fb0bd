// The coordinate networks' loops once more, with products of bfloat16; compiled for CPUs that have them.
#include "kernels.h"
#include "products_bf16.h"

namespace nf {
namespace NF_ISA {

template <bool kTiles> constexpr Bfloat16Set set(const char* name) {
    using P = Bf16Products<kTiles>;
    return {name, coordinate_forward<P>, coordinate_backward<P>, heads_forward<P>, heads_backward<P>};
}

extern const Bfloat16Set by_tiles, by_lanes;
const Bfloat16Set by_tiles = set<true>("amx"), by_lanes = set<false>("avx512_bf16");

}  // namespace NF_ISA
}  // namespace nf
