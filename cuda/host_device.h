// Macros that let one formula be compiled by g++ for the CPU and by NVRTC or nvcc for the GPU.
#pragma once

#ifdef __CUDACC__
#define NF_HD __host__ __device__ __forceinline__
#else
#define NF_HD inline __attribute__((always_inline))
#endif

namespace nf {
using u32 = unsigned int;
using u64 = unsigned long long;
using i32 = int;
using i64 = long long;
}  // namespace nf
