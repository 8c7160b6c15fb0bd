// Radial basis functions. Compiled for NF_SCALAR and NF_RBF, the kernel of rbf.h.
//
// scale = e^{b/2} and centre = scale c are made once per call; h [S, N] is kept between the kernels of a backward pass.
#include "machine.h"
#include "../rbf.h"

using namespace nf;
using T = NF_SCALAR;
constexpr RbfKernel kKernel = RbfKernel::NF_RBF;
constexpr int kChunk = 512;  // samples of one part of a sum over samples

NF_DEVICE T squared_distance(const T* f, const T* scale, const T* centre, i64 features) {
    T r2 = 0;
    for (i64 d = 0; d < features; ++d) {
        T offset = rbf_offset(f[d], scale[d], centre[d]);
        r2 += offset * offset;
    }
    return r2;
}

NF_KERNEL rbf_prepare(const T* centres, const T* log_precisions, i64 count, T* scale, T* centre) {
    i64 i = global_thread();
    if (i >= count) return;
    scale[i] = exp_(log_precisions[i] / 2);
    centre[i] = scale[i] * centres[i];
}

NF_KERNEL rbf_forward(const T* f, i64 samples, const T* scale, const T* centre, i64 units, i64 features, T* out) {
    i64 i = global_thread(), s = i / units, n = i % units;
    if (s < samples)
        out[i] = rbf_value<kKernel>(squared_distance(f + s * features, scale + n * features, centre + n * features, features));
}

NF_KERNEL rbf_slopes(const T* f, i64 samples, const T* scale, const T* centre, i64 units, i64 features, const T* d_out,
                     T* h) {
    i64 i = global_thread(), s = i / units, n = i % units;
    if (s >= samples) return;
    T r2 = squared_distance(f + s * features, scale + n * features, centre + n * features, features);
    h[i] = 2 * rbf_slope<kKernel>(r2) * d_out[i];
}

NF_KERNEL rbf_feature_gradient(const T* f, i64 samples, const T* scale, const T* centre, i64 units, i64 features,
                               const T* h, T* d_f) {
    i64 i = global_thread(), s = i / features, d = i % features;
    if (s >= samples) return;
    T sum = 0;
    for (i64 n = 0; n < units; ++n)
        sum += h[s * units + n] * scale[n * features + d] *
               rbf_offset(f[i], scale[n * features + d], centre[n * features + d]);
    d_f[i] = sum;
}

// Parts of the sums over samples, [blockIdx.y][2][N, D]: chunks of samples, added up in their order afterwards.
NF_KERNEL rbf_unit_sums(const T* f, i64 samples, const T* centres, i64 units, i64 features, const T* h, T* parts) {
    i64 i = global_thread(), n = i / features, d = i % features, count = units * features;
    if (n >= units) return;
    T first = 0, second = 0;
    i64 begin = i64(blockIdx.y) * kChunk, end = min_<i64>(begin + kChunk, samples);
    for (i64 s = begin; s < end; ++s) rbf_sums(f[s * features + d], centres[i], h[s * units + n], first, second);
    parts[blockIdx.y * 2 * count + i] = first;
    parts[(blockIdx.y * 2 + 1) * count + i] = second;
}

NF_KERNEL rbf_unit_gradients(const T* sums, const T* log_precisions, i64 count, T* d_centres, T* d_log_precisions) {
    i64 i = global_thread();
    if (i >= count) return;
    T precision = exp_(log_precisions[i]);
    d_centres[i] = rbf_d_centre(precision, sums[i]);
    d_log_precisions[i] = rbf_d_log_precision(precision, sums[count + i]);
}
