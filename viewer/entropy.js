// The entropy decoder of .nfz: a range decoder whose bits several contexts foretell together. docs/nfz.md says what
// neuralfields/compression/reference.py does in Python; names are theirs. Whole numbers alone, in typed arrays.

const SQUASH = [
  22, 36, 60, 98, 162, 267, 439, 720, 1179, 1921, 3108, 4971, 7812, 11955, 17625, 24743, 32768,
  40793, 47911, 53581, 57724, 60565, 62428, 63615, 64357, 64816, 65097, 65269, 65374, 65438, 65476, 65500, 65514,
];
const LIMIT = 2047, SLOT_LIMIT = 255, FRESH = 1 << 31; // a slot: 22 bits of probability, 10 of a count
const SQUASHED = new Int32Array(2 * LIMIT + 1), STRETCH = new Int32Array(4096), RECIPROCAL = new Int32Array(SLOT_LIMIT + 1);
const NEAR = 6, WINDOW = 64, NODES = 256, BUCKETS = 20, LARGEST = 2 ** 20 - 1, FEW = 16, OFTEN = 4096;

for (let x = -LIMIT; x <= LIMIT; x++) {
  const place = x + 2048, part = place & 127;
  SQUASHED[x + LIMIT] = (SQUASH[place >> 7] * (128 - part) + SQUASH[(place >> 7) + 1] * part + 64) >> 7;
}
for (let i = 0, x = -LIMIT; i < 4096; i++) {
  while (x < LIMIT && SQUASHED[x + LIMIT] < 16 * i + 8) x++;
  STRETCH[i] = x;
}
for (let n = 0; n <= SLOT_LIMIT; n++) RECIPROCAL[n] = Math.floor(131072 / (2 * n + 3));

export const bitsOf = (v) => 32 - Math.clz32(v);

/** The probability of a weighted sum of stretched ones. */
function squash(sum) {
  const x = Math.floor(sum / 65536);
  return SQUASHED[(x > LIMIT ? LIMIT : x < -LIMIT ? -LIMIT : x) + LIMIT];
}

/** A slot after a bit. */
function learnt(slot, bit) {
  const count = slot & 1023, chance = slot >>> 10, apart = (bit ? 4194303 : 0) - chance, share = RECIPROCAL[count];
  const moved = chance + Math.imul(apart >> 16, share) + (Math.imul(apart & 65535, share) >>> 16);
  return (moved << 10) | (count < SLOT_LIMIT ? count + 1 : count);
}

/**
 * Bits of a section, each under `inputs` contexts: `at` is where the slots of each begin, `node` is the bit within.
 * Written out for two and for four contexts: nearly all of the time goes by here.
 */
class Mixed {
  constructor(bytes, slots, sets, inputs) {
    Object.assign(this, { bytes, place: 4, at: new Int32Array(4) });
    this.slots = new Int32Array(slots).fill(FRESH);
    this.weights = new Float64Array(sets * inputs).fill(Math.floor(81920 / inputs));
    let value = 0;
    for (let i = 0; i < 4; i++) value = (value << 8) | (i < bytes.length ? bytes[i] : 0);
    this.range = Int32Array.of(0, -1, value); // low, high, value as 32 bits
  }

  /** The next bit of the range decoder; `p` of 65536 is the probability that it is 1. */
  code(p) {
    const { range } = this;
    let low = range[0], high = range[1];
    const span = high - low, middle = (low + Math.imul(span >>> 16, p) + (Math.imul(span & 65535, p) >>> 16)) | 0;
    const bit = range[2] >>> 0 <= middle >>> 0 ? 1 : 0;
    if (bit) high = middle;
    else low = (middle + 1) | 0;
    while ((low ^ high) >>> 24 === 0) {
      low <<= 8;
      high = (high << 8) | 255;
      range[2] = (range[2] << 8) | (this.place < this.bytes.length ? this.bytes[this.place] : 0);
      this.place++;
    }
    range[0] = low;
    range[1] = high;
    return bit;
  }

  two(node, set) {
    const { at, slots, weights } = this, w = 2 * set, a = at[0] + node, b = at[1] + node;
    const sa = STRETCH[slots[a] >>> 20], sb = STRETCH[slots[b] >>> 20];
    const p = squash(weights[w] * sa + weights[w + 1] * sb), bit = this.code(p), error = (bit << 16) - p;
    weights[w] += (sa * error + 8192) >> 14;
    weights[w + 1] += (sb * error + 8192) >> 14;
    slots[a] = learnt(slots[a], bit);
    slots[b] = learnt(slots[b], bit);
    return bit;
  }

  four(node, set) {
    const { at, slots, weights } = this, w = 4 * set, a = at[0] + node, b = at[1] + node, c = at[2] + node, d = at[3] + node;
    const sa = STRETCH[slots[a] >>> 20], sb = STRETCH[slots[b] >>> 20], sc = STRETCH[slots[c] >>> 20], sd = STRETCH[slots[d] >>> 20];
    const p = squash(weights[w] * sa + weights[w + 1] * sb + weights[w + 2] * sc + weights[w + 3] * sd);
    const bit = this.code(p), error = (bit << 16) - p;
    weights[w] += (sa * error + 8192) >> 14;
    weights[w + 1] += (sb * error + 8192) >> 14;
    weights[w + 2] += (sc * error + 8192) >> 14;
    weights[w + 3] += (sd * error + 8192) >> 14;
    slots[a] = learnt(slots[a], bit);
    slots[b] = learnt(slots[b], bit);
    slots[c] = learnt(slots[c], bit);
    slots[d] = learnt(slots[d], bit);
    return bit;
  }

  /** Throws where the bytes were not exactly those of what was read. */
  end(name) {
    if (this.place !== this.bytes.length) throw new Error(`its ${name} are damaged`);
  }
}

/** Places Int32Array [3 N] of a section: cells halved bit by bit, how many of a cell's Gaussians lie in its lower half. */
export function decodePlaces(bytes, count, bits, tell) {
  const block = FEW * FEW + 64 * 64, mixed = new Mixed(bytes, block * 67, 64, 2), places = new Int32Array(3 * count);
  const halve = (begin, end, x, y, z, level) => {
    if (level < 0) {
      for (let i = 3 * begin; i < 3 * end; i += 3) {
        places[i] = x;
        places[i + 1] = y;
        places[i + 2] = z;
      }
      if (Math.floor(begin / OFTEN) !== Math.floor(end / OFTEN)) tell(end / count);
      return;
    }
    mixed.at[0] = block * level;
    mixed.at[1] = block * (64 + (level % 3));
    const middle = begin + below(mixed, end - begin, level), axis = level % 3, bit = 1 << ((level - axis) / 3);
    if (begin < middle) halve(begin, middle, x, y, z, level - 1);
    if (middle < end) halve(middle, end, axis === 0 ? x | bit : x, axis === 1 ? y | bit : y, axis === 2 ? z | bit : z, level - 1);
  };
  halve(0, count, 0, 0, 0, 3 * bits - 1);
  mixed.end("places");
  return places;
}

function below(mixed, many, level) {
  const first = FEW * Math.min(many, FEW);
  if (many === 1) return mixed.two(first, level);
  if (mixed.two(first, level)) return 0;
  if (mixed.two(first + 1, level)) return many;
  let found = 0;
  if (many < FEW) {
    for (found = 1; found < many - 1 && mixed.two(first + 1 + found, level);) found++;
    return found;
  }
  const width = bitsOf(many);
  for (let b = width - 1; b >= 0; b--) {
    if ((found | (1 << b)) > many) continue;
    const done = width - 1 - b, inside = done < 3 ? 8 + 8 * done + ((found >> (b + 1)) & 7) : 2 + Math.min(b, 5);
    found |= mixed.two(first + 64 * width + inside, level) << b;
  }
  return found;
}

/** For each row the 6 nearest of the 64 before it, Int32Array [6 N], nearest first; -1 where there are fewer. */
export function nearestBefore(places) {
  const count = places.length / 3, near = new Int32Array(NEAR * count).fill(-1), best = new Float64Array(NEAR);
  for (let i = 0; i < count; i++) {
    const row = NEAR * i, x = places[3 * i], y = places[3 * i + 1], z = places[3 * i + 2], last = Math.max(0, i - WINDOW);
    let have = 0;
    for (let j = i - 1; j >= last; j--) {
      const dx = x - places[3 * j], dy = y - places[3 * j + 1], dz = z - places[3 * j + 2], apart = dx * dx + dy * dy + dz * dz;
      if (have === NEAR && apart >= best[NEAR - 1]) continue;
      let k = have < NEAR ? have++ : NEAR - 1;
      for (; k > 0 && best[k - 1] > apart; k--) {
        best[k] = best[k - 1];
        near[row + k] = near[row + k - 1];
      }
      best[k] = apart;
      near[row + k] = j;
    }
  }
  return near;
}

const SPREADS = 96, BEFORES = 81, SHIFTS = 128, WHERES = 64; // values of the four contexts

/** Values Int32Array [N columns] of a section, row by row; `shifts` [N]; `predict`: from the rows `near`, else from 0. */
export function decodeColumns(name, bytes, columns, shifts, near, predict, tell) {
  const count = shifts.length, values = new Int32Array(count * columns), before = new Int32Array(columns + 2);
  const mixed = new Mixed(bytes, (SPREADS + BEFORES + SHIFTS + WHERES) * NODES * columns, columns * NODES, 4), { at } = mixed;
  for (let i = 0; i < count; i++) {
    const shift = shifts[i];
    if (i % OFTEN === 0) tell(i / count);
    for (let c = 0; c < columns; c++) {
      let total = 0, weight = 0, rows = 0, mean = 0, spread = 0;
      for (; predict && rows < NEAR && near[NEAR * i + rows] >= 0; rows++) {
        const w = rows === 0 ? 3 : rows < 3 ? 2 : 1;
        total += w * values[near[NEAR * i + rows] * columns + c];
        weight += w;
      }
      if (rows) {
        const size = Math.floor((Math.abs(total) + (weight >> 1)) / weight);
        mean = total < 0 ? -size : size;
        for (let j = 0; j < rows; j++) spread += Math.abs(values[near[NEAR * i + j] * columns + c] - mean);
        spread = Math.floor((spread * 4) / rows);
      }
      const q = (mean + ((1 << shift) >> 1)) >> shift, off = mean - q * 2 ** shift;
      const fraction = ((off * 8 + 4 * 2 ** shift) >> shift) & 7, scatter = rows ? Math.min(11, bitsOf(spread >>> shift)) : 11;
      at[0] = ((scatter * 8 + fraction) * columns + c) * NODES;
      at[1] = ((SPREADS + signedClass(before[c + 1]) * 9 + signedClass(before[c])) * columns + c) * NODES;
      at[2] = ((SPREADS + BEFORES + shift * 8 + Math.min(scatter, 7)) * columns + c) * NODES;
      at[3] = ((SPREADS + BEFORES + SHIFTS + Math.max(0, Math.min(63, q + 32))) * columns + c) * NODES;
      const residual = number(mixed, c * NODES), most = LARGEST >> shift;
      before[c + 2] = residual;
      values[i * columns + c] = Math.max(-most, Math.min(most, q + residual)) * 2 ** shift;
    }
  }
  mixed.end(name);
  return values;
}

function signedClass(value) {
  const size = Math.min(4, bitsOf(Math.abs(value)));
  return value < 0 ? 4 - size : 4 + size;
}

/** One whole number: is it 0, its sign, how many bits it has, the bits below the highest. */
function number(mixed, set) {
  if (!mixed.four(0, set)) return 0;
  const negative = mixed.four(1, set + 1), side = negative << 7;
  let bits = 0, found = 1;
  while (bits < BUCKETS && mixed.four(2 + bits + side, set + 2 + bits + side)) bits++;
  for (let b = bits - 1; b >= 0; b--) {
    const done = bits - 1 - b, node = side + (done === 0 ? 24 + bits : done === 1 ? 46 + 2 * bits + (found & 1) : 90 + b);
    found = (found << 1) | mixed.four(node, set + node);
  }
  return negative ? -found : found;
}
