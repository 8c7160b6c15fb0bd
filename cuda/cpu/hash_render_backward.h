// Gradients of the fused render, from the record of its samples: composite backward along the rays, then tile by tile
// the networks (whose hidden activations are recomputed, not stored), then the table, one level per thread.
#pragma once
#include "hash_render.h"

namespace nf {
namespace NF_ISA {

// d_log_density (in place of log_density) and d_rgb_logit (in place of rgb) of one thread's record.
template <class T> inline void composite_record(const RenderBackwardArgs<T>& g, int thread, i64 first, i64 last) {
    Scratch& scratch = thread_scratch();
    CompositorBackward<T>* rays = scratch.take<CompositorBackward<T>>(last - first);
    for (i64 r = first; r < last; ++r)
        rays[r - first].start(load_sums(g.sums + kSums * r), load_sums(g.d_sums + kSums * r));
    i64 base = thread * g.record.capacity;
    for (i64 k = 0; k < g.record.count[thread]; ++k) {
        i64 at = base + k;
        i64 r = g.record.ray[at];
        T *rgb = g.record.rgb + 3 * at, d_density = 0, d_rgb[3] = {0, 0, 0};
        T log_density = g.record.log_density[at];
        if (g.valid[r])
            rays[r - first].step(density_forward(log_density), g.record.length[at], g.record.t[at], rgb, d_density,
                                 d_rgb);
        g.record.log_density[at] = density_backward(log_density, d_density);
        for (int a = 0; a < 3; ++a) rgb[a] = sigmoid_backward(rgb[a], d_rgb[a]);
    }
}

template <class T> struct BackwardTile {
    FieldTile<T> rows, d_rows;
    WeightGradients<T> d_density, d_colour, d_harmonics;
    T* d_bias;
    double d_beta;

    static i64 size(const FieldConfig& c) {
        return 2 * FieldTile<T>::size(c) + WeightGradients<T>::size(c.density_layers, c.density_widths) +
               2 * WeightGradients<T>::size(c.colour_layers, c.colour_widths) +
               i64(kTile) * padded<T>(c.colour_widths[1]) + i64(c.colour_widths[1]) * padded<T>(32) + 1024;
    }
    void take(const FieldConfig& c, const PackedField<T>& field, Scratch& scratch) {
        rows.take(c, field, scratch);
        d_rows.take(c, field, scratch);
        d_density.take(c.density_layers, c.density_widths, scratch);
        d_colour.take(c.colour_layers, field.colour.widths, scratch);
        d_harmonics.take(1, field.harmonics.widths, scratch);
        d_bias = scratch.take<T>(i64(kTile) * padded<T>(field.width));
        d_beta = 0;
    }
};

// Forward again up to the last hidden layer, from the recorded features. Returns the runs found in the tile.
template <class T>
inline int recompute(const RenderBackwardArgs<T>& g, const PackedField<T>& field, const FieldTile<T>& rows, i64 at,
                     int n, int* run_of) {
    const FieldConfig& c = g.field.config;
    i64 width = i64(c.level_count) * c.features, band_row = padded<T>(field.bands), width_row = padded<T>(field.width);
    copy_rows(g.record.features + at * width, width, rows.density.rows[0], i64(padded<T>(int(width))), n, int(width));
    network_forward(field.density, rows.density, n, false);
    int runs = 0;
    for (int s = 0; s < n; ++s) {
        if (s == 0 || g.record.ray[at + s] != g.record.ray[at + s - 1]) {
            const T* d = g.directions + 3 * i64(g.record.ray[at + s]);
            spherical_harmonics(d[0], d[1], d[2], c.degree, rows.bands + runs++ * band_row);
        }
        run_of[s] = runs - 1;
    }
    colour_bias(field, rows, runs);
    copy_row(rows.density.rows[c.density_layers], rows.colour.rows[0], i64(n) * padded<T>(field.code));
    for (int s = 0; s < n; ++s) copy_row(rows.bias + run_of[s] * width_row, rows.colour.rows[1] + s * width_row, width_row);
    network_forward(field.colour, rows.colour, n, true, true);
    return runs;
}

template <class T>
inline void backward_tile(const RenderBackwardArgs<T>& g, const PackedField<T>& field, BackwardTile<T>& b, i64 at,
                          const T* x, int n) {
    const FieldConfig& c = g.field.config;
    int run_of[kTile], runs = recompute(g, field, b.rows, at, n, run_of);
    i64 width = i64(c.level_count) * c.features, feature_row = padded<T>(int(width)), code_row = padded<T>(field.code);
    i64 width_row = padded<T>(field.width), band_row = padded<T>(field.bands), rgb_row = padded<T>(3);
    copy_rows(g.record.rgb + at * 3, i64(3), b.d_rows.colour.rows[c.colour_layers], rgb_row, n, 3);
    network_backward(field.colour, b.rows.colour, b.d_rows.colour, b.d_colour.data, n, true);
    // The first colour layer's gradient, summed over each run, is the gradient of the harmonics' share.
    for (i64 i = 0; i < runs * width_row; ++i) b.d_bias[i] = 0;
    for (int s = 0; s < n; ++s)
        for (i64 i = 0; i < width_row; ++i) b.d_bias[run_of[s] * width_row + i] += b.d_rows.colour.rows[1][s * width_row + i];
    gemm<T>({b.d_bias, 1, width_row}, b.rows.bands, band_row, b.d_harmonics.data[0], band_row, field.width, field.bands,
            runs, true);
    T* d_code = b.d_rows.density.rows[c.density_layers];
    copy_row(b.d_rows.colour.rows[0], d_code, n * code_row);
    b.d_beta += log_densities_backward(g.field, b.rows.density.rows[c.density_layers], code_row, x, g.record.capacity, n,
                                       g.record.log_density + at, d_code);
    network_backward(field.density, b.rows.density, b.d_rows.density, b.d_density.data, n, true);
    for (int s = 0; s < n; ++s)
        for (i64 i = 0; i < width; ++i)
            g.record.features[(at + s) * width + i] = b.d_rows.density.rows[0][s * feature_row + i];
}

// The split first colour layer goes back into one matrix.
template <class T>
inline void collect(const RenderBackwardArgs<T>& g, const PackedField<T>& field, const BackwardTile<T>& b) {
    const FieldConfig& c = g.field.config;
    b.d_density.add_to(c.density_layers, c.density_widths, g.d_density_weights);
    if (g.d_beta) *g.d_beta += T(b.d_beta);
    int inputs = field.code + field.bands;
    for (int o = 0; o < field.width; ++o) {
        T* row = g.d_colour_weights[0] + i64(o) * inputs;
        for (int i = 0; i < field.code; ++i) row[i] += b.d_colour.data[0][o * padded<T>(field.code) + i];
        for (int i = 0; i < field.bands; ++i) row[field.code + i] += b.d_harmonics.data[0][o * padded<T>(field.bands) + i];
    }
    for (int l = 1; l < c.colour_layers; ++l)
        for (int o = 0; o < c.colour_widths[l + 1]; ++o)
            for (int i = 0; i < c.colour_widths[l]; ++i)
                g.d_colour_weights[l][i64(o) * c.colour_widths[l] + i] +=
                    b.d_colour.data[l][o * padded<T>(c.colour_widths[l]) + i];
}

template <class T> void op_render_backward(const RenderBackwardArgs<T>& g) {
    const FieldConfig& c = g.field.config;
    for (int l = 0; l < c.density_layers; ++l)
        for (i64 i = 0; i < i64(c.density_widths[l]) * c.density_widths[l + 1]; ++i) g.d_density_weights[l][i] = 0;
    for (int l = 0; l < c.colour_layers; ++l)
        for (i64 i = 0; i < i64(c.colour_widths[l]) * c.colour_widths[l + 1]; ++i) g.d_colour_weights[l][i] = 0;
    if (g.d_beta) *g.d_beta = 0;
    i64 width = i64(c.level_count) * c.features, capacity = g.record.capacity;
#pragma omp parallel num_threads(g.threads)
    {
        int thread = omp_get_thread_num(), threads = omp_get_num_threads();
        i64 first = g.rays * thread / threads, last = g.rays * (thread + 1) / threads;
        Scratch& scratch = thread_scratch();
        scratch.reset(sizeof(T) * (PackedField<T>::size(c) + BackwardTile<T>::size(c)) +
                      sizeof(CompositorBackward<T>) * size_t(last - first) + 16384);
        composite_record(g, thread, first, last);
        PackedField<T> field;
        field.pack(g.field, scratch);
        BackwardTile<T> b;
        b.take(c, field, scratch);
        i64 count = g.record.count[thread];
        for (i64 k = 0; k < count; k += kTile)
            backward_tile(g, field, b, thread * capacity + k, g.record.x + thread * 3 * capacity + k,
                          int(min_<i64>(kTile, count - k)));
#pragma omp barrier
#pragma omp for ordered schedule(static, 1)
        for (int t = 0; t < threads; ++t)
#pragma omp ordered
            collect(g, field, b);
#pragma omp for schedule(dynamic, 1)
        for (int l = 0; l < c.active; ++l)
            for (int part = 0; part < threads; ++part)
                for (i64 k = 0; k < g.record.count[part]; k += kTile) {
                    int n = int(min_<i64>(kTile, g.record.count[part] - k));
                    T x[3][kTile] = {};
                    for (int a = 0; a < 3; ++a)
                        for (int s = 0; s < n; ++s) x[a][s] = g.record.x[(part * 3 + a) * capacity + k + s];
                    NF_FOR_FEATURES(c.features, (scatter_level<T, kF>(
                        c.levels[l], g.d_table, x[0], kTile, n,
                        g.record.features + (part * capacity + k) * width + l * kF, width)))
                }
    }
}

}  // namespace NF_ISA
}  // namespace nf
