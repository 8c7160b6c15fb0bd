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

// Bits of the blocks whose rectangle of pixel centres has a point with alpha >= 1/255; all sixteen at once in lanes.
template <class T>
NF_HD u32 blocks_reached(const Quadratic<T>& q, T cut, T left, T top, const Lanes<T>* block_x,
                         const Lanes<T>* block_y) {
    using V = Lanes<T>;
    constexpr int W = kWidth<T>;
    u32 bits = 0;
    for (int part = 0; part < kTileBlocks / W; ++part) {
        V x = block_x[part] + left, y = block_y[part] + top;
        bits |= bits_ge(V{} + cut, least_in_rectangle<V>(q, x, x + T(3), y, y + T(3))) << (part * W);
    }
    return bits;
}

// The rows in order of depth, by 22 bits of what their floats' bits range over (a part in a million of the depth where
// it spans a factor of eight), rows of the same in the order of Gaussians. Returns where they lie.
template <class T> i32* rows_by_depth(const ListArgs<T>& g, i64 rows, u32* keys, i32* order) {
    constexpr int kDigit = 11, kBins = 1 << kDigit;
    u32 least = ~0u, most = 0;
    i64 n = 0;
    for (i64 chunk = 0; chunk < chunks_of(g.count); ++chunk)
        for (i64 row = chunk * kChunk, end = row + g.chunk_count[chunk]; row < end; ++row) {
            u32 key = u32(g.key[row]);
            least = min_(least, key);
            most = max_(most, key);
            keys[n] = key;
            order[n++] = i32(row);
        }
    int shift = 0;
    while (n && (most - least) >> shift >> (2 * kDigit)) ++shift;
    i32 low[kBins] = {}, high[kBins] = {}, low_sum = 0, high_sum = 0;
    for (i64 i = 0; i < n; ++i) {
        keys[i] = (keys[i] - least) >> shift;
        ++low[keys[i] & (kBins - 1)];
        ++high[keys[i] >> kDigit];
    }
    for (int bin = 0; bin < kBins; ++bin) {
        i32 a = low[bin], b = high[bin];
        low[bin] = low_sum;
        high[bin] = high_sum;
        low_sum += a;
        high_sum += b;
    }
    u32* sorted_keys = keys + rows;
    i32* sorted = order + rows;
    for (i64 i = 0; i < n; ++i) {
        i32 place = low[keys[i] & (kBins - 1)]++;
        sorted_keys[place] = keys[i];
        sorted[place] = order[i];
    }
    for (i64 i = 0; i < n; ++i) order[high[sorted_keys[i] >> kDigit]++] = sorted[i];
    return order;
}

struct Pair {
    i32 tile;
    TileEntry entry;
};

// The pairs of rows order[begin, end) in that order, and how many pairs and blocks each tile gets of them.
template <class T>
i64 find_pairs(const ListArgs<T>& g, const Tiles& t, const i32* order, i64 begin, i64 end, Pair* out, i32* tally,
               i32* blocks) {
    constexpr int W = kWidth<T>;
    Lanes<T> block_x[kTileBlocks / W], block_y[kTileBlocks / W];
    for (int i = 0; i < kTileBlocks; ++i) {
        block_x[i / W][i % W] = T(4 * (i & 3));
        block_y[i / W][i % W] = T(4 * (i >> 2));
    }
    i64 found = 0;
    for (i64 i = begin; i < end; ++i) {
        i64 ahead = order[min_(i + 12, end - 1)];
        __builtin_prefetch(g.rows + kRow * ahead);
        __builtin_prefetch(g.slot + ahead);
        __builtin_prefetch(g.pairs + ahead, 1);
        i64 row = order[i];
        const T* e = g.rows + kRow * row;
        const Quadratic<T> q = quadratic_of(e);
        T cut = 2 * (e[5] + T(kLogLeastAlpha));
        const int across = int(e[kTilesAt]), down = int(e[kTilesAt + 1]);
        const int x0 = across % kTileCount, x1 = x0 + across / kTileCount, y0 = down % kTileCount,
                  y1 = y0 + down / kTileCount;
        i32 n = 0, slot = g.slot[row];
        for (int y = y0; y < y1; ++y)
            for (int x = x0; x < x1; ++x) {
                u32 bits = blocks_reached(q, cut, T(x * kTileSide) + T(0.5) - e[0], T(y * kTileSide) + T(0.5) - e[1],
                                          block_x, block_y);
                bits &= blocks_in_picture(t, x, y);
                if (!bits) continue;
                i32 tile = y * t.across + x;
                out[found++] = {tile, {i32(row), slot + n++, i32(bits)}};
                ++tally[tile];
                blocks[tile] += __builtin_popcount(bits);
            }
        g.pairs[row] = n;
    }
    return found;
}

template <class T> void op_splat_lists(const ListArgs<T>& g) {
    Tiles t = tiles_of(g.width, g.height);
    i64 rows = 0, tiles = t.count();
    for (i64 chunk = 0; chunk < chunks_of(g.count); ++chunk) rows += g.chunk_count[chunk];
    int threads = rows < 2048 ? 1 : min_(g.threads, kMaxSplatThreads);
    Scratch& scratch = list_scratch();
    scratch.reset(size_t(rows) * 16 + size_t(threads) * g.slots * sizeof(Pair) + size_t(threads) * tiles * 8 + 8192);
    u32* keys = scratch.take<u32>(2 * rows);
    i32* order = rows_by_depth(g, rows, keys, scratch.take<i32>(2 * rows));
    Pair* pairs = scratch.take<Pair>(threads * g.slots);
    i32* tallies = scratch.take<i32>(2 * threads * tiles);
#pragma omp parallel num_threads(threads)
    {
        int me = omp_get_thread_num(), all = omp_get_num_threads();
        i64 begin = rows * me / all, end = rows * (me + 1) / all;
        i32 *tally = tallies + 2 * me * tiles, *blocks = tally + tiles;
        for (i64 i = 0; i < 2 * tiles; ++i) tally[i] = 0;
        Pair* mine = pairs + me * g.slots;  // room for the worst case, which is not touched
        i64 found = find_pairs(g, t, order, begin, end, mine, tally, blocks);
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
        for (i64 i = 0; i < found; ++i) {
            __builtin_prefetch(g.entries + tally[mine[min_(i + 8, found - 1)].tile], 1);
            g.entries[tally[mine[i].tile]++] = mine[i].entry;
        }
    }
}

}  // namespace NF_ISA
}  // namespace nf
