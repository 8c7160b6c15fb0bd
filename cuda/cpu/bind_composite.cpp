// The Python module: compositing of packed samples.
#include "bind.h"

namespace nf {
namespace {

template <class T>
CompositeArgs<T> composite_args(const Array<const T>& density, const Array<const T>& length, const Array<const T>& t,
                                const Array<const T>& rgb, const Array<const i64>& offsets, int threads) {
    CompositeArgs<T> g{};
    i64 samples = density.shape(0);
    g.density = checked("density", density, {-1});
    g.length = checked("length", length, {samples});
    g.t = checked("t", t, {samples});
    g.rgb = checked("rgb", rgb, {samples, 3});
    g.offsets = checked("offsets", offsets, {-1});
    g.rays = i64(offsets.shape(0)) - 1;
    if (g.rays < 0 || g.offsets[0] != 0 || g.offsets[g.rays] != samples)
        throw std::invalid_argument("offsets must run from 0 to the number of samples");
    for (i64 r = 0; r < g.rays; ++r)
        if (g.offsets[r] > g.offsets[r + 1]) throw std::invalid_argument("offsets must not fall");
    g.threads = threads;
    return g;
}

template <class T>
void composite_forward(Array<const T> density, Array<const T> length, Array<const T> t, Array<const T> rgb,
                       Array<const i64> offsets, Array<T> sums, Array<T> weight, int threads) {
    CompositeArgs<T> g = composite_args(density, length, t, rgb, offsets, threads);
    g.sums = checked("sums", sums, {g.rays, 7});
    g.out_weight = checked("weight", weight, {i64(density.shape(0))});
    run::composite_forward(g);
}

template <class T>
void composite_backward(Array<const T> density, Array<const T> length, Array<const T> t, Array<const T> rgb,
                        Array<const i64> offsets, Array<T> sums, Array<const T> d_sums, Array<T> d_density,
                        Array<T> d_rgb, int threads) {
    CompositeArgs<T> g = composite_args(density, length, t, rgb, offsets, threads);
    g.sums = checked("sums", sums, {g.rays, 7});
    g.d_sums = checked("d_sums", d_sums, {g.rays, 7});
    g.d_density = checked("d_density", d_density, {i64(density.shape(0))});
    g.d_colour = checked("d_rgb", d_rgb, {i64(density.shape(0)), 3});
    run::composite_backward(g);
}

template <class T> void bind(nb::module_& m) {
    m.def("composite_forward", composite_forward<T>, "density"_a.noconvert(), "length"_a.noconvert(), "t"_a.noconvert(),
          "rgb"_a.noconvert(), "offsets"_a.noconvert(), "sums"_a.noconvert(), "weight"_a.noconvert(), "threads"_a);
    m.def("composite_backward", composite_backward<T>, "density"_a.noconvert(), "length"_a.noconvert(),
          "t"_a.noconvert(), "rgb"_a.noconvert(), "offsets"_a.noconvert(), "sums"_a.noconvert(), "d_sums"_a.noconvert(),
          "d_density"_a.noconvert(), "d_rgb"_a.noconvert(), "threads"_a);
}

const Part part(bind<float>, bind<double>);

}  // namespace
}  // namespace nf
