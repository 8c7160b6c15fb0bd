// The crop box by hand: a point in the middle of each of its faces, dragged along the face's axis.

import { dot, sub, viewProjection } from "./math.js";

const $ = (id) => document.getElementById(id);
const NEAR = 14, LEAST = 0.005; // pixels from a point within which it is taken; the thinnest box, of the bounds
const TINT = [0.95, 0.72, 0.3, 1];

export class Handles {
  /**
   * `page` has canvas, scene, state; `marks` is a MarkLayer of points of its own. `whole()` is the box of the bounds,
   * `shown()` whether the crop box is, `free()` whether the pointer may take it; `changed()` reads the panel's sliders anew.
   */
  constructor({ canvas, scene, state }, marks, { whole, shown, free, changed }) {
    Object.assign(this, { canvas, scene, state, marks, whole, shown, free, changed, held: null });
    const first = { capture: true };
    canvas.addEventListener("pointerdown", (event) => this.down(event), first);
    canvas.addEventListener("pointermove", (event) => this.move(event), first);
    for (const name of ["pointerup", "pointercancel"]) canvas.addEventListener(name, (event) => this.up(event), first);
  }

  /** The faces of the box that is shown: axis, end (0 low, 1 high) and middle of each. */
  get faces() {
    const { crop, stage } = this.state;
    if (!crop || !this.shown()) return [];
    const { low } = this.whole(), { side } = stage.bounds, middle = crop.map(([a, b], k) => low[k] + ((a + b) / 2) * side);
    return [0, 1, 2].flatMap((axis) => [0, 1].map((end) => ({ axis, end, point: middle.map((v, k) => (k === axis ? low[k] + crop[k][end] * side : v)) })));
  }

  redraw() {
    this.marks.set(this.scene.gl, this.faces.flatMap(({ point }) => [...point, ...TINT]));
  }

  /** Where a point is seen, in pixels of the page; null behind the eye. */
  seen(point) {
    const { canvas, scene, state } = this, { left, top, width, height } = canvas.getBoundingClientRect();
    if (dot(sub(point, state.eye.position), state.eye.forward) <= 0) return null;
    const m = viewProjection(state.eye, width / height, ...scene.reach);
    const row = (i) => m[i] * point[0] + m[4 + i] * point[1] + m[8 + i] * point[2] + m[12 + i];
    return [left + (0.5 + (0.5 * row(0)) / row(3)) * width, top + (0.5 - (0.5 * row(1)) / row(3)) * height];
  }

  /** The face whose point is under the pointer. */
  at({ clientX, clientY }) {
    const near = this.faces.map((face) => ({ face, seen: this.seen(face.point) })).filter(({ seen }) => seen && Math.hypot(seen[0] - clientX, seen[1] - clientY) < NEAR);
    return near[0]?.face ?? null;
  }

  down(event) {
    const face = event.button === 0 && !event.shiftKey && this.free() ? this.at(event) : null;
    if (!face) return;
    event.stopImmediatePropagation();
    this.canvas.setPointerCapture(event.pointerId);
    this.held = { ...face, id: event.pointerId };
  }

  move(event) {
    const { held, state } = this;
    if (held?.id !== event.pointerId) return void this.canvas.classList.toggle("gripping", Boolean(this.at(event)));
    event.stopImmediatePropagation();
    const { axis, end } = held, { side } = state.stage.bounds, { point } = this.faces.find((face) => face.axis === axis && face.end === end);
    const here = this.seen(point), beside = this.seen(point.map((v, k) => (k === axis ? v + 0.01 * side : v)));
    if (!here || !beside) return;
    const [dx, dy] = [beside[0] - here[0], beside[1] - here[1]], square = dx * dx + dy * dy;
    if (square < 1e-3) return; // seen along its axis: no way to say how far
    const share = (0.01 * ((event.clientX - here[0]) * dx + (event.clientY - here[1]) * dy)) / square, other = state.crop[axis][1 - end];
    const wanted = state.crop[axis][end] + share, value = end ? Math.max(wanted, other + LEAST) : Math.min(wanted, other - LEAST);
    const [low, high] = ["0", "1"].map((name) => $("xyz"[axis] + name)).sort((a, b) => a.valueAsNumber - b.valueAsNumber);
    (end ? high : low).value = Math.min(1, Math.max(0, value));
    this.changed();
  }

  up(event) {
    if (this.held?.id !== event.pointerId) return;
    event.stopImmediatePropagation();
    this.held = null;
  }
}
