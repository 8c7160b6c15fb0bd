// The hash grid at one point. Compiled for its geometry:
//   NF_FEATURES   features of an entry;   NF_LEVELS   a HashLevel {scale, resolution, size, offset, dense} per level
#pragma once
#include "machine.h"
#include "../hash_grid.h"

namespace nf {

__device__ constexpr HashLevel kLevels[] = {NF_LEVELS};
constexpr int kLevelCount = sizeof(kLevels) / sizeof(HashLevel), kFeatures = NF_FEATURES;
constexpr int kEncoded = kLevelCount * kFeatures;

// F neighbours of a table in one load.
template <class T> struct alignas(kFeatures * sizeof(T) < 16 ? kFeatures * sizeof(T) : 16) Entry {
    T v[kFeatures];
};

// Calls body(entry index in the whole table, corner, fractions) for the 8 corners around x.
template <class T, class F> NF_DEVICE void for_corners(const HashLevel& level, const T* x, F&& body) {
    T f[3];
    u32 i[3];
    NF_UNROLL for (int a = 0; a < 3; ++a) {
        T p = lattice_position(x[a], level.scale);
        i[a] = u32(p);
        f[a] = p - T(i[a]);
    }
    NF_UNROLL for (int c = 0; c < 8; ++c)
        body(level.offset + corner_index(level, i[0] + (c & 1), i[1] + ((c >> 1) & 1), i[2] + ((c >> 2) & 1)), c, f);
}

template <class T> NF_DEVICE Entry<T> encode_level(const HashLevel& level, const T* table, const T* x) {
    Entry<T> sum = {};
    for_corners(level, x, [&](u32 index, int corner, const T* f) {
        Entry<T> entry = reinterpret_cast<const Entry<T>*>(table)[index];
        T weight = corner_weight(f[0], f[1], f[2], corner);
        NF_UNROLL for (int k = 0; k < kFeatures; ++k) sum.v[k] += weight * entry.v[k];
    });
    return sum;
}

template <class T> NF_DEVICE void scatter_level(const HashLevel& level, T* d_table, const T* x, const T* d_out) {
    T g[kFeatures];
    bool any = false;
    NF_UNROLL for (int k = 0; k < kFeatures; ++k) {
        g[k] = d_out[k];
        any |= g[k] != 0;
    }
    if (!any) return;  // adding zeros would only cost traffic; NaN is not zero
    for_corners(level, x, [&](u32 index, int corner, const T* f) {
        T weight = corner_weight(f[0], f[1], f[2], corner), d[kFeatures];
        NF_UNROLL for (int k = 0; k < kFeatures; ++k) d[k] = weight * g[k];
        add_entry<kFeatures>(d_table + i64(index) * kFeatures, d);
    });
}

}  // namespace nf
