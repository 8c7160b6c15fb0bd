// Structural similarity of two pictures (Wang et al. 2004) around a pixel, from moments under a window of 11 x 11
// pixels (a Gaussian of 1.5 pixels, zeros outside the picture), for values in [0, 1]:
//
//   S = A1 A2 / (B1 B2)    A1 = 2 mx my + C1    A2 = 2 (E[xy] - mx my) + C2
//   B1 = mx^2 + my^2 + C1  B2 = E[x^2 + y^2] - mx^2 - my^2 + C2        C1 = 0.01^2, C2 = 0.03^2
// Its gradient for x at pixel p, w the window, goes through three moments:
//   dS/dx_p = (w * dS/dmx)_p + 2 x_p (w * dS/dE[x^2 + y^2])_p + y_p (w * dS/dE[xy])_p
#pragma once
#include "scalar.h"

namespace nf {

constexpr int kWindowRadius = 5;
// From the middle outwards.
#define NF_WINDOW                                                                                         \
    {0.2660117248617943,   0.21300553771125366,  0.1093606895097,                                         \
     0.03600077212843082, 0.007598758135239184, 0.0010283800844791099}
constexpr double kWindow[kWindowRadius + 1] = NF_WINDOW;

template <class T> struct Similarity {
    T value, d_mean, d_squares, d_product;
};
template <class T> NF_HD Similarity<T> similarity(T mx, T my, T squares, T product) {
    using S = Scalar<T>;
    const S c1 = S(1e-4), c2 = S(9e-4);
    T both = mx * my, lengths = mx * mx + my * my;
    T a1 = 2 * both + c1, a2 = 2 * (product - both) + c2, b1 = lengths + c1, b2 = squares - lengths + c2;
    T inverse = 1 / (b1 * b2), value = a1 * a2 * inverse;
    T d_squares = -value * b1 * inverse, d_product = 2 * a1 * inverse;
    T d_mean = 2 * my * a2 * inverse - 2 * mx * value * b2 * inverse - 2 * mx * d_squares - my * d_product;
    return {value, d_mean, d_squares, d_product};
}

constexpr int kMoments = 4, kMaps = 3, kTaps = 2 * kWindowRadius + 1;

// Adds a pair of pixels to the moments mx, my, E[x^2 + y^2], E[xy].
template <class T> NF_HD void add_moments(T x, T y, Scalar<T> weight, T* moments) {
    T wx = x * weight, wy = y * weight;
    moments[0] += wx;
    moments[1] += wy;
    moments[2] += wx * x + wy * y;
    moments[3] += wx * y;
}

// Gradients for x: of S from the three filtered maps, of `flat` |x - y|.
template <class T> NF_HD T similarity_slope(T x, T y, T mean, T squares, T product) {
    return mean + 2 * x * squares + y * product;
}
template <class T> NF_HD T absolute_slope(T difference, Scalar<T> flat) {
    T sign = select_(difference > 0, T{} + flat, T{} - flat);
    return select_(difference == 0, T{}, sign);
}

}  // namespace nf
