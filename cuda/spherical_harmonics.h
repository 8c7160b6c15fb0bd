// Real spherical harmonics up to degree 4 (16 values), in the order and signs that Instant-NGP and 3D Gaussian
// Splatting share. d: unit direction. A colour is max(0, 0.5 + sum_k Y_k(d) h_k), h_k [3].
#pragma once
#include "scalar.h"

namespace nf {

// Writes degree^2 values, degree in 1..4.
template <class T> NF_HD void spherical_harmonics(T x, T y, T z, int degree, T* out) {
    using S = Scalar<T>;
    out[0] = T{} + S(0.28209479177387814);
    if (degree < 2) return;
    out[1] = S(-0.48860251190291987) * y;
    out[2] = S(0.48860251190291987) * z;
    out[3] = S(-0.48860251190291987) * x;
    if (degree < 3) return;
    T xx = x * x, yy = y * y, zz = z * z, xy = x * y, yz = y * z, xz = x * z;
    out[4] = S(1.0925484305920792) * xy;
    out[5] = S(-1.0925484305920792) * yz;
    out[6] = S(0.31539156525252005) * (2 * zz - xx - yy);
    out[7] = S(-1.0925484305920792) * xz;
    out[8] = S(0.54627421529603959) * (xx - yy);
    if (degree < 4) return;
    out[9] = S(-0.59004358992664352) * y * (3 * xx - yy);
    out[10] = S(2.8906114426405538) * xy * z;
    out[11] = S(-0.45704579946446572) * y * (4 * zz - xx - yy);
    out[12] = S(0.3731763325901154) * z * (2 * zz - 3 * xx - 3 * yy);
    out[13] = S(-0.45704579946446572) * x * (4 * zz - xx - yy);
    out[14] = S(1.4453057213202769) * z * (xx - yy);
    out[15] = S(-0.59004358992664352) * x * (xx - 3 * yy);
}

// d_direction += sum_k d_out[k] * d out[k] / d direction, of the polynomials above.
template <class T>
NF_HD void spherical_harmonics_backward(T x, T y, T z, int degree, const T* g, T& dx, T& dy, T& dz) {
    using S = Scalar<T>;
    dx = dy = dz = T{};
    if (degree < 2) return;
    const S a = S(0.48860251190291987), b = S(1.0925484305920792), c = S(0.31539156525252005);
    dy += -a * g[1];
    dz += a * g[2];
    dx += -a * g[3];
    if (degree < 3) return;
    dx += b * y * g[4] - 2 * c * x * g[6] - b * z * g[7] + b * x * g[8];
    dy += b * x * g[4] - b * z * g[5] - 2 * c * y * g[6] - b * y * g[8];
    dz += -b * y * g[5] + 4 * c * z * g[6] - b * x * g[7];
    if (degree < 4) return;
    const S e = S(0.59004358992664352), f = S(2.8906114426405538), h = S(0.45704579946446572);
    const S k = S(0.3731763325901154), m = S(1.4453057213202769);
    T xx = x * x, yy = y * y, zz = z * z;
    dx += -6 * e * x * y * g[9] + f * y * z * g[10] + 2 * h * x * y * g[11] - 6 * k * x * z * g[12] -
          h * (4 * zz - 3 * xx - yy) * g[13] + 2 * m * x * z * g[14] - 3 * e * (xx - yy) * g[15];
    dy += -3 * e * (xx - yy) * g[9] + f * x * z * g[10] - h * (4 * zz - xx - 3 * yy) * g[11] - 6 * k * y * z * g[12] +
          2 * h * x * y * g[13] - 2 * m * y * z * g[14] + 6 * e * x * y * g[15];
    dz += f * x * y * g[10] - 8 * h * y * z * g[11] + k * (6 * zz - 3 * xx - 3 * yy) * g[12] - 8 * h * x * z * g[13] +
          m * (xx - yy) * g[14];
}

// A colour before it is held at 0: of the first harmonic, then of one more.
template <class T> NF_HD void first_harmonic(T basis, const T* h, T* rgb) {
    for (int a = 0; a < 3; ++a) rgb[a] = basis * h[a] + Scalar<T>(0.5);
}
template <class T> NF_HD void add_harmonic(T basis, const T* h, T* rgb) {
    for (int a = 0; a < 3; ++a) rgb[a] += basis * h[a];
}
// The gradient of Y_k; that of h_k is Y_k d_rgb.
template <class T> NF_HD T harmonic_slope(const T* d_rgb, const T* h) {
    return d_rgb[0] * h[0] + d_rgb[1] * h[1] + d_rgb[2] * h[2];
}

}  // namespace nf
