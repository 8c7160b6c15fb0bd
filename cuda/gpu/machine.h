// Instructions beyond CUDA C++, as inline PTX: no toolkit header is needed, so NVRTC alone compiles everything. A test
// may put an emulation of the machine in its place (NF_EMULATOR names the header).
//
// Warps are used whole: every lane takes part in every shuffle, vote and product.
#pragma once
#include "../host_device.h"

#ifdef NF_EMULATOR
#include NF_EMULATOR
#else
#define NF_DEVICE __device__ __forceinline__
#define NF_UNROLL _Pragma("unroll")
#define NF_ROLLED _Pragma("unroll 1")
#define NF_UNROLL_2 _Pragma("unroll 2")
#define NF_KERNEL extern "C" __global__ void

namespace nf {

constexpr u32 kWholeWarp = 0xffffffffu;

// Two numbers in one word, the first in the low half.
NF_DEVICE u32 pack_half(float low, float high) {
    u32 word;
    asm("cvt.rn.f16x2.f32 %0, %1, %2;" : "=r"(word) : "f"(high), "f"(low));
    return word;
}
NF_DEVICE void unpack_half(u32 word, float& low, float& high) {
    asm("{ .reg .b16 a, b; mov.b32 {a, b}, %2; cvt.f32.f16 %0, a; cvt.f32.f16 %1, b; }"
        : "=f"(low), "=f"(high)
        : "r"(word));
}
NF_DEVICE u32 pack_bfloat(float low, float high) {
    u32 word;
    asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(word) : "f"(high), "f"(low));
    return word;
}

// c [16, 8] += a [16, 16] b [16, 8], shared by the lanes of a warp as fragments.h says.
NF_DEVICE void product_half(float* c, const u32* a, u32 b0, u32 b1) {
    asm("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
        : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}
NF_DEVICE void product_bfloat(float* c, const u32* a, u32 b0, u32 b1) {
    asm("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
        : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}

// Adds F neighbours at once where the machine can (float from sm_90 on), else one by one.
template <int F, class T> NF_DEVICE void add_entry(T* at, const T* value) {
    NF_UNROLL for (int i = 0; i < F; ++i) atomicAdd(at + i, value[i]);
}
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 900
template <> NF_DEVICE void add_entry<2, float>(float* at, const float* v) {
    asm volatile("red.global.add.v2.f32 [%0], {%1, %2};" ::"l"(at), "f"(v[0]), "f"(v[1]) : "memory");
}
template <> NF_DEVICE void add_entry<4, float>(float* at, const float* v) {
    asm volatile("red.global.add.v4.f32 [%0], {%1, %2, %3, %4};" ::"l"(at), "f"(v[0]), "f"(v[1]), "f"(v[2]), "f"(v[3])
                 : "memory");
}
template <> NF_DEVICE void add_entry<8, float>(float* at, const float* v) {
    add_entry<4>(at, v);
    add_entry<4>(at + 4, v + 4);
}
#endif

}  // namespace nf
#endif

namespace nf {

NF_DEVICE int lane_of_warp() { return int(threadIdx.x) & 31; }
NF_DEVICE int warp_of_block() { return int(threadIdx.x) >> 5; }
NF_DEVICE i64 global_thread() { return i64(blockIdx.x) * blockDim.x + threadIdx.x; }

// The bits of a vote below this lane: how many come before it.
NF_DEVICE int rank_in(u32 vote) { return __popc(vote & ((1u << lane_of_warp()) - 1)); }

// Takes `count` places from a counter for a whole warp; every lane gets the first of them.
NF_DEVICE i64 take_places(u64* counter, int count) {
    u64 first = 0;
    if (lane_of_warp() == 0 && count) first = atomicAdd(counter, u64(count));
    return i64(__shfl_sync(kWholeWarp, first, 0));
}

}  // namespace nf
