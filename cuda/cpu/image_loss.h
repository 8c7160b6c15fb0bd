// L1 and structural similarity of a picture and its gradient in two sweeps over rows: moments and what they mean for the
// loss, then those filtered once more. Lanes run along a row of interleaved colours, where a neighbour is 3 away.
#pragma once
#include <omp.h>

#include "../image_loss.h"
#include "scratch.h"
#include "splat.h"

namespace nf {
namespace NF_ISA {

constexpr int kMoments = 4, kMaps = 3, kRowPad = 16;

inline Scratch& loss_scratch() {
    static thread_local Scratch scratch;
    return scratch;
}

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

// The window along a row: `at` is a place in a row with kRowPad zeros before and behind.
template <class T> NF_HD Lanes<T> along_row(const T* at) {
    using V = Lanes<T>;
    V sum = load<V>(at) * T(kWindow[0]);
#pragma GCC unroll 5
    for (int k = 1; k <= kWindowRadius; ++k) sum += (load<V>(at - 3 * k) + load<V>(at + 3 * k)) * T(kWindow[k]);
    return sum;
}

// Rows of one thread: `lines` of them, each padded with zeros on both sides.
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
    constexpr int W = kWidth<T>;
    const i64 length = 3 * i64(g.width), size = length * g.height;
    const int low = y < kWindowRadius ? -y : -kWindowRadius, high = min_(kWindowRadius, g.height - 1 - y);
    for (i64 x = 0; x < length; x += W) {
        V moments[kMoments] = {};
        for (int k = low; k <= high; ++k) {
            i64 at = length * (y + k) + x;
            T w = T(kWindow[k < 0 ? -k : k]);
            V a = load_part(g.rgb + at, length - x), b = load_part(g.target + at, length - x), wa = a * w, wb = b * w;
            moments[0] += wa;
            moments[1] += wb;
            moments[2] += wa * a + wb * b;
            moments[3] += wa * b;
        }
        for (int i = 0; i < kMoments; ++i) store_part(lines[i] + x, length - x, moments[i]);
    }
    V similar{}, absolute{};
    const T scale = -g.ssim_weight / T(size);
    for (i64 x = 0; x < length; x += W) {
        i64 left = length - x, at = length * y + x;
        Similarity<V> s = similarity(along_row(lines[0] + x), along_row(lines[1] + x), along_row(lines[2] + x), along_row(lines[3] + x));
        V factor = V{} + scale, inside = load_part(lines[kMoments] + x, left);  // the mask's row, threefold
        V difference = abs_(load_part(g.rgb + at, left) - load_part(g.target + at, left));
        similar += s.value * inside;
        absolute += difference * inside;
        factor *= inside;
        store_part(maps + at, left, s.d_mean * factor);
        store_part(maps + size + at, left, s.d_squares * factor);
        store_part(maps + 2 * size + at, left, s.d_product * factor);
    }
    sums[0] = double(sum_of(absolute));
    sums[1] = double(sum_of(similar));
}

template <class T> void loss_gradient_row(const ImageLossArgs<T>& g, int y, const Lines<T>& lines, const T* maps) {
    using V = Lanes<T>;
    constexpr int W = kWidth<T>;
    const i64 length = 3 * i64(g.width), size = length * g.height;
    const int low = y < kWindowRadius ? -y : -kWindowRadius, high = min_(kWindowRadius, g.height - 1 - y);
    for (i64 x = 0; x < length; x += W) {
        V sums[kMaps] = {};
        for (int k = low; k <= high; ++k)
            for (int i = 0; i < kMaps; ++i)
                sums[i] += load_part(maps + i * size + length * (y + k) + x, length - x) * T(kWindow[k < 0 ? -k : k]);
        for (int i = 0; i < kMaps; ++i) store_part(lines[i] + x, length - x, sums[i]);
    }
    const T flat = (1 - g.ssim_weight) / T(size);
    for (i64 x = 0; x < length; x += W) {
        i64 left = length - x, at = length * y + x;
        V a = load_part(g.rgb + at, left), b = load_part(g.target + at, left), difference = a - b;
        V inside = load_part(lines[kMoments] + x, left), sign = select_(difference > 0, V{} + flat, V{} - flat);
        sign = select_(difference == 0, V{}, sign) * inside;
        V d = along_row(lines[0] + x) + 2 * a * along_row(lines[1] + x) + b * along_row(lines[2] + x);
        store_part(g.d_rgb + at, left, d + sign);
    }
    for (i64 x = 0; x < g.width; ++x) {
        const T *a = g.rgb + length * y + 3 * x, *b = g.target + length * y + 3 * x, *inside = lines[kMoments] + 3 * x;
        g.error[i64(g.width) * y + x] = (abs_(a[0] - b[0]) + abs_(a[1] - b[1]) + abs_(a[2] - b[2])) / 3 * inside[0];
    }
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
        Lines<T> lines(thread_scratch(), kMoments + 1, 3 * i64(g.width));
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
