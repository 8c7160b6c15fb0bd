// Gaussians of a scene that moves, at a moment: what neuralfields/motion.py says, on what neuralfields/serving/splats.py
// packs. The still Gaussians of the moment are made here, by the processor, and drawn as any others.

import { half, turn } from "./packing.js";

export const MOTION = 16; // halves a Gaussian: centre, log duration, path [3, 3], turn [4], one of no use
const FADED = -60000, LEAST = -5.6; // logits: of what is not drawn, and under which nothing is seen
const OTHERS = [[1, 2, 3], [0, 2, 3], [0, 1, 3], [0, 1, 2]];

/** float32 numbers of float16 bits. */
export function fromHalves(halves) {
  return Float32Array.from(halves, (bits) => {
    const sign = bits & 0x8000 ? -1 : 1, exponent = (bits >> 10) & 31, fraction = bits & 1023;
    if (!exponent) return sign * fraction * 2 ** -24;
    return exponent === 31 ? (fraction ? NaN : sign * Infinity) : sign * (1024 + fraction) * 2 ** (exponent - 25);
  });
}

/** The logit of sigmoid(logit) e^fade. */
export function faded(logit, fade) {
  const held = Math.min(logit, 40);
  return held + fade - Math.log1p(-Math.exp(held) * Math.expm1(fade));
}

/** The unit quaternion of the three words of a rotation, into `q`. */
function rotation(words, at, q) {
  const place = (words[at] >> 15) | ((words[at + 1] >> 15) << 1);
  let left = 1;
  OTHERS[place].forEach((k, i) => {
    q[k] = (((words[at + i] & 32767) / 32767) * 2 - 1) * Math.SQRT1_2;
    left -= q[k] * q[k];
  });
  q[place] = Math.sqrt(Math.max(0, left));
}

/** `core` and `means` of unpacked Gaussians at a moment in [0, 1]; those given stay as they are. */
export function instant({ count, core, motion }, moment) {
  const made = Uint32Array.from(core), places = new Float32Array(made.buffer), words = new Uint16Array(made.buffer);
  const means = new Float32Array(3 * count), q = [0, 0, 0, 0];
  const logits = fromHalves(Uint16Array.from({ length: count }, (_, i) => words[16 * i + 12]));
  for (let i = 0; i < count; i++) {
    const m = MOTION * i, dt = moment - motion[m], share = dt * Math.exp(-motion[m + 1]), logit = faded(logits[i], -share * share);
    for (let k = 0; k < 3; k++) {
      places[8 * i + k] += dt * (motion[m + 2 + k] + dt * (motion[m + 5 + k] + dt * motion[m + 8 + k]));
      means[3 * i + k] = places[8 * i + k];
    }
    words[16 * i + 12] = half(logit > LEAST ? logit : FADED);
    if (logit <= LEAST) continue;
    rotation(words, 16 * i + 6, q);
    for (let k = 0; k < 4; k++) q[k] += dt * motion[m + 11 + k];
    turn(q, 0, words, 16 * i + 6);
  }
  return { core: made, means };
}

/** Brings a layer of Gaussians (splats.js, which shared files have without this) to a moment in [0, 1]. */
export function goTo(layer, moment) {
  const { loaded } = layer;
  if (!loaded?.motion || loaded.moment === moment) return;
  if (loaded.motion instanceof Uint16Array) loaded.motion = fromHalves(loaded.motion);
  const { core, means } = instant(loaded, moment);
  layer.fill(layer.core, core);
  layer.worker.postMessage({ means }, [means.buffer]);
  loaded.moment = moment;
  layer.wake();
}
