// Ray marching through the occupancy grid.
//
// Frame: the inner cube is [0, 1]^3. Cascade c is a cube of side 2^c around 0.5 with 128^3 cells. Cells are kept in
// bricks of 4^3, one 64-bit word each: one load tells whether any of 64 cells is occupied, and an empty brick is
// crossed in one stride.
//   step(t) = clamp(t * cone, min_step, max_step): the footprint of a pixel grows with distance, and so may a sample
//   a sample covers [t, t + step] and is taken at its middle
#pragma once
#include "scalar.h"

namespace nf {

constexpr int kCells = 128, kBricks = 32;
constexpr i64 kWordsPerCascade = i64(kBricks) * kBricks * kBricks;

struct MarchSettings {
    float min_step, max_step, cone, near;
    i32 cascades;
};

template <class T> NF_HD T march_step(T t, const MarchSettings& s) {
    return clamp_(t * T(s.cone), T(s.min_step), T(s.max_step));
}

// Word and bit of a cell of cascade c.
NF_HD void cell_address(int x, int y, int z, int cascade, i64& word, int& bit) {
    word = cascade * kWordsPerCascade + (i64(z >> 2) * kBricks + (y >> 2)) * kBricks + (x >> 2);
    bit = ((z & 3) * 4 + (y & 3)) * 4 + (x & 3);
}

// The finest cascade that holds the point and whose cells are not smaller than the step.
template <class T> NF_HD int cascade_of(const T* x, T step, int cascades) {
    T m = max_(max_(abs_(x[0] - T(0.5)), abs_(x[1] - T(0.5))), abs_(x[2] - T(0.5)));
    int c = 0;
    T half = T(0.5), cell = T(1) / kCells;
    while (c < cascades - 1 && (m > half || step > cell)) { half *= 2; cell *= 2; ++c; }
    return c;
}

template <class T> struct RayMarch {
    T origin[3], direction[3], inverse[3], t, end;

    // Clips the ray to the outermost cascade; jitter in [0, 1) moves the first sample by a part of its step.
    NF_HD void start(const T* o, const T* d, T jitter, const MarchSettings& s) {
        T half = T(0.5) * T(1 << (s.cascades - 1)), enter = T(s.near), leave = T(1e30);
        for (int a = 0; a < 3; ++a) {
            origin[a] = o[a];
            direction[a] = d[a];
            inverse[a] = 1 / (abs_(d[a]) > T(1e-12) ? d[a] : T(1e-12));
            T t0 = (T(0.5) - half - o[a]) * inverse[a], t1 = (T(0.5) + half - o[a]) * inverse[a];
            enter = max_(enter, min_(t0, t1));
            leave = min_(leave, max_(t0, t1));
        }
        t = enter + march_step(enter, s) * jitter;
        end = leave;
    }

    // Distance from x to where the ray leaves its cell of `cells` to a cascade's side.
    NF_HD T to_boundary(const T* x, T side, int cells) const {
        T nearest = T(1e30);
        for (int a = 0; a < 3; ++a) {
            T p = ((x[a] - T(0.5)) / side + T(0.5)) * cells;
            T edge = direction[a] > 0 ? floor_(p) + 1 : floor_(p);
            nearest = min_(nearest, max_((edge - p) * side / cells * inverse[a], T(0)));
        }
        return nearest;
    }

    // Finds the next occupied step: its middle x (frame of the inner cube), its start and its length.
    NF_HD bool next(const u64* occupancy, const MarchSettings& s, T* x, T& start_t, T& length) {
        while (t < end) {
            T step = march_step(t, s), middle = t + step * T(0.5);
            for (int a = 0; a < 3; ++a) x[a] = origin[a] + direction[a] * middle;
            int c = cascade_of(x, step, s.cascades), cell[3];
            T side = T(1 << c);
            for (int a = 0; a < 3; ++a) {
                int i = int(((x[a] - T(0.5)) / side + T(0.5)) * kCells);
                cell[a] = i < 0 ? 0 : i > kCells - 1 ? kCells - 1 : i;
            }
            i64 word;
            int bit;
            cell_address(cell[0], cell[1], cell[2], c, word, bit);
            u64 brick = occupancy[word];
            if ((brick >> bit) & 1) {
                start_t = t;
                length = step;
                t += step;
                return true;
            }
            T target = middle + to_boundary(x, side, brick ? kCells : kBricks);
            // Whole steps only, so that samples stay on the ray's own lattice and jitter stays uniform. A step that
            // outgrows this cascade's cells belongs to the next one, whose cells may be occupied.
            T most = c < s.cascades - 1 ? side / kCells : T(1e30);
            do {
                t += step;
                step = march_step(t, s);
            } while (t + T(0.5) * step < target && step <= most);
        }
        return false;
    }
};

}  // namespace nf
