// The hash field on a warp's samples: encode, density network, colour network. Compiled for its Config:
//   NF_LEVELS, NF_FEATURES   the grid (see encode.h)         NF_DEGREE   of the direction's harmonics
//   NF_DENSITY, NF_COLOUR    the networks' stacks (see network.h)
//   NF_FORWARD, NF_BACKWARD  arithmetic (see fragments.h)
//
// Lanes own samples, products own tiles of rows: what one side makes for the other goes through a warp's own rows in
// shared memory.
#pragma once
#include "encode.h"
#include "network.h"
#include "../activation.h"
#include "../contraction.h"
#include "../spherical_harmonics.h"

namespace nf {

using Density = Stack<NF_DENSITY>;
using Colour = Stack<NF_COLOUR>;
using Element = NF_FORWARD::Element;

constexpr int kBands = NF_DEGREE * NF_DEGREE, kEncodedRow = padded16(kEncoded), kBandRow = padded16(kBands);
constexpr int kCode = Colour::padded_input - kBandRow;  // padded outputs of the density network
static_assert(Density::input == kEncoded && Colour::input - Colour::part == kBands, "the stacks fit the grid");

template <int M> using DensityChain = typename ChainOf<NF_FORWARD, M, Density>::Type;
template <int M> using ColourChain = typename ChainOf<NF_FORWARD, M, Colour>::Type;

// 16 bytes between rows keep the loads of operands free of bank conflicts.
constexpr int kMargin = 16 / sizeof(Element), kEncodedStride = kEncodedRow + kMargin, kBandStride = kBandRow + kMargin;

template <int M> struct WarpRows {
    alignas(16) Element encoded[16 * M * kEncodedStride];
    alignas(16) Element bands[16 * M * kBandStride];
    float out[16 * M][4];  // red, green, blue before their activation; log-density
};

// Columns that nobody writes later: read by products, against weights that are zero.
template <int M> NF_DEVICE void clear_rows(WarpRows<M>& rows) {
    for (int i = lane_of_warp(); i < 16 * M * kEncodedStride; i += 32) rows.encoded[i] = Element(0);
    for (int i = lane_of_warp(); i < 16 * M * kBandStride; i += 32) rows.bands[i] = Element(0);
    __syncwarp();
}

// x in the unit cube, to one row. Two levels' gathers are under way at a time; more would only make the code longer.
NF_DEVICE void encode_row(const float* table, const float* x, Element* row) {
    NF_UNROLL_2 for (int l = 0; l < kLevelCount; ++l) {
        Entry<float> f = encode_level(kLevels[l], table, x);
        NF_UNROLL for (int k = 0; k < kFeatures; k += 2)
            put_neighbours<NF_FORWARD>(row + l * kFeatures + k, f.v[k], f.v[k + 1]);
    }
}

NF_DEVICE void band_row(const float* direction, Element* row) {
    float bands[kBands];
    spherical_harmonics(direction[0], direction[1], direction[2], NF_DEGREE, bands);
    NF_UNROLL for (int k = 0; k < kBands; ++k) row[k] = element_of<NF_FORWARD>(bands[k]);
}

// Rows' encodings to the density network's outputs; rows.out[..][3] gets the log-density.
template <int M> NF_DEVICE void density_of_rows(WarpRows<M>& rows, const u32* weights, DensityChain<M>& chain) {
    load_rows(rows.encoded, kEncodedStride, 16 * M, chain.input);
    network_forward(chain, weights);
    auto& code = output_of(chain);
    if (lane_of_warp() % 4 == 0)
        NF_UNROLL for (int m = 0; m < M; ++m)
            NF_UNROLL for (int i = 0; i < 4; i += 2) rows.out[row_of(m, i)][3] = code.v[m][0][i];
    __syncwarp();
}

// The colour network's input: the density network's outputs beside the harmonics.
template <int M, int N> NF_DEVICE void colour_input(const WarpRows<M>& rows, const Rows<M, N>& code, ColourChain<M>& chain) {
    Operand<NF_FORWARD, M, kBandRow> bands;
    load_rows(rows.bands, kBandStride, 16 * M, bands);
    put_columns<0>(operand<NF_FORWARD>(code), chain.input);
    put_columns<kCode>(bands, chain.input);
}

template <int M> NF_DEVICE void colour_of_rows(WarpRows<M>& rows, const u32* weights, ColourChain<M>& chain) {
    network_forward(chain, weights);
    auto& rgb = output_of(chain);
    NF_UNROLL for (int m = 0; m < M; ++m)
        NF_UNROLL for (int i = 0; i < 4; ++i)
            if (column_of(0, i) < 3) rows.out[row_of(m, i)][column_of(0, i)] = rgb.v[m][0][i];
    __syncwarp();
}

}  // namespace nf
