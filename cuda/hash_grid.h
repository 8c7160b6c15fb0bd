// Multiresolution hash grid (Instant-NGP, arXiv:2201.05989, Section 3 and Eq. 4), one level at one point.
//
//   position p = x * scale + 0.5, cell i = floor(p), fraction f = p - i
//   feature   = sum over the 8 corners k of  w_k * table[index(i + k)],   w_k = product of f or 1 - f
//
// Levels whose lattice fits into the table are stored dense (x fastest); others are hashed, and the networks resolve
// the collisions. scale = base * growth^level - 1 and 0.5 are the layout of tiny-cuda-nn, so that
// foreign snapshots can be read. U: u32 or lanes of it; T: float, double or lanes.
#pragma once
#include "scalar.h"

namespace nf {

struct HashLevel {
    float scale;      // lattice cells over the unit cube
    u32 resolution;   // lattice points along an axis
    u32 size;         // entries in this level's table
    u32 offset;       // first entry of this level in the whole table
    u32 dense;        // 1: dense lattice, 0: hashed (size is a power of two)
};

constexpr u32 kHashPrimeY = 2654435761u;
constexpr u32 kHashPrimeZ = 805459861u;

template <class U> NF_HD U hash_index(U x, U y, U z, u32 size) {
    return (x ^ (y * kHashPrimeY) ^ (z * kHashPrimeZ)) & (size - 1);
}

// A corner just outside the lattice wraps once, as in the layout it follows.
template <class U> NF_HD U dense_index(U x, U y, U z, u32 resolution, u32 size) {
    U index = x + resolution * (y + resolution * z);
    return index >= size ? index - size : index;
}

template <class U> NF_HD U corner_index(const HashLevel& level, U x, U y, U z) {
    return level.dense ? dense_index(x, y, z, level.resolution, level.size) : hash_index(x, y, z, level.size);
}

template <class T> NF_HD T lattice_position(T x, float scale) { return clamp_(x, T{} * 0, T{} + 1) * scale + T{} + 0.5f; }

template <class T> NF_HD T corner_weight(T fx, T fy, T fz, int corner) {
    return (corner & 1 ? fx : 1 - fx) * (corner & 2 ? fy : 1 - fy) * (corner & 4 ? fz : 1 - fz);
}

// d weight / d x along one axis, per unit of x (scale is the chain rule's factor; zero where x was clamped).
template <class T> NF_HD T corner_weight_slope(T fx, T fy, T fz, int corner, int axis, T scale) {
    T wx = corner & 1 ? fx : 1 - fx, wy = corner & 2 ? fy : 1 - fy, wz = corner & 4 ? fz : 1 - fz;
    T sign = (corner >> axis) & 1 ? scale : -scale;
    return sign * (axis == 0 ? wy * wz : axis == 1 ? wx * wz : wx * wy);
}

}  // namespace nf
