// A click reads what is seen there: place, depth, colour. A second one with Shift measures the distance between both.

import { add, dot, length, sub } from "./math.js";

const SLIP = 5, LONG = 500; // pixels and milliseconds beyond which a press is no click
const TINT = [1, 0.78, 0.12, 1];

/** A number with four digits that count, without an exponent where it can be read without. */
export function figure(value) {
  const size = Math.abs(value);
  if (size >= 1e6 || (size > 0 && size < 1e-4)) return value.toExponential(2);
  return value.toFixed(Math.max(0, Math.min(5, 3 - Math.floor(Math.log10(Math.max(size, 1e-3))))));
}

export class Probe {
  /**
   * `page` has canvas, scene, state; `marks` is a MarkLayer of its own, `words` the element that says what was read. Of the
   * page also pointAt(x, y), prepare() before the layers draw, wake() for another picture, and taken(x, y, further):
   * whether a click there is somebody else's.
   */
  constructor({ canvas, scene, state }, marks, words, { pointAt, prepare, wake, taken }) {
    Object.assign(this, { canvas, scene, state, marks, words, pointAt, prepare, wake, taken, points: [], pressed: null });
    canvas.addEventListener("pointerdown", (event) => {
      this.pressed = event.button === 0 && event.isPrimary ? { x: event.clientX, y: event.clientY, at: event.timeStamp } : null;
    });
    canvas.addEventListener("pointerup", (event) => this.up(event));
    window.addEventListener("keydown", ({ key }) => { if (key === "Escape") this.clear(); });
  }

  up(event) {
    const { pressed, canvas } = this;
    this.pressed = null;
    if (!pressed || event.timeStamp - pressed.at > LONG) return;
    if (Math.hypot(event.clientX - pressed.x, event.clientY - pressed.y) > SLIP) return;
    const { left, top, width, height } = canvas.getBoundingClientRect();
    this.read((event.clientX - left) / width, (event.clientY - top) / height, event.shiftKey);
  }

  /** Reads at (x, y) in [0, 1] of the picture; `further`: measured from what was read last. */
  read(x, y, further) {
    if (this.taken(x, y, further)) return;
    const point = this.pointAt(x, y);
    if (!point) return this.clear();
    this.points = further && this.points.length ? [this.points.at(-1), point] : [point];
    const { eye } = this.state, depth = dot(sub(point, eye.position), eye.forward), [r, g, b] = this.colour(x, y);
    const hex = `#${[r, g, b].map((value) => value.toString(16).padStart(2, "0")).join("")}`;
    const place = point.map(figure).join(", ");
    this.words.textContent = this.points.length > 1
      ? `distance ${figure(length(sub(...this.points)))}   to ${place}`
      : `${place}   depth ${figure(depth)}   ${hex}`;
    this.words.style.setProperty("--read", hex);
    this.words.hidden = false;
    this.draw(0.012 * depth);
  }

  clear() {
    this.points = [];
    this.words.hidden = true;
    this.marks.set(this.scene.gl, []);
    this.wake();
  }

  /** A cross at each point, and the line between two. */
  draw(size) {
    const vertex = (place) => [...place, ...TINT], lines = [];
    for (const point of this.points)
      for (let k = 0; k < 3; k++) {
        const arm = [0, 1, 2].map((i) => (i === k ? size : 0));
        lines.push(...vertex(sub(point, arm)), ...vertex(add(point, arm)));
      }
    if (this.points.length > 1) lines.push(...vertex(this.points[0]), ...vertex(this.points[1]));
    this.marks.set(this.scene.gl, lines);
    this.wake();
  }

  /** The colour that the page shows there, three whole numbers up to 255. */
  colour(x, y) {
    const { scene, canvas, state } = this, { gl } = scene, value = new Uint8Array(4);
    this.marks.set(gl, []);
    this.prepare();
    scene.draw(state.eye);
    gl.readPixels(Math.floor(x * canvas.width), Math.floor((1 - y) * canvas.height), 1, 1, gl.RGBA, gl.UNSIGNED_BYTE, value);
    return [...value.subarray(0, 3)];
  }
}
