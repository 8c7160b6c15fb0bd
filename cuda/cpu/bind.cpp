// The Python module: the ops, and which instruction set runs.
#include "bind.h"

namespace nf {
#if defined(__x86_64__)
namespace x86_64_v4 { extern const KernelSet kernel_set; }
namespace x86_64_v3 { extern const KernelSet kernel_set; }
#endif
namespace portable { extern const KernelSet kernel_set; }

namespace {

std::vector<const KernelSet*> supported() {
    std::vector<const KernelSet*> sets;
#if defined(__x86_64__)
    __builtin_cpu_init();
    if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512dq") &&
        __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512cd"))
        sets.push_back(&x86_64_v4::kernel_set);
    if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("bmi2"))
        sets.push_back(&x86_64_v3::kernel_set);
#endif
    sets.push_back(&portable::kernel_set);
    return sets;
}

}  // namespace

const KernelSet*& chosen() {
    static const KernelSet* set = supported().front();
    return set;
}

namespace {

// Coordinates of points; what is neither one nor two is refused unless it is three.
template <class T> int axes_of(const Array<const T>& x) {
    return x.ndim() == 2 && (x.shape(1) == 1 || x.shape(1) == 2) ? int(x.shape(1)) : 3;
}

template <class T> struct Hash {
    std::vector<HashLevel> levels;
    HashArgs<T> args{};
    Hash(const Array<const T>& x, const Array<const T>& table, const Array<const float>& scales,
         const Array<const i64>& geometry, int threads)
        : levels(levels_from(scales, geometry, table.shape(0), table.shape(1), axes_of(x))) {
        args.axes = axes_of(x);
        args.x = checked("x", x, {-1, args.axes});
        args.samples = x.shape(0);
        args.table = checked("table", table, {-1, -1});
        args.levels = levels.data();
        args.level_count = int(levels.size());
        args.features = int(table.shape(1));
        args.threads = threads;
    }
};

template <class T>
void hash_forward(Array<const T> x, Array<const T> table, Array<const float> scales, Array<const i64> geometry,
                  Array<T> out, int threads) {
    Hash<T> h(x, table, scales, geometry, threads);
    h.args.out = checked("out", out, {h.args.samples, h.args.level_count * h.args.features});
    nb::gil_scoped_release release;
    kernels<T>().hash_forward(h.args);
}

template <class T>
void hash_backward(Array<const T> x, Array<const T> table, Array<const float> scales, Array<const i64> geometry,
                   Array<const T> d_out, Optional<T> d_table, Optional<T> d_x, int threads) {
    Hash<T> h(x, table, scales, geometry, threads);
    h.args.d_out = checked("d_out", d_out, {h.args.samples, h.args.level_count * h.args.features});
    h.args.d_table = checked("d_table", d_table, {i64(table.shape(0)), i64(table.shape(1))});
    h.args.d_x = checked("d_x", d_x, {h.args.samples, h.args.axes});
    nb::gil_scoped_release release;
    kernels<T>().hash_backward(h.args);
}

template <class T>
void network_forward(Array<const T> x, std::vector<Array<const T>> weights, Array<T> out, int threads) {
    NetworkArgs<T> g{};
    g.layers = layers_from<T>("weights", weights, g.widths, g.weights);
    g.x = checked("x", x, {-1, g.widths[0]});
    g.samples = x.shape(0);
    g.out = checked("out", out, {g.samples, g.widths[g.layers]});
    g.threads = threads;
    nb::gil_scoped_release release;
    kernels<T>().network_forward(g);
}

template <class T>
void network_backward(Array<const T> x, std::vector<Array<const T>> weights, Array<const T> d_out,
                      std::vector<Array<T>> d_weights, Optional<T> d_x, int threads) {
    NetworkArgs<T> g{};
    int widths[kMaxLayers + 1];
    g.layers = layers_from<T>("weights", weights, g.widths, g.weights);
    if (layers_from<T>("d_weights", d_weights, widths, g.d_weights) != g.layers)
        throw std::invalid_argument("d_weights: as many layers as weights");
    for (int l = 0; l <= g.layers; ++l)
        if (widths[l] != g.widths[l]) throw std::invalid_argument("d_weights: widths differ from weights");
    g.x = checked("x", x, {-1, g.widths[0]});
    g.samples = x.shape(0);
    g.d_out = checked("d_out", d_out, {g.samples, g.widths[g.layers]});
    g.d_x = checked("d_x", d_x, {g.samples, g.widths[0]});
    g.threads = threads;
    nb::gil_scoped_release release;
    kernels<T>().network_backward(g);
}

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
    nb::gil_scoped_release release;
    kernels<T>().composite_forward(g);
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
    nb::gil_scoped_release release;
    kernels<T>().composite_backward(g);
}

template <class T>
void march(Array<const T> origins, Array<const T> directions, Array<const T> jitter, Array<const i64> occupancy,
           March m, Array<i64> offsets, Optional<T> x, Optional<T> t, Optional<T> length, int threads) {
    MarchArgs<T> g{};
    g.rays = origins.shape(0);
    g.origins = checked("origins", origins, {-1, 3});
    g.directions = checked("directions", directions, {g.rays, 3});
    g.jitter = checked("jitter", jitter, {g.rays});
    g.occupancy = reinterpret_cast<const u64*>(occupancy.data());
    g.settings = m.settings;
    if (i64(occupancy.shape(0)) != m.settings.cascades) throw std::invalid_argument("occupancy has other cascades");
    g.offsets = checked("offsets", offsets, {g.rays + 1});
    if (x) {
        i64 samples = g.offsets[g.rays];
        g.x = checked("x", x, {samples, 3});
        g.t = checked("t", t, {samples});
        g.length = checked("length", length, {samples});
    }
    g.threads = threads;
    nb::gil_scoped_release release;
    kernels<T>().march(g);
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
    nb::gil_scoped_release release;
    kernels<T>().pixel_rays(g);
}

// Ops on one vector a sample: forward(x, out), backward(x, d_out, d_x).
template <class T>
ElementArgs<T> element_args(const Array<const T>& x, const Array<const T>* d_out, Array<T>& out, int kind, double extent,
                            i64 width) {
    ElementArgs<T> g{};
    g.samples = x.shape(0);
    g.x = checked("x", x, {-1, 3});
    if (d_out) {
        g.d_out = checked("d_out", *d_out, {g.samples, width});
        g.d_x = checked("d_x", out, {g.samples, 3});
    } else {
        g.out = checked("out", out, {g.samples, width});
    }
    g.kind = kind;
    g.extent = T(extent);
    return g;
}

template <class T> void contract_forward(Array<const T> x, Array<T> out, int kind, double extent) {
    kernels<T>().contract_forward(element_args<T>(x, nullptr, out, kind, extent, 3));
}
template <class T> void contract_backward(Array<const T> x, Array<const T> d_out, Array<T> d_x, int kind, double extent) {
    kernels<T>().contract_backward(element_args<T>(x, &d_out, d_x, kind, extent, 3));
}
template <class T> void harmonics_forward(Array<const T> x, Array<T> out, int degree) {
    check_degree(degree);
    kernels<T>().harmonics_forward(element_args<T>(x, nullptr, out, degree, 1, degree * degree));
}
template <class T> void harmonics_backward(Array<const T> x, Array<const T> d_out, Array<T> d_x, int degree) {
    check_degree(degree);
    kernels<T>().harmonics_backward(element_args<T>(x, &d_out, d_x, degree, 1, degree * degree));
}

template <class T>
void adam(Array<T> parameter, Array<T> gradient, Array<T> m, Array<T> v, std::vector<float> settings, bool sparse,
          int threads) {
    i64 count = i64(parameter.size());
    if (i64(gradient.size()) != count || i64(m.size()) != count || i64(v.size()) != count || settings.size() != 4)
        throw std::invalid_argument("adam: parameter, gradient, m and v must have one size; settings are rate, beta1, beta2, epsilon");
    AdamArgs<T> g{parameter.data(), gradient.data(), m.data(), v.data(), count,
                  {settings[0], settings[1], settings[2], settings[3]}, sparse, threads};
    nb::gil_scoped_release release;
    kernels<T>().adam(g);
}

template <class T> void bind_type(nb::module_& m) {
    m.def("hash_forward", hash_forward<T>, "x"_a.noconvert(), "table"_a.noconvert(), "scales"_a.noconvert(),
          "geometry"_a.noconvert(), "out"_a.noconvert(), "threads"_a);
    m.def("hash_backward", hash_backward<T>, "x"_a.noconvert(), "table"_a.noconvert(), "scales"_a.noconvert(),
          "geometry"_a.noconvert(), "d_out"_a.noconvert(), "d_table"_a.noconvert().none(), "d_x"_a.noconvert().none(),
          "threads"_a);
    m.def("network_forward", network_forward<T>, "x"_a.noconvert(), "weights"_a.noconvert(), "out"_a.noconvert(),
          "threads"_a);
    m.def("network_backward", network_backward<T>, "x"_a.noconvert(), "weights"_a.noconvert(), "d_out"_a.noconvert(),
          "d_weights"_a.noconvert(), "d_x"_a.noconvert().none(), "threads"_a);
    m.def("composite_forward", composite_forward<T>, "density"_a.noconvert(), "length"_a.noconvert(), "t"_a.noconvert(),
          "rgb"_a.noconvert(), "offsets"_a.noconvert(), "sums"_a.noconvert(), "weight"_a.noconvert(), "threads"_a);
    m.def("composite_backward", composite_backward<T>, "density"_a.noconvert(), "length"_a.noconvert(),
          "t"_a.noconvert(), "rgb"_a.noconvert(), "offsets"_a.noconvert(), "sums"_a.noconvert(), "d_sums"_a.noconvert(),
          "d_density"_a.noconvert(), "d_rgb"_a.noconvert(), "threads"_a);
    m.def("march", march<T>, "origins"_a.noconvert(), "directions"_a.noconvert(), "jitter"_a.noconvert(),
          "occupancy"_a.noconvert(), "settings"_a, "offsets"_a.noconvert(), "x"_a.noconvert().none(),
          "t"_a.noconvert().none(), "length"_a.noconvert().none(), "threads"_a);
    m.def("pixel_rays", pixel_rays<T>, "cameras"_a.noconvert(), "camera"_a.noconvert(), "pixel"_a.noconvert(),
          "origins"_a.noconvert(), "directions"_a.noconvert());
    m.def("contract_forward", contract_forward<T>, "x"_a.noconvert(), "out"_a.noconvert(), "kind"_a, "extent"_a);
    m.def("contract_backward", contract_backward<T>, "x"_a.noconvert(), "d_out"_a.noconvert(), "d_x"_a.noconvert(),
          "kind"_a, "extent"_a);
    m.def("harmonics_forward", harmonics_forward<T>, "x"_a.noconvert(), "out"_a.noconvert(), "degree"_a);
    m.def("harmonics_backward", harmonics_backward<T>, "x"_a.noconvert(), "d_out"_a.noconvert(), "d_x"_a.noconvert(),
          "degree"_a);
    m.def("adam", adam<T>, "parameter"_a.noconvert(), "gradient"_a.noconvert(), "m"_a.noconvert(), "v"_a.noconvert(),
          "settings"_a, "sparse"_a, "threads"_a);
}

}  // namespace

void bind_ops(nb::module_& m) {
    bind_type<float>(m);
    bind_type<double>(m);
}

}  // namespace nf

NB_MODULE(_native, m) {
    using namespace nf;
    m.doc() = "CPU kernels of neuralfields";
    nb::set_leak_warnings(false);  // a graph that is alive at exit is no leak
    nb::class_<March>(m, "MarchSettings")
        .def("__init__",
             [](March* self, Array<const i64> occupancy, float min_step, float max_step, float cone, float near) {
                 new (self) March{settings_from(occupancy, min_step, max_step, cone, near)};
             },
             "occupancy"_a.noconvert(), "min_step"_a, "max_step"_a, "cone"_a, "near"_a);
    bind_ops(m);
    bind_layers(m);
    bind_field(m);
    bind_splat(m);
    m.def("instruction_sets", [] {
        std::vector<std::string> names;
        for (const KernelSet* s : supported()) names.push_back(s->name);
        return names;
    });
    m.def("instruction_set", [] { return std::string(chosen()->name); });
    m.def("choose", [](const std::string& name) {
        for (const KernelSet* s : supported())
            if (name == s->name) { chosen() = s; return; }
        throw std::invalid_argument("instruction set " + name + " is not built or this machine lacks it");
    });
    m.def("fma_peak", [](int threads) { nb::gil_scoped_release release; return chosen()->fma_peak(threads); }, "threads"_a);
}
