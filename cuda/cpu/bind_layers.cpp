// The Python module: dense grids and radial basis functions, what fields other than the hash field are made of.
#include "bind.h"

namespace nf {
namespace {

// What the kernels may index with: nodes by 32 bits, a place on an axis exactly in a float.
constexpr i64 kMostNodes = i64(1) << 31, kLongestAxis = i64(1) << 24;

template <class T> GridArgs<T> grid_args(const Array<const T>& x, const Array<const T>& grid, int threads) {
    GridArgs<T> g{};
    GridShape& shape = g.shape;
    shape.axes = int(grid.ndim()) - 1;
    if (shape.axes < 1 || shape.axes > kMaxAxes)
        throw std::invalid_argument("grid has shape " + shape_text(grid) + ", expected 1 to 4 axes and one of channels");
    shape.channels = int(grid.shape(shape.axes));
    i64 nodes = 1;
    for (int a = shape.axes - 1; a >= 0; --a) {
        i64 count = i64(grid.shape(a));
        if (count < 1 || count > kLongestAxis) throw std::invalid_argument("grid: 1 to 2^24 nodes along an axis");
        shape.nodes[a] = u32(count);
        shape.stride[a] = count > 1 ? u32(nodes) : 0;
        nodes *= count;
        if (nodes >= kMostNodes) throw std::invalid_argument("grid: less than 2^31 nodes");
    }
    if (grid.shape(shape.axes) < 1 || grid.shape(shape.axes) > 4096) throw std::invalid_argument("grid: 1 to 4096 channels");
    g.x = checked("x", x, {-1, shape.axes});
    g.samples = x.shape(0);
    g.grid = grid.data();
    g.threads = threads;
    return g;
}

template <class T> void grid_forward(Array<const T> x, Array<const T> grid, Array<T> out, int threads) {
    GridArgs<T> g = grid_args(x, grid, threads);
    g.out = checked("out", out, {g.samples, g.shape.channels});
    nb::gil_scoped_release release;
    kernels<T>().grid_forward(g);
}

template <class T>
void grid_backward(Array<const T> x, Array<const T> grid, Array<const T> d_out, Optional<T> d_grid, Optional<T> d_x,
                   int threads) {
    GridArgs<T> g = grid_args(x, grid, threads);
    g.d_out = checked("d_out", d_out, {g.samples, g.shape.channels});
    std::vector<i64> shape;
    for (size_t i = 0; i < grid.ndim(); ++i) shape.push_back(i64(grid.shape(i)));
    g.d_grid = checked("d_grid", d_grid, shape);
    g.d_x = checked("d_x", d_x, {g.samples, g.shape.axes});
    nb::gil_scoped_release release;
    kernels<T>().grid_backward(g);
}

template <class T>
RbfArgs<T> rbf_args(const Array<const T>& f, const Array<const T>& centres, const Array<const T>& log_precisions,
                    int kernel, int threads) {
    RbfArgs<T> g{};
    g.centres = checked("centres", centres, {-1, -1});
    i64 units = i64(centres.shape(0)), features = i64(centres.shape(1));
    if (units < 1 || units > 4096 || features < 1 || features > 4096)
        throw std::invalid_argument("centres has shape " + shape_text(centres) + ", expected 1 to 4096 units of 1 to 4096 features");
    if (kernel < 0 || kernel >= kRbfKernels) throw std::invalid_argument("no such kernel");
    g.log_precisions = checked("log_precisions", log_precisions, {units, features});
    g.f = checked("f", f, {-1, features});
    g.samples = i64(f.shape(0));
    g.features = int(features);
    g.units = int(units);
    g.kernel = RbfKernel(kernel);
    g.threads = threads;
    return g;
}

template <class T>
void rbf_forward(Array<const T> f, Array<const T> centres, Array<const T> log_precisions, int kernel, Array<T> out,
                 int threads) {
    RbfArgs<T> g = rbf_args(f, centres, log_precisions, kernel, threads);
    g.out = checked("out", out, {g.samples, g.units});
    nb::gil_scoped_release release;
    kernels<T>().rbf_forward(g);
}

template <class T>
void rbf_backward(Array<const T> f, Array<const T> centres, Array<const T> log_precisions, int kernel,
                  Array<const T> d_out, Optional<T> d_f, Array<T> d_centres, Array<T> d_log_precisions, int threads) {
    RbfArgs<T> g = rbf_args(f, centres, log_precisions, kernel, threads);
    g.d_out = checked("d_out", d_out, {g.samples, g.units});
    g.d_f = checked("d_f", d_f, {g.samples, g.features});
    g.d_centres = checked("d_centres", d_centres, {g.units, g.features});
    g.d_log_precisions = checked("d_log_precisions", d_log_precisions, {g.units, g.features});
    nb::gil_scoped_release release;
    kernels<T>().rbf_backward(g);
}

template <class T> void bind_type(nb::module_& m) {
    m.def("grid_forward", grid_forward<T>, "x"_a.noconvert(), "grid"_a.noconvert(), "out"_a.noconvert(), "threads"_a);
    m.def("grid_backward", grid_backward<T>, "x"_a.noconvert(), "grid"_a.noconvert(), "d_out"_a.noconvert(),
          "d_grid"_a.noconvert().none(), "d_x"_a.noconvert().none(), "threads"_a);
    m.def("rbf_forward", rbf_forward<T>, "f"_a.noconvert(), "centres"_a.noconvert(), "log_precisions"_a.noconvert(),
          "kernel"_a, "out"_a.noconvert(), "threads"_a);
    m.def("rbf_backward", rbf_backward<T>, "f"_a.noconvert(), "centres"_a.noconvert(), "log_precisions"_a.noconvert(),
          "kernel"_a, "d_out"_a.noconvert(), "d_f"_a.noconvert().none(), "d_centres"_a.noconvert(),
          "d_log_precisions"_a.noconvert(), "threads"_a);
}

}  // namespace

void bind_layers(nb::module_& m) {
    bind_type<float>(m);
    bind_type<double>(m);
}

}  // namespace nf
