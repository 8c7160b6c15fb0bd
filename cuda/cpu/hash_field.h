// The hash field on one tile: encode, density network, colour network.
//
// The direction's harmonics are the same for all samples of a ray, so their part of the first colour layer is computed
// once per run (a stretch of samples of one ray) and added to its samples as a bias.
#pragma once
#include "../activation.h"
#include "../contraction.h"
#include "../signed_distance.h"
#include "../spherical_harmonics.h"
#include "network.h"

namespace nf {
namespace NF_ISA {

constexpr int kMaxRuns = 64;

struct Run {
    int begin, count;  // samples in the tile
};

// Both networks packed. The first colour layer is split: its columns for the density network's outputs stay in
// `colour`, those for the harmonics become a layer of their own.
template <class T> struct PackedField {
    Packed<T> density, colour, harmonics;
    int code, width, bands;  // outputs of the density network, width of the first colour layer, harmonics

    static i64 size(const FieldConfig& c) {
        return Packed<T>::size(c.density_layers, c.density_widths) + 2 * Packed<T>::size(c.colour_layers, c.colour_widths) +
               2 * i64(c.colour_widths[0]) * c.colour_widths[1] + 256;
    }

    void pack(const FieldArgs<T>& f, Scratch& scratch) {
        const FieldConfig& c = f.config;
        code = c.density_widths[c.density_layers];
        bands = c.degree * c.degree;
        width = c.colour_widths[1];
        density.pack(c.density_layers, c.density_widths, f.density_weights, scratch);
        T* from_code = scratch.take<T>(i64(width) * code);
        T* from_bands = scratch.take<T>(i64(width) * bands);
        for (int o = 0; o < width; ++o) {
            for (int i = 0; i < code; ++i) from_code[o * code + i] = f.colour_weights[0][o * (code + bands) + i];
            for (int i = 0; i < bands; ++i) from_bands[o * bands + i] = f.colour_weights[0][o * (code + bands) + code + i];
        }
        const T* weights[kMaxLayers];
        int widths[kMaxLayers + 1];
        for (int l = 0; l < c.colour_layers; ++l) weights[l] = f.colour_weights[l];
        for (int l = 0; l <= c.colour_layers; ++l) widths[l] = c.colour_widths[l];
        weights[0] = from_code;
        widths[0] = code;
        colour.pack(c.colour_layers, widths, weights, scratch);
        const int harmonic_widths[2] = {bands, width};
        const T* harmonic_weights[1] = {from_bands};
        harmonics.pack(1, harmonic_widths, harmonic_weights, scratch);
    }
};

// Activations of a tile of the whole field.
template <class T> struct FieldTile {
    Tile<T> density, colour;  // colour.rows[0] takes the density network's outputs of the samples that get a colour
    T *bands, *bias;          // [kMaxRuns][padded bands], [kMaxRuns][padded width]

    static i64 size(const FieldConfig& c) {
        return Tile<T>::size(c.density_layers, c.density_widths) + Tile<T>::size(c.colour_layers, c.colour_widths) +
               i64(kTile) * (padded<T>(16) + padded<T>(c.colour_widths[1])) + 256;
    }
    void take(const FieldConfig& c, const PackedField<T>& field, Scratch& scratch) {
        density.take(c.density_layers, c.density_widths, scratch);
        colour.take(c.colour_layers, field.colour.widths, scratch);
        bands = scratch.take<T>(i64(kTile) * padded<T>(16));
        bias = scratch.take<T>(i64(kTile) * padded<T>(c.colour_widths[1]));
    }
};

template <class T>
inline void encode_tile(const FieldArgs<T>& f, const T* x, i64 stride, int n, T* out, i64 row) {
    const FieldConfig& c = f.config;
    for (int l = 0; l < c.active; ++l)
        NF_FOR_FEATURES(c.features,
                        (encode_level<T, kF>(c.levels[l], f.table, x, stride, n, out + l * kF, row)))
    int first = c.active * c.features, end = c.level_count * c.features;
    for (int s = 0; s < n && first < end; ++s)
        for (int i = first; i < end; ++i) out[s * row + i] = 0;
}

// Log-densities of a tile from the outputs of its density network; x readable up to whole lanes, as is `out` [kTile].
template <class T>
inline void log_densities(const FieldArgs<T>& f, const T* code, i64 code_row, const T* x, i64 stride, int n, T* out) {
    using V = Lanes<T>;
    for (int s = 0; s < n; ++s) out[s] = code[s * code_row];
    const DistanceConfig& c = f.config.distance;
    if (!(c.inner > 0)) return;
    T background[kTile];
    for (int s = 0; s < n; ++s) background[s] = code[s * code_row + 1];
    for (int s = 0; s < n; s += kWidth<T>) {
        V at[3] = {load<V>(x + s), load<V>(x + stride + s), load<V>(x + 2 * stride + s)}, v[3];
        V reach = about_middle(at, c, v);
        V inside = log_laplace(signed_distance(v, load<V>(out + s), c), f.beta);
        store(out + s, select_(reach <= V{} + T(0.5), inside, load<V>(background + s)));
    }
}

// Gradients of a tile's codes from those of its log-densities, added; returns that of beta.
template <class T>
inline double log_densities_backward(const FieldArgs<T>& f, const T* code, i64 code_row, const T* x, i64 stride, int n,
                                     const T* d_log_density, T* d_code) {
    const DistanceConfig& c = f.config.distance;
    T d_beta = 0;
    for (int s = 0; s < n; ++s) {
        if (!(c.inner > 0)) {
            d_code[s * code_row] += d_log_density[s];
            continue;
        }
        T at[3] = {x[s], x[stride + s], x[2 * stride + s]}, v[3];
        if (!(about_middle(at, c, v) <= T(0.5))) {
            d_code[s * code_row + 1] += d_log_density[s];
            continue;
        }
        T d = signed_distance(v, code[s * code_row], c);
        d_code[s * code_row] += T(c.residual) * log_laplace_backward(d, f.beta, d_log_density[s], d_beta);
    }
    return double(d_beta);
}

// The harmonics' share of the first colour layer, for `runs` directions in tile.bands.
template <class T> inline void colour_bias(const PackedField<T>& field, const FieldTile<T>& tile, int runs) {
    i64 row = padded<T>(field.width);
    gemm<T>({tile.bands, padded<T>(field.bands), 1}, field.harmonics.forward[0], row, tile.bias, row, runs, field.width,
            field.bands, false);
}

template <class T> inline void copy_row(const T* from, T* to, i64 count) {
    using V = Lanes<T>;
    for (i64 i = 0; i < count; i += kWidth<T>) store(to + i, load<V>(from + i));
}

}  // namespace NF_ISA
}  // namespace nf
