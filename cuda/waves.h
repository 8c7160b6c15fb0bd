// Sine and cosine of a whole turn's parts, the waves of Fourier features: p in cycles, a turn is 1.
//
//   sine = sin(2 pi p)     cosine = cos(2 pi p)     d_p = 2 pi (cosine d_sine - sine d_cosine)
//
// In cycles what is left of whole turns is exact, so that a frequency of 1000 costs no more digits than p itself has.
#pragma once
#include "scalar.h"

namespace nf {

constexpr double kTurn = 6.283185307179586;

template <class T> struct Wave {
    T sine, cosine;
};

NF_HD Wave<float> wave(float p) {
    float angle = float(kTurn) * (p - ::floorf(p));
    return {::sinf(angle), ::cosf(angle)};
}
NF_HD Wave<double> wave(double p) {
    double angle = kTurn * (p - ::floor(p));
    return {::sin(angle), ::cos(angle)};
}

template <class T> NF_HD T wave_backward(Wave<T> w, T d_sine, T d_cosine) {
    return Scalar<T>(kTurn) * (w.cosine * d_sine - w.sine * d_cosine);
}

#ifdef NF_VECTOR_BYTES
// Quarters of a turn by rounding, then the polynomials of Cephes on an eighth of a turn to either side; error 1e-7.
// For |p| below 2^20.
NF_HD Wave<NF_ISA::FloatLanes> wave(NF_ISA::FloatLanes p) {
    using V = NF_ISA::FloatLanes;
    typedef i32 I __attribute__((vector_size(NF_VECTOR_BYTES)));
    V n = p * 4 + 12582912.0f;  // 1.5 * 2^23: adding it rounds to an integer in the low bits
    I quarter = (I)n;
    V a = (p - (n - 12582912.0f) * 0.25f) * float(kTurn), aa = a * a;
    V sine = a + a * aa * (-1.6666654611e-1f + aa * (8.3321608736e-3f + aa * -1.9515295891e-4f));
    V cosine = 1 - 0.5f * aa +
               aa * aa * (4.166664568298827e-2f + aa * (-1.388731625493765e-3f + aa * 2.443315711809948e-5f));
    I odd = (quarter & 1) != 0;
    V first = odd ? cosine : sine, second = odd ? sine : cosine;
    return {(V)((I)first ^ ((quarter & 2) << 30)), (V)((I)second ^ (((quarter + 1) & 2) << 30))};
}
NF_HD Wave<NF_ISA::DoubleLanes> wave(NF_ISA::DoubleLanes p) {
    Wave<NF_ISA::DoubleLanes> w;
    for (int i = 0; i < NF_ISA::kWidth<double>; ++i) {
        Wave<double> one = wave(p[i]);
        w.sine[i] = one.sine;
        w.cosine[i] = one.cosine;
    }
    return w;
}
#endif

}  // namespace nf
