// Blending from front to back, and back. Compiled for NF_SCALAR and NF_CHANNELS: 3 (colour), 4 (and depth) or 7 (and
// normals); formulas are those of blend.h.
//
// A block does a tile, a thread a pixel, a warp two neighbouring blocks of 4x4 pixels. Forward stores, for each entry
// and warp, the pixels that count: backward reads them and decides nothing anew. Sums over pixels go into a slot of the
// pair's own, and a Gaussian's slots are added in a fixed order: nothing is added by atomics, so bits repeat.
#include "splat.h"
#include "../blend.h"

using namespace nf;
using T = NF_SCALAR;
constexpr int kChannels = NF_CHANNELS, kUsed = kColourAt + kChannels;
constexpr int kBatch = 128, kBackwardBatch = 32;  // entries in shared memory at a time

// A pixel of the tile: where it is, and which block of the tile it lies in.
struct Pixel {
    T x, y;
    i64 place;  // in the picture, -1 outside
    int block;
};
NF_DEVICE Pixel pixel_of(i64 width, i64 height) {
    const int thread = int(threadIdx.x), block = thread / kTileBlockPixels, within = thread % kTileBlockPixels;
    const i64 across = (width + kTileSide - 1) / kTileSide;
    const i64 x = i64(blockIdx.x) % across * kTileSide + 4 * (block & 3) + (within & 3);
    const i64 y = i64(blockIdx.x) / across * kTileSide + 4 * (block >> 2) + (within >> 2);
    return {T(x) + T(0.5), T(y) + T(0.5), x < width && y < height ? y * width + x : -1, block};
}

// Entries in shared memory: an ellipse's falloff and the numbers that are blended, its blocks, its slot.
template <int kCount> struct Batch {
    Falloff<T> falloff[kCount];
    T values[kCount][kChannels];
    i32 slot[kCount];
    u32 blocks[kCount];

    NF_DEVICE void load(int i, const TileEntry& entry, const T* rows) {
        T row[kRow];
        load_row<kRow>(rows + kRow * i64(entry.row), row);
        falloff[i] = falloff_of(row);
        NF_UNROLL for (int c = 0; c < kChannels; ++c) values[i][c] = row[kColourAt + c];
        slot[i] = entry.slot;
        blocks[i] = u32(entry.blocks);
    }
};

// One pixel on the way from front to back.
struct PixelForward {
    T light, sums[kChannels];

    NF_DEVICE bool open() const { return light >= T(kLeastTransmittance); }
    // Whether an entry counts, and its weight.
    NF_DEVICE bool take(const Batch<kBatch>& batch, int j, const Pixel& pixel, T& weight) {
        const Falloff<T>& f = batch.falloff[j];
        const T power = log2_alpha(f, pixel.x - f.x, pixel.y - f.y);
        const bool counts = (batch.blocks[j] >> pixel.block & 1) && open() && power >= T(kLog2LeastAlpha);
        weight = counts ? take_light(min_(exp2_(power), T(kMostAlpha)), light) : T(0);
        NF_UNROLL for (int c = 0; c < kChannels; ++c) sums[c] += weight * batch.values[j][c];
        return counts;
    }
    NF_DEVICE void store(i64 place, const T* background, T* rgb, T* opacity, T* depth, T* normal) const {
        NF_UNROLL for (int c = 0; c < 3; ++c) rgb[3 * place + c] = sums[c] + light * background[c];
        opacity[place] = 1 - light;
        if constexpr (kChannels > 3) depth[place] = sums[3];
        if constexpr (kChannels > 4)
            NF_UNROLL for (int c = 0; c < 3; ++c) normal[3 * place + c] = sums[4 + c];
    }
};

// pixels: 8 words an entry, one a warp. weight_slots may be null; visited: entries until all pixels were opaque.
NF_KERNEL __launch_bounds__(kSplatThreads) splat_blend(const T* rows, const TileEntry* entries, const i32* tile_offset,
                                                       i64 width, i64 height, double red, double green, double blue,
                                                       T* rgb, T* opacity, T* depth, T* normal, T* weight_slots,
                                                       u32* pixels, i32* visited) {
    __shared__ Batch<kBatch> batch;
    __shared__ u32 masks[kBatch][kSplatWarps], alive[kSplatWarps];
    __shared__ T weights[kBatch][kSplatWarps];
    const Pixel pixel = pixel_of(width, height);
    const int warp = warp_of_block(), thread = int(threadIdx.x);
    const i32 first = tile_offset[blockIdx.x], end = tile_offset[blockIdx.x + 1];
    PixelForward forward = {pixel.place < 0 ? T(0) : T(1), {}};
    const u32 lit = __ballot_sync(kWholeWarp, pixel.place >= 0);
    if (lane_of_warp() == 0) alive[warp] = lit;
    __syncthreads();
    i32 begin = first;
    for (; begin < end; begin += kBatch) {
        u32 open = 0;
        for (int w = 0; w < kSplatWarps; ++w) open |= alive[w];
        if (!open) break;
        const int size = min_(kBatch, end - begin);
        if (thread < size) batch.load(thread, entries[begin + thread], rows);
        for (int i = thread; i < kBatch * kSplatWarps; i += kSplatThreads) {
            masks[i / kSplatWarps][i % kSplatWarps] = 0;
            weights[i / kSplatWarps][i % kSplatWarps] = 0;
        }
        u32 own = alive[warp];
        __syncthreads();
        for (int j = 0; j < size && own; ++j) {
            const u32 blocks = batch.blocks[j];
            if (!(blocks >> (2 * warp) & 3)) continue;
            T weight;
            const u32 vote = __ballot_sync(kWholeWarp, forward.take(batch, j, pixel, weight));
            if (!vote) continue;
            if (weight_slots) weight = warp_sum(weight);
            if (lane_of_warp() == 0) masks[j][warp] = vote, weights[j][warp] = weight;
            own = __ballot_sync(kWholeWarp, forward.open());
        }
        if (lane_of_warp() == 0) alive[warp] = own;
        __syncthreads();
        for (int i = thread; i < size * kSplatWarps; i += kSplatThreads)
            pixels[i64(begin) * kSplatWarps + i] = masks[i / kSplatWarps][i % kSplatWarps];
        if (weight_slots && thread < size) {
            T sum = 0;
            for (int w = 0; w < kSplatWarps; ++w) sum += weights[thread][w];
            weight_slots[batch.slot[thread]] = sum;
        }
        __syncthreads();
    }
    if (begin > end) begin = end;
    if (thread == 0) visited[blockIdx.x] = begin - first;
    if (weight_slots)
        for (i32 e = begin + thread; e < end; e += kSplatThreads) weight_slots[entries[e].slot] = 0;
    const T background[3] = {T(red), T(green), T(blue)};
    if (pixel.place >= 0) forward.store(pixel.place, background, rgb, opacity, depth, normal);
}

// A Gaussian's weight is the sum of its pairs' in their order. A thread does a row.
NF_KERNEL splat_importance(const i32* ids, const i32* slot, const i32* pairs, i64 count, const T* weight_slots,
                           T* importance) {
    const i64 row = global_thread();
    if (row >= count || ids[row] < 0) return;
    T sum = 0;
    for (i32 i = 0; i < pairs[row]; ++i) sum += weight_slots[slot[row] + i];
    importance[ids[row]] += sum;
}

// One pixel's gradients in the order of what is blended, and what all layers together give to the loss.
struct PixelBackward {
    T d[kChannels], remaining, error;

    NF_DEVICE void load(i64 place, const T* rgb, const T* opacity, const T* depth, const T* normal, const T* d_rgb,
                        const T* d_opacity, const T* d_depth, const T* d_normal, const T* errors) {
        T picture[kChannels] = {};
        NF_UNROLL for (int c = 0; c < kChannels; ++c) d[c] = 0;
        remaining = error = 0;
        if (place < 0) return;
        NF_UNROLL for (int c = 0; c < kChannels; ++c) {
            if (c < 3) d[c] = d_rgb[3 * place + c], picture[c] = rgb[3 * place + c];
            else if (c == 3 && d_depth) d[c] = d_depth[place], picture[c] = depth[place];
            else if (c > 3 && d_normal) d[c] = d_normal[3 * place + c - 4], picture[c] = normal[3 * place + c - 4];
        }
        remaining = all_layers(d, picture, kChannels);
        if (d_opacity) remaining -= d_opacity[place] * (1 - opacity[place]);
        if (errors) error = errors[place];
    }
};

// Each pair that counts writes a slot in the order of a gradient's row, but with the sums of v (1, dx, dy, dx^2, dx dy,
// dy^2) first; `filled` says which did. The gradients but the first, and `errors`, may be null.
NF_KERNEL __launch_bounds__(kSplatThreads) splat_blend_gradient(
        const T* rows, const TileEntry* entries, const i32* tile_offset, const i32* visited, const u32* pixels,
        i64 width, i64 height, const T* rgb, const T* opacity, const T* depth, const T* normal, const T* d_rgb,
        const T* d_opacity, const T* d_depth, const T* d_normal, const T* errors, T* gradient_slots,
        unsigned char* filled) {
    __shared__ Batch<kBackwardBatch> batch;
    __shared__ u32 masks[kBackwardBatch][kSplatWarps];
    __shared__ T parts[kBackwardBatch][kSplatWarps][kRow];
    const Pixel pixel = pixel_of(width, height);
    const int warp = warp_of_block(), lane = lane_of_warp(), thread = int(threadIdx.x);
    PixelBackward b;
    b.load(pixel.place, rgb, opacity, depth, normal, d_rgb, d_opacity, d_depth, d_normal, errors);
    const i32 first = tile_offset[blockIdx.x], stop = first + visited[blockIdx.x], end = tile_offset[blockIdx.x + 1];
    T light = 1;
    for (i32 begin = first; begin < stop; begin += kBackwardBatch) {
        const int size = min_(kBackwardBatch, stop - begin);
        if (thread < size) batch.load(thread, entries[begin + thread], rows);
        if (thread < size * kSplatWarps)
            masks[thread / kSplatWarps][thread % kSplatWarps] = pixels[i64(begin) * kSplatWarps + thread];
        __syncthreads();
        for (int j = 0; j < size; ++j) {
            const u32 mask = masks[j][warp];
            if (!mask) continue;
            const Falloff<T>& f = batch.falloff[j];
            const T dx = pixel.x - f.x, dy = pixel.y - f.y;
            const T free_alpha = mask >> lane & 1 ? exp2_(log2_alpha(f, dx, dy)) : T(0);
            const T alpha = min_(free_alpha, T(kMostAlpha)), weight = take_light(alpha, light);
            T q = 0, sums[kRow] = {};
            NF_UNROLL for (int c = 0; c < kChannels; ++c) {
                q += b.d[c] * batch.values[j][c];
                sums[kColourAt + c] = weight * b.d[c];
            }
            const T v = blend_backward(free_alpha, alpha, weight, light, q, b.remaining);
            sums[0] = v;
            sums[1] = v * dx;
            sums[2] = v * dy;
            sums[3] = sums[1] * dx;
            sums[4] = sums[1] * dy;
            sums[5] = sums[2] * dy;
            sums[kWeightAt] = weight;
            sums[kErrorAt] = weight * b.error;
            const T sum = sixteen_sums(sums);
            if (lane % 2 == 0) parts[j][warp][lane / 2] = sum;
        }
        __syncthreads();
        for (int i = thread; i < size * kRow; i += kSplatThreads) {
            const int j = i / kRow, value = i % kRow;
            T sum = 0;
            u32 any = 0;
            for (int w = 0; w < kSplatWarps; ++w)
                if (masks[j][w]) any = 1, sum += parts[j][w][value];
            if (any) gradient_slots[kRow * i64(batch.slot[j]) + value] = sum;
            if (value == 0) filled[batch.slot[j]] = (unsigned char)(any);
        }
        __syncthreads();
    }
    for (i32 e = stop + thread; e < end; e += kSplatThreads) filled[entries[e].slot] = 0;
}

// A row's gradient: its slots in order, then from sums over pixels to the ellipse's numbers. A warp does a row, a lane
// one number of every other slot.
NF_KERNEL splat_gather(const T* rows, const i32* chunk_count, const i32* slot, const i32* pairs, i64 count,
                       const T* gradient_slots, const unsigned char* filled, i64 statistics, T* d_rows) {
    const i64 row = global_thread() / 32;
    if (row >= count || row % kChunk >= chunk_count[row / kChunk]) return;
    const int value = lane_of_warp() % kRow;
    const i64 first = slot[row];
    T sum = 0, sums[6], d[6], e[kRow];
    for (i32 i = lane_of_warp() / kRow; i < pairs[row]; i += 2)
        if (filled[first + i]) sum += gradient_slots[kRow * (first + i) + value];
    sum += __shfl_xor_sync(kWholeWarp, sum, kRow);
    NF_UNROLL for (int i = 0; i < 6; ++i) sums[i] = __shfl_sync(kWholeWarp, sum, i);
    load_row<kRow>(rows + kRow * row, e);
    ellipse_gradient(e, sums, d);
    T out = value < kUsed || (statistics && value >= kWeightAt) ? sum : T(0);
    NF_UNROLL for (int i = 0; i < 6; ++i) out = value == i ? d[i] : out;
    if (value == kPullAt) out = sqrt_(d[0] * d[0] + d[1] * d[1]);
    if (lane_of_warp() < kRow) d_rows[kRow * row + value] = out;
}
