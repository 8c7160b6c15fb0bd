// Adam (arXiv:1412.6980, Algorithm 1) for one scalar or lanes, with the bias corrections folded into the two factors
//   rate = lr * sqrt(1 - beta2^step) / (1 - beta1^step),   epsilon likewise scaled by the caller.
#pragma once
#include "scalar.h"

namespace nf {

struct AdamSettings {
    float rate, beta1, beta2, epsilon;
};

template <class T> NF_HD T adam_update(T g, T& m, T& v, const AdamSettings& s) {
    m = T{} + s.beta1 * m + (1 - s.beta1) * g;
    v = T{} + s.beta2 * v + (1 - s.beta2) * g * g;
    return -s.rate * m / (sqrt_(v) + s.epsilon);
}

}  // namespace nf
