// The Python module: shape checks at the door, then a call through the table of the chosen instruction set.
// Every tensor is taken by DLPack without a copy; .noconvert() everywhere, because a silent conversion of an output
// would write the result into a copy and lose it.
#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>
#include <nanobind/stl/optional.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/vector.h>

#include <stdexcept>
#include <string>
#include <vector>

#include "kernels.h"

namespace nb = nanobind;
using namespace nb::literals;

namespace nf {
#if defined(__x86_64__)
namespace x86_64_v4 { extern const KernelSet kernel_set; }
namespace x86_64_v3 { extern const KernelSet kernel_set; }
#endif
namespace portable { extern const KernelSet kernel_set; }

namespace {

template <class T> using Array = nb::ndarray<T, nb::c_contig, nb::device::cpu>;
template <class T> using Optional = std::optional<Array<T>>;

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

const KernelSet*& chosen() {
    static const KernelSet* set = supported().front();
    return set;
}

template <class T> const Kernels<T>& kernels();
template <> const Kernels<float>& kernels<float>() { return chosen()->f32; }
template <> const Kernels<double>& kernels<double>() { return chosen()->f64; }

template <class A> std::string shape_text(const A& a) {
    std::string s = "[";
    for (size_t i = 0; i < a.ndim(); ++i) s += (i ? ", " : "") + std::to_string(a.shape(i));
    return s + "]";
}

// -1 leaves a dimension free.
template <class T> T* checked(const char* name, const Array<T>& a, std::vector<i64> shape) {
    bool ok = a.ndim() == shape.size();
    for (size_t i = 0; ok && i < shape.size(); ++i) ok = shape[i] < 0 || i64(a.shape(i)) == shape[i];
    if (!ok) {
        std::string want = "[";
        for (size_t i = 0; i < shape.size(); ++i)
            want += (i ? ", " : "") + (shape[i] < 0 ? std::string("*") : std::to_string(shape[i]));
        throw std::invalid_argument(std::string(name) + " has shape " + shape_text(a) + ", expected " + want + "]");
    }
    return a.data();
}
template <class T> T* checked(const char* name, const Optional<T>& a, std::vector<i64> shape) {
    return a ? checked(name, *a, std::move(shape)) : nullptr;
}

std::vector<HashLevel> levels_from(const Array<const float>& scales, const Array<const i64>& geometry, i64 entries,
                                   i64 features) {
    i64 n = scales.shape(0);
    checked("scales", scales, {n});
    checked("geometry", geometry, {n, 4});
    if (n > 64) throw std::invalid_argument("at most 64 levels");
    if (features != 2 && features != 4 && features != 8) throw std::invalid_argument("table entries hold 2, 4 or 8 features");
    std::vector<HashLevel> levels(n);
    for (i64 l = 0; l < n; ++l) {
        const i64* row = geometry.data() + 4 * l;
        levels[l] = {scales.data()[l], u32(row[0]), u32(row[1]), u32(row[2]), u32(row[3])};
        bool power = row[1] > 0 && (row[1] & (row[1] - 1)) == 0;
        if (row[1] <= 0 || row[2] < 0 || row[1] + row[2] > entries || (!row[3] && !power) || row[0] < 1)
            throw std::invalid_argument("level " + std::to_string(l) + " does not fit its table");
        i64 top = row[0] * (1 + row[0] * (1 + row[0]));  // past the last corner of a dense level
        if (row[3] && (scales.data()[l] + 0.5f >= float(row[0]) || top >= 2 * row[1]))
            throw std::invalid_argument("level " + std::to_string(l) + " is dense but larger than its table");
    }
    return levels;
}

template <class T> struct Hash {
    std::vector<HashLevel> levels;
    HashArgs<T> args{};
    Hash(const Array<const T>& x, const Array<const T>& table, const Array<const float>& scales,
         const Array<const i64>& geometry, int threads)
        : levels(levels_from(scales, geometry, table.shape(0), table.shape(1))) {
        args.x = checked("x", x, {-1, 3});
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
    h.args.d_x = checked("d_x", d_x, {h.args.samples, 3});
    nb::gil_scoped_release release;
    kernels<T>().hash_backward(h.args);
}

// Reads a stack of weights [out, in]; widths must chain.
template <class T, class W>
int layers_from(const char* name, const std::vector<Array<W>>& weights, int* widths, W** data) {
    if (weights.empty() || weights.size() > kMaxLayers)
        throw std::invalid_argument(std::string(name) + ": 1 to 8 layers");
    for (size_t l = 0; l < weights.size(); ++l) {
        data[l] = checked(name, weights[l], {-1, l ? i64(widths[l]) : -1});
        if (l == 0) widths[0] = int(weights[0].shape(1));
        widths[l + 1] = int(weights[l].shape(0));
        if (widths[l] < 1 || widths[l + 1] < 1 || widths[l] > 512 || widths[l + 1] > 512)
            throw std::invalid_argument(std::string(name) + ": widths 1 to 512");
    }
    return int(weights.size());
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

struct March {
    MarchSettings settings;
};

MarchSettings settings_from(const Array<const i64>& occupancy, float min_step, float max_step, float cone, float near) {
    i64 cascades = occupancy.ndim() ? i64(occupancy.shape(0)) : 0;
    checked("occupancy", occupancy, {-1, kWordsPerCascade});
    if (cascades < 1 || cascades > 16) throw std::invalid_argument("1 to 16 cascades");
    if (!(min_step > 1e-6f && max_step >= min_step && cone >= 0 && near >= 0))
        throw std::invalid_argument("steps must be positive: min_step > 1e-6, max_step >= min_step, cone and near >= 0");
    return {min_step, max_step, cone, near, i32(cascades)};
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

void check_degree(int degree) {
    if (degree < 1 || degree > 4) throw std::invalid_argument("degree must be 1 to 4");
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

// A hash field's parameters as the fused kernels see them; holds references to its tensors.
template <class T> struct Field {
    Array<const T> table;
    std::vector<Array<const T>> density, colour;
    std::vector<HashLevel> levels;
    FieldArgs<T> args{};

    Field(Array<const T> table_, Array<const float> scales, Array<const i64> geometry,
          std::vector<Array<const T>> density_, std::vector<Array<const T>> colour_, int degree, int contraction,
          double extent)
        : table(table_), density(density_), colour(colour_),
          levels(levels_from(scales, geometry, table_.shape(0), table_.shape(1))) {
        FieldConfig& c = args.config;
        check_degree(degree);
        c.level_count = int(levels.size());
        c.features = int(table.shape(1));
        c.degree = degree;
        c.contraction = contraction;
        c.extent = float(extent);
        args.table = checked("table", table, {-1, -1});
        c.density_layers = layers_from<T>("density", density, c.density_widths, args.density_weights);
        c.colour_layers = layers_from<T>("colour", colour, c.colour_widths, args.colour_weights);
        if (c.density_widths[0] != c.level_count * c.features)
            throw std::invalid_argument("density network: first layer must take levels * features inputs");
        if (c.colour_layers < 2) throw std::invalid_argument("colour network: at least 2 layers");
        if (c.colour_widths[0] != c.density_widths[c.density_layers] + degree * degree)
            throw std::invalid_argument("colour network: first layer must take the density outputs and the harmonics");
        if (c.colour_widths[c.colour_layers] != 3) throw std::invalid_argument("colour network: 3 outputs");
    }
    FieldArgs<T> view() {
        args.config.levels = levels.data();
        return args;
    }
};

template <class T> struct RecordArrays {
    Array<T> features, x, log_density, rgb, t, length;
    Array<i32> ray;
    Array<i64> count;

    Record<T> view(const FieldConfig& c, int threads) const {
        i64 capacity = i64(length.shape(0)) / threads, total = capacity * threads;
        return {capacity,
                checked("features", features, {total, c.level_count * c.features}),
                checked("x", x, {threads * 3, capacity}),
                checked("log_density", log_density, {total}),
                checked("rgb", rgb, {total, 3}),
                checked("t", t, {total}),
                checked("length", length, {total}),
                checked("ray", ray, {total}),
                checked("count", count, {threads})};
    }
};

template <class T>
void render_forward(Field<T>& field, Array<const T> origins, Array<const T> directions, Optional<const T> jitter,
                    Array<const i64> occupancy, March m, double weight_floor, Array<T> sums,
                    Array<unsigned char> valid, std::optional<RecordArrays<T>> record, Array<i64> samples) {
    RenderArgs<T> g{};
    g.field = field.view();
    g.rays = origins.shape(0);
    g.threads = int(samples.shape(0));
    g.origins = checked("origins", origins, {-1, 3});
    g.directions = checked("directions", directions, {g.rays, 3});
    g.jitter = checked("jitter", jitter, {g.rays});
    g.occupancy = reinterpret_cast<const u64*>(occupancy.data());
    g.settings = m.settings;
    if (i64(occupancy.shape(0)) != m.settings.cascades) throw std::invalid_argument("occupancy has other cascades");
    g.weight_floor = T(weight_floor);
    g.sums = checked("sums", sums, {g.rays, 7});
    g.valid = checked("valid", valid, {g.rays});
    g.samples = samples.data();
    if (record) g.record = record->view(g.field.config, g.threads);
    nb::gil_scoped_release release;
    kernels<T>().render_forward(g);
}

template <class T>
void render_backward(Field<T>& field, Array<const T> directions, Array<const T> sums, Array<const T> d_sums,
                     Array<const unsigned char> valid, RecordArrays<T>& record, Array<T> d_table, std::vector<Array<T>> d_density, std::vector<Array<T>> d_colour) {
    RenderBackwardArgs<T> g{};
    g.field = field.view();
    const FieldConfig& c = g.field.config;
    g.threads = int(record.count.shape(0));
    g.rays = directions.shape(0);
    g.directions = checked("directions", directions, {-1, 3});
    g.sums = checked("sums", sums, {g.rays, 7});
    g.d_sums = checked("d_sums", d_sums, {g.rays, 7});
    g.valid = checked("valid", valid, {g.rays});
    g.record = record.view(c, g.threads);
    g.d_table = checked("d_table", d_table, {i64(field.table.shape(0)), c.features});
    int widths[kMaxLayers + 1];
    if (layers_from<T>("d_density", d_density, widths, g.d_density_weights) != c.density_layers ||
        layers_from<T>("d_colour", d_colour, widths, g.d_colour_weights) != c.colour_layers)
        throw std::invalid_argument("d_density, d_colour: as many layers as the field");
    nb::gil_scoped_release release;
    kernels<T>().render_backward(g);
}

template <class T> void density(Field<T>& field, Array<const T> x, Array<T> out, int threads) {
    DensityArgs<T> g{field.view(), checked("x", x, {-1, 3}), i64(x.shape(0)), nullptr, threads};
    g.density = checked("out", out, {g.samples});
    nb::gil_scoped_release release;
    kernels<T>().density(g);
}

template <class T> void bind_type(nb::module_& m, const char* suffix) {
    auto name = [&](const char* s) { return std::string(s) + suffix; };
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

    nb::class_<Field<T>>(m, name("HashField").c_str())
        .def(nb::init<Array<const T>, Array<const float>, Array<const i64>, std::vector<Array<const T>>,
                      std::vector<Array<const T>>, int, int, double>(),
             "table"_a.noconvert(), "scales"_a.noconvert(), "geometry"_a.noconvert(), "density"_a.noconvert(),
             "colour"_a.noconvert(), "degree"_a, "contraction"_a, "extent"_a);
    nb::class_<RecordArrays<T>>(m, name("Record").c_str())
        .def("__init__",
             [](RecordArrays<T>* self, Array<T> features, Array<T> x, Array<T> log_density, Array<T> rgb, Array<T> t,
                Array<T> length, Array<i32> ray, Array<i64> count) {
                 new (self) RecordArrays<T>{features, x, log_density, rgb, t, length, ray, count};
             },
             "features"_a.noconvert(), "x"_a.noconvert(), "log_density"_a.noconvert(), "rgb"_a.noconvert(),
             "t"_a.noconvert(), "length"_a.noconvert(), "ray"_a.noconvert(), "count"_a.noconvert());
    m.def("render_forward", render_forward<T>, "field"_a, "origins"_a.noconvert(), "directions"_a.noconvert(),
          "jitter"_a.noconvert().none(), "occupancy"_a.noconvert(), "settings"_a, "weight_floor"_a, "sums"_a.noconvert(),
          "valid"_a.noconvert(), "record"_a.none(), "samples"_a.noconvert());
    m.def("render_backward", render_backward<T>, "field"_a, "directions"_a.noconvert(), "sums"_a.noconvert(),
          "d_sums"_a.noconvert(), "valid"_a.noconvert(), "record"_a, "d_table"_a.noconvert(), "d_density"_a.noconvert(),
          "d_colour"_a.noconvert());
    m.def("density", density<T>, "field"_a, "x"_a.noconvert(), "out"_a.noconvert(), "threads"_a);
}

}  // namespace
}  // namespace nf

NB_MODULE(_native, m) {
    using namespace nf;
    m.doc() = "CPU kernels of neuralfields";
    nb::class_<March>(m, "MarchSettings")
        .def("__init__",
             [](March* self, Array<const i64> occupancy, float min_step, float max_step, float cone, float near) {
                 new (self) March{settings_from(occupancy, min_step, max_step, cone, near)};
             },
             "occupancy"_a.noconvert(), "min_step"_a, "max_step"_a, "cone"_a, "near"_a);
    bind_type<float>(m, "32");
    bind_type<double>(m, "64");
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
