// A tile: 128 samples that one thread carries through an op. Sums over threads have a fixed order: same thread count,
// same bits.
#pragma once
#include <omp.h>

#include "lanes.h"

namespace nf {
namespace NF_ISA {

constexpr int kTile = 128;  // samples

// An OpenMP region costs more than it brings on small work.
inline int threads_for(i64 work, int threads) { return work < 2048 ? 1 : threads; }

// body(begin, n) for each tile of the samples, shared among the threads of the parallel region that calls this.
template <class Body> inline void share_tiles(i64 samples, Body body) {
    i64 tiles = (samples + kTile - 1) / kTile;
#pragma omp for schedule(static)
    for (i64 tile = 0; tile < tiles; ++tile) body(tile * kTile, int(min_<i64>(kTile, samples - tile * kTile)));
}

// The same with threads of its own.
template <class Body> inline void for_tiles(i64 samples, int threads, Body body) {
#pragma omp parallel num_threads(threads_for(samples, threads))
    share_tiles(samples, body);
}

// Points [S, D] as D rows of a tile, zero behind the last one.
template <int D, class T> inline void load_tile(const T* x, i64 begin, int n, T (*rows)[kTile]) {
    for (int a = 0; a < D; ++a) {
        for (int s = 0; s < n; ++s) rows[a][s] = x[(begin + s) * D + a];
        for (int s = n; s < kTile; ++s) rows[a][s] = 0;
    }
}

}  // namespace NF_ISA
}  // namespace nf
