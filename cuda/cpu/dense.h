// A chain of dense layers on a block of samples, forward and backward, by the products of a policy P (products.h).
//
//   z = W [h, extra] + b      y = normalised z, or z      h <- relu(beta + gamma y), or z in a linear layer
//
// Rows are features, lanes are samples. Backward follows forward block by block, so that what it needs of a layer is
// still in L1; gradients of weights are summed a tile at a time, and gradients of a chunk of tiles added in a fixed
// order: the same bits with any number of threads.
#pragma once
#include "../modulate.h"
#include "kernels.h"
#include "products.h"
#include "scratch.h"

namespace nf {
namespace NF_ISA {

constexpr int kTileSamples = kBlock * kBlocks;
constexpr int kChunk = 8 * kTileSamples;  // samples whose gradients of weights are summed apart

// Takes memory as Scratch does, and only counts it.
struct Counted {
    size_t bytes = 0;
    template <class T> T* take(i64 count) {
        bytes += (size_t(count) * sizeof(T) + 63) / 64 * 64;
        return nullptr;
    }
};

template <class P> struct DenseLayer {
    using T = typename P::Number;
    int inputs, outputs, extra;  // `extra` of the inputs are not the layer's before
    DenseArgs<T> given;
    bool relu, normalise;
    int modulated;  // its row of gamma and beta, or -1
    typename P::Line *to_outputs, *to_inputs;  // packed weights
    typename P::Weights forward, backward;
    typename P::Cell* columns;  // of the inputs
    typename P::Line* lines;    // of d_z
    T *kept, *scale;            // y, or z; one over the deviation
    T *d_weight, *d_bias;       // sums of a chunk; of lanes
};

// What a block of samples is modulated by, [layers][kBlock] each; null where it is not.
template <class T> struct Modulated {
    const T *gamma, *beta;
    T *d_gamma, *d_beta;
};

template <class P> class Chain {
  public:
    using T = typename P::Number;
    using V = Lanes<T>;
    static constexpr int W = kWidth<T>;

    T *rows, *d;  // features, and their gradients, of the block

    void add(const DenseArgs<T>& given, int extra, bool relu, bool normalise = false, int modulated = -1) {
        DenseLayer<P>& layer = layers_[count_++];
        layer.inputs = given.inputs;
        layer.outputs = given.outputs;
        layer.extra = extra;
        layer.given = given;
        layer.relu = relu;
        layer.normalise = normalise;
        layer.modulated = modulated;
    }

    template <class Memory> void take(Memory& memory, bool backward) {
        int most = 0;
        for (auto& l : *this) {
            most = max_(most, max_(l.inputs, l.outputs));
            l.to_outputs = memory.template take<typename P::Line>(P::weight_cells(l.outputs, l.inputs));
            if (!backward) continue;
            l.to_inputs = memory.template take<typename P::Line>(P::weight_cells(l.inputs, l.outputs));
            l.columns = memory.template take<typename P::Cell>(kBlocks * P::column_cells(l.inputs));
            l.lines = memory.template take<typename P::Line>(P::line_cells(l.outputs));
            l.kept = memory.template take<T>(i64(l.outputs) * kBlock);
            l.scale = memory.template take<T>(kBlock);
            l.d_weight = memory.template take<T>(sum_row(l.outputs) * sum_row(l.inputs));
            l.d_bias = memory.template take<T>(i64(l.outputs) * W);
        }
        i64 block = i64(round_up(most, 32)) * kBlock;
        rows = memory.template take<T>(block);
        d = memory.template take<T>(block);
        panel_ = memory.template take<typename P::Cell>(P::panel_cells(most));
    }

    void pack(bool backward) {
        for (auto& l : *this) {
            l.forward = P::pack({l.given.weight, l.inputs, 1}, l.outputs, l.inputs, l.to_outputs);
            if (backward) l.backward = P::pack({l.given.weight, 1, l.inputs}, l.inputs, l.outputs, l.to_inputs);
        }
    }

    void clear_sums() {
        for (auto& l : *this) {
            __builtin_memset(l.d_weight, 0, sum_row(l.outputs) * sum_row(l.inputs) * sizeof(T));
            __builtin_memset(l.d_bias, 0, i64(l.outputs) * W * sizeof(T));
        }
    }

    // From the first layer's inputs in `rows` to the last one's outputs there; `extra` are rows too. `block` of the
    // tile: what backward needs is kept; -1: nothing is.
    void forward(const T* extra, const Modulated<T>& by, int block) {
        for (auto& l : *this) {
            if (l.extra && extra) __builtin_memcpy(rows + (l.inputs - l.extra) * kBlock, extra, l.extra * kBlock * sizeof(T));
            if (block >= 0) P::columns(rows, l.inputs, l.columns + block * P::column_cells(l.inputs));
            P::multiply(l.forward, l.outputs, l.inputs, P::panel(rows, l.inputs, panel_), d);
            activate(l, by, block >= 0);
        }
    }

    // From the gradients of the last outputs in `d` to those of the first inputs there, if they are wanted. `d_extra`
    // is added to, or null.
    void backward(T* d_extra, const Modulated<T>& by, int block, bool wants_inputs) {
        for (int i = count_; i-- > 0;) {
            auto& l = layers_[i];
            deactivate(l, by);
            P::lines(d, l.outputs, block, l.lines);
            for (int o = 0; o < l.outputs; ++o) {
                V sum = load<V>(l.d_bias + o * W);
                for (int s = 0; s < kBlock; s += W) sum += load<V>(d + o * kBlock + s);
                store(l.d_bias + o * W, sum);
            }
            if (i == 0 && !wants_inputs) return;
            int wanted = l.extra && !d_extra ? l.inputs - l.extra : l.inputs;
            P::multiply(l.backward, wanted, l.outputs, P::panel(d, l.outputs, panel_), rows);
            T* swapped = d;
            d = rows;
            rows = swapped;
            if (l.extra && d_extra)
                for (int j = 0; j < l.extra * kBlock; j += W)
                    store(d_extra + j, load<V>(d_extra + j) + load<V>(d + (l.inputs - l.extra) * kBlock + j));
        }
    }

    void sum_products(int blocks) {
        for (auto& l : *this) P::outer(l.lines, l.columns, l.outputs, l.inputs, blocks * kBlock, l.d_weight);
    }

    void add_sums() const {
        for (auto& l : *this)
            for (int o = 0; o < l.outputs; ++o) {
                for (int i = 0; i < l.inputs; ++i) l.given.d_weight[i64(o) * l.inputs + i] += l.d_weight[o * sum_row(l.inputs) + i];
                if (l.given.d_bias) l.given.d_bias[o] += sum_of(load<V>(l.d_bias + o * W));
            }
    }

    void clear_gradients() const {
        for (auto& l : *this) {
            for (i64 i = 0; i < i64(l.inputs) * l.outputs; ++i) l.given.d_weight[i] = 0;
            for (int o = 0; l.given.d_bias && o < l.outputs; ++o) l.given.d_bias[o] = 0;
        }
    }

    DenseLayer<P>* begin() { return layers_; }
    DenseLayer<P>* end() { return layers_ + count_; }
    const DenseLayer<P>* begin() const { return layers_; }
    const DenseLayer<P>* end() const { return layers_ + count_; }

  private:
    DenseLayer<P> layers_[kMostDense]{};
    int count_ = 0;
    typename P::Cell* panel_;

    // z in `d` -> h in `rows`.
    void activate(DenseLayer<P>& l, const Modulated<T>& by, bool keep) {
        for (int s = 0; s < kBlock; s += W) {
            V mean{}, scale = V{} + 1;
            if (l.given.bias)
                for (int o = 0; o < l.outputs; ++o) {
                    T* at = d + o * kBlock + s;
                    store(at, load<V>(at) + l.given.bias[o]);
                }
            if (l.normalise) {
                V sum{}, squares{};
                for (int o = 0; o < l.outputs; ++o) sum += load<V>(d + o * kBlock + s);
                mean = sum / T(l.outputs);
                for (int o = 0; o < l.outputs; ++o) {
                    V off = load<V>(d + o * kBlock + s) - mean;
                    squares += off * off;
                }
                scale = 1 / sqrt_(squares / T(l.outputs) + T(kVarianceFloor));
                if (keep) store(l.scale + s, scale);
            }
            bool shaped = l.modulated >= 0 && by.gamma;
            V gamma = shaped ? load<V>(by.gamma + l.modulated * kBlock + s) : V{} + 1;
            V beta = shaped ? load<V>(by.beta + l.modulated * kBlock + s) : V{};
            for (int o = 0; o < l.outputs; ++o) {
                i64 at = i64(o) * kBlock + s;
                V y = (load<V>(d + at) - mean) * scale;
                if (keep) store(l.kept + at, y);
                V h = beta + gamma * y;
                store(rows + at, l.relu ? (h < 0 ? V{} : h) : h);  // NaN stays NaN, and is noticed in the loss
            }
        }
    }

    // d_h -> d_z, in `d`.
    void deactivate(DenseLayer<P>& l, const Modulated<T>& by) {
        if (!l.relu && !l.normalise && l.modulated < 0) return;
        for (int s = 0; s < kBlock; s += W) {
            bool shaped = l.modulated >= 0 && by.gamma;
            V gamma = shaped ? load<V>(by.gamma + l.modulated * kBlock + s) : V{} + 1;
            V beta = shaped ? load<V>(by.beta + l.modulated * kBlock + s) : V{};
            V shift{}, slope{};
            for (int o = 0; o < l.outputs; ++o) {
                i64 at = i64(o) * kBlock + s;
                V y = load<V>(l.kept + at), d_h = load<V>(d + at);
                if (l.relu) d_h = beta + gamma * y > 0 ? d_h : V{};
                shift += d_h;
                slope += d_h * y;
                store(d + at, d_h);
            }
            if (shaped) {
                store(by.d_beta + l.modulated * kBlock + s, shift);
                store(by.d_gamma + l.modulated * kBlock + s, slope);
            }
            if (!l.normalise && !shaped) continue;
            V scale = l.normalise ? load<V>(l.scale + s) : V{} + 1;
            V by_gamma = gamma * scale, mean{}, by_y{};
            if (l.normalise) {
                mean = by_gamma * shift / T(l.outputs);
                by_y = by_gamma * slope / T(l.outputs);
            }
            for (int o = 0; o < l.outputs; ++o) {
                i64 at = i64(o) * kBlock + s;
                store(d + at, by_gamma * load<V>(d + at) - mean - load<V>(l.kept + at) * by_y);
            }
        }
    }
};

// Rows of a block from samples [n, width], 0 behind the last one, and back.
template <class T> inline void rows_from(const T* samples, int n, int width, T* rows) {
    using V = Lanes<T>;
    constexpr int W = kWidth<T>;
    if (n == kBlock && width % W == 0) {
        for (int i = 0; i < width; i += W)
            for (int s = 0; s < kBlock; s += W) {
                V square[W];
                for (int j = 0; j < W; ++j) square[j] = load<V>(samples + i64(s + j) * width + i);
                transpose(square);
                for (int j = 0; j < W; ++j) store(rows + (i + j) * kBlock + s, square[j]);
            }
        return;
    }
    for (int i = 0; i < width; ++i)
        for (int s = 0; s < kBlock; ++s) rows[i * kBlock + s] = s < n ? samples[i64(s) * width + i] : 0;
}
template <class T> inline void rows_to(const T* rows, int n, int width, T* samples) {
    using V = Lanes<T>;
    constexpr int W = kWidth<T>;
    if (n == kBlock && width % W == 0) {
        for (int i = 0; i < width; i += W)
            for (int s = 0; s < kBlock; s += W) {
                V square[W];
                for (int j = 0; j < W; ++j) square[j] = load<V>(rows + (i + j) * kBlock + s);
                transpose(square);
                for (int j = 0; j < W; ++j) store(samples + i64(s + j) * width + i, square[j]);
            }
        return;
    }
    for (int s = 0; s < n; ++s)
        for (int i = 0; i < width; ++i) samples[i64(s) * width + i] = rows[i * kBlock + s];
}

// body(begin, n) for each block of the samples, shared among the threads of the region that calls this.
template <class Body> inline void share_blocks(i64 samples, Body body) {
    i64 blocks = (samples + kBlock - 1) / kBlock;
#pragma omp for schedule(static)
    for (i64 b = 0; b < blocks; ++b) body(b * kBlock, int(min_<i64>(kBlock, samples - b * kBlock)));
}

// Gradients in chunks: begin() before one, body(begin, n, block) for its blocks, tile(blocks) behind each tile, and
// add() behind the chunk, in the order of the chunks.
template <class Begin, class Body, class Tile, class Add>
inline void share_chunks(i64 samples, Begin begin, Body body, Tile tile, Add add) {
    i64 chunks = (samples + kChunk - 1) / kChunk;
#pragma omp for ordered schedule(static, 1)
    for (i64 c = 0; c < chunks; ++c) {
        begin();
        i64 end = min_<i64>(samples, (c + 1) * kChunk);
        for (i64 t = c * kChunk; t < end; t += kTileSamples) {
            int blocks = 0;
            for (i64 s = t; s < min_<i64>(end, t + kTileSamples); s += kBlock)
                body(s, int(min_<i64>(kBlock, end - s)), blocks++);
            tile(blocks);
        }
#pragma omp ordered
        add();
    }
}

}  // namespace NF_ISA
}  // namespace nf
