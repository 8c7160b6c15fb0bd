// A modulated layer on one sample's row of features: zero mean and unit variance, scale, shift, ReLU (fields/cam.py).
// P says how a row is gone through: one number after the other, or by lanes (cpu/modulate.h).
//
//   y = (h - mean(h)) / sqrt(var(h) + epsilon), or h     z = beta + gamma y     out = max(z, 0), or z
#pragma once
#include "scalar.h"

namespace nf {

constexpr double kVarianceFloor = 1e-5;  // torch's layer_norm adds it too

struct ModulatedRow {
    int width, each;  // features; numbers of gamma and of beta: `width`, or 1 for all features
    bool normalise, relu;
};

// How one thread goes through a row.
template <class T> struct OneByOne {
    template <class Body> static NF_HD void over(int width, Body body) {
        for (int i = 0; i < width; ++i) body(T{}, i);
    }
    static NF_HD T read(T, const T* at) { return *at; }
    static NF_HD void write(T* at, T value) { *at = value; }
    struct Sum {
        T value = 0;
        NF_HD void add(T more) { value += more; }
        NF_HD T total() const { return value; }
    };
};

template <class T> struct RowScale {
    T mean, scale;  // y = (h - mean) * scale
};

template <class P, class T> NF_HD RowScale<T> row_scale(const ModulatedRow& row, const T* h) {
    if (!row.normalise) return {T(0), T(1)};
    typename P::Sum sum, squares;
    P::over(row.width, [&](auto lane, int i) { sum.add(P::read(lane, h + i)); });
    T mean = sum.total() / T(row.width);
    P::over(row.width, [&](auto lane, int i) {
        auto off = P::read(lane, h + i) - mean;
        squares.add(off * off);
    });
    return {mean, T(1) / sqrt_(squares.total() / T(row.width) + T(kVarianceFloor))};
}

// What scales or shifts features from i on: their own numbers, or the one of all.
template <class P, class T, class U> NF_HD U of_feature(const ModulatedRow& row, U lane, const T* values, int i) {
    return row.each == 1 ? lane + values[0] : P::read(lane, values + i);
}

template <class P, class T>
NF_HD void modulate_row(const ModulatedRow& row, const T* h, const T* gamma, const T* beta, T* out) {
    RowScale<T> by = row_scale<P>(row, h);
    P::over(row.width, [&](auto lane, int i) {
        auto g = of_feature<P>(row, lane, gamma, i), b = of_feature<P>(row, lane, beta, i);
        auto z = b + g * ((P::read(lane, h + i) - by.mean) * by.scale);
        P::write(out + i, row.relu ? (z < 0 ? lane : z) : z);
    });
}

// d_gamma and d_beta [each] and d_h [width] are written.
template <class P, class T>
NF_HD void modulate_row_backward(const ModulatedRow& row, const T* h, const T* gamma, const T* beta, const T* d_out,
                                 T* d_h, T* d_gamma, T* d_beta) {
    RowScale<T> by = row_scale<P>(row, h);
    bool shared = row.each == 1;
    // body(lane, i, gamma, y, gradient of z) for each feature
    auto over = [&](auto body) {
        P::over(row.width, [&](auto lane, int i) {
            auto g = of_feature<P>(row, lane, gamma, i), b = of_feature<P>(row, lane, beta, i);
            auto y = (P::read(lane, h + i) - by.mean) * by.scale, d = P::read(lane, d_out + i);
            body(lane, i, g, y, row.relu ? (b + g * y > 0 ? d : lane) : d);
        });
    };
    typename P::Sum d_shift, d_scale, d_y, d_y_y;
    over([&](auto, int i, auto g, auto y, auto d) {
        d_y.add(g * d);
        d_y_y.add(g * d * y);
        if (shared) {
            d_shift.add(d);
            d_scale.add(d * y);
        } else {
            P::write(d_beta + i, d);
            P::write(d_gamma + i, d * y);
        }
    });
    if (shared) {
        d_beta[0] = d_shift.total();
        d_gamma[0] = d_scale.total();
    }
    T mean = row.normalise ? d_y.total() / T(row.width) : T(0), slope = row.normalise ? d_y_y.total() / T(row.width) : T(0);
    over([&](auto, int i, auto g, auto y, auto d) { P::write(d_h + i, (g * d - mean - y * slope) * by.scale); });
}

}  // namespace nf
