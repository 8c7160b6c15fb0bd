// Lanes moved and counted: transposition of a square of lanes, sums of many vectors at once, comparisons as bits.
#pragma once
#include "lanes.h"

namespace nf {
namespace NF_ISA {

template <class V> constexpr int kLanesOf = int(sizeof(V) / sizeof(Scalar<V>));

// Of two vectors, in groups of 2 S lanes: the lower S lanes of both side by side, or the upper ones.
#define NF_LOW(l, W) (((l) & S) ? (W) + (l) - S : (l))
#define NF_HIGH(l, W) (((l) & S) ? (W) + (l) : (l) + S)
#define NF_2(F, l, W) F(l, W), F(l + 1, W)
#define NF_4(F, l, W) NF_2(F, l, W), NF_2(F, l + 2, W)
#define NF_8(F, l, W) NF_4(F, l, W), NF_4(F, l + 4, W)
#define NF_16(F, l, W) NF_8(F, l, W), NF_8(F, l + 8, W)
#define NF_MERGE(name, F)                                                                          \
    template <int S, class V> NF_HD V name(V a, V b) {                                             \
        if constexpr (kLanesOf<V> == 16) return __builtin_shufflevector(a, b, NF_16(F, 0, 16));    \
        else if constexpr (kLanesOf<V> == 8) return __builtin_shufflevector(a, b, NF_8(F, 0, 8));  \
        else if constexpr (kLanesOf<V> == 4) return __builtin_shufflevector(a, b, NF_4(F, 0, 4));  \
        else return __builtin_shufflevector(a, b, NF_2(F, 0, 2));                                  \
    }
NF_MERGE(merge_low, NF_LOW)
NF_MERGE(merge_high, NF_HIGH)
#undef NF_MERGE
#undef NF_LOW
#undef NF_HIGH

template <int S, class V> NF_HD void transpose_step(V* rows) {
    constexpr int W = kLanesOf<V>;
    if constexpr (S < W) {
#pragma GCC unroll 16
        for (int i = 0; i < W; ++i)
            if (!(i & S)) {
                V a = rows[i], b = rows[i + S];
                rows[i] = merge_low<S>(a, b);
                rows[i + S] = merge_high<S>(a, b);
            }
        transpose_step<2 * S>(rows);
    }
}
// Rows become columns, as many rows as a vector has lanes.
template <class V> NF_HD void transpose(V* rows) { transpose_step<1>(rows); }

// Lane i of the result is the sum over the lanes of rows[i]; `rows` is used up. Rows from `kUsed` on are taken as junk.
template <int S, int kUsed, class V> NF_HD void sum_step(V* rows) {
    if constexpr (S >= 1) {
#pragma GCC unroll 16
        for (int i = 0; i < (S < kUsed ? S : kUsed); ++i) {
            V b = i + S < kUsed ? rows[i + S] : rows[i];
            rows[i] = merge_low<S>(rows[i], b) + merge_high<S>(rows[i], b);
        }
        sum_step<S / 2, (S < kUsed ? S : kUsed)>(rows);
    }
}
template <int kUsed, class V> NF_HD V sums_of(V* rows) {
    sum_step<kLanesOf<V> / 2, kUsed>(rows);
    return rows[0];
}

// Bit i: a[i] >= b[i].
template <class V> NF_HD u32 bits_ge(V a, V b) {
    constexpr int W = kLanesOf<V>;
#if defined(__AVX512F__)
    if constexpr (W == 16) return _mm512_cmp_ps_mask((__m512)a, (__m512)b, _CMP_GE_OQ);
    else return _mm512_cmp_pd_mask((__m512d)a, (__m512d)b, _CMP_GE_OQ);
#elif defined(__AVX2__)
    if constexpr (W == 8) return u32(_mm256_movemask_ps(_mm256_cmp_ps((__m256)a, (__m256)b, _CMP_GE_OQ)));
    else return u32(_mm256_movemask_pd(_mm256_cmp_pd((__m256d)a, (__m256d)b, _CMP_GE_OQ)));
#else
    u32 bits = 0;
    for (int i = 0; i < W; ++i) bits |= u32(a[i] >= b[i]) << i;
    return bits;
#endif
}

// x where the lane's bit is set, else 0.
template <class V> NF_HD V kept(u32 bits, V x) {
    constexpr int W = kLanesOf<V>;
#if defined(__AVX512F__)
    if constexpr (W == 16) return (V)_mm512_maskz_mov_ps(__mmask16(bits), (__m512)x);
    else return (V)_mm512_maskz_mov_pd(__mmask8(bits), (__m512d)x);
#else
    for (int i = 0; i < W; ++i) x[i] = bits >> i & 1 ? x[i] : 0;
    return x;
#endif
}

}  // namespace NF_ISA
}  // namespace nf
