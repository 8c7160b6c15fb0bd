// The Python module: dense grids.
#include "bind.h"

namespace nf {
namespace {

// Limits of the kernels' indices: nodes by 32 bits, a position on an axis exactly in a float.
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
    run::grid_forward(g);
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
    run::grid_backward(g);
}

template <class T> void bind(nb::module_& m) {
    m.def("grid_forward", grid_forward<T>, "x"_a.noconvert(), "grid"_a.noconvert(), "out"_a.noconvert(), "threads"_a);
    m.def("grid_backward", grid_backward<T>, "x"_a.noconvert(), "grid"_a.noconvert(), "d_out"_a.noconvert(),
          "d_grid"_a.noconvert().none(), "d_x"_a.noconvert().none(), "threads"_a);
}

const Part part(bind<float>, bind<double>);

}  // namespace
}  // namespace nf
