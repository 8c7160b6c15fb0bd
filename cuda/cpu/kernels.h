// The interface between the Python module and the kernels: plain structs of pointers, the list of ops, one table of
// functions per instruction set. A new op is registered here alone: its arguments, its line in NF_OPS, its header.
//
// S samples, R rays, L levels, F features an entry. All arrays are contiguous; d_x is the gradient of x.
#pragma once
#include "../adam.h"
#include "../grid.h"
#include "../hash_grid.h"
#include "../march.h"
#include "../modulate.h"
#include "../rbf.h"
#include "../signed_distance.h"

namespace nf {

template <class T> struct HashArgs {
    const T* x;  // [S, axes]
    int axes;    // 1 to 3
    i64 samples;
    const T* table;  // [entries, F]
    const HashLevel* levels;
    int level_count, features;
    T* out;         // [S, L * F]
    const T* d_out;
    T* d_table;     // accumulated into
    T* d_x;         // or null
    int threads;
};

template <class T> struct GridArgs {
    GridShape shape;
    const T *x, *grid;  // [S, D], [nodes, C]
    i64 samples;
    T* out;             // [S, C]
    const T* d_out;
    T *d_grid, *d_x;    // added to; written; either may be null
    int threads;
};

template <class T> struct RbfArgs {
    const T *f, *centres, *log_precisions;  // [S, D], [N, D], [N, D]
    i64 samples;
    int features, units;                    // D, N
    RbfKernel kernel;
    T* out;                                 // [S, N]
    const T* d_out;
    T *d_f, *d_centres, *d_log_precisions;  // written; d_f may be null
    int threads;
};

template <class T> struct ModulateArgs {
    ModulatedRow row;
    const T *h, *gamma, *beta;  // [S, width], [S, each], [S, each]
    i64 samples;
    T* out;                     // [S, width]
    const T* d_out;
    T *d_h, *d_gamma, *d_beta;  // written
    int threads;
};

// A stack of bias-free layers with ReLU between them. weights[i]: [widths[i + 1], widths[i]] row-major.
constexpr int kMaxLayers = 8;
template <class T> struct NetworkArgs {
    int layers;
    int widths[kMaxLayers + 1];
    const T* weights[kMaxLayers];
    T* d_weights[kMaxLayers];  // overwritten
    const T* x;                // [S, widths[0]]
    i64 samples;
    T* out;                    // [S, widths[layers]]
    const T* d_out;
    T* d_x;
    int threads;
};

// A dense layer: weight [outputs, inputs] row-major; no bias where it is null. Gradients are overwritten.
template <class T> struct DenseArgs {
    int inputs, outputs;
    const T *weight, *bias;  // [outputs, inputs], [outputs]
    T *d_weight, *d_bias;
};

constexpr int kMostDense = 17, kMostAxes = 4;
template <class T> struct CoordinateArgs {
    int axes, waves;       // of x; random frequencies
    bool direct;           // 2 x - 1 stands before the waves
    const T* frequencies;  // [axes, waves] in cycles
    int layers;            // hidden ones and a linear one
    int skip;              // the layer whose inputs are followed by the encoding, 0: none
    bool normalise;        // hidden layers
    DenseArgs<T> dense[kMostDense];
    const T *x, *gamma, *beta;  // [S, axes], [S, layers - 1] or null
    i64 samples;
    T* out;                     // [S, last outputs]
    const T* d_out;
    T *d_x, *d_gamma, *d_beta;  // written; d_x may be null
    int threads;
};

template <class T> struct HeadsArgs {
    int density_layers, colour_layers, degree;  // no layers of colour: log_density alone
    DenseArgs<T> density[kMaxLayers], colour[kMaxLayers];
    const T *f, *directions;  // [S, inputs], [S, 3]
    i64 samples;
    T *log_density, *rgb;     // [S], [S, 3]
    const T *d_log_density, *d_rgb;
    T* d_f;
    int threads;
};

template <class T> struct CompositeArgs {
    const T *density, *length, *t, *rgb;  // [S], [S], [S], [S, 3]
    const i64* offsets;                   // [R + 1]
    i64 rays;
    T *sums, *out_weight;                 // [R, 7]: rgb, opacity, depth, distortion, squeezed; [S]
    const T* d_sums;                      // [R, 7]
    T *d_density, *d_colour;              // [S], [S, 3]
    int threads;
};

template <class T> struct MarchArgs {
    const T *origins, *directions, *jitter;  // [R, 3], [R, 3], [R]
    i64 rays;
    const u64* occupancy;
    MarchSettings settings;
    i64* offsets;  // [R + 1]
    T *x, *t, *length;  // [S, 3], [S], [S]; null: count only
    int threads;
};

template <class T> struct PixelArgs {
    const T* cameras;  // [N, kCameraFloats]
    const i64* camera;  // [R]
    const T* pixel;     // [R, 2]
    i64 rays;
    T *origins, *directions;
};

template <class T> struct ElementArgs {  // contraction and spherical harmonics
    const T *x, *d_out;
    T *out, *d_x;
    i64 samples;
    i32 kind;  // contraction kind, or degree
    T extent;
    int threads;
};

template <class T> struct AdamArgs {
    T *parameter, *gradient, *m, *v;
    i64 count;
    AdamSettings settings;
    bool sparse;  // leave entries with zero gradient as they are; the gradient is cleared either way
    int threads;
};

struct FieldConfig {  // the hash field: encoding, density network, colour network
    const HashLevel* levels;
    int level_count, features;
    int active;  // levels that are there: the features of the others are 0
    int density_layers, colour_layers;
    int density_widths[kMaxLayers + 1], colour_widths[kMaxLayers + 1];
    int degree;
    i32 contraction;
    float extent;
    DistanceConfig distance;
};

template <class T> struct FieldArgs {
    FieldConfig config;
    T beta;  // scale of a signed distance's density, in inner cubes
    const T* table;
    const T *density_weights[kMaxLayers], *colour_weights[kMaxLayers];
};

// The record of a training pass for its backward: one region of `capacity` samples per thread.
template <class T> struct Record {
    i64 capacity;           // samples per thread
    T *features, *x;        // [threads * capacity, LF], [threads * 3, capacity]
    T *log_density, *rgb, *t, *length;  // [threads * capacity (, 3)]
    i32* ray;               // [threads * capacity]
    i64* count;             // [threads]
};

template <class T> struct RenderArgs {
    FieldArgs<T> field;
    const T *origins, *directions, *jitter;  // jitter may be null
    i64 rays;
    const u64* occupancy;
    MarchSettings settings;
    T weight_floor;         // colours of samples below this weight are not computed
    T* sums;                // [R, 7]: rgb, opacity, depth, distortion, squeezed; no background
    unsigned char* valid;   // [R]: 0 where the record was full
    Record<T> record;       // capacity 0: nothing is kept
    i64* samples;           // [threads] evaluated samples
    int threads;
};

template <class T> struct RenderBackwardArgs {
    FieldArgs<T> field;
    i64 rays;
    const T *directions, *sums, *d_sums;  // [R, 3], [R, 7], [R, 7]
    const unsigned char* valid;
    Record<T> record;
    T* d_table;
    T *d_density_weights[kMaxLayers], *d_colour_weights[kMaxLayers];  // overwritten
    T* d_beta;  // [1], overwritten; null without a distance
    int threads;
};

template <class T> struct DensityArgs {
    FieldArgs<T> field;
    const T* x;  // [S, 3] in the frame of the inner cube
    i64 samples;
    T* density;
    int threads;
};

template <class T> struct SweepArgs {
    const T* reference;  // [height, width] grey in [0, 1]
    int height, width;
    const T* sources;    // [source_count, source_height, source_width], each with its size in `sizes`
    int source_count, source_height, source_width;
    const i32* sizes;    // [source_count, 2]: width, height
    const T *a, *b;      // [source_count, 9], [source_count, 3]
    const T* centre;     // [height, width] inverse depth
    const T* offsets;    // [hypotheses], added to it
    int hypotheses;
    T least;             // inverse depth
    T *scores, *previous;  // [height, width, 3]: before, at and after the best, -2: there is none; [height, width]
    i32* index;          // [height, width]
    int threads;
};

// Every op: its name and the struct of its arguments. The table of functions below, its definition (kernels.cpp) and
// its calls (bind.h) come from this list alone.
#define NF_OPS(OP)                          \
    OP(hash_forward, HashArgs)              \
    OP(hash_backward, HashArgs)             \
    OP(grid_forward, GridArgs)              \
    OP(grid_backward, GridArgs)             \
    OP(rbf_forward, RbfArgs)                \
    OP(rbf_backward, RbfArgs)               \
    OP(modulate_forward, ModulateArgs)      \
    OP(modulate_backward, ModulateArgs)     \
    OP(network_forward, NetworkArgs)        \
    OP(network_backward, NetworkArgs)       \
    OP(coordinate_forward, CoordinateArgs)  \
    OP(coordinate_backward, CoordinateArgs) \
    OP(heads_forward, HeadsArgs)            \
    OP(heads_backward, HeadsArgs)           \
    OP(composite_forward, CompositeArgs)    \
    OP(composite_backward, CompositeArgs)   \
    OP(march, MarchArgs)                    \
    OP(pixel_rays, PixelArgs)               \
    OP(contract_forward, ElementArgs)       \
    OP(contract_backward, ElementArgs)      \
    OP(harmonics_forward, ElementArgs)      \
    OP(harmonics_backward, ElementArgs)     \
    OP(adam, AdamArgs)                      \
    OP(render_forward, RenderArgs)          \
    OP(render_backward, RenderBackwardArgs) \
    OP(density, DensityArgs)                \
    OP(plane_sweep, SweepArgs)

template <class T> struct Kernels {
#define NF_OP(name, Args) void (*name)(const Args<T>&);
    NF_OPS(NF_OP)
#undef NF_OP
};

struct KernelSet {
    const char* name;
    int vector_bytes;
    Kernels<float> f32;
    Kernels<double> f64;
    double (*fma_peak)(int threads);  // measured fp32 multiply-adds a second times two
};

// The ops that have products of bfloat16, where the CPU has them.
struct Bfloat16Set {
    const char* name;
    void (*coordinate_forward)(const CoordinateArgs<float>&);
    void (*coordinate_backward)(const CoordinateArgs<float>&);
    void (*heads_forward)(const HeadsArgs<float>&);
    void (*heads_backward)(const HeadsArgs<float>&);
};

}  // namespace nf

// The loops op_<name><T>, where an instruction set is being built.
#ifdef NF_ISA
#include "composite.h"
#include "coordinate.h"
#include "elements.h"
#include "grid.h"
#include "hash_grid.h"
#include "hash_render_backward.h"
#include "modulate.h"
#include "network.h"
#include "plane_sweep.h"
#include "rays.h"
#include "rbf.h"
#endif
