// Which Gaussians a tile has to blend, from front to back. Compiled for NF_SCALAR.
//
// Each row writes its pairs into slots of its own, with tile and depth as one key; the caller sorts the keys (stably:
// of two at one depth the first row comes first), and what the order means is written down.
#include "splat.h"
#include "../blend.h"

using namespace nf;
using T = NF_SCALAR;

// The bits of a depth that is not below 0 are in the order of depths.
NF_DEVICE i64 key_of(i64 tile, i32 depth) { return tile << 32 | i64(u32(depth)); }

// A warp does a row: half of it a tile at a time, a lane a block of 4x4 pixels. Slots beyond its pairs keep their keys.
NF_KERNEL splat_pairs(const T* rows, const i32* chunk_count, const i32* slot, const i32* depth, i64 count, i64 width,
                      i64 height, i64* keys, i32* pair_row, i32* pair_blocks, i32* pairs) {
    const i64 row = global_thread() / 32;
    if (row >= count || row % kChunk >= chunk_count[row / kChunk]) return;
    const Tiles t = tiles_of(int(width), int(height));
    T e[kRow];
    load_row<kRow>(rows + kRow * row, e);
    const Quadratic<T> q = quadratic_of(e);
    const T cut = 2 * (e[5] + T(kLogLeastAlpha));
    const int across = int(e[kTilesAt]), down = int(e[kTilesAt + 1]), columns = across / kTileCount;
    const int tiles = columns * (down / kTileCount), half = lane_of_warp() / 16, block = lane_of_warp() % 16;
    i32 n = 0;
    for (int first = 0; first < tiles; first += 2) {
        const int at = min_(first + half, tiles - 1);
        const int x = across % kTileCount + at % columns, y = down % kTileCount + at / columns;
        const T left = T(x * kTileSide + 4 * (block & 3)) + T(0.5) - e[0];
        const T top = T(y * kTileSide + 4 * (block >> 2)) + T(0.5) - e[1];
        bool reached = least_in_rectangle(q, left, left + T(3), top, top + T(3)) <= cut;
        reached = reached && first + half < tiles && (blocks_in_picture(t, x, y) >> block & 1);
        const u32 vote = __ballot_sync(kWholeWarp, reached), low = vote & 0xffffu, high = vote >> 16;
        const u32 own = half ? high : low;
        if (block == 0 && own) {
            const i64 place = i64(slot[row]) + n + (half && low ? 1 : 0);
            keys[place] = key_of(i64(y) * t.across + x, depth[row]);
            pair_row[place] = i32(row);
            pair_blocks[place] = i32(own);
        }
        n += (low != 0) + (high != 0);
    }
    if (lane_of_warp() == 0) pairs[row] = n;
}

// The tile of a sorted key: that behind the last for a slot without a pair.
NF_DEVICE i64 tile_of(const i64* keys, i64 place, i64 slots, i64 tiles) {
    return place < 0 ? -1 : place >= slots ? tiles : min_<i64>(keys[place] >> 32, tiles);
}

// A thread does a place of the order, and one the end behind it.
NF_KERNEL splat_entries(const i64* keys, const i64* order, const i32* pair_row, const i32* pair_blocks, i64 slots,
                        i64 tiles, TileEntry* entries, i32* tile_offset) {
    const i64 place = global_thread();
    if (place > slots) return;
    const i64 tile = tile_of(keys, place, slots, tiles);
    for (i64 t = tile_of(keys, place - 1, slots, tiles) + 1; t <= tile; ++t) tile_offset[t] = i32(place);
    if (tile == tiles) return;
    const i64 from = order[place];
    entries[place] = {pair_row[from], i32(from), pair_blocks[from]};
}
