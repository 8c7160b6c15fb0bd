// The order in which Gaussians are blended, in a worker of its own: by depth along the eye's axis, farthest first.
//
// Depths are positive float32, whose bits sort as whole numbers do: two passes of counting by 16 bits each sort them
// exactly (radix sort, least significant digit first), and equal depths keep their order.

import { ACROSS } from "./splat_shaders.js";
import { isWorker } from "./workers.js";

/** Indices of the means [3 N] with depth dot(mean - place, forward) > near, farthest first. */
export function farthestFirst(means, place, forward, near, room = {}) {
  const count = means.length / 3, [fx, fy, fz] = forward;
  if (room.count !== count) {
    const make = () => new Uint32Array(count);
    Object.assign(room, { count, keys: make(), first: make(), second: make(), low: new Uint32Array(65536), high: new Uint32Array(65536) });
  }
  const { keys, first, second, low, high } = room;
  const offset = place[0] * fx + place[1] * fy + place[2] * fz, depths = new Float32Array(keys.buffer);
  low.fill(0);
  high.fill(0);
  let seen = 0;
  for (let i = 0; i < count; i++) {
    const depth = means[3 * i] * fx + means[3 * i + 1] * fy + means[3 * i + 2] * fz - offset;
    if (!(depth > near)) continue;
    depths[i] = depth;
    const key = keys[i];
    low[key & 65535]++;
    high[key >>> 16]++;
    second[seen++] = i;
  }
  descend(low);
  descend(high);
  for (let i = 0; i < seen; i++) first[low[keys[second[i]] & 65535]++] = second[i];
  const order = new Uint32Array(seen);
  for (let i = 0; i < seen; i++) order[high[keys[first[i]] >>> 16]++] = first[i];
  return order;
}

/** Whole rows of a texture of so many texels across. */
export function rowsOf(order, across) {
  const rows = new Uint32Array(Math.max(1, Math.ceil(order.length / across)) * across);
  rows.set(order);
  return rows;
}

/** Counts become the places at which their digits begin, the largest digit first. */
function descend(counts) {
  let before = 0;
  for (let digit = 65535; digit >= 0; digit--) {
    const here = counts[digit];
    counts[digit] = before;
    before += here;
  }
}

/** How many centres lie in the picture and in the box and are not deleted (choice.js). */
export function countInView(means, marks, { place, right, down, forward, near, spread, box: [low, high] }) {
  let count = 0;
  for (let i = 0; i < means.length; i += 3) {
    const px = means[i], py = means[i + 1], pz = means[i + 2], x = px - place[0], y = py - place[1], z = pz - place[2];
    const depth = x * forward[0] + y * forward[1] + z * forward[2];
    if (marks && marks[i / 3] & 2) continue;
    if (!(depth > near) || px < low[0] || py < low[1] || pz < low[2] || px > high[0] || py > high[1] || pz > high[2]) continue;
    const u = x * right[0] + y * right[1] + z * right[2], v = x * down[0] + y * down[1] + z * down[2];
    if (Math.abs(u) <= spread[0] * depth && Math.abs(v) <= spread[1] * depth) count++;
  }
  return count;
}

if (isWorker("sorter")) {
  let means = new Float32Array(0), marks = null;
  const room = {};
  self.onmessage = ({ data }) => {
    if (data.means) [means, marks] = [data.means, null];
    if (data.marks) marks = data.marks;
    if (!data.place) return;
    const found = farthestFirst(means, data.place, data.forward, data.near, room), order = rowsOf(found, ACROSS);
    self.postMessage({ order, drawn: found.length, inView: data.box ? countInView(means, marks, data) : null, version: data.version }, [order.buffer]);
  };
}
