// Compositing along a ray (Max 1995; NeRF, arXiv:2003.08934, Eq. 3), one sample at a time from front to back.
//
//   alpha_i = 1 - exp(-density_i * length_i)    w_i = T_i * alpha_i    T_{i+1} = T_i * (1 - alpha_i),  T_0 = 1
//   C = sum w_i c_i      O = sum w_i      D = sum w_i t_i
//
// Backward, with q_i = dL/dC . c_i + dL/dO + dL/dD t_i and Q = sum w_i q_i:
//   dL/dc_i       = w_i dL/dC
//   dL/ddensity_i = length_i * (T_{i+1} q_i - sum_{j > i} w_j q_j)
// The sum over later samples is Q minus the running sum, so one front-to-back pass serves both directions.
// Past `kTransmittanceStop` a ray is opaque: later samples neither count nor learn.
#pragma once
#include "scalar.h"

namespace nf {

constexpr float kTransmittanceStop = 1e-4f;

template <class T> NF_HD T alpha_of(T density, T length) { return 1 - exp_(-density * length); }

template <class T> struct Compositor {
    T transmittance = 1, rgb[3] = {0, 0, 0}, opacity = 0, depth = 0;

    NF_HD bool opaque() const { return transmittance < T(kTransmittanceStop); }

    // Takes one sample's weight out of the light that is left.
    NF_HD T take(T alpha) {
        T weight = transmittance * alpha;
        transmittance *= 1 - alpha;
        return weight;
    }

    NF_HD void add(T weight, const T* colour, T t) {
        for (int c = 0; c < 3; ++c) rgb[c] += weight * colour[c];
        opacity += weight;
        depth += weight * t;
    }
};

template <class T> struct CompositorBackward {
    T transmittance = 1, remaining = 0;  // remaining: sum of w_j q_j over samples not yet passed
    T d_rgb[3] = {0, 0, 0}, d_opacity = 0, d_depth = 0;

    NF_HD void start(const T* rgb, T opacity, T depth, const T* d_rgb_, T d_opacity_, T d_depth_) {
        remaining = opacity * d_opacity_ + depth * d_depth_;
        for (int c = 0; c < 3; ++c) {
            d_rgb[c] = d_rgb_[c];
            remaining += rgb[c] * d_rgb_[c];
        }
        d_opacity = d_opacity_;
        d_depth = d_depth_;
        transmittance = 1;
    }

    NF_HD bool opaque() const { return transmittance < T(kTransmittanceStop); }

    NF_HD void step(T density, T length, T t, const T* colour, T& d_density, T* d_colour) {
        T alpha = alpha_of(density, length), weight = transmittance * alpha;
        T q = d_rgb[0] * colour[0] + d_rgb[1] * colour[1] + d_rgb[2] * colour[2] + d_opacity + d_depth * t;
        transmittance *= 1 - alpha;
        remaining -= weight * q;
        d_density = length * (transmittance * q - remaining);
        for (int c = 0; c < 3; ++c) d_colour[c] = weight * d_rgb[c];
    }
};

}  // namespace nf
