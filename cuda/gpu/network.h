// Bias-free ReLU MLPs on tiles of rows: a block of kWarps warps, each with M tiles of 16 rows; activations stay in
// registers through all layers. The backward pass gets them from a forward pass over the same rows.
//
// Vocabulary
//   stack        the true widths of a network; its input may come in two parts, each padded to 16 columns on its own
//   chain        the inputs of all layers, and the output (padded widths)
//   weights      all layers' packed words one after the other; forward B = W^T, backward B = W
//   gradients    of a layer's W [out, in], in accumulator layout, its tiles of 16 x 8 dealt out to the block's warps;
//                they stay in registers from tile to tile and leave once, as this block's part of a sum
#pragma once
#include "fragments.h"

namespace nf {

constexpr int kWarps = 4, kThreads = 32 * kWarps;

// ---- a network's shape ----

template <int kPart, int... W> struct Stack;  // kPart: columns of the input's first part, W: widths from input to output

template <int kPart, int W0, int... W> struct Stack<kPart, W0, W...> {
    static constexpr int layers = sizeof...(W), part = kPart, input = W0;
    static constexpr int padded_input = padded16(kPart) + padded16(W0 - kPart);

    // Width l, true and padded. A recursion, because arrays of constants have no address on the device.
    template <int... V> struct At;
    template <int V0, int... V> struct At<V0, V...> {
        NF_DEVICE static int of(int l) {
            if constexpr (sizeof...(V) == 0) return V0;
            else return l == 0 ? V0 : At<V...>::of(l - 1);
        }
    };
    NF_DEVICE static int width(int l) { return At<W0, W...>::of(l); }
    NF_DEVICE static int padded(int l) { return l == 0 ? padded_input : padded16(width(l)); }

    // The true column of a padded column of layer l's input, or -1.
    NF_DEVICE static int true_column(int l, int column) {
        if (l > 0) return column < width(l) ? column : -1;
        int first = padded16(kPart);
        if (column < first) return column < kPart ? column : -1;
        column += kPart - first;
        return column < W0 ? column : -1;
    }
    NF_DEVICE static int padded_column(int l, int column) {
        return l > 0 || column < kPart ? column : column - kPart + padded16(kPart);
    }
};

// ---- weights ----

// One word of the packed weights from the flat row of all true weights.
template <class A, class S, bool kBackward> NF_DEVICE u32 packed_word(const float* flat, int index) {
    int layer = 0, in = S::padded(0), out = S::padded(1);
    while (index >= weight_words<A>(in, out)) {
        index -= weight_words<A>(in, out);
        flat += S::width(layer) * S::width(layer + 1);
        ++layer;
        in = out;
        out = S::padded(layer + 1);
    }
    int k, n;
    weight_word<A>(index, kBackward ? in : out, k, n);
    auto weight = [&](int row, int column) {
        column = S::true_column(layer, column);
        return row < S::width(layer + 1) && column >= 0 ? flat[row * S::width(layer) + column] : 0.0f;
    };
    float first = kBackward ? weight(k, n) : weight(n, k);
    if constexpr (A::packed) return A::pack(first, kBackward ? weight(k + 1, n) : weight(n, k + 1));
    else return word_of(first);
}

template <class A, class S> NF_DEVICE int packed_words() {
    int words = 0;
    for (int l = 0; l < S::layers; ++l) words += weight_words<A>(S::padded(l), S::padded(l + 1));
    return words;
}

template <class S> NF_DEVICE int true_weights() {
    int count = 0;
    for (int l = 0; l < S::layers; ++l) count += S::width(l) * S::width(l + 1);
    return count;
}

template <class S> NF_DEVICE int padded_weights() {
    int count = 0;
    for (int l = 0; l < S::layers; ++l) count += S::padded(l) * S::padded(l + 1);
    return count;
}

// ---- forward ----

template <class A, int M, int... W> struct Chain;
template <class A, int M, int Out> struct Chain<A, M, Out> {
    Rows<M, Out> output;
};
template <class A, int M, int In, int Out, int... Rest> struct Chain<A, M, In, Out, Rest...> {
    Operand<A, M, In> input;
    Chain<A, M, Out, Rest...> next;
};

template <class A, int M, class S> struct ChainOf;
template <class A, int M, int kPart, int W0, int... W> struct ChainOf<A, M, Stack<kPart, W0, W...>> {
    using Type = Chain<A, M, padded16(kPart) + padded16(W0 - kPart), padded16(W)...>;
};

template <int M, int N> NF_DEVICE void clear(Rows<M, N>& rows) {
    NF_UNROLL for (int m = 0; m < M; ++m)
        NF_UNROLL for (int j = 0; j < N / 8; ++j)
            NF_UNROLL for (int i = 0; i < 4; ++i) rows.v[m][j][i] = 0;
}

template <int M, int N> NF_DEVICE void relu(Rows<M, N>& rows) {
    NF_UNROLL for (int m = 0; m < M; ++m)
        NF_UNROLL for (int j = 0; j < N / 8; ++j)
            NF_UNROLL for (int i = 0; i < 4; ++i)
                rows.v[m][j][i] = rows.v[m][j][i] < 0 ? 0 : rows.v[m][j][i];  // NaN stays NaN
}

template <class A, int M, int In, int Out, int... Rest>
NF_DEVICE void network_forward(Chain<A, M, In, Out, Rest...>& chain, const u32* weights) {
    Rows<M, Out> out;
    clear(out);
    multiply(chain.input, weights, out);
    if constexpr (sizeof...(Rest) == 0) {
        chain.next.output = out;
    } else {
        relu(out);
        chain.next.input = operand<A>(out);
        network_forward(chain.next, weights + weight_words<A>(In, Out));
    }
}

template <class A, int M, int Out> NF_DEVICE Rows<M, Out>& output_of(Chain<A, M, Out>& chain) { return chain.output; }
template <class A, int M, int In, int Out, int... Rest>
NF_DEVICE auto& output_of(Chain<A, M, In, Out, Rest...>& chain) {
    return output_of(chain.next);
}

// ---- backward ----

NF_HD constexpr int tiles_of_warp(int out, int in) { return ((out / 16) * (in / 8) + kWarps - 1) / kWarps; }

template <int... W> struct Gradients;
template <int Out> struct Gradients<Out> {};
template <int In, int Out, int... Rest> struct Gradients<In, Out, Rest...> {
    float v[tiles_of_warp(Out, In)][4];
    Gradients<Out, Rest...> next;
};
template <class C> struct GradientsOf;
template <class A, int M, int... W> struct GradientsOf<Chain<A, M, W...>> {
    using Type = Gradients<W...>;
};

template <int In, int Out, int... Rest> NF_DEVICE void clear(Gradients<In, Out, Rest...>& g) {
    NF_UNROLL for (int j = 0; j < tiles_of_warp(Out, In); ++j)
        NF_UNROLL for (int i = 0; i < 4; ++i) g.v[j][i] = 0;
    if constexpr (sizeof...(Rest) > 0) clear(g.next);
}

// Rows of a block, turned around in shared memory: [column][row], so that rows become the inner dimension of a product.
// Rows are staged in parts where floats would not fit. The margin of 8 keeps fragments' loads free of bank conflicts.
template <class G, int M, int kColumns> struct Stage {
    static constexpr int rows = 16 * M * kWarps, part = !G::packed && rows > 64 ? 64 : rows, row = part + 8;
    static constexpr int warps = part / (16 * M);  // that stage in one part
    alignas(16) typename G::Element at[kColumns * row];
};

// g += d_out^T a over all rows of the block. Every thread of the block must come here.
template <class G, class A, int M, int In, int Out, int kColumns>
NF_DEVICE void add_outer_product(const Rows<M, Out>& d_out, const Operand<A, M, In>& a, Stage<G, M, kColumns>& stage,
                                 float (*g)[4]) {
    static_assert(In + Out <= kColumns, "the stage holds one layer's input and output");
    using S = Stage<G, M, kColumns>;
    constexpr int kTiles = (Out / 16) * (In / 8);
    int warp = warp_of_block(), lane = lane_of_warp(), group = lane / 4, within = 2 * (lane % 4);
    const typename G::Element *left = stage.at, *right = stage.at + Out * S::row;
    NF_UNROLL for (int part = 0; part < S::rows / S::part; ++part) {
        __syncthreads();
        if (warp / S::warps == part) {
            int base = warp % S::warps * 16 * M;
            NF_UNROLL for (int m = 0; m < M; ++m)
                NF_UNROLL for (int j = 0; j < Out / 8; ++j)
                    NF_UNROLL for (int i = 0; i < 4; ++i)
                        stage.at[(8 * j + within + i % 2) * S::row + base + row_of(m, i)] = element_of<G>(d_out.v[m][j][i]);
            for_pairs<M, In>([&](int m, int k, int pair) {
                float x, y;
                get_pair(a, m, k, pair, x, y);
                typename G::Element* to =
                    stage.at + (Out + column_of(k, 2 * pair)) * S::row + base + row_of(m, 2 * pair);
                to[0] = element_of<G>(x);
                to[S::row] = element_of<G>(y);
            });
        }
        __syncthreads();
        NF_UNROLL for (int mine = 0; mine < tiles_of_warp(Out, In); ++mine) {
            int tile = mine * kWarps + warp;
            if (kTiles % kWarps != 0 && tile >= kTiles) continue;  // the same for the whole warp
            int upper = tile / (In / 8) * 16 + group, column = tile % (In / 8) * 8;
            if constexpr (G::packed) {
                auto pair = [&](const typename G::Element* from, int line, int k) {
                    return *reinterpret_cast<const u32*>(from + line * S::row + k + within);
                };
                NF_UNROLL for (int k = 0; k < S::part; k += 16) {
                    u32 words[4] = {pair(left, upper, k), pair(left, upper + 8, k), pair(left, upper, k + 8),
                                    pair(left, upper + 8, k + 8)};
                    G::product(g[mine], words, pair(right, column + group, k), pair(right, column + group, k + 8));
                }
            } else {
                for (int k = 0; k < S::part; ++k)
                    NF_UNROLL for (int i = 0; i < 4; ++i)
                        g[mine][i] += left[(upper + 8 * (i / 2)) * S::row + k] * right[(column + within + i % 2) * S::row + k];
            }
        }
    }
}

// Lets through only where the layer's output, the next layer's input, was positive.
template <class A, int M, int N> NF_DEVICE void relu_mask(Rows<M, N>& d, const Operand<A, M, N>& output) {
    for_pairs<M, N>([&](int m, int k, int pair) {
        float x, y;
        get_pair(output, m, k, pair, x, y);
        float* v = d.v[m][2 * k + pair / 2] + 2 * (pair % 2);
        v[0] = x > 0 ? v[0] : 0;
        v[1] = y > 0 ? v[1] : 0;
    });
}

template <class G, class A, int M, int In, int Out, int... Rest, int kLast, int kColumns>
NF_DEVICE void network_backward(const Chain<A, M, In, Out, Rest...>& chain, const Rows<M, kLast>& d_output,
                                const u32* weights, Stage<G, M, kColumns>& stage, Gradients<In, Out, Rest...>& gradients,
                                Rows<M, In>& d_input) {
    Rows<M, Out> d_out;
    if constexpr (sizeof...(Rest) == 0) {
        d_out = d_output;
    } else {
        network_backward(chain.next, d_output, weights + weight_words<G>(Out, In), stage, gradients.next, d_out);
        relu_mask(d_out, chain.next.input);
    }
    add_outer_product(d_out, chain.input, stage, gradients.v);
    clear(d_input);
    multiply(operand<G>(d_out), weights, d_input);
}

// This block's part of the weights' gradients: per layer [padded out][padded in].
template <int In, int Out, int... Rest>
NF_DEVICE void store_gradients(const Gradients<In, Out, Rest...>& gradients, float* part) {
    int lane = lane_of_warp();
    NF_UNROLL for (int mine = 0; mine < tiles_of_warp(Out, In); ++mine) {
        int tile = mine * kWarps + warp_of_block();
        if (tile >= (Out / 16) * (In / 8)) continue;
        NF_UNROLL for (int i = 0; i < 4; ++i) {
            int row = tile / (In / 8) * 16 + lane / 4 + 8 * (i / 2), column = tile % (In / 8) * 8 + 2 * (lane % 4) + i % 2;
            part[row * In + column] = gradients.v[mine][i];
        }
    }
    if constexpr (sizeof...(Rest) > 0) store_gradients(gradients.next, part + In * Out);
}

// One true weight's gradient: the sum of all blocks' parts, in their order.
template <class S> NF_DEVICE float summed_gradient(const float* parts, i64 blocks, i64 stride, i64 weight) {
    int layer = 0;
    while (weight >= S::width(layer) * S::width(layer + 1)) {
        weight -= S::width(layer) * S::width(layer + 1);
        parts += S::padded(layer) * S::padded(layer + 1);
        ++layer;
    }
    int row = int(weight) / S::width(layer), column = S::padded_column(layer, int(weight) % S::width(layer));
    const float* at = parts + row * S::padded(layer) + column;
    float sum = 0;
    for (i64 b = 0; b < blocks; ++b) sum += at[b * stride];
    return sum;
}

}  // namespace nf
