// A GPU of one block at a time, for tests without one: every thread is a fiber, and what threads do together (barriers,
// votes, shuffles, tensor-core products) happens when all of them have come to it. Shared memory is static: blocks run
// one after the other.
//
// Two faults of a schedule show here: lanes that meet at different places are reported, and a barrier that is missing
// changes results when the threads run in reverse order. Layouts of mma.sync.m16n8k16 are those of the PTX manual.
#pragma once
#include <setjmp.h>
#include <ucontext.h>

#include <cstdio>
#include <cstring>
#include <memory>
#include <utility>
#include <vector>

#define __global__
#define __device__
#define __shared__ static
#define __launch_bounds__(...)
#define NF_DEVICE inline
#define NF_UNROLL
#define NF_UNROLL_2
#define NF_ROLLED
#define NF_KERNEL extern "C" void

struct Index {
    unsigned x = 0, y = 0, z = 0;
};
inline Index threadIdx, blockIdx, blockDim, gridDim;

struct alignas(8) uint2 { unsigned x, y; };
struct alignas(16) uint4 { unsigned x, y, z, w; };
struct alignas(8) float2 { float x, y; };

namespace nf {
namespace emulator {

struct Barrier {
    int arrived = 0;
    long generation = 0;
};

struct Fiber {
    ucontext_t context;  // where it begins; from then on jumps are used, which cost no system call
    jmp_buf here;
    bool begun = false;
    std::unique_ptr<char[]> stack;
    const Barrier* waits_for = nullptr;
    long generation = 0;
    bool done = false;
};

struct Slot {
    int kind;
    unsigned long long word[8];
};

struct Warp {
    Barrier barrier;
    Slot slot[2][32];
};

struct Block {
    std::vector<Fiber> fibers;
    std::vector<Warp> warps;
    std::vector<int> parity;  // of each thread's next meeting
    Barrier barrier;
    ucontext_t unused;
    jmp_buf scheduler;
    int current = 0;
    const char* fault = nullptr;
    void (*body)(void*) = nullptr;
    void* data = nullptr;
};
inline Block* block = nullptr;

__attribute__((noinline)) inline void yield() {
    if (!_setjmp(block->fibers[block->current].here)) _longjmp(block->scheduler, 1);
}
__attribute__((noinline)) inline void resume(Fiber& fiber) {
    if (_setjmp(block->scheduler)) return;
    if (fiber.begun) _longjmp(fiber.here, 1);
    fiber.begun = true;
    swapcontext(&block->unused, &fiber.context);
}

inline void meet(Barrier& barrier, int expected) {
    Fiber& fiber = block->fibers[block->current];
    if (++barrier.arrived == expected) {
        barrier.arrived = 0;
        ++barrier.generation;
        return;
    }
    fiber.waits_for = &barrier;
    fiber.generation = barrier.generation;
    yield();
}

// All lanes' words, once the last lane has come.
inline const Slot* exchange(int kind, const unsigned long long* words, int count) {
    int thread = block->current, lane = thread & 31;
    Warp& warp = block->warps[thread >> 5];
    Slot* slots = warp.slot[block->parity[thread]];
    block->parity[thread] ^= 1;
    slots[lane].kind = kind;
    for (int i = 0; i < count; ++i) slots[lane].word[i] = words[i];
    meet(warp.barrier, 32);
    for (int i = 0; i < 32; ++i)
        if (slots[i].kind != kind) block->fault = "lanes of a warp met at different places";
    return slots;
}

inline void fiber_main() {
    Fiber& fiber = block->fibers[block->current];
    block->body(block->data);
    fiber.done = true;
    yield();
}

inline const char* run_block(int threads, bool reverse, void (*body)(void*), void* data) {
    Block here;
    block = &here;
    here.fibers.resize(threads);
    here.warps.resize((threads + 31) / 32);
    here.parity.assign(threads, 0);
    here.body = body;
    here.data = data;
    constexpr size_t kStack = 1 << 18;
    for (Fiber& fiber : here.fibers) {
        getcontext(&fiber.context);
        fiber.stack.reset(new char[kStack]);
        fiber.context.uc_stack.ss_sp = fiber.stack.get();
        fiber.context.uc_stack.ss_size = kStack;
        fiber.context.uc_link = nullptr;
        makecontext(&fiber.context, fiber_main, 0);
    }
    for (int left = threads; left && !here.fault;) {
        bool moved = false;
        for (int i = 0; i < threads && !here.fault; ++i) {
            int thread = reverse ? threads - 1 - i : i;
            Fiber& fiber = here.fibers[thread];
            if (fiber.done || (fiber.waits_for && fiber.waits_for->generation == fiber.generation)) continue;
            fiber.waits_for = nullptr;
            here.current = thread;
            threadIdx = {unsigned(thread), 0, 0};
            moved = true;
            resume(fiber);
            left -= fiber.done;
        }
        if (!moved) here.fault = "threads wait for threads that never come";
    }
    return here.fault;
}

inline float float_of_half(unsigned short bits) {
    _Float16 h;
    std::memcpy(&h, &bits, 2);
    return float(h);
}
inline unsigned short half_of(float x) {
    _Float16 h = _Float16(x);
    unsigned short bits;
    std::memcpy(&bits, &h, 2);
    return bits;
}
inline float float_of_bfloat(unsigned short bits) {
    unsigned word = unsigned(bits) << 16;
    float x;
    std::memcpy(&x, &word, 4);
    return x;
}
inline unsigned short bfloat_of(float x) {
    unsigned word;
    std::memcpy(&word, &x, 4);
    if ((word & 0x7fffffff) > 0x7f800000) return 0x7fff;
    return (word + 0x7fff + (word >> 16 & 1)) >> 16;
}

// c += a b by every lane for its own four numbers, from all lanes' registers.
template <class F> inline void product(int kind, float* c, const unsigned* a, unsigned b0, unsigned b1, F&& number) {
    unsigned long long words[6] = {a[0], a[1], a[2], a[3], b0, b1};
    const Slot* slots = exchange(kind, words, 6);
    auto part = [&](unsigned long long word, int half) { return number((unsigned short)(word >> (16 * half))); };
    int lane = block->current & 31;
    for (int i = 0; i < 4; ++i) {
        int row = lane / 4 + 8 * (i / 2), column = 2 * (lane % 4) + i % 2;
        for (int k = 0; k < 16; ++k) {
            float left = part(slots[row % 8 * 4 + k % 8 / 2].word[row / 8 + 2 * (k / 8)], k % 2);
            float right = part(slots[column * 4 + k % 8 / 2].word[4 + k / 8], k % 2);
            c[i] += left * right;
        }
    }
}

template <class A> constexpr char letter() {
    return std::is_pointer<A>::value ? 'p' : std::is_same<A, long long>::value ? 'i' : std::is_same<A, double>::value ? 'd' : '?';
}
template <class... A> const char* signature(void (*)(A...)) {
    static const char text[] = {letter<A>()..., 0};
    return text;
}

template <class... A, size_t... I>
const char* launch(void (*kernel)(A...), void** arguments, Index grid, int threads, bool reverse, std::index_sequence<I...>) {
    struct Call {
        void (*kernel)(A...);
        void** arguments;
    } call = {kernel, arguments};
    auto body = [](void* data) {
        Call* c = static_cast<Call*>(data);
        c->kernel(*static_cast<A*>(c->arguments[I])...);
    };
    blockDim = {unsigned(threads), 1, 1};
    gridDim = grid;
    for (unsigned i = 0; i < grid.x * grid.y; ++i) {
        unsigned at = reverse ? grid.x * grid.y - 1 - i : i;
        blockIdx = {at % grid.x, at / grid.x, 0};
        if (const char* fault = run_block(threads, reverse, body, &call)) return fault;
    }
    return nullptr;
}
template <class... A>
const char* launch(void (*kernel)(A...), void** arguments, Index grid, int threads, bool reverse) {
    return launch(kernel, arguments, grid, threads, reverse, std::index_sequence_for<A...>());
}

}  // namespace emulator

constexpr u32 kWholeWarp = 0xffffffffu;

inline u32 pack_half(float low, float high) { return emulator::half_of(low) | u32(emulator::half_of(high)) << 16; }
inline void unpack_half(u32 word, float& low, float& high) {
    low = emulator::float_of_half((unsigned short)word);
    high = emulator::float_of_half((unsigned short)(word >> 16));
}
inline u32 pack_bfloat(float low, float high) { return emulator::bfloat_of(low) | u32(emulator::bfloat_of(high)) << 16; }
inline void product_half(float* c, const u32* a, u32 b0, u32 b1) {
    emulator::product(1, c, a, b0, b1, emulator::float_of_half);
}
inline void product_bfloat(float* c, const u32* a, u32 b0, u32 b1) {
    emulator::product(2, c, a, b0, b1, emulator::float_of_bfloat);
}
template <int F, class T> inline void add_entry(T* at, const T* value) {
    for (int i = 0; i < F; ++i) at[i] += value[i];
}

}  // namespace nf

inline int __popc(unsigned x) { return __builtin_popcount(x); }
inline unsigned __float_as_uint(float x) {
    unsigned word;
    std::memcpy(&word, &x, 4);
    return word;
}
inline float __uint_as_float(unsigned word) {
    float x;
    std::memcpy(&x, &word, 4);
    return x;
}
template <class T> inline T atomicAdd(T* at, T value) {
    T before = *at;
    *at += value;
    return before;
}
inline unsigned long long atomicOr(unsigned long long* at, unsigned long long bits) {
    unsigned long long before = *at;
    *at |= bits;
    return before;
}
inline void __syncthreads() { nf::emulator::meet(nf::emulator::block->barrier, int(blockDim.x)); }
inline void __syncwarp() { nf::emulator::exchange(3, nullptr, 0); }
inline unsigned __ballot_sync(unsigned, bool vote) {
    unsigned long long word = vote;
    const nf::emulator::Slot* slots = nf::emulator::exchange(4, &word, 1);
    unsigned bits = 0;
    for (int lane = 0; lane < 32; ++lane) bits |= unsigned(slots[lane].word[0]) << lane;
    return bits;
}
template <class T> inline T __shfl_xor_sync(unsigned, T value, int other) {
    unsigned long long word = 0;
    std::memcpy(&word, &value, sizeof(T));
    const nf::emulator::Slot* slots = nf::emulator::exchange(6, &word, 1);
    std::memcpy(&value, &slots[(threadIdx.x & 31) ^ other].word[0], sizeof(T));
    return value;
}
template <class T> inline T __shfl_sync(unsigned, T value, int from) {
    unsigned long long word = 0;
    std::memcpy(&word, &value, sizeof(T));
    const nf::emulator::Slot* slots = nf::emulator::exchange(5, &word, 1);
    std::memcpy(&value, &slots[from].word[0], sizeof(T));
    return value;
}
