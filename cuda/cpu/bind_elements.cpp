// The Python module: elementwise ops (contraction, spherical harmonics, Adam).
#include "bind.h"

namespace nf {
namespace {

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
    run::contract_forward(element_args<T>(x, nullptr, out, kind, extent, 3));
}
template <class T> void contract_backward(Array<const T> x, Array<const T> d_out, Array<T> d_x, int kind, double extent) {
    run::contract_backward(element_args<T>(x, &d_out, d_x, kind, extent, 3));
}
template <class T> void harmonics_forward(Array<const T> x, Array<T> out, int degree) {
    check_degree(degree);
    run::harmonics_forward(element_args<T>(x, nullptr, out, degree, 1, degree * degree));
}
template <class T> void harmonics_backward(Array<const T> x, Array<const T> d_out, Array<T> d_x, int degree) {
    check_degree(degree);
    run::harmonics_backward(element_args<T>(x, &d_out, d_x, degree, 1, degree * degree));
}

template <class T>
void adam(Array<T> parameter, Array<T> gradient, Array<T> m, Array<T> v, std::vector<float> settings, bool sparse,
          int threads) {
    i64 count = i64(parameter.size());
    if (i64(gradient.size()) != count || i64(m.size()) != count || i64(v.size()) != count || settings.size() != 4)
        throw std::invalid_argument("adam: parameter, gradient, m and v must have one size; settings are rate, beta1, beta2, epsilon");
    AdamArgs<T> g{parameter.data(), gradient.data(), m.data(), v.data(), count,
                  {settings[0], settings[1], settings[2], settings[3]}, sparse, threads};
    run::adam(g);
}

template <class T> void bind(nb::module_& m) {
    m.def("contract_forward", contract_forward<T>, "x"_a.noconvert(), "out"_a.noconvert(), "kind"_a, "extent"_a);
    m.def("contract_backward", contract_backward<T>, "x"_a.noconvert(), "d_out"_a.noconvert(), "d_x"_a.noconvert(),
          "kind"_a, "extent"_a);
    m.def("harmonics_forward", harmonics_forward<T>, "x"_a.noconvert(), "out"_a.noconvert(), "degree"_a);
    m.def("harmonics_backward", harmonics_backward<T>, "x"_a.noconvert(), "d_out"_a.noconvert(), "d_x"_a.noconvert(),
          "degree"_a);
    m.def("adam", adam<T>, "parameter"_a.noconvert(), "gradient"_a.noconvert(), "m"_a.noconvert(), "v"_a.noconvert(),
          "settings"_a, "sparse"_a, "threads"_a);
}

const Part part(bind<float>, bind<double>);

}  // namespace
}  // namespace nf
