// What Gaussian splatting keeps in memory, on the CPU and on a GPU alike: packed Gaussians, rows, entries of tiles.
//
// N Gaussians in chunks of kChunk. A row is one visible Gaussian: rows[kChunk * chunk + i], i below the chunk's count,
// its Gaussian in ids (-1 where there is none). A pair is a Gaussian in a tile of the picture, kTileSide pixels a side;
// a tile has kTileBlocks blocks of 4x4 pixels.
#pragma once
#include "scalar.h"

namespace nf {

constexpr int kChunk = 1024, kTileSide = 16, kTileBlocks = 16, kTileBlockPixels = 16;
// What a row holds: x, y, conic (xx, xy, yy), log opacity, rgb, depth along z, normal, the tiles it reaches in x and in
// y (the first + 4096 times how many), and a last one that is unused. A gradient's row: of the first 13 likewise, then
// the sums over pixels of weight, of weight times error, and the length of (d_x, d_y).
constexpr int kRow = 16, kColourAt = 6, kDepthAt = 9, kNormalAt = 10, kTilesAt = 13, kTileCount = 4096, kWeightAt = 13,
              kErrorAt = 14, kPullAt = 15;
// A packed Gaussian: mean, log scales, quaternion, logit, the colour's first harmonic, two of no use.
constexpr int kCore = 16, kHarmonicAt = 11, kCoreUsed = 14;
constexpr int kBasis = 16;  // harmonics of degree 3

// Gaussians in memory: `packed` [N, kCore] and rest [N, rest_stride], or five arrays of their own.
template <class T, class P = const T> struct GaussianArrays {
    P *packed, *rest;  // rest: harmonics from the second on, rgb innermost
    P *means, *scales, *rotations, *logits, *harmonics;
    i64 count, rest_stride, harmonic_stride;
};
template <class T> NF_HD const T* rest_of(const GaussianArrays<T>& g, i64 id) {
    return g.packed ? g.rest + g.rest_stride * id : g.harmonics + g.harmonic_stride * id + 3;
}

struct TileEntry {
    i32 row, slot, blocks;  // bit of a block of 4x4 pixels: 4 * y + x
};

NF_HD i64 chunks_of(i64 count) { return (count + kChunk - 1) / kChunk; }
NF_HD int in_chunk(i64 count, i64 chunk) { return int(min_<i64>(kChunk, count - chunk * kChunk)); }

struct Tiles {
    int across, down, width, height;
    NF_HD i64 count() const { return i64(across) * down; }
};
NF_HD Tiles tiles_of(int width, int height) {
    return {(width + kTileSide - 1) / kTileSide, (height + kTileSide - 1) / kTileSide, width, height};
}

// Blocks of a tile in which the picture has pixels.
NF_HD u32 blocks_in_picture(const Tiles& t, int x, int y) {
    int columns = min_((t.width - x * kTileSide + 3) / 4, 4), rows = min_((t.height - y * kTileSide + 3) / 4, 4);
    u32 row = (1u << columns) - 1, all = row | row << 4 | row << 8 | row << 12;
    return all & ((1u << 4 * rows) - 1);
}

// The tiles of pixels whose centres are in [x - reach, x + reach]: the first and how many, as a row holds them; 0 where
// it falls between two centres. What is not seen may hold anything.
template <class T> struct TileRange {
    T code, count;
};
template <class T> NF_HD TileRange<T> tiles_within(T x, T reach, Scalar<T> size) {
    using S = Scalar<T>;
    T low = max_(x - reach - S(0.5), T{}), high = min_(x + reach - S(0.5), T{} + (size - 1));
    T first = whole_(low), last = whole_(max_(high, T{}));
    first += select_(first < low, T{} + S(1), T{});
    T none = select_(min_(last, high) < first, T{} + S(1), T{});
    first = whole_(first * S(1.0 / kTileSide));
    last = whole_(last * S(1.0 / kTileSide));
    T count = (last - first + S(1)) * (1 - none);
    return {first + S(kTileCount) * count, count};
}

}  // namespace nf
