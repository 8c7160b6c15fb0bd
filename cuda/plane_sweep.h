// Plane sweep (Collins 1996): a pixel of a reference photo at an inverse depth, as another photo sees it.
//
// Vocabulary
//   q     inverse depth along the reference's optical axis, 1/world unit
//   a, b  x ~ a p + b q is the other photo's homogeneous pixel of p = (column, row, 1): a = K' R K^-1 [3, 3], b = K' t
//   ZNCC  zero-mean normalised cross-correlation of two windows, -1 to 1: (E uv - Eu Ev) / sqrt(Var u Var v)
#pragma once
#include "scalar.h"

namespace nf {

constexpr int kSweepRadius = 2;        // of a window: 5 x 5 pixels
constexpr float kSweepNoise = 1e-4f;   // variance of grey in [0, 1] below which a window has nothing to compare
constexpr double kSweepAlone = 0.8;    // of a photo's score where it is the only one of several that looks there

// Where a pixel is seen by the other photo, in pixels with centres at + 0.5, and its depth there in units of no use.
template <class T> struct SweepPixel { T column, row, z; };

template <class T>
NF_HD SweepPixel<T> sweep_pixel(const Scalar<T>* a, const Scalar<T>* b, T column, Scalar<T> row, T q) {
    T x = column * a[0] + q * b[0] + (a[1] * row + a[2]);
    T y = column * a[3] + q * b[1] + (a[4] * row + a[5]);
    T z = column * a[6] + q * b[2] + (a[7] * row + a[8]);
    T inverse = 1 / select_(z > Scalar<T>(1e-6), z, T{} + Scalar<T>(1e-6));
    return {x * inverse, y * inverse, z};
}

// Before the other camera and within its picture: what is outside counts as -1.
template <class T> NF_HD T sweep_seen(const SweepPixel<T>& p, int width, int height, T yes, T no) {
    T inside = select_(p.column >= 0, select_(p.column <= Scalar<T>(width), yes, no), no);
    inside = select_(p.row >= 0, select_(p.row <= Scalar<T>(height), inside, no), no);
    return select_(p.z > Scalar<T>(1e-6), inside, no);
}

// Between pixel centres, beyond the outermost ones as they are: a place in [0, size - 1] along one axis.
template <class T> NF_HD T sweep_place(T place, int size) {
    T u = place - Scalar<T>(0.5);
    u = select_(u > 0, u, T{});
    T most = T{} + Scalar<T>(size - 1);
    return select_(u < most, u, most);
}

// How much a pixel agrees with other photos, by the two best of them; -1: does not look there. `several`: there are two.
template <class T> NF_HD T sweep_pair(T best, T second, bool several) {
    T both = T(0.5) * (best + second);
    T one = several && best > T(-1) ? T(kSweepAlone) * best : best;
    return second > T(-1) ? both : one;
}

template <class T> NF_HD T sweep_score(T uv, T u, T v, T uu, T vv) {
    T var_u = uu - u * u, var_v = vv - v * v;
    var_u = var_u > 0 ? var_u : T(0);
    var_v = var_v > 0 ? var_v : T(0);
    return (uv - u * v) / sqrt_((var_u + T(kSweepNoise)) * (var_v + T(kSweepNoise)));
}

}  // namespace nf
