// The hash grid as an op of its own: its levels on a tile of samples, forward and backward.
#pragma once
#include "encode.h"
#include "kernels.h"

namespace nf {
namespace NF_ISA {

template <class T, int D> void hash_forward_tile(const HashArgs<T>& g, i64 begin, int n) {
    i64 row = i64(g.level_count) * g.features;
    T x[D][kTile];
    load_tile<D>(g.x, begin, n, x);
    for (int l = 0; l < g.level_count; ++l)
        NF_FOR_FEATURES(g.features, (encode_level<T, kF, D>(g.levels[l], g.table, x[0], kTile, n,
                                                            g.out + begin * row + l * kF, row)))
}

template <class T> void op_hash_forward(const HashArgs<T>& g) {
    for_tiles(g.samples, g.threads, [&](i64 begin, int n) {
        NF_FOR_AXES(g.axes, (hash_forward_tile<T, kD>(g, begin, n)))
    });
}

template <class T> void hash_position_gradient(const HashArgs<T>& g, i64 s) {
    int F = g.features;
    T d[3] = {0, 0, 0};
    for (int l = 0; l < g.level_count; ++l) {
        const HashLevel& level = g.levels[l];
        T f[3] = {0, 0, 0};
        u32 i[3] = {0, 0, 0};
        for (int a = 0; a < g.axes; ++a) {
            T p = lattice_position(g.x[s * g.axes + a], level.scale);
            i[a] = u32(p);
            f[a] = p - i[a];
        }
        for (int c = 0; c < 1 << g.axes; ++c) {
            u32 index = corner_index(level, i[0] + (c & 1), i[1] + ((c >> 1) & 1), i[2] + ((c >> 2) & 1));
            const T* entry = g.table + (i64(level.offset) + index) * F;
            T dot = 0;
            for (int k = 0; k < F; ++k) dot += entry[k] * g.d_out[(s * g.level_count + l) * F + k];
            for (int a = 0; a < g.axes; ++a)
                d[a] += dot * corner_weight_slope(f[0], f[1], f[2], c, a, T(level.scale));
        }
    }
    for (int a = 0; a < g.axes; ++a) {
        T x = g.x[s * g.axes + a];
        g.d_x[s * g.axes + a] = x < 0 || x > 1 ? T(0) : d[a];
    }
}

template <class T, int D> void hash_scatter_tile(const HashArgs<T>& g, int l, i64 begin, int n) {
    i64 row = i64(g.level_count) * g.features;
    T x[D][kTile];
    load_tile<D>(g.x, begin, n, x);
    NF_FOR_FEATURES(g.features, (scatter_level<T, kF, D>(g.levels[l], g.d_table, x[0], kTile, n,
                                                         g.d_out + begin * row + l * kF, row)))
}

template <class T> void op_hash_backward(const HashArgs<T>& g) {
    // One thread owns a level: its table gradient needs no atomics and has one order of summation.
    if (g.d_table) {
#pragma omp parallel for schedule(dynamic, 1) num_threads(threads_for(g.samples, g.threads))
        for (int l = 0; l < g.level_count; ++l)
            for (i64 begin = 0; begin < g.samples; begin += kTile) {
                int n = int(min_<i64>(kTile, g.samples - begin));
                NF_FOR_AXES(g.axes, (hash_scatter_tile<T, kD>(g, l, begin, n)))
            }
    }
    if (g.d_x) {
#pragma omp parallel for schedule(static) num_threads(threads_for(g.samples, g.threads))
        for (i64 s = 0; s < g.samples; ++s) hash_position_gradient(g, s);
    }
}

}  // namespace NF_ISA
}  // namespace nf
