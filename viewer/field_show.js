// Shaders that show what a field's rays brought together: a mode over the background, and normals from depth by the
// differences of neuralfields/serving/shading.py.

const COMMON = `
precision highp sampler2D;
uniform sampler2D sum, depth;
uniform vec2 spread; // tangents of half the view
ivec2 whole;
vec3 rayAt(ivec2 p) {
  vec2 at = 2.0 * (vec2(p) + 0.5) / vec2(whole) - 1.0;
  return normalize(vec3(at.x * spread.x, -at.y * spread.y, 1.0));
}
float far(ivec2 p) { return texelFetch(depth, p, 0).r; }
bool solid(ivec2 p) { return texelFetch(sum, p, 0).a > 0.5; }`;

/** Normals of the surface of mean depth: of the two neighbours along an axis the one that is nearer in depth counts. */
export const NORMAL_FRAGMENT = `
${COMMON}
uniform mat3 turn;
out vec4 normal;
vec3 pointAt(ivec2 p) { return solid(p) ? rayAt(p) * far(p) : vec3(0.0); }
bool inside(ivec2 p) { return all(greaterThanEqual(p, ivec2(0))) && all(lessThan(p, whole)); }
vec3 difference(ivec2 p, ivec2 by) {
  ivec2 after = p + by, before = p - by;
  bool ahead = inside(after), behind = inside(before);
  float here = far(p), a = ahead ? abs(far(after) - here) : 3e38, b = behind ? abs(far(before) - here) : 3e38;
  if (!ahead && !behind) return vec3(0.0);
  return a <= b ? pointAt(after) - pointAt(p) : pointAt(p) - pointAt(before);
}
void main() {
  whole = textureSize(depth, 0);
  ivec2 p = ivec2(gl_FragCoord.xy);
  int by = max(1, (whole.y + 128) / 256);
  normal = vec4(0.0);
  if (!solid(p)) return;
  vec3 n = cross(difference(p, ivec2(0, -by)), difference(p, ivec2(by, 0)));
  n /= max(length(n), 1e-12);
  if (dot(n, rayAt(p)) > 0.0) n = -n;
  normal = vec4(turn * n, 1.0);
}`;

export const SHOW_FRAGMENT = `
${COMMON}
in vec2 ndc;
uniform sampler2D colours, normals;
uniform int mode; // 0 colour, 1 depth, 2 opacity, 3 normals
uniform vec3 behind;
uniform vec2 reach, logs; // near and far; log depth that is nearest and farthest
out vec4 colour;
void main() {
  whole = textureSize(depth, 0);
  vec2 uv = 0.5 + 0.5 * ndc;
  ivec2 p = clamp(ivec2(uv * vec2(whole)), ivec2(0), whole - 1);
  vec4 s = texture(sum, uv);
  float away = far(p), a = clamp(s.a, 0.0, 1.0), z = away * rayAt(p).z;
  vec3 shown = s.rgb;
  if (mode == 1) {
    float where_ = clamp((log(max(away, 1e-12)) - logs.x) / max(logs.y - logs.x, 1e-6), 0.0, 1.0);
    shown = a * texelFetch(colours, ivec2(int(where_ * 255.0 + 0.5), 0), 0).rgb;
  }
  if (mode == 3) {
    int by = max(1, (whole.y + 128) / 256);
    ivec2 from = max(p - by, ivec2(0)), to = min(p + by, whole - 1);
    vec3 n = vec3(0.0);
    for (int y = from.y; y <= to.y; ++y) for (int x = from.x; x <= to.x; ++x) n += texelFetch(normals, ivec2(x, y), 0).xyz;
    shown = a * (0.5 + 0.5 * n / max(length(n), 1e-12));
  }
  colour = mode == 2 ? vec4(vec3(a), 1.0) : vec4(min(shown + (1.0 - a) * behind, 1.0), 1.0);
  gl_FragDepth = s.a > 0.5 && away > 0.0 ? clamp(reach.y / (reach.y - reach.x) * (1.0 - reach.x / max(z, reach.x)), 0.0, 1.0) : 1.0;
}`;
