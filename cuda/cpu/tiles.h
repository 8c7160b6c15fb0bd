// Which blocks of which tiles an ellipse reaches, and the lists of tiles: each from front to back.
//
// Rows are sorted by depth once; then, in that order, each row's tiles are tested and the pairs that are left are
// counted into their tiles. Threads take stretches of the order, so the lists do not depend on how many there are.
#pragma once
#include "../blend.h"
#include "project.h"

namespace nf {
namespace NF_ISA {

constexpr int kMaxSplatThreads = 64;

inline Scratch& list_scratch() {
    static thread_local Scratch scratch;
    return scratch;
}

struct Tiles {
    int across, down, width, height;
    i64 count() const { return i64(across) * down; }
};
inline Tiles tiles_of(int width, int height) {
    return {(width + kTileSide - 1) / kTileSide, (height + kTileSide - 1) / kTileSide, width, height};
}

// Blocks of a tile in which the picture has pixels.
inline u32 blocks_in_picture(const Tiles& t, int x, int y) {
    int columns = min_((t.width - x * kTileSide + 3) / 4, 4), rows = min_((t.height - y * kTileSide + 3) / 4, 4);
    u32 row = (1u << columns) - 1, all = row | row << 4 | row << 8 | row << 12;
    return all & ((1u << 4 * rows) - 1);
}

// Bits of the blocks whose rectangle of pixel centres has a point with alpha >= 1/255; all sixteen at once in lanes.
template <class T> NF_HD u32 blocks_reached(const T* e, T cut, int tile_x, int tile_y, const Lanes<T>* block_x, const Lanes<T>* block_y) {
    using V = Lanes<T>;
    constexpr int W = kWidth<T>;
    T left = T(tile_x * kTileSide) + T(0.5) - e[0], top = T(tile_y * kTileSide) + T(0.5) - e[1];
    u32 bits = 0;
    for (int part = 0; part < kTileBlocks / W; ++part) {
        V x = block_x[part] + left, y = block_y[part] + top;
        V least = least_in_rectangle<V>(e[2], e[3], e[4], x, x + T(3), y, y + T(3));
        bits |= bits_ge(V{} + cut, least) << (part * W);
    }
    return bits;
}

// The rows in order of depth by their float's bits, least significant digit first; stable. Returns where they lie.
template <class T> i32* rows_by_depth(const ListArgs<T>& g, i64 rows, u32* keys, i32* order) {
    constexpr int kDigit = 11, kBins = 1 << kDigit;
    u32 *from = keys, *to = keys + rows, all = 0, first = 0;
    i32 *from_order = order, *to_order = order + rows;
    i64 n = 0;
    for (i64 chunk = 0; chunk < chunks_of(g.count); ++chunk)
        for (i64 row = chunk * kChunk, end = row + g.chunk_count[chunk]; row < end; ++row) {
            float depth = float(g.rows[kRow * row + kDepthAt]);
            __builtin_memcpy(&from[n], &depth, 4);
            if (!n) first = from[0];
            all |= from[n] ^ first;
            from_order[n++] = i32(row);
        }
    for (int shift = 0; shift < 32; shift += kDigit) {
        if (!(all >> shift & (kBins - 1))) continue;  // the same digit everywhere
        i32 places[kBins] = {};
        for (i64 i = 0; i < n; ++i) ++places[from[i] >> shift & (kBins - 1)];
        for (i32 bin = 0, sum = 0; bin < kBins; ++bin) {
            i32 here = places[bin];
            places[bin] = sum;
            sum += here;
        }
        for (i64 i = 0; i < n; ++i) {
            i32 place = places[from[i] >> shift & (kBins - 1)]++;
            to[place] = from[i];
            to_order[place] = from_order[i];
        }
        u32* swap = from; from = to; to = swap;
        i32* swap_order = from_order; from_order = to_order; to_order = swap_order;
    }
    return from_order;
}

struct Pair {
    i32 tile;
    TileEntry entry;
};

// The pairs of rows order[begin, end) in that order, and how many pairs and blocks each tile gets of them.
template <class T>
i64 find_pairs(const ListArgs<T>& g, const Tiles& t, const i32* order, i64 begin, i64 end, Pair* out, i32* tally, i32* blocks) {
    constexpr int W = kWidth<T>;
    Lanes<T> block_x[kTileBlocks / W], block_y[kTileBlocks / W];
    for (int i = 0; i < kTileBlocks; ++i) {
        block_x[i / W][i % W] = T(4 * (i & 3));
        block_y[i / W][i % W] = T(4 * (i >> 2));
    }
    i64 found = 0;
    for (i64 i = begin; i < end; ++i) {
        __builtin_prefetch(g.rows + kRow * i64(order[min_(i + 8, end - 1)]));
        i64 row = order[i];
        const T* e = g.rows + kRow * row;
        T cut = 2 * (e[5] + T(kLogLeastAlpha));
        int x0, y0, wide = tiles_within(e[0], e[kReachAt], t.width, x0), high = tiles_within(e[1], e[kReachAt + 1], t.height, y0);
        i32 n = 0;
        for (int y = y0; y < y0 + high; ++y)
            for (int x = x0; x < x0 + wide; ++x) {
                u32 bits = blocks_reached(e, cut, x, y, block_x, block_y) & blocks_in_picture(t, x, y);
                if (!bits) continue;
                i32 tile = y * t.across + x;
                out[found++] = {tile, {i32(row), g.slot[row] + n++, i32(bits)}};
                ++tally[tile];
                blocks[tile] += __builtin_popcount(bits);
            }
        g.pairs[row] = n;
    }
    return found;
}

template <class T> void op_lists(const ListArgs<T>& g) {
    Tiles t = tiles_of(g.width, g.height);
    i64 rows = 0, tiles = t.count();
    for (i64 chunk = 0; chunk < chunks_of(g.count); ++chunk) rows += g.chunk_count[chunk];
    int threads = rows < 2048 ? 1 : min_(g.threads, kMaxSplatThreads);
    Scratch& scratch = list_scratch();
    scratch.reset(size_t(rows) * 16 + size_t(g.slots) * sizeof(Pair) + size_t(threads) * tiles * 8 + 8192);
    u32* keys = scratch.take<u32>(2 * rows);
    i32* order = rows_by_depth(g, rows, keys, scratch.take<i32>(2 * rows));
    Pair* pairs = scratch.take<Pair>(g.slots);
    i32* tallies = scratch.take<i32>(2 * threads * tiles);
    i64 first[kMaxSplatThreads + 1] = {}, found[kMaxSplatThreads] = {};
#pragma omp parallel num_threads(threads)
    {
        int me = omp_get_thread_num(), all = omp_get_num_threads();
        i64 begin = rows * me / all, end = rows * (me + 1) / all, room = 0;
        i32 *tally = tallies + 2 * me * tiles, *blocks = tally + tiles;
        for (i64 i = 0; i < 2 * tiles; ++i) tally[i] = 0;
        for (i64 i = begin; i < end; ++i) {
            const T* e = g.rows + kRow * i64(order[i]);
            int unused;
            room += i64(tiles_within(e[0], e[kReachAt], t.width, unused)) * tiles_within(e[1], e[kReachAt + 1], t.height, unused);
        }
        first[me + 1] = room;
#pragma omp barrier
#pragma omp single
        for (int i = 0; i < all; ++i) first[i + 1] += first[i];
        found[me] = find_pairs(g, t, order, begin, end, pairs + first[me], tally, blocks);
#pragma omp barrier
#pragma omp single
        {
            i32 entries = 0, masks = 0;
            for (i64 tile = 0; tile < tiles; ++tile) {
                g.tile_offset[tile] = entries;
                g.block_offset[tile] = masks;
                for (int i = 0; i < all; ++i) {
                    i32* counts = tallies + 2 * i * tiles;
                    masks += counts[tiles + tile];
                    i32 here = counts[tile];
                    counts[tile] = entries;
                    entries += here;
                }
            }
            g.tile_offset[tiles] = entries;
            g.block_offset[tiles] = masks;
        }
        const Pair* mine = pairs + first[me];
        for (i64 i = 0; i < found[me]; ++i) g.entries[tally[mine[i].tile]++] = mine[i].entry;
    }
}

}  // namespace NF_ISA
}  // namespace nf
