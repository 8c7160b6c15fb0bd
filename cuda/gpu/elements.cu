// Elementwise ops, on each sample or parameter on its own. One thread an element; NF_SCALAR is its type.
#include "machine.h"
#include "../adam.h"
#include "../contraction.h"
#include "../spherical_harmonics.h"

using namespace nf;
using T = NF_SCALAR;

NF_KERNEL contract_forward(const T* x, i64 samples, i64 kind, double extent, T* out) {
    i64 s = global_thread();
    if (s >= samples) return;
    T p[3] = {x[3 * s], x[3 * s + 1], x[3 * s + 2]};
    contract(p, i32(kind), T(extent));
    for (int a = 0; a < 3; ++a) out[3 * s + a] = p[a];
}

NF_KERNEL contract_gradient(const T* x, const T* d_out, i64 samples, i64 kind, double extent, T* d_x) {
    i64 s = global_thread();
    if (s < samples) contract_backward(x + 3 * s, d_out + 3 * s, d_x + 3 * s, i32(kind), T(extent));
}

NF_KERNEL harmonics_forward(const T* d, i64 samples, i64 degree, T* out) {
    i64 s = global_thread();
    if (s < samples)
        spherical_harmonics(d[3 * s], d[3 * s + 1], d[3 * s + 2], int(degree), out + degree * degree * s);
}

NF_KERNEL harmonics_gradient(const T* d, const T* d_out, i64 samples, i64 degree, T* d_d) {
    i64 s = global_thread();
    if (s < samples)
        spherical_harmonics_backward(d[3 * s], d[3 * s + 1], d[3 * s + 2], int(degree), d_out + degree * degree * s,
                                     d_d[3 * s], d_d[3 * s + 1], d_d[3 * s + 2]);
}

// sparse: elements with zero gradient stay as they are, their moments too. The gradient is cleared either way.
NF_KERNEL adam_step(T* parameter, T* gradient, T* m, T* v, i64 count, double rate, double beta1, double beta2,
                    double epsilon, i64 sparse) {
    AdamSettings settings = {float(rate), float(beta1), float(beta2), float(epsilon)};
    for (i64 i = global_thread(); i < count; i += i64(gridDim.x) * blockDim.x) {
        T g = gradient[i];
        if (sparse && g == 0) continue;
        parameter[i] += adam_update(g, m[i], v[i], settings);
        gradient[i] = 0;
    }
}
