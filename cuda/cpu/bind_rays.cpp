// The Python module: rays from pixels and through the occupancy grid.
#include "bind.h"

namespace nf {
namespace {

template <class T>
void march(Array<const T> origins, Array<const T> directions, Array<const T> jitter, Array<const i64> occupancy,
           March m, Array<i64> offsets, Optional<T> x, Optional<T> t, Optional<T> length, int threads) {
    MarchArgs<T> g{};
    take_rays(g, origins, directions, jitter, occupancy, m);
    g.offsets = checked("offsets", offsets, {g.rays + 1});
    if (x) {
        i64 samples = g.offsets[g.rays];
        g.x = checked("x", x, {samples, 3});
        g.t = checked("t", t, {samples});
        g.length = checked("length", length, {samples});
    }
    g.threads = threads;
    run::march(g);
}

template <class T>
void pixel_rays(Array<const T> cameras, Array<const i64> camera, Array<const T> pixel, Array<T> origins,
                Array<T> directions) {
    PixelArgs<T> g{};
    g.rays = camera.shape(0);
    g.cameras = checked("cameras", cameras, {-1, 25});
    g.camera = checked("camera", camera, {-1});
    for (i64 r = 0; r < g.rays; ++r)
        if (g.camera[r] < 0 || g.camera[r] >= i64(cameras.shape(0))) throw std::invalid_argument("camera index out of range");
    g.pixel = checked("pixel", pixel, {g.rays, 2});
    g.origins = checked("origins", origins, {g.rays, 3});
    g.directions = checked("directions", directions, {g.rays, 3});
    run::pixel_rays(g);
}

template <class T> void bind(nb::module_& m) {
    m.def("march", march<T>, "origins"_a.noconvert(), "directions"_a.noconvert(), "jitter"_a.noconvert(),
          "occupancy"_a.noconvert(), "settings"_a, "offsets"_a.noconvert(), "x"_a.noconvert().none(),
          "t"_a.noconvert().none(), "length"_a.noconvert().none(), "threads"_a);
    m.def("pixel_rays", pixel_rays<T>, "cameras"_a.noconvert(), "camera"_a.noconvert(), "pixel"_a.noconvert(),
          "origins"_a.noconvert(), "directions"_a.noconvert());
}

const Part part(bind<float>, bind<double>);

}  // namespace
}  // namespace nf
