// The products of dense layers on a block of samples: rows of features whose lanes are samples.
//
//   multiply   out [rows, block] = weights [rows, inner] panel [inner, block]        forward, and gradients of inputs
//   outer      sum [rows, columns] += lines [rows, samples] columns [samples, columns]          gradients of weights
//
// A policy says what products read: here numbers of float or double; products_bf16.h has pairs of bfloat16. It turns
// rows [features, block] to a panel, to columns (samples first) and to lines (all samples of a tile one after another).
#pragma once
#include "gemm.h"
#include "shuffle.h"

namespace nf {
namespace NF_ISA {

constexpr int kBlock = 32;    // samples that go through all layers together: their features stay in L1
constexpr int kBlocks = 4;    // blocks of a tile, after which gradients of weights are summed
constexpr int kRowMultiple = 16;  // rows of a product's result are padded to it, and rows of a sum

constexpr i64 sum_row(int inputs) { return round_up(inputs, kRowMultiple); }

template <class T> struct LaneProducts {
    using Number = T;
    using Cell = T;   // of panels and columns
    using Line = T;   // of lines and packed weights
    using Weights = Matrix<T>;
    struct Session {};

    // 8 x 2 accumulators on 32 registers, 6 x 2 on 16.
    static constexpr int kHigh = NF_VECTOR_BYTES == 64 ? 8 : 6;

    static i64 weight_cells(int rows, int columns) { return i64(rows) * columns; }
    static i64 panel_cells(int) { return 0; }
    // Rows of columns are a cache line longer than a power of two may be: else they share few sets of the L1.
    static i64 column_row(int width) { return sum_row(width) + kRowMultiple; }
    static i64 column_cells(int width) { return kBlock * column_row(width); }
    static i64 line_cells(int width) { return i64(width) * kBlock * kBlocks; }

    // weights [rows, columns] as they are, or turned where their rows are strided: a product reads along them.
    static Weights pack(Matrix<T> weights, int rows, int columns, Line* to) {
        if (weights.column == 1) return weights;
        for (int r = 0; r < rows; ++r)
            for (int k = 0; k < columns; ++k) to[i64(r) * columns + k] = weights.data[r * weights.row + k * weights.column];
        return {to, columns, 1};
    }

    static const Cell* panel(const T* rows, int, Cell*) { return rows; }

    static void columns(const T* rows, int count, Cell* to) {
        using V = Lanes<T>;
        constexpr int W = kWidth<T>;
        for (int k = 0; k < count; k += W)
            for (int s = 0; s < kBlock; s += W) {
                V square[W];
                for (int i = 0; i < W; ++i) square[i] = k + i < count ? load<V>(rows + (k + i) * kBlock + s) : V{};
                transpose(square);
                for (int i = 0; i < W; ++i) store(to + (s + i) * column_row(count) + k, square[i]);
            }
    }

    static void lines(const T* rows, int count, int block, Line* to) {
        for (int i = 0; i < count; ++i)
            __builtin_memcpy(to + (i64(i) * kBlocks + block) * kBlock, rows + i * kBlock, kBlock * sizeof(T));
    }

    static void multiply(const Weights& weights, int rows, int inner, const Cell* panel, T* out) {
        product(weights, panel, kBlock, out, kBlock, rows, kBlock, inner, false);
    }

    static void outer(const Line* lines, const Cell* columns, int rows, int width, int samples, T* sum) {
        product({lines, kBlock * kBlocks, 1}, columns, column_row(width), sum, sum_row(width), rows, width, samples, true);
    }

  private:
    static void product(Matrix<T> a, const T* b, i64 b_row, T* c, i64 c_row, int rows, int width, int inner, bool add) {
        constexpr int W = kWidth<T>;
        auto strip = [&](auto vectors, int n) {
            for_row_blocks<kHigh>(rows, [&](auto count, int m) {
                gemm_block<T, decltype(count)::value, decltype(vectors)::value>(
                    {a.data + m * a.row, a.row, a.column}, b + n, b_row, c + m * c_row + n, c_row, inner, add);
            });
        };
        int n = 0;
        for (; n + W < width; n += 2 * W) strip(Count<2>(), n);
        if (n < width) strip(Count<1>(), n);
    }
};

}  // namespace NF_ISA
}  // namespace nf
