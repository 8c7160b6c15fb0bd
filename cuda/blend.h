// Blending ellipses from front to back (3DGS, arXiv:2308.04079), and which pixels an ellipse reaches.
//
//   alpha_i = min(0.99, opacity_i exp(-(a dx^2 + 2 b dx dy + c dy^2) / 2)), taken as 0 below 1/255
//   w_i = T_i alpha_i    T_{i+1} = T_i (1 - alpha_i),  T_0 = 1;  once T < 1e-4 nothing more counts
//   C = sum w_i c_i + T_end background     opacity = 1 - T_end     D = sum w_i z_i     N = sum w_i n_i
// Backward, with q_i = dL/dC . c_i + dL/dD z_i + dL/dN . n_i and R_i what the layers from i on give to the loss,
//   R_0 = dL/dC . C + dL/dD D + dL/dN . N - dL/dopacity T_end        R_{i+1} = R_i - w_i q_i
//   dL/dalpha_i = (T_{i+1} q_i - R_{i+1}) / (1 - alpha_i)            (no division by anything under 0.01)
// so one pass from front to back serves both directions. With v_i = alpha_i dL/dalpha_i, the gradient of log opacity is
// sum v, of (x, y) sum v (a dx + b dy, b dx + c dy), of (a, b, c) -sum v (dx^2 / 2, dx dy, dy^2 / 2) over pixels.
#pragma once
#include "scalar.h"

namespace nf {

constexpr double kMostAlpha = 0.99, kLeastTransmittance = 1e-4;
// What is blended beside colour, and how many numbers of a row that takes from kColourAt on.
constexpr int kColourOnly = 0, kWithDepth = 1, kWithNormal = 2;
NF_HD constexpr int channels_of(int level) { return level == kColourOnly ? 3 : level == kWithDepth ? 4 : 7; }
constexpr double kLog2LeastAlpha = -7.994353436858858;  // log2(1/255)
constexpr double kLog2E = 1.4426950408889634;

// log2 of a Gaussian's alpha: the conic's and opacity's factors, folded once per Gaussian.
template <class S> struct Falloff {
    S x, y, xx, xy, yy, peak;
};
template <class S> NF_HD Falloff<S> falloff_of(const S* e) {
    return {e[0], e[1], S(-0.5 * kLog2E) * e[2], S(-kLog2E) * e[3], S(-0.5 * kLog2E) * e[4], S(kLog2E) * e[5]};
}
template <class T, class S> NF_HD T log2_alpha(const Falloff<S>& f, T dx, T dy) {
    return dx * (f.xx * dx + f.xy * dy) + (f.yy * dy * dy + f.peak);
}

// What one layer takes of the light, and what is left of it.
template <class T> NF_HD T take_light(T alpha, T& transmittance) {
    T weight = transmittance * alpha;
    transmittance -= weight;
    return weight;
}

// R_0 of a pixel, but for what the opacity adds: `d` and `picture` have `channels` numbers.
template <class S> NF_HD S all_layers(const S* d, const S* picture, int channels) {
    S sum = 0;
    for (int c = 0; c < channels; ++c) sum += d[c] * picture[c];
    return sum;
}

// v of the layer: `remaining` becomes R_{i+1}; `q` is the layer's value for the loss. No gradient where alpha is held.
template <class T> NF_HD T blend_backward(T free_alpha, T alpha, T weight, T transmittance, T q, T& remaining) {
    using S = Scalar<T>;
    remaining -= weight * q;
    T v = alpha * (transmittance * q - remaining) * reciprocal_(1 - alpha);
    return select_(free_alpha < S(kMostAlpha), v, T{});
}

// Sums over pixels of one Gaussian: v (1, dx, dy, dx^2, dx dy, dy^2) to the gradient of (x, y, a, b, c, log opacity).
template <class S> NF_HD void ellipse_gradient(const S* e, const S* sums, S* d) {
    d[0] = e[2] * sums[1] + e[3] * sums[2];
    d[1] = e[3] * sums[1] + e[4] * sums[2];
    d[2] = S(-0.5) * sums[3];
    d[3] = -sums[4];
    d[4] = S(-0.5) * sums[5];
    d[5] = sums[0];
}

// The least a dx^2 + 2 b dx dy + c dy^2 over a rectangle [x0, x1] x [y0, y1] around (0, 0): it lies on the edges that
// face the centre, or is 0 within. Both candidates are in the rectangle, so the smaller one is exact.
template <class S> struct Quadratic {
    S a, b2, c, x_slope, y_slope;  // a, 2 b, c; where on a line x = const or y = const it is least
};
template <class S> NF_HD Quadratic<S> quadratic_of(const S* e) {
    return {e[2], 2 * e[3], e[4], -e[3] / e[4], -e[3] / e[2]};
}
template <class T, class S> NF_HD T least_in_rectangle(const Quadratic<S>& q, T x0, T x1, T y0, T y1) {
    T x = clamp_(T{}, x0, x1), y = clamp_(T{}, y0, y1);
    T at_x = clamp_(x * q.x_slope, y0, y1), at_y = clamp_(y * q.y_slope, x0, x1);
    T first = x * (q.a * x + q.b2 * at_x) + q.c * at_x * at_x;
    T second = y * (q.c * y + q.b2 * at_y) + q.a * at_y * at_y;
    return min_(first, second);
}

}  // namespace nf
