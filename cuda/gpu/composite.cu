// Alpha compositing of packed samples. One thread composites a ray, front to back; NF_SCALAR is the type.
#include "machine.h"
#include "../composite.h"

using namespace nf;
using T = NF_SCALAR;

NF_KERNEL composite_forward(const T* density, const T* length, const T* t, const T* rgb, const i64* offsets, i64 rays,
                            T* sums, T* weights) {
    i64 r = global_thread();
    if (r >= rays) return;
    Compositor<T> c;
    for (i64 s = offsets[r]; s < offsets[r + 1]; ++s) {
        T weight = c.opaque() ? T(0) : c.take(alpha_of(density[s], length[s]));
        weights[s] = weight;
        c.add(weight, rgb + 3 * s, t[s], length[s]);
    }
    store_sums(sums + kSums * r, c);
}

NF_KERNEL composite_gradient(const T* density, const T* length, const T* t, const T* rgb, const i64* offsets, i64 rays,
                             const T* sums, const T* d_sums, T* d_density, T* d_rgb) {
    i64 r = global_thread();
    if (r >= rays) return;
    CompositorBackward<T> c;
    c.start(load_sums(sums + kSums * r), load_sums(d_sums + kSums * r));
    for (i64 s = offsets[r]; s < offsets[r + 1]; ++s) {
        d_density[s] = d_rgb[3 * s] = d_rgb[3 * s + 1] = d_rgb[3 * s + 2] = 0;
        if (!c.opaque()) c.step(density[s], length[s], t[s], rgb + 3 * s, d_density[s], d_rgb + 3 * s);
    }
}
