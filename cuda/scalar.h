// Elementary functions by the same names for float, double and (cpu/lanes.h) SIMD lanes, so that a formula
// templated on its scalar reads alike everywhere.
#pragma once
#include "host_device.h"
#ifndef __CUDACC__
#include <cmath>
#endif

namespace nf {

NF_HD float exp_(float x) { return ::expf(x); }
NF_HD double exp_(double x) { return ::exp(x); }
NF_HD float log_(float x) { return ::logf(x); }
NF_HD double log_(double x) { return ::log(x); }
NF_HD float exp2_(float x) { return ::exp2f(x); }
NF_HD double exp2_(double x) { return ::exp2(x); }
NF_HD float sqrt_(float x) { return ::sqrtf(x); }
NF_HD double sqrt_(double x) { return ::sqrt(x); }
NF_HD float reciprocal_(float x) { return 1 / x; }
NF_HD double reciprocal_(double x) { return 1 / x; }
NF_HD float floor_(float x) { return ::floorf(x); }
NF_HD double floor_(double x) { return ::floor(x); }
NF_HD float whole_(float x) { return ::floorf(x); }  // of what is not below 0
NF_HD double whole_(double x) { return ::floor(x); }
NF_HD float ceil_(float x) { return ::ceilf(x); }
NF_HD double ceil_(double x) { return ::ceil(x); }
NF_HD float abs_(float x) { return ::fabsf(x); }
NF_HD double abs_(double x) { return ::fabs(x); }
NF_HD float atan_(float x) { return ::atanf(x); }
NF_HD double atan_(double x) { return ::atan(x); }
NF_HD float tan_(float x) { return ::tanf(x); }
NF_HD double tan_(double x) { return ::tan(x); }
template <class T> NF_HD T min_(T a, T b) { return a < b ? a : b; }
template <class T> NF_HD T max_(T a, T b) { return a > b ? a : b; }
template <class T> NF_HD T clamp_(T x, T lo, T hi) { return min_(max_(x, lo), hi); }
template <class T> NF_HD T select_(bool condition, T yes, T no) { return condition ? yes : no; }

// The scalar that a number or lanes of numbers are made of: constants of a formula are Scalar<T>(...).
template <class T> struct ScalarOf { using Type = T; };
template <class T> using Scalar = typename ScalarOf<T>::Type;

}  // namespace nf

#ifdef NF_VECTOR_BYTES
#include "cpu/lanes.h"  // before any formula, so that templates find the overloads for lanes
#endif
