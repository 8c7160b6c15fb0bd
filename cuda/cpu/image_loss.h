// L1 and structural similarity of a picture and its gradient in two sweeps over rows: moments and what they mean for
// the loss, then those filtered once more. Lanes run along a row of interleaved colours, where a neighbour is 3 away.
#pragma once
#include <omp.h>

#include "../image_loss.h"
#include "scratch.h"
#include "splat.h"

namespace nf {
namespace NF_ISA {

constexpr int kRowPad = 16;

inline Scratch& loss_scratch() {
    static thread_local Scratch scratch;
    return scratch;
}

template <class T> NF_HD T tap(int k) { return T(kWindow[k < kWindowRadius ? kWindowRadius - k : k - kWindowRadius]); }

// Whole lanes, or the first `count` of them with zeros behind.
template <class T> NF_HD Lanes<T> load_part(const T* p, i64 count) {
    if (count >= kWidth<T>) return load<Lanes<T>>(p);
    Lanes<T> v{};
    for (int i = 0; i < count; ++i) v[i] = p[i];
    return v;
}
template <class T> NF_HD void store_part(T* p, i64 count, Lanes<T> v) {
    if (count >= kWidth<T>) return store(p, v);
    for (int i = 0; i < count; ++i) p[i] = v[i];
}

// f(place, how many of the lanes count) along a row: whole lanes in a loop of their own, then what is left.
template <class T, class F> NF_HD void along(i64 length, F f) {
    i64 x = 0;
    for (; x + kWidth<T> <= length; x += kWidth<T>) f(x, i64(kWidth<T>));
    if (x < length) f(x, length - x);
}

// The rows of a picture under a window, zeros where there are none.
template <class T> struct WindowRows {
    const T* at[kTaps];
    NF_HD WindowRows(const T* picture, i64 length, int y, int height, const T* zeros) {
        for (int k = 0; k < kTaps; ++k) {
            int row = y + k - kWindowRadius;
            at[k] = row >= 0 && row < height ? picture + length * row : zeros;
        }
    }
};

// The window along a row: `at` is a place in a row with kRowPad zeros before and behind.
template <class T> NF_HD Lanes<T> along_row(const T* at) {
    using V = Lanes<T>;
    V sum = load<V>(at) * T(kWindow[0]);
#pragma GCC unroll 5
    for (int k = 1; k <= kWindowRadius; ++k) sum += (load<V>(at - 3 * k) + load<V>(at + 3 * k)) * T(kWindow[k]);
    return sum;
}

// Rows of one thread, each padded with zeros on both sides: sums down the columns, the mask thrice over, one of zeros.
template <class T> struct Lines {
    T* data;
    i64 stride;
    Lines(Scratch& scratch, int lines, i64 length) : stride(round_up(int(length), 64) + 2 * kRowPad + 64) {
        scratch.reset(size_t(lines) * stride * sizeof(T) + 64);
        data = scratch.take<T>(lines * stride);
        for (i64 i = 0; i < lines * stride; ++i) data[i] = 0;
    }
    T* operator[](int line) const { return data + line * stride + kRowPad; }
};

// Moments of one row down the columns, then along it; writes dL/d moment into the maps and sums |x - y| and S.
template <class T> void loss_row(const ImageLossArgs<T>& g, int y, const Lines<T>& lines, T* maps, double* sums) {
    using V = Lanes<T>;
    const i64 length = 3 * i64(g.width), size = length * g.height;
    const WindowRows<T> as(g.rgb, length, y, g.height, lines[kMoments + 1]),
        bs(g.target, length, y, g.height, lines[kMoments + 1]);
    along<T>(length, [&](i64 x, i64 left) {
        V moments[kMoments] = {};
#pragma GCC unroll 11
        for (int k = 0; k < kTaps; ++k) {
            add_moments(load_part(as.at[k] + x, left), load_part(bs.at[k] + x, left), tap<T>(k), moments);
        }
        for (int i = 0; i < kMoments; ++i) store_part(lines[i] + x, left, moments[i]);
    });
    V similar{}, absolute{};
    const T scale = -g.ssim_weight / T(size);
    along<T>(length, [&](i64 x, i64 left) {
        i64 at = length * y + x;
        Similarity<V> s = similarity(along_row(lines[0] + x), along_row(lines[1] + x), along_row(lines[2] + x),
                                     along_row(lines[3] + x));
        V factor = V{} + scale, inside = load_part(lines[kMoments] + x, left);  // the mask's row, threefold
        V difference = abs_(load_part(g.rgb + at, left) - load_part(g.target + at, left));
        similar += s.value * inside;
        absolute += difference * inside;
        factor *= inside;
        store_part(maps + at, left, s.d_mean * factor);
        store_part(maps + size + at, left, s.d_squares * factor);
        store_part(maps + 2 * size + at, left, s.d_product * factor);
    });
    sums[0] = double(sum_of(absolute));
    sums[1] = double(sum_of(similar));
}

template <class T> void loss_gradient_row(const ImageLossArgs<T>& g, int y, const Lines<T>& lines, const T* maps) {
    using V = Lanes<T>;
    const i64 length = 3 * i64(g.width), size = length * g.height;
    const WindowRows<T> rows[kMaps] = {{maps, length, y, g.height, lines[kMoments + 1]},
                                       {maps + size, length, y, g.height, lines[kMoments + 1]},
                                       {maps + 2 * size, length, y, g.height, lines[kMoments + 1]}};
    along<T>(length, [&](i64 x, i64 left) {
#pragma GCC unroll 3
        for (int i = 0; i < kMaps; ++i) {
            const T* const* at = rows[i].at;
            V sum = load_part(at[kWindowRadius] + x, left) * T(kWindow[0]);
#pragma GCC unroll 5
            for (int k = 1; k <= kWindowRadius; ++k)
                sum += (load_part(at[kWindowRadius - k] + x, left) + load_part(at[kWindowRadius + k] + x, left)) *
                       T(kWindow[k]);
            store_part(lines[i] + x, left, sum);
        }
    });
    const T flat = (1 - g.ssim_weight) / T(size);
    along<T>(length, [&](i64 x, i64 left) {
        i64 at = length * y + x;
        V a = load_part(g.rgb + at, left), b = load_part(g.target + at, left), difference = a - b;
        V inside = load_part(lines[kMoments] + x, left);
        V d = similarity_slope(a, b, along_row(lines[0] + x), along_row(lines[1] + x), along_row(lines[2] + x));
        store_part(g.d_rgb + at, left, d + absolute_slope(difference, flat) * inside);
        store_part(lines[kMaps] + x, left, abs_(difference) * inside);
    });
    for (i64 x = 0; x < g.width; ++x)
        g.error[i64(g.width) * y + x] =
            (lines[kMaps][3 * x] + lines[kMaps][3 * x + 1] + lines[kMaps][3 * x + 2]) * T(1.0 / 3);
}

template <class T> void mask_row(const ImageLossArgs<T>& g, int y, T* line) {
    for (int x = 0; x < g.width; ++x)
        line[3 * x] = line[3 * x + 1] = line[3 * x + 2] = g.mask ? g.mask[i64(g.width) * y + x] : T(1);
}

template <class T> void op_image_loss(const ImageLossArgs<T>& g) {
    const i64 size = 3 * i64(g.width) * g.height;
    Scratch& scratch = loss_scratch();
    scratch.reset(sizeof(T) * kMaps * size + sizeof(double) * 2 * g.height + 256);
    T* maps = scratch.take<T>(kMaps * size);
    double* sums = scratch.take<double>(2 * g.height);
#pragma omp parallel num_threads(size < 4096 ? 1 : g.threads)
    {
        Lines<T> lines(thread_scratch(), kMoments + 2, 3 * i64(g.width));
        if (!g.mask) mask_row(g, 0, lines[kMoments]);
#pragma omp for schedule(static)
        for (int y = 0; y < g.height; ++y) {
            if (g.mask) mask_row(g, y, lines[kMoments]);
            loss_row(g, y, lines, maps, sums + 2 * y);
        }
#pragma omp for schedule(static)
        for (int y = 0; y < g.height; ++y) {
            if (g.mask) mask_row(g, y, lines[kMoments]);
            loss_gradient_row(g, y, lines, maps);
        }
    }
    g.sums[0] = g.sums[1] = 0;
    for (int y = 0; y < g.height; ++y)  // in the order of rows, whoever made them
        for (int i = 0; i < 2; ++i) g.sums[i] += sums[2 * y + i] / double(size);
}

}  // namespace NF_ISA
}  // namespace nf
