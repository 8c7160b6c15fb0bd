// Hash-grid encoding of a tile: the indices and weights of the 8 corners by lanes of samples, then one entry load and
// one multiply-add a corner. Levels are the outer loop, so that one level's table stays in cache for the whole tile.
// D: coordinates, 1 to 3; those that are not there lie at the lattice's beginning, and only 2^D corners are visited.
#pragma once
#include "../hash_grid.h"
#include "sample_tiles.h"

namespace nf {
namespace NF_ISA {

constexpr int kAhead = 16;  // samples whose table entries are fetched ahead: the tables do not fit into the near caches

template <class T> struct Corners {
    u32 index[8][kTile];
    T weight[8][kTile];
};

// x: D rows of samples, `stride` apart. n <= kTile; rows must be readable up to whole lanes.
template <int D, class T> inline void find_corners(const HashLevel& level, const T* x, i64 stride, int n, Corners<T>& out) {
    using V = Lanes<T>;
    using U = IndexLanes<T>;
    for (int s = 0; s < n; s += kWidth<T>) {
        V f[3] = {};
        U i[3] = {};
        for (int a = 0; a < D; ++a) {
            V p = lattice_position(load<V>(x + a * stride + s), level.scale);
            i[a] = truncate<T>(p);
            f[a] = p - to_lanes<T>(i[a]);
        }
#pragma GCC unroll 8
        for (int c = 0; c < 1 << D; ++c) {
            U index = corner_index(level, i[0] + (c & 1), i[1] + ((c >> 1) & 1), i[2] + ((c >> 2) & 1));
            store(out.index[c] + s, index);
            store(out.weight[c] + s, corner_weight(f[0], f[1], f[2], c));
        }
    }
}

template <class T, int F, int D = 3>
inline void encode_level(const HashLevel& level, const T* table, const T* x, i64 stride, int n, T* out, i64 row) {
    using E = typename EntryOf<T, F>::Type;
    Corners<T> corners;
    find_corners<D>(level, x, stride, n, corners);
    const T* entries = table + i64(level.offset) * F;
    for (int s = 0; s < n; ++s) {
        if (s + kAhead < n)
            for (int c = 0; c < 1 << D; ++c) __builtin_prefetch(entries + i64(corners.index[c][s + kAhead]) * F);
        E sum = {};
#pragma GCC unroll 8
        for (int c = 0; c < 1 << D; ++c) sum += corners.weight[c][s] * load<E>(entries + i64(corners.index[c][s]) * F);
        store(out + s * row, sum);
    }
}

template <class T, int F, int D = 3>
inline void scatter_level(const HashLevel& level, T* d_table, const T* x, i64 stride, int n, const T* d_out, i64 row) {
    using E = typename EntryOf<T, F>::Type;
    Corners<T> corners;
    find_corners<D>(level, x, stride, n, corners);
    T* entries = d_table + i64(level.offset) * F;
    for (int s = 0; s < n; ++s) {
        if (s + kAhead < n)
            for (int c = 0; c < 1 << D; ++c) __builtin_prefetch(entries + i64(corners.index[c][s + kAhead]) * F, 1);
        E g = load<E>(d_out + s * row);
#pragma GCC unroll 8
        for (int c = 0; c < 1 << D; ++c) {
            T* entry = entries + i64(corners.index[c][s]) * F;
            store(entry, load<E>(entry) + corners.weight[c][s] * g);
        }
    }
}

// Calls body<F>(...) for the table's F.
#define NF_FOR_FEATURES(F, CALL)                    \
    switch (F) {                                    \
        case 2: { constexpr int kF = 2; CALL; break; } \
        case 4: { constexpr int kF = 4; CALL; break; } \
        default: { constexpr int kF = 8; CALL; break; } \
    }

// Calls body with kD coordinates.
#define NF_FOR_AXES(D, CALL)                           \
    switch (D) {                                       \
        case 1: { constexpr int kD = 1; CALL; break; } \
        case 2: { constexpr int kD = 2; CALL; break; } \
        default: { constexpr int kD = 3; CALL; break; } \
    }

}  // namespace NF_ISA
}  // namespace nf
