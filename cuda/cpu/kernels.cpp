// One instruction set's build of all CPU kernels. Compiled several times with other flags, NF_ISA and NF_VECTOR_BYTES.
#include "kernels.h"

namespace nf {
namespace NF_ISA {

// Multiply-adds on registers alone: the machine's fp32 peak, which the networks are measured against.
double fma_peak(int threads) {
    constexpr int kChains = 12;
    constexpr i64 kRounds = 4000000;
    using V = Lanes<float>;
    double seconds = 0;
    float sink = 0;
#pragma omp parallel num_threads(threads) reduction(max : seconds) reduction(+ : sink)
    {
        V sum[kChains], a = V{} + 0.999f, b = V{} + 0.001f;
        for (int i = 0; i < kChains; ++i) sum[i] = V{} + float(i);
        double start = omp_get_wtime();
        for (i64 r = 0; r < kRounds; ++r) {
#pragma GCC unroll 12
            for (int i = 0; i < kChains; ++i) sum[i] = sum[i] * a + b;
        }
        seconds = omp_get_wtime() - start;
        for (int i = 0; i < kChains; ++i) sink += sum[i][0];
    }
    volatile float keep = sink;
    (void)keep;
    return 2.0 * kChains * kRounds * kWidth<float> * threads / seconds;
}

template <class T> constexpr Kernels<T> table() {
#define NF_OP(name, Args) op_##name<T>,
    return {NF_OPS(NF_OP)};
#undef NF_OP
}

#define NF_TEXT_(x) #x
#define NF_TEXT(x) NF_TEXT_(x)
extern const KernelSet kernel_set;
const KernelSet kernel_set = {NF_TEXT(NF_ISA), NF_VECTOR_BYTES, table<float>(), table<double>(), fma_peak};

}  // namespace NF_ISA
}  // namespace nf
