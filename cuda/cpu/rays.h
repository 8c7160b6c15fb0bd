// Rays: generated from pixels, and marched through the occupancy grid.
#pragma once
#include "../camera.h"
#include "kernels.h"
#include "sample_tiles.h"

namespace nf {
namespace NF_ISA {

// Marches twice: first to count samples (x null), then to write them at the offsets.
template <class T> void op_march(const MarchArgs<T>& g) {
    u64 blocks[kMaxCascades * kBlockWords];
    find_blocks(g.occupancy, g.settings.cascades, blocks);
    OccupancyView occupancy = {g.occupancy, blocks};
#pragma omp parallel for schedule(dynamic, 64) num_threads(threads_for(g.rays * 16, g.threads))
    for (i64 r = 0; r < g.rays; ++r) {
        RayMarch<T> ray;
        ray.start(g.origins + 3 * r, g.directions + 3 * r, g.jitter[r], g.settings);
        T x[3], t, length;
        i64 s = g.x ? g.offsets[r] : 0;
        while (ray.next(occupancy, g.settings, x, t, length)) {
            if (g.x) {
                for (int a = 0; a < 3; ++a) g.x[3 * s + a] = x[a];
                g.t[s] = t + length / 2;
                g.length[s] = length;
            }
            ++s;
        }
        if (!g.x) g.offsets[r + 1] = s;
    }
}

template <class T> void op_pixel_rays(const PixelArgs<T>& g) {
    for (i64 r = 0; r < g.rays; ++r)
        pixel_ray(g.cameras + g.camera[r] * kCameraFloats, g.pixel[2 * r], g.pixel[2 * r + 1], g.origins + 3 * r,
                  g.directions + 3 * r);
}

}  // namespace NF_ISA
}  // namespace nf
