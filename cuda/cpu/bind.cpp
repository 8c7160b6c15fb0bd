// The Python module: its parts (bind_*.cpp), and which instruction set runs.
#include "bind.h"

namespace nf {
#if defined(__x86_64__)
namespace x86_64_v4 { extern const KernelSet kernel_set; }
namespace x86_64_v3 { extern const KernelSet kernel_set; }
#endif
namespace portable { extern const KernelSet kernel_set; }

namespace {

std::vector<const KernelSet*> supported() {
    std::vector<const KernelSet*> sets;
#if defined(__x86_64__)
    __builtin_cpu_init();
    if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512dq") &&
        __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512cd"))
        sets.push_back(&x86_64_v4::kernel_set);
    if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("bmi2"))
        sets.push_back(&x86_64_v3::kernel_set);
#endif
    sets.push_back(&portable::kernel_set);
    return sets;
}

}  // namespace

const KernelSet*& chosen() {
    static const KernelSet* set = supported().front();
    return set;
}

}  // namespace nf

NB_MODULE(_native, m) {
    using namespace nf;
    m.doc() = "CPU kernels of neuralfields";
    nb::set_leak_warnings(false);  // a graph that is alive at exit is no leak
    nb::class_<March>(m, "MarchSettings")
        .def("__init__",
             [](March* self, Array<const i64> occupancy, float min_step, float max_step, float cone, float near) {
                 new (self) March{settings_from(occupancy, min_step, max_step, cone, near)};
             },
             "occupancy"_a.noconvert(), "min_step"_a, "max_step"_a, "cone"_a, "near"_a);
    for (const Part* part = Part::first(); part; part = part->next) {
        part->float32(m);
        part->float64(m);
    }
    m.def("instruction_sets", [] {
        std::vector<std::string> names;
        for (const KernelSet* s : supported()) names.push_back(s->name);
        return names;
    });
    m.def("instruction_set", [] { return std::string(chosen()->name); });
    m.def("choose", [](const std::string& name) {
        for (const KernelSet* s : supported())
            if (name == s->name) { chosen() = s; return; }
        throw std::invalid_argument("instruction set " + name + " is not built or this machine lacks it");
    });
    m.def("fma_peak", [](int threads) { nb::gil_scoped_release release; return chosen()->fma_peak(threads); }, "threads"_a);
}
