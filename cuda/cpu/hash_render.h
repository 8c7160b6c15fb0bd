// The fused renderer, from rays to accumulated colours in one pass: march, encode, density, weights, colour, composite,
// tile by tile.
//
// A tile is filled with short runs of several rays. Early ray termination: after each tile opaque rays leave, so
// nothing is evaluated far behind a surface. A training pass records the samples with weight, for
// hash_render_backward.h.
#pragma once
#include "../composite.h"
#include "hash_field.h"

namespace nf {
namespace NF_ISA {

constexpr int kRun = 8;  // samples of one ray in one tile: later ones may turn out to lie behind a surface

template <class T> struct Slot {
    i64 ray;
    RayMarch<T> march;
    Compositor<T> out;
    bool ended, dropped;
};

template <class T> struct RenderTile {
    T x[3][kTile], t[kTile], length[kTile], log_density[kTile], alpha[kTile], weight[kTile];
    int kept[kTile], run_of[kTile];
    int samples, runs;
    OccupancyView occupancy;
    Run run[kMaxRuns];
    Slot<T> slot[kMaxRuns];
};

template <class T>
inline void start_ray(const RenderArgs<T>& g, i64 r, Slot<T>& slot) {
    slot = Slot<T>();
    slot.ray = r;
    slot.march.start(g.origins + 3 * r, g.directions + 3 * r, g.jitter ? g.jitter[r] : T(0), g.settings);
}

template <class T> inline void finish_ray(const RenderArgs<T>& g, const Slot<T>& slot) {
    store_sums(g.sums + kSums * slot.ray, slot.out);
    if (g.valid) g.valid[slot.ray] = !slot.dropped;
}

// Takes the next run of a ray into the tile; false when the ray is over.
template <class T> inline bool march_run(const RenderArgs<T>& g, RenderTile<T>& tile, Slot<T>& slot) {
    Run run = {tile.samples, 0};
    T x[3], t;
    while (run.count < kRun) {
        int s = run.begin + run.count;
        if (!slot.march.next(tile.occupancy, g.settings, x, t, tile.length[s])) {
            slot.ended = true;
            break;
        }
        tile.t[s] = t + tile.length[s] / 2;
        contract(x, g.field.config.contraction, T(g.field.config.extent));
        for (int a = 0; a < 3; ++a) tile.x[a][s] = x[a];
        tile.run_of[s] = tile.runs;
        ++run.count;
    }
    if (!run.count) return false;
    tile.samples += run.count;
    tile.run[tile.runs] = run;
    tile.slot[tile.runs++] = slot;
    return true;
}

// Density and weight of the tile's samples; `kept` holds those with enough weight to need a colour.
template <class T>
inline int weigh(const RenderArgs<T>& g, const PackedField<T>& field, RenderTile<T>& tile, const FieldTile<T>& rows) {
    using V = Lanes<T>;
    const FieldConfig& c = g.field.config;
    int n = tile.samples;
    i64 feature_row = padded<T>(c.density_widths[0]), code_row = padded<T>(field.code);
    for (int a = 0; a < 3; ++a)
        for (int s = n; s < round_up(n, kWidth<T>); ++s) tile.x[a][s] = 0;
    encode_tile(g.field, tile.x[0], kTile, n, rows.density.rows[0], feature_row);
    network_forward(field.density, rows.density, n, false);
    log_densities(g.field, rows.density.rows[c.density_layers], code_row, tile.x[0], kTile, n, tile.log_density);
    for (int s = 0; s < n; s += kWidth<T>)
        store(tile.alpha + s, alpha_of(density_forward(load<V>(tile.log_density + s)), load<V>(tile.length + s)));
    int kept = 0;
    for (int r = 0; r < tile.runs; ++r) {
        Compositor<T>& out = tile.slot[r].out;
        for (int s = tile.run[r].begin; s < tile.run[r].begin + tile.run[r].count && !out.opaque(); ++s) {
            tile.weight[s] = out.take(tile.alpha[s]);
            if (!(tile.weight[s] < g.weight_floor)) tile.kept[kept++] = s;  // NaN too
        }
    }
    return kept;
}

// Colours of the kept samples, accumulated along their rays; rows.colour.rows[last] holds them after the sigmoid.
template <class T>
inline void colour(const RenderArgs<T>& g, const PackedField<T>& field, RenderTile<T>& tile, const FieldTile<T>& rows,
                   int kept) {
    using V = Lanes<T>;
    const FieldConfig& c = g.field.config;
    i64 code_row = padded<T>(field.code), band_row = padded<T>(field.bands), width_row = padded<T>(field.width);
    for (int r = 0; r < tile.runs; ++r) {
        const T* d = g.directions + 3 * tile.slot[r].ray;
        spherical_harmonics(d[0], d[1], d[2], c.degree, rows.bands + r * band_row);
    }
    colour_bias(field, rows, tile.runs);
    for (int k = 0; k < kept; ++k) {
        int s = tile.kept[k];
        copy_row(rows.density.rows[c.density_layers] + s * code_row, rows.colour.rows[0] + k * code_row, code_row);
        copy_row(rows.bias + tile.run_of[s] * width_row, rows.colour.rows[1] + k * width_row, width_row);
    }
    network_forward(field.colour, rows.colour, kept, true);
    i64 rgb_row = padded<T>(3);
    T* rgb = rows.colour.rows[c.colour_layers];
    for (i64 i = 0; i < kept * rgb_row; i += kWidth<T>) store(rgb + i, sigmoid_forward(load<V>(rgb + i)));
    for (int k = 0; k < kept; ++k) {
        int s = tile.kept[k];
        tile.slot[tile.run_of[s]].out.add(tile.weight[s], rgb + k * rgb_row, tile.t[s], tile.length[s]);
    }
}

// Records the tile's samples with weight. False if there is no room.
template <class T>
inline bool record_tile(const RenderArgs<T>& g, int thread, const RenderTile<T>& tile, const FieldTile<T>& rows,
                        int kept) {
    const FieldConfig& c = g.field.config;
    i64 width = i64(c.level_count) * c.features, feature_row = padded<T>(int(width)), rgb_row = padded<T>(3);
    i64 capacity = g.record.capacity, base = thread * capacity, count = g.record.count[thread];
    if (count + kept > capacity) return false;
    for (int k = 0; k < kept; ++k) {
        int s = tile.kept[k];
        i64 at = base + count + k;
        for (i64 i = 0; i < width; ++i) g.record.features[at * width + i] = rows.density.rows[0][s * feature_row + i];
        for (int a = 0; a < 3; ++a) {
            g.record.x[(thread * 3 + a) * capacity + count + k] = tile.x[a][s];
            g.record.rgb[at * 3 + a] = rows.colour.rows[c.colour_layers][k * rgb_row + a];
        }
        g.record.log_density[at] = tile.log_density[s];
        g.record.t[at] = tile.t[s];
        g.record.length[at] = tile.length[s];
        g.record.ray[at] = i32(tile.slot[tile.run_of[s]].ray);
    }
    g.record.count[thread] = count + kept;
    return true;
}

template <class T>
inline i64 render_rays(const RenderArgs<T>& g, const PackedField<T>& field, const FieldTile<T>& rows,
                       RenderTile<T>& tile, i64 begin, i64 end, int thread) {
    bool recording = g.record.capacity > 0, full = false;
    i64 next = begin, evaluated = 0;
    tile.runs = 0;
    while (true) {
        int waiting = tile.runs;  // slots of rays that go on, at the front; runs are built in place, in their order
        tile.samples = tile.runs = 0;
        for (int r = 0; r < waiting; ++r) {
            Slot<T> slot = tile.slot[r];
            if (full) slot.dropped = true;
            if (full || !march_run(g, tile, slot)) finish_ray(g, slot);
        }
        while (next < end && tile.runs < kMaxRuns && tile.samples + kRun <= kTile) {
            Slot<T> slot;
            start_ray(g, next++, slot);
            if (full) slot.dropped = true;
            if (full || !march_run(g, tile, slot)) finish_ray(g, slot);
        }
        if (!tile.samples) {
            if (next >= end) return evaluated;
            continue;
        }
        evaluated += tile.samples;
        int kept = weigh(g, field, tile, rows);
        if (kept) colour(g, field, tile, rows, kept);
        if (recording && !record_tile(g, thread, tile, rows, kept)) full = true;
        int going = 0;
        for (int r = 0; r < tile.runs; ++r) {
            Slot<T>& slot = tile.slot[r];
            slot.dropped = full;
            if (full || slot.ended || slot.out.opaque()) finish_ray(g, slot);
            else tile.slot[going++] = slot;
        }
        tile.runs = going;
    }
}

template <class T> void op_render_forward(const RenderArgs<T>& g) {
    const FieldConfig& c = g.field.config;
    bool recording = g.record.capacity > 0;
    constexpr i64 kChunk = 512;
    u64 blocks[kMaxCascades * kBlockWords];
    find_blocks(g.occupancy, g.settings.cascades, blocks);
#pragma omp parallel num_threads(g.threads)
    {
        Scratch& scratch = thread_scratch();
        scratch.reset(sizeof(T) * (PackedField<T>::size(c) + FieldTile<T>::size(c)) + sizeof(RenderTile<T>) + 16384);
        PackedField<T> field;
        field.pack(g.field, scratch);
        FieldTile<T> rows;
        rows.take(c, field, scratch);
        RenderTile<T>& tile = *scratch.take<RenderTile<T>>(1);
        tile.occupancy = {g.occupancy, blocks};
        int thread = omp_get_thread_num(), threads = omp_get_num_threads();
        g.samples[thread] = 0;
        if (recording) {
            // A fixed share for each thread: the record's order, and so every sum over it, is the same each time.
            g.record.count[thread] = 0;
            g.samples[thread] = render_rays(g, field, rows, tile, g.rays * thread / threads,
                                            g.rays * (thread + 1) / threads, thread);
        } else {
#pragma omp for schedule(dynamic, 1)
            for (i64 chunk = 0; chunk < (g.rays + kChunk - 1) / kChunk; ++chunk)
                g.samples[thread] += render_rays(g, field, rows, tile, chunk * kChunk,
                                                 min_<i64>(g.rays, (chunk + 1) * kChunk), thread);
        }
    }
}

template <class T> void op_density(const DensityArgs<T>& g) {
    const FieldConfig& c = g.field.config;
#pragma omp parallel num_threads(threads_for(g.samples, g.threads))
    {
        using V = Lanes<T>;
        Scratch& scratch = thread_scratch();
        scratch.reset(sizeof(T) * (PackedField<T>::size(c) + FieldTile<T>::size(c)) + 16384);
        PackedField<T> field;
        field.pack(g.field, scratch);
        FieldTile<T> rows;
        rows.take(c, field, scratch);
        share_tiles(g.samples, [&](i64 begin, int n) {
            T x[3][kTile], p[3], log_density[kTile];
            for (int s = 0; s < kTile; ++s) {
                for (int a = 0; a < 3; ++a) p[a] = s < n ? g.x[(begin + s) * 3 + a] : T(0);
                contract(p, c.contraction, T(c.extent));
                for (int a = 0; a < 3; ++a) x[a][s] = p[a];
            }
            encode_tile(g.field, x[0], kTile, n, rows.density.rows[0], padded<T>(c.density_widths[0]));
            network_forward(field.density, rows.density, n, false);
            log_densities(g.field, rows.density.rows[c.density_layers], padded<T>(field.code), x[0], kTile, n, log_density);
            for (int s = 0; s < n; s += kWidth<T>)
                store(log_density + s, density_forward(load<V>(log_density + s)));
            for (int s = 0; s < n; ++s) g.density[begin + s] = log_density[s];
        });
    }
}

}  // namespace NF_ISA
}  // namespace nf
