// One instruction set's build of the kernels of Gaussian splatting; compiled like kernels.cpp, several times.
#include "blend_backward.h"
#include "image_loss.h"
#include "project_backward.h"

namespace nf {
namespace NF_ISA {

template <class T> constexpr SplatKernels<T> splat_table() {
#define NF_OP(name, Args) op_##name<T>,
    return {NF_SPLAT_OPS(NF_OP)};
#undef NF_OP
}

#define NF_TEXT_(x) #x
#define NF_TEXT(x) NF_TEXT_(x)
extern const SplatKernelSet splat_kernel_set;
const SplatKernelSet splat_kernel_set = {NF_TEXT(NF_ISA), splat_table<float>(), splat_table<double>()};

}  // namespace NF_ISA
}  // namespace nf
