// Alpha compositing along a ray (Max 1995; NeRF, arXiv:2003.08934, Eq. 3), one sample at a time from front to back.
//
//   alpha_i = 1 - exp(-density_i * length_i)    w_i = T_i * alpha_i    T_{i+1} = T_i * (1 - alpha_i),  T_0 = 1
//   T: transmittance
//   C = sum w_i c_i    O = sum w_i    D = sum w_i t_i    V = sum w_i s_i with s = t / (1 + t)
//
// Backward, with q_i = dL/dw_i = dL/dC . c_i + dL/dO + dL/dD t_i + dL/dV s_i and Q = sum w_i q_i:
//   dL/dc_i       = w_i dL/dC
//   dL/ddensity_i = length_i * (T_{i+1} q_i - sum_{j > i} w_j q_j)
// The sum over later samples is Q minus the running sum, so one front-to-back pass serves both directions.
// The distortion loss (Mip-NeRF 360, arXiv:2111.12077 Eq. 15) penalises weight spread along a ray, and so floaters:
//   E = sum_{i,j} w_i w_j |s_i - s_j| + 1/3 sum_i w_i^2 delta_i,   delta the sample's length in s
//   dE/dw_i = 2 (s_i (W_before - W_after) + V_after - V_before) + 2/3 w_i delta_i,   W = sum w, V = sum w s
// E is of second degree in w, so sum_i w_i dE/dw_i = 2 E and the one front-to-back pass still serves.
//
// Early termination: past `kTransmittanceStop` a ray is opaque; later samples have no weight and no gradient.
#pragma once
#include "scalar.h"

namespace nf {

constexpr float kTransmittanceStop = 1e-4f;

template <class T> NF_HD T alpha_of(T density, T length) { return 1 - exp_(-density * length); }

// Normalised distance s in [0, 1), and a sample's length there.
template <class T> NF_HD T squeeze(T t) { return t / (1 + t); }
template <class T> NF_HD T squeezed_length(T t, T length) { return length / ((1 + t) * (1 + t)); }

template <class T> struct Compositor {
    T transmittance = 1, rgb[3] = {0, 0, 0}, opacity = 0, depth = 0, distortion = 0, squeezed = 0;

    NF_HD bool opaque() const { return transmittance < T(kTransmittanceStop); }

    // Takes one sample's weight from the remaining transmittance.
    NF_HD T take(T alpha) {
        T weight = transmittance * alpha;
        transmittance *= 1 - alpha;
        return weight;
    }

    NF_HD void add(T weight, const T* colour, T t, T length) {
        T s = squeeze(t);
        distortion += 2 * weight * (s * opacity - squeezed) + weight * weight * squeezed_length(t, length) / 3;
        for (int c = 0; c < 3; ++c) rgb[c] += weight * colour[c];
        opacity += weight;
        depth += weight * t;
        squeezed += weight * s;
    }
};

// A ray's accumulated values, and the gradient of the loss with respect to them; in memory in this order.
constexpr int kSums = 7;
template <class T> struct RaySums {
    T rgb[3], opacity, depth, distortion, squeezed;
};

template <class T> NF_HD RaySums<T> load_sums(const T* p) { return {{p[0], p[1], p[2]}, p[3], p[4], p[5], p[6]}; }
template <class T> NF_HD void store_sums(T* p, const Compositor<T>& c) {
    for (int a = 0; a < 3; ++a) p[a] = c.rgb[a];
    p[3] = c.opacity;
    p[4] = c.depth;
    p[5] = c.distortion;
    p[6] = c.squeezed;
}

template <class T> struct CompositorBackward {
    T transmittance = 1, remaining = 0;  // remaining: sum of w_j q_j over samples not yet passed
    T before = 0, squeezed_before = 0;
    RaySums<T> sums, d;

    NF_HD void start(const RaySums<T>& sums_, const RaySums<T>& d_) {
        sums = sums_;
        d = d_;
        remaining = sums.opacity * d.opacity + sums.depth * d.depth + 2 * sums.distortion * d.distortion +
                    sums.squeezed * d.squeezed;
        for (int c = 0; c < 3; ++c) remaining += sums.rgb[c] * d.rgb[c];
        transmittance = 1;
        before = squeezed_before = 0;
    }

    NF_HD bool opaque() const { return transmittance < T(kTransmittanceStop); }

    NF_HD void step(T density, T length, T t, const T* colour, T& d_density, T* d_colour) {
        T alpha = alpha_of(density, length), weight = transmittance * alpha, s = squeeze(t);
        T after = sums.opacity - before - weight, squeezed_after = sums.squeezed - squeezed_before - weight * s;
        T q = d.rgb[0] * colour[0] + d.rgb[1] * colour[1] + d.rgb[2] * colour[2] + d.opacity + d.depth * t +
              d.squeezed * s;
        q += d.distortion * (2 * (s * (before - after) + squeezed_after - squeezed_before) +
                             weight * squeezed_length(t, length) * T(2) / 3);
        transmittance *= 1 - alpha;
        before += weight;
        squeezed_before += weight * s;
        // Behind the sample that makes the ray opaque nothing counts: a rounding remainder must not be multiplied by a
        // surface's density.
        remaining = opaque() ? T(0) : remaining - weight * q;
        d_density = length * (transmittance * q - remaining);
        for (int c = 0; c < 3; ++c) d_colour[c] = weight * d.rgb[c];
    }
};

}  // namespace nf
