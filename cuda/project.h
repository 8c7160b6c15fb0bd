// From a 3D Gaussian to its ellipse on the picture (EWA splatting, Zwicker et al. 2001; 3DGS, arXiv:2308.04079).
//
//   p = W (m - o)   x = fx p_x / p_z + cx   y = fy p_y / p_z + cy         W: camera_from_world, o: camera's centre
//   J: Jacobian of (x, y) at p, with p_x / p_z and p_y / p_z held within 0.15 pictures around the picture
//   B = J W R(q)    M = B diag(s)    cov = M M' + blur I    (a, b, c) = cov^-1 as (xx, xy, yy)
//   log opacity = log sigmoid(logit), and with `antialiased` + 1/2 log(det(M M') / det(cov))  (arXiv:2311.16493, Eq. 9)
// The Gaussian's alpha at d = pixel - (x, y) is opacity exp(-(a dx^2 + 2 b dx dy + c dy^2) / 2), and it reaches as far
// as alpha >= 1/255: d' cov^-1 d <= 2 log(255 opacity). Backward beside forward: `d_x` is the gradient of x.
#pragma once
#include "scalar.h"

namespace nf {

constexpr double kLogLeastAlpha = 5.541263545158426;  // log 255
constexpr double kLeastDeterminant = 1e-12;           // of M M' in pixels^4: a needle on edge has no gradient from it

template <class S> struct Pinhole {
    S rotation[9], centre[3];  // camera_from_world by rows; position in the world
    S fx, fy, cx, cy, width, height;
    S near, blur;              // nothing nearer than `near` is seen; `blur` in pixels^2
    bool antialiased;
};

template <class T> struct Shape {
    T mean[3], log_scale[3], quaternion[4], logit;
};

// What is seen of a Gaussian, and the gradient of the loss with respect to it.
template <class T> struct Ellipse {
    T x, y, a, b, c, log_opacity, depth, normal[3];  // depth along z; normal: the shortest axis, towards the camera
};

template <class T> NF_HD void rotation_of(const T* q, T* r) {
    T w = q[0], x = q[1], y = q[2], z = q[3];
    r[0] = 1 - 2 * (y * y + z * z);
    r[1] = 2 * (x * y - w * z);
    r[2] = 2 * (x * z + w * y);
    r[3] = 2 * (x * y + w * z);
    r[4] = 1 - 2 * (x * x + z * z);
    r[5] = 2 * (y * z - w * x);
    r[6] = 2 * (x * z - w * y);
    r[7] = 2 * (y * z + w * x);
    r[8] = 1 - 2 * (x * x + y * y);
}

template <class T> NF_HD void rotation_backward(const T* q, const T* g, T* d) {
    T w = q[0], x = q[1], y = q[2], z = q[3];
    d[0] = 2 * (z * (g[3] - g[1]) + y * (g[2] - g[6]) + x * (g[7] - g[5]));
    d[1] = 2 * (y * (g[1] + g[3]) + z * (g[2] + g[6]) + w * (g[7] - g[5]) - 2 * x * (g[4] + g[8]));
    d[2] = 2 * (x * (g[1] + g[3]) + z * (g[5] + g[7]) + w * (g[2] - g[6]) - 2 * y * (g[0] + g[8]));
    d[3] = 2 * (x * (g[2] + g[6]) + y * (g[5] + g[7]) + w * (g[3] - g[1]) - 2 * z * (g[0] + g[4]));
}

// Unit vector from the camera's centre to a point, and what its gradient means for the point.
template <class T, class S> NF_HD T direction_to(const S* centre, const T* mean, T* direction) {
    T length2 = T{};
    for (int i = 0; i < 3; ++i) {
        direction[i] = mean[i] - centre[i];
        length2 += direction[i] * direction[i];
    }
    T inverse = 1 / sqrt_(max_(length2, T{} + S(1e-24)));
    for (int i = 0; i < 3; ++i) direction[i] *= inverse;
    return inverse;
}
template <class T> NF_HD void direction_backward(const T* direction, T inverse, const T* d_direction, T* d_mean) {
    T along = T{};
    for (int i = 0; i < 3; ++i) along += direction[i] * d_direction[i];
    for (int i = 0; i < 3; ++i) d_mean[i] += inverse * (d_direction[i] - along * direction[i]);
}

// One Gaussian's way to the picture; the intermediate results are kept for the way back.
template <class T> struct Projection {
    using S = Scalar<T>;
    T local[3], inverse_z, u, v, free_u, free_v;  // free: 1 where u, v were not held, else 0
    T q[4], inverse_length, r[9], scale[3];
    T p[6], b[6], m[6];                           // P = J W, B, M: two rows of three
    T xx, xy, yy, det, det_sharp, opacity, flip[3];

    NF_HD void forward(const Pinhole<S>& camera, const Shape<T>& g, Ellipse<T>& out) {
        place(camera, g, out);
        turn(g);
        for (int i = 0; i < 6; ++i) {
            int row = i / 3 * 3, k = i % 3;
            b[i] = p[row] * r[k] + p[row + 1] * r[3 + k] + p[row + 2] * r[6 + k];
            m[i] = b[i] * scale[k];
        }
        xx = m[0] * m[0] + m[1] * m[1] + m[2] * m[2];
        xy = m[0] * m[3] + m[1] * m[4] + m[2] * m[5];
        yy = m[3] * m[3] + m[4] * m[4] + m[5] * m[5];
        det_sharp = xx * yy - xy * xy;
        xx += camera.blur;
        yy += camera.blur;
        det = xx * yy - xy * xy;
        T inverse = 1 / det;
        out.a = yy * inverse;
        out.b = -xy * inverse;
        out.c = xx * inverse;
        T rest = exp_(-abs_(g.logit));  // both signs without overflow
        opacity = select_(g.logit > 0, T{} + S(1), rest) / (1 + rest);
        out.log_opacity = select_(g.logit > 0, T{}, g.logit) - log_(1 + rest);
        if (camera.antialiased) out.log_opacity += S(0.5) * log_(max_(det_sharp, T{} + S(kLeastDeterminant)) * inverse);
        face(camera, g, out);
    }

    NF_HD void backward(const Pinhole<S>& camera, const Ellipse<T>& e, const Ellipse<T>& d, Shape<T>& d_shape) const {
        T h = S(0.5) * d.b;
        T e00 = e.a * d.a + e.b * h, e01 = e.a * h + e.b * d.c, e10 = e.b * d.a + e.c * h, e11 = e.b * h + e.c * d.c;
        T d_xx = -(e00 * e.a + e01 * e.b), d_xy = -(e00 * e.b + e01 * e.c), d_yy = -(e10 * e.b + e11 * e.c);
        if (camera.antialiased) {
            auto sharp = det_sharp > S(kLeastDeterminant);
            T share = select_(sharp, S(0.5) * d.log_opacity, T{}) / max_(det_sharp, T{} + S(kLeastDeterminant));
            T all = S(0.5) * d.log_opacity / det;
            d_xx += share * (yy - camera.blur) - all * yy;
            d_xy -= (share - all) * xy;
            d_yy += share * (xx - camera.blur) - all * xx;
        }
        d_shape.logit = d.log_opacity * (1 - opacity);
        T d_r[9], d_p[6];
        for (int i = 0; i < 9; ++i) d_r[i] = d.normal[i / 3] * flip[i % 3];
        for (int i = 0; i < 6; ++i) d_p[i] = T{};
        for (int k = 0; k < 3; ++k) {
            T d_m0 = 2 * (d_xx * m[k] + d_xy * m[3 + k]), d_m1 = 2 * (d_xy * m[k] + d_yy * m[3 + k]);
            d_shape.log_scale[k] = d_m0 * m[k] + d_m1 * m[3 + k];
            T d_b0 = d_m0 * scale[k], d_b1 = d_m1 * scale[k];
            for (int i = 0; i < 3; ++i) {
                d_r[3 * i + k] += p[i] * d_b0 + p[3 + i] * d_b1;
                d_p[i] += d_b0 * r[3 * i + k];
                d_p[3 + i] += d_b1 * r[3 * i + k];
            }
        }
        T d_q[4], along = T{};
        rotation_backward(q, d_r, d_q);
        for (int i = 0; i < 4; ++i) along += q[i] * d_q[i];
        for (int i = 0; i < 4; ++i) d_shape.quaternion[i] = inverse_length * (d_q[i] - along * q[i]);
        place_backward(camera, d, d_p, d_shape.mean);
    }

    // Adds what a pull on the opacity and on each scale gives (arXiv:2404.09591, Eq. 14).
    NF_HD void pull(S opacity_pull, S scale_pull, Shape<T>& d_shape) const {
        d_shape.logit += opacity_pull * opacity * (1 - opacity);
        for (int k = 0; k < 3; ++k) d_shape.log_scale[k] += scale_pull * scale[k];
    }

  private:
    // Into the camera's frame, onto the picture, and P.
    NF_HD void place(const Pinhole<S>& camera, const Shape<T>& g, Ellipse<T>& out) {
        const S* w = camera.rotation;
        T away[3];
        for (int i = 0; i < 3; ++i) away[i] = g.mean[i] - camera.centre[i];
        for (int i = 0; i < 3; ++i)
            local[i] = away[0] * w[3 * i] + away[1] * w[3 * i + 1] + away[2] * w[3 * i + 2];
        inverse_z = 1 / max_(local[2], T{} + camera.near);
        T x = local[0] * inverse_z, y = local[1] * inverse_z;
        out.x = x * camera.fx + camera.cx;
        out.y = y * camera.fy + camera.cy;
        out.depth = local[2];
        S edge_x = S(0.15) * camera.width / camera.fx, edge_y = S(0.15) * camera.height / camera.fy;
        u = clamp_(x, T{} + (-camera.cx / camera.fx - edge_x), T{} + ((camera.width - camera.cx) / camera.fx + edge_x));
        v = clamp_(y, T{} + (-camera.cy / camera.fy - edge_y),
                   T{} + ((camera.height - camera.cy) / camera.fy + edge_y));
        free_u = select_(u == x, T{} + S(1), T{});
        free_v = select_(v == y, T{} + S(1), T{});
        for (int i = 0; i < 3; ++i) {
            p[i] = camera.fx * inverse_z * (w[i] - u * w[6 + i]);
            p[3 + i] = camera.fy * inverse_z * (w[3 + i] - v * w[6 + i]);
        }
    }

    NF_HD void place_backward(const Pinhole<S>& camera, const Ellipse<T>& d, const T* d_p, T* d_mean) const {
        const S* w = camera.rotation;
        T d_u = T{}, d_v = T{}, d_inverse = T{};
        for (int i = 0; i < 3; ++i) {
            d_u -= d_p[i] * w[6 + i];
            d_v -= d_p[3 + i] * w[6 + i];
            d_inverse +=
                d_p[i] * (camera.fx * (w[i] - u * w[6 + i])) + d_p[3 + i] * (camera.fy * (w[3 + i] - v * w[6 + i]));
        }
        d_u = d.x * camera.fx + free_u * d_u * camera.fx * inverse_z;
        d_v = d.y * camera.fy + free_v * d_v * camera.fy * inverse_z;
        d_inverse += d_u * local[0] + d_v * local[1];
        T d_local[3] = {d_u * inverse_z, d_v * inverse_z, d.depth - inverse_z * inverse_z * d_inverse};
        for (int i = 0; i < 3; ++i) d_mean[i] = d_local[0] * w[i] + d_local[1] * w[3 + i] + d_local[2] * w[6 + i];
    }

    NF_HD void turn(const Shape<T>& g) {
        T length2 = T{};
        for (int i = 0; i < 4; ++i) length2 += g.quaternion[i] * g.quaternion[i];
        inverse_length = 1 / sqrt_(max_(length2, T{} + S(1e-24)));  // a quaternion of zeros gives no NaN
        for (int i = 0; i < 4; ++i) q[i] = g.quaternion[i] * inverse_length;
        rotation_of(q, r);
        for (int i = 0; i < 3; ++i) scale[i] = exp_(g.log_scale[i]);
    }

    // The shortest axis, turned to the camera; flip holds its sign at that axis and 0 at the others.
    NF_HD void face(const Pinhole<S>& camera, const Shape<T>& g, Ellipse<T>& out) {
        T least = min_(min_(g.log_scale[0], g.log_scale[1]), g.log_scale[2]), left = T{} + S(1);
        for (int i = 0; i < 3; ++i) out.normal[i] = T{};
        for (int k = 0; k < 3; ++k) {
            T taken = select_(g.log_scale[k] <= least, left, T{});
            left -= taken;
            T along = T{};
            for (int i = 0; i < 3; ++i) along += (g.mean[i] - camera.centre[i]) * r[3 * i + k];
            flip[k] = select_(along > 0, -taken, taken);
            for (int i = 0; i < 3; ++i) out.normal[i] += flip[k] * r[3 * i + k];
        }
    }
};

// How far an ellipse reaches, in pixels, and whether it is seen at all; 0 where it is not.
template <class T> struct Reach {
    T half_width, half_height, seen;
};
template <class T, class S>
NF_HD Reach<T> reach_of(const Pinhole<S>& camera, const Projection<T>& g, const Ellipse<T>& e) {
    T cut = 2 * (e.log_opacity + S(kLogLeastAlpha)), safe = max_(cut, T{});
    Reach<T> reach = {sqrt_(safe * g.xx), sqrt_(safe * g.yy), T{} + S(1)};
    reach.seen = select_(e.depth > camera.near, reach.seen, T{});
    reach.seen = select_(cut > 0, reach.seen, T{});
    reach.seen = select_(g.det > 0, reach.seen, T{});
    reach.seen = select_(e.x + reach.half_width >= S(0.5), reach.seen, T{});
    reach.seen = select_(e.y + reach.half_height >= S(0.5), reach.seen, T{});
    reach.seen = select_(e.x - reach.half_width <= camera.width - S(0.5), reach.seen, T{});
    reach.seen = select_(e.y - reach.half_height <= camera.height - S(0.5), reach.seen, T{});
    return reach;
}

}  // namespace nf
