// Blending by tiles: a thread owns a tile, lanes are the pixels of a block of 4x4, the state of a tile stays in L1.
//
// Forward walks a tile's list once and stores, for each pair, the blocks that count and for each of those the pixels
// that count: backward reads them and decides nothing anew.
#pragma once
#include "tiles.h"

namespace nf {
namespace NF_ISA {

// What is blended beside colour.
constexpr int kColourOnly = 0, kWithDepth = 1, kWithNormal = 2;
constexpr int channels_of(int level) { return level == kColourOnly ? 3 : level == kWithDepth ? 4 : 7; }
constexpr int kTilePixels = kTileBlocks * kTileBlockPixels;

// A tile in lanes: pixel 16 * block + 4 * y + x of the block.
template <class T> struct TilePlace {
    int x, y;             // of the tile's first pixel
    u32 blocks;           // in the picture
    T pixel_x[kTilePixels / kTileBlocks], pixel_y[kTilePixels / kTileBlocks];  // centres within the first block
    TilePlace(const Tiles& t, i64 tile)
        : x(int(tile % t.across) * kTileSide), y(int(tile / t.across) * kTileSide),
          blocks(blocks_in_picture(t, x / kTileSide, y / kTileSide)) {
        for (int i = 0; i < kTileBlockPixels; ++i) {
            pixel_x[i] = T(x) + T(i & 3) + T(0.5);
            pixel_y[i] = T(y) + T(i >> 2) + T(0.5);
        }
    }
};

// f(place in the tile, place in the picture) for every pixel of a tile that the picture has.
template <class F> NF_HD void for_pixels(const Tiles& t, int tile_x, int tile_y, F f) {
    int columns = min_(kTileSide, t.width - tile_x), rows = min_(kTileSide, t.height - tile_y);
    for (int y = 0; y < rows; ++y) {
        i64 line = i64(tile_y + y) * t.width + tile_x;
        int at = (y >> 2) * 64 + (y & 3) * 4;
        for (int x = 0; x < columns; ++x) f(at + (x >> 2) * kTileBlockPixels + (x & 3), line + x);
    }
}

template <class T, int kLevel> struct alignas(64) TileState {
    T transmittance[kTilePixels], sums[channels_of(kLevel)][kTilePixels];
};

template <class T, int kLevel, bool kImportance> void blend_tile(const BlendArgs<T>& g, const Tiles& t, i64 tile) {
    using V = Lanes<T>;
    constexpr int W = kWidth<T>, kParts = kTileBlockPixels / W, kChannels = channels_of(kLevel);
    TilePlace<T> place(t, tile);
    TileState<T, kLevel> s;
    for (int i = 0; i < kTilePixels; ++i) s.transmittance[i] = 0;
    for (int c = 0; c < kChannels; ++c)
        for (int i = 0; i < kTilePixels; ++i) s.sums[c][i] = 0;
    for_pixels(t, place.x, place.y, [&](int at, i64) { s.transmittance[at] = 1; });
    V px[kParts], py[kParts];
    for (int p = 0; p < kParts; ++p) px[p] = load<V>(place.pixel_x + p * W), py[p] = load<V>(place.pixel_y + p * W);
    const V opaque = V{} + T(kLeastTransmittance), least = V{} + T(kLog2LeastAlpha);
    u32 alive = place.blocks;
    unsigned short* pixels = g.pixels + g.block_offset[tile];
    i32 e = g.tile_offset[tile], end = g.tile_offset[tile + 1], begin = e;
    for (; e < end && alive; ++e) {
        __builtin_prefetch(g.rows + kRow * i64(g.entries[min_(e + 6, end - 1)].row));
        const TileEntry entry = g.entries[e];
        const T* row = g.rows + kRow * i64(entry.row);
        const Falloff<T> f = falloff_of(row);
        u32 counted = 0;
        V weights{};
        for (u32 blocks = u32(entry.blocks) & alive; blocks; blocks &= blocks - 1) {
            int block = __builtin_ctz(blocks), at = block * kTileBlockPixels;
            T shift_x = T(4 * (block & 3)) - f.x, shift_y = T(4 * (block >> 2)) - f.y;
            u32 mask = 0, open = 0;
#pragma GCC unroll 8
            for (int p = 0; p < kParts; ++p) {
                V light = load<V>(s.transmittance + at + p * W);
                V power = log2_alpha(f, px[p] + shift_x, py[p] + shift_y);
                u32 unlit = bits_ge(light, opaque), bits = bits_ge(power, least) & unlit;
                open |= unlit;
                if (!bits) continue;
                mask |= bits << (p * W);
                V alpha = kept(bits, min_(exp2_(power), V{} + T(kMostAlpha)));
                V weight = take_light(alpha, light);
                store(s.transmittance + at + p * W, light);
                for (int c = 0; c < kChannels; ++c)
                    store(s.sums[c] + at + p * W, load<V>(s.sums[c] + at + p * W) + weight * row[kColourAt + c]);
                if (kImportance) weights += weight;
            }
            if (!open) alive &= ~(1u << block);
            if (!mask) continue;
            counted |= 1u << block;
            *pixels++ = static_cast<unsigned short>(mask);
        }
        g.seen[e] = static_cast<unsigned short>(counted);
        if (kImportance) g.weight_slots[entry.slot] = counted ? sum_of(weights) : T(0);
    }
    g.visited[tile] = e - begin;
    if (kImportance)
        for (; e < end; ++e) g.weight_slots[g.entries[e].slot] = 0;
    for_pixels(t, place.x, place.y, [&](int at, i64 pixel) {
        for (int c = 0; c < 3; ++c) g.rgb[3 * pixel + c] = s.sums[c][at] + s.transmittance[at] * g.background[c];
        g.opacity[pixel] = 1 - s.transmittance[at];
        if constexpr (kLevel >= kWithDepth) g.depth[pixel] = s.sums[3][at];
        if constexpr (kLevel >= kWithNormal)
            for (int c = 0; c < 3; ++c) g.normal[3 * pixel + c] = s.sums[4 + c][at];
    });
}

template <class T, bool kImportance> void blend_tile_of_level(const BlendArgs<T>& g, const Tiles& t, i64 tile) {
    if (g.normal) blend_tile<T, kWithNormal, kImportance>(g, t, tile);
    else if (g.depth) blend_tile<T, kWithDepth, kImportance>(g, t, tile);
    else blend_tile<T, kColourOnly, kImportance>(g, t, tile);
}

template <class T> void op_blend(const BlendArgs<T>& g) {
    Tiles t = tiles_of(g.width, g.height);
#pragma omp parallel num_threads(t.count() < 8 ? 1 : g.threads)
    {
#pragma omp for schedule(dynamic, 2)
        for (i64 tile = 0; tile < t.count(); ++tile) {
            if (g.importance) blend_tile_of_level<T, true>(g, t, tile);
            else blend_tile_of_level<T, false>(g, t, tile);
        }
        if (g.importance) {
#pragma omp for schedule(static)
            for (i64 row = 0; row < g.count; ++row) {
                if (g.ids[row] < 0) continue;
                T sum = 0;
                for (i32 i = 0; i < g.pairs[row]; ++i) sum += g.weight_slots[g.slot[row] + i];
                g.importance[g.ids[row]] += sum;
            }
        }
    }
}

}  // namespace NF_ISA
}  // namespace nf
