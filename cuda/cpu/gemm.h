// C[m][n] (+)= sum_k A[m][k] * B[k][n] on tiles that stay in L1/L2: the one loop that all layers are made of.
//
// A is read one scalar at a time with free strides (so the same loop serves A and its transpose), B and C by lanes
// along n. Rows of B and C are padded to whole lanes. A block of kRows x 2 accumulators stays in registers.
#pragma once
#include "lanes.h"

namespace nf {
namespace NF_ISA {

constexpr int kRows = NF_VECTOR_BYTES == 64 ? 8 : 4;

template <class T> struct Matrix {
    const T* data;
    i64 row, column;  // strides
};

template <class T, int M, int N>
NF_HD void gemm_block(Matrix<T> a, const T* b, i64 b_row, T* c, i64 c_row, int inner, bool accumulate) {
    using V = Lanes<T>;
    constexpr int W = kWidth<T>;
    V sum[M][N];
#pragma GCC unroll 8
    for (int m = 0; m < M; ++m)
#pragma GCC unroll 2
        for (int n = 0; n < N; ++n) sum[m][n] = accumulate ? load<V>(c + m * c_row + n * W) : V{};
    for (int k = 0; k < inner; ++k) {
        V row[N];
#pragma GCC unroll 2
        for (int n = 0; n < N; ++n) row[n] = load<V>(b + k * b_row + n * W);
#pragma GCC unroll 8
        for (int m = 0; m < M; ++m) {
            V scalar = V{} + a.data[m * a.row + k * a.column];
#pragma GCC unroll 2
            for (int n = 0; n < N; ++n) sum[m][n] += scalar * row[n];
        }
    }
#pragma GCC unroll 8
    for (int m = 0; m < M; ++m)
#pragma GCC unroll 2
        for (int n = 0; n < N; ++n) store(c + m * c_row + n * W, sum[m][n]);
}

template <int N> struct Count { static constexpr int value = N; };

// block(Count<M>, m) for blocks of M rows from row m on: whole ones, then what is left by halves.
template <int kMost, class Block> NF_HD void for_row_blocks(int rows, Block block) {
    int m = 0;
    for (; m + kMost <= rows; m += kMost) block(Count<kMost>(), m);
    auto rest = [&](auto count) {
        if (count.value >= kMost || m + count.value > rows) return;
        block(count, m);
        m += count.value;
    };
    rest(Count<4>());
    rest(Count<2>());
    rest(Count<1>());
}

template <class T, int N>
inline void gemm_columns(Matrix<T> a, const T* b, i64 b_row, T* c, i64 c_row, int rows, int inner, bool accumulate) {
    for_row_blocks<kRows>(rows, [&](auto count, int m) {
        constexpr int M = decltype(count)::value;
        gemm_block<T, M, N>({a.data + m * a.row, a.row, a.column}, b, b_row, c + m * c_row, c_row, inner, accumulate);
    });
}

// `columns` is rounded up to whole lanes: b and c rows must be padded.
template <class T>
inline void gemm(Matrix<T> a, const T* b, i64 b_row, T* c, i64 c_row, int rows, int columns, int inner,
                 bool accumulate) {
    constexpr int W = kWidth<T>;
    int n = 0;
    for (; n + W < columns; n += 2 * W) gemm_columns<T, 2>(a, b + n, b_row, c + n, c_row, rows, inner, accumulate);
    if (n < columns) gemm_columns<T, 1>(a, b + n, b_row, c + n, c_row, rows, inner, accumulate);
}

}  // namespace NF_ISA
}  // namespace nf
