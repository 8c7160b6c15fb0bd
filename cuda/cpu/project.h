// Projection in lanes of Gaussians: a chunk's visible ones are compacted into rows, then coloured; and back.
#pragma once
#include <omp.h>

#include "../spherical_harmonics.h"
#include "scratch.h"
#include "shuffle.h"
#include "splat.h"

namespace nf {
namespace NF_ISA {

// Rows of kRow scalars, W of them, as columns of lanes.
template <class T> NF_HD void columns_of(const T* const* rows, Lanes<T>* columns) {
    constexpr int W = kWidth<T>;
    for (int part = 0; part < kRow / W; ++part) {
#pragma GCC unroll 16
        for (int i = 0; i < W; ++i) columns[part * W + i] = load<Lanes<T>>(rows[i] + part * W);
        transpose(columns + part * W);
    }
}
template <class T> NF_HD void rows_of_columns(Lanes<T>* columns, T (*rows)[kRow]) {
    constexpr int W = kWidth<T>;
    for (int part = 0; part < kRow / W; ++part) {
        transpose(columns + part * W);
#pragma GCC unroll 16
        for (int i = 0; i < W; ++i) store(rows[i] + part * W, columns[part * W + i]);
    }
}

// W Gaussians in the order of a packed one; places behind `n` repeat the first.
template <class T> NF_HD void load_gaussians(const GaussianArrays<T>& g, const i32* ids, int n, Lanes<T>* columns) {
    constexpr int W = kWidth<T>;
    if (g.packed) {
        const T* rows[W];
        for (int i = 0; i < W; ++i) rows[i] = g.packed + kCore * i64(ids[i < n ? i : 0]);
        columns_of(rows, columns);
        return;
    }
    T rows[kCore][W];
    for (int i = 0; i < W; ++i) {
        i64 id = ids[i < n ? i : 0];
        for (int a = 0; a < 3; ++a) rows[a][i] = g.means[3 * id + a];
        for (int a = 0; a < 3; ++a) rows[3 + a][i] = g.scales[3 * id + a];
        for (int a = 0; a < 4; ++a) rows[6 + a][i] = g.rotations[4 * id + a];
        rows[10][i] = g.logits[id];
        for (int a = 0; a < 3; ++a) rows[kHarmonicAt + a][i] = g.harmonics[g.harmonic_stride * id + a];
    }
    for (int a = 0; a < kCoreUsed; ++a) columns[a] = load<Lanes<T>>(rows[a]);
}

template <class T> NF_HD Shape<Lanes<T>> shape_of(const Lanes<T>* c) {
    return {{c[0], c[1], c[2]}, {c[3], c[4], c[5]}, {c[6], c[7], c[8], c[9]}, c[10]};
}

template <class T> NF_HD int rest_count(int degree) { return 3 * ((degree + 1) * (degree + 1) - 1); }

// The harmonics of W Gaussians from the second on as columns; kRow of them at once where rows are long enough.
template <class T>
NF_HD void load_rest(const GaussianArrays<T>& g, const i32* ids, int n, int used, Lanes<T>* columns) {
    constexpr int W = kWidth<T>;
    int stride = int(g.packed ? g.rest_stride : g.harmonic_stride - 3),
        whole = min_(stride, (used + W - 1) / W * W) / W * W;
    const T* rows[W];
    for (int i = 0; i < W; ++i) rows[i] = rest_of(g, ids[i < n ? i : 0]);
    for (int at = 0; at < whole; at += W) {
#pragma GCC unroll 16
        for (int i = 0; i < W; ++i) columns[at + i] = load<Lanes<T>>(rows[i] + at);
        transpose(columns + at);
    }
    for (int at = whole; at < used; ++at)
        for (int i = 0; i < W; ++i) columns[at][i] = rows[i][at];
}

// Whether any of a chunk can be seen: its box, grown by how far its largest Gaussian reaches, against four planes and
// near.
template <class T> inline bool chunk_visible(const Pinhole<T>& c, const T* box) {
    T centre[3], half[3], grow = box[6] * T(3.3290429691) * T(1.001);  // sqrt(2 log 255)
    for (int a = 0; a < 3; ++a) {
        centre[a] = (box[a] + box[3 + a]) / 2 - c.centre[a];
        half[a] = (box[3 + a] - box[a]) / 2;
    }
    // Planes of the widened picture: half a pixel and the blur's reach more than the edge.
    T more = T(0.5) + T(3.33) * sqrt_(c.blur), left = -(c.cx + more) / c.fx, right = (c.width - c.cx + more) / c.fx;
    T top = -(c.cy + more) / c.fy, bottom = (c.height - c.cy + more) / c.fy;
    const T planes[5][3] = {{1, 0, -left}, {-1, 0, right}, {0, 1, -top}, {0, -1, bottom}, {0, 0, 1}};
    // A linearised ellipse is at most sqrt(1 + u^2) times as wide as its Gaussian, u as far as project.h lets it go.
    T u = max_(-left, right) + T(0.15) * c.width / c.fx, v = max_(-top, bottom) + T(0.15) * c.height / c.fy;
    T wide = grow * sqrt_(1 + u * u), high = grow * sqrt_(1 + v * v);
    const T least[5] = {wide, wide, high, high, -c.near};
    for (int p = 0; p < 5; ++p) {
        T at = least[p];
        for (int a = 0; a < 3; ++a) {
            T n = 0;
            for (int i = 0; i < 3; ++i) n += planes[p][i] * c.rotation[3 * i + a];
            at += n * centre[a] + abs_(n) * half[a];
        }
        if (at < 0) return false;
    }
    return true;
}

template <class T> void box_of_chunk(const GaussianArrays<T>& g, i64 chunk, T* box) {
    constexpr int W = kWidth<T>;
    T least[kCore], most[kCore], largest = T(-3e38);
    const i64 begin = chunk * kChunk, end = begin + in_chunk(g.count, chunk);
    if (g.packed) {
        for (int part = 0; part < kCore; part += W) {
            Lanes<T> low = load<Lanes<T>>(g.packed + kCore * begin + part), high = low;
            for (i64 i = begin + 1; i < end; ++i) {
                Lanes<T> row = load<Lanes<T>>(g.packed + kCore * i + part);
                low = min_(low, row);
                high = max_(high, row);
            }
            store(least + part, low);
            store(most + part, high);
        }
    } else {
        for (int a = 0; a < 6; ++a) {
            const T* from = a < 3 ? g.means + a : g.scales + a - 3;
            least[a] = T(3e38), most[a] = T(-3e38);
            for (i64 i = begin; i < end; ++i)
                least[a] = min_(least[a], from[3 * i]), most[a] = max_(most[a], from[3 * i]);
        }
    }
    for (int a = 0; a < 3; ++a) {
        box[a] = least[a];
        box[3 + a] = most[a];
        largest = max_(largest, most[3 + a]);
    }
    box[6] = exp_(largest);
    box[7] = 0;
}
template <class T> void op_splat_boxes(const BoxArgs<T>& g) {
#pragma omp parallel for schedule(static) num_threads(g.threads)
    for (i64 chunk = 0; chunk < chunks_of(g.gaussians.count); ++chunk)
        box_of_chunk(g.gaussians, chunk, g.boxes + kBox * chunk);
}

// The ellipses of a chunk that are seen, one row each; returns how many.
template <class T> int project_chunk(const ProjectArgs<T>& g, i64 chunk, i64& slots) {
    constexpr int W = kWidth<T>;
    int n = 0, count = in_chunk(g.gaussians.count, chunk);
    i64 start = chunk * kChunk;
    for (int begin = 0; begin < count; begin += W) {
        i32 ids[W];
        for (int i = 0; i < W; ++i) ids[i] = i32(start + min_(begin + i, count - 1));
        Lanes<T> in[kCore], out[kRow];
        load_gaussians(g.gaussians, ids, W, in);
        Projection<Lanes<T>> projection;
        Ellipse<Lanes<T>> e;
        projection.forward(g.camera, shape_of<T>(in), e);
        Reach<Lanes<T>> reach = reach_of(g.camera, projection, e);
        TileRange<Lanes<T>> across = tiles_within(e.x, reach.half_width, g.camera.width);
        TileRange<Lanes<T>> down = tiles_within(e.y, reach.half_height, g.camera.height);
        Lanes<T> tiles = across.count * down.count;
        u32 seen = bits_ge(reach.seen, Lanes<T>{} + T(0.5)) & bits_ge(tiles, Lanes<T>{} + T(0.5));
        if (count - begin < W) seen &= (1u << (count - begin)) - 1;
        if (!seen) continue;
        const Lanes<T> columns[kRow] = {e.x, e.y, e.a, e.b, e.c, e.log_opacity, {}, {}, {}, e.depth, e.normal[0],
                                        e.normal[1], e.normal[2], across.code, down.code, {}};
        for (int i = 0; i < kRow; ++i) out[i] = columns[i];
        T rows[W][kRow], tile_counts[W];
        rows_of_columns(out, rows);
        store(tile_counts, tiles);
        for (; seen; seen &= seen - 1) {
            int i = __builtin_ctz(seen);
            i64 row = start + n++;
            float depth = float(rows[i][kDepthAt]);
            __builtin_memcpy(g.rows + kRow * row, rows[i], sizeof(rows[i]));
            __builtin_memcpy(g.key + row, &depth, sizeof(depth));
            g.ids[row] = ids[i];
            g.slot[row] = i32(slots);
            slots += i64(tile_counts[i]);
        }
    }
    for (int i = n; i < count; ++i) g.ids[start + i] = -1;
    return n;
}

// Colours of W rows: 0.5 + sum Y_k h_k, not below 0.
template <class T> void colour_rows(const ProjectArgs<T>& g, i64 row, int n) {
    constexpr int W = kWidth<T>;
    using V = Lanes<T>;
    const i32* ids = g.ids + row;
    V in[kCore], direction[3], basis[kBasis], rest[3 * kBasis];
    load_gaussians(g.gaussians, ids, n, in);
    direction_to(g.camera.centre, in, direction);
    spherical_harmonics(direction[0], direction[1], direction[2], g.degree + 1, basis);
    int used = rest_count<T>(g.degree);
    load_rest(g.gaussians, ids, n, used, rest);
    V colour[3];
    first_harmonic(basis[0], in + kHarmonicAt, colour);
    for (int k = 0; 3 * k < used; ++k) add_harmonic(basis[k + 1], rest + 3 * k, colour);
    for (int a = 0; a < 3; ++a) {
        V held = max_(colour[a], V{});
        T values[W];
        store(values, held);
        for (int i = 0; i < n; ++i) g.rows[kRow * (row + i) + kColourAt + a] = values[i];
    }
}

template <class T> void op_splat_project(const ProjectArgs<T>& g) {
    i64 chunks = chunks_of(g.gaussians.count), rows = 0, slots = 0;
    i64* chunk_slots = reinterpret_cast<i64*>(g.totals);
#pragma omp parallel num_threads(g.threads) reduction(+ : rows)
    {
#pragma omp for schedule(dynamic, 1)
        for (i64 chunk = 0; chunk < chunks; ++chunk) {
            i64 here = 0;
            int n = 0;
            if (!g.boxes || chunk_visible(g.camera, g.boxes + kBox * chunk)) n = project_chunk(g, chunk, here);
            else for (int i = 0; i < in_chunk(g.gaussians.count, chunk); ++i) g.ids[chunk * kChunk + i] = -1;
            for (int i = 0; i < n; i += kWidth<T>) colour_rows(g, chunk * kChunk + i, min_(kWidth<T>, n - i));
            g.chunk_count[chunk] = n;
            chunk_slots[2 + chunk] = here;
            rows += n;
        }
#pragma omp single
        for (i64 chunk = 0; chunk < chunks; ++chunk) {
            i64 here = chunk_slots[2 + chunk];
            chunk_slots[2 + chunk] = slots;
            slots += here;
        }
#pragma omp for schedule(static)
        for (i64 chunk = 0; chunk < chunks; ++chunk)
            for (int i = 0; i < g.chunk_count[chunk]; ++i) g.slot[chunk * kChunk + i] += i32(chunk_slots[2 + chunk]);
    }
    g.totals[0] = rows;
    g.totals[1] = slots;
}

}  // namespace NF_ISA
}  // namespace nf
