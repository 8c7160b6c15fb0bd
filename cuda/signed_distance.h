// Log-density of a signed distance, forward and backward side by side (VolSDF, arXiv:2106.12052). T: float, double, lanes.
//
//   v = (x - 1/2) / (2 inner)                    x in the field's unit cube; distances are in inner cubes
//   d = |v| - radius + residual h_0              below 0 inside
//   log_density = log(Psi(-d) / beta) where all |v_a| <= 1/2, else h_1
//   Psi: the cumulative Laplace distribution of scale beta
#pragma once
#include "scalar.h"

namespace nf {

struct DistanceConfig {
    double inner, radius, residual;  // inner 0: no distance, h_0 is the log-density
};

// The place of x [3] about the inner cube's middle; returns the largest |v_a|.
template <class T> NF_HD T about_middle(const T* x, const DistanceConfig& c, T* v) {
    const Scalar<T> scale = 1 / (2 * Scalar<T>(c.inner));
    for (int a = 0; a < 3; ++a) v[a] = (x[a] - Scalar<T>(0.5)) * scale;
    return max_(max_(abs_(v[0]), abs_(v[1])), abs_(v[2]));
}

template <class T> NF_HD T signed_distance(const T* v, T h, const DistanceConfig& c) {
    return sqrt_(v[0] * v[0] + v[1] * v[1] + v[2] * v[2]) - Scalar<T>(c.radius) + Scalar<T>(c.residual) * h;
}

// log(Psi(-d) / beta); neither exponential overflows on the side where it is not needed.
template <class T> NF_HD T log_laplace(T d, Scalar<T> beta) {
    T z = d / -beta, zero = z * 0;
    T inside = log_(1 - Scalar<T>(0.5) * exp_(-max_(z, zero)));
    return select_(z > zero, inside, min_(z, zero) + Scalar<T>(-0.693147180559945309)) - log_(beta);
}

// Adds to d_beta; returns the gradient of d from that of the log-density.
template <class T> NF_HD T log_laplace_backward(T d, T beta, T d_log_density, T& d_beta) {
    T z = d / -beta, slope = 1;  // of log Psi, in z
    if (z > 0) {
        T half = T(0.5) * exp_(-z);
        slope = half / (1 - half);
    }
    d_beta -= d_log_density * (slope * z + 1) / beta;
    return d_log_density * slope / -beta;
}

}  // namespace nf
