// The dense grid. Compiled for NF_SCALAR and NF_AXES; the nodes along each axis (1 past the last) come as arguments.
// A thread does one channel of one sample: a warp then reads and adds neighbours in memory.
#include "machine.h"
#include "../grid.h"

using namespace nf;
using T = NF_SCALAR;
constexpr int D = NF_AXES;

NF_DEVICE GridShape shape_of(i64 n0, i64 n1, i64 n2, i64 n3, i64 channels) {
    GridShape shape = {D, int(channels), {u32(n0), u32(n1), u32(n2), u32(n3)}, {}};
    u32 stride = 1;
    for (int a = D - 1; a >= 0; --a) {
        shape.stride[a] = shape.nodes[a] > 1 ? stride : 0;
        stride *= shape.nodes[a];
    }
    return shape;
}

// The node of corner 0, and the fractions.
NF_DEVICE u32 find_cell(const GridShape& shape, const T* x, T* f) {
    u32 node = 0, stride = 1;
    NF_UNROLL for (int a = D - 1; a >= 0; --a) {
        T p = grid_position(x[a], shape.nodes[a]);
        u32 cell = grid_cell(u32(p), shape.nodes[a]);
        f[a] = p - T(cell);
        node += cell * stride;
        stride *= shape.nodes[a];
    }
    return node;
}

NF_KERNEL grid_forward(const T* x, i64 samples, const T* grid, i64 n0, i64 n1, i64 n2, i64 n3, i64 channels, T* out) {
    i64 i = global_thread(), s = i / channels, c = i % channels;
    if (s >= samples) return;
    GridShape shape = shape_of(n0, n1, n2, n3, channels);
    T f[D], sum = 0;
    u32 node = find_cell(shape, x + s * D, f);
    NF_UNROLL for (int corner = 0; corner < 1 << D; ++corner)
        sum += grid_weight<D>(f, corner) * grid[i64(node + grid_corner_offset(shape, corner)) * channels + c];
    out[i] = sum;
}

NF_KERNEL grid_scatter(const T* x, i64 samples, const T* d_out, i64 n0, i64 n1, i64 n2, i64 n3, i64 channels, T* d_grid) {
    i64 i = global_thread(), s = i / channels, c = i % channels;
    if (s >= samples) return;
    GridShape shape = shape_of(n0, n1, n2, n3, channels);
    T f[D], d = d_out[i];
    u32 node = find_cell(shape, x + s * D, f);
    if (d == 0) return;
    NF_UNROLL for (int corner = 0; corner < 1 << D; ++corner)
        atomicAdd(d_grid + i64(node + grid_corner_offset(shape, corner)) * channels + c, grid_weight<D>(f, corner) * d);
}

// A warp does one sample: its lanes share the channels.
NF_KERNEL grid_position_gradient(const T* x, i64 samples, const T* grid, const T* d_out, i64 n0, i64 n1, i64 n2, i64 n3,
                                 i64 channels, T* d_x) {
    i64 s = global_thread() / 32;
    if (s >= samples) return;
    GridShape shape = shape_of(n0, n1, n2, n3, channels);
    T f[D], d[D] = {};
    u32 node = find_cell(shape, x + s * D, f);
    for (i64 c = lane_of_warp(); c < channels; c += 32)
        NF_UNROLL for (int corner = 0; corner < 1 << D; ++corner) {
            T product = grid[i64(node + grid_corner_offset(shape, corner)) * channels + c] * d_out[s * channels + c];
            NF_UNROLL for (int a = 0; a < D; ++a) d[a] += product * grid_weight_slope<D>(f, corner, a, shape.nodes[a]);
        }
    NF_UNROLL for (int a = 0; a < D; ++a) {
        for (int other = 16; other; other /= 2) d[a] += __shfl_xor_sync(kWholeWarp, d[a], other);
        if (lane_of_warp() == 0) d_x[s * D + a] = x[s * D + a] < 0 || x[s * D + a] > 1 ? T(0) : d[a];
    }
}
