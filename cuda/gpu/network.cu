// A network as an op of its own. Compiled for its widths:
//   NF_NETWORK   columns of the input's first part, then the widths from input to output
//   NF_FORWARD, NF_BACKWARD   arithmetic (see fragments.h);  NF_TILES   row tiles of a warp;  NF_COLUMNS   most of in + out
#include "network.h"

namespace nf {

using Shape = Stack<NF_NETWORK>;
using Activations = ChainOf<NF_FORWARD, NF_TILES, Shape>::Type;

constexpr int kRows = 16 * NF_TILES;  // of a warp

// Reads true columns, one by one: rows of any width.
template <class A, int M, int K> NF_DEVICE void read_rows(const float* x, i64 width, i64 count, Operand<A, M, K>& a) {
    auto at = [&](int row, int column) { return row < count && column < width ? x[row * width + column] : 0.0f; };
    for_pairs<M, K>([&](int m, int k, int pair) {
        int row = row_of(m, 2 * pair), column = column_of(k, 2 * pair);
        set_pair(a, m, k, pair, at(row, column), at(row, column + 1));
    });
}

template <int M, int N> NF_DEVICE void write_rows(const Rows<M, N>& rows, i64 width, i64 count, float* out) {
    for_pairs<M, N>([&](int m, int k, int pair) {
        int row = row_of(m, 2 * pair), column = column_of(k, 2 * pair);
        const float* v = rows.v[m][2 * k + pair / 2] + 2 * (pair % 2);
        if (row < count && column < width) out[row * width + column] = v[0];
        if (row < count && column + 1 < width) out[row * width + column + 1] = v[1];
    });
}

template <int M, int N> NF_DEVICE void read_values(const float* x, i64 width, i64 count, Rows<M, N>& rows) {
    auto at = [&](int row, int column) { return row < count && column < width ? x[row * width + column] : 0.0f; };
    for_pairs<M, N>([&](int m, int k, int pair) {
        int row = row_of(m, 2 * pair), column = column_of(k, 2 * pair);
        float* v = rows.v[m][2 * k + pair / 2] + 2 * (pair % 2);
        v[0] = at(row, column);
        v[1] = at(row, column + 1);
    });
}

}  // namespace nf

using namespace nf;

NF_KERNEL network_pack(const float* flat, u32* forward, u32* backward) {
    i64 i = global_thread();
    if (i < packed_words<NF_FORWARD, Shape>()) forward[i] = packed_word<NF_FORWARD, Shape, false>(flat, int(i));
    if (i < packed_words<NF_BACKWARD, Shape>()) backward[i] = packed_word<NF_BACKWARD, Shape, true>(flat, int(i));
}

NF_KERNEL __launch_bounds__(kThreads) network_forward_rows(const float* x, i64 samples, const u32* weights, float* out) {
    i64 step = i64(gridDim.x) * kWarps * kRows;
    int outputs = Shape::width(Shape::layers);
    for (i64 first = (i64(blockIdx.x) * kWarps + warp_of_block()) * kRows; first < samples; first += step) {
        Activations chain;
        read_rows(x + first * Shape::input, Shape::input, samples - first, chain.input);
        network_forward(chain, weights);
        write_rows(output_of(chain), outputs, samples - first, out + first * outputs);
    }
}

NF_KERNEL __launch_bounds__(kThreads) network_backward_rows(const float* x, const float* d_out, i64 samples,
                                                            const u32* forward, const u32* backward, float* d_x,
                                                            float* parts) {
    __shared__ Stage<NF_BACKWARD, NF_TILES, NF_COLUMNS> stage;
    GradientsOf<Activations>::Type gradients;
    clear(gradients);
    int outputs = Shape::width(Shape::layers);
    i64 tile = i64(kWarps) * kRows;
    for (i64 begin = blockIdx.x * tile; begin < samples; begin += gridDim.x * tile) {
        i64 first = begin + warp_of_block() * kRows, count = samples - first;
        Activations chain;
        read_rows(x + first * Shape::input, Shape::input, count, chain.input);
        network_forward(chain, forward);
        auto d_output = output_of(chain);
        read_values(d_out + first * outputs, outputs, count, d_output);
        Rows<NF_TILES, Shape::padded_input> d_input;
        network_backward(chain, d_output, backward, stage, gradients, d_input);
        if (d_x) write_rows(d_input, Shape::input, count, d_x + first * Shape::input);
    }
    store_gradients(gradients, parts + blockIdx.x * i64(padded_weights<Shape>()));
}

NF_KERNEL network_sum(const float* parts, i64 blocks, i64 weights, float* d_flat) {
    i64 i = global_thread();
    if (i < weights) d_flat[i] = summed_gradient<Shape>(parts, blocks, padded_weights<Shape>(), i);
}
