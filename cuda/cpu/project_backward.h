// Projection, backward, in lanes of rows; either written out or taken by Adam at once, for the Gaussians that were
// seen.
#pragma once
#include "project.h"

namespace nf {
namespace NF_ISA {

// Gradients of W rows: `core` in the order of a packed Gaussian, `rest` of the harmonics from the second on.
template <class T> struct GroupGradient {
    Lanes<T> core[kCore], rest[3 * kBasis], seen;
};

template <class T>
void project_backward_group(const ProjectBackwardArgs<T>& g, i64 row, int n, bool wants_rest, GroupGradient<T>& out,
                            const T* pulls) {
    constexpr int W = kWidth<T>;
    using V = Lanes<T>;
    const i32* ids = g.ids + row;
    V in[kCore], seen_row[kRow], d[kRow];
    load_gaussians(g.gaussians, ids, n, in);
    const T *rows[W], *d_rows[W];
    for (int i = 0; i < W; ++i) {
        rows[i] = g.rows + kRow * (row + (i < n ? i : 0));
        d_rows[i] = g.d_rows + kRow * (row + (i < n ? i : 0));
    }
    columns_of(rows, seen_row);
    columns_of(d_rows, d);
    Projection<V> projection;
    Ellipse<V> e,
        d_e = {d[0], d[1], d[2], d[3], d[4], d[5], d[kDepthAt], {d[kNormalAt], d[kNormalAt + 1], d[kNormalAt + 2]}};
    Shape<V> shape = shape_of<T>(in), d_shape;
    projection.forward(g.camera, shape, e);
    projection.backward(g.camera, e, d_e, d_shape);

    V colour[3], direction[3], basis[kBasis], d_basis[kBasis], rest[3 * kBasis], d_direction[3];
    out.seen = abs_(d[5]);
    for (int a = 0; a < 3; ++a) {
        colour[a] = select_(seen_row[kColourAt + a] > 0, d[kColourAt + a], V{});
        out.seen += abs_(colour[a]);
    }
    V inverse = direction_to(g.camera.centre, shape.mean, direction);
    int used = rest_count<T>(g.degree), degree = g.degree + 1;
    spherical_harmonics(direction[0], direction[1], direction[2], degree, basis);
    if (used) {
        load_rest(g.gaussians, ids, n, used, rest);
        for (int k = 1; k < degree * degree; ++k)
            d_basis[k] = harmonic_slope(colour, rest + 3 * k - 3);
        spherical_harmonics_backward(direction[0], direction[1], direction[2], degree, d_basis, d_direction[0],
                                     d_direction[1], d_direction[2]);
        direction_backward(direction, inverse, d_direction, d_shape.mean);
    }
    projection.pull(pulls[0], pulls[1], d_shape);
    for (int a = 0; a < 3; ++a) {
        out.core[a] = d_shape.mean[a];
        out.core[3 + a] = d_shape.log_scale[a];
        out.core[kHarmonicAt + a] = colour[a] * basis[0];
    }
    for (int a = 0; a < 4; ++a) out.core[6 + a] = d_shape.quaternion[a];
    out.core[10] = d_shape.logit;
    out.core[14] = out.core[15] = V{};
    if (!wants_rest) return;
    for (int k = 1; k < degree * degree; ++k)
        for (int a = 0; a < 3; ++a) out.rest[3 * k - 3 + a] = basis[k] * colour[a];
    for (int i = used; i < 3 * kBasis; ++i) out.rest[i] = V{};
}

template <class T> void write_gradient(const ProjectBackwardArgs<T>& g, i64 id, const T* core, const T* rest) {
    const GaussianArrays<T, T>& to = g.gradient;
    for (int a = 0; a < 3; ++a) to.means[3 * id + a] = core[a];
    for (int a = 0; a < 3; ++a) to.scales[3 * id + a] = core[3 + a];
    for (int a = 0; a < 4; ++a) to.rotations[4 * id + a] = core[6 + a];
    to.logits[id] = core[10];
    T* harmonics = to.harmonics + to.harmonic_stride * id;
    for (int a = 0; a < 3; ++a) harmonics[a] = core[kHarmonicAt + a];
    for (int i = 0; i < rest_count<T>(g.degree); ++i) harmonics[3 + i] = rest[i];
}

template <class T> void op_splat_project_backward(const ProjectBackwardArgs<T>& g) {
    constexpr int W = kWidth<T>;
    const T no_pulls[2] = {0, 0};
#pragma omp parallel for schedule(dynamic, 1) num_threads(g.threads)
    for (i64 chunk = 0; chunk < chunks_of(g.gaussians.count); ++chunk)
        for (int begin = 0; begin < g.chunk_count[chunk]; begin += W) {
            i64 row = chunk * kChunk + begin;
            int n = min_(W, g.chunk_count[chunk] - begin);
            GroupGradient<T> gradient;
            project_backward_group(g, row, n, true, gradient, no_pulls);
            T core[W][kCore], rest[3 * kBasis][W], own[3 * kBasis];
            rows_of_columns<T>(gradient.core, core);
            for (int i = 0; i < 3 * kBasis; ++i) store(rest[i], gradient.rest[i]);
            for (int i = 0; i < n; ++i) {
                for (int k = 0; k < rest_count<T>(g.degree); ++k) own[k] = rest[k][i];
                write_gradient(g, g.ids[row + i], core[i], own);
            }
        }
}

// `count` elements, whole lanes: rates[i] times Adam's step, or one rate for all (in the settings) if null.
template <class T>
NF_HD void adam_row(const T* gradient, T* value, T* m, T* v, int count, const AdamSettings& settings, const T* rates) {
    using V = Lanes<T>;
    for (int i = 0; i < count; i += kWidth<T>) {
        V first = load<V>(m + i), second = load<V>(v + i);
        V change = adam_update(load<V>(gradient + i), first, second, settings);
        if (rates) change *= load<V>(rates + i);
        store(m + i, first);
        store(v + i, second);
        store(value + i, load<V>(value + i) + change);
    }
}

template <class T> void adam_group(const SplatAdamArgs<T>& g, i64 row, int n) {
    constexpr int W = kWidth<T>;
    const ProjectBackwardArgs<T>& pass = g.pass;
    const T pulls[2] = {g.opacity_pull, g.scale_pull};
    for (int i = 0; i < n; ++i) {
        i64 id = pass.ids[row + i];
        __builtin_prefetch(g.m.packed + kCore * id, 1);
        __builtin_prefetch(g.v.packed + kCore * id, 1);
    }
    GroupGradient<T> gradient;
    project_backward_group(pass, row, n, g.update_rest, gradient, pulls);
    u32 seen = bits_ge(gradient.seen, Lanes<T>{} + T(1e-30));
    T core[W][kCore];
    rows_of_columns<T>(gradient.core, core);
    for (int i = 0; i < n; ++i) {
        if (!(seen >> i & 1)) continue;
        i64 id = pass.ids[row + i];
        adam_row(core[i], g.values.packed + kCore * id, g.m.packed + kCore * id, g.v.packed + kCore * id, kCore,
                 g.settings, g.rates);
        if (!g.statistics) continue;
        const T* d = pass.d_rows + kRow * (row + i);
        for (int a = 0; a < 3; ++a) g.statistics[4 * id + a] += d[kWeightAt + a];
        g.statistics[4 * id + 3] += 1;
    }
    if (!g.update_rest) return;
    for (int at = 0; at < rest_count<T>(pass.degree); at += W) {
        transpose(gradient.rest + at);
        for (int i = 0; i < n; ++i) {
            if (!(seen >> i & 1)) continue;
            i64 place = g.values.rest_stride * pass.ids[row + i] + at;
            adam_row(reinterpret_cast<const T*>(gradient.rest + at + i), g.values.rest + place, g.m.rest + place,
                     g.v.rest + place, W, g.rest_settings, static_cast<const T*>(nullptr));
        }
    }
}

template <class T> void op_splat_adam(const SplatAdamArgs<T>& g) {
    constexpr int W = kWidth<T>;
#pragma omp parallel for schedule(dynamic, 1) num_threads(g.pass.threads)
    for (i64 chunk = 0; chunk < chunks_of(g.pass.gaussians.count); ++chunk) {
        int rows = g.pass.chunk_count[chunk];
        for (int begin = 0; begin < rows; begin += W) adam_group(g, chunk * kChunk + begin, min_(W, rows - begin));
        if (rows && g.boxes) box_of_chunk(g.pass.gaussians, chunk, g.boxes + kBox * chunk);
    }
}

}  // namespace NF_ISA
}  // namespace nf
