// Shaders of a hash field, written for its own levels and networks: every loop over them is unrolled. The formulas are
// those of cuda/march.h, hash_grid.h, contraction.h, spherical_harmonics.h and composite.h, whose names they keep; the
// parts are laid out as in neuralfields/serving/field.py.

import { SEEN } from "./seen.js";

export const ACROSS = 2048; // texels of a row of the data textures
export const fours = (count) => Math.ceil(count / 4);
const range = (count) => [...Array(count).keys()];

/** A number as GLSL takes it, exact in float32. */
function float(value) {
  const text = Number(value).toPrecision(9);
  return /[.e]/.test(text) ? text : `${text}.0`;
}

/**
 * Layers as blocks of uniforms, {name, from, inputs, outputs, layer, first}: from columns `first` on of a layer's weights.
 * The first layer of the colour network is two blocks, of the density's code and of the direction's harmonics.
 */
export function blocksOf({ density, colour, degree }) {
  const blocks = [], add = (name, layer, inputs, outputs, first = 0) => blocks.push({ name, layer, inputs, outputs, first });
  density.slice(1).forEach((outputs, i) => add(`density${i}`, i, density[i], outputs));
  const base = density.length - 1, code = density[base];
  add("bias", base, degree * degree, colour[1], code);
  colour.slice(1).forEach((outputs, i) => add(`colour${i}`, base + i, i ? colour[i] : code, outputs));
  return blocks;
}

/** `out0 = ...` of a block, as sums of mat4 * vec4; `relu` of what `into` names, `plus` added first. */
function multiply(block, from, into, { relu = false, plus = "", declare = true } = {}) {
  const inputs = fours(block.inputs);
  return range(fours(block.outputs)).map((row) => {
    const sum = range(inputs).map((i) => `${block.name}[${row * inputs + i}] * ${from}${i}`).join(" + ");
    const whole = plus ? `${plus}${row} + ${sum}` : sum;
    return `${declare ? "vec4 " : ""}${into}${row} = ${relu ? `max(${whole}, 0.0)` : whole};`;
  }).join("\n");
}

/** The features of all levels at p, as vec4 `feature0`, ...; F = 2 puts two levels into one. */
function encode({ levels, features, ranges }) {
  const pieces = []; // expressions of 2 or 4 features each
  const lines = levels.map(([scale, resolution, size, offset, dense], l) => {
    const many = features === 8 ? 2 : 1;
    for (const part of range(many)) {
      const ranged = range(Math.min(4, features)).map((f) => float(ranges[l][4 * part + f]));
      pieces.push(`l${l}_${part} * vec${ranged.length}(${ranged.join(", ")})`);
    }
    const call = `${dense ? "dense" : "hashed"}(p, ${float(scale)}, ${dense ? `${resolution}u, ` : ""}${size}u, ${offset}u`;
    return range(many).map((part) => `ENTRY l${l}_${part} = ${call}, ${part}u);`).join("\n");
  });
  const joined = features === 2
    ? range(fours(2 * levels.length)).map((i) => `vec4(${pieces[2 * i]}, ${pieces[2 * i + 1] ?? "vec2(0.0)"})`)
    : pieces;
  return [...lines, ...joined.map((piece, i) => `vec4 feature${i} = ${piece};`)].join("\n");
}

const HARMONICS = [
  "0.28209479177387814", "-0.48860251190291987 * y", "0.48860251190291987 * z", "-0.48860251190291987 * x",
  "1.0925484305920792 * x * y", "-1.0925484305920792 * y * z", "0.31539156525252005 * (2.0 * z * z - x * x - y * y)",
  "-1.0925484305920792 * x * z", "0.54627421529603959 * (x * x - y * y)",
  "-0.59004358992664352 * y * (3.0 * x * x - y * y)", "2.8906114426405538 * x * y * z",
  "-0.45704579946446572 * y * (4.0 * z * z - x * x - y * y)",
  "0.3731763325901154 * z * (2.0 * z * z - 3.0 * x * x - 3.0 * y * y)",
  "-0.45704579946446572 * x * (4.0 * z * z - x * x - y * y)", "1.4453057213202769 * z * (x * x - y * y)",
  "-0.59004358992664352 * x * (x * x - 3.0 * y * y)",
];

/** The direction's harmonics as vec4 `harmonic0`, ... */
function harmonics(degree) {
  const given = HARMONICS.slice(0, degree * degree);
  while (given.length % 4) given.push("0.0");
  return range(given.length / 4).map((i) => `vec4 harmonic${i} = vec4(${given.slice(4 * i, 4 * i + 4).join(", ")});`).join("\n");
}

/** Both networks at p: `evaluate` gives the log-density, and `shade` the colour where a sample has weight. */
function networks(field, blocks) {
  const named = (part) => blocks.filter(({ name }) => name.startsWith(part)), last = (list) => list[list.length - 1];
  const chain = (list, from, letter, plus) => list.map((block, i) => multiply(block, i ? `${letter}${i}_` : from,
    `${letter}${i + 1}_`, { relu: i < list.length - 1, plus: i ? "" : plus })).join("\n");
  const code = fours(last(field.density)), density = named("density"), colour = named("colour");
  return {
    globals: range(code).map((i) => `vec4 code${i};`).join(" "),
    biases: range(fours(field.colour[1])).map((i) => `vec4 bias_${i};`).join(" "),
    evaluate: `${encode(field)}\n${chain(density, "feature", "h", "")}\n${range(code).map((i) => `code${i} = h${density.length}_${i};`).join("\n")}`,
    shade: `${chain(colour, "code", "c", "bias_")}\nreturn 1.0 / (1.0 + exp(-c${colour.length}_0.rgb));`,
    bias: multiply(blocks.find(({ name }) => name === "bias"), "harmonic", "bias_", { declare: false }),
  };
}

const GRID = `
ENTRY entry(uint index, uint part) {
  uint texel = index * TEXELS + part;
  return texelFetch(table, ivec2(texel & ${ACROSS - 1}u, texel / ${ACROSS}u), 0).SWIZZLE;
}
vec3 lattice(vec3 p, float scale) { return clamp(p, 0.0, 1.0) * scale + 0.5; }
#define SUM(INDEX) \\
  vec3 at = lattice(p, scale), cell = floor(at), f = at - cell, g = 1.0 - f; \\
  uvec3 i = uvec3(cell), j = i + 1u; \\
  return g.z * (g.y * (g.x * INDEX(i.x, i.y, i.z) + f.x * INDEX(j.x, i.y, i.z)) \\
              + f.y * (g.x * INDEX(i.x, j.y, i.z) + f.x * INDEX(j.x, j.y, i.z))) \\
       + f.z * (g.y * (g.x * INDEX(i.x, i.y, j.z) + f.x * INDEX(j.x, i.y, j.z)) \\
              + f.y * (g.x * INDEX(i.x, j.y, j.z) + f.x * INDEX(j.x, j.y, j.z)))
#define HASHED(X, Y, Z) entry(offset + (((X) ^ ((Y) * 2654435761u) ^ ((Z) * 805459861u)) & (size - 1u)), part)
ENTRY hashed(vec3 p, float scale, uint size, uint offset, uint part) { SUM(HASHED); }
uint wrapped(uint index, uint size) { return index >= size ? index - size : index; }
#define DENSE(X, Y, Z) entry(offset + wrapped((X) + resolution * ((Y) + resolution * (Z)), size), part)
ENTRY dense(vec3 p, float scale, uint resolution, uint size, uint offset, uint part) { SUM(DENSE); }`;

const CONTRACT = {
  box: (extent) => `return (x - 0.5) / ${float(extent)} + 0.5;`,
  cube: () => `vec3 u = 2.0 * (x - 0.5), a = abs(u);
  float m = max(1.0, max(a.x, max(a.y, a.z)));
  return u * ((2.0 - 1.0 / m) / m) * 0.25 + 0.5;`,
};

/** The march: `next` finds the next occupied step, as RayMarch::next of cuda/march.h does. */
const MARCH = `
float marchStep(float t) { return clamp(t * CONE, SHORTEST, LONGEST); }
float toBoundary(vec3 x, float side, float size) {
  float width = side * size;
  vec3 p = (x - 0.5) / width + 0.5 / size, edge = mix(floor(p), floor(p) + 1.0, greaterThan(d, vec3(0.0)));
  vec3 away = max((edge - p) * width * inverse_, 0.0);
  return min(away.x, min(away.y, away.z));
}
void skip(float target, float most) {
  float step_ = t * CONE;
#if CONED
  if (step_ > SHORTEST && step_ < LONGEST) {
    float stop = min(min(target / (1.0 + 0.5 * CONE), most / CONE), LONGEST / CONE);
    float steps = stop > t ? ceil(log(stop / t) / log(1.0 + CONE)) : 1.0;
    t = steps > 1.0 ? t * exp(steps * log(1.0 + CONE)) : t + step_;
    return;
  }
#endif
  bool first = step_ <= SHORTEST;
  step_ = first ? SHORTEST : LONGEST;
  float stop = target - 0.5 * step_;
#if CONED
  if (first) stop = min(stop, step_ / CONE);
#endif
  t += step_ * max(ceil((stop - t) / step_), 1.0);
}
bool next(out vec3 x, out float middle, out float length_) {
  for (int guard = 0; guard < 4096; ++guard) {
    float step_ = marchStep(t);
    middle = t + 0.5 * step_;
    if (!(t < end) || middle > cut) return false;
    x = o + d * middle;
    vec3 away = abs(x - 0.5);
    float m = max(away.x, max(away.y, away.z)), side = 1.0;
    int c = 0;
    while (c < CASCADES - 1 && (m > 0.5 * side || step_ > side / 128.0)) { side *= 2.0; ++c; }
    ivec3 cell = clamp(ivec3(((x - 0.5) / side + 0.5) * 128.0), 0, 127), block = cell >> 4, brick = cell >> 2, in_ = cell & 3;
    float most = c < CASCADES - 1 ? side / 128.0 : 1e30;
    if (texelFetch(blocks, ivec2((block.z * 8 + block.y) * 8 + block.x, c), 0).r == 0u) {
      skip(middle + toBoundary(x, side, 1.0 / 8.0), most);
      continue;
    }
    int word = (brick.z * 32 + brick.y) * 32 + brick.x, bit = (in_.z * 4 + in_.y) * 4 + in_.x;
    uvec2 bits = texelFetch(bricks, ivec2(word & ${ACROSS - 1}, word / ${ACROSS} + ${32768 / ACROSS} * c), 0).rg;
    if ((((bit < 32 ? bits.x : bits.y) >> (bit & 31)) & 1u) == 1u) {
      length_ = step_;
      t += step_;
      return true;
    }
    skip(middle + toBoundary(x, side, bits == uvec2(0u) ? 1.0 / 32.0 : 1.0 / 128.0), most);
  }
  return false;
}`;

/** Rays of a field: premultiplied colour with opacity, and the mean distance in the world. */
export function fieldFragment(field) {
  const blocks = blocksOf(field), net = networks(field, blocks), [shortest, longest, cone, near] = field.steps.map(float);
  const width = Math.min(4, field.features);
  return `
precision highp int;
precision highp sampler2D;
#define ENTRY vec${width}
#define SWIZZLE ${"rgba".slice(0, width)}
#define TEXELS ${field.features === 8 ? 2 : 1}u
#define CASCADES ${field.cascades}
#define SHORTEST ${shortest}
#define LONGEST ${longest}
#define CONE ${cone}
#define CONED ${field.steps[2] > 0 ? 1 : 0}
uniform sampler2D table;
uniform usampler2D blocks, bricks;
uniform mat3 turn;            // columns: right, down, forward
uniform vec3 place, low, high; // the eye and the box that is shown, in the frame of the inner cube
uniform vec2 size, spread;    // pixels, tangents of half the view
layout(location = 0) out vec4 sum;
layout(location = 1) out vec4 depth;
${blocks.map((block) => `layout(std140) uniform ${block.name}_ { mat4 ${block.name}[${fours(block.inputs) * fours(block.outputs)}]; };`).join("\n")}
vec3 o, d, inverse_;
float t, end, cut;
${net.globals}
${net.biases}
${GRID}
${SEEN}
vec3 contract(vec3 x) { ${CONTRACT[field.contraction](field.extent)} }
${MARCH}
float evaluate(vec3 p) {
${net.evaluate}
return code0.x;
}
vec3 shade() {
${net.shade}
}
void setBias(float x, float y, float z) {
${harmonics(field.degree)}
${net.bias}
}
void main() {
  sum = depth = vec4(0.0);
  vec2 at = 2.0 * gl_FragCoord.xy / size - 1.0;
  d = normalize(turn * vec3(at.x * spread.x, -at.y * spread.y, 1.0));
  o = place;
  // A box is entered first, and the march begins there, as serving/crop.py does it.
  vec3 steep = mix(d, vec3(1e-9), lessThan(abs(d), vec3(1e-9))), a = (low - o) / steep, b = (high - o) / steep;
  vec3 first = min(a, b), last = max(a, b);
  float enter = max(${near}, max(first.x, max(first.y, first.z))), leave = min(last.x, min(last.y, last.z)), before = 0.0;
  bool cropped = high.x - low.x < 1e29;
  cut = 1e30;
  if (cropped) {
    if (leave <= enter) return;
    o += d * enter;
    before = enter;
    cut = leave - enter;
  }
  inverse_ = 1.0 / mix(d, vec3(1e-12), lessThan(abs(d), vec3(1e-12)));
  float half_ = ${float(2 ** (field.cascades - 2))};
  vec3 t0 = (0.5 - half_ - o) * inverse_, t1 = (0.5 + half_ - o) * inverse_, into = min(t0, t1), out_ = max(t0, t1);
  t = max(cropped ? 0.0 : ${near}, max(into.x, max(into.y, into.z)));
  end = min(out_.x, min(out_.y, out_.z));
  if (!(marchStep(end) > end * 2.3841858e-7)) return; // steps that float32 cannot tell apart
  vec3 turned = d.${field.axes}, x;
  setBias(turned.x, turned.y, turned.z);
  float left = 1.0, far = 0.0, middle, length_;
  for (int guard = 0; guard < 8192 && left >= 1e-4; ++guard) {
    if (!next(x, middle, length_)) break;
    float density = exp(min(evaluate(contract(x).${field.axes}), 15.0)) * seenAt(x - 0.5), alpha = 1.0 - exp(-density * length_), weight = left * alpha;
    left *= 1.0 - alpha;
    if (weight < ${float(field.floor)}) continue;
    sum += vec4(weight * shade(), weight);
    far += weight * middle;
  }
  if (sum.a > 1e-3) depth.r = (far / sum.a + before) * ${float(field.side)};
}`;
}
