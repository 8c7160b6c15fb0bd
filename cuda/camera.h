// Ray generation: from a pixel to a ray (the inverse of cameras.py's `project`).
//
// perspective: OpenCV's rational model, k = (k1, k2, p1, p2, k3, k4, k5, k6)
// fisheye:     OpenCV's equidistant model, k = (k1, k2, k3, k4)
// The lens is inverted by Newton's method on the plane z = 1 (perspective) or on the angle (fisheye), 12 steps at most.
#pragma once
#include "scalar.h"

namespace nf {

constexpr int kCameraFloats = 25;  // world_from_camera [3, 4] row-major, fx, fy, cx, cy, model, k[8]

template <class T> NF_HD void undistort_perspective(const T* k, T& a, T& b) {
    T a0 = a, b0 = b;
    for (int i = 0; i < 12; ++i) {
        T r2 = a * a + b * b;
        T n = 1 + r2 * (k[0] + r2 * (k[1] + r2 * k[4])), d = 1 + r2 * (k[5] + r2 * (k[6] + r2 * k[7]));
        T radial = n / d;
        T slope = ((k[0] + r2 * (2 * k[1] + r2 * 3 * k[4])) - radial * (k[5] + r2 * (2 * k[6] + r2 * 3 * k[7]))) / d;
        T fa = a * radial + 2 * k[2] * a * b + k[3] * (r2 + 2 * a * a) - a0;
        T fb = b * radial + k[2] * (r2 + 2 * b * b) + 2 * k[3] * a * b - b0;
        T aa = radial + 2 * a * a * slope + 2 * k[2] * b + 6 * k[3] * a;
        T ab = 2 * a * b * slope + 2 * k[2] * a + 2 * k[3] * b;
        T bb = radial + 2 * b * b * slope + 6 * k[2] * b + 2 * k[3] * a;
        T det = aa * bb - ab * ab;
        if (abs_(det) < T(1e-9)) return;  // past the lens model's fold: keep the last good point
        T da = (bb * fa - ab * fb) / det, db = (aa * fb - ab * fa) / det;
        a -= da;
        b -= db;
        if (abs_(da) + abs_(db) < T(1e-9)) return;
    }
}

template <class T> NF_HD T undistort_angle(const T* k, T theta_d) {
    T theta = theta_d;
    for (int i = 0; i < 12; ++i) {
        T t2 = theta * theta;
        T f = theta * (1 + t2 * (k[0] + t2 * (k[1] + t2 * (k[2] + t2 * k[3])))) - theta_d;
        T slope = 1 + t2 * (3 * k[0] + t2 * (5 * k[1] + t2 * (7 * k[2] + t2 * 9 * k[3])));
        if (abs_(slope) < T(1e-9)) break;
        theta -= f / slope;
    }
    return clamp_(theta, T(0), T(3.0));
}

// camera: kCameraFloats numbers. Writes the origin and the unit direction in the world.
template <class T> NF_HD void pixel_ray(const T* camera, T u, T v, T* origin, T* direction) {
    const T *m = camera, *k = camera + 17;
    T a = (u - camera[14]) / camera[12], b = (v - camera[15]) / camera[13], z = 1;
    if (camera[16] > T(0.5)) {
        T r = sqrt_(a * a + b * b), theta = undistort_angle(k, r);
        T scale = r > T(1e-9) ? 1 / r : T(0);
        // Past 90 degrees a point on the plane z = 1 no longer exists, so the ray is built from its angle.
        T s, c;
        T half = tan_(theta / 2);
        s = 2 * half / (1 + half * half);
        c = (1 - half * half) / (1 + half * half);
        a *= scale * s;
        b *= scale * s;
        z = c;
    } else {
        undistort_perspective(k, a, b);
    }
    T n = 1 / sqrt_(a * a + b * b + z * z);
    for (int i = 0; i < 3; ++i) {
        direction[i] = (m[4 * i] * a + m[4 * i + 1] * b + m[4 * i + 2] * z) * n;
        origin[i] = m[4 * i + 3];
    }
}

}  // namespace nf
