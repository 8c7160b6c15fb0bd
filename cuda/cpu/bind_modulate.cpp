// The Python module: modulated layers.
#include "bind.h"

namespace nf {
namespace {

template <class T>
ModulateArgs<T> modulate_args(const Array<const T>& h, const Array<const T>& gamma, const Array<const T>& beta,
                              bool normalise, bool relu, int threads) {
    ModulateArgs<T> g{};
    g.h = checked("h", h, {-1, -1});
    g.samples = h.shape(0);
    if (h.shape(1) < 1 || h.shape(1) > 4096) throw std::invalid_argument("h: 1 to 4096 features");
    g.row = {int(h.shape(1)), 1, normalise, relu};
    g.gamma = checked("gamma", gamma, {g.samples, -1});
    g.row.each = int(gamma.shape(1));
    if (g.row.each != 1 && g.row.each != g.row.width)
        throw std::invalid_argument("gamma has shape " + shape_text(gamma) + ", expected one number a sample or one a feature");
    g.beta = checked("beta", beta, {g.samples, g.row.each});
    g.threads = threads;
    return g;
}

template <class T>
void modulate_forward(Array<const T> h, Array<const T> gamma, Array<const T> beta, bool normalise, bool relu,
                      Array<T> out, int threads) {
    ModulateArgs<T> g = modulate_args<T>(h, gamma, beta, normalise, relu, threads);
    g.out = checked("out", out, {g.samples, g.row.width});
    run::modulate_forward(g);
}

template <class T>
void modulate_backward(Array<const T> h, Array<const T> gamma, Array<const T> beta, bool normalise, bool relu,
                       Array<const T> d_out, Array<T> d_h, Array<T> d_gamma, Array<T> d_beta, int threads) {
    ModulateArgs<T> g = modulate_args<T>(h, gamma, beta, normalise, relu, threads);
    g.d_out = checked("d_out", d_out, {g.samples, g.row.width});
    g.d_h = checked("d_h", d_h, {g.samples, g.row.width});
    g.d_gamma = checked("d_gamma", d_gamma, {g.samples, g.row.each});
    g.d_beta = checked("d_beta", d_beta, {g.samples, g.row.each});
    run::modulate_backward(g);
}

template <class T> void bind(nb::module_& m) {
    m.def("modulate_forward", modulate_forward<T>, "h"_a.noconvert(), "gamma"_a.noconvert(), "beta"_a.noconvert(),
          "normalise"_a, "relu"_a, "out"_a.noconvert(), "threads"_a);
    m.def("modulate_backward", modulate_backward<T>, "h"_a.noconvert(), "gamma"_a.noconvert(), "beta"_a.noconvert(),
          "normalise"_a, "relu"_a, "d_out"_a.noconvert(), "d_h"_a.noconvert(), "d_gamma"_a.noconvert(),
          "d_beta"_a.noconvert(), "threads"_a);
}

const Part part(bind<float>, bind<double>);

}  // namespace
}  // namespace nf
