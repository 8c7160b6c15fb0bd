// The Python module: the fused renderer of the hash field.
#include "bind.h"

namespace nf {
namespace {

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
        c.active = c.level_count;
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
    // The density network's first output is a signed distance's: see signed_distance.h.
    void set_distance(double inner, double radius, double residual, double beta) {
        if (!(inner > 0 && beta > 0)) throw std::invalid_argument("distance: inner and beta must be above 0");
        if (args.config.density_widths[args.config.density_layers] < 2)
            throw std::invalid_argument("distance: at least 2 outputs of the density network");
        args.config.distance = {inner, radius, residual};
        args.beta = T(beta);
    }
    void set_active(int levels_there) {
        if (levels_there < 1 || levels_there > args.config.level_count)
            throw std::invalid_argument("active: must be from 1 to the number of levels");
        args.config.active = levels_there;
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
    take_rays(g, origins, directions, jitter, occupancy, m);
    g.threads = int(samples.shape(0));
    g.weight_floor = T(weight_floor);
    g.sums = checked("sums", sums, {g.rays, 7});
    g.valid = checked("valid", valid, {g.rays});
    g.samples = samples.data();
    if (record) g.record = record->view(g.field.config, g.threads);
    run::render_forward(g);
}

template <class T>
void render_backward(Field<T>& field, Array<const T> directions, Array<const T> sums, Array<const T> d_sums,
                     Array<const unsigned char> valid, RecordArrays<T>& record, Array<T> d_table,
                     std::vector<Array<T>> d_density, std::vector<Array<T>> d_colour, Optional<T> d_beta) {
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
    g.d_beta = d_beta ? checked("d_beta", *d_beta, {1}) : nullptr;
    run::render_backward(g);
}

template <class T> void density(Field<T>& field, Array<const T> x, Array<T> out, int threads) {
    DensityArgs<T> g{field.view(), checked("x", x, {-1, 3}), i64(x.shape(0)), nullptr, threads};
    g.density = checked("out", out, {g.samples});
    run::density(g);
}

template <class T> void bind(nb::module_& m) {
    auto name = [](const char* s) { return s + std::to_string(8 * sizeof(T)); };
    nb::class_<Field<T>>(m, name("HashField").c_str())
        .def(nb::init<Array<const T>, Array<const float>, Array<const i64>, std::vector<Array<const T>>,
                      std::vector<Array<const T>>, int, int, double>(),
             "table"_a.noconvert(), "scales"_a.noconvert(), "geometry"_a.noconvert(), "density"_a.noconvert(),
             "colour"_a.noconvert(), "degree"_a, "contraction"_a, "extent"_a)
        .def("set_distance", &Field<T>::set_distance, "inner"_a, "radius"_a, "residual"_a, "beta"_a)
        .def("set_active", &Field<T>::set_active, "levels"_a);
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
          "d_colour"_a.noconvert(), "d_beta"_a.noconvert().none());
    m.def("density", density<T>, "field"_a, "x"_a.noconvert(), "out"_a.noconvert(), "threads"_a);
}

const Part part(bind<float>, bind<double>);

}  // namespace
}  // namespace nf
