// Products of bfloat16 with float32 sums: by tiles (AMX) or by lanes (AVX-512 BF16). Rounded to the nearest even.
//
// A cell is a pair of numbers that are multiplied together: of a panel two features of a sample, of columns two samples
// of a feature. Both machines take the same cells, lines and weights, and differ in the order of their sums alone.
#pragma once
#include "products.h"

namespace nf {
namespace NF_ISA {

// 32 numbers, the first 16 of them in the lower half.
inline __m512i bf16_of(__m512 first, __m512 second) { return (__m512i)_mm512_cvtne2ps_pbh(second, first); }
// 16 numbers, each in the lower half of 32 bits. (The forms without a mask make GCC 12 warn of its own headers.)
inline __m512i widened(__m512 x) { return _mm512_maskz_cvtepu16_epi32(0xffff, (__m256i)_mm512_cvtneps_pbh(x)); }
// Pairs (low, high) of two rows of 16 numbers.
inline __m512i pairs_of(__m512 low, __m512 high) {
    __m512i upper = _mm512_maskz_slli_epi32(0xffff, widened(high), 16);
    return _mm512_or_si512(widened(low), upper);
}

// GCC takes the instructions of tiles for ones that read no memory: what they read must be there, written out.
NF_HD void written_out() { asm volatile("" ::: "memory"); }

// The shape of all eight tile registers: 16 rows of 64 bytes. A constant, since GCC drops stores to a local one.
struct alignas(64) TileShape {
    unsigned char palette = 1, start = 0, none[14] = {};
    unsigned short bytes[16] = {64, 64, 64, 64, 64, 64, 64, 64};
    unsigned char rows[16] = {16, 16, 16, 16, 16, 16, 16, 16};
};
static_assert(sizeof(TileShape) == 64, "as ldtilecfg reads it");
static const TileShape kTileShape;

struct TileRegisters {
    TileRegisters() {
        written_out();
        _tile_loadconfig(&kTileShape);
    }
    ~TileRegisters() { _tile_release(); }
};
struct NoTiles {};
template <bool kTiles> struct SessionOf { using Type = NoTiles; };
template <> struct SessionOf<true> { using Type = TileRegisters; };

template <bool kTiles> struct Bf16Products {
    using Number = float;
    using Cell = u32;
    using Line = unsigned short;
    struct Weights {
        const Line* data;
        i64 row;
    };
    using Session = typename SessionOf<kTiles>::Type;
    static constexpr int kSamples = kBlock * kBlocks;

    static i64 weight_cells(int rows, int columns) { return i64(round_up(rows, 16)) * round_up(columns, 32); }
    static i64 panel_cells(int rows) { return i64(round_up(rows, 32)) / 2 * kBlock; }
    static i64 column_cells(int width) { return kBlock / 2 * sum_row(width); }
    static i64 line_cells(int width) { return i64(round_up(width, 16)) * kSamples; }

    static Weights pack(Matrix<float> weights, int rows, int columns, Line* to) {
        i64 row = round_up(columns, 32);
        for (int r = 0; r < round_up(rows, 16); ++r)
            for (i64 k = 0; k < row; k += 16) {
                float copy[16];
                const float* values = weights.data + r * weights.row + k;
                if (weights.column != 1 || r >= rows || k + 16 > columns) {
                    for (int i = 0; i < 16; ++i)
                        copy[i] = r < rows && k + i < columns ? weights.data[r * weights.row + (k + i) * weights.column] : 0;
                    values = copy;
                }
                _mm256_storeu_si256((__m256i*)(to + r * row + k), (__m256i)_mm512_cvtneps_pbh(_mm512_loadu_ps(values)));
            }
        return {to, row};
    }

    static const Cell* panel(const float* rows, int count, Cell* to) {
        for (int k = 0; k < round_up(count, 32); k += 2)
            for (int s = 0; s < kBlock; s += 16) {
                __m512 low = k < count ? _mm512_loadu_ps(rows + k * kBlock + s) : _mm512_setzero_ps();
                __m512 high = k + 1 < count ? _mm512_loadu_ps(rows + (k + 1) * kBlock + s) : _mm512_setzero_ps();
                _mm512_storeu_si512(to + k / 2 * kBlock + s, pairs_of(low, high));
            }
        return to;
    }

    static void columns(const float* rows, int count, Cell* to) {
        for (int k = 0; k < count; k += 16) {
            FloatLanes square[16];
            for (int i = 0; i < 16; ++i) {
                const float* row = rows + (k + i) * kBlock;
                square[i] = k + i < count ? (FloatLanes)bf16_of(_mm512_loadu_ps(row), _mm512_loadu_ps(row + 16)) : FloatLanes{};
            }
            transpose(square);
            for (int i = 0; i < 16; ++i) _mm512_storeu_si512(to + i * sum_row(count) + k, (__m512i)square[i]);
        }
    }

    static void lines(const float* rows, int count, int block, Line* to) {
        for (int i = 0; i < round_up(count, 16); ++i) {
            const float* row = rows + i * kBlock;
            __m512i line = i < count ? bf16_of(_mm512_loadu_ps(row), _mm512_loadu_ps(row + 16)) : _mm512_setzero_si512();
            _mm512_storeu_si512(to + i64(i) * kSamples + block * kBlock, line);
        }
    }

    static void multiply(const Weights& weights, int rows, int inner, const Cell* panel, float* out) {
        for (int m = 0; m < rows; m += 32) {
            const Line* a = weights.data + m * weights.row;
            if constexpr (!kTiles) {
                for (int part = m; part < min_(m + 32, rows); part += 8)
                    by_lanes<8>(weights.data + part * weights.row, weights.row, panel, kBlock, out + part * kBlock, kBlock,
                                round_up(inner, 32) / 2, false);
            } else if (m + 16 < rows) {
                by_tiles<true, true>(a, weights.row, panel, kBlock, out + m * kBlock, kBlock, round_up(inner, 32), false);
            } else {
                by_tiles<false, true>(a, weights.row, panel, kBlock, out + m * kBlock, kBlock, round_up(inner, 32), false);
            }
        }
    }

    static void outer(const Line* lines, const Cell* columns, int rows, int width, int samples, float* sum) {
        i64 row = sum_row(width);
        for (int k = 0; k < row; k += 32)
            for (int n = 0; n < rows; n += 32) {
                const Line* a = lines + i64(n) * kSamples;
                float* c = sum + n * row + k;
                bool two = k + 16 < row;
                if constexpr (!kTiles) {
                    for (int part = 0; part < min_(32, round_up(rows, 16) - n); part += 8)
                        two ? by_lanes<8>(a + part * kSamples, kSamples, columns + k, row, c + part * row, row, samples / 2, true)
                            : by_lanes<8, 1>(a + part * kSamples, kSamples, columns + k, row, c + part * row, row, samples / 2, true);
                } else if (n + 16 < rows) {
                    two ? by_tiles<true, true>(a, kSamples, columns + k, row, c, row, samples, true)
                        : by_tiles<true, false>(a, kSamples, columns + k, row, c, row, samples, true);
                } else {
                    two ? by_tiles<false, true>(a, kSamples, columns + k, row, c, row, samples, true)
                        : by_tiles<false, false>(a, kSamples, columns + k, row, c, row, samples, true);
                }
            }
    }

  private:
    // c [16 or 32, 16 or 32] (+)= a [.., inner] b [inner / 2 pairs, ..]; kLow: 32 rows, kWide: 32 columns.
    template <bool kLow, bool kWide>
    static void by_tiles(const Line* a, i64 a_row, const Cell* b, i64 b_row, float* c, i64 c_row, int inner, bool add) {
        written_out();
        if (add) {
            _tile_loadd(0, c, c_row * 4);
            if (kWide) _tile_loadd(1, c + 16, c_row * 4);
            if (kLow) _tile_loadd(2, c + 16 * c_row, c_row * 4);
            if (kLow && kWide) _tile_loadd(3, c + 16 * c_row + 16, c_row * 4);
        } else {
            _tile_zero(0);
            if (kWide) _tile_zero(1);
            if (kLow) _tile_zero(2);
            if (kLow && kWide) _tile_zero(3);
        }
        for (int k = 0; k < inner; k += 32) {
            _tile_loadd(4, a + k, a_row * 2);
            _tile_loadd(6, b + k / 2 * b_row, b_row * 4);
            _tile_dpbf16ps(0, 4, 6);
            if (kWide) _tile_loadd(7, b + k / 2 * b_row + 16, b_row * 4);
            if (kWide) _tile_dpbf16ps(1, 4, 7);
            if (kLow) _tile_loadd(5, a + 16 * a_row + k, a_row * 2);
            if (kLow) _tile_dpbf16ps(2, 5, 6);
            if (kLow && kWide) _tile_dpbf16ps(3, 5, 7);
        }
        _tile_stored(0, c, c_row * 4);
        if (kWide) _tile_stored(1, c + 16, c_row * 4);
        if (kLow) _tile_stored(2, c + 16 * c_row, c_row * 4);
        if (kLow && kWide) _tile_stored(3, c + 16 * c_row + 16, c_row * 4);
        written_out();
    }

    template <int M, int N = 2>
    static void by_lanes(const Line* a, i64 a_row, const Cell* b, i64 b_row, float* c, i64 c_row, int pairs, bool add) {
        __m512 sum[M][N];
#pragma GCC unroll 8
        for (int m = 0; m < M; ++m)
#pragma GCC unroll 2
            for (int n = 0; n < N; ++n) sum[m][n] = add ? _mm512_loadu_ps(c + m * c_row + 16 * n) : _mm512_setzero_ps();
        for (int k = 0; k < pairs; ++k) {
            __m512bh row[N];
#pragma GCC unroll 2
            for (int n = 0; n < N; ++n) row[n] = (__m512bh)_mm512_loadu_si512(b + k * b_row + 16 * n);
#pragma GCC unroll 8
            for (int m = 0; m < M; ++m) {
                i32 pair;
                __builtin_memcpy(&pair, a + m * a_row + 2 * k, 4);
                __m512bh both = (__m512bh)_mm512_set1_epi32(pair);
#pragma GCC unroll 2
                for (int n = 0; n < N; ++n) sum[m][n] = _mm512_dpbf16_ps(sum[m][n], both, row[n]);
            }
        }
#pragma GCC unroll 8
        for (int m = 0; m < M; ++m)
#pragma GCC unroll 2
            for (int n = 0; n < N; ++n) _mm512_storeu_ps(c + m * c_row + 16 * n, sum[m][n]);
    }
};

}  // namespace NF_ISA
}  // namespace nf
