// The Python module: the hash grid.
#include "bind.h"

namespace nf {
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
    run::hash_forward(h.args);
}

template <class T>
void hash_backward(Array<const T> x, Array<const T> table, Array<const float> scales, Array<const i64> geometry,
                   Array<const T> d_out, Optional<T> d_table, Optional<T> d_x, int threads) {
    Hash<T> h(x, table, scales, geometry, threads);
    h.args.d_out = checked("d_out", d_out, {h.args.samples, h.args.level_count * h.args.features});
    h.args.d_table = checked("d_table", d_table, {i64(table.shape(0)), i64(table.shape(1))});
    h.args.d_x = checked("d_x", d_x, {h.args.samples, h.args.axes});
    run::hash_backward(h.args);
}

template <class T> void bind(nb::module_& m) {
    m.def("hash_forward", hash_forward<T>, "x"_a.noconvert(), "table"_a.noconvert(), "scales"_a.noconvert(),
          "geometry"_a.noconvert(), "out"_a.noconvert(), "threads"_a);
    m.def("hash_backward", hash_backward<T>, "x"_a.noconvert(), "table"_a.noconvert(), "scales"_a.noconvert(),
          "geometry"_a.noconvert(), "d_out"_a.noconvert(), "d_table"_a.noconvert().none(), "d_x"_a.noconvert().none(),
          "threads"_a);
}

const Part part(bind<float>, bind<double>);

}  // namespace
}  // namespace nf
