// The best inverse depth of every pixel among hypotheses, band by band of rows: warp a source, moments of windows down
// and along, correlation, the mean of the two best sources, the mean over 3 x 3 pixels, and the best so far.
#pragma once
#include <omp.h>

#include "../plane_sweep.h"
#include "kernels.h"
#include "scratch.h"

namespace nf {
namespace NF_ISA {

constexpr int kSweepBand = 24, kSweepHalo = kSweepRadius + 1;
constexpr int kSweepRows = kSweepBand + 2 * kSweepHalo;  // of a warped source; of scores two more than the band

inline Scratch& sweep_scratch() {
    static thread_local Scratch scratch;
    return scratch;
}

// out[x] = sum of a row's values within `radius`, the outermost repeated; `padded` has room for them on both sides.
template <int radius, class T> NF_HD void sum_along(const T* row, i64 width, T* padded, T* out) {
#pragma omp simd
    for (i64 x = 0; x < width; ++x) padded[radius + x] = row[x];
    for (int k = 0; k < radius; ++k) padded[k] = row[0], padded[radius + width + k] = row[width - 1];
#pragma omp simd
    for (i64 x = 0; x < width; ++x) {
        T sum = padded[x];
        for (int k = 1; k <= 2 * radius; ++k) sum += padded[x + k];
        out[x] = sum;
    }
}

template <class T> struct SweepBand {
    const SweepArgs<T>& g;
    i64 width;
    int first, last;  // rows of the band
    T *warped, *seen, *u, *uv, *uu, *v, *vv, *padded, *line, *best, *second, *scores;

    SweepBand(const SweepArgs<T>& args, Scratch& scratch, int first_) : g(args), width(args.width), first(first_) {
        last = first + kSweepBand < g.height ? first + kSweepBand : g.height;
        i64 rows = i64(kSweepRows) * width;
        scratch.reset(size_t(12 * rows + 4 * width + 1024) * sizeof(T));
        T** parts[] = {&warped, &seen, &u, &uv, &uu, &v, &vv, &best, &second, &scores};
        for (T** part : parts) *part = scratch.take<T>(rows);
        padded = scratch.take<T>(width + 64);
        line = scratch.take<T>(width + 64);
        for (int y = 0; y < kSweepRows; ++y) moments(reference(y), reference(y), v + y * width, vv + y * width);
    }

    // Row y of the band with its halo, as a row of the picture; rows beyond the picture repeat its outermost.
    int row(int y) const {
        int r = first - kSweepHalo + y;
        return r < 0 ? 0 : r >= g.height ? g.height - 1 : r;
    }
    const T* reference(int y) const { return g.reference + i64(row(y)) * width; }

    // Sums along a row of x and of x times y.
    void moments(const T* x, const T* y, T* sum, T* product) {
        sum_along<kSweepRadius>(x, width, padded, sum);
#pragma omp simd
        for (i64 i = 0; i < width; ++i) line[i] = x[i] * y[i];
        sum_along<kSweepRadius>(line, width, padded, product);
    }

    NF_HD void warp_lanes(const T* image, int source, int r, i64 x, Lanes<T> q, T* out, T* valid) const {
        using V = Lanes<T>;
        const int w = g.sizes[2 * source], h = g.sizes[2 * source + 1], stride = g.source_width;
        V column;
        for (int k = 0; k < kWidth<T>; ++k) column[k] = T(x + k) + T(0.5);
        q = select_(q > g.least, q, V{} + g.least);
        auto p = sweep_pixel<V>(g.a + 9 * source, g.b + 3 * source, column, T(r) + T(0.5), q);
        store(valid, sweep_seen<V>(p, w, h, V{} + 1, V{} - 1));
        V u = sweep_place<V>(p.column, w), v = sweep_place<V>(p.row, h);
        IndexLanes<T> i = truncate<T>(u), j = truncate<T>(v);
        V fu = u - to_lanes<T>(i), fv = v - to_lanes<T>(j);
        IndexLanes<T> at = j * u32(stride) + i, right = i + 1 < u32(w) ? at + 1 : at;
        IndexLanes<T> down = j + 1 < u32(h) ? IndexLanes<T>{} + u32(stride) : IndexLanes<T>{};
        V top = gather<T>(image, at), top_right = gather<T>(image, right);
        V bottom = gather<T>(image, at + down), bottom_right = gather<T>(image, right + down);
        top += fu * (top_right - top), bottom += fu * (bottom_right - bottom);
        store(out, top + fv * (bottom - top));
    }

    void warp(int source, int hypothesis) {
        const T* image = g.sources + i64(source) * g.source_height * g.source_width;
        for (int y = 0; y < kSweepRows; ++y) {
            const int r = row(y);
            const T *centre = g.centre + i64(r) * width, offset = g.offsets[hypothesis];
            T* out = warped + y * width;
            T* valid = seen + y * width;
            i64 x = 0;
            for (; x + kWidth<T> <= width; x += kWidth<T>) {
                warp_lanes(image, source, r, x, load<Lanes<T>>(centre + x) + offset, out + x, valid + x);
            }
            if (x < width) {  // what is left of the row, through lanes of their own
                T q[kWidth<T>] = {}, o[kWidth<T>], ok[kWidth<T>];
                for (i64 k = x; k < width; ++k) q[k - x] = centre[k] + offset;
                warp_lanes(image, source, r, x, load<Lanes<T>>(q), o, ok);
                for (i64 k = x; k < width; ++k) out[k] = o[k - x], valid[k] = ok[k - x];
            }
            moments(out, reference(y), u + y * width, uv + y * width);
#pragma omp simd
            for (i64 x = 0; x < width; ++x) line[x] = out[x] * out[x];
            sum_along<kSweepRadius>(line, width, padded, uu + y * width);
        }
    }

    // Correlation of the warped source with the reference, kept where it is among a pixel's two best.
    void compare(int source) {
        constexpr int kSide = 2 * kSweepRadius + 1;
        const T share = T(1) / (kSide * kSide);
        for (int y = 0; y < kSweepBand + 2; ++y) {  // of scores: one row beyond the band on either side
            T *top = best + y * width, *next = second + y * width;
            const T *valid = seen + (y + kSweepRadius) * width, *u0 = u + y * width, *uv0 = uv + y * width;
            const T *uu0 = uu + y * width, *v0 = v + y * width, *vv0 = vv + y * width;
            const i64 stride = width;
            const bool more = source > 0;
#pragma omp simd
            for (i64 x = 0; x < width; ++x) {
                T su{}, suv{}, suu{}, sv{}, svv{};
                for (i64 k = 0; k < kSide; ++k) {
                    const i64 at = k * stride + x;
                    su += u0[at], suv += uv0[at], suu += uu0[at], sv += v0[at], svv += vv0[at];
                }
                T score = sweep_score(suv * share, su * share, sv * share, suu * share, svv * share);
                score = valid[x] > 0 ? score : T(-1);
                T high = more ? top[x] : T(-1), low = more ? next[x] : T(-1);
                next[x] = score > high ? high : score > low ? score : low;
                top[x] = score > high ? score : high;
            }
        }
    }

    // The mean of the two best sources over 3 x 3 pixels, of this hypothesis.
    void smooth() {
        const bool several = g.source_count > 1;
        for (int y = 0; y < kSweepBand + 2; ++y) {
#pragma omp simd
            for (i64 x = 0; x < width; ++x) line[x] = sweep_pair(best[y * width + x], second[y * width + x], several);
            sum_along<1>(line, width, padded, scores + y * width);
        }
        for (int y = first; y < last; ++y) {  // the picture's outermost rows are repeated
            const T *above = scores + ((y > 0 ? y - 1 : 0) - first + 1) * width, *here = scores + (y - first + 1) * width;
            const T* below = scores + ((y + 1 < g.height ? y + 1 : y) - first + 1) * width;
            T* mean = best + (y - first) * width;
#pragma omp simd
            for (i64 x = 0; x < width; ++x) mean[x] = (above[x] + here[x] + below[x]) * (T(1) / 9);
        }
    }

    // Keeps the best hypothesis and the scores beside it, for a parabola through the three.
    void keep(int hypothesis) {
        for (int y = first; y < last; ++y)
#pragma omp simd
            for (i64 x = 0; x < width; ++x) {
                i64 at = i64(y) * width + x;
                T score = best[(y - first) * width + x];
                T* three = g.scores + 3 * at;
                if (hypothesis == 0 || score > three[1]) {
                    three[0] = hypothesis ? g.previous[at] : T(-2);
                    three[1] = score;
                    three[2] = T(-2);
                    g.index[at] = hypothesis;
                } else if (g.index[at] == hypothesis - 1) {
                    three[2] = score;
                }
                g.previous[at] = score;
            }
    }
};

template <class T> void op_plane_sweep(const SweepArgs<T>& g) {
    const int bands = (g.height + kSweepBand - 1) / kSweepBand;
#pragma omp parallel for schedule(dynamic, 1) num_threads(threads_for(i64(g.width) * g.height * 64, g.threads))
    for (int i = 0; i < bands; ++i) {
        SweepBand<T> band(g, sweep_scratch(), i * kSweepBand);
        for (int d = 0; d < g.hypotheses; ++d) {
            for (int s = 0; s < g.source_count; ++s) {
                band.warp(s, d);
                band.compare(s);
            }
            band.smooth();
            band.keep(d);
        }
    }
}

}  // namespace NF_ISA
}  // namespace nf
