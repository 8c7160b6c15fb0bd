// Modulated layers by lanes: a row's sums and its features in registers, samples shared among threads.
#pragma once
#include "../modulate.h"
#include "kernels.h"
#include "sample_tiles.h"

namespace nf {
namespace NF_ISA {

// How lanes go through a row: whole vectors, then what is left one by one.
template <class T> struct ByLanes {
    using V = Lanes<T>;
    template <class Body> static NF_HD void over(int width, Body body) {
        int i = 0;
        for (; i + kWidth<T> <= width; i += kWidth<T>) body(V{}, i);
        for (; i < width; ++i) body(T{}, i);
    }
    template <class U> static NF_HD U read(U, const T* at) { return load<U>(at); }
    template <class U> static NF_HD void write(T* at, U value) { store(at, value); }
    struct Sum {
        V lanes{};
        T rest = 0;
        NF_HD void add(V more) { lanes += more; }
        NF_HD void add(T more) { rest += more; }
        NF_HD T total() const { return sum_of(lanes) + rest; }
    };
};

template <class T> void op_modulate_forward(const ModulateArgs<T>& g) {
    i64 w = g.row.width, e = g.row.each;
#pragma omp parallel for schedule(static) num_threads(threads_for(g.samples, g.threads))
    for (i64 s = 0; s < g.samples; ++s)
        modulate_row<ByLanes<T>>(g.row, g.h + w * s, g.gamma + e * s, g.beta + e * s, g.out + w * s);
}

template <class T> void op_modulate_backward(const ModulateArgs<T>& g) {
    i64 w = g.row.width, e = g.row.each;
#pragma omp parallel for schedule(static) num_threads(threads_for(g.samples, g.threads))
    for (i64 s = 0; s < g.samples; ++s)
        modulate_row_backward<ByLanes<T>>(g.row, g.h + w * s, g.gamma + e * s, g.beta + e * s, g.d_out + w * s,
                                          g.d_h + w * s, g.d_gamma + e * s, g.d_beta + e * s);
}

}  // namespace NF_ISA
}  // namespace nf
