// Alpha compositing of packed samples: a thread composites its rays front to back.
#pragma once
#include "../composite.h"
#include "kernels.h"
#include "sample_tiles.h"

namespace nf {
namespace NF_ISA {

template <class T> void op_composite_forward(const CompositeArgs<T>& g) {
#pragma omp parallel for schedule(static) num_threads(threads_for(g.offsets[g.rays], g.threads))
    for (i64 r = 0; r < g.rays; ++r) {
        Compositor<T> c;
        for (i64 s = g.offsets[r]; s < g.offsets[r + 1]; ++s) {
            T weight = c.opaque() ? T(0) : c.take(alpha_of(g.density[s], g.length[s]));
            g.out_weight[s] = weight;
            c.add(weight, g.rgb + 3 * s, g.t[s], g.length[s]);
        }
        store_sums(g.sums + kSums * r, c);
    }
}

template <class T> void op_composite_backward(const CompositeArgs<T>& g) {
#pragma omp parallel for schedule(static) num_threads(threads_for(g.offsets[g.rays], g.threads))
    for (i64 r = 0; r < g.rays; ++r) {
        CompositorBackward<T> c;
        c.start(load_sums(g.sums + kSums * r), load_sums(g.d_sums + kSums * r));
        for (i64 s = g.offsets[r]; s < g.offsets[r + 1]; ++s) {
            g.d_density[s] = g.d_colour[3 * s] = g.d_colour[3 * s + 1] = g.d_colour[3 * s + 2] = 0;
            if (!c.opaque())
                c.step(g.density[s], g.length[s], g.t[s], g.rgb + 3 * s, g.d_density[s], g.d_colour + 3 * s);
        }
    }
}

}  // namespace NF_ISA
}  // namespace nf
