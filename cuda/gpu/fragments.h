// Rows of activations in a warp's registers, and their products with weights on the tensor cores.
//
// Vocabulary
//   tile     16 rows; a warp holds M of them          g = lane / 4, t = lane % 4
//   Rows     float, as products leave them: v[m][j][i] is row 16 m + g + 8 (i / 2), column 8 j + 2 t + i % 2
//   Operand  the same numbers as the next product takes them, 8 a lane for every 16 columns: element i of column tile k
//            is Rows' v[m][2 k + i / 4][i % 4]. Because the two layouts agree, activations never leave the registers.
//   weights  B[k][n] as words in the order in which lanes read them (`weight_word` says which is where)
//
// Arithmetic: Half (forward) and Bfloat (backward: the range of float, so that no loss needs scaling) multiply on the
// tensor cores and add in float; Float multiplies and adds in float, by shuffles, in the same layout.
#pragma once
#include "machine.h"

namespace nf {

NF_HD constexpr int padded16(int n) { return (n + 15) / 16 * 16; }

struct Half {
    using Element = unsigned short;
    static constexpr bool packed = true;
    static constexpr int words = 4;
    NF_DEVICE static u32 pack(float low, float high) { return pack_half(low, high); }
    NF_DEVICE static void unpack(u32 word, float& low, float& high) { unpack_half(word, low, high); }
    NF_DEVICE static void product(float* c, const u32* a, u32 b0, u32 b1) { product_half(c, a, b0, b1); }
};

struct Bfloat {
    using Element = unsigned short;
    static constexpr bool packed = true;
    static constexpr int words = 4;
    NF_DEVICE static u32 pack(float low, float high) { return pack_bfloat(low, high); }
    NF_DEVICE static void product(float* c, const u32* a, u32 b0, u32 b1) { product_bfloat(c, a, b0, b1); }
};

struct Float {
    using Element = float;
    static constexpr bool packed = false;
    static constexpr int words = 8;
};

template <int M, int N> struct Rows {
    float v[M][N / 8][4];
};

template <class A, int M, int K> struct Operand {
    u32 word[M][K / 16][A::words];
};

// Row within the warp's tiles, and column, of element i of column tile k.
NF_DEVICE int row_of(int m, int i) { return 16 * m + lane_of_warp() / 4 + 8 * (i % 4 / 2); }
NF_DEVICE int column_of(int k, int i) { return 16 * k + 8 * (i / 4) + 2 * (lane_of_warp() % 4) + i % 2; }

NF_DEVICE u32 word_of(float x) { return __float_as_uint(x); }

template <class A, int M, int K> NF_DEVICE void set_pair(Operand<A, M, K>& a, int m, int k, int pair, float x, float y) {
    if constexpr (A::packed) {
        a.word[m][k][pair] = A::pack(x, y);
    } else {
        a.word[m][k][2 * pair] = word_of(x);
        a.word[m][k][2 * pair + 1] = word_of(y);
    }
}

template <class A, int M, int K>
NF_DEVICE void get_pair(const Operand<A, M, K>& a, int m, int k, int pair, float& x, float& y) {
    if constexpr (A::packed) {
        A::unpack(a.word[m][k][pair], x, y);
    } else {
        x = __uint_as_float(a.word[m][k][2 * pair]);
        y = __uint_as_float(a.word[m][k][2 * pair + 1]);
    }
}

template <class A> NF_DEVICE typename A::Element element_of(float x) {
    if constexpr (A::packed) return typename A::Element(A::pack(x, 0.0f));
    else return x;
}

// Two neighbours in memory; the first at an even element.
template <class A> NF_DEVICE void put_neighbours(typename A::Element* at, float x, float y) {
    if constexpr (A::packed) {
        *reinterpret_cast<u32*>(at) = A::pack(x, y);
    } else {
        at[0] = x;
        at[1] = y;
    }
}

// Calls body(m, k, pair): pair p holds elements 2 p and 2 p + 1, neighbours in one row.
template <int M, int K, class F> NF_DEVICE void for_pairs(F&& body) {
    NF_UNROLL for (int m = 0; m < M; ++m)
        NF_UNROLL for (int k = 0; k < K / 16; ++k)
            NF_UNROLL for (int pair = 0; pair < 4; ++pair) body(m, k, pair);
}

template <class A, int M, int K> NF_DEVICE Operand<A, M, K> operand(const Rows<M, K>& rows) {
    Operand<A, M, K> a;
    for_pairs<M, K>([&](int m, int k, int pair) {
        const float* v = rows.v[m][2 * k + pair / 2] + 2 * (pair % 2);
        set_pair(a, m, k, pair, v[0], v[1]);
    });
    return a;
}

// Writes columns [kFrom, kFrom + K) of a wider operand.
template <int kFrom, class A, int M, int K, int W>
NF_DEVICE void put_columns(const Operand<A, M, K>& part, Operand<A, M, W>& whole) {
    NF_UNROLL for (int m = 0; m < M; ++m)
        NF_UNROLL for (int k = 0; k < K / 16; ++k)
            NF_UNROLL for (int w = 0; w < A::words; ++w) whole.word[m][k + kFrom / 16][w] = part.word[m][k][w];
}

// Memory of rows to an operand, pair by pair; `stride` elements a row, all K columns there and even-aligned.
template <class A, int M, int K>
NF_DEVICE void load_rows(const typename A::Element* rows, i64 stride, int count, Operand<A, M, K>& a) {
    for_pairs<M, K>([&](int m, int k, int pair) {
        int row = row_of(m, 2 * pair), column = column_of(k, 2 * pair);
        bool inside = row < count;
        const typename A::Element* at = rows + (inside ? row : 0) * stride + column;
        if constexpr (A::packed) {
            a.word[m][k][pair] = inside ? *reinterpret_cast<const u32*>(at) : 0u;
        } else {
            a.word[m][k][2 * pair] = inside ? word_of(at[0]) : 0u;
            a.word[m][k][2 * pair + 1] = inside ? word_of(at[1]) : 0u;
        }
    });
}

// Words of a packed matrix B[K][N], and what each of them holds: B[k][n], and B[k + 1][n] if words are pairs.
template <class A> NF_HD constexpr int weight_words(int K, int N) { return A::packed ? K * N / 2 : K * N; }
template <class A> NF_DEVICE void weight_word(int index, int N, int& k, int& n) {
    if constexpr (A::packed) {
        int half = index % 2, lane = index / 2 % 32, tile = index / 64;
        n = tile % (N / 8) * 8 + lane / 4;
        k = tile / (N / 8) * 16 + half * 8 + lane % 4 * 2;
    } else {
        k = index / N;
        n = index % N;
    }
}

// out += a B
template <class A, int M, int K, int N>
NF_DEVICE void multiply(const Operand<A, M, K>& a, const u32* weights, Rows<M, N>& out) {
    int lane = lane_of_warp();
    if constexpr (A::packed) {
        const uint2* pairs = reinterpret_cast<const uint2*>(weights) + lane;
        NF_UNROLL for (int k = 0; k < K / 16; ++k)
            NF_UNROLL for (int n = 0; n < N / 8; ++n) {
                uint2 b = pairs[(k * (N / 8) + n) * 32];
                NF_UNROLL for (int m = 0; m < M; ++m) A::product(out.v[m][n], a.word[m][k], b.x, b.y);
            }
    } else {
        const float2* pairs = reinterpret_cast<const float2*>(weights);
        // Column 8 h + 2 q + p of a column tile is element 4 h + p (for the lower rows 2 more) of lane 4 g + q.
        NF_ROLLED for (int q = 0; q < 4; ++q)
            NF_UNROLL for (int k = 0; k < K / 16; ++k)
            NF_UNROLL for (int i = 0; i < 4; ++i) {
                int element = 4 * (i / 2) + i % 2, from = (lane & ~3) | q, column = 16 * k + 8 * (i / 2) + 2 * q + i % 2;
                float upper[M], lower[M];
                NF_UNROLL for (int m = 0; m < M; ++m) {
                    upper[m] = __uint_as_float(__shfl_sync(kWholeWarp, a.word[m][k][element], from));
                    lower[m] = __uint_as_float(__shfl_sync(kWholeWarp, a.word[m][k][element + 2], from));
                }
                NF_UNROLL for (int n = 0; n < N / 8; ++n) {
                    float2 b = pairs[(column * N + 8 * n) / 2 + lane % 4];
                    NF_UNROLL for (int m = 0; m < M; ++m) {
                        out.v[m][n][0] += upper[m] * b.x;
                        out.v[m][n][1] += upper[m] * b.y;
                        out.v[m][n][2] += lower[m] * b.x;
                        out.v[m][n][3] += lower[m] * b.y;
                    }
                }
            }
    }
}

}  // namespace nf
