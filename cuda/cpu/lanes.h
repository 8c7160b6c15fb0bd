// SIMD lanes by the compiler's vector extension: the same source for AVX-512, AVX2, SSE2 and NEON.
// NF_VECTOR_BYTES is set per build of kernels.cpp; everything lives in a namespace of that build (NF_ISA), so that
// the linker can never merge an AVX-512 body into the portable one.
#pragma once
#include "../scalar.h"
#if defined(__AVX2__)
#include <immintrin.h>
#endif

namespace nf {
namespace NF_ISA {

typedef float FloatLanes __attribute__((vector_size(NF_VECTOR_BYTES)));
typedef double DoubleLanes __attribute__((vector_size(NF_VECTOR_BYTES)));
typedef u32 FloatIndex __attribute__((vector_size(NF_VECTOR_BYTES)));
typedef u32 DoubleIndex __attribute__((vector_size(NF_VECTOR_BYTES / 2)));

template <class T> struct LanesOf;
template <> struct LanesOf<float> {
    using Value = FloatLanes;
    using Index = FloatIndex;
    typedef i32 Signed __attribute__((vector_size(NF_VECTOR_BYTES)));
};
template <> struct LanesOf<double> {
    using Value = DoubleLanes;
    using Index = DoubleIndex;
    typedef i32 Signed __attribute__((vector_size(NF_VECTOR_BYTES / 2)));
};
template <class T> using Lanes = typename LanesOf<T>::Value;
template <class T> using IndexLanes = typename LanesOf<T>::Index;
template <class T> constexpr int kWidth = NF_VECTOR_BYTES / int(sizeof(T));

// F consecutive scalars of one table entry.
template <class T, int F> struct EntryOf;
#define NF_ENTRY(T, F) \
    template <> struct EntryOf<T, F> { typedef T Type __attribute__((vector_size(F * sizeof(T)))); };
NF_ENTRY(float, 2) NF_ENTRY(float, 4) NF_ENTRY(float, 8)
NF_ENTRY(double, 2) NF_ENTRY(double, 4) NF_ENTRY(double, 8)
#undef NF_ENTRY

template <class V, class T> NF_HD V load(const T* p) {
    V v;
    __builtin_memcpy(&v, p, sizeof(V));
    return v;
}
template <class V, class T> NF_HD void store(T* p, V v) { __builtin_memcpy(p, &v, sizeof(V)); }

template <class T> NF_HD IndexLanes<T> truncate(Lanes<T> x) {
    return (IndexLanes<T>)__builtin_convertvector(x, typename LanesOf<T>::Signed);
}
template <class T> NF_HD Lanes<T> to_lanes(IndexLanes<T> i) {
    return __builtin_convertvector((typename LanesOf<T>::Signed)i, Lanes<T>);
}

// p[i] for each lane.
template <class T> NF_HD Lanes<T> gather(const T* p, IndexLanes<T> i) {
#if defined(__AVX512F__)
    if constexpr (kWidth<T> == 16) return (Lanes<T>)_mm512_i32gather_ps((__m512i)i, p, 4);
#elif defined(__AVX2__)
    if constexpr (sizeof(T) == 4) return (Lanes<T>)_mm256_i32gather_ps(p, (__m256i)i, 4);
#endif
    Lanes<T> v;
    for (int k = 0; k < kWidth<T>; ++k) v[k] = p[i[k]];
    return v;
}

// Sum over lanes by halves; a scalar is its own sum. By shuffles where there are some: through memory, as the compiler
// has it, rows of 64 features took twice as long (a trial run).
NF_HD float sum_of(float x) { return x; }
NF_HD double sum_of(double x) { return x; }
#if defined(__AVX512F__)
NF_HD float sum_of(FloatLanes v) { return _mm512_reduce_add_ps((__m512)v); }
NF_HD double sum_of(DoubleLanes v) { return _mm512_reduce_add_pd((__m512d)v); }
#elif defined(__AVX2__)
NF_HD float sum_of(FloatLanes v) {
    __m128 sum = _mm_add_ps(_mm256_castps256_ps128((__m256)v), _mm256_extractf128_ps((__m256)v, 1));
    sum = _mm_add_ps(sum, _mm_movehl_ps(sum, sum));
    return _mm_cvtss_f32(_mm_add_ss(sum, _mm_movehdup_ps(sum)));
}
NF_HD double sum_of(DoubleLanes v) {
    __m128d sum = _mm_add_pd(_mm256_castpd256_pd128((__m256d)v), _mm256_extractf128_pd((__m256d)v, 1));
    return _mm_cvtsd_f64(_mm_add_sd(sum, _mm_unpackhi_pd(sum, sum)));
}
#endif
template <class V> NF_HD auto sum_of(V v) {
    constexpr int kCount = int(sizeof(V) / sizeof(v[0]));
    auto element = v[0];
    decltype(element) part[kCount];
    __builtin_memcpy(part, &v, sizeof(V));
#pragma GCC unroll 4
    for (int half = kCount / 2; half > 0; half /= 2)
#pragma GCC unroll 8
        for (int i = 0; i < half; ++i) part[i] += part[i + half];
    return part[0];
}

constexpr int round_up(int n, int multiple) { return (n + multiple - 1) / multiple * multiple; }

}  // namespace NF_ISA

template <> struct ScalarOf<NF_ISA::FloatLanes> { using Type = float; };
template <> struct ScalarOf<NF_ISA::DoubleLanes> { using Type = double; };

// exp(x) = 2^n exp(r), r = x - n log 2 in two parts, degree-6 polynomial in r; relative error below 2e-7.
NF_HD NF_ISA::FloatLanes exp_(NF_ISA::FloatLanes x) {
    using V = NF_ISA::FloatLanes;
    typedef i32 I __attribute__((vector_size(NF_VECTOR_BYTES)));
    x = x < -87.0f ? V{} - 87.0f : x;
    x = x > 88.0f ? V{} + 88.0f : x;
    V n = x * 1.44269504f + 12582912.0f;  // 1.5 * 2^23: adding it rounds to an integer in the low bits
    I bits = (I)n;
    n -= 12582912.0f;
    V r = x - n * 0.693359375f + n * 2.12194440e-4f;
    V p = r * 1.9875691500e-4f + 1.3981999507e-3f;
    p = p * r + 8.3334519073e-3f;
    p = p * r + 4.1665795894e-2f;
    p = p * r + 1.6666665459e-1f;
    p = p * r + 5.0000001201e-1f;
    p = p * r * r + r + 1.0f;
    return p * (V)((bits + 127) << 23);
}
NF_HD NF_ISA::DoubleLanes exp_(NF_ISA::DoubleLanes x) {
    for (int i = 0; i < NF_ISA::kWidth<double>; ++i) x[i] = ::exp(x[i]);
    return x;
}
// log(x) for positive x: the mantissa in [sqrt(1/2), sqrt(2)), then atanh's series in s = (m - 1) / (m + 1).
NF_HD NF_ISA::FloatLanes log_(NF_ISA::FloatLanes x) {
    using V = NF_ISA::FloatLanes;
    typedef i32 I __attribute__((vector_size(NF_VECTOR_BYTES)));
    I bits = (I)x, exponent = (bits - 0x3f3504f3) >> 23;
    V n = __builtin_convertvector(exponent, V), s = (V)(bits - (exponent << 23)) - 1.0f;
    s = s / (s + 2.0f);
    V t = s * s, p = t * 0.24279079f + 0.28498786f;
    p = (p * t + 0.40000972f) * t + 0.66666663f;
    return n * 0.69314718f + (s * 2.0f + s * t * p);
}
// 2^x for |x| < 120, what lies outside is undefined but harmless: 2^n by the exponent's bits, a polynomial in the rest.
NF_HD NF_ISA::FloatLanes exp2_(NF_ISA::FloatLanes x) {
    using V = NF_ISA::FloatLanes;
    typedef i32 I __attribute__((vector_size(NF_VECTOR_BYTES)));
    V n = x + 12582912.0f;
    I shift = (I)n << 23;
    V r = x - (n - 12582912.0f);
    // Of degree 5, the error least against 2^r (7e-8 before rounding), in pairs: a shorter chain than Horner's.
    V r2 = r * r, low = r * 0.69314697f + 1.0f, middle = r * 0.055507133f + 0.24022120f;
    V high = r * 0.0013276470f + 0.0096755413f;
    return (V)((I)(low + r2 * (middle + r2 * high)) + shift);
}
NF_HD NF_ISA::DoubleLanes exp2_(NF_ISA::DoubleLanes x) {
    for (int i = 0; i < NF_ISA::kWidth<double>; ++i) x[i] = ::exp2(x[i]);
    return x;
}
// 1 / x to 2 ulp: the machine's estimate and one step of Newton's method.
NF_HD NF_ISA::FloatLanes reciprocal_(NF_ISA::FloatLanes x) {
#if defined(__AVX512F__)
    NF_ISA::FloatLanes y = (NF_ISA::FloatLanes)_mm512_maskz_rcp14_ps(0xffff, (__m512)x);
    return y * (2 - x * y);
#elif defined(__AVX2__)
    NF_ISA::FloatLanes y = (NF_ISA::FloatLanes)_mm256_rcp_ps((__m256)x);
    return y * (2 - x * y);
#else
    return 1 / x;
#endif
}
NF_HD NF_ISA::DoubleLanes reciprocal_(NF_ISA::DoubleLanes x) { return 1 / x; }
NF_HD NF_ISA::FloatLanes whole_(NF_ISA::FloatLanes x) {
    return NF_ISA::to_lanes<float>(NF_ISA::truncate<float>(x));
}
NF_HD NF_ISA::DoubleLanes whole_(NF_ISA::DoubleLanes x) {
    return NF_ISA::to_lanes<double>(NF_ISA::truncate<double>(x));
}
NF_HD NF_ISA::FloatLanes abs_(NF_ISA::FloatLanes x) { return x < 0 ? -x : x; }
NF_HD NF_ISA::DoubleLanes abs_(NF_ISA::DoubleLanes x) { return x < 0 ? -x : x; }
template <class M> NF_HD NF_ISA::FloatLanes select_(M condition, NF_ISA::FloatLanes yes, NF_ISA::FloatLanes no) {
    return condition ? yes : no;
}
template <class M> NF_HD NF_ISA::DoubleLanes select_(M condition, NF_ISA::DoubleLanes yes, NF_ISA::DoubleLanes no) {
    return condition ? yes : no;
}
NF_HD NF_ISA::DoubleLanes log_(NF_ISA::DoubleLanes x) {
    for (int i = 0; i < NF_ISA::kWidth<double>; ++i) x[i] = ::log(x[i]);
    return x;
}
NF_HD NF_ISA::FloatLanes sqrt_(NF_ISA::FloatLanes x) {
    for (int i = 0; i < NF_ISA::kWidth<float>; ++i) x[i] = ::sqrtf(x[i]);
    return x;
}
NF_HD NF_ISA::DoubleLanes sqrt_(NF_ISA::DoubleLanes x) {
    for (int i = 0; i < NF_ISA::kWidth<double>; ++i) x[i] = ::sqrt(x[i]);
    return x;
}

}  // namespace nf
