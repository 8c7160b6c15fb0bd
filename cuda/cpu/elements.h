// Elementwise ops, on each sample or parameter on its own: contraction, spherical harmonics, Adam.
#pragma once
#include "../contraction.h"
#include "../spherical_harmonics.h"
#include "kernels.h"
#include "sample_tiles.h"

namespace nf {
namespace NF_ISA {

template <class T> void op_contract_forward(const ElementArgs<T>& g) {
    for (i64 s = 0; s < g.samples; ++s) {
        for (int a = 0; a < 3; ++a) g.out[3 * s + a] = g.x[3 * s + a];
        contract(g.out + 3 * s, g.kind, g.extent);
    }
}

template <class T> void op_contract_backward(const ElementArgs<T>& g) {
    for (i64 s = 0; s < g.samples; ++s) contract_backward(g.x + 3 * s, g.d_out + 3 * s, g.d_x + 3 * s, g.kind, g.extent);
}

template <class T> void op_harmonics_forward(const ElementArgs<T>& g) {
    int n = g.kind * g.kind;
    for (i64 s = 0; s < g.samples; ++s)
        spherical_harmonics(g.x[3 * s], g.x[3 * s + 1], g.x[3 * s + 2], g.kind, g.out + n * s);
}

template <class T> void op_harmonics_backward(const ElementArgs<T>& g) {
    int n = g.kind * g.kind;
    for (i64 s = 0; s < g.samples; ++s)
        spherical_harmonics_backward(g.x[3 * s], g.x[3 * s + 1], g.x[3 * s + 2], g.kind, g.d_out + n * s,
                                     g.d_x[3 * s], g.d_x[3 * s + 1], g.d_x[3 * s + 2]);
}

template <class T> void op_adam(const AdamArgs<T>& g) {
    using V = Lanes<T>;
    constexpr int W = kWidth<T>;
#pragma omp parallel for schedule(static) num_threads(threads_for(g.count, g.threads))
    for (i64 block = 0; block < (g.count + 1023) / 1024; ++block) {
        i64 end = min_<i64>(g.count, block * 1024 + 1024), i = block * 1024;
        for (; i + W <= end; i += W) {
            V d = load<V>(g.gradient + i);
            auto hit = d != 0;
            bool any = !g.sparse;
            for (int k = 0; k < W && !any; ++k) any = hit[k] != 0;
            if (!any) continue;
            V m0 = load<V>(g.m + i), v0 = load<V>(g.v + i), m = m0, v = v0;
            V change = adam_update(d, m, v, g.settings);
            if (g.sparse) {
                change = hit ? change : V{};
                m = hit ? m : m0;
                v = hit ? v : v0;
            }
            store(g.parameter + i, load<V>(g.parameter + i) + change);
            store(g.m + i, m);
            store(g.v + i, v);
            store(g.gradient + i, V{});
        }
        for (; i < end; ++i) {
            if (g.sparse && g.gradient[i] == 0) continue;
            g.parameter[i] += adam_update(g.gradient[i], g.m[i], g.v[i], g.settings);
            g.gradient[i] = 0;
        }
    }
}

}  // namespace NF_ISA
}  // namespace nf
