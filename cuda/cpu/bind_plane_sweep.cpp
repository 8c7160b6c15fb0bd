// The Python module: plane sweep.
#include "bind.h"

namespace nf {
namespace {

template <class T>
void plane_sweep(Array<const T> reference, Array<const T> sources, Array<const i32> sizes, Array<const T> a,
                 Array<const T> b, Array<const T> centre, Array<const T> offsets, double least, Array<T> scores,
                 Array<i32> index, Array<T> previous, int threads) {
    SweepArgs<T> g{};
    g.reference = checked("reference", reference, {-1, -1});
    const i64 height = reference.shape(0), width = reference.shape(1), count = i64(sources.shape(0));
    g.sources = checked("sources", sources, {-1, -1, -1});
    g.sizes = checked("sizes", sizes, {count, 2});
    g.a = checked("a", a, {count, 9});
    g.b = checked("b", b, {count, 3});
    g.centre = checked("centre", centre, {height, width});
    g.offsets = checked("offsets", offsets, {-1});
    g.scores = checked("scores", scores, {height, width, 3});
    g.index = checked("index", index, {height, width});
    g.previous = checked("previous", previous, {height, width});
    g.height = int(height), g.width = int(width);
    g.source_count = int(count), g.source_height = int(sources.shape(1)), g.source_width = int(sources.shape(2));
    g.hypotheses = int(offsets.shape(0));
    if (height < 1 || width < 1 || count < 1 || g.hypotheses < 1)
        throw std::invalid_argument("plane_sweep: a picture, a source and a hypothesis at least");
    for (i64 s = 0; s < count; ++s)
        if (g.sizes[2 * s] < 1 || g.sizes[2 * s] > g.source_width || g.sizes[2 * s + 1] < 1 ||
            g.sizes[2 * s + 1] > g.source_height)
            throw std::invalid_argument("plane_sweep: a source's size lies outside its memory");
    g.least = T(least);
    g.threads = threads;
    run::plane_sweep(g);
}

template <class T> void bind(nb::module_& m) {
    m.def("plane_sweep", plane_sweep<T>, "reference"_a.noconvert(), "sources"_a.noconvert(), "sizes"_a.noconvert(),
          "a"_a.noconvert(), "b"_a.noconvert(), "centre"_a.noconvert(), "offsets"_a.noconvert(), "least"_a,
          "scores"_a.noconvert(), "index"_a.noconvert(), "previous"_a.noconvert(), "threads"_a);
}

const Part part(bind<float>, bind<double>);

}  // namespace
}  // namespace nf
