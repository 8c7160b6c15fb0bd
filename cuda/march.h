// Ray marching through the occupancy grid, with empty-space skipping.
//
// Frame: the inner cube is [0, 1]^3. Cascade c is a cube of side 2^c around 0.5 with 128^3 cells. Cells are kept in
// bricks of 4^3, one 64-bit word each: one load tells whether any of 64 cells is occupied, and an empty brick, or an
// empty block of 4^3 bricks, is crossed in one stride.
//   step(t) = clamp(t * cone, min_step, max_step): the footprint of a pixel grows with distance, and so may a sample
//   a sample covers [t, t + step] and is taken at its middle
// A ray is marched only where t can tell its steps apart (`resolved`), so every march ends: at about 28,000 cubes the
// next t of the usual step would be t itself in float32. A cube so far away covers no pixel.
#pragma once
#include "scalar.h"

namespace nf {

constexpr int kCells = 128, kBricks = 32, kBlocks = 8;  // along a cascade's side; a block is 4^3 bricks
constexpr i64 kWordsPerCascade = i64(kBricks) * kBricks * kBricks;
constexpr int kBlockWords = kBlocks * kBlocks * kBlocks / 64, kMaxCascades = 16;

// The occupancy bits, and above them one bit a block that says whether anything in it is occupied.
struct OccupancyView {
    const u64 *words, *blocks;
};

struct MarchSettings {
    float min_step, max_step, cone, near;
    i32 cascades;
};

template <class T> NF_HD T march_step(T t, const MarchSettings& s) {
    return clamp_(t * T(s.cone), T(s.min_step), T(s.max_step));
}

// Whether a step at t is at least two units of t's last place. step(t) / t never grows with t, so that what holds where
// a ray ends holds all along it. False for a t that is not finite.
template <class T> NF_HD bool resolved(T t, const MarchSettings& s) {
    return march_step(t, s) > t * (sizeof(T) == 4 ? T(0x1p-22) : T(0x1p-51));
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
    T origin[3], direction[3], inverse[3], t, end, growth;

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
        end = resolved(leave, s) ? leave : t;
        growth = log_(1 + T(s.cone));
    }

    // Distance from x to where the ray leaves its cell, of `size` times a cascade's side.
    NF_HD T to_boundary(const T* x, T side, T size) const {
        T nearest = T(1e30), width = side * size, inverse_width = 1 / width;
        for (int a = 0; a < 3; ++a) {
            T p = (x[a] - T(0.5)) * inverse_width + T(0.5) / size;
            T edge = direction[a] > 0 ? floor_(p) + 1 : floor_(p);
            nearest = min_(nearest, max_((edge - p) * width * inverse[a], T(0)));
        }
        return nearest;
    }

    // Goes on by whole steps, one at least, until a step's middle reaches `target` or a step is longer than `most`: so
    // samples stay on the ray's own lattice and jitter stays uniform. In closed form where steps are constant or grow
    // by a constant factor; at the border between the two it stops early, and is called again.
    NF_HD void skip(T target, T most, const MarchSettings& s) {
        T step = t * T(s.cone);
        if (step > T(s.min_step) && step < T(s.max_step)) {
            T stop = min_(min_(target / (1 + T(0.5) * T(s.cone)), most / T(s.cone)), T(s.max_step) / T(s.cone));
            T steps = stop > t ? ceil_(log_(stop / t) / growth) : T(1);
            t = steps > 1 ? t * exp_(steps * growth) : t + step;
            return;
        }
        bool first = step <= T(s.min_step);
        step = first ? T(s.min_step) : T(s.max_step);
        T stop = target - T(0.5) * step;
        if (first && s.cone > 0) stop = min_(stop, step / T(s.cone));
        t += step * max_(ceil_((stop - t) / step), T(1));
    }

    // Finds the next occupied step: its middle x (frame of the inner cube), its start and its length.
    NF_HD bool next(const OccupancyView& occupancy, const MarchSettings& s, T* x, T& start_t, T& length) {
        while (t < end) {
            T step = march_step(t, s), middle = t + step * T(0.5);
            for (int a = 0; a < 3; ++a) x[a] = origin[a] + direction[a] * middle;
            int c = cascade_of(x, step, s.cascades), cell[3];
            T side = T(1 << c), inverse_side = 1 / side;
            for (int a = 0; a < 3; ++a) {
                int i = int(((x[a] - T(0.5)) * inverse_side + T(0.5)) * kCells);
                cell[a] = i < 0 ? 0 : i > kCells - 1 ? kCells - 1 : i;
            }
            // A step that outgrows this cascade's cells belongs to the next one, whose cells may be occupied.
            T most = c < s.cascades - 1 ? side / kCells : T(1e30);
            int block = ((cell[2] >> 4) * kBlocks + (cell[1] >> 4)) * kBlocks + (cell[0] >> 4);
            if (!((occupancy.blocks[c * kBlockWords + (block >> 6)] >> (block & 63)) & 1)) {
                skip(middle + to_boundary(x, side, T(1) / kBlocks), most, s);
                continue;
            }
            i64 word;
            int bit;
            cell_address(cell[0], cell[1], cell[2], c, word, bit);
            u64 brick = occupancy.words[word];
            if ((brick >> bit) & 1) {
                start_t = t;
                length = step;
                t += step;
                return true;
            }
            skip(middle + to_boundary(x, side, brick ? T(1) / kCells : T(1) / kBricks), most, s);
        }
        return false;
    }
};

// Word and bit of the block that holds occupancy word w (of all cascades).
NF_HD void block_address(i64 w, i64& word, int& bit) {
    int x = int(w) & 31, y = int(w >> 5) & 31, z = int(w >> 10) & 31, c = int(w >> 15);
    int block = ((z >> 2) * kBlocks + (y >> 2)) * kBlocks + (x >> 2);
    word = c * kBlockWords + (block >> 6);
    bit = block & 63;
}

// One bit a block from the words of all cascades.
NF_HD void find_blocks(const u64* words, i32 cascades, u64* blocks) {
    for (int i = 0; i < cascades * kBlockWords; ++i) blocks[i] = 0;
    for (i64 w = 0; w < cascades * kWordsPerCascade; ++w) {
        if (!words[w]) continue;
        i64 word;
        int bit;
        block_address(w, word, bit);
        blocks[word] |= u64(1) << bit;
    }
}

}  // namespace nf
