// The door between bind_splat.cpp and the kernels of Gaussian splatting: plain structs, one table per instruction set.
#pragma once
#include "../adam.h"
#include "../project.h"
#include "../rows.h"

namespace nf {

constexpr int kBox = 8;  // of a chunk: least and most of the means, the largest scale, one of no use

template <class T> struct ProjectArgs {
    GaussianArrays<T> gaussians;
    Pinhole<T> camera;
    int degree;      // of harmonics, 0 to 3
    const T* boxes;  // [chunks, kBox] or null
    T* rows;
    i32 *ids, *chunk_count, *slot, *key;  // [N], [chunks], [N]: first slot of a row's pairs; bits of its depth as float
    i64* totals;                    // [2 + chunks]: rows, slots that their pairs can need; the rest is scratch
    int threads;
};

template <class T> struct ListArgs {
    const T* rows;
    const i32 *chunk_count, *slot, *key;
    i64 count, slots;
    int width, height;
    i32 *tile_offset, *block_offset;  // [tiles + 1]: entries; places of their pixel masks
    TileEntry* entries;               // [slots] by tile, from front to back
    i32* pairs;                       // [N]: pairs of a row, in slots from slot[row] on
    int threads;
};

template <class T> struct BlendArgs {
    const T* rows;
    const i32 *ids, *chunk_count, *slot, *pairs, *tile_offset, *block_offset;
    const TileEntry* entries;
    i64 count, slots;
    int width, height;
    T background[3];
    T *rgb, *opacity, *depth, *normal;   // [H, W, 3], [H, W], [H, W], [H, W, 3]; the last two may be null
    T *weight_slots, *importance;        // [slots], [N] of Gaussians, both or none; importance is added to
    unsigned short *seen, *pixels;       // [slots] by entry: blocks that count; a mask of pixels for each such block
    i32* visited;                        // [tiles] entries until all pixels were opaque
    const T *d_rgb, *d_opacity, *d_depth, *d_normal, *error;  // all but the first may be null; error [H, W]
    T *gradient_slots, *d_rows;          // [slots, kRow], [N, kRow]
    unsigned char* filled;               // [slots]: whether a slot was written
    int threads;
};

template <class T> struct ProjectBackwardArgs {
    GaussianArrays<T> gaussians;
    Pinhole<T> camera;
    int degree;
    const T *rows, *d_rows;
    const i32 *ids, *chunk_count;
    GaussianArrays<T, T> gradient;  // written where there is a row
    int threads;
};

// Adam where a row has a gradient, with a rate for each element of a packed Gaussian.
template <class T> struct SplatAdamArgs {
    ProjectBackwardArgs<T> pass;  // `gradient` unused
    GaussianArrays<T, T> values, m, v;
    T rates[kCore];               // of the core's elements, times the rate of `settings`
    AdamSettings settings, rest_settings;
    bool update_rest;
    T opacity_pull, scale_pull;   // added to the gradient: of the opacity, of the mean scale
    T* statistics;                // [N, 4] or null, added to: weight, weight times error, pull on (x, y), times seen
    T* boxes;                     // or null; renewed where something moved
};

template <class T> struct ImageLossArgs {
    const T *rgb, *target, *mask;  // [H, W, 3] twice, [H, W] or null: weight of a pixel
    int width, height;
    T ssim_weight;
    T *d_rgb, *error;    // [H, W, 3], [H, W]
    double* sums;        // [2]: mean absolute error, mean SSIM
    int threads;
};

template <class T> struct BoxArgs {
    GaussianArrays<T> gaussians;
    T* boxes;  // [chunks, kBox]
    int threads;
};

// One op a line: name is op_<name><T> in the schedules, and run_splat::<name> in the binding.
#define NF_SPLAT_OPS(OP)                              \
    OP(splat_project, ProjectArgs)                    \
    OP(splat_boxes, BoxArgs)                          \
    OP(splat_lists, ListArgs)                         \
    OP(splat_blend, BlendArgs)                        \
    OP(splat_blend_backward, BlendArgs)               \
    OP(splat_project_backward, ProjectBackwardArgs)   \
    OP(splat_adam, SplatAdamArgs)                     \
    OP(image_loss, ImageLossArgs)

template <class T> struct SplatKernels {
#define NF_OP(name, Args) void (*name)(const Args<T>&);
    NF_SPLAT_OPS(NF_OP)
#undef NF_OP
};

struct SplatKernelSet {
    const char* name;
    SplatKernels<float> f32;
    SplatKernels<double> f64;
};

}  // namespace nf
