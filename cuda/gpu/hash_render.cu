// The fused renderer of the hash field: rays to accumulated colours in one kernel, and the gradients of such a pass.
//
// A lane marches a ray; a step of a warp is one sample of each of its 32 rays, through grid, networks and compositor.
// Early ray termination: a ray that is opaque or has left the scene makes room for the next one from a common counter,
// so nothing is evaluated behind a surface and warps stay full. A training pass records its samples; those of a ray are
// a list, front to back.
#include "hash_field.h"
#include "../composite.h"
#include "../march.h"

namespace nf {

constexpr int kTilesForward = 2;  // a sample a lane
constexpr int kRefill = 8;        // lanes without a ray before new ones are fetched
constexpr int kTilesBackward = NF_TILES, kRowsBackward = 16 * kTilesBackward;

struct View {
    const float *origins, *directions, *jitter;  // jitter may be null
    i64 rays;
    OccupancyView occupancy;
    MarchSettings march;
    i32 contraction;
    float extent;
};

struct Weights {
    const float* table;
    const u32* words;
    NF_DEVICE const u32* colour() const { return words + packed_words<NF_FORWARD, Density>(); }
};

struct Out {
    float* sums;
    unsigned char* valid;
    u64* counters;  // rays taken, samples evaluated, samples recorded
};

struct Record {
    i64 capacity;
    Element* encoded;                    // [capacity, kEncodedRow]
    float *x, *log_density, *rgb, *t, *length;
    i32 *ray, *next, *first;             // a ray's first sample and each sample's next one, -1: none
};

struct Walker {
    RayMarch<float> march;
    Compositor<float> sum;
    i64 ray = -1;
    i32 last = -1;  // recorded sample
};

NF_DEVICE void finish(const Out& out, Walker& walker, bool whole) {
    store_sums(out.sums + kSums * walker.ray, walker.sum);
    out.valid[walker.ray] = whole;
    walker.ray = -1;
}

// Gives rays to lanes without one. False when the warp has none left.
template <bool kRecord, int M>
NF_DEVICE bool refill(const View& view, const Out& out, const Record& record, Walker& walker, WarpRows<M>& rows,
                      bool& exhausted) {
    u32 idle = __ballot_sync(kWholeWarp, walker.ray < 0);
    if (exhausted || (idle != kWholeWarp && __popc(idle) < kRefill)) return idle != kWholeWarp;
    i64 first = take_places(out.counters, __popc(idle)), mine = first + rank_in(idle);
    exhausted = first + __popc(idle) >= view.rays;
    if (walker.ray < 0 && mine < view.rays) {
        walker = Walker();
        walker.ray = mine;
        const float *o = view.origins + 3 * mine, *d = view.directions + 3 * mine;
        walker.march.start(o, d, view.jitter ? view.jitter[mine] : 0.0f, view.march);
        band_row(d, rows.bands + lane_of_warp() * kBandStride);
        if constexpr (kRecord) record.first[mine] = -1;
    }
    __syncwarp();
    return __ballot_sync(kWholeWarp, walker.ray >= 0) != 0;
}

template <int M>
NF_DEVICE void keep(const Record& record, i64 at, Walker& walker, const float* x, float t, float length,
                    const float* rgb, const WarpRows<M>& rows) {
    int lane = lane_of_warp();
    const uint4* from = reinterpret_cast<const uint4*>(rows.encoded + lane * kEncodedStride);
    uint4* to = reinterpret_cast<uint4*>(record.encoded + at * kEncodedRow);
    NF_UNROLL for (int i = 0; i < kEncodedRow / kMargin; ++i) to[i] = from[i];
    NF_UNROLL for (int a = 0; a < 3; ++a) {
        record.x[3 * at + a] = x[a];
        record.rgb[3 * at + a] = rgb[a];
    }
    record.log_density[at] = rows.out[lane][3];
    record.t[at] = t;
    record.length[at] = length;
    record.ray[at] = i32(walker.ray);
    record.next[at] = -1;
    (walker.last < 0 ? record.first[walker.ray] : record.next[walker.last]) = i32(at);
    walker.last = i32(at);
}

template <bool kRecord>
NF_DEVICE void render(const View& view, const Weights& weights, float floor, const Out& out, const Record& record) {
    constexpr int M = kTilesForward;
    __shared__ WarpRows<M> shared[kWarps];
    WarpRows<M>& rows = shared[warp_of_block()];
    clear_rows(rows);
    int lane = lane_of_warp();
    i64 evaluated = 0;
    bool exhausted = false;
    Walker walker;
    while (refill<kRecord>(view, out, record, walker, rows, exhausted)) {
        float x[3], t, length;
        bool has = walker.ray >= 0 && walker.march.next(view.occupancy, view.march, x, t, length);
        if (walker.ray >= 0 && !has) finish(out, walker, true);
        u32 busy = __ballot_sync(kWholeWarp, has);
        if (!busy) continue;
        evaluated += __popc(busy);
        if (has) {
            t += length / 2;
            contract(x, view.contraction, view.extent);
            encode_row(weights.table, x, rows.encoded + lane * kEncodedStride);
        }
        __syncwarp();
        DensityChain<M> density;
        density_of_rows(rows, weights.words, density);
        float weight = has ? walker.sum.take(alpha_of(density_forward(rows.out[lane][3]), length)) : 0.0f;
        bool counts = has && !(weight < floor);  // NaN too
        u32 vote = __ballot_sync(kWholeWarp, counts);
        bool lost = false;
        if (vote) {
            ColourChain<M> colour;
            colour_input(rows, output_of(density), colour);
            colour_of_rows(rows, weights.colour(), colour);
            float rgb[3];
            NF_UNROLL for (int a = 0; a < 3; ++a) rgb[a] = sigmoid_forward(rows.out[lane][a]);
            if (counts) walker.sum.add(weight, rgb, t, length);
            if constexpr (kRecord) {
                i64 at = take_places(out.counters + 2, __popc(vote)) + rank_in(vote);
                lost = counts && at >= record.capacity;
                if (counts && !lost) keep(record, at, walker, x, t, length, rgb, rows);
            }
        }
        __syncwarp();
        if (has && (lost || walker.sum.opaque())) finish(out, walker, !lost);
    }
    if (lane == 0 && evaluated) atomicAdd(out.counters + 1, u64(evaluated));
}

// Gradients of rgb of samples [first, first + here), over what is there already.
template <int M, int N> NF_DEVICE void load_colours(const float* d_rgb, i64 first, int here, Rows<M, N>& d_out) {
    NF_UNROLL for (int m = 0; m < M; ++m)
        NF_UNROLL for (int i = 0; i < 4; ++i) {
            int row = row_of(m, i), column = column_of(0, i);
            if (row < here && column < 3) d_out.v[m][0][i] = d_rgb[3 * (first + row) + column];
        }
}

NF_DEVICE i64 recorded(const u64* counters, i64 capacity) { return min_<i64>(i64(counters[2]), capacity); }

}  // namespace nf

using namespace nf;

NF_KERNEL field_pack(const float* flat, u32* forward, u32* backward) {
    int i = int(global_thread());
    int first = packed_words<NF_FORWARD, Density>(), first_back = packed_words<NF_BACKWARD, Density>();
    const float* colour = flat + true_weights<Density>();
    if (i < first) forward[i] = packed_word<NF_FORWARD, Density, false>(flat, i);
    else if (i < first + packed_words<NF_FORWARD, Colour>())
        forward[i] = packed_word<NF_FORWARD, Colour, false>(colour, i - first);
    if (i < first_back) backward[i] = packed_word<NF_BACKWARD, Density, true>(flat, i);
    else if (i < first_back + packed_words<NF_BACKWARD, Colour>())
        backward[i] = packed_word<NF_BACKWARD, Colour, true>(colour, i - first_back);
}

NF_KERNEL __launch_bounds__(kThreads) render_picture(
    const float* origins, const float* directions, const float* jitter, i64 rays, const u64* words, const u64* blocks,
    double min_step, double max_step, double cone, double near, i64 cascades, i64 contraction, double extent,
    const float* table, const u32* forward, double floor, float* sums, unsigned char* valid, u64* counters) {
    View view = {origins, directions, jitter, rays, {words, blocks},
                 {float(min_step), float(max_step), float(cone), float(near), i32(cascades)}, i32(contraction),
                 float(extent)};
    render<false>(view, {table, forward}, float(floor), {sums, valid, counters}, {});
}

NF_KERNEL __launch_bounds__(kThreads) render_recorded(
    const float* origins, const float* directions, const float* jitter, i64 rays, const u64* words, const u64* blocks,
    double min_step, double max_step, double cone, double near, i64 cascades, i64 contraction, double extent,
    const float* table, const u32* forward, float* sums, unsigned char* valid, u64* counters, i64 capacity,
    Element* encoded, float* x, float* log_density, float* rgb, float* t, float* length, i32* ray, i32* next,
    i32* first) {
    View view = {origins, directions, jitter, rays, {words, blocks},
                 {float(min_step), float(max_step), float(cone), float(near), i32(cascades)}, i32(contraction),
                 float(extent)};
    Record record = {capacity, encoded, x, log_density, rgb, t, length, ray, next, first};
    render<true>(view, {table, forward}, 0.0f, {sums, valid, counters}, record);
}

// In place: log_density becomes its gradient, rgb that of the colour before its activation.
NF_KERNEL render_ray_gradients(const float* sums, const float* d_sums, const unsigned char* valid, i64 rays,
                               float* log_density, float* rgb, const float* t, const float* length, const i32* next,
                               const i32* first) {
    i64 r = global_thread();
    if (r >= rays) return;
    CompositorBackward<float> c;
    c.start(load_sums(sums + kSums * r), load_sums(d_sums + kSums * r));
    for (i64 at = first[r]; at >= 0; at = next[at]) {
        float density = log_density[at], *colour = rgb + 3 * at, d_density = 0, d_rgb[3] = {0, 0, 0};
        if (valid[r]) c.step(density_forward(density), length[at], t[at], colour, d_density, d_rgb);
        log_density[at] = density_backward(density, d_density);
        for (int a = 0; a < 3; ++a) colour[a] = sigmoid_backward(colour[a], d_rgb[a]);
    }
}

NF_KERNEL __launch_bounds__(kThreads) render_network_gradients(
    const float* directions, const u32* forward, const u32* backward, const u64* counters, i64 capacity,
    const Element* encoded, const float* d_log_density, const float* d_rgb, const i32* ray, float* d_encoded,
    float* parts) {
    constexpr int M = kTilesBackward;
    __shared__ Stage<NF_BACKWARD, M, NF_COLUMNS> stage;
    alignas(16) __shared__ Element bands[kWarps][kRowsBackward * kBandStride];
    Element* my_bands = bands[warp_of_block()];
    int lane = lane_of_warp();
    for (int i = lane; i < kRowsBackward * kBandStride; i += 32) my_bands[i] = Element(0);
    __syncwarp();
    GradientsOf<DensityChain<M>>::Type d_density;
    GradientsOf<ColourChain<M>>::Type d_colour;
    clear(d_density);
    clear(d_colour);
    i64 count = recorded(counters, capacity), tile = i64(kWarps) * kRowsBackward;
    for (i64 begin = blockIdx.x * tile; begin < count; begin += gridDim.x * tile) {
        i64 first = begin + warp_of_block() * kRowsBackward;
        int here = int(max_<i64>(min_<i64>(count - first, kRowsBackward), 0));
        if (lane < here) band_row(directions + 3 * i64(ray[first + lane]), my_bands + lane * kBandStride);
        __syncwarp();
        DensityChain<M> density;
        load_rows(encoded + first * kEncodedRow, kEncodedRow, here, density.input);
        network_forward(density, forward);
        ColourChain<M> colour;
        Operand<NF_FORWARD, M, kBandRow> harmonics;
        load_rows(my_bands, kBandStride, kRowsBackward, harmonics);
        put_columns<0>(operand<NF_FORWARD>(output_of(density)), colour.input);
        put_columns<kCode>(harmonics, colour.input);
        network_forward(colour, forward + packed_words<NF_FORWARD, Density>());
        __syncwarp();

        auto d_out = output_of(colour);
        clear(d_out);
        load_colours(d_rgb, first, here, d_out);
        Rows<M, Colour::padded_input> d_input;
        network_backward(colour, d_out, backward + packed_words<NF_BACKWARD, Density>(), stage, d_colour, d_input);
        Rows<M, kCode> d_code;
        NF_UNROLL for (int m = 0; m < M; ++m)
            NF_UNROLL for (int j = 0; j < kCode / 8; ++j)
                NF_UNROLL for (int i = 0; i < 4; ++i) d_code.v[m][j][i] = d_input.v[m][j][i];
        if (lane % 4 == 0)
            NF_UNROLL for (int m = 0; m < M; ++m)
                NF_UNROLL for (int i = 0; i < 4; i += 2)
                    if (row_of(m, i) < here) d_code.v[m][0][i] += d_log_density[first + row_of(m, i)];
        Rows<M, kEncodedRow> d_features;
        network_backward(density, d_code, backward, stage, d_density, d_features);
        for_pairs<M, kEncodedRow>([&](int m, int k, int pair) {
            int row = row_of(m, 2 * pair);
            const float* v = d_features.v[m][2 * k + pair / 2] + 2 * (pair % 2);
            if (row < here)
                *reinterpret_cast<float2*>(d_encoded + (first + row) * kEncodedRow + column_of(k, 2 * pair)) = {v[0], v[1]};
        });
    }
    float* part = parts + blockIdx.x * i64(padded_weights<Density>() + padded_weights<Colour>());
    store_gradients(d_density, part);
    store_gradients(d_colour, part + padded_weights<Density>());
}

NF_KERNEL render_sum(const float* parts, i64 blocks, float* d_flat) {
    i64 i = global_thread(), stride = padded_weights<Density>() + padded_weights<Colour>();
    i64 first = true_weights<Density>();
    if (i < first) d_flat[i] = summed_gradient<Density>(parts, blocks, stride, i);
    else if (i < first + true_weights<Colour>())
        d_flat[i] = summed_gradient<Colour>(parts + padded_weights<Density>(), blocks, stride, i - first);
}

// Blocks of one level each, as in hash_grid.cu.
NF_KERNEL render_scatter(const float* x, const float* d_encoded, const u64* counters, i64 capacity, float* d_table) {
    i64 s = global_thread();
    int level = blockIdx.y;
    if (s >= recorded(counters, capacity)) return;
    float p[3] = {x[3 * s], x[3 * s + 1], x[3 * s + 2]};
    scatter_level(kLevels[level], d_table, p, d_encoded + s * kEncodedRow + level * kFeatures);
}

// Density at points of the inner cube's frame.
NF_KERNEL __launch_bounds__(kThreads) field_density(const float* x, i64 samples, i64 contraction, double extent,
                                                    const float* table, const u32* forward, float* out) {
    constexpr int M = kTilesForward;
    __shared__ WarpRows<M> shared[kWarps];
    WarpRows<M>& rows = shared[warp_of_block()];
    clear_rows(rows);
    int lane = lane_of_warp();
    i64 step = i64(gridDim.x) * kThreads;
    for (i64 first = (i64(blockIdx.x) * kWarps + warp_of_block()) * 32; first < samples; first += step) {
        i64 s = first + lane;
        if (s < samples) {
            float p[3] = {x[3 * s], x[3 * s + 1], x[3 * s + 2]};
            contract(p, i32(contraction), float(extent));
            encode_row(table, p, rows.encoded + lane * kEncodedStride);
        }
        __syncwarp();
        DensityChain<M> chain;
        density_of_rows(rows, forward, chain);
        if (s < samples) out[s] = density_forward(rows.out[lane][3]);
        __syncwarp();
    }
}
