// Dense grids on a tile of samples: cells and weights by lanes of samples, then rows of channels by lanes of channels.
//
// The gradient of the grid needs no atomics: a thread owns a stretch of nodes along the longest axis, cut so that all
// get as many samples, and walks through the samples of its stretch in their order. Same bits for any thread count.
#pragma once
#include "../grid.h"
#include "encode.h"
#include "kernels.h"
#include "scratch.h"

namespace nf {
namespace NF_ISA {

constexpr int kNodesAhead = 8;        // samples whose nodes are fetched ahead, where the grid outgrows the near caches:
constexpr i64 kNearBytes = 1 << 18;
constexpr int kMaxSlices = 256;  // threads that share the gradient of a grid

template <class T, int D> struct Cells {
    T f[D][kTile];
    T weight[1 << D][kTile];
    u32 first[kTile];  // node of the cell's first corner
    u32 along[kTile];  // the cell's place on one axis
    u32 offset[1 << D];
};

// x: D rows of samples of a tile, readable up to whole lanes.
template <class T, int D>
inline void find_cells(const GridShape& shape, const T (*x)[kTile], int n, int axis, Cells<T, D>& out) {
    using V = Lanes<T>;
    using U = IndexLanes<T>;
    for (int c = 0; c < 1 << D; ++c) out.offset[c] = grid_corner_offset(shape, c);
    for (int s = 0; s < n; s += kWidth<T>) {
        V f[D];
        U first = {};
#pragma GCC unroll 4
        for (int a = 0; a < D; ++a) {
            V p = grid_position(load<V>(x[a] + s), shape.nodes[a]);
            U cell = grid_cell(truncate<T>(p), shape.nodes[a]);
            f[a] = p - to_lanes<T>(cell);
            first += cell * shape.stride[a];
            store(out.f[a] + s, f[a]);
            if (a == axis) store(out.along + s, cell);
        }
        store(out.first + s, first);
#pragma GCC unroll 16
        for (int c = 0; c < 1 << D; ++c) store(out.weight[c] + s, grid_weight<D>(f, c));
    }
}

// body(V, k) for pieces of a row of channels: whole lanes, then halves of them down to one.
template <class T, class Body> NF_HD void for_channels(int channels, Body body) {
    int k = 0;
    for (; k + kWidth<T> <= channels; k += kWidth<T>) body(Lanes<T>{}, k);
    auto rest = [&](auto piece) {
        constexpr int kCount = int(sizeof(piece) / sizeof(T));
        if (kCount >= kWidth<T> || k + kCount > channels) return;
        body(piece, k);
        k += kCount;
    };
    rest(typename EntryOf<T, 8>::Type{});
    rest(typename EntryOf<T, 4>::Type{});
    rest(typename EntryOf<T, 2>::Type{});
    rest(T{});
}

// Corners along the last axis lie side by side.
template <class T, int D> NF_HD void fetch_cell(const T* rows, const Cells<T, D>& cells, int s, int channels) {
    for (int c = 0; c < 1 << (D - 1); ++c) {
        const char* row = reinterpret_cast<const char*>(rows + i64(cells.first[s] + cells.offset[c]) * channels);
        for (int byte = 0; byte < 2 * channels * int(sizeof(T)); byte += 64) __builtin_prefetch(row + byte);
    }
}

template <class T> inline bool outgrows_near_caches(const GridShape& shape) {
    i64 bytes = shape.channels * i64(sizeof(T));
    for (int a = 0; a < shape.axes; ++a) bytes *= shape.nodes[a];
    return bytes > kNearBytes;
}

template <class T, int D>
inline void gather_cells(const T* rows, const Cells<T, D>& cells, int n, int channels, bool ahead, T* out) {
    for (int s = 0; s < n; ++s) {
        if (ahead && s + kNodesAhead < n) fetch_cell(rows, cells, s + kNodesAhead, channels);
        const T* cell = rows + i64(cells.first[s]) * channels;
        for_channels<T>(channels, [&](auto piece, int k) {
            using V = decltype(piece);
            V sum = {};
#pragma GCC unroll 16
            for (int c = 0; c < 1 << D; ++c) sum += cells.weight[c][s] * load<V>(cell + i64(cells.offset[c]) * channels + k);
            store(out + i64(s) * channels + k, sum);
        });
    }
}

// dot[c][s] = <grid at corner c, d_out>
template <class T, int D>
inline void dot_cells(const T* rows, const Cells<T, D>& cells, int n, int channels, bool ahead, const T* d_out,
                      T (*dot)[kTile]) {
    for (int s = 0; s < n; ++s) {
        if (ahead && s + kNodesAhead < n) fetch_cell(rows, cells, s + kNodesAhead, channels);
        const T* cell = rows + i64(cells.first[s]) * channels;
        T sum[1 << D] = {};
        for_channels<T>(channels, [&](auto piece, int k) {
            using V = decltype(piece);
            V g = load<V>(d_out + i64(s) * channels + k);
#pragma GCC unroll 16
            for (int c = 0; c < 1 << D; ++c) sum[c] += sum_of(g * load<V>(cell + i64(cells.offset[c]) * channels + k));
        });
        for (int c = 0; c < 1 << D; ++c) dot[c][s] = sum[c];
    }
}

template <class T, int D>
inline void position_gradient(const GridShape& shape, const T (*x)[kTile], const Cells<T, D>& cells,
                              const T (*dot)[kTile], int n, T (*d_x)[kTile]) {
    using V = Lanes<T>;
    for (int s = 0; s < n; s += kWidth<T>) {
        V f[D];
        for (int a = 0; a < D; ++a) f[a] = load<V>(cells.f[a] + s);
#pragma GCC unroll 4
        for (int a = 0; a < D; ++a) {
            V d = {}, p = load<V>(x[a] + s);
#pragma GCC unroll 16
            for (int c = 0; c < 1 << D; ++c) d += load<V>(dot[c] + s) * grid_weight_slope<D>(f, c, a, shape.nodes[a]);
            store(d_x[a] + s, (p < 0) | (p > 1) ? V{} : d);
        }
    }
}

// body(begin, n, x, cells) for each tile of the samples.
template <class T, int D, class Body> inline void for_cells(const GridArgs<T>& g, Body body) {
    for_tiles(g.samples, g.threads, [&](i64 begin, int n) {
        T x[D][kTile];
        Cells<T, D> cells;
        load_tile<D>(g.x, begin, n, x);
        find_cells(g.shape, x, n, 0, cells);
        body(begin, n, x, cells);
    });
}

template <class T, int D> void grid_forward(const GridArgs<T>& g) {
    int C = g.shape.channels;
    bool ahead = outgrows_near_caches<T>(g.shape);
    for_cells<T, D>(g, [&](i64 begin, int n, const T (*)[kTile], const Cells<T, D>& cells) {
        gather_cells(g.grid, cells, n, C, ahead, g.out + begin * C);
    });
}

template <class T, int D> void grid_position_gradient(const GridArgs<T>& g) {
    int C = g.shape.channels;
    bool ahead = outgrows_near_caches<T>(g.shape);
    for_cells<T, D>(g, [&](i64 begin, int n, const T (*x)[kTile], const Cells<T, D>& cells) {
        T d_x[D][kTile], dot[1 << D][kTile] = {};
        dot_cells(g.grid, cells, n, C, ahead, g.d_out + begin * C, dot);
        position_gradient(g.shape, x, cells, dot, n, d_x);
        for (int s = 0; s < n; ++s)
            for (int a = 0; a < D; ++a) g.d_x[(begin + s) * D + a] = d_x[a][s];
    });
}

// One thread's samples, a tile at a time; corners whose node on the axis lies outside [low, high) are other threads'.
template <class T, int D> struct Scatter {
    const GridArgs<T>& g;
    int axis;
    u32 low, high;
    int n;
    bool ahead;
    i64 sample[kTile];

    Scatter(const GridArgs<T>& g_, int axis_, u32 low_, u32 high_)
        : g(g_), axis(axis_), low(low_), high(high_), n(0), ahead(outgrows_near_caches<T>(g_.shape)) {}

    void run() {
        T x[D][kTile];
        Cells<T, D> cells;
        for (int a = 0; a < D; ++a) {
            for (int s = 0; s < n; ++s) x[a][s] = g.x[sample[s] * D + a];
            for (int s = n; s < kTile; ++s) x[a][s] = 0;
        }
        find_cells(g.shape, x, n, axis, cells);
        int C = g.shape.channels;
        for (int s = 0; s < n; ++s) {
            if (ahead && s + kNodesAhead < n) {
                fetch_cell(g.d_grid, cells, s + kNodesAhead, C);
                __builtin_prefetch(g.d_out + sample[s + kNodesAhead] * C);
            }
            T* cell = g.d_grid + i64(cells.first[s]) * C;
            bool mine[2] = {cells.along[s] >= low, cells.along[s] + 1 < high};
            const T* d_out = g.d_out + sample[s] * C;
            for_channels<T>(C, [&](auto piece, int k) {
                using V = decltype(piece);
                V d = load<V>(d_out + k);
#pragma GCC unroll 16
                for (int c = 0; c < 1 << D; ++c) {
                    if (!mine[(c >> axis) & 1]) continue;
                    T* entry = cell + i64(cells.offset[c]) * C + k;
                    store(entry, load<V>(entry) + cells.weight[c][s] * d);
                }
            });
        }
        n = 0;
    }
};

// The longest axis; `cut` [slices + 1] are nodes on it between which lie about as many samples.
template <class T>
inline int cut_samples(const GridArgs<T>& g, int slices, u32* along, u32* count, u32* cut) {
    const GridShape& shape = g.shape;
    int axis = 0;
    for (int a = 1; a < shape.axes; ++a)
        if (shape.nodes[a] > shape.nodes[axis]) axis = a;
    u32 nodes = shape.nodes[axis];
#pragma omp parallel for schedule(static) num_threads(threads_for(g.samples, g.threads))
    for (i64 s = 0; s < g.samples; ++s)
        along[s] = grid_cell(u32(grid_position(g.x[s * shape.axes + axis], nodes)), nodes);
    for (u32 i = 0; i < nodes; ++i) count[i] = 0;
    for (i64 s = 0; s < g.samples; ++s) ++count[along[s]];
    i64 seen = 0;
    int slice = 1;
    cut[0] = 0;
    for (u32 i = 0; i < nodes; ++i) {
        while (slice < slices && seen >= g.samples * slice / slices) cut[slice++] = i;
        seen += count[i];
    }
    while (slice <= slices) cut[slice++] = nodes;
    return axis;
}

template <class T, int D> void grid_scatter(const GridArgs<T>& g) {
    int slices = min_(threads_for(g.samples, g.threads), kMaxSlices);
    Scratch& scratch = thread_scratch();
    u32 longest = 0, cut[kMaxSlices + 1];
    for (int a = 0; a < D; ++a) longest = max_(longest, g.shape.nodes[a]);
    scratch.reset((g.samples + longest) * sizeof(u32) + 4096);
    u32* along = scratch.take<u32>(g.samples);
    int axis = cut_samples(g, slices, along, scratch.take<u32>(longest), cut);
#pragma omp parallel for schedule(static, 1) num_threads(slices)
    for (int slice = 0; slice < slices; ++slice) {
        Scatter<T, D> batch(g, axis, cut[slice], cut[slice + 1]);
        if (batch.low == batch.high) continue;
        for (i64 s = 0; s < g.samples; ++s) {
            if (along[s] + 1 < batch.low || along[s] >= batch.high) continue;
            batch.sample[batch.n++] = s;
            if (batch.n == kTile) batch.run();
        }
        batch.run();
    }
}

#define NF_FOR_GRID_AXES(D, CALL)                  \
    if (D == 4) {                                  \
        constexpr int kD = 4;                      \
        CALL;                                      \
    } else                                         \
        NF_FOR_AXES(D, CALL)

template <class T> void op_grid_forward(const GridArgs<T>& g) { NF_FOR_GRID_AXES(g.shape.axes, (grid_forward<T, kD>(g))) }

template <class T> void op_grid_backward(const GridArgs<T>& g) {
    if (g.d_grid) {
        NF_FOR_GRID_AXES(g.shape.axes, (grid_scatter<T, kD>(g)))
    }
    if (g.d_x) {
        NF_FOR_GRID_AXES(g.shape.axes, (grid_position_gradient<T, kD>(g)))
    }
}

}  // namespace NF_ISA
}  // namespace nf
