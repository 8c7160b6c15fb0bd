// Common code of the Python module's parts: tensors by DLPack, shape checks of arguments, the chosen kernels.
// .noconvert() everywhere, because a silent conversion of an output would write the result into a copy and lose it.
#pragma once
#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>
#include <nanobind/stl/optional.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/vector.h>

#include <stdexcept>
#include <string>
#include <vector>

#include "kernels.h"

namespace nf {

namespace nb = nanobind;
using namespace nb::literals;

template <class T> using Array = nb::ndarray<T, nb::c_contig, nb::device::cpu>;
template <class T> using Optional = std::optional<Array<T>>;

const KernelSet*& chosen();

template <class T> inline const Kernels<T>& kernels();
template <> inline const Kernels<float>& kernels<float>() { return chosen()->f32; }
template <> inline const Kernels<double>& kernels<double>() { return chosen()->f64; }

// run::<name>(arguments) for each op of the list; other Python threads go on meanwhile.
namespace run {
#define NF_OP(name, Args)                                  \
    template <class T> void name(const Args<T>& arguments) { \
        nb::gil_scoped_release release;                    \
        kernels<T>().name(arguments);                      \
    }
NF_OPS(NF_OP)
#undef NF_OP
}  // namespace run

// Each part of the module stands in a file of its own, with one `const Part part(bind<float>, bind<double>)`: the module
// runs them when it is made, and no other file names them.
struct Part {
    using Bind = void (*)(nb::module_&);
    Bind float32, float64;
    const Part* next;
    static const Part*& first() {
        static const Part* part = nullptr;
        return part;
    }
    Part(Bind float32_, Bind float64_) : float32(float32_), float64(float64_), next(first()) { first() = this; }
};

template <class A> std::string shape_text(const A& a) {
    std::string s = "[";
    for (size_t i = 0; i < a.ndim(); ++i) s += (i ? ", " : "") + std::to_string(a.shape(i));
    return s + "]";
}

// -1 leaves a dimension free.
template <class T> T* checked(const char* name, const Array<T>& a, std::vector<i64> shape) {
    bool ok = a.ndim() == shape.size();
    for (size_t i = 0; ok && i < shape.size(); ++i) ok = shape[i] < 0 || i64(a.shape(i)) == shape[i];
    if (!ok) {
        std::string want = "[";
        for (size_t i = 0; i < shape.size(); ++i)
            want += (i ? ", " : "") + (shape[i] < 0 ? std::string("*") : std::to_string(shape[i]));
        throw std::invalid_argument(std::string(name) + " has shape " + shape_text(a) + ", expected " + want + "]");
    }
    return a.data();
}
template <class T> T* checked(const char* name, const Optional<T>& a, std::vector<i64> shape) {
    return a ? checked(name, *a, std::move(shape)) : nullptr;
}

inline std::vector<HashLevel> levels_from(const Array<const float>& scales, const Array<const i64>& geometry, i64 entries,
                                          i64 features, i64 axes = 3) {
    i64 n = scales.shape(0);
    checked("scales", scales, {n});
    checked("geometry", geometry, {n, 4});
    if (n > 64) throw std::invalid_argument("at most 64 levels");
    if (features != 2 && features != 4 && features != 8) throw std::invalid_argument("table entries hold 2, 4 or 8 features");
    std::vector<HashLevel> levels(n);
    for (i64 l = 0; l < n; ++l) {
        const i64* row = geometry.data() + 4 * l;
        levels[l] = {scales.data()[l], u32(row[0]), u32(row[1]), u32(row[2]), u32(row[3])};
        bool power = row[1] > 0 && (row[1] & (row[1] - 1)) == 0;
        if (row[1] <= 0 || row[2] < 0 || row[1] + row[2] > entries || (!row[3] && !power) || row[0] < 1)
            throw std::invalid_argument("level " + std::to_string(l) + " does not fit its table");
        i64 top = 0;  // past the last corner of a dense level
        for (i64 a = 0; a < axes && top < 2 * row[1]; ++a) top = row[0] * (1 + top);
        if (row[3] && (scales.data()[l] + 0.5f >= float(row[0]) || top >= 2 * row[1]))
            throw std::invalid_argument("level " + std::to_string(l) + " is dense but larger than its table");
    }
    return levels;
}

// Reads a stack of weights [out, in]; widths must chain.
template <class T, class W>
int layers_from(const char* name, const std::vector<Array<W>>& weights, int* widths, W** data) {
    if (weights.empty() || weights.size() > kMaxLayers)
        throw std::invalid_argument(std::string(name) + ": 1 to 8 layers");
    for (size_t l = 0; l < weights.size(); ++l) {
        data[l] = checked(name, weights[l], {-1, l ? i64(widths[l]) : -1});
        if (l == 0) widths[0] = int(weights[0].shape(1));
        widths[l + 1] = int(weights[l].shape(0));
        if (widths[l] < 1 || widths[l + 1] < 1 || widths[l] > 512 || widths[l + 1] > 512)
            throw std::invalid_argument(std::string(name) + ": widths 1 to 512");
    }
    return int(weights.size());
}

inline void check_degree(int degree) {
    if (degree < 1 || degree > 4) throw std::invalid_argument("degree must be 1 to 4");
}

struct March {
    MarchSettings settings;
};

inline MarchSettings settings_from(const Array<const i64>& occupancy, float min_step, float max_step, float cone, float near) {
    i64 cascades = occupancy.ndim() ? i64(occupancy.shape(0)) : 0;
    checked("occupancy", occupancy, {-1, kWordsPerCascade});
    if (cascades < 1 || cascades > kMaxCascades) throw std::invalid_argument("1 to 16 cascades");
    if (!(min_step > 1e-6f && max_step >= min_step && cone >= 0 && near >= 0))
        throw std::invalid_argument("steps must be positive: min_step > 1e-6, max_step >= min_step, cone and near >= 0");
    return {min_step, max_step, cone, near, i32(cascades)};
}

// A march's inputs, as the op of its own and the fused render take them. `jitter` may be optional.
template <class T, template <class> class Args, class Jitter>
void take_rays(Args<T>& g, const Array<const T>& origins, const Array<const T>& directions, const Jitter& jitter,
               const Array<const i64>& occupancy, const March& m) {
    g.rays = origins.shape(0);
    g.origins = checked("origins", origins, {-1, 3});
    g.directions = checked("directions", directions, {g.rays, 3});
    g.jitter = checked("jitter", jitter, {g.rays});
    g.occupancy = reinterpret_cast<const u64*>(occupancy.data());
    g.settings = m.settings;
    if (i64(occupancy.shape(0)) != m.settings.cascades) throw std::invalid_argument("occupancy has other cascades");
}

}  // namespace nf
