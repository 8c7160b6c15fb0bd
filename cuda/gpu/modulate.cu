// Modulated layers. One thread a sample; NF_SCALAR is the type.
#include "machine.h"
#include "../modulate.h"

using namespace nf;
using T = NF_SCALAR;

NF_KERNEL modulate_forward(const T* h, const T* gamma, const T* beta, i64 samples, i64 width, i64 each, i64 normalise,
                           i64 relu, T* out) {
    i64 s = global_thread();
    if (s >= samples) return;
    ModulatedRow row = {int(width), int(each), normalise != 0, relu != 0};
    modulate_row<OneByOne<T>>(row, h + width * s, gamma + each * s, beta + each * s, out + width * s);
}

NF_KERNEL modulate_gradient(const T* h, const T* gamma, const T* beta, const T* d_out, i64 samples, i64 width, i64 each,
                            i64 normalise, i64 relu, T* d_h, T* d_gamma, T* d_beta) {
    i64 s = global_thread();
    if (s >= samples) return;
    ModulatedRow row = {int(width), int(each), normalise != 0, relu != 0};
    modulate_row_backward<OneByOne<T>>(row, h + width * s, gamma + each * s, beta + each * s, d_out + width * s,
                                       d_h + width * s, d_gamma + each * s, d_beta + each * s);
}
