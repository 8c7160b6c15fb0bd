// Shaders of the Gaussians. The formulas are those of cuda/project.h and cuda/blend.h, whose names they keep; the layout
// of the textures is that of neuralfields/serving/splats.py.
//
//   placeFragment   once for each Gaussian: its ellipse in the picture and its colour, into two data textures
//   SPLAT_VERTEX    a triangle each, from those; no instances, each of which costs some drivers as much as a draw call

import { SEEN } from "./seen.js";

export const ACROSS = 2048; // texels of a row of the data textures

/** Where a Gaussian is seen and how: a pixel of a data texture for each, in the order in which they are blended. */
export const placeFragment = (many) => `
#define MANY ${many}
#define TEXELS ${Math.ceil((3 * (many - 1)) / 16)}
precision highp int;
uniform usampler2D core, rest, marks, order;
uniform int count;            // Gaussians in order
uniform float ranges[16];
uniform mat3 turn;            // columns: right, down, forward
uniform vec3 place, low, high; // the eye, and the box in which centres are drawn
uniform vec2 size;            // pixels
uniform float focal, near, unitOfDepth;
uniform bool antialiased, normals, marked;
layout(location = 0) out uvec4 shape; // float32: centre in pixels, half the ellipse's long axis
layout(location = 1) out uvec4 look;  // float32 cut 2 log(255 opacity) and depth; float16 colour or normal, half the short axis
int id;
${SEEN}
ivec2 texelAt(int index) { return ivec2(index % ${ACROSS}, index / ${ACROSS}); }

mat3 rotationOf(uvec3 code) {
  vec3 s = (vec3(code & 32767u) / 32767.0 * 2.0 - 1.0) * 0.70710678;
  float left = sqrt(max(0.0, 1.0 - dot(s, s)));
  uint taken = (code.x >> 15) | ((code.y >> 15) << 1);
  vec4 q = taken == 0u ? vec4(left, s) : taken == 1u ? vec4(s.x, left, s.yz) : taken == 2u ? vec4(s.xy, left, s.z) : vec4(s, left);
  q = normalize(q);
  float w = q.x, x = q.y, y = q.z, z = q.w;
  return mat3(
    1.0 - 2.0 * (y * y + z * z), 2.0 * (x * y + w * z), 2.0 * (x * z - w * y),
    2.0 * (x * y - w * z), 1.0 - 2.0 * (x * x + z * z), 2.0 * (y * z + w * x),
    2.0 * (x * z + w * y), 2.0 * (y * z - w * x), 1.0 - 2.0 * (x * x + y * y));
}

#if MANY > 1
vec3 others(vec3 d) {
  uint words[4 * TEXELS];
  for (int t = 0; t < TEXELS; ++t) {
    uvec4 texel = texelFetch(rest, texelAt(id * TEXELS + t), 0);
    for (int j = 0; j < 4; ++j) words[4 * t + j] = texel[j];
  }
  float x = d.x, y = d.y, z = d.z, xx = x * x, yy = y * y, zz = z * z;
  float basis[15];
  basis[0] = -0.4886025119029199 * y;
  basis[1] = 0.4886025119029199 * z;
  basis[2] = -0.4886025119029199 * x;
  basis[3] = 1.0925484305920792 * x * y;
  basis[4] = -1.0925484305920792 * y * z;
  basis[5] = 0.31539156525252005 * (2.0 * zz - xx - yy);
  basis[6] = -1.0925484305920792 * x * z;
  basis[7] = 0.5462742152960396 * (xx - yy);
  basis[8] = -0.5900435899266435 * y * (3.0 * xx - yy);
  basis[9] = 2.890611442640554 * x * y * z;
  basis[10] = -0.4570457994644658 * y * (4.0 * zz - xx - yy);
  basis[11] = 0.3731763325901154 * z * (2.0 * zz - 3.0 * xx - 3.0 * yy);
  basis[12] = -0.4570457994644658 * x * (4.0 * zz - xx - yy);
  basis[13] = 1.445305721320277 * z * (xx - yy);
  basis[14] = -0.5900435899266435 * x * (xx - 3.0 * yy);
  vec3 sum = vec3(0.0);
  for (int k = 0; k < MANY - 1; ++k) {
    vec3 c;
    for (int a = 0; a < 3; ++a) {
      int i = 3 * k + a;
      c[a] = float(int(words[i >> 2] << uint(24 - 8 * (i & 3))) >> 24) / 127.0;
    }
    sum += basis[k] * ranges[k + 1] * c * abs(c);
  }
  return sum;
}
#else
vec3 others(vec3 d) { return vec3(0.0); }
#endif

void main() {
  shape = look = uvec4(0u); // a cut of 0: nothing is drawn of it
  int at = int(gl_FragCoord.y) * ${ACROSS} + int(gl_FragCoord.x);
  if (at >= count) return;
  id = int(texelFetch(order, texelAt(at), 0).r);
  uvec4 a = texelFetch(core, texelAt(2 * id), 0);
  vec3 mean = uintBitsToFloat(a.xyz), away = mean - place, local = away * turn;
  if (local.z <= near || any(lessThan(mean, low)) || any(greaterThan(mean, high))) return;
  uint mark = marked ? texelFetch(marks, texelAt(id), 0).r : 0u; // choice.js: 1 selected, 2 deleted
  if ((mark & 2u) != 0u) return;
  uvec4 b = texelFetch(core, texelAt(2 * id + 1), 0);
  vec3 scale = exp(vec3(unpackHalf2x16(b.x).y, unpackHalf2x16(b.y)));
  vec2 logitRed = unpackHalf2x16(b.z), greenBlue = unpackHalf2x16(b.w);
  mat3 r = rotationOf(uvec3(a.w & 65535u, a.w >> 16, b.x & 65535u));

  vec2 plane = local.xy / local.z, half_ = 0.5 * size, edge = (half_ + 0.15 * size) / focal;
  vec2 held = clamp(plane, -edge, edge);
  vec3 p0 = focal / local.z * (turn[0] - held.x * turn[2]), p1 = focal / local.z * (turn[1] - held.y * turn[2]);
  vec3 m0 = (p0 * r) * scale, m1 = (p1 * r) * scale;
  float xx = dot(m0, m0), xy = dot(m0, m1), yy = dot(m1, m1), sharp = xx * yy - xy * xy;
  xx += 0.3;
  yy += 0.3;
  float det = xx * yy - xy * xy;
  float logit = logitRed.x, peak = min(logit, 0.0) - log(1.0 + exp(-abs(logit)));
  if (antialiased) peak += 0.5 * log(max(sharp, 1e-12) / det);
  float left = seenAt(mean);
  if (left < 1e-3) return; // what no camera saw: LEAST of rendering/seen.py
  peak += log(left);
  float cut = 2.0 * (peak + 5.541263545158426);
  if (!(cut > 0.0) || !(det > 0.0)) return;
  vec2 centre = plane * focal + half_, reach = sqrt(cut * vec2(xx, yy));
  if (any(lessThan(centre, -reach)) || any(greaterThan(centre, size + reach))) return;

  float middle = 0.5 * (xx + yy), apart = length(vec2(0.5 * (xx - yy), xy));
  float longest = middle + apart, shortest = max(det / longest, 1e-6);
  vec2 axis = abs(xy) > 1e-6 * middle ? normalize(vec2(xy, longest - xx)) : xx >= yy ? vec2(1.0, 0.0) : vec2(0.0, 1.0);
  vec3 value;
  if (normals) {
    int k = scale.x <= min(scale.y, scale.z) ? 0 : scale.y <= scale.z ? 1 : 2;
    value = dot(away, r[k]) > 0.0 ? -r[k] : r[k];
  } else value = max(vec3(0.0), 0.5 + 0.28209479177387814 * vec3(logitRed.y, greenBlue) + others(normalize(away)));
  if ((mark & 1u) != 0u && !normals) value = mix(value, vec3(1.0, 0.78, 0.12), 0.7);
  shape = floatBitsToUint(vec4(centre, sqrt(longest) * axis));
  look = uvec4(floatBitsToUint(vec2(cut, local.z / unitOfDepth)), packHalf2x16(min(value.rg, 60000.0)), packHalf2x16(vec2(min(value.b, 60000.0), min(sqrt(shortest), 60000.0))));
}`;

/** The three corners of a triangle around each Gaussian's ellipse. */
export const SPLAT_VERTEX = `
uniform usampler2D shapes, looks; // as placeFragment writes them
uniform vec2 size;                // pixels
uniform int first;                // the place in order of the first that is drawn now
flat out vec3 value;              // colour or normal
flat out vec3 depthCutPeak;       // depth, cut 2 log(255 opacity), log opacity
out vec2 at;                      // along the ellipse's axes, in standard deviations

void main() {
  gl_Position = vec4(2.0, 2.0, 2.0, 1.0); // outside: nothing is drawn of it
  int index = first + gl_VertexID / 3, corner = gl_VertexID % 3;
  ivec2 texel = ivec2(index % ${ACROSS}, index / ${ACROSS});
  uvec4 look = texelFetch(looks, texel, 0);
  float cut = uintBitsToFloat(look.x);
  if (!(cut > 0.0)) return;
  vec4 shape = uintBitsToFloat(texelFetch(shapes, texel, 0));
  vec2 last = unpackHalf2x16(look.w), across = last.y * normalize(vec2(-shape.w, shape.z));
  at = sqrt(cut) * (corner == 2 ? vec2(0.0, 2.0) : vec2(corner == 0 ? -1.7320509 : 1.7320509, -1.0));
  gl_Position = vec4(2.0 * (shape.xy + at.x * shape.zw + at.y * across) / size - 1.0, 0.0, 1.0);
  gl_Position.y = -gl_Position.y;
  value = vec3(unpackHalf2x16(look.z), last.x);
  depthCutPeak = vec3(uintBitsToFloat(look.y), cut, 0.5 * cut - 5.541263545158426);
}`;

export const SPLAT_FRAGMENT = `
flat in vec3 value, depthCutPeak;
in vec2 at;
uniform bool rings;
layout(location = 0) out vec4 sum;
layout(location = 1) out vec4 depth;
void main() {
  float q = dot(at, at), alpha = min(0.99, exp(depthCutPeak.z - 0.5 * q));
  if (rings) {
    // An outline a pixel and a half wide at two standard deviations, or where the Gaussian ends if that is nearer.
    float r = sqrt(q), inside = (min(2.0, sqrt(depthCutPeak.y)) - r) / max(fwidth(r), 1e-6);
    if (inside < 0.0) discard;
    alpha = inside < 1.5 ? 0.9 : 0.05;
  } else if (q > depthCutPeak.y) discard;
  sum = vec4(value * alpha, alpha);
  depth = vec4(depthCutPeak.x * alpha, 0.0, 0.0, alpha);
}`;

export const WHOLE_VERTEX = `
out vec2 ndc;
void main() {
  ndc = vec2(gl_VertexID == 1 ? 3.0 : -1.0, gl_VertexID == 2 ? 3.0 : -1.0);
  gl_Position = vec4(ndc, 0.0, 1.0);
}`;

/** What was blended, shown in a mode over the background, with its depth for what is drawn after it. */
export const SHOW_FRAGMENT = `
in vec2 ndc;
uniform sampler2D sum, depth, colours;
uniform int mode; // 0 colour and rings, 1 depth, 2 opacity, 3 normals
uniform vec3 behind;
uniform vec2 spread, reach, logs; // tangents of half the view; near and far; log depth that is nearest and farthest
uniform float unitOfDepth;
uniform bool deep; // whether depth was blended
out vec4 colour;
void main() {
  vec2 uv = 0.5 + 0.5 * ndc;
  vec4 s = texture(sum, uv);
  float z = 0.0, a = clamp(s.a, 0.0, 1.0);
  if (deep) z = texture(depth, uv).r / max(s.a, 1e-4) * unitOfDepth;
  vec3 shown = s.rgb;
  if (mode == 1) {
    float far = log(max(z * length(vec3(ndc * spread, 1.0)), 1e-12));
    float where_ = clamp((far - logs.x) / max(logs.y - logs.x, 1e-6), 0.0, 1.0);
    shown = a * texelFetch(colours, ivec2(int(where_ * 255.0 + 0.5), 0), 0).rgb;
  }
  if (mode == 3) shown = a * (s.a > 1e-4 ? 0.5 + 0.5 * normalize(s.rgb + 1e-9) : vec3(0.5));
  colour = mode == 2 ? vec4(vec3(a), 1.0) : vec4(min(shown + (1.0 - a) * behind, 1.0), 1.0);
  gl_FragDepth = deep && s.a > 0.5 ? clamp(reach.y / (reach.y - reach.x) * (1.0 - reach.x / max(z, reach.x)), 0.0, 1.0) : 1.0;
}`;
