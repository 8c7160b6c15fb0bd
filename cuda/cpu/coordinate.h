// Coordinate networks as a whole: from points by Fourier features through all hidden layers to the features that heads
// read; and the heads from features to log-density and colour. Layers stay in L1 (dense.h).
#pragma once
#include "../activation.h"
#include "../spherical_harmonics.h"
#include "../waves.h"
#include "dense.h"
#include "sample_tiles.h"

namespace nf {
namespace NF_ISA {

// e [encoded][kBlock] of x [axes][kBlock]: 2 x - 1 where it is direct, sines, cosines.
template <class T> inline void encode_block(const CoordinateArgs<T>& g, const T* x, T* e) {
    using V = Lanes<T>;
    for (int s = 0; s < kBlock; s += kWidth<T>) {
        V at[kMostAxes];
        for (int a = 0; a < g.axes; ++a) at[a] = load<V>(x + a * kBlock + s);
        T* to = e + s;
        if (g.direct)
            for (int a = 0; a < g.axes; ++a, to += kBlock) store(to, 2 * at[a] - 1);
        for (int m = 0; m < g.waves; ++m, to += kBlock) {
            V p{};
            for (int a = 0; a < g.axes; ++a) p += at[a] * g.frequencies[a * g.waves + m];
            Wave<V> w = wave(p);
            store(to, w.sine);
            store(to + g.waves * kBlock, w.cosine);
        }
    }
}

template <class T> inline void encode_block_backward(const CoordinateArgs<T>& g, const T* e, const T* d_e, T* d_x) {
    using V = Lanes<T>;
    for (int s = 0; s < kBlock; s += kWidth<T>) {
        V sum[kMostAxes]{};
        i64 at = s;
        if (g.direct)
            for (int a = 0; a < g.axes; ++a, at += kBlock) sum[a] = 2 * load<V>(d_e + at);
        for (int m = 0; m < g.waves; ++m, at += kBlock) {
            i64 other = at + g.waves * kBlock;
            V d_p = wave_backward(Wave<V>{load<V>(e + at), load<V>(e + other)}, load<V>(d_e + at), load<V>(d_e + other));
            for (int a = 0; a < g.axes; ++a) sum[a] += d_p * g.frequencies[a * g.waves + m];
        }
        for (int a = 0; a < g.axes; ++a) store(d_x + a * kBlock + s, sum[a]);
    }
}

// One thread's layers and rows of a block.
template <class P> struct CoordinateWork {
    using T = typename P::Number;
    const CoordinateArgs<T>& g;
    Chain<P> chain;
    T *x, *e, *d_e, *gamma, *beta, *d_gamma, *d_beta;
    Modulated<T> by;
    int encoded;

    CoordinateWork(const CoordinateArgs<T>& args, bool backward) : g(args) {
        encoded = 2 * g.waves + (g.direct ? g.axes : 0);
        for (int l = 0; l < g.layers; ++l) {
            bool last = l + 1 == g.layers;
            chain.add(g.dense[l], l && l == g.skip ? encoded : 0, !last, !last && g.normalise, last ? -1 : l);
        }
        Counted counted;
        take(counted, backward);
        Scratch& scratch = thread_scratch();
        scratch.reset(counted.bytes);
        take(scratch, backward);
        chain.pack(backward);
        by = g.gamma ? Modulated<T>{gamma, beta, d_gamma, d_beta} : Modulated<T>{};
    }

    template <class Memory> void take(Memory& memory, bool backward) {
        chain.take(memory, backward);
        x = memory.template take<T>(kMostAxes * kBlock);
        e = memory.template take<T>(i64(encoded) * kBlock);
        d_e = memory.template take<T>(i64(encoded) * kBlock);
        T** each[] = {&gamma, &beta, &d_gamma, &d_beta};
        for (T** rows : each) *rows = memory.template take<T>(i64(g.layers) * kBlock);
    }

    void forward(i64 begin, int n, int block) {
        rows_from(g.x + begin * g.axes, n, g.axes, x);
        encode_block(g, x, e);
        __builtin_memcpy(chain.rows, e, i64(encoded) * kBlock * sizeof(T));
        if (g.gamma) {
            rows_from(g.gamma + begin * (g.layers - 1), n, g.layers - 1, gamma);
            rows_from(g.beta + begin * (g.layers - 1), n, g.layers - 1, beta);
        }
        chain.forward(e, by, block);
    }

    void backward(i64 begin, int n, int block) {
        int outputs = g.dense[g.layers - 1].outputs;
        rows_from(g.d_out + begin * outputs, n, outputs, chain.d);
        if (g.d_x) __builtin_memset(d_e, 0, i64(encoded) * kBlock * sizeof(T));
        chain.backward(g.d_x ? d_e : nullptr, by, block, g.d_x != nullptr);
        if (g.gamma) {
            rows_to(d_gamma, n, g.layers - 1, g.d_gamma + begin * (g.layers - 1));
            rows_to(d_beta, n, g.layers - 1, g.d_beta + begin * (g.layers - 1));
        }
        if (!g.d_x) return;
        for (i64 i = 0; i < i64(encoded) * kBlock; ++i) d_e[i] += chain.d[i];
        encode_block_backward(g, e, d_e, x);
        rows_to(x, n, g.axes, g.d_x + begin * g.axes);
    }
};

template <class P> void coordinate_forward(const CoordinateArgs<typename P::Number>& g) {
#pragma omp parallel num_threads(threads_for(g.samples, g.threads))
    {
        typename P::Session session;
        (void)session;
        CoordinateWork<P> work(g, false);
        int outputs = g.dense[g.layers - 1].outputs;
        share_blocks(g.samples, [&](i64 begin, int n) {
            work.forward(begin, n, -1);
            rows_to(work.chain.rows, n, outputs, g.out + begin * outputs);
        });
    }
}

template <class P> void coordinate_backward(const CoordinateArgs<typename P::Number>& g) {
#pragma omp parallel num_threads(threads_for(g.samples, g.threads))
    {
        typename P::Session session;
        (void)session;
        CoordinateWork<P> work(g, true);
#pragma omp single
        work.chain.clear_gradients();
        share_chunks(
            g.samples, [&] { work.chain.clear_sums(); },
            [&](i64 begin, int n, int block) {
                work.forward(begin, n, block);
                work.backward(begin, n, block);
            },
            [&](int blocks) { work.chain.sum_products(blocks); }, [&] { work.chain.add_sums(); });
    }
}

// One thread's two heads and rows of a block.
template <class P> struct HeadsWork {
    using T = typename P::Number;
    using V = Lanes<T>;
    static constexpr int W = kWidth<T>;
    const HeadsArgs<T>& g;
    Chain<P> density, colour;
    T* directions;
    int code, harmonics;

    HeadsWork(const HeadsArgs<T>& args, bool backward) : g(args) {
        for (int l = 0; l < g.density_layers; ++l) density.add(g.density[l], 0, l + 1 < g.density_layers);
        for (int l = 0; l < g.colour_layers; ++l) colour.add(g.colour[l], 0, l + 1 < g.colour_layers);
        code = g.density[g.density_layers - 1].outputs;
        harmonics = g.degree * g.degree;
        Counted counted;
        take(counted, backward);
        Scratch& scratch = thread_scratch();
        scratch.reset(counted.bytes);
        take(scratch, backward);
        density.pack(backward);
        if (g.colour_layers) colour.pack(backward);
    }

    template <class Memory> void take(Memory& memory, bool backward) {
        density.take(memory, backward);
        if (g.colour_layers) colour.take(memory, backward);
        directions = memory.template take<T>(3 * kBlock);
    }

    // The log-density is the first of the density's rows, the colour those of the colour.
    void forward(i64 begin, int n, int block) {
        rows_from(g.f + begin * g.density[0].inputs, n, g.density[0].inputs, density.rows);
        density.forward(nullptr, {}, block);
        if (!g.colour_layers) return;
        __builtin_memcpy(colour.rows, density.rows, i64(code) * kBlock * sizeof(T));
        rows_from(g.directions + begin * 3, n, 3, directions);
        for (int s = 0; s < kBlock; s += W) {
            V basis[16];
            const T* at = directions + s;
            spherical_harmonics<V>(load<V>(at), load<V>(at + kBlock), load<V>(at + 2 * kBlock), g.degree, basis);
            for (int k = 0; k < harmonics; ++k) store(colour.rows + (code + k) * kBlock + s, basis[k]);
        }
        colour.forward(nullptr, {}, block);
        for (int i = 0; i < 3 * kBlock; i += W) store(colour.rows + i, sigmoid_forward(load<V>(colour.rows + i)));
    }

    void backward(i64 begin, int n, int block) {
        rows_from(g.d_rgb + begin * 3, n, 3, colour.d);
        for (int i = 0; i < 3 * kBlock; i += W)
            store(colour.d + i, sigmoid_backward(load<V>(colour.rows + i), load<V>(colour.d + i)));
        colour.backward(nullptr, {}, block, true);
        __builtin_memcpy(density.d, colour.d, i64(code) * kBlock * sizeof(T));
        for (int s = 0; s < n; ++s) density.d[s] += g.d_log_density[begin + s];
        density.backward(nullptr, {}, block, true);
        rows_to(density.d, n, g.density[0].inputs, g.d_f + begin * g.density[0].inputs);
    }
};

template <class P> void heads_forward(const HeadsArgs<typename P::Number>& g) {
#pragma omp parallel num_threads(threads_for(g.samples, g.threads))
    {
        typename P::Session session;
        (void)session;
        HeadsWork<P> work(g, false);
        share_blocks(g.samples, [&](i64 begin, int n) {
            work.forward(begin, n, -1);
            for (int s = 0; s < n; ++s) g.log_density[begin + s] = work.density.rows[s];
            if (g.colour_layers) rows_to(work.colour.rows, n, 3, g.rgb + begin * 3);
        });
    }
}

template <class P> void heads_backward(const HeadsArgs<typename P::Number>& g) {
#pragma omp parallel num_threads(threads_for(g.samples, g.threads))
    {
        typename P::Session session;
        (void)session;
        HeadsWork<P> work(g, true);
#pragma omp single
        {
            work.density.clear_gradients();
            work.colour.clear_gradients();
        }
        share_chunks(
            g.samples,
            [&] {
                work.density.clear_sums();
                work.colour.clear_sums();
            },
            [&](i64 begin, int n, int block) {
                work.forward(begin, n, block);
                work.backward(begin, n, block);
            },
            [&](int blocks) {
                work.density.sum_products(blocks);
                work.colour.sum_products(blocks);
            },
            [&] {
                work.density.add_sums();
                work.colour.add_sums();
            });
    }
}

template <class T> void op_coordinate_forward(const CoordinateArgs<T>& g) { coordinate_forward<LaneProducts<T>>(g); }
template <class T> void op_coordinate_backward(const CoordinateArgs<T>& g) { coordinate_backward<LaneProducts<T>>(g); }
template <class T> void op_heads_forward(const HeadsArgs<T>& g) { heads_forward<LaneProducts<T>>(g); }
template <class T> void op_heads_backward(const HeadsArgs<T>& g) { heads_backward<LaneProducts<T>>(g); }

}  // namespace NF_ISA
}  // namespace nf
