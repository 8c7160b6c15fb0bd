// L1 and structural similarity of a picture and its gradient. Compiled for NF_SCALAR; formulas are those of
// image_loss.h.
//
// A block does 16x16 pixels of one colour (blockIdx.y): it reads them with the window's margin, and applies the window
// down the columns, then along the rows. Sums over pixels are one part a block, added up in their order afterwards.
#include "splat.h"
#include "../image_loss.h"

using namespace nf;
using T = NF_SCALAR;
constexpr int kSide = kTileSide, kWide = kSide + 2 * kWindowRadius;

// The window at distance k of its middle.
NF_DEVICE T window_at(int k) {
    const T window[kWindowRadius + 1] = NF_WINDOW;
    return window[k < 0 ? -k : k];
}

struct Square {
    i64 width, height, x, y;  // of its first pixel
    NF_DEVICE Square(i64 width, i64 height) : width(width), height(height) {
        const i64 across = (width + kSide - 1) / kSide;
        x = i64(blockIdx.x) % across * kSide;
        y = i64(blockIdx.x) / across * kSide;
    }
    NF_DEVICE bool has(i64 px, i64 py) const { return px >= 0 && py >= 0 && px < width && py < height; }
    // One colour of a picture with its margin, zeros outside.
    NF_DEVICE void load(const T* picture, T (*square)[kWide]) const {
        for (int i = int(threadIdx.x); i < kWide * kWide; i += kSplatThreads) {
            const i64 px = x + i % kWide - kWindowRadius, py = y + i / kWide - kWindowRadius;
            square[i / kWide][i % kWide] = has(px, py) ? picture[3 * (py * width + px) + blockIdx.y] : T(0);
        }
    }
};

// dL/d moment of each pixel into maps [3][H, W, 3]; parts [2][3 blocks]: sums of |x - y| and of S under the mask.
NF_KERNEL __launch_bounds__(kSplatThreads) image_loss_moments(
        const T* rgb, const T* target, const T* mask, i64 width, i64 height, double ssim_weight, T* maps,
        double* parts) {
    __shared__ T a[kWide][kWide], b[kWide][kWide], columns[kMoments][kSide][kWide];
    __shared__ double warp_sums[2][kSplatWarps];
    const Square square(width, height);
    square.load(rgb, a);
    square.load(target, b);
    __syncthreads();
    for (int i = int(threadIdx.x); i < kSide * kWide; i += kSplatThreads) {
        const int row = i / kWide, column = i % kWide;
        T moments[kMoments] = {};
        NF_UNROLL for (int k = -kWindowRadius; k <= kWindowRadius; ++k)
            add_moments(a[row + kWindowRadius + k][column], b[row + kWindowRadius + k][column], window_at(k), moments);
        NF_UNROLL for (int m = 0; m < kMoments; ++m) columns[m][row][column] = moments[m];
    }
    __syncthreads();
    const int column = int(threadIdx.x) % kSide, row = int(threadIdx.x) / kSide;
    const i64 x = square.x + column, y = square.y + row, size = 3 * width * height;
    double absolute = 0, similar = 0;
    if (square.has(x, y)) {
        T moments[kMoments] = {};
        NF_UNROLL for (int m = 0; m < kMoments; ++m)
            NF_UNROLL for (int k = -kWindowRadius; k <= kWindowRadius; ++k)
                moments[m] += columns[m][row][column + kWindowRadius + k] * window_at(k);
        const Similarity<T> s = similarity(moments[0], moments[1], moments[2], moments[3]);
        const T inside = mask ? mask[y * width + x] : T(1), factor = T(-ssim_weight) / T(size) * inside;
        const i64 at = 3 * (y * width + x) + blockIdx.y;
        maps[at] = s.d_mean * factor;
        maps[size + at] = s.d_squares * factor;
        maps[2 * size + at] = s.d_product * factor;
        absolute = double(abs_(a[row + kWindowRadius][column + kWindowRadius] -
                               b[row + kWindowRadius][column + kWindowRadius]) * inside);
        similar = double(s.value * inside);
    }
    absolute = warp_sum(absolute);
    similar = warp_sum(similar);
    if (lane_of_warp() == 0) warp_sums[0][warp_of_block()] = absolute, warp_sums[1][warp_of_block()] = similar;
    __syncthreads();
    if (threadIdx.x >= 2) return;
    double sum = 0;
    for (int w = 0; w < kSplatWarps; ++w) sum += warp_sums[threadIdx.x][w];
    parts[(i64(threadIdx.x) * gridDim.y + blockIdx.y) * gridDim.x + blockIdx.x] = sum / double(size);
}

// The gradient; blocks of the first colour write the error, mean |x - y| over colours under the mask.
NF_KERNEL __launch_bounds__(kSplatThreads) image_loss_gradient(
        const T* rgb, const T* target, const T* mask, i64 width, i64 height, double ssim_weight, const T* maps,
        T* d_rgb, T* error) {
    __shared__ T map[kMaps][kWide][kWide], columns[kMaps][kSide][kWide];
    const Square square(width, height);
    const i64 size = 3 * width * height;
    NF_UNROLL for (int m = 0; m < kMaps; ++m) square.load(maps + m * size, map[m]);
    __syncthreads();
    for (int i = int(threadIdx.x); i < kSide * kWide; i += kSplatThreads) {
        const int row = i / kWide, column = i % kWide;
        NF_UNROLL for (int m = 0; m < kMaps; ++m) {
            T sum = 0;
            NF_UNROLL for (int k = -kWindowRadius; k <= kWindowRadius; ++k)
                sum += map[m][row + kWindowRadius + k][column] * window_at(k);
            columns[m][row][column] = sum;
        }
    }
    __syncthreads();
    const int column = int(threadIdx.x) % kSide, row = int(threadIdx.x) / kSide;
    const i64 x = square.x + column, y = square.y + row, pixel = y * width + x;
    if (!square.has(x, y)) return;
    T filtered[kMaps] = {};
    NF_UNROLL for (int m = 0; m < kMaps; ++m)
        NF_UNROLL for (int k = -kWindowRadius; k <= kWindowRadius; ++k)
            filtered[m] += columns[m][row][column + kWindowRadius + k] * window_at(k);
    const T p = rgb[3 * pixel + blockIdx.y], q = target[3 * pixel + blockIdx.y], inside = mask ? mask[pixel] : T(1);
    d_rgb[3 * pixel + blockIdx.y] = similarity_slope(p, q, filtered[0], filtered[1], filtered[2]) +
                                    absolute_slope(p - q, T(1 - ssim_weight) / T(size)) * inside;
    if (blockIdx.y) return;
    T sum = 0;
    for (int c = 0; c < 3; ++c) sum += abs_(rgb[3 * pixel + c] - target[3 * pixel + c]) * inside;
    error[pixel] = sum * T(1.0 / 3);
}
