// The hash grid as an op of its own. Blocks of one level each, so that one level's table is in the caches at a time.
#include "encode.h"

using namespace nf;
using T = NF_SCALAR;

NF_KERNEL hash_forward(const T* x, i64 samples, const T* table, T* out) {
    i64 s = global_thread();
    int level = blockIdx.y;
    if (s >= samples) return;
    T p[3] = {x[3 * s], x[3 * s + 1], x[3 * s + 2]};
    reinterpret_cast<Entry<T>*>(out)[s * kLevelCount + level] = encode_level(kLevels[level], table, p);
}

NF_KERNEL hash_scatter(const T* x, i64 samples, const T* d_out, T* d_table) {
    i64 s = global_thread();
    int level = blockIdx.y;
    if (s >= samples) return;
    T p[3] = {x[3 * s], x[3 * s + 1], x[3 * s + 2]};
    scatter_level(kLevels[level], d_table, p, d_out + (s * kLevelCount + level) * kFeatures);
}

NF_KERNEL hash_position_gradient(const T* x, i64 samples, const T* table, const T* d_out, T* d_x) {
    i64 s = global_thread();
    if (s >= samples) return;
    T p[3] = {x[3 * s], x[3 * s + 1], x[3 * s + 2]}, d[3] = {0, 0, 0};
    for (int l = 0; l < kLevelCount; ++l)
        for_corners(kLevels[l], p, [&](u32 index, int corner, const T* f) {
            Entry<T> entry = reinterpret_cast<const Entry<T>*>(table)[index];
            T dot = 0;
            for (int k = 0; k < kFeatures; ++k) dot += entry.v[k] * d_out[(s * kLevelCount + l) * kFeatures + k];
            for (int a = 0; a < 3; ++a)
                d[a] += dot * corner_weight_slope(f[0], f[1], f[2], corner, a, T(kLevels[l].scale));
        });
    for (int a = 0; a < 3; ++a) d_x[3 * s + a] = p[a] < 0 || p[a] > 1 ? T(0) : d[a];
}
