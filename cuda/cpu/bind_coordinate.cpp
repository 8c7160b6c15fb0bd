// The Python module: coordinate networks and their heads, and which products of bfloat16 there are.
#include "bind.h"

#if defined(__linux__) && defined(__x86_64__)
#include <sys/syscall.h>
#include <unistd.h>
#endif

namespace nf {
#if defined(NF_BFLOAT16)
namespace x86_64_bf16 { extern const Bfloat16Set by_tiles, by_lanes; }
#endif

namespace {

// Asks Linux for the tile registers, which a process does not have from the start.
bool tiles_allowed() {
#if defined(__linux__) && defined(__x86_64__)
    constexpr int kRequestPermission = 0x1023, kTileData = 18;  // ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA
    return syscall(SYS_arch_prctl, kRequestPermission, kTileData) == 0;
#else
    return false;
#endif
}

#if defined(NF_BFLOAT16)
// CPUID leaf 7: AVX-512 BF16 is bit 5 of eax of subleaf 1, AMX-BF16 and AMX-TILE are bits 22 and 24 of edx.
unsigned leaf7(int subleaf, int place) {
    unsigned a = 7, b = 0, c = unsigned(subleaf), d = 0;
    asm volatile("cpuid" : "+a"(a), "=b"(b), "+c"(c), "=d"(d));
    return place ? d : a;
}
#endif

const std::vector<const Bfloat16Set*>& bfloat16_sets() {
    static const std::vector<const Bfloat16Set*> sets = [] {
        std::vector<const Bfloat16Set*> found;
#if defined(NF_BFLOAT16)
        __builtin_cpu_init();
        bool v4 = __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                  __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl") &&
                  __builtin_cpu_supports("avx512cd");
        if (v4 && (leaf7(1, 0) >> 5 & 1)) {
            unsigned d = leaf7(0, 1);
            if ((d >> 22 & 1) && (d >> 24 & 1) && tiles_allowed()) found.push_back(&x86_64_bf16::by_tiles);
            found.push_back(&x86_64_bf16::by_lanes);
        }
#endif
        return found;
    }();
    return sets;
}

const Bfloat16Set*& chosen_bfloat16() {
    static const Bfloat16Set* set = bfloat16_sets().empty() ? nullptr : bfloat16_sets().front();
    return set;
}

// The products that run: of bfloat16 beside the widest instruction set alone, whose lanes they share.
const Bfloat16Set* bfloat16() {
    return chosen()->vector_bytes == 64 ? chosen_bfloat16() : nullptr;
}

template <class T> using Arrays = std::vector<Array<T>>;

template <class T>
void take_dense(const char* name, DenseArgs<T>& d, const Array<const T>& weight, int inputs) {
    d.weight = checked(name, weight, {-1, inputs});
    d.outputs = int(weight.shape(0));
    d.inputs = inputs;
    if (d.outputs < 1 || d.outputs > 4096 || inputs < 1 || inputs > 8192)
        throw std::invalid_argument(std::string(name) + ": 1 to 4096 outputs of at most 8192 inputs");
}

struct CoordinateShape {
    int skip;
    bool direct, normalise, bfloat16;
};

CoordinateShape shape_of(const std::vector<int>& settings) {
    if (settings.size() != 4) throw std::invalid_argument("settings: skip, direct, normalise, bfloat16");
    return {settings[0], settings[1] != 0, settings[2] != 0, settings[3] != 0};
}

template <class T>
CoordinateArgs<T> coordinate_args(const Array<const T>& x, const Array<const T>& frequencies, const Arrays<const T>& weights,
                                  const Arrays<const T>& biases, const Array<const T>& gamma, const Array<const T>& beta,
                                  const CoordinateShape& shape, int threads) {
    CoordinateArgs<T> g{};
    g.x = checked("x", x, {-1, -1});
    g.samples = x.shape(0);
    g.axes = int(x.shape(1));
    if (g.axes < 1 || g.axes > kMostAxes) throw std::invalid_argument("x: 1 to 4 coordinates");
    g.frequencies = checked("frequencies", frequencies, {g.axes, -1});
    g.waves = int(frequencies.shape(1));
    g.layers = int(weights.size());
    if (g.layers < 2 || g.layers > kMostDense || biases.size() != weights.size())
        throw std::invalid_argument("weights: 2 to 17 layers, each with its bias");
    g.skip = shape.skip;
    g.direct = shape.direct;
    g.normalise = shape.normalise;
    int encoded = 2 * g.waves + (g.direct ? g.axes : 0), width = encoded;
    for (int l = 0; l < g.layers; ++l) {
        take_dense("weights", g.dense[l], weights[l], width + (l && l == g.skip ? encoded : 0));
        width = g.dense[l].outputs;
        g.dense[l].bias = checked("biases", biases[l], {width});
    }
    i64 modulated = gamma.shape(1);
    if (modulated && modulated != g.layers - 1) throw std::invalid_argument("gamma: a number of each hidden layer, or none");
    g.gamma = checked("gamma", gamma, {g.samples, modulated});
    g.beta = checked("beta", beta, {g.samples, modulated});
    if (!modulated) g.gamma = g.beta = nullptr;
    g.threads = threads;
    return g;
}

// With the other Python threads going on meanwhile.
#define NF_RUN(op)                                                                                              \
    nb::gil_scoped_release release;                                                                             \
    if constexpr (sizeof(T) == 4)                                                                               \
        if (bf16 && bfloat16()) return bfloat16()->op(g);                                                       \
    kernels<T>().op(g);

template <class T>
void coordinate_forward(Array<const T> x, Array<const T> frequencies, Arrays<const T> weights, Arrays<const T> biases,
                        Array<const T> gamma, Array<const T> beta, std::vector<int> settings, Array<T> out, int threads) {
    CoordinateShape shape = shape_of(settings);
    CoordinateArgs<T> g = coordinate_args<T>(x, frequencies, weights, biases, gamma, beta, shape, threads);
    g.out = checked("out", out, {g.samples, g.dense[g.layers - 1].outputs});
    bool bf16 = shape.bfloat16;
    NF_RUN(coordinate_forward)
}

template <class T>
void coordinate_backward(Array<const T> x, Array<const T> frequencies, Arrays<const T> weights, Arrays<const T> biases,
                         Array<const T> gamma, Array<const T> beta, std::vector<int> settings, Array<const T> d_out,
                         Arrays<T> d_weights, Arrays<T> d_biases, Array<T> d_gamma, Array<T> d_beta, Optional<T> d_x,
                         int threads) {
    CoordinateShape shape = shape_of(settings);
    CoordinateArgs<T> g = coordinate_args<T>(x, frequencies, weights, biases, gamma, beta, shape, threads);
    g.d_out = checked("d_out", d_out, {g.samples, g.dense[g.layers - 1].outputs});
    if (d_weights.size() != weights.size() || d_biases.size() != weights.size())
        throw std::invalid_argument("d_weights: one gradient a layer");
    for (int l = 0; l < g.layers; ++l) {
        g.dense[l].d_weight = checked("d_weights", d_weights[l], {g.dense[l].outputs, g.dense[l].inputs});
        g.dense[l].d_bias = checked("d_biases", d_biases[l], {g.dense[l].outputs});
    }
    g.d_gamma = checked("d_gamma", d_gamma, {g.samples, i64(gamma.shape(1))});
    g.d_beta = checked("d_beta", d_beta, {g.samples, i64(gamma.shape(1))});
    g.d_x = checked("d_x", d_x, {g.samples, g.axes});
    bool bf16 = shape.bfloat16;
    NF_RUN(coordinate_backward)
}

template <class T>
HeadsArgs<T> heads_args(const Array<const T>& f, const Array<const T>& directions, const Arrays<const T>& density,
                        const Arrays<const T>& colour, int degree, int threads) {
    HeadsArgs<T> g{};
    g.f = checked("f", f, {-1, -1});
    g.samples = f.shape(0);
    g.density_layers = int(density.size());
    g.colour_layers = int(colour.size());
    if (g.density_layers < 1 || g.density_layers > kMaxLayers || g.colour_layers > kMaxLayers)
        throw std::invalid_argument("heads: 1 to 8 layers of density, at most 8 of colour");
    check_degree(degree);
    g.degree = degree;
    int width = int(f.shape(1));
    for (int l = 0; l < g.density_layers; ++l) {
        take_dense("density", g.density[l], density[l], width);
        width = g.density[l].outputs;
    }
    width += degree * degree;
    for (int l = 0; l < g.colour_layers; ++l) {
        take_dense("colour", g.colour[l], colour[l], width);
        width = g.colour[l].outputs;
    }
    if (g.colour_layers && width != 3) throw std::invalid_argument("colour: the last layer has 3 outputs");
    if (g.colour_layers) g.directions = checked("directions", directions, {g.samples, 3});
    g.threads = threads;
    return g;
}

template <class T>
void heads_forward(Array<const T> f, Array<const T> directions, Arrays<const T> density, Arrays<const T> colour, int degree,
                   bool bf16, Array<T> log_density, Array<T> rgb, int threads) {
    HeadsArgs<T> g = heads_args<T>(f, directions, density, colour, degree, threads);
    g.log_density = checked("log_density", log_density, {g.samples});
    g.rgb = g.colour_layers ? checked("rgb", rgb, {g.samples, 3}) : nullptr;
    NF_RUN(heads_forward)
}

template <class T>
void heads_backward(Array<const T> f, Array<const T> directions, Arrays<const T> density, Arrays<const T> colour, int degree,
                    bool bf16, Array<const T> d_log_density, Array<const T> d_rgb, Array<T> d_f, Arrays<T> d_density,
                    Arrays<T> d_colour, int threads) {
    HeadsArgs<T> g = heads_args<T>(f, directions, density, colour, degree, threads);
    if (!g.colour_layers || d_density.size() != density.size() || d_colour.size() != colour.size())
        throw std::invalid_argument("heads: one gradient a layer, of density and of colour");
    for (int l = 0; l < g.density_layers; ++l)
        g.density[l].d_weight = checked("d_density", d_density[l], {g.density[l].outputs, g.density[l].inputs});
    for (int l = 0; l < g.colour_layers; ++l)
        g.colour[l].d_weight = checked("d_colour", d_colour[l], {g.colour[l].outputs, g.colour[l].inputs});
    g.d_log_density = checked("d_log_density", d_log_density, {g.samples});
    g.d_rgb = checked("d_rgb", d_rgb, {g.samples, 3});
    g.d_f = checked("d_f", d_f, {g.samples, g.density[0].inputs});
    NF_RUN(heads_backward)
}

template <class T> void bind(nb::module_& m) {
    m.def("coordinate_forward", coordinate_forward<T>, "x"_a.noconvert(), "frequencies"_a.noconvert(),
          "weights"_a.noconvert(), "biases"_a.noconvert(), "gamma"_a.noconvert(), "beta"_a.noconvert(), "settings"_a,
          "out"_a.noconvert(), "threads"_a);
    m.def("coordinate_backward", coordinate_backward<T>, "x"_a.noconvert(), "frequencies"_a.noconvert(),
          "weights"_a.noconvert(), "biases"_a.noconvert(), "gamma"_a.noconvert(), "beta"_a.noconvert(), "settings"_a,
          "d_out"_a.noconvert(), "d_weights"_a.noconvert(), "d_biases"_a.noconvert(), "d_gamma"_a.noconvert(),
          "d_beta"_a.noconvert(), "d_x"_a.noconvert().none(), "threads"_a);
    m.def("heads_forward", heads_forward<T>, "f"_a.noconvert(), "directions"_a.noconvert(), "density"_a.noconvert(),
          "colour"_a.noconvert(), "degree"_a, "bfloat16"_a, "log_density"_a.noconvert(), "rgb"_a.noconvert(), "threads"_a);
    m.def("heads_backward", heads_backward<T>, "f"_a.noconvert(), "directions"_a.noconvert(), "density"_a.noconvert(),
          "colour"_a.noconvert(), "degree"_a, "bfloat16"_a, "d_log_density"_a.noconvert(), "d_rgb"_a.noconvert(),
          "d_f"_a.noconvert(), "d_density"_a.noconvert(), "d_colour"_a.noconvert(), "threads"_a);
}

void bind_choice(nb::module_& m) {
    m.def("bfloat16_products", [] {
        std::vector<std::string> names;
        for (const Bfloat16Set* set : bfloat16_sets()) names.push_back(set->name);
        return names;
    });
    m.def("bfloat16_product", [] { return std::string(bfloat16() ? bfloat16()->name : ""); });
    m.def("choose_bfloat16", [](const std::string& name) {
        if (name.empty()) { chosen_bfloat16() = nullptr; return; }
        for (const Bfloat16Set* set : bfloat16_sets())
            if (name == set->name) { chosen_bfloat16() = set; return; }
        throw std::invalid_argument("products of bfloat16 by " + name + " are not built or this machine lacks them");
    });
}

const Part part(bind<float>, bind<double>);
const Part choice(bind_choice, [](nb::module_&) {});

}  // namespace
}  // namespace nf
