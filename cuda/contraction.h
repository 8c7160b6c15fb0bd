// Scene contraction: from the frame of the inner cube ([0, 1]^3 inside, anything outside) to a field's unit cube.
//
// box:  x -> (x - 0.5) / extent + 0.5, extent the side of the outermost cascade in inner cubes
// cube: u = 2 (x - 0.5), m = max |u|;  u stays where m <= 1, else u -> (2 - 1/m) u / m;  then u / 4 + 0.5
//       (the contraction of Mip-NeRF 360, arXiv:2111.12077 Eq. 10, with the max norm, so that no corner of the cube
//       is wasted)
#pragma once
#include "scalar.h"

namespace nf {

enum ContractionKind : i32 { kBox = 0, kCube = 1 };

template <class T> NF_HD void contract(T* x, i32 kind, T extent) {
    if (kind == kBox) {
        for (int a = 0; a < 3; ++a) x[a] = (x[a] - T(0.5)) / extent + T(0.5);
        return;
    }
    T u[3], m = 1;
    for (int a = 0; a < 3; ++a) {
        u[a] = 2 * (x[a] - T(0.5));
        m = max_(m, abs_(u[a]));
    }
    T scale = (2 - 1 / m) / m;
    for (int a = 0; a < 3; ++a) x[a] = u[a] * scale * T(0.25) + T(0.5);
}

// d_x from d_y, at the point x before contraction.
template <class T> NF_HD void contract_backward(const T* x, const T* d_y, T* d_x, i32 kind, T extent) {
    if (kind == kBox) {
        for (int a = 0; a < 3; ++a) d_x[a] = d_y[a] / extent;
        return;
    }
    T u[3], m = 1;
    int axis = -1;
    for (int a = 0; a < 3; ++a) {
        u[a] = 2 * (x[a] - T(0.5));
        if (abs_(u[a]) > m) { m = abs_(u[a]); axis = a; }
    }
    T scale = (2 - 1 / m) / m, dot = 0;
    for (int a = 0; a < 3; ++a) {
        d_x[a] = d_y[a] * scale * T(0.5);
        dot += d_y[a] * u[a];
    }
    if (axis < 0) return;
    T d_scale = -2 / (m * m) + 2 / (m * m * m);  // d scale / d m; m = |u_axis|
    d_x[axis] += dot * d_scale * (u[axis] > 0 ? T(0.5) : T(-0.5));
}

}  // namespace nf
