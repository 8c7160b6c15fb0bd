// Where the centres of Gaussians stand in a picture, and which of them a brush or a box takes.
//
// `core` holds 8 words of 32 bits a Gaussian, of which the first three are its mean (neuralfields/serving/splats.py).

import { tangent } from "./math.js";

const BEHIND = 1.03; // a centre that is farther than the surface by this factor is hidden by it

/** Means of packed Gaussians, 8 numbers apart. */
export const placesOf = (core) => new Float32Array(core.buffer, core.byteOffset, core.length);

/** x and y in [0, 1] of the picture, y downwards, and depth along the axis of each centre, [3 N]; NaN: out of view. */
export function project(core, { eye, aspect, near, box }) {
  const places = placesOf(core), count = places.length / 8, found = new Float32Array(3 * count).fill(NaN);
  const ty = tangent(eye.fov), tx = ty * aspect, { position: o, right: r, down: d, forward: f } = eye;
  const [low, high] = box ?? [[-Infinity, -Infinity, -Infinity], [Infinity, Infinity, Infinity]];
  for (let i = 0; i < count; i++) {
    const px = places[8 * i], py = places[8 * i + 1], pz = places[8 * i + 2], x = px - o[0], y = py - o[1], z = pz - o[2];
    const depth = x * f[0] + y * f[1] + z * f[2];
    if (!(depth > near) || px < low[0] || py < low[1] || pz < low[2] || px > high[0] || py > high[1] || pz > high[2]) continue;
    const u = 0.5 + (0.5 * (x * r[0] + y * r[1] + z * r[2])) / (tx * depth), v = 0.5 + (0.5 * (x * d[0] + y * d[1] + z * d[2])) / (ty * depth);
    if (u < 0 || v < 0 || u > 1 || v > 1) continue;
    found.set([u, v, depth], 3 * i);
  }
  return found;
}

/** Takes out of projected centres those behind the surface; `map`: {side, depth [side side], from the bottom up, 0: nothing}. */
export function dropHidden(projected, { side, depth }) {
  for (let i = 0; i < projected.length; i += 3) {
    if (Number.isNaN(projected[i])) continue;
    const column = Math.min(side - 1, Math.floor(projected[i] * side)), row = Math.min(side - 1, Math.floor((1 - projected[i + 1]) * side));
    const surface = depth[row * side + column];
    if (surface > 0 && projected[i + 2] > surface * BEHIND) projected[i] = NaN;
  }
}

/** Indices of centres within `radius` pixels of the line from one point to another; all in pixels of a size. */
export function underBrush(projected, from, to, radius, [width, height]) {
  const found = [], dx = to[0] - from[0], dy = to[1] - from[1], long = dx * dx + dy * dy;
  for (let i = 0; i < projected.length; i += 3) {
    const x = projected[i] * width - from[0], y = projected[i + 1] * height - from[1];
    if (!(Math.abs(x) + Math.abs(y) < 2 * radius + Math.abs(dx) + Math.abs(dy))) continue; // NaN too
    const along = long > 0 ? Math.min(1, Math.max(0, (x * dx + y * dy) / long)) : 0;
    if ((x - along * dx) ** 2 + (y - along * dy) ** 2 <= radius * radius) found.push(i / 3);
  }
  return found;
}

/** Indices of centres in the rectangle between two corners in [0, 1] of the picture. */
export function inRectangle(projected, a, b) {
  const found = [], low = [0, 1].map((k) => Math.min(a[k], b[k])), high = [0, 1].map((k) => Math.max(a[k], b[k]));
  for (let i = 0; i < projected.length; i += 3)
    if ([0, 1].every((k) => projected[i + k] >= low[k] && projected[i + k] <= high[k])) found.push(i / 3);
  return found;
}

/** Indices of the centres in a box of two corners. */
export function insideBox(core, [low, high]) {
  const places = placesOf(core), found = [];
  for (let i = 0; i < places.length; i += 8) {
    if ([0, 1, 2].every((k) => places[i + k] >= low[k] && places[i + k] <= high[k])) found.push(i / 8);
  }
  return found;
}
