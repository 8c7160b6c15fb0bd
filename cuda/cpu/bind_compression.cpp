// The Python module: the entropy coder of compressed Gaussians (.nfz). Whole numbers, so there is one build for all.
#include "bind.h"
#include "splat_columns.h"

namespace nf {
namespace {

nb::bytes as_bytes(const Encoder& coder) {
    return nb::bytes(reinterpret_cast<const char*>(coder.bytes.data()), coder.bytes.size());
}

void check_near(const Array<const i32>& near, i64 count) {
    const i32* rows = checked("near", near, {count, kNear});
    for (i64 i = 0; i < count; ++i)
        for (int m = 0; m < kNear; ++m)
            if (rows[i * kNear + m] >= i) throw std::invalid_argument("near: a row names one that does not come before it");
}

void check_shifts(const Array<const uint8_t>& shifts, i64 count) {
    const uint8_t* rows = checked("shifts", shifts, {count});
    for (i64 i = 0; i < count; ++i)
        if (rows[i] > kMostShift) throw std::invalid_argument("shifts: 0 to 10");
}

void splat_near(Array<const i32> places, int window, Array<i32> near) {
    i64 count = places.shape(0);
    checked("places", places, {count, 3});
    checked("near", near, {count, kNear});
    nb::gil_scoped_release release;
    nearest_before(places.data(), count, window, near.data());
}

nb::bytes columns_encode(Array<const i32> values, Array<const uint8_t> shifts, Array<const i32> near, bool predict) {
    checked("values", values, {-1, -1});
    i64 count = values.shape(0), columns = values.shape(1);
    check_near(near, count);
    check_shifts(shifts, count);
    Encoder coder;
    {
        nb::gil_scoped_release release;
        std::vector<i32> copy(values.data(), values.data() + count * columns);
        ColumnCoder<Encoder>(coder, int(columns), predict).run(copy.data(), shifts.data(), near.data(), count);
        coder.finish();
    }
    return as_bytes(coder);
}

// Whether the bytes were all of it, no more and no less.
bool columns_decode(Array<const uint8_t> data, Array<i32> values, Array<const uint8_t> shifts, Array<const i32> near, bool predict) {
    checked("values", values, {-1, -1});
    i64 count = values.shape(0), columns = values.shape(1);
    check_near(near, count);
    check_shifts(shifts, count);
    nb::gil_scoped_release release;
    Decoder coder(data.data(), data.size());
    std::fill(values.data(), values.data() + count * columns, 0);
    ColumnCoder<Decoder>(coder, int(columns), predict).run(values.data(), shifts.data(), near.data(), count);
    return coder.whole();
}

void check_bits(int bits) {
    if (bits < 1 || bits > 63) throw std::invalid_argument("bits: 1 to 63");
}

nb::bytes places_encode(Array<const i64> codes, int bits) {
    check_bits(bits);
    Encoder coder;
    {
        nb::gil_scoped_release release;
        std::vector<uint64_t> copy(codes.data(), codes.data() + codes.size());
        if (!std::is_sorted(copy.begin(), copy.end())) throw std::invalid_argument("codes: must be sorted");
        if (!copy.empty() && copy.back() >> bits) throw std::invalid_argument("codes: have more bits");
        if (!copy.empty()) PlaceCoder<Encoder>(coder, copy.data()).run(0, i64(copy.size()), 0, bits - 1);
        coder.finish();
    }
    return as_bytes(coder);
}

bool places_decode(Array<const uint8_t> data, Array<i64> codes, int bits) {
    check_bits(bits);
    nb::gil_scoped_release release;
    i64 count = i64(codes.size());
    std::vector<uint64_t> found(count, 0);
    Decoder coder(data.data(), data.size());
    if (count) PlaceCoder<Decoder>(coder, found.data()).run(0, count, 0, bits - 1);
    std::copy(found.begin(), found.end(), codes.data());
    return coder.whole();
}

void splat_align(Array<const double> rotations, Array<const double> turns, Array<const i32> near, Array<double> out,
                 Array<i32> chosen) {
    i64 count = rotations.shape(0);
    checked("rotations", rotations, {count, 4});
    checked("turns", turns, {-1, 4});
    check_near(near, count);
    checked("out", out, {count, 3});
    checked("chosen", chosen, {count});
    nb::gil_scoped_release release;
    align_rotations(rotations.data(), count, turns.data(), i64(turns.shape(0)), near.data(), out.data(), chosen.data());
}

void bind(nb::module_& m) {
    m.def("splat_near", splat_near, "places"_a.noconvert(), "window"_a, "near"_a.noconvert());
    m.def("columns_encode", columns_encode, "values"_a.noconvert(), "shifts"_a.noconvert(), "near"_a.noconvert(), "predict"_a);
    m.def("columns_decode", columns_decode, "data"_a.noconvert(), "values"_a.noconvert(), "shifts"_a.noconvert(),
          "near"_a.noconvert(), "predict"_a);
    m.def("places_encode", places_encode, "codes"_a.noconvert(), "bits"_a);
    m.def("places_decode", places_decode, "data"_a.noconvert(), "codes"_a.noconvert(), "bits"_a);
    m.def("splat_align", splat_align, "rotations"_a.noconvert(), "turns"_a.noconvert(), "near"_a.noconvert(),
          "out"_a.noconvert(), "chosen"_a.noconvert());
}

const Part part(bind, [](nb::module_&) {});

}  // namespace
}  // namespace nf
