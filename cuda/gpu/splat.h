// What the kernels of Gaussian splatting share: the camera from numbers, Gaussians from memory, sums over a block.
#pragma once
#include "machine.h"
#include "../project.h"
#include "../rows.h"

// A camera as a kernel takes it: the 21 numbers of ops/project.py's View, in their order.
#define NF_VIEW                                                                                                     \
    double w0, double w1, double w2, double w3, double w4, double w5, double w6, double w7, double w8, double o0,   \
        double o1, double o2, double fx, double fy, double cx, double cy, double view_width, double view_height,    \
        double near, double blur, double antialiased
#define NF_CAMERA(T)                                                                                                \
    {{T(w0), T(w1), T(w2), T(w3), T(w4), T(w5), T(w6), T(w7), T(w8)}, {T(o0), T(o1), T(o2)}, T(fx), T(fy), T(cx),   \
     T(cy), T(view_width), T(view_height), T(near), T(blur), antialiased != 0}
// Gaussians: packed or as five arrays, the others null.
#define NF_GAUSSIANS(T)                                                                                             \
    const T *packed, const T *rest, const T *means, const T *scales, const T *rotations, const T *logits,           \
        const T *harmonics, i64 count, i64 rest_stride, i64 harmonic_stride
#define NF_ARRAYS {packed, rest, means, scales, rotations, logits, harmonics, count, rest_stride, harmonic_stride}

namespace nf {

constexpr int kSplatThreads = 256, kSplatWarps = kSplatThreads / 32;

// Four numbers that are read and written at once.
template <class T> struct alignas(16) Four {
    T v[4];
};
template <class T> NF_DEVICE Four<T> load_four(const T* p) { return *reinterpret_cast<const Four<T>*>(p); }
template <class T> NF_DEVICE void store_four(T* p, const Four<T>& four) { *reinterpret_cast<Four<T>*>(p) = four; }
template <int kCount, class T> NF_DEVICE void load_row(const T* p, T* row) {
    NF_UNROLL for (int i = 0; i < kCount; i += 4) {
        Four<T> four = load_four(p + i);
        NF_UNROLL for (int k = 0; k < 4; ++k) row[i + k] = four.v[k];
    }
}
template <int kCount, class T> NF_DEVICE void store_row(T* p, const T* row) {
    NF_UNROLL for (int i = 0; i < kCount; i += 4)
        store_four(p + i, Four<T>{{row[i], row[i + 1], row[i + 2], row[i + 3]}});
}

// A Gaussian's shape, and its first harmonic.
template <class T> NF_DEVICE Shape<T> load_gaussian(const GaussianArrays<T>& g, i64 id, T* first) {
    if (g.packed) {
        T c[kCore];
        load_row<kCore>(g.packed + kCore * id, c);
        NF_UNROLL for (int a = 0; a < 3; ++a) first[a] = c[kHarmonicAt + a];
        return {{c[0], c[1], c[2]}, {c[3], c[4], c[5]}, {c[6], c[7], c[8], c[9]}, c[10]};
    }
    const T *m = g.means + 3 * id, *s = g.scales + 3 * id, *q = g.rotations + 4 * id;
    NF_UNROLL for (int a = 0; a < 3; ++a) first[a] = g.harmonics[g.harmonic_stride * id + a];
    return {{m[0], m[1], m[2]}, {s[0], s[1], s[2]}, {q[0], q[1], q[2], q[3]}, g.logits[id]};
}

// The sum over a warp, in every lane.
template <class T> NF_DEVICE T warp_sum(T value) {
    for (int other = 16; other; other /= 2) value += __shfl_xor_sync(kWholeWarp, value, other);
    return value;
}

// The sum over the lanes before this one, and over all.
NF_DEVICE u32 warp_before(u32 value, u32& all) {
    u32 sum = value;
    for (int apart = 1; apart < 32; apart *= 2) {
        u32 other = __shfl_sync(kWholeWarp, sum, (lane_of_warp() - apart) & 31);
        if (lane_of_warp() >= apart) sum += other;
    }
    all = __shfl_sync(kWholeWarp, sum, 31);
    return sum - value;
}

// Sixteen sums over the lanes at once, by halves: lane i gets the one of value i / 2.
template <int kHalf, class T> NF_DEVICE void halve_sums(T* values) {
    const bool upper = lane_of_warp() & (2 * kHalf);
    NF_UNROLL for (int i = 0; i < kHalf; ++i) {
        T sent = upper ? values[i] : values[i + kHalf];
        values[i] = (upper ? values[i + kHalf] : values[i]) + __shfl_xor_sync(kWholeWarp, sent, 2 * kHalf);
    }
}
template <class T> NF_DEVICE T sixteen_sums(T* values) {
    halve_sums<8>(values);
    halve_sums<4>(values);
    halve_sums<2>(values);
    halve_sums<1>(values);
    return values[0] + __shfl_xor_sync(kWholeWarp, values[0], 1);
}

}  // namespace nf
