// Which Gaussians are selected or deleted: a byte for each, and the steps that led there.
//
// A step flips the same bits of some Gaussians, so that the same step undoes it: selecting flips CHOSEN, deleting what is
// selected flips both.

import { ACROSS } from "./splat_shaders.js";

export const CHOSEN = 1, GONE = 2;
const MOST_STEPS = 200;

export class Choice {
  constructor(count) {
    const marks = new Uint8Array(Math.max(1, Math.ceil(count / ACROSS)) * ACROSS); // whole rows of a texture
    Object.assign(this, { count, marks, chosen: 0, gone: 0, done: [], undone: [], edition: 0 });
  }

  get left() {
    return this.count - this.gone;
  }

  /** Flips bits of some Gaussians, without a step to undo. */
  flip(ids, bits) {
    const { marks } = this;
    for (const id of ids) {
      const before = marks[id], after = before ^ bits;
      this.chosen += (after & CHOSEN) - (before & CHOSEN);
      this.gone += ((after & GONE) - (before & GONE)) / GONE;
      marks[id] = after;
    }
    this.edition++;
  }

  /** Remembers bits that were flipped as one step; false where nothing was. */
  remember(ids, bits) {
    if (!ids.length) return false;
    this.done.push({ ids: Uint32Array.from(ids), bits });
    if (this.done.length > MOST_STEPS) this.done.shift();
    this.undone = [];
    return true;
  }

  step(ids, bits) {
    this.flip(ids, bits);
    return this.remember(ids, bits);
  }

  /** The Gaussians whose byte is exactly that. */
  those(mark) {
    const found = [];
    for (let id = 0; id < this.count; id++) if (this.marks[id] === mark) found.push(id);
    return found;
  }

  /** Of some Gaussians those that selecting (or taking out of the selection) would change. */
  open(ids, on = true) {
    return ids.filter((id) => this.marks[id] === (on ? 0 : CHOSEN));
  }

  choose(ids) { return this.step(this.open(ids), CHOSEN); }

  clear() { return this.step(this.those(CHOSEN), CHOSEN); }

  invert() { return this.step([...this.those(0), ...this.those(CHOSEN)], CHOSEN); }

  remove() { return this.step(this.those(CHOSEN), CHOSEN | GONE); }

  undo() { return this.move(this.done, this.undone); }

  redo() { return this.move(this.undone, this.done); }

  move(from, to) {
    const step = from.pop();
    if (!step) return false;
    this.flip(step.ids, step.bits);
    to.push(step);
    return true;
  }

  /** A bit for each Gaussian, 1 where it is deleted, the lowest bit of a byte first: what the server is told. */
  goneBits() {
    const bits = new Uint8Array(Math.ceil(this.count / 8));
    for (let id = 0; id < this.count; id++) if (this.marks[id] & GONE) bits[id >> 3] |= 1 << (id & 7);
    return bits;
  }
}
