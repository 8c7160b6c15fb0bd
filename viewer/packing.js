// Packs Gaussians for the textures that splats.js draws from; the layout is that of neuralfields/serving/splats.py.

const LARGEST_HALF = 60000, FARTHEST = 1e15, OTHERS = [[1, 2, 3], [0, 2, 3], [0, 1, 3], [0, 1, 2]];
const FLOAT = new Float32Array(1), BITS = new Uint32Array(FLOAT.buffer);

/** A number within the range of float16, as its 16 bits, rounded to the nearest, to even where two are. */
export function half(x) {
  FLOAT[0] = Math.min(LARGEST_HALF, Math.max(-LARGEST_HALF, x));
  const bits = BITS[0], sign = (bits >>> 16) & 0x8000, magnitude = bits & 0x7fffffff;
  if (magnitude >= 0x38800000) return sign | ((magnitude - 0x38000000 + 0xfff + ((magnitude >> 13) & 1)) >> 13);
  FLOAT[0] = Math.abs(FLOAT[0]) + 0.5; // whose last bit is the smallest half
  return sign | (BITS[0] - 0x3f000000);
}

/** Indices of the Gaussians whose means are not beyond what float32 squares: the others are left out. */
export function kept({ count, means }) {
  const found = [];
  for (let i = 0; i < count; i++) if ([0, 1, 2].every((k) => Math.abs(means[3 * i + k]) <= FARTHEST)) found.push(i);
  return found;
}

/** What `unpack` of splats.js gives, from Gaussians as nfz.js decodes them. */
export function pack(gaussians, near) {
  const many = gaussians.harmonics.length / (3 * gaussians.count), texels = Math.ceil((3 * (many - 1)) / 16);
  const indices = kept(gaussians), count = indices.length, means = new Float32Array(3 * count), core = new Uint32Array(8 * count), ranges = new Float32Array(16);
  const floats = new Float32Array(core.buffer), words = new Uint16Array(core.buffer);
  const rest = new Uint32Array(4 * texels * count), codes = new Int8Array(rest.buffer);
  for (const i of indices)
    for (let k = 3; k < 3 * many; k++) ranges[Math.floor(k / 3)] = Math.max(ranges[Math.floor(k / 3)], Math.abs(gaussians.harmonics[3 * many * i + k]));
  const inverse = Float64Array.from(ranges, (range) => 1 / Math.max(range, 1e-30));
  indices.forEach((i, row) => {
    for (let k = 0; k < 3; k++) {
      means[3 * row + k] = floats[8 * row + k] = gaussians.means[3 * i + k];
      words[16 * row + 9 + k] = half(gaussians.scales[3 * i + k]);
      words[16 * row + 13 + k] = half(gaussians.harmonics[3 * many * i + k]);
    }
    words[16 * row + 12] = half(gaussians.opacities[i]);
    turn(gaussians.rotations, 4 * i, words, 16 * row + 6);
    for (let k = 3; k < 3 * many; k++) {
      const share = gaussians.harmonics[3 * many * i + k] * inverse[Math.floor(k / 3)];
      codes[16 * texels * row + k - 3] = Math.round(127 * Math.sign(share) * Math.sqrt(Math.abs(share)));
    }
  });
  return { count, many, version: 0, antialiased: gaussians.antialiased, near, ranges, core, rest, means };
}

/** The three smaller numbers of a unit quaternion at [from, from + 4) with the place of the largest, as three words. */
export function turn(rotations, from, words, at) {
  let place = 0, square = 0;
  for (let k = 0; k < 4; k++) {
    const value = rotations[from + k];
    square += value * value;
    if (Math.abs(value) > Math.abs(rotations[from + place])) place = k;
  }
  const scale = Math.SQRT2 / (Math.sqrt(square) * (rotations[from + place] < 0 ? -1 : 1)), others = OTHERS[place];
  for (let i = 0; i < 3; i++)
    words[at + i] = Math.min(32767, Math.max(0, Math.round(((rotations[from + others[i]] * scale + 1) / 2) * 32767)));
  words[at] |= (place & 1) << 15;
  words[at + 1] |= (place >> 1) << 15;
}
