// Multilinear interpolation in a dense grid of 1 to 4 axes, corners aligned: x = 0 is the first node, x = 1 the last.
//
//   position p_a = clamp(x_a) * (nodes_a - 1), cell i_a = floor(p_a), at most nodes_a - 2, fraction f_a = p_a - i_a
//   out = sum over the 2^D corners b of  w_b * grid[i + b],   w_b = product over the axes of f_a or 1 - f_a
//   d_grid[i + b] += w_b * d_out,   d_x_a = sum over b of  (d w_b / d x_a) * <grid[i + b], d_out>
//
// Nodes lie row by row, the last axis fastest, each with its channels together. T: float, double or lanes; U: u32 or
// lanes of it.
#pragma once
#include "scalar.h"

namespace nf {

constexpr int kMaxAxes = 4;

struct GridShape {
    int axes, channels;
    u32 nodes[kMaxAxes];
    u32 stride[kMaxAxes];  // from a node to the next one along the axis; 0 where there is no next one
};

template <class T> NF_HD T grid_position(T x, u32 nodes) { return clamp_(x, T{} * 0, T{} + 1) * float(nodes - 1); }

// The last node belongs to the cell before it: a cell always has its far corner.
template <class U> NF_HD U grid_cell(U floor_of_position, u32 nodes) {
    return min_(floor_of_position, U{} + (nodes < 2 ? 0u : nodes - 2));
}

NF_HD u32 grid_corner_offset(const GridShape& shape, int corner) {
    u32 offset = 0;
    for (int a = 0; a < shape.axes; ++a) offset += (corner >> a) & 1 ? shape.stride[a] : 0;
    return offset;
}

template <int D, class T> NF_HD T grid_weight(const T* f, int corner) {
    T w = corner & 1 ? f[0] : 1 - f[0];
    for (int a = 1; a < D; ++a) w *= (corner >> a) & 1 ? f[a] : 1 - f[a];
    return w;
}

// d w_b / d x_axis; the caller zeroes it where x was clamped.
template <int D, class T> NF_HD T grid_weight_slope(const T* f, int corner, int axis, u32 nodes) {
    T w = T{} + ((corner >> axis) & 1 ? float(nodes - 1) : -float(nodes - 1));
    for (int a = 0; a < D; ++a)
        if (a != axis) w *= (corner >> a) & 1 ? f[a] : 1 - f[a];
    return w;
}

}  // namespace nf
