// One loop per op: threads over samples, rays or levels around the formulas of the shared headers.
// What is summed over threads is summed in a fixed order: same thread count, same bits.
#pragma once
#include <omp.h>

#include "../camera.h"
#include "../composite.h"
#include "../contraction.h"
#include "../spherical_harmonics.h"
#include "scratch.h"
#include "network.h"

namespace nf {
namespace NF_ISA {

// An OpenMP region costs more than it brings on small work.
inline int threads_for(i64 work, int threads) { return work < 2048 ? 1 : threads; }

// Points [S, D] as D rows of a tile, zero behind the last one.
template <int D, class T> inline void load_tile(const T* x, i64 begin, int n, T (*rows)[kTile]) {
    for (int a = 0; a < D; ++a) {
        for (int s = 0; s < n; ++s) rows[a][s] = x[(begin + s) * D + a];
        for (int s = n; s < kTile; ++s) rows[a][s] = 0;
    }
}

template <class T, int D> void hash_forward_tile(const HashArgs<T>& g, i64 begin, int n) {
    i64 row = i64(g.level_count) * g.features;
    T x[D][kTile];
    load_tile<D>(g.x, begin, n, x);
    for (int l = 0; l < g.level_count; ++l)
        NF_FOR_FEATURES(g.features, (encode_level<T, kF, D>(g.levels[l], g.table, x[0], kTile, n,
                                                            g.out + begin * row + l * kF, row)))
}

template <class T> void op_hash_forward(const HashArgs<T>& g) {
    i64 tiles = (g.samples + kTile - 1) / kTile;
#pragma omp parallel for schedule(static) num_threads(threads_for(g.samples, g.threads))
    for (i64 tile = 0; tile < tiles; ++tile) {
        i64 begin = tile * kTile;
        int n = int(min_<i64>(kTile, g.samples - begin));
        NF_FOR_AXES(g.axes, (hash_forward_tile<T, kD>(g, begin, n)))
    }
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

// Rows as a tile reads them: where they are if they fill whole lanes, else a padded copy. Inputs are never written.
template <class T> inline T* rows_of(const T* rows, int width, int n, T* copy) {
    if (padded<T>(width) == width) return const_cast<T*>(rows);
    copy_rows(rows, i64(width), copy, i64(padded<T>(width)), n, width);
    return copy;
}

template <class T> inline void unpad_rows(const T* padded_rows, T* out, int n, int width) {
    for (int s = 0; s < n; ++s)
        for (int i = 0; i < width; ++i) out[s * width + i] = padded_rows[s * padded<T>(width) + i];
}

template <class T> void op_network_forward(const NetworkArgs<T>& g) {
    i64 tiles = (g.samples + kTile - 1) / kTile;
#pragma omp parallel num_threads(threads_for(g.samples, g.threads))
    {
        Scratch& scratch = thread_scratch();
        scratch.reset(sizeof(T) * (Packed<T>::size(g.layers, g.widths) + Tile<T>::size(g.layers, g.widths)) + 4096);
        Packed<T> net;
        net.pack(g.layers, g.widths, g.weights, scratch);
        Tile<T> tile;
        tile.take(g.layers, g.widths, scratch);
        int in = g.widths[0], out = g.widths[g.layers];
#pragma omp for schedule(static)
        for (i64 i = 0; i < tiles; ++i) {
            i64 begin = i * kTile;
            int n = int(min_<i64>(kTile, g.samples - begin));
            Tile<T> direct = tile;
            direct.rows[0] = rows_of(g.x + begin * in, in, n, tile.rows[0]);
            if (padded<T>(out) == out) direct.rows[g.layers] = g.out + begin * out;
            network_forward(net, direct, n, false);
            if (padded<T>(out) != out) unpad_rows(tile.rows[g.layers], g.out + begin * out, n, out);
        }
    }
}

template <class T> void op_network_backward(const NetworkArgs<T>& g) {
    i64 tiles = (g.samples + kTile - 1) / kTile;
    for (int l = 0; l < g.layers; ++l)
        for (i64 i = 0; i < i64(g.widths[l]) * g.widths[l + 1]; ++i) g.d_weights[l][i] = 0;
#pragma omp parallel num_threads(threads_for(g.samples, g.threads))
    {
        Scratch& scratch = thread_scratch();
        scratch.reset(sizeof(T) * (Packed<T>::size(g.layers, g.widths) + 2 * Tile<T>::size(g.layers, g.widths) +
                                   WeightGradients<T>::size(g.layers, g.widths)) + 8192);
        Packed<T> net;
        net.pack(g.layers, g.widths, g.weights, scratch);
        Tile<T> tile, d_tile;
        tile.take(g.layers, g.widths, scratch);
        d_tile.take(g.layers, g.widths, scratch);
        WeightGradients<T> d_weights;
        d_weights.take(g.layers, g.widths, scratch);
        int in = g.widths[0], out = g.widths[g.layers];
#pragma omp for schedule(static)
        for (i64 i = 0; i < tiles; ++i) {
            i64 begin = i * kTile;
            int n = int(min_<i64>(kTile, g.samples - begin));
            Tile<T> direct = tile, d_direct = d_tile;
            direct.rows[0] = rows_of(g.x + begin * in, in, n, tile.rows[0]);
            network_forward(net, direct, n, false, true);
            d_direct.rows[g.layers] = rows_of(g.d_out + begin * out, out, n, d_tile.rows[g.layers]);
            if (g.d_x && padded<T>(in) == in) d_direct.rows[0] = g.d_x + begin * in;
            network_backward(net, direct, d_direct, d_weights.data, n, g.d_x != nullptr);
            if (g.d_x && padded<T>(in) != in) unpad_rows(d_tile.rows[0], g.d_x + begin * in, n, in);
        }
#pragma omp for ordered schedule(static, 1)
        for (int t = 0; t < omp_get_num_threads(); ++t)
#pragma omp ordered
            d_weights.add_to(g.layers, g.widths, g.d_weights);
    }
}

template <class T> void op_composite_forward(const CompositeArgs<T>& g) {
#pragma omp parallel for schedule(static) num_threads(threads_for(g.offsets[g.rays], g.threads))
    for (i64 r = 0; r < g.rays; ++r) {
        Compositor<T> c;
        for (i64 s = g.offsets[r]; s < g.offsets[r + 1]; ++s) {
            T weight = c.opaque() ? T(0) : c.take(alpha_of(g.density[s], g.length[s]));
            g.out_weight[s] = weight;
            c.add(weight, g.rgb + 3 * s, g.t[s], g.length[s]);
        }
        store_sums(g.sums + kSums * r, c);
    }
}

template <class T> void op_composite_backward(const CompositeArgs<T>& g) {
#pragma omp parallel for schedule(static) num_threads(threads_for(g.offsets[g.rays], g.threads))
    for (i64 r = 0; r < g.rays; ++r) {
        CompositorBackward<T> c;
        c.start(load_sums(g.sums + kSums * r), load_sums(g.d_sums + kSums * r));
        for (i64 s = g.offsets[r]; s < g.offsets[r + 1]; ++s) {
            g.d_density[s] = g.d_colour[3 * s] = g.d_colour[3 * s + 1] = g.d_colour[3 * s + 2] = 0;
            if (!c.opaque())
                c.step(g.density[s], g.length[s], g.t[s], g.rgb + 3 * s, g.d_density[s], g.d_colour + 3 * s);
        }
    }
}

// Twice the same walk: first to count (x null), then to write at the offsets.
template <class T> void op_march(const MarchArgs<T>& g) {
    u64 blocks[kMaxCascades * kBlockWords];
    find_blocks(g.occupancy, g.settings.cascades, blocks);
    OccupancyView occupancy = {g.occupancy, blocks};
#pragma omp parallel for schedule(dynamic, 64) num_threads(threads_for(g.rays * 16, g.threads))
    for (i64 r = 0; r < g.rays; ++r) {
        RayMarch<T> ray;
        ray.start(g.origins + 3 * r, g.directions + 3 * r, g.jitter[r], g.settings);
        T x[3], t, length;
        i64 s = g.x ? g.offsets[r] : 0;
        while (ray.next(occupancy, g.settings, x, t, length)) {
            if (g.x) {
                for (int a = 0; a < 3; ++a) g.x[3 * s + a] = x[a];
                g.t[s] = t + length / 2;
                g.length[s] = length;
            }
            ++s;
        }
        if (!g.x) g.offsets[r + 1] = s;
    }
}

template <class T> void op_pixel_rays(const PixelArgs<T>& g) {
    for (i64 r = 0; r < g.rays; ++r)
        pixel_ray(g.cameras + g.camera[r] * kCameraFloats, g.pixel[2 * r], g.pixel[2 * r + 1], g.origins + 3 * r,
                  g.directions + 3 * r);
}

template <class T> void op_contract_forward(const ElementArgs<T>& g) {
    for (i64 s = 0; s < g.samples; ++s) {
        for (int a = 0; a < 3; ++a) g.out[3 * s + a] = g.x[3 * s + a];
        contract(g.out + 3 * s, g.kind, g.extent);
    }
}

template <class T> void op_contract_backward(const ElementArgs<T>& g) {
    for (i64 s = 0; s < g.samples; ++s) contract_backward(g.x + 3 * s, g.d_out + 3 * s, g.d_x + 3 * s, g.kind, g.extent);
}

template <class T> void op_harmonics_forward(const ElementArgs<T>& g) {
    int n = g.kind * g.kind;
    for (i64 s = 0; s < g.samples; ++s)
        spherical_harmonics(g.x[3 * s], g.x[3 * s + 1], g.x[3 * s + 2], g.kind, g.out + n * s);
}

template <class T> void op_harmonics_backward(const ElementArgs<T>& g) {
    int n = g.kind * g.kind;
    for (i64 s = 0; s < g.samples; ++s)
        spherical_harmonics_backward(g.x[3 * s], g.x[3 * s + 1], g.x[3 * s + 2], g.kind, g.d_out + n * s,
                                     g.d_x[3 * s], g.d_x[3 * s + 1], g.d_x[3 * s + 2]);
}

template <class T> void op_adam(const AdamArgs<T>& g) {
    using V = Lanes<T>;
    constexpr int W = kWidth<T>;
#pragma omp parallel for schedule(static) num_threads(threads_for(g.count, g.threads))
    for (i64 block = 0; block < (g.count + 1023) / 1024; ++block) {
        i64 end = min_<i64>(g.count, block * 1024 + 1024), i = block * 1024;
        for (; i + W <= end; i += W) {
            V d = load<V>(g.gradient + i);
            auto hit = d != 0;
            bool any = false;
            for (int k = 0; k < W; ++k) any |= hit[k] != 0;
            if (g.sparse && !any) continue;
            V m0 = load<V>(g.m + i), v0 = load<V>(g.v + i), m = m0, v = v0;
            V change = adam_update(d, m, v, g.settings);
            if (g.sparse) {
                change = hit ? change : V{};
                m = hit ? m : m0;
                v = hit ? v : v0;
            }
            store(g.parameter + i, load<V>(g.parameter + i) + change);
            store(g.m + i, m);
            store(g.v + i, v);
            store(g.gradient + i, V{});
        }
        for (; i < end; ++i) {
            if (g.sparse && g.gradient[i] == 0) continue;
            g.parameter[i] += adam_update(g.gradient[i], g.m[i], g.v[i], g.settings);
            g.gradient[i] = 0;
        }
    }
}

}  // namespace NF_ISA
}  // namespace nf
