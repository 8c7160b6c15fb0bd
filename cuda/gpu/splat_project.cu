// Gaussians onto the picture, and back. Compiled for NF_SCALAR; formulas are those of project.h and
// spherical_harmonics.h.
//
// A block does a chunk of Gaussians and compacts the visible ones in their order, so rows are those of the CPU.
// Backward a thread does a row, and no two rows have a Gaussian in common: nothing is added by atomics.
#include "splat.h"
#include "../adam.h"
#include "../spherical_harmonics.h"

using namespace nf;
using T = NF_SCALAR;

// Colour of one Gaussian from a direction: max(0, 0.5 + sum Y_k h_k).
NF_DEVICE void colour_of(const T* first, const T* rest, const T* direction, int degree, T* rgb) {
    T basis[kBasis];
    spherical_harmonics(direction[0], direction[1], direction[2], degree + 1, basis);
    first_harmonic(basis[0], first, rgb);
    NF_UNROLL for (int k = 1; k < kBasis; ++k)
        if (k < (degree + 1) * (degree + 1)) add_harmonic(basis[k], rest + 3 * (k - 1), rgb);
    NF_UNROLL for (int a = 0; a < 3; ++a) rgb[a] = max_(rgb[a], T(0));
}

// How many the warps before this one have, and all of them: of `rows` and of `slots`, by a table in shared memory.
struct Before {
    i32 rows, all_rows;
    i64 slots, all_slots;
};
NF_DEVICE Before before_warp(const i32* rows, const u32* slots) {
    Before sum = {0, 0, 0, 0};
    for (int w = 0; w < kSplatWarps; ++w) {
        if (w == warp_of_block()) sum.rows = sum.all_rows, sum.slots = sum.all_slots;
        sum.all_rows += rows[w];
        sum.all_slots += slots[w];
    }
    return sum;
}

// `slot` counts from the chunk's first; splat_slots makes it count from the picture's.
NF_KERNEL __launch_bounds__(kSplatThreads) splat_project(
        NF_GAUSSIANS(T), NF_VIEW, i64 degree, T* rows, i32* ids, i32* chunk_count, i32* slot, i32* key,
        i64* chunk_slots) {
    __shared__ i32 warp_rows[kSplatWarps];
    __shared__ u32 warp_slots[kSplatWarps];
    const Pinhole<T> camera = NF_CAMERA(T);
    const GaussianArrays<T> g = NF_ARRAYS;
    const i64 start = i64(blockIdx.x) * kChunk;
    const int size = in_chunk(count, blockIdx.x);
    i64 rows_before = 0, slots_before = 0;
    for (int begin = 0; begin < size; begin += kSplatThreads) {
        const int i = begin + int(threadIdx.x);
        const i64 id = start + min_(i, size - 1);
        T first[3];
        Shape<T> shape = load_gaussian(g, id, first);
        Projection<T> projection;
        Ellipse<T> e;
        projection.forward(camera, shape, e);
        Reach<T> reach = reach_of(camera, projection, e);
        TileRange<T> across = tiles_within(e.x, reach.half_width, camera.width);
        TileRange<T> down = tiles_within(e.y, reach.half_height, camera.height);
        T tiles = across.count * down.count;
        const bool seen = i < size && reach.seen >= T(0.5) && tiles >= T(0.5);
        const u32 vote = __ballot_sync(kWholeWarp, seen);
        u32 all_slots;
        const u32 slots = warp_before(seen ? u32(tiles) : 0u, all_slots);
        if (lane_of_warp() == 0) warp_rows[warp_of_block()] = __popc(vote), warp_slots[warp_of_block()] = all_slots;
        __syncthreads();
        const Before before = before_warp(warp_rows, warp_slots);
        if (seen) {
            const i64 row = start + rows_before + before.rows + rank_in(vote);
            T direction[3], rgb[3];
            direction_to(camera.centre, shape.mean, direction);
            colour_of(first, rest_of(g, id), direction, int(degree), rgb);
            const T values[kRow] = {e.x, e.y, e.a, e.b, e.c, e.log_opacity, rgb[0], rgb[1], rgb[2], e.depth,
                                    e.normal[0], e.normal[1], e.normal[2], across.code, down.code, T(0)};
            store_row<kRow>(rows + kRow * row, values);
            ids[row] = i32(id);
            slot[row] = i32(slots_before + before.slots + slots);
            key[row] = i32(__float_as_uint(float(e.depth)));
        }
        rows_before += before.all_rows;
        slots_before += before.all_slots;
        __syncthreads();
    }
    for (i64 i = rows_before + threadIdx.x; i < size; i += kSplatThreads) ids[start + i] = -1;
    if (threadIdx.x == 0) chunk_count[blockIdx.x] = i32(rows_before), chunk_slots[blockIdx.x] = slots_before;
}

// A block does a chunk: its slots begin where those of the chunks before end. totals: rows, slots, these beginnings.
NF_KERNEL __launch_bounds__(kSplatThreads) splat_slots(const i32* chunk_count, const i64* chunk_slots, i64 chunks,
                                                       i32* slot, i64* totals) {
    __shared__ i64 warp_slots[kSplatWarps], warp_rows[kSplatWarps];
    const i64 chunk = blockIdx.x;
    i64 slots = 0, rows = 0;
    for (i64 c = threadIdx.x; c < chunk; c += kSplatThreads) slots += chunk_slots[c], rows += chunk_count[c];
    slots = warp_sum(slots);
    rows = warp_sum(rows);
    if (lane_of_warp() == 0) warp_slots[warp_of_block()] = slots, warp_rows[warp_of_block()] = rows;
    __syncthreads();
    slots = rows = 0;
    for (int w = 0; w < kSplatWarps; ++w) slots += warp_slots[w], rows += warp_rows[w];
    const i32 own = chunk_count[chunk];
    for (i32 i = i32(threadIdx.x); i < own; i += kSplatThreads) slot[chunk * kChunk + i] += i32(slots);
    if (threadIdx.x) return;
    totals[2 + chunk] = slots;
    if (chunk == chunks - 1) totals[0] = rows + own, totals[1] = slots + chunk_slots[chunk];
}

// Gradient of one row: the shape's, the colour's, and the harmonics at its direction.
struct RowGradient {
    Shape<T> shape;
    T rgb[3], basis[kBasis], seen;
};
NF_DEVICE void row_gradient(const GaussianArrays<T>& g, const Pinhole<T>& camera, int degree, i64 id, const T* row,
                            const T* d_row, T opacity_pull, T scale_pull, RowGradient& out) {
    T first[3], d[kRow];
    const Shape<T> shape = load_gaussian(g, id, first);
    load_row<kRow>(d_row, d);
    Projection<T> projection;
    Ellipse<T> e;
    const Ellipse<T> d_e = {d[0], d[1], d[2], d[3], d[4], d[5], d[kDepthAt],
                            {d[kNormalAt], d[kNormalAt + 1], d[kNormalAt + 2]}};
    projection.forward(camera, shape, e);
    projection.backward(camera, e, d_e, out.shape);
    projection.pull(opacity_pull, scale_pull, out.shape);
    out.seen = abs_(d[5]);
    NF_UNROLL for (int a = 0; a < 3; ++a) {
        out.rgb[a] = row[kColourAt + a] > 0 ? d[kColourAt + a] : T(0);
        out.seen += abs_(out.rgb[a]);
    }
    T direction[3], slopes[kBasis], d_direction[3];
    const T inverse = direction_to(camera.centre, shape.mean, direction);
    spherical_harmonics(direction[0], direction[1], direction[2], degree + 1, out.basis);
    if (!degree) return;
    const T* rest = rest_of(g, id);
    NF_UNROLL for (int k = 1; k < kBasis; ++k)
        if (k < (degree + 1) * (degree + 1)) slopes[k] = harmonic_slope(out.rgb, rest + 3 * (k - 1));
    spherical_harmonics_backward(direction[0], direction[1], direction[2], degree + 1, slopes, d_direction[0],
                                 d_direction[1], d_direction[2]);
    direction_backward(direction, inverse, d_direction, out.shape.mean);
}

// The row of this thread, or -1 where there is none.
NF_DEVICE i64 row_of_thread(const i32* chunk_count, i64 count) {
    const i64 row = global_thread();
    return row < count && row % kChunk < chunk_count[row / kChunk] ? row : -1;
}

// Into zeros.
NF_KERNEL splat_project_gradient(NF_GAUSSIANS(T), NF_VIEW, i64 degree, const T* rows, const T* d_rows, const i32* ids,
                                 const i32* chunk_count, T* d_means, T* d_scales, T* d_rotations, T* d_logits,
                                 T* d_harmonics) {
    const i64 row = row_of_thread(chunk_count, count);
    if (row < 0) return;
    const Pinhole<T> camera = NF_CAMERA(T);
    const i64 id = ids[row];
    RowGradient d;
    row_gradient(NF_ARRAYS, camera, int(degree), id, rows + kRow * row, d_rows + kRow * row, 0, 0, d);
    NF_UNROLL for (int a = 0; a < 3; ++a) d_means[3 * id + a] = d.shape.mean[a];
    NF_UNROLL for (int a = 0; a < 3; ++a) d_scales[3 * id + a] = d.shape.log_scale[a];
    NF_UNROLL for (int a = 0; a < 4; ++a) d_rotations[4 * id + a] = d.shape.quaternion[a];
    d_logits[id] = d.shape.logit;
    NF_UNROLL for (int k = 0; k < kBasis; ++k)
        if (k < (degree + 1) * (degree + 1))
            NF_UNROLL for (int a = 0; a < 3; ++a)
                d_harmonics[harmonic_stride * id + 3 * k + a] = d.basis[k] * d.rgb[a];
}

// Four neighbours of value, m and v by their gradients and rates.
NF_DEVICE void adam_four(const T* gradient, const T* rates, const AdamSettings& s, T* value, T* m, T* v) {
    Four<T> x = load_four(value), first = load_four(m), second = load_four(v);
    NF_UNROLL for (int i = 0; i < 4; ++i) x.v[i] += adam_update(gradient[i], first.v[i], second.v[i], s) * rates[i];
    store_four(value, x);
    store_four(m, first);
    store_four(v, second);
}

// Adam where a row has a gradient; packed Gaussians alone. A rate for each kind of parameter, times that of `settings`.
NF_KERNEL splat_adam(NF_GAUSSIANS(T), NF_VIEW, i64 degree, const T* rows, const T* d_rows, const i32* ids,
                     const i32* chunk_count, T* core, T* higher, T* m_core, T* m_higher, T* v_core, T* v_higher,
                     double rate_means, double rate_scales, double rate_rotations, double rate_logits,
                     double rate_colours, double rate, double beta1, double beta2, double epsilon, i64 update_rest,
                     double rest_rate, double rest_beta1, double rest_beta2, double rest_epsilon, double opacity_pull,
                     double scale_pull, T* statistics) {
    const i64 row = row_of_thread(chunk_count, count);
    if (row < 0) return;
    const Pinhole<T> camera = NF_CAMERA(T);
    const i64 id = ids[row];
    RowGradient d;
    row_gradient(NF_ARRAYS, camera, int(degree), id, rows + kRow * row, d_rows + kRow * row, T(opacity_pull),
                 T(scale_pull), d);
    if (!(d.seen >= T(1e-30))) return;
    const AdamSettings settings = {float(rate), float(beta1), float(beta2), float(epsilon)};
    const Shape<T>& s = d.shape;
    const T gradient[kCore] = {s.mean[0], s.mean[1], s.mean[2], s.log_scale[0], s.log_scale[1], s.log_scale[2],
                               s.quaternion[0], s.quaternion[1], s.quaternion[2], s.quaternion[3], s.logit,
                               d.rgb[0] * d.basis[0], d.rgb[1] * d.basis[0], d.rgb[2] * d.basis[0], T(0), T(0)};
    const T rm = T(rate_means), rs = T(rate_scales), rr = T(rate_rotations), rc = T(rate_colours);
    const T rates[kCore] = {rm, rm, rm, rs, rs, rs, rr, rr, rr, rr, T(rate_logits), rc, rc, rc, T(0), T(0)};
    const i64 at = kCore * id;
    NF_UNROLL for (int i = 0; i < kCore; i += 4)
        adam_four(gradient + i, rates + i, settings, core + at + i, m_core + at + i, v_core + at + i);
    if (statistics) {
        NF_UNROLL for (int a = 0; a < 3; ++a) statistics[4 * id + a] += d_rows[kRow * row + kWeightAt + a];
        statistics[4 * id + 3] += 1;
    }
    if (!update_rest) return;
    const AdamSettings slower = {float(rest_rate), float(rest_beta1), float(rest_beta2), float(rest_epsilon)};
    const T one[4] = {1, 1, 1, 1};
    const int used = 3 * ((int(degree) + 1) * (int(degree) + 1) - 1);
    NF_UNROLL for (int i = 0; i < 3 * kBasis; i += 4) {
        if (i >= used) continue;
        T part[4];
        NF_UNROLL for (int k = 0; k < 4; ++k) {
            const int basis = min_((i + k) / 3 + 1, kBasis - 1);  // what lies behind the last is not used
            part[k] = i + k < used ? d.basis[basis] * d.rgb[(i + k) % 3] : T(0);
        }
        const i64 place = rest_stride * id + i;
        adam_four(part, one, slower, higher + place, m_higher + place, v_higher + place);
    }
}
