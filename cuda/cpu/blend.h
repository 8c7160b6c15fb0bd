// Blending by tiles: a thread owns a tile, lanes are the pixels of a block of 4x4, the state of a tile stays in L1.
//
// Forward walks a tile's list once and stores, for each pair, the blocks that count and for each of those the pixels
// that count: backward reads them and decides nothing anew.
#pragma once
#include "tiles.h"

namespace nf {
namespace NF_ISA {

constexpr int kTilePixels = kTileBlocks * kTileBlockPixels;

// A tile in lanes: pixel 16 * block + 4 * y + x of the block.
template <class T> struct TilePlace {
    int x, y;             // of the tile's first pixel
    u32 blocks;           // in the picture
    alignas(64) T pixel_x[kTilePixels], pixel_y[kTilePixels];  // centres
    TilePlace(const Tiles& t, i64 tile)
        : x(int(tile % t.across) * kTileSide), y(int(tile / t.across) * kTileSide),
          blocks(blocks_in_picture(t, x / kTileSide, y / kTileSide)) {
        for (int i = 0; i < kTilePixels; ++i) {
            pixel_x[i] = T(x + (i >> 4 & 3) * 4 + (i & 3)) + T(0.5);
            pixel_y[i] = T(y + (i >> 6) * 4 + (i >> 2 & 3)) + T(0.5);
        }
    }
};

// Calls whole(place in the tile, place in the picture) for each block that the picture has all of, and
// pixel(place in the tile, place in the picture) for each pixel of those that its edge cuts.
template <class T, class F, class G>
NF_HD void for_blocks(const Tiles& t, const TilePlace<T>& place, F whole, G pixel) {
    for (u32 blocks = place.blocks; blocks; blocks &= blocks - 1) {
        int block = __builtin_ctz(blocks), x = place.x + 4 * (block & 3), y = place.y + 4 * (block >> 2);
        int at = block * kTileBlockPixels, columns = min_(4, t.width - x), rows = min_(4, t.height - y);
        i64 first = i64(y) * t.width + x;
        if (columns == 4 && rows == 4) whole(at, first);
        else
            for (int i = 0; i < rows; ++i)
                for (int k = 0; k < columns; ++k) pixel(at + 4 * i + k, first + i64(i) * t.width + k);
    }
}

// A whole block of one number a pixel, from a picture and into one.
template <class T> NF_HD void load_block(const T* first, int width, T* block) {
    for (int i = 0; i < 4; ++i) __builtin_memcpy(block + 4 * i, first + i64(i) * width, 4 * sizeof(T));
}
template <class T> NF_HD void store_block(T* first, int width, const T* block) {
    for (int i = 0; i < 4; ++i) __builtin_memcpy(first + i64(i) * width, block + 4 * i, 4 * sizeof(T));
}

// A whole block of three, apart in the tile (`apart` numbers from one to the next), together in the picture.
template <class T> NF_HD void load_triples(const T* first, int width, T* block, int apart) {
#if defined(__AVX512F__)
    if constexpr (kWidth<T> == 16) {
        const __m512i of_two = _mm512_setr_epi32(0, 3, 6, 9, 16, 19, 22, 25, 0, 0, 0, 0, 0, 0, 0, 0);
        __m512 rows[4];
        for (int i = 0; i < 4; ++i) rows[i] = _mm512_maskz_loadu_ps(0xfff, first + 3 * i64(i) * width);
        for (int c = 0; c < 3; ++c) {
            __m512i places = _mm512_add_epi32(of_two, _mm512_set1_epi32(c));
            __m512 upper = _mm512_permutex2var_ps(rows[0], places, rows[1]),
                   lower = _mm512_permutex2var_ps(rows[2], places, rows[3]);
            _mm512_storeu_ps(block + c * apart, _mm512_maskz_shuffle_f32x4(0xffff, upper, lower, 0x44));
        }
        return;
    }
#endif
    for (int i = 0; i < 4; ++i)
        for (int k = 0; k < 4; ++k)
            for (int c = 0; c < 3; ++c) block[c * apart + 4 * i + k] = first[3 * (i64(i) * width + k) + c];
}
template <class T> NF_HD void store_triples(T* first, int width, const T* block, int apart) {
#if defined(__AVX512F__)
    if constexpr (kWidth<T> == 16) {
        // Of the first two, then of those and the third: a pixel's three are neighbours.
        const __m512i two = _mm512_setr_epi32(0, 16, 0, 1, 17, 0, 2, 18, 0, 3, 19, 0, 0, 0, 0, 0);
        const __m512i three = _mm512_setr_epi32(0, 1, 16, 3, 4, 17, 6, 7, 18, 9, 10, 19, 0, 0, 0, 0);
        const __m512i row_of_third = _mm512_setr_epi32(0, 0, 4, 0, 0, 4, 0, 0, 4, 0, 0, 4, 0, 0, 0, 0);
        __m512 a = _mm512_loadu_ps(block), b = _mm512_loadu_ps(block + apart), c = _mm512_loadu_ps(block + 2 * apart);
        for (int i = 0; i < 4; ++i) {
            __m512 ab = _mm512_permutex2var_ps(a, _mm512_add_epi32(two, _mm512_set1_epi32(4 * i)), b);
            __m512i places = _mm512_add_epi32(three, _mm512_mullo_epi32(row_of_third, _mm512_set1_epi32(i)));
            _mm512_mask_storeu_ps(first + 3 * i64(i) * width, 0xfff, _mm512_permutex2var_ps(ab, places, c));
        }
        return;
    }
#endif
    for (int i = 0; i < 4; ++i)
        for (int k = 0; k < 4; ++k)
            for (int c = 0; c < 3; ++c) first[3 * (i64(i) * width + k) + c] = block[c * apart + 4 * i + k];
}

template <class T, int kLevel> struct alignas(64) TileState {
    T transmittance[kTilePixels], sums[channels_of(kLevel)][kTilePixels];
};

// The tile's state over the background, into the pictures; the state is used up.
template <class T, int kLevel>
NF_HD void store_tile(const BlendArgs<T>& g, const Tiles& t, const TilePlace<T>& place, TileState<T, kLevel>& s) {
    for (int c = 0; c < 3; ++c)
        for (int i = 0; i < kTilePixels; ++i) s.sums[c][i] += s.transmittance[i] * g.background[c];
    for (int i = 0; i < kTilePixels; ++i) s.transmittance[i] = 1 - s.transmittance[i];
    for_blocks(
        t, place,
        [&](int at, i64 first) {
            store_triples(g.rgb + 3 * first, t.width, s.sums[0] + at, kTilePixels);
            store_block(g.opacity + first, t.width, s.transmittance + at);
            if constexpr (kLevel >= kWithDepth) store_block(g.depth + first, t.width, s.sums[3] + at);
            if constexpr (kLevel >= kWithNormal)
                store_triples(g.normal + 3 * first, t.width, s.sums[4] + at, kTilePixels);
        },
        [&](int at, i64 pixel) {
            for (int c = 0; c < 3; ++c) g.rgb[3 * pixel + c] = s.sums[c][at];
            g.opacity[pixel] = s.transmittance[at];
            if constexpr (kLevel >= kWithDepth) g.depth[pixel] = s.sums[3][at];
            if constexpr (kLevel >= kWithNormal)
                for (int c = 0; c < 3; ++c) g.normal[3 * pixel + c] = s.sums[4 + c][at];
        });
}

template <class T, int kLevel, bool kImportance> void blend_tile(const BlendArgs<T>& g, const Tiles& t, i64 tile) {
    using V = Lanes<T>;
    constexpr int W = kWidth<T>, kParts = kTileBlockPixels / W, kChannels = channels_of(kLevel);
    TilePlace<T> place(t, tile);
    TileState<T, kLevel> s;
    __builtin_memset(&s, 0, sizeof(s));
    for_blocks(
        t, place,
        [&](int at, i64) {
            for (int i = 0; i < kTileBlockPixels; ++i) s.transmittance[at + i] = 1;
        },
        [&](int at, i64) { s.transmittance[at] = 1; });
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
            u32 mask = 0, open = 0;
#pragma GCC unroll 8
            for (int p = 0; p < kParts; ++p) {
                V light = load<V>(s.transmittance + at + p * W);
                V dx = load<V>(place.pixel_x + at + p * W) - f.x, dy = load<V>(place.pixel_y + at + p * W) - f.y;
                V power = log2_alpha(f, dx, dy);
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
    store_tile<T, kLevel>(g, t, place, s);
}

template <class T, bool kImportance> void blend_tile_of_level(const BlendArgs<T>& g, const Tiles& t, i64 tile) {
    if (g.normal) blend_tile<T, kWithNormal, kImportance>(g, t, tile);
    else if (g.depth) blend_tile<T, kWithDepth, kImportance>(g, t, tile);
    else blend_tile<T, kColourOnly, kImportance>(g, t, tile);
}

template <class T> void op_splat_blend(const BlendArgs<T>& g) {
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
