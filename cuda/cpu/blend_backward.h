// Blending, backward: the same walk from front to back. Sums over pixels stay in registers; each pair writes one slot,
// and a Gaussian's slots are added in a fixed order afterwards.
#pragma once
#include "blend.h"

namespace nf {
namespace NF_ISA {

template <class T, int kLevel> struct alignas(64) TileBackward {
    T transmittance[kTilePixels], remaining[kTilePixels], d[channels_of(kLevel)][kTilePixels], error[kTilePixels];
};

// A picture of kCount numbers a pixel as a tile has it, 0 where there is none.
template <int kCount, class T>
NF_HD void load_picture(const Tiles& t, const TilePlace<T>& place, const T* picture, T* tile) {
    if (!picture) {
        __builtin_memset(tile, 0, kCount * kTilePixels * sizeof(T));
        return;
    }
    for_blocks(
        t, place,
        [&](int at, i64 first) {
            if constexpr (kCount == 3) load_triples(picture + 3 * first, t.width, tile + at, kTilePixels);
            else load_block(picture + first, t.width, tile + at);
        },
        [&](int at, i64 pixel) {
            for (int c = 0; c < kCount; ++c) tile[c * kTilePixels + at] = picture[kCount * pixel + c];
        });
}

// Loads a tile's gradients and what all layers together give to the loss.
template <class T, int kLevel>
void start_tile(const BlendArgs<T>& g, const Tiles& t, const TilePlace<T>& place, TileBackward<T, kLevel>& s) {
    if (place.x + kTileSide > t.width || place.y + kTileSide > t.height) __builtin_memset(&s, 0, sizeof(s));
    alignas(64) T values[3 * kTilePixels] = {};
    for (int i = 0; i < kTilePixels; ++i) s.transmittance[i] = 1;
    load_picture<3>(t, place, g.d_rgb, s.d[0]);
    load_picture<1>(t, place, g.error, s.error);
    load_picture<3>(t, place, g.rgb, values);
    for (int i = 0; i < kTilePixels; ++i)
        s.remaining[i] =
            s.d[0][i] * values[i] + s.d[1][i] * values[kTilePixels + i] + s.d[2][i] * values[2 * kTilePixels + i];
    if (g.d_opacity) {
        load_picture<1>(t, place, g.d_opacity, values);
        load_picture<1>(t, place, g.opacity, values + kTilePixels);
        for (int i = 0; i < kTilePixels; ++i) s.remaining[i] -= values[i] * (1 - values[kTilePixels + i]);
    }
    if constexpr (kLevel >= kWithDepth) {
        load_picture<1>(t, place, g.d_depth, s.d[3]);
        load_picture<1>(t, place, g.depth, values);
        for (int i = 0; i < kTilePixels; ++i) s.remaining[i] += s.d[3][i] * values[i];
    }
    if constexpr (kLevel >= kWithNormal) {
        load_picture<3>(t, place, g.d_normal, s.d[4]);
        load_picture<3>(t, place, g.normal, values);
        for (int c = 0; c < 3; ++c)
            for (int i = 0; i < kTilePixels; ++i) s.remaining[i] += s.d[4 + c][i] * values[c * kTilePixels + i];
    }
}

// The sums over lanes of the first kUsed vectors into a slot, zero behind them.
template <int kUsed, int kPart, class V, class T> NF_HD void store_slot(V* sums, T* slot) {
    constexpr int W = kLanesOf<V>, kLeft = kUsed - kPart;
    if constexpr (kPart < kRow) {
        V part{};
        if constexpr (kLeft > 0) part = sums_of<(kLeft < W ? kLeft : W)>(sums + kPart);
        store(slot + kPart, part);
        store_slot<kUsed, kPart + W>(sums, slot);
    }
}

// In the order of a gradient's row, but with the sums of v (1, dx, dy, dx^2, dx dy, dy^2) first.
template <class T, int kLevel, bool kStatistics>
void backward_tile(const BlendArgs<T>& g, const Tiles& t, i64 tile) {
    using V = Lanes<T>;
    constexpr int W = kWidth<T>, kParts = kTileBlockPixels / W, kChannels = channels_of(kLevel);
    constexpr int kSumsUsed = kStatistics ? kErrorAt + 1 : kColourAt + kChannels;
    TilePlace<T> place(t, tile);
    TileBackward<T, kLevel> s;
    start_tile<T, kLevel>(g, t, place, s);
    const unsigned short* pixels = g.pixels + g.block_offset[tile];
    i32 begin = g.tile_offset[tile], end = g.tile_offset[tile + 1], stop = begin + g.visited[tile];
    for (i32 e = begin; e < stop; ++e) {
        const TileEntry& ahead = g.entries[min_(e + 6, end - 1)];
        __builtin_prefetch(g.rows + kRow * i64(ahead.row));
        __builtin_prefetch(g.gradient_slots + kRow * i64(ahead.slot), 1);
        const TileEntry entry = g.entries[e];
        u32 blocks = g.seen[e];
        g.filled[entry.slot] = blocks != 0;
        if (!blocks) continue;
        const T* row = g.rows + kRow * i64(entry.row);
        const Falloff<T> f = falloff_of(row);
        V sums[kRow] = {};
        for (; blocks; blocks &= blocks - 1) {
            int block = __builtin_ctz(blocks), at = block * kTileBlockPixels;
            u32 mask = *pixels++;
#pragma GCC unroll 8
            for (int p = 0; p < kParts; ++p) {
                if (kParts > 1 && !(mask >> (p * W) & ((1u << W) - 1))) continue;
                V dx = load<V>(place.pixel_x + at + p * W) - f.x, dy = load<V>(place.pixel_y + at + p * W) - f.y;
                V free_alpha = kept(mask >> (p * W), exp2_(log2_alpha(f, dx, dy)));
                V alpha = min_(free_alpha, V{} + T(kMostAlpha));
                V light = load<V>(s.transmittance + at + p * W), remaining = load<V>(s.remaining + at + p * W);
                V weight = take_light(alpha, light), q{};
                for (int c = 0; c < kChannels; ++c) {
                    V d = load<V>(s.d[c] + at + p * W);
                    q += d * row[kColourAt + c];
                    sums[kColourAt + c] += weight * d;
                }
                V v = blend_backward(free_alpha, alpha, weight, light, q, remaining);
                store(s.transmittance + at + p * W, light);
                store(s.remaining + at + p * W, remaining);
                V vx = v * dx, vy = v * dy;
                sums[0] += v;
                sums[1] += vx;
                sums[2] += vy;
                sums[3] += vx * dx;
                sums[4] += vx * dy;
                sums[5] += vy * dy;
                if (kStatistics) {
                    sums[kWeightAt] += weight;
                    sums[kErrorAt] += weight * load<V>(s.error + at + p * W);
                }
            }
        }
        T* slot = g.gradient_slots + kRow * i64(entry.slot);
        store_slot<kSumsUsed, 0>(sums, slot);
    }
    for (i32 e = stop; e < end; ++e) g.filled[g.entries[e].slot] = 0;
}

template <class T, bool kStatistics> void backward_tile_of_level(const BlendArgs<T>& g, const Tiles& t, i64 tile) {
    if (g.d_normal) backward_tile<T, kWithNormal, kStatistics>(g, t, tile);
    else if (g.d_depth) backward_tile<T, kWithDepth, kStatistics>(g, t, tile);
    else backward_tile<T, kColourOnly, kStatistics>(g, t, tile);
}

// A row's gradient: its slots in order, then from sums over pixels to the ellipse's numbers.
template <class T> void gather_row(const BlendArgs<T>& g, i64 row, bool statistics, int used) {
    using V = Lanes<T>;
    constexpr int W = kWidth<T>;
    V sums[kRow / W] = {};
    for (i32 i = g.slot[row]; i < g.slot[row] + g.pairs[row]; ++i)
        if (g.filled[i])
            for (int p = 0; p < kRow / W; ++p) sums[p] += load<V>(g.gradient_slots + kRow * i64(i) + p * W);
    T values[kRow], *d = g.d_rows + kRow * row;
    for (int p = 0; p < kRow / W; ++p) store(values + p * W, sums[p]);
    for (int i = 0; i < kRow; ++i) d[i] = 0;
    ellipse_gradient(g.rows + kRow * row, values, d);
    for (int i = kColourAt; i < used; ++i) d[i] = values[i];
    if (statistics) {
        d[kWeightAt] = values[kWeightAt];
        d[kErrorAt] = values[kErrorAt];
    }
    d[kPullAt] = sqrt_(d[0] * d[0] + d[1] * d[1]);
}

template <class T> void op_splat_blend_backward(const BlendArgs<T>& g) {
    Tiles t = tiles_of(g.width, g.height);
    int used = kColourAt + channels_of(g.d_normal ? kWithNormal : g.d_depth ? kWithDepth : kColourOnly);
#pragma omp parallel num_threads(t.count() < 8 ? 1 : g.threads)
    {
#pragma omp for schedule(dynamic, 2)
        for (i64 tile = 0; tile < t.count(); ++tile) {
            if (g.error) backward_tile_of_level<T, true>(g, t, tile);
            else backward_tile_of_level<T, false>(g, t, tile);
        }
#pragma omp for schedule(static)
        for (i64 chunk = 0; chunk < chunks_of(g.count); ++chunk)
            for (i64 row = chunk * kChunk, end = row + g.chunk_count[chunk]; row < end; ++row)
                gather_row(g, row, g.error != nullptr, used);
    }
}

}  // namespace NF_ISA
}  // namespace nf
