// Small bias-free MLPs on a tile of samples, forward and backward. Activations are rows of samples padded to whole
// lanes; lanes run over features, so no layer ever transposes anything: forward reads the transposed weights,
// d_input the weights as they are, d_weights both activations by rows. Below, the network as an op of its own.
#pragma once
#include "encode.h"
#include "gemm.h"
#include "kernels.h"
#include "scratch.h"

namespace nf {
namespace NF_ISA {

template <class T> constexpr int padded(int n) { return round_up(n, kWidth<T>); }

// Weights of one network, padded, in both orders.
template <class T> struct Packed {
    int layers = 0;
    int widths[kMaxLayers + 1];
    T* forward[kMaxLayers];   // [in][padded out]
    T* backward[kMaxLayers];  // [out][padded in]

    static i64 size(int layers, const int* widths) {
        i64 n = 0;
        for (int l = 0; l < layers; ++l)
            n += i64(padded<T>(widths[l])) * padded<T>(widths[l + 1]) * 2 + 64;
        return n;
    }

    void pack(int layers_, const int* widths_, const T* const* weights, Scratch& scratch) {
        layers = layers_;
        for (int l = 0; l <= layers; ++l) widths[l] = widths_[l];
        for (int l = 0; l < layers; ++l) {
            int in = widths[l], out = widths[l + 1], in_row = padded<T>(in), out_row = padded<T>(out);
            forward[l] = scratch.take<T>(i64(in) * out_row);
            backward[l] = scratch.take<T>(i64(out) * in_row);
            for (i64 i = 0; i < i64(in) * out_row; ++i) forward[l][i] = 0;
            for (i64 i = 0; i < i64(out) * in_row; ++i) backward[l][i] = 0;
            for (int o = 0; o < out; ++o)
                for (int i = 0; i < in; ++i)
                    forward[l][i * out_row + o] = backward[l][o * in_row + i] = weights[l][o * in + i];
        }
    }
};

// One tile's activations: rows[0] is the input, rows[l] what enters layer l, rows[layers] the output.
template <class T> struct Tile {
    T* rows[kMaxLayers + 1];

    static i64 size(int layers, const int* widths) {
        i64 n = 0;
        for (int l = 0; l <= layers; ++l) n += i64(kTile) * padded<T>(widths[l]) + 64;
        return n;
    }
    void take(int layers, const int* widths, Scratch& scratch) {
        for (int l = 0; l <= layers; ++l) rows[l] = scratch.take<T>(i64(kTile) * padded<T>(widths[l]));
    }
};

template <class T> inline void relu(T* rows, i64 count) {
    using V = Lanes<T>;
    for (i64 i = 0; i < count; i += kWidth<T>) {
        V x = load<V>(rows + i);
        store(rows + i, x < 0 ? V{} : x);  // NaN stays NaN, and is noticed in the loss
    }
}

template <class T> inline void relu_mask(T* d_rows, const T* rows, i64 count) {
    using V = Lanes<T>;
    for (i64 i = 0; i < count; i += kWidth<T>) {
        V x = load<V>(rows + i), d = load<V>(d_rows + i);
        store(d_rows + i, x > 0 ? d : V{});
    }
}

// `seeded`: rows[1] already holds what the first layer adds to. The last layer is skipped if `hidden_only`.
template <class T>
inline void network_forward(const Packed<T>& net, const Tile<T>& tile, int n, bool seeded, bool hidden_only = false) {
    for (int l = 0; l < net.layers - (hidden_only ? 1 : 0); ++l) {
        i64 in_row = padded<T>(net.widths[l]), out_row = padded<T>(net.widths[l + 1]);
        gemm<T>({tile.rows[l], in_row, 1}, net.forward[l], out_row, tile.rows[l + 1], out_row, n, net.widths[l + 1],
                net.widths[l], seeded && l == 0);
        if (l + 1 < net.layers) relu(tile.rows[l + 1], n * out_row);
    }
}

// d_tile.rows[layers] holds d_out on entry; d_weights[l] ([out][padded in]) is accumulated into. The first layer's
// d_input is left out if `d_input` is false.
template <class T>
inline void network_backward(const Packed<T>& net, const Tile<T>& tile, const Tile<T>& d_tile, T* const* d_weights,
                             int n, bool d_input) {
    for (int l = net.layers - 1; l >= 0; --l) {
        int in = net.widths[l], out = net.widths[l + 1];
        i64 in_row = padded<T>(in), out_row = padded<T>(out);
        const T* d_out = d_tile.rows[l + 1];
        gemm<T>({d_out, 1, out_row}, tile.rows[l], in_row, d_weights[l], in_row, out, in, n, true);
        if (l == 0 && !d_input) return;
        gemm<T>({d_out, out_row, 1}, net.backward[l], in_row, d_tile.rows[l], in_row, n, in, out, false);
        if (l > 0) relu_mask(d_tile.rows[l], tile.rows[l], n * in_row);
    }
}

// Copies rows of width `width` to rows of another padding; the rest of a padded row is zero.
template <class T> inline void copy_rows(const T* from, i64 from_row, T* to, i64 to_row, int n, int width) {
    for (int s = 0; s < n; ++s) {
        for (int i = 0; i < width; ++i) to[s * to_row + i] = from[s * from_row + i];
        for (i64 i = width; i < to_row; ++i) to[s * to_row + i] = 0;
    }
}

// The per-thread gradients of a network's weights, padded; summed over threads in their order.
template <class T> struct WeightGradients {
    T* data[kMaxLayers];

    static i64 size(int layers, const int* widths) {
        i64 n = 0;
        for (int l = 0; l < layers; ++l) n += i64(widths[l + 1]) * padded<T>(widths[l]) + 64;
        return n;
    }
    void take(int layers, const int* widths, Scratch& scratch) {
        for (int l = 0; l < layers; ++l) {
            i64 count = i64(widths[l + 1]) * padded<T>(widths[l]);
            data[l] = scratch.take<T>(count);
            for (i64 i = 0; i < count; ++i) data[l][i] = 0;
        }
    }
    void add_to(int layers, const int* widths, T* const* out) const {
        for (int l = 0; l < layers; ++l)
            for (int o = 0; o < widths[l + 1]; ++o)
                for (int i = 0; i < widths[l]; ++i)
                    out[l][i64(o) * widths[l] + i] += data[l][o * padded<T>(widths[l]) + i];
    }
};

// Rows as a tile reads them: where they are if they fill whole lanes, else a padded copy. Inputs are never written.
template <class T> inline T* rows_of(const T* rows, int width, int n, T* copy) {
    if (padded<T>(width) == width) return const_cast<T*>(rows);
    copy_rows(rows, i64(width), copy, i64(padded<T>(width)), n, width);
    return copy;
}

template <class T> inline void unpad_rows(const T* padded_rows, T* out, int n, int width) {
    for (int s = 0; s < n; ++s)
        for (int i = 0; i < width; ++i) out[s * width + i] = padded_rows[s * padded<T>(width) + i];
}

// One thread's packed network and the activations of a tile, in scratch memory that has `more` bytes besides.
template <class T> struct Workspace {
    Scratch& scratch;
    Packed<T> net;
    Tile<T> tile;

    Workspace(const NetworkArgs<T>& g, i64 more) : scratch(thread_scratch()) {
        scratch.reset(sizeof(T) * (Packed<T>::size(g.layers, g.widths) + Tile<T>::size(g.layers, g.widths)) + more);
        net.pack(g.layers, g.widths, g.weights, scratch);
        tile.take(g.layers, g.widths, scratch);
    }
};

template <class T> void op_network_forward(const NetworkArgs<T>& g) {
    int in = g.widths[0], out = g.widths[g.layers];
#pragma omp parallel num_threads(threads_for(g.samples, g.threads))
    {
        Workspace<T> w(g, 4096);
        share_tiles(g.samples, [&](i64 begin, int n) {
            Tile<T> direct = w.tile;
            direct.rows[0] = rows_of(g.x + begin * in, in, n, w.tile.rows[0]);
            if (padded<T>(out) == out) direct.rows[g.layers] = g.out + begin * out;
            network_forward(w.net, direct, n, false);
            if (padded<T>(out) != out) unpad_rows(w.tile.rows[g.layers], g.out + begin * out, n, out);
        });
    }
}

template <class T> void op_network_backward(const NetworkArgs<T>& g) {
    int in = g.widths[0], out = g.widths[g.layers];
    i64 gradients = Tile<T>::size(g.layers, g.widths) + WeightGradients<T>::size(g.layers, g.widths);
    for (int l = 0; l < g.layers; ++l)
        for (i64 i = 0; i < i64(g.widths[l]) * g.widths[l + 1]; ++i) g.d_weights[l][i] = 0;
#pragma omp parallel num_threads(threads_for(g.samples, g.threads))
    {
        Workspace<T> w(g, sizeof(T) * gradients + 8192);
        Tile<T> d_tile;
        d_tile.take(g.layers, g.widths, w.scratch);
        WeightGradients<T> d_weights;
        d_weights.take(g.layers, g.widths, w.scratch);
        share_tiles(g.samples, [&](i64 begin, int n) {
            Tile<T> direct = w.tile, d_direct = d_tile;
            direct.rows[0] = rows_of(g.x + begin * in, in, n, w.tile.rows[0]);
            network_forward(w.net, direct, n, false, true);
            d_direct.rows[g.layers] = rows_of(g.d_out + begin * out, out, n, d_tile.rows[g.layers]);
            if (g.d_x && padded<T>(in) == in) d_direct.rows[0] = g.d_x + begin * in;
            network_backward(w.net, direct, d_direct, d_weights.data, n, g.d_x != nullptr);
            if (g.d_x && padded<T>(in) != in) unpad_rows(d_tile.rows[0], g.d_x + begin * in, n, in);
        });
#pragma omp for ordered schedule(static, 1)
        for (int t = 0; t < omp_get_num_threads(); ++t)
#pragma omp ordered
            d_weights.add_to(g.layers, g.widths, g.d_weights);
    }
}

}  // namespace NF_ISA
}  // namespace nf
