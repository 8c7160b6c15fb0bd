// Radial basis functions on a tile of samples, forward and backward: distances of all units by lanes of units. No array
// of samples x units x features exists; the backward pass recomputes the distances.
#pragma once
#include "../rbf.h"
#include "network.h"

namespace nf {
namespace NF_ISA {

template <class T> struct PackedUnits {
    int features, units;
    i64 unit_row, feature_row;                 // padded
    T *scale, *scaled_centre, *centre;         // [features][unit_row]: e^{b/2}, e^{b/2} c, c
    T *precision, *weighted_centre;            // [units][feature_row]: e^b, e^b c

    static i64 size(int features, int units) {
        return 3 * i64(features) * padded<T>(units) + 2 * i64(units) * padded<T>(features) + 5 * 64;
    }
    void pack(const RbfArgs<T>& g, Scratch& scratch) {
        features = g.features;
        units = g.units;
        unit_row = padded<T>(units);
        feature_row = padded<T>(features);
        scale = zeros(scratch, features * unit_row);
        scaled_centre = zeros(scratch, features * unit_row);
        centre = zeros(scratch, features * unit_row);
        precision = zeros(scratch, units * feature_row);
        weighted_centre = zeros(scratch, units * feature_row);
        for (int k = 0; k < units; ++k)
            for (int d = 0; d < features; ++d) {
                T b = g.log_precisions[i64(k) * features + d], c = g.centres[i64(k) * features + d];
                i64 by_feature = d * unit_row + k, by_unit = k * feature_row + d;
                scale[by_feature] = exp_(b / 2);
                scaled_centre[by_feature] = scale[by_feature] * c;
                centre[by_feature] = c;
                precision[by_unit] = exp_(b);
                weighted_centre[by_unit] = precision[by_unit] * c;
            }
    }
    static T* zeros(Scratch& scratch, i64 count) {
        T* p = scratch.take<T>(count);
        for (i64 i = 0; i < count; ++i) p[i] = 0;
        return p;
    }
};

// r2 of M samples and two lanes of units; f: rows of features.
template <class T, int M>
NF_HD void distance_block(const PackedUnits<T>& u, const T* f, i64 f_row, int k, T* r2) {
    using V = Lanes<T>;
    constexpr int W = kWidth<T>;
    bool both = k + W < u.unit_row;
    V sum[M][2] = {};
    for (int d = 0; d < u.features; ++d) {
        const T *scale = u.scale + d * u.unit_row + k, *centre = u.scaled_centre + d * u.unit_row + k;
        V s0 = load<V>(scale), c0 = load<V>(centre), s1 = load<V>(scale + (both ? W : 0)), c1 = load<V>(centre + (both ? W : 0));
#pragma GCC unroll 8
        for (int m = 0; m < M; ++m) {
            V value = V{} + f[m * f_row + d];
            V a = rbf_offset(value, s0, c0), b = rbf_offset(value, s1, c1);
            sum[m][0] += a * a;
            sum[m][1] += b * b;
        }
    }
#pragma GCC unroll 8
    for (int m = 0; m < M; ++m) {
        store(r2 + m * u.unit_row + k, sum[m][0]);
        if (both) store(r2 + m * u.unit_row + k + W, sum[m][1]);
    }
}

template <class T> inline void distances(const PackedUnits<T>& u, const T* f, i64 f_row, int n, T* r2) {
    for (int k = 0; k < u.unit_row; k += 2 * kWidth<T>)
        for_row_blocks<kRows>(n, [&](auto count, int m) {
            distance_block<T, decltype(count)::value>(u, f + m * f_row, f_row, k, r2 + m * u.unit_row);
        });
}

// d_f of M samples and one lanes of features at a time; h: rows of units.
template <class T, int M>
NF_HD void feature_gradient_block(const PackedUnits<T>& u, const T* f, const T* h, int d, T* d_f) {
    using V = Lanes<T>;
    V at[M], sum[M] = {};
#pragma GCC unroll 4
    for (int m = 0; m < M; ++m) at[m] = load<V>(f + m * u.feature_row + d);
    for (int k = 0; k < u.units; ++k) {
        V precision = load<V>(u.precision + k * u.feature_row + d), centre = load<V>(u.weighted_centre + k * u.feature_row + d);
#pragma GCC unroll 4
        for (int m = 0; m < M; ++m) sum[m] += rbf_offset(at[m], precision, centre) * h[m * u.unit_row + k];
    }
#pragma GCC unroll 4
    for (int m = 0; m < M; ++m) store(d_f + m * u.feature_row + d, sum[m]);
}

template <class T> inline void feature_gradient(const PackedUnits<T>& u, const T* f, const T* h, int n, T* d_f) {
    for (int d = 0; d < u.feature_row; d += kWidth<T>)
        for_row_blocks<4>(n, [&](auto count, int m) {
            feature_gradient_block<T, decltype(count)::value>(u, f + m * u.feature_row, h + m * u.unit_row, d,
                                                              d_f + m * u.feature_row);
        });
}

// first, second [features][unit_row] += sums over the tile; M features and one lanes of units at a time.
template <class T> inline void unit_sums(const PackedUnits<T>& u, const T* f, const T* h, int n, T* first, T* second) {
    using V = Lanes<T>;
    for_row_blocks<4>(u.features, [&](auto count, int d) {
        constexpr int M = decltype(count)::value;
        for (int k = 0; k < u.unit_row; k += kWidth<T>) {
            V c[M], a[M], b[M];
#pragma GCC unroll 4
            for (int m = 0; m < M; ++m) {
                i64 at = (d + m) * u.unit_row + k;
                c[m] = load<V>(u.centre + at), a[m] = load<V>(first + at), b[m] = load<V>(second + at);
            }
            for (int s = 0; s < n; ++s) {
                V share = load<V>(h + s * u.unit_row + k);
#pragma GCC unroll 4
                for (int m = 0; m < M; ++m) rbf_sums(V{} + f[s * u.feature_row + d + m], c[m], share, a[m], b[m]);
            }
#pragma GCC unroll 4
            for (int m = 0; m < M; ++m) {
                i64 at = (d + m) * u.unit_row + k;
                store(first + at, a[m]), store(second + at, b[m]);
            }
        }
    });
}

template <RbfKernel K, class T> void rbf_forward(const RbfArgs<T>& g) {
    using V = Lanes<T>;
#pragma omp parallel num_threads(threads_for(g.samples, g.threads))
    {
        Scratch& scratch = thread_scratch();
        scratch.reset(sizeof(T) * (PackedUnits<T>::size(g.features, g.units) + kTile * padded<T>(g.units)) + 8192);
        PackedUnits<T> u;
        u.pack(g, scratch);
        T* copy = scratch.take<T>(kTile * u.unit_row);
        share_tiles(g.samples, [&](i64 begin, int n) {
            T* rows = u.unit_row == u.units ? g.out + begin * u.units : copy;
            distances(u, g.f + begin * u.features, u.features, n, rows);
            for (i64 i = 0; i < n * u.unit_row; i += kWidth<T>) store(rows + i, rbf_value<K>(load<V>(rows + i)));
            if (rows == copy) unpad_rows(copy, g.out + begin * u.units, n, u.units);
        });
    }
}

template <RbfKernel K, class T> void rbf_backward(const RbfArgs<T>& g) {
    using V = Lanes<T>;
    i64 parameters = i64(g.units) * g.features;
    for (i64 i = 0; i < parameters; ++i) g.d_centres[i] = g.d_log_precisions[i] = 0;
#pragma omp parallel num_threads(threads_for(g.samples, g.threads))
    {
        Scratch& scratch = thread_scratch();
        i64 sums = i64(g.features) * padded<T>(g.units);
        scratch.reset(sizeof(T) * (PackedUnits<T>::size(g.features, g.units) + 2 * sums +
                                   2 * kTile * i64(padded<T>(g.units) + padded<T>(g.features))) + 8192);
        PackedUnits<T> u;
        u.pack(g, scratch);
        T *first = u.zeros(scratch, sums), *second = u.zeros(scratch, sums);
        T *h = scratch.take<T>(kTile * u.unit_row), *d_out_copy = scratch.take<T>(kTile * u.unit_row);
        T *f_copy = scratch.take<T>(kTile * u.feature_row), *d_f_copy = scratch.take<T>(kTile * u.feature_row);
        share_tiles(g.samples, [&](i64 begin, int n) {
            const T* f = rows_of(g.f + begin * u.features, u.features, n, f_copy);
            const T* d_out = rows_of(g.d_out + begin * u.units, u.units, n, d_out_copy);
            distances(u, f, u.feature_row, n, h);
            for (i64 i = 0; i < n * u.unit_row; i += kWidth<T>)
                store(h + i, rbf_slope<K>(load<V>(h + i)) * load<V>(d_out + i) * 2);
            unit_sums(u, f, h, n, first, second);
            if (!g.d_f) return;
            T* d_f = u.feature_row == u.features ? g.d_f + begin * u.features : d_f_copy;
            feature_gradient(u, f, h, n, d_f);
            if (d_f == d_f_copy) unpad_rows(d_f_copy, g.d_f + begin * u.features, n, u.features);
        });
#pragma omp for ordered schedule(static, 1)
        for (int t = 0; t < omp_get_num_threads(); ++t)
#pragma omp ordered
            for (int k = 0; k < u.units; ++k)
                for (int d = 0; d < u.features; ++d) {
                    T precision = u.precision[k * u.feature_row + d];
                    i64 at = d * u.unit_row + k, to = i64(k) * u.features + d;
                    g.d_centres[to] += rbf_d_centre(precision, first[at]);
                    g.d_log_precisions[to] += rbf_d_log_precision(precision, second[at]);
                }
    }
}

#define NF_FOR_KERNELS(KERNEL, CALL)                                                                       \
    switch (KERNEL) {                                                                                      \
        case RbfKernel::gaussian: { constexpr auto kK = RbfKernel::gaussian; CALL; break; }                \
        case RbfKernel::multiquadric: { constexpr auto kK = RbfKernel::multiquadric; CALL; break; }        \
        case RbfKernel::inverse_multiquadric: { constexpr auto kK = RbfKernel::inverse_multiquadric; CALL; break; } \
        case RbfKernel::cubic: { constexpr auto kK = RbfKernel::cubic; CALL; break; }                      \
        case RbfKernel::thin_plate: { constexpr auto kK = RbfKernel::thin_plate; CALL; break; }            \
        case RbfKernel::wendland: { constexpr auto kK = RbfKernel::wendland; CALL; break; }                \
    }

template <class T> void op_rbf_forward(const RbfArgs<T>& g) { NF_FOR_KERNELS(g.kernel, (rbf_forward<kK>(g))) }
template <class T> void op_rbf_backward(const RbfArgs<T>& g) { NF_FOR_KERNELS(g.kernel, (rbf_backward<kK>(g))) }

}  // namespace NF_ISA
}  // namespace nf
