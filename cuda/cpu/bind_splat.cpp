// The Python module: Gaussian splatting. Classes hold arrays that live from call to call; each checks shapes once.
#include "bind.h"
#include "splat.h"

#include <nanobind/stl/pair.h>

namespace nf {
#if defined(__x86_64__)
namespace x86_64_v4 { extern const SplatKernelSet splat_kernel_set; }
namespace x86_64_v3 { extern const SplatKernelSet splat_kernel_set; }
#endif
namespace portable { extern const SplatKernelSet splat_kernel_set; }

namespace {

// The set of the same name as the one that was chosen for all other kernels.
const SplatKernelSet& splat_set() {
    const std::string name = chosen()->name;
#if defined(__x86_64__)
    for (const SplatKernelSet* s : {&x86_64_v4::splat_kernel_set, &x86_64_v3::splat_kernel_set})
        if (name == s->name) return *s;
#endif
    return portable::splat_kernel_set;
}
template <class T> const SplatKernels<T>& splat_kernels();
template <> const SplatKernels<float>& splat_kernels<float>() { return splat_set().f32; }
template <> const SplatKernels<double>& splat_kernels<double>() { return splat_set().f64; }

// run_splat::<name>(arguments) for each op of the list; other Python threads go on meanwhile.
namespace run_splat {
#define NF_OP(name, Args)                                    \
    template <class T> void name(const Args<T>& arguments) { \
        nb::gil_scoped_release release;                      \
        splat_kernels<T>().name(arguments);                  \
    }
NF_SPLAT_OPS(NF_OP)
#undef NF_OP
}  // namespace run_splat

i64 chunks(i64 count) { return (count + kChunk - 1) / kChunk; }
i64 tiles(int width, int height) {
    return i64((width + kTileSide - 1) / kTileSide) * ((height + kTileSide - 1) / kTileSide);
}
i64 checked_count(i64 count) {
    if (count > (i64(1) << 30)) throw std::invalid_argument("at most 2^30 Gaussians");
    return count;
}

// Gaussians of five arrays, or packed.
template <class T, class P> struct Splats {
    GaussianArrays<T, P> arrays{};
    Splats(Array<P> means, Array<P> scales, Array<P> rotations, Array<P> logits, Array<P> harmonics) {
        i64 n = checked_count(means.shape(0));
        arrays.means = checked("means", means, {-1, 3});
        arrays.scales = checked("scales", scales, {n, 3});
        arrays.rotations = checked("rotations", rotations, {n, 4});
        arrays.logits = checked("opacities", logits, {n});
        arrays.harmonics = checked("harmonics", harmonics, {n, -1, 3});
        arrays.harmonic_stride = 3 * i64(harmonics.shape(1));
        if (arrays.harmonic_stride < 3 || arrays.harmonic_stride > 48)
            throw std::invalid_argument("harmonics has shape " + shape_text(harmonics) +
                                        ", expected 1, 4, 9 or 16 a Gaussian");
        arrays.count = n;
    }
    Splats(Array<P> packed, Array<P> rest) {
        arrays.packed = checked("packed", packed, {-1, kCore});
        arrays.count = checked_count(packed.shape(0));
        arrays.rest = checked("rest", rest, {arrays.count, -1});
        arrays.rest_stride = rest.shape(1);
        if (arrays.rest_stride % 16 || arrays.rest_stride > 48)
            throw std::invalid_argument("rest has shape " + shape_text(rest) +
                                        ", expected 0, 16, 32 or 48 numbers a Gaussian");
    }
    i64 room() const { return arrays.packed ? arrays.rest_stride : arrays.harmonic_stride - 3; }
};

template <class T> GaussianArrays<T> read_only(const GaussianArrays<T, T>& a) {
    return {a.packed, a.rest,      a.means, a.scales,      a.rotations,
            a.logits, a.harmonics, a.count, a.rest_stride, a.harmonic_stride};
}

template <class T> void check_degree_of(const GaussianArrays<T>& a, i64 room, int degree) {
    if (degree < 0 || degree > 3) throw std::invalid_argument("degree must be 0 to 3");
    if (3 * ((degree + 1) * (degree + 1) - 1) > room)
        throw std::invalid_argument("harmonics of degree " + std::to_string(degree) +
                                    " need more numbers than there are");
    (void)a;
}

// camera_from_world by rows (9), centre (3), fx, fy, cx, cy, width, height, near, blur, antialiased.
template <class T> Pinhole<T> pinhole(const std::vector<double>& c) {
    if (c.size() != 21) throw std::invalid_argument("a camera has 21 numbers");
    Pinhole<T> p{};
    for (int i = 0; i < 9; ++i) p.rotation[i] = T(c[i]);
    for (int i = 0; i < 3; ++i) p.centre[i] = T(c[9 + i]);
    p.fx = T(c[12]); p.fy = T(c[13]); p.cx = T(c[14]); p.cy = T(c[15]); p.width = T(c[16]); p.height = T(c[17]);
    p.near = T(c[18]); p.blur = T(c[19]); p.antialiased = c[20] != 0;
    if (!(p.width >= 1 && p.height >= 1 && p.width <= 32768 && p.height <= 32768))
        throw std::invalid_argument("a picture has 1 to 32768 pixels a side");
    if (!(p.near > 0 && p.blur >= 0 && p.fx > 0 && p.fy > 0))
        throw std::invalid_argument("camera: near, fx and fy above 0, blur not below 0");
    return p;
}

// What projection writes: one row per visible Gaussian, chunk by chunk.
template <class T> struct Rows {
    i64 count;
    T* rows;
    i32 *ids, *chunk_count, *slot, *key, *pairs;
    i64* totals;
    Rows(Array<T> rows_, Array<i32> ids_, Array<i32> chunk_count_, Array<i32> slot_, Array<i32> key_, Array<i32> pairs_,
         Array<i64> totals_) {
        count = checked_count(rows_.shape(0));
        rows = checked("rows", rows_, {-1, kRow});
        ids = checked("ids", ids_, {count});
        chunk_count = checked("chunk_count", chunk_count_, {chunks(count)});
        slot = checked("slot", slot_, {count});
        key = checked("key", key_, {count});
        pairs = checked("pairs", pairs_, {count});
        totals = checked("totals", totals_, {2 + chunks(count)});
    }
};

// The lists of tiles, and what blending keeps for its way back.
template <class T> struct Lists {
    i64 slots, masks = 0;
    int width, height;
    i32 *tile_offset, *block_offset, *visited;
    TileEntry* entries;
    i32 *seen_and_filled;
    Lists(int width_, int height_, Array<i32> tile_offset_, Array<i32> block_offset_, Array<i32> visited_,
          Array<i32> entries_, Array<i32> seen_)
        : width(width_), height(height_) {
        i64 n = tiles(width, height);
        slots = i64(entries_.shape(0));
        tile_offset = checked("tile_offset", tile_offset_, {n + 1});
        block_offset = checked("block_offset", block_offset_, {n + 1});
        visited = checked("visited", visited_, {n});
        entries = reinterpret_cast<TileEntry*>(checked("entries", entries_, {-1, 3}));
        seen_and_filled = checked("seen", seen_, {slots});
    }
    unsigned short* seen() const { return reinterpret_cast<unsigned short*>(seen_and_filled); }
    unsigned char* filled() const { return reinterpret_cast<unsigned char*>(seen() + slots); }
};

template <class T>
std::pair<i64, i64> splat_project(const Splats<T, const T>& g, const std::vector<double>& camera, int degree,
                                  Optional<const T> boxes, Rows<T>& rows, int threads) {
    check_degree_of(g.arrays, g.room(), degree);
    if (rows.count != g.arrays.count) throw std::invalid_argument("rows were made for another number of Gaussians");
    ProjectArgs<T> a{
        g.arrays,  pinhole<T>(camera), degree,           checked("boxes", boxes, {chunks(rows.count), kBox}),
        rows.rows, rows.ids,           rows.chunk_count, rows.slot,
        rows.key,  rows.totals,        threads};
    run_splat::splat_project(a);
    if (rows.totals[1] > (i64(1) << 27))
        throw std::invalid_argument("the Gaussians cover more than 2^27 tiles of the picture");
    return {rows.totals[0], rows.totals[1]};
}

template <class T> void splat_boxes(const Splats<T, const T>& g, Array<T> boxes, int threads) {
    T* out = checked("boxes", boxes, {chunks(g.arrays.count), kBox});
    run_splat::splat_boxes(BoxArgs<T>{g.arrays, out, threads});
}

template <class T> i64 splat_lists(const Rows<T>& rows, Lists<T>& lists, int threads) {
    if (lists.slots < rows.totals[1]) throw std::invalid_argument("lists have too little room");
    ListArgs<T> a{rows.rows,      rows.chunk_count, rows.slot,    rows.key,          rows.count,
                  rows.totals[1], lists.width,      lists.height, lists.tile_offset, lists.block_offset,
                  lists.entries,  rows.pairs,       threads};
    run_splat::splat_lists(a);
    lists.masks = lists.block_offset[tiles(lists.width, lists.height)];
    return lists.masks;
}

template <class T>
BlendArgs<T> blend_args(const Rows<T>& rows, const Lists<T>& lists, const Array<i32>& pixels, int threads) {
    BlendArgs<T> a{};
    a.rows = rows.rows;
    a.ids = rows.ids;
    a.chunk_count = rows.chunk_count;
    a.slot = rows.slot;
    a.pairs = rows.pairs;
    a.tile_offset = lists.tile_offset;
    a.block_offset = lists.block_offset;
    a.entries = lists.entries;
    a.count = rows.count;
    a.slots = lists.slots;
    a.width = lists.width;
    a.height = lists.height;
    a.seen = lists.seen();
    a.filled = lists.filled();
    a.visited = lists.visited;
    a.pixels = reinterpret_cast<unsigned short*>(checked("pixels", pixels, {-1}));
    if (2 * i64(pixels.shape(0)) < lists.masks) throw std::invalid_argument("pixels has too little room");
    a.threads = threads;
    return a;
}

template <class T> struct Pictures {
    T *rgb, *opacity, *depth, *normal;
    T background[3];
    Pictures(const Lists<T>& l, std::vector<double> behind, Array<T> rgb_, Array<T> opacity_, Optional<T> depth_,
             Optional<T> normal_) {
        rgb = checked("rgb", rgb_, {l.height, l.width, 3});
        opacity = checked("opacity", opacity_, {l.height, l.width});
        depth = checked("depth", depth_, {l.height, l.width});
        normal = checked("normal", normal_, {l.height, l.width, 3});
        if (normal && !depth) throw std::invalid_argument("normals come with depth");
        if (behind.size() != 3) throw std::invalid_argument("background has three numbers");
        for (int c = 0; c < 3; ++c) background[c] = T(behind[c]);
    }
    void into(BlendArgs<T>& a) const {
        a.rgb = rgb;
        a.opacity = opacity;
        a.depth = depth;
        a.normal = normal;
        for (int c = 0; c < 3; ++c) a.background[c] = background[c];
    }
};

template <class T>
void splat_blend(const Rows<T>& rows, const Lists<T>& lists, Array<i32> pixels, const Pictures<T>& pictures,
                 Optional<T> weight_slots, Optional<T> importance, int threads) {
    BlendArgs<T> a = blend_args(rows, lists, pixels, threads);
    pictures.into(a);
    a.weight_slots = checked("weight_slots", weight_slots, {lists.slots});
    a.importance = checked("importance", importance, {rows.count});
    if (!a.weight_slots != !a.importance) throw std::invalid_argument("importance needs weight_slots");
    run_splat::splat_blend(a);
}

template <class T>
void splat_blend_backward(const Rows<T>& rows, const Lists<T>& lists, Array<i32> pixels, const Pictures<T>& pictures,
                          std::vector<Optional<const T>> gradients, Optional<const T> error, Array<T> gradient_slots,
                          Array<T> d_rows, int threads) {
    BlendArgs<T> a = blend_args(rows, lists, pixels, threads);
    pictures.into(a);
    if (gradients.size() != 4 || !gradients[0])
        throw std::invalid_argument("gradients of rgb, opacity, depth and normal");
    a.d_rgb = checked("d_rgb", gradients[0], {a.height, a.width, 3});
    a.d_opacity = checked("d_opacity", gradients[1], {a.height, a.width});
    a.d_depth = checked("d_depth", gradients[2], {a.height, a.width});
    a.d_normal = checked("d_normal", gradients[3], {a.height, a.width, 3});
    if ((a.d_depth || a.d_normal) && !a.depth) throw std::invalid_argument("depth was not rendered");
    if (a.d_normal && !a.normal) throw std::invalid_argument("normals were not rendered");
    a.error = checked("error", error, {a.height, a.width});
    a.gradient_slots = checked("gradient_slots", gradient_slots, {lists.slots, kRow});
    a.d_rows = checked("d_rows", d_rows, {rows.count, kRow});
    run_splat::splat_blend_backward(a);
}

template <class T>
ProjectBackwardArgs<T> backward_args(const GaussianArrays<T>& g, i64 room, const std::vector<double>& camera,
                                     int degree, const Rows<T>& rows, const Array<const T>& d_rows, int threads) {
    check_degree_of(g, room, degree);
    if (rows.count != g.count) throw std::invalid_argument("rows were made for another number of Gaussians");
    ProjectBackwardArgs<T> a{};
    a.gaussians = g;
    a.camera = pinhole<T>(camera);
    a.degree = degree;
    a.rows = rows.rows;
    a.d_rows = checked("d_rows", d_rows, {rows.count, kRow});
    a.ids = rows.ids;
    a.chunk_count = rows.chunk_count;
    a.threads = threads;
    return a;
}

template <class T>
void splat_project_backward(const Splats<T, const T>& g, const std::vector<double>& camera, int degree,
                            const Rows<T>& rows, Array<const T> d_rows, const Splats<T, T>& gradient, int threads) {
    ProjectBackwardArgs<T> a = backward_args(g.arrays, g.room(), camera, degree, rows, d_rows, threads);
    if (gradient.arrays.count != rows.count || gradient.arrays.packed || gradient.room() != g.room())
        throw std::invalid_argument("the gradient has other shapes than the Gaussians");
    a.gradient = gradient.arrays;
    run_splat::splat_project_backward(a);
}

template <class T>
void splat_adam(const Splats<T, T>& g, const Splats<T, T>& m, const Splats<T, T>& v, const std::vector<double>& camera,
                int degree, const Rows<T>& rows, Array<const T> d_rows, std::vector<double> rates,
                std::vector<float> settings, std::vector<float> rest_settings, std::vector<double> pulls,
                Optional<T> statistics, Optional<T> boxes, int threads) {
    for (const Splats<T, T>* s : {&g, &m, &v})
        if (!s->arrays.packed || s->arrays.count != g.arrays.count || s->arrays.rest_stride != g.arrays.rest_stride)
            throw std::invalid_argument("values and moments must be packed Gaussians of one size");
    if (rates.size() != kCore || settings.size() != 4 || (!rest_settings.empty() && rest_settings.size() != 4) ||
        pulls.size() != 2)
        throw std::invalid_argument("16 rates, 4 settings, none or 4 settings of the rest, 2 pulls");
    SplatAdamArgs<T> a{};
    a.pass = backward_args(read_only(g.arrays), g.room(), camera, degree, rows, d_rows, threads);
    a.values = g.arrays;
    a.m = m.arrays;
    a.v = v.arrays;
    for (int i = 0; i < kCore; ++i) a.rates[i] = T(rates[i]);
    a.settings = {settings[0], settings[1], settings[2], settings[3]};
    a.update_rest = !rest_settings.empty();
    if (a.update_rest) a.rest_settings = {rest_settings[0], rest_settings[1], rest_settings[2], rest_settings[3]};
    a.opacity_pull = T(pulls[0]);
    a.scale_pull = T(pulls[1]);
    a.statistics = checked("statistics", statistics, {rows.count, 4});
    a.boxes = checked("boxes", boxes, {chunks(rows.count), kBox});
    run_splat::splat_adam(a);
}

template <class T>
std::pair<double, double> image_loss(Array<const T> rgb, Array<const T> target, Optional<const T> mask,
                                     double ssim_weight, Array<T> d_rgb, Array<T> error, int threads) {
    ImageLossArgs<T> a{};
    double sums[2];
    i64 h = i64(rgb.shape(0)), w = rgb.ndim() > 1 ? i64(rgb.shape(1)) : 0;
    a.rgb = checked("rgb", rgb, {-1, -1, 3});
    a.target = checked("target", target, {h, w, 3});
    a.mask = checked("mask", mask, {h, w});
    a.d_rgb = checked("d_rgb", d_rgb, {h, w, 3});
    a.error = checked("error", error, {h, w});
    if (h < 1 || w < 1 || h > 32768 || w > 32768) throw std::invalid_argument("a picture has 1 to 32768 pixels a side");
    a.width = int(w);
    a.height = int(h);
    a.ssim_weight = T(ssim_weight);
    a.sums = sums;
    a.threads = threads;
    run_splat::image_loss(a);
    return {sums[0], sums[1]};
}

template <class T> void bind_classes(nb::module_& m, const std::string& bits) {
    using In = Splats<T, const T>;
    using Out = Splats<T, T>;
    nb::class_<In>(m, ("Splats" + bits).c_str())
        .def(nb::init<Array<const T>, Array<const T>, Array<const T>, Array<const T>, Array<const T>>(),
             "means"_a.noconvert(), "scales"_a.noconvert(), "rotations"_a.noconvert(), "opacities"_a.noconvert(),
             "harmonics"_a.noconvert())
        .def(nb::init<Array<const T>, Array<const T>>(), "packed"_a.noconvert(), "rest"_a.noconvert());
    nb::class_<Out>(m, ("SplatsOut" + bits).c_str())
        .def(nb::init<Array<T>, Array<T>, Array<T>, Array<T>, Array<T>>(), "means"_a.noconvert(),
             "scales"_a.noconvert(), "rotations"_a.noconvert(), "opacities"_a.noconvert(), "harmonics"_a.noconvert())
        .def(nb::init<Array<T>, Array<T>>(), "packed"_a.noconvert(), "rest"_a.noconvert());
    nb::class_<Rows<T>>(m, ("SplatRows" + bits).c_str())
        .def(nb::init<Array<T>, Array<i32>, Array<i32>, Array<i32>, Array<i32>, Array<i32>, Array<i64>>(),
             "rows"_a.noconvert(), "ids"_a.noconvert(), "chunk_count"_a.noconvert(), "slot"_a.noconvert(),
             "key"_a.noconvert(), "pairs"_a.noconvert(), "totals"_a.noconvert());
    nb::class_<Lists<T>>(m, ("SplatLists" + bits).c_str())
        .def(nb::init<int, int, Array<i32>, Array<i32>, Array<i32>, Array<i32>, Array<i32>>(), "width"_a, "height"_a,
             "tile_offset"_a.noconvert(), "block_offset"_a.noconvert(), "visited"_a.noconvert(),
             "entries"_a.noconvert(), "seen"_a.noconvert())
        .def_rw("masks", &Lists<T>::masks);
    nb::class_<Pictures<T>>(m, ("SplatPictures" + bits).c_str())
        .def(nb::init<const Lists<T>&, std::vector<double>, Array<T>, Array<T>, Optional<T>, Optional<T>>(), "lists"_a,
             "background"_a, "rgb"_a.noconvert(), "opacity"_a.noconvert(), "depth"_a.noconvert().none(),
             "normal"_a.noconvert().none());
}

template <class T> void bind_functions(nb::module_& m) {
    m.def("splat_project", splat_project<T>, "gaussians"_a, "camera"_a, "degree"_a, "boxes"_a.noconvert().none(),
          "rows"_a, "threads"_a);
    m.def("splat_boxes", splat_boxes<T>, "gaussians"_a, "boxes"_a.noconvert(), "threads"_a);
    m.def("splat_lists", splat_lists<T>, "rows"_a, "lists"_a, "threads"_a);
    m.def("splat_blend", splat_blend<T>, "rows"_a, "lists"_a, "pixels"_a.noconvert(), "pictures"_a,
          "weight_slots"_a.noconvert().none(), "importance"_a.noconvert().none(), "threads"_a);
    m.def("splat_blend_backward", splat_blend_backward<T>, "rows"_a, "lists"_a, "pixels"_a.noconvert(), "pictures"_a,
          "gradients"_a.noconvert(), "error"_a.noconvert().none(), "gradient_slots"_a.noconvert(),
          "d_rows"_a.noconvert(), "threads"_a);
    m.def("splat_project_backward", splat_project_backward<T>, "gaussians"_a, "camera"_a, "degree"_a, "rows"_a,
          "d_rows"_a.noconvert(), "gradient"_a, "threads"_a);
    m.def("splat_adam", splat_adam<T>, "values"_a, "m"_a, "v"_a, "camera"_a, "degree"_a, "rows"_a,
          "d_rows"_a.noconvert(), "rates"_a, "settings"_a, "rest_settings"_a, "pulls"_a,
          "statistics"_a.noconvert().none(), "boxes"_a.noconvert().none(), "threads"_a);
    m.def("image_loss", image_loss<T>, "rgb"_a.noconvert(), "target"_a.noconvert(), "mask"_a.noconvert().none(),
          "ssim_weight"_a, "d_rgb"_a.noconvert(), "error"_a.noconvert(), "threads"_a);
}

template <class T> void bind(nb::module_& m) {
    bind_classes<T>(m, sizeof(T) == 4 ? "32" : "64");
    bind_functions<T>(m);
}

const Part part(bind<float>, bind<double>);

}  // namespace
}  // namespace nf
