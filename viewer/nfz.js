// Reads .nfz, compressed Gaussians (docs/nfz.md): the container, whole numbers by entropy.js, and what they stand for.
// The same float32 as neuralfields/compression: sums, products, quotients and powers of two in double precision.

import { decodeColumns, decodePlaces, nearestBefore } from "./entropy.js";

const CODINGS = ["raw", "json", "places", "columns"], MOST_SECTIONS = 64, MOST_HEADER = 65536;
const EACH = 4, FREE = 2 ** 18, FARTHEST = 1e15, MOST_BITS = 21, MOST_SHIFT = 10, MOST_CLASS = 6, MOST_LOG = 40;
const COUNTS = [1, 4, 9, 16];
const KINDS = {
  scene: "json", places: "places", classes: "columns", scales: "columns", rotations: "columns", opacities: "columns",
  colours: "columns", harmonics: "columns", axes: "raw",
};

const CRC = new Uint32Array(256).map((_, n) => {
  for (let k = 0; k < 8; k++) n = n & 1 ? 0xedb88320 ^ (n >>> 1) : n >>> 1;
  return n;
});

/** CRC-32 of bytes, as zip and PNG have it. */
export function crc32(bytes) {
  let crc = -1;
  for (let i = 0; i < bytes.length; i++) crc = CRC[(crc ^ bytes[i]) & 255] ^ (crc >>> 8);
  return (crc ^ -1) >>> 0;
}

function fail(text) {
  throw new Error(`${text}; get the file again`);
}

/** The sections of a file by name, each {coding, data}. Throws an Error of one line. */
export function sections(bytes) {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  if (bytes.length < 12 || view.getUint32(0, true) !== 0x007a666e) fail("this is no .nfz, or it is cut short in its header");
  const version = view.getUint16(4, true), count = view.getUint16(6, true);
  if (version !== 1) throw new Error(`this is .nfz of version ${version}, 1 is read here; open it with a newer page`);
  let begin = 12 + 28 * count;
  if (count < 1 || count > MOST_SECTIONS || bytes.length < begin || crc32(bytes.subarray(12, begin)) !== view.getUint32(8, true))
    fail(`its table of ${count} sections is damaged or cut short`);
  const found = new Map();
  for (let entry = 12; entry < 12 + 28 * count; entry += 28) {
    const name = String.fromCharCode(...bytes.subarray(entry, entry + 12)).replace(/\0+$/, ""), coding = view.getUint32(entry + 12, true);
    const size = Number(view.getBigUint64(entry + 16, true));
    if (coding >= CODINGS.length || found.has(name) || !/^[A-Za-z_]\w*$/.test(name)) fail("one of its sections is unknown");
    if (size > bytes.length - begin) fail(`it is cut short in its ${name}`);
    const data = bytes.subarray(begin, begin + size);
    if (crc32(data) !== view.getUint32(entry + 24, true)) fail(`its ${name} are damaged (checksum)`);
    found.set(name, { coding: CODINGS[coding], data });
    begin += size;
  }
  if (begin !== bytes.length) fail(`${bytes.length - begin} bytes follow its last section`);
  return found;
}

const whole = (low, high) => (value) => Number.isInteger(value) && value >= low && value <= high;
const step = (value) => typeof value === "number" && value > 0 && value <= FARTHEST;
const three = (check) => (value) => Array.isArray(value) && value.length === 3 && value.every(check);

/** The header, once it is possible and the file's size bears its count out. */
function header(found, size) {
  if (!found.has("scene") || found.get("scene").data.length > MOST_HEADER) fail("it has no scene");
  let scene = null;
  try {
    scene = JSON.parse(new TextDecoder("utf-8", { fatal: true }).decode(found.get("scene").data));
  } catch {
    fail("its scene is damaged");
  }
  const checks = {
    count: whole(1, 2 ** 31), degree: whole(0, 3), antialiased: (value) => typeof value === "boolean",
    centre: three((value) => typeof value === "number" && Math.abs(value) <= FARTHEST), step, even: whole(1, 2 ** MOST_BITS),
    low: three(whole(-(2 ** MOST_BITS), 2 ** MOST_BITS)), bits: whole(1, MOST_BITS), scales: step, rotations: step,
    opacities: step, colours: step, harmonics: step, axes: whole(0, 3 * (COUNTS[scene?.degree] - 1)),
    most: (value) => Array.isArray(value) && value.length === 5 && value.every(whole(0, MOST_SHIFT)),
  };
  for (const [name, check] of Object.entries(checks)) if (!check(scene?.[name])) fail(`its scene has an impossible ${name}`);
  for (const name of Object.keys(scene)) if (!(name in checks)) fail("its scene says what is unknown here");
  if (scene.count > Math.max(FREE, EACH * size)) fail(`it says ${scene.count} Gaussians, too many for its ${size} bytes`);
  for (const [name, kind] of Object.entries(KINDS))
    if ((name !== "harmonics" || scene.axes) && found.get(name)?.coding !== kind) fail(`it has no ${name} as they are known here`);
  return scene;
}

/**
 * The Gaussians of a .nfz: {count, degree, antialiased, means [3 N], scales [3 N], rotations [4 N], opacities [N],
 * harmonics [N K 3]}, Float32Arrays. `tell` is called with the share that is done, 0 to 1. Throws an Error of one line.
 */
export function decode(bytes, tell = () => {}) {
  const found = sections(bytes), scene = header(found, bytes.length), { count } = scene;
  const axes = bases(found.get("axes").data, 3 * (COUNTS[scene.degree] - 1), scene.axes);
  const total = Object.keys(KINDS).reduce((sum, name) => sum + (found.get(name)?.data.length ?? 0), 0);
  let done = 0;
  const read = (name, work) => {
    const { data } = found.get(name);
    const values = work(data, (share) => tell((0.95 * (done + share * data.length)) / total));
    done += data.length;
    return values;
  };
  const places = read("places", (data, progress) => decodePlaces(data, count, scene.bits, progress));
  const near = nearestBefore(places);
  const columns = (name, width, shifts) =>
    read(name, (data, progress) => decodeColumns(name, data, width, shifts, near, name !== "harmonics", progress));
  const classes = columns("classes", 1, new Uint8Array(count));
  for (let i = 0; i < count; i++) if (classes[i] < 0 || classes[i] > MOST_CLASS) fail(`classes beyond 0 to ${MOST_CLASS}`);
  const shifts = (most) => Uint8Array.from(classes, (value) => Math.min(value, most)), { most } = scene;
  const scales = columns("scales", 3, shifts(most[0]));
  const rotations = columns("rotations", 3, turns(classes, scales, scene.scales, most[1]));
  const opacities = columns("opacities", 1, shifts(most[2])), colours = columns("colours", 3, shifts(most[3]));
  const harmonics = scene.axes ? columns("harmonics", scene.axes, shifts(most[4])) : new Int32Array(0);
  return {
    count, degree: scene.degree, antialiased: scene.antialiased, means: means(places, scene),
    scales: Float32Array.from(scales, (value) => Math.min(MOST_LOG, Math.max(-MOST_LOG, value * scene.scales))),
    rotations: quaternions(rotations, scene.rotations), opacities: Float32Array.from(opacities, (value) => logit(Math.max(value, 0) * scene.opacities)),
    harmonics: spread(scene, axes, colours, harmonics),
  };
}

/** Means and axes of colours and harmonics. */
function bases(data, rest, many) {
  const needed = 21 + 4 * rest + many * rest;
  if (data.length !== needed) fail(`its axes have ${data.length} bytes, ${needed} are needed`);
  const view = new DataView(data.buffer, data.byteOffset, data.byteLength);
  const floats = (at, n) => Float32Array.from({ length: n }, (_, i) => view.getFloat32(at + 4 * i, true));
  const bytes = (at, n) => new Int8Array(data.buffer, data.byteOffset + at, n);
  const found = { mean: floats(0, 3), axes: bytes(12, 9), restMean: floats(21, rest), restAxes: bytes(21 + 4 * rest, many * rest), rest, many };
  if (![...found.mean, ...found.restMean].every(Number.isFinite)) fail("its axes are not finite");
  return found;
}

/** Shifts of rotations: class and turn. */
function turns(classes, scales, step, most) {
  const slope = Math.round((Math.min(step, 1) * 65536 * 0.25) / Math.LN2);
  return Uint8Array.from(classes, (value, i) => {
    const a = scales[3 * i], b = scales[3 * i + 1], c = scales[3 * i + 2], excess = 3 * Math.max(a, b, c) - (a + b + c);
    return Math.min(most, value + Math.min(6, Math.max(0, 4 - Math.floor((excess * slope) / 65536))));
  });
}

/** x times 2 to the power of d, where 2 ** d alone may overflow. */
const scaled = (x, d) => (d < 1000 ? x * 2 ** d : x * 2 ** 1000 * 2 ** (d - 1000));

function means(places, { centre, step, even, low }) {
  return Float32Array.from(places, (place, i) => {
    const axis = i % 3, cell = place + low[axis], size = cell < 0 ? -1 - cell : cell;
    const doublings = Math.max(Math.floor(size / even) - 1, 0);
    const x = scaled((size - even * doublings + 0.5) * step, doublings);
    return (cell < 0 ? -x : x) + centre[axis];
  });
}

function quaternions(values, step) {
  const found = new Float32Array((values.length / 3) * 4);
  for (let i = 0, j = 0; i < values.length; i += 3, j += 4) {
    const x = values[i] * step, y = values[i + 1] * step, z = values[i + 2] * step, square = x * x + y * y + z * z;
    found[j] = (1 - square) / (1 + square);
    found[j + 1] = (2 * x) / (1 + square);
    found[j + 2] = (2 * y) / (1 + square);
    found[j + 3] = (2 * z) / (1 + square);
  }
  return found;
}

/** Harmonics [N K 3]: whole sums along the axes, times their step, plus the mean. */
function spread(scene, { mean, axes, restMean, restAxes, rest, many }, colours, harmonics) {
  const width = 3 + rest, found = new Float32Array(scene.count * width), row = new Float64Array(rest);
  const first = scene.colours / 127, others = scene.harmonics / 127;
  for (let i = 0; i < scene.count; i++) {
    for (let a = 0; a < 3; a++) {
      const sum = colours[3 * i] * axes[a] + colours[3 * i + 1] * axes[3 + a] + colours[3 * i + 2] * axes[6 + a];
      found[i * width + a] = sum * first + mean[a];
    }
    row.fill(0);
    for (let m = 0; m < many; m++) {
      const value = harmonics[i * many + m]; // 0 for most
      if (value) for (let d = 0; d < rest; d++) row[d] += value * restAxes[m * rest + d];
    }
    for (let d = 0; d < rest; d++) found[i * width + 3 + d] = row[d] * others + restMean[d];
  }
  return found;
}

const LN2 = 0.6931471805599453, LEAST = 2 ** -20, FACTORIALS = Array.from({ length: 15 }, (_, k) => {
  let product = 1;
  for (let i = 2; i <= k; i++) product *= i;
  return 1 / product;
});

/** The logit of an opacity from y = -ln(opacity): series, since exp and ln differ between machines in the last bit. */
function logit(y) {
  y = Math.min(y, MOST_LOG);
  const powers = Math.ceil(y / LN2), rest = powers * LN2 - y;
  let exp = FACTORIALS[14];
  for (let k = 13; k >= 0; k--) exp = exp * rest + FACTORIALS[k];
  let mantissa = Math.max(1 - exp * 2 ** -powers, LEAST), exponent = 0;
  for (; mantissa < 0.5; exponent--) mantissa *= 2;
  for (; mantissa >= 1; exponent++) mantissa /= 2;
  const s = (mantissa - 1) / (mantissa + 1), square = s * s;
  let log = 1 / 27;
  for (let k = 25; k > 0; k -= 2) log = log * square + 1 / k;
  return -y - (2 * s * log + exponent * LN2);
}
