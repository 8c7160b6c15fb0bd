// The Python module: small networks.
#include "bind.h"

namespace nf {
namespace {

template <class T>
void network_forward(Array<const T> x, std::vector<Array<const T>> weights, Array<T> out, int threads) {
    NetworkArgs<T> g{};
    g.layers = layers_from<T>("weights", weights, g.widths, g.weights);
    g.x = checked("x", x, {-1, g.widths[0]});
    g.samples = x.shape(0);
    g.out = checked("out", out, {g.samples, g.widths[g.layers]});
    g.threads = threads;
    run::network_forward(g);
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
    run::network_backward(g);
}

template <class T> void bind(nb::module_& m) {
    m.def("network_forward", network_forward<T>, "x"_a.noconvert(), "weights"_a.noconvert(), "out"_a.noconvert(),
          "threads"_a);
    m.def("network_backward", network_backward<T>, "x"_a.noconvert(), "weights"_a.noconvert(), "d_out"_a.noconvert(),
          "d_weights"_a.noconvert(), "d_x"_a.noconvert().none(), "threads"_a);
}

const Part part(bind<float>, bind<double>);

}  // namespace
}  // namespace nf
