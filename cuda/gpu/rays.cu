// Rays: generated from pixels, and marched through the occupancy grid. One thread a ray; NF_SCALAR is the coordinates'
// type.
#include "machine.h"
#include "../camera.h"
#include "../march.h"

using namespace nf;
using T = NF_SCALAR;

// Or-s one bit a block into `blocks`, which is zero before.
NF_KERNEL occupancy_blocks(const u64* words, i64 count, u64* blocks) {
    i64 w = global_thread(), word;
    int bit;
    if (w >= count || !words[w]) return;
    block_address(w, word, bit);
    atomicOr(blocks + word, u64(1) << bit);
}

NF_DEVICE MarchSettings settings_of(double min_step, double max_step, double cone, double near, i64 cascades) {
    return {float(min_step), float(max_step), float(cone), float(near), i32(cascades)};
}

NF_KERNEL march_count(const T* origins, const T* directions, const T* jitter, i64 rays, const u64* words,
                      const u64* blocks, double min_step, double max_step, double cone, double near, i64 cascades,
                      i64* counts) {
    i64 r = global_thread();
    if (r >= rays) return;
    MarchSettings settings = settings_of(min_step, max_step, cone, near, cascades);
    RayMarch<T> ray;
    ray.start(origins + 3 * r, directions + 3 * r, jitter[r], settings);
    T x[3], t, length;
    i64 count = 0;
    while (ray.next({words, blocks}, settings, x, t, length)) ++count;
    counts[r] = count;
}

NF_KERNEL march_write(const T* origins, const T* directions, const T* jitter, i64 rays, const u64* words,
                      const u64* blocks, double min_step, double max_step, double cone, double near, i64 cascades,
                      const i64* offsets, T* out_x, T* out_t, T* out_length) {
    i64 r = global_thread();
    if (r >= rays) return;
    MarchSettings settings = settings_of(min_step, max_step, cone, near, cascades);
    RayMarch<T> ray;
    ray.start(origins + 3 * r, directions + 3 * r, jitter[r], settings);
    T x[3], t, length;
    for (i64 s = offsets[r]; ray.next({words, blocks}, settings, x, t, length); ++s) {
        for (int a = 0; a < 3; ++a) out_x[3 * s + a] = x[a];
        out_t[s] = t + length / 2;
        out_length[s] = length;
    }
}

NF_KERNEL pixel_rays(const T* cameras, const i64* camera, const T* pixel, i64 rays, T* origins, T* directions) {
    i64 r = global_thread();
    if (r < rays)
        pixel_ray(cameras + camera[r] * kCameraFloats, pixel[2 * r], pixel[2 * r + 1], origins + 3 * r,
                  directions + 3 * r);
}
