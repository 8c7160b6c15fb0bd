// Activations of the field's heads, forward and backward side by side. T: float, double or lanes.
//
// density(x) = exp(x)     x is the log-density, the pre-activation that distillation compares; unit 1/length
// colour(x)  = 1 / (1 + exp(-x))
#pragma once
#include "scalar.h"

namespace nf {

// exp overflows float at 88; a density of exp(15) is opaque within 1e-6 of a scene already.
constexpr float kLogDensityLimit = 15.0f;

// Written so that NaN stays NaN.
template <class T> NF_HD T density_forward(T x) {
    return exp_(x > T{} + kLogDensityLimit ? T{} + kLogDensityLimit : x);
}

// The gradient is truncated, not zeroed: a log-density past the limit can still recover.
template <class T> NF_HD T density_backward(T x, T d_density) {
    return d_density * exp_(clamp_(x, T{} - kLogDensityLimit, T{} + kLogDensityLimit));
}

template <class T> NF_HD T sigmoid_forward(T x) { return 1 / (1 + exp_(-x)); }
template <class T> NF_HD T sigmoid_backward(T y, T d_y) { return d_y * y * (1 - y); }

}  // namespace nf
