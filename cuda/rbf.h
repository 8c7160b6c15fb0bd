// Radial basis functions in feature space (arXiv:2503.06762): unit k with centre c_k and log-precisions b_k sees
//
//   r2_k = sum over features d of  e^{b_kd} (f_d - c_kd)^2,      phi_k = kernel(r2_k)
//
// and with h_k = 2 kernel'(r2_k) d_phi_k
//   d_f_d = sum over k of  h_k e^{b_kd} (f_d - c_kd),    d_c_kd = - e^{b_kd} sum over samples of  h_k (f_d - c_kd),
//   d_b_kd = e^{b_kd} / 2  sum over samples of  h_k (f_d - c_kd)^2.
// Distances are taken of differences: as three matrix products they would cost as many multiply-adds here, and cancel.
// T: float, double or lanes.
#pragma once
#include "scalar.h"

namespace nf {

enum class RbfKernel { gaussian, multiquadric, inverse_multiquadric, cubic, thin_plate, wendland };
constexpr int kRbfKernels = 6;

// The logarithm of the thin plate ends here: at a centre its slope would be infinite.
constexpr float kThinPlateFloor = 1e-12f;

template <RbfKernel K, class T> NF_HD T rbf_value(T r2) {
    if constexpr (K == RbfKernel::gaussian) return exp_(r2 * -0.5f);
    if constexpr (K == RbfKernel::multiquadric) return sqrt_(1 + r2);
    if constexpr (K == RbfKernel::inverse_multiquadric) return 1 / sqrt_(1 + r2);
    if constexpr (K == RbfKernel::cubic) return r2 * sqrt_(r2);
    if constexpr (K == RbfKernel::thin_plate) return r2 * 0.5f * log_(max_(r2, T{} + kThinPlateFloor));
    if constexpr (K == RbfKernel::wendland) {
        T r = sqrt_(r2), gap = max_(1 - r, T{} * 0);
        return gap * gap * (gap * gap) * (4 * r + 1);
    }
}

// d value / d r2.
template <RbfKernel K, class T> NF_HD T rbf_slope(T r2) {
    if constexpr (K == RbfKernel::gaussian) return exp_(r2 * -0.5f) * -0.5f;
    if constexpr (K == RbfKernel::multiquadric) return 0.5f / sqrt_(1 + r2);
    if constexpr (K == RbfKernel::inverse_multiquadric) return -0.5f / ((1 + r2) * sqrt_(1 + r2));
    if constexpr (K == RbfKernel::cubic) return sqrt_(r2) * 1.5f;
    if constexpr (K == RbfKernel::thin_plate)
        return r2 > kThinPlateFloor ? log_(max_(r2, T{} + kThinPlateFloor)) * 0.5f + 0.5f
                                    : log_(T{} + kThinPlateFloor) * 0.5f;
    if constexpr (K == RbfKernel::wendland) {
        T gap = max_(1 - sqrt_(r2), T{} * 0);
        return gap * gap * gap * -10.0f;
    }
}

// e^{b/2} (f - c), from the scale e^{b/2} and the scaled centre e^{b/2} c.
template <class T> NF_HD T rbf_offset(T f, T scale, T scaled_centre) { return f * scale - scaled_centre; }

// One sample's share of the sums behind d_c and d_b: of h (f - c) and of h (f - c)^2.
template <class T> NF_HD void rbf_sums(T f, T c, T h, T& first, T& second) {
    T difference = f - c, share = h * difference;
    first += share;
    second += share * difference;
}
template <class T> NF_HD T rbf_d_centre(T precision, T first) { return -precision * first; }
template <class T> NF_HD T rbf_d_log_precision(T precision, T second) { return precision * second / 2; }

}  // namespace nf
