// The Python module: radial basis functions.
#include "bind.h"

namespace nf {
namespace {

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
    run::rbf_forward(g);
}

template <class T>
void rbf_backward(Array<const T> f, Array<const T> centres, Array<const T> log_precisions, int kernel,
                  Array<const T> d_out, Optional<T> d_f, Array<T> d_centres, Array<T> d_log_precisions, int threads) {
    RbfArgs<T> g = rbf_args(f, centres, log_precisions, kernel, threads);
    g.d_out = checked("d_out", d_out, {g.samples, g.units});
    g.d_f = checked("d_f", d_f, {g.samples, g.features});
    g.d_centres = checked("d_centres", d_centres, {g.units, g.features});
    g.d_log_precisions = checked("d_log_precisions", d_log_precisions, {g.units, g.features});
    run::rbf_backward(g);
}

template <class T> void bind(nb::module_& m) {
    m.def("rbf_forward", rbf_forward<T>, "f"_a.noconvert(), "centres"_a.noconvert(), "log_precisions"_a.noconvert(),
          "kernel"_a, "out"_a.noconvert(), "threads"_a);
    m.def("rbf_backward", rbf_backward<T>, "f"_a.noconvert(), "centres"_a.noconvert(), "log_precisions"_a.noconvert(),
          "kernel"_a, "d_out"_a.noconvert(), "d_f"_a.noconvert().none(), "d_centres"_a.noconvert(),
          "d_log_precisions"_a.noconvert(), "threads"_a);
}

const Part part(bind<float>, bind<double>);

}  // namespace
}  // namespace nf
