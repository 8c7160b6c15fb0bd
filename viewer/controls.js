// Hands on the camera: orbit about the pivot, fly, touch, keys. The state has eye, pivot and up; moved() tells of change.

import { add, clamp, dot, length, scale, sub, tangent, tidy, turned, unit } from "./math.js";

const TURN = 0.0055, KEY_TURN = 1.4, STEEPEST = 0.998;
const SWING = 80, RECENT = 60, SLOW = 0.04; // milliseconds of a swing; of the moves whose pace it has; pixels a millisecond under which it ends

export class Controls {
  constructor(canvas, state, moved) {
    Object.assign(this, { canvas, state, moved, hand: "orbit", swapped: false, fast: false, pointers: new Map(), held: new Set(), tapped: new Set() });
    Object.assign(this, { moves: [], swing: null, calm: window.matchMedia("(prefers-reduced-motion: reduce)") }); // of the hand that drags; how the view goes on when it lets go
    canvas.addEventListener("pointerdown", (event) => this.down(event));
    canvas.addEventListener("pointermove", (event) => this.move(event));
    for (const name of ["pointerup", "pointercancel"]) canvas.addEventListener(name, (event) => this.up(event));
    canvas.addEventListener("contextmenu", (event) => event.preventDefault());
    canvas.addEventListener("wheel", (event) => this.wheel(event), { passive: false });
    window.addEventListener("blur", () => { this.held.clear(); this.tapped.clear(); });
  }

  down(event) {
    this.canvas.setPointerCapture(event.pointerId);
    this.canvas.focus({ preventScroll: true });
    this.pointers.set(event.pointerId, [event.clientX, event.clientY]);
    Object.assign(this, { moves: [], swing: null });
  }

  up(event) {
    if (this.pointers.delete(event.pointerId) && !this.pointers.size && event.type === "pointerup") this.letGo(event.timeStamp);
  }

  /** The view swings out by the pace that the hand had last, unless the system asks for less motion. */
  letGo(now) {
    const recent = this.moves.filter(({ at }) => now - at < RECENT), pace = ["dx", "dy"].map((d) => recent.reduce((sum, move) => sum + move[d], 0) / RECENT);
    if (!this.calm.matches && Math.hypot(...pace) > SLOW) this.swing = { pace, pans: recent.at(-1).pans, eye: this.state.eye };
    this.moves = [];
  }

  /** Goes on swinging; false where something else has moved the eye. */
  swingOn(seconds) {
    const { swing, state } = this;
    if (swing.eye !== state.eye) {
      this.swing = null;
      return false;
    }
    const left = Math.exp((-1000 * seconds) / SWING), [dx, dy] = swing.pace.map((pace) => pace * SWING * (1 - left));
    this.drag(dx, dy, swing.pans);
    Object.assign(swing, { pace: swing.pace.map((pace) => pace * left), eye: state.eye });
    if (Math.hypot(...swing.pace) < SLOW) this.swing = null;
    return true;
  }

  /** What a hand does that goes so many pixels. */
  drag(dx, dy, pans) {
    if (pans) this.pan(dx, dy);
    else this.turn(-dx * TURN, -dy * TURN);
  }

  move(event) {
    const before = this.pointers.get(event.pointerId);
    if (!before) return;
    const now = [event.clientX, event.clientY], dx = now[0] - before[0], dy = now[1] - before[1];
    const pans = Boolean(event.buttons & (this.swapped ? 4 : 6) || event.shiftKey); // swapped: the right button turns
    if (this.pointers.size === 2) this.pinch(event.pointerId, now, dx, dy);
    else this.drag(dx, dy, pans);
    this.moves = this.pointers.size === 2 ? [] : [...this.moves.slice(-30), { at: event.timeStamp, dx, dy, pans }];
    this.pointers.set(event.pointerId, now);
    this.moved();
  }

  /** Two fingers: their distance brings closer, their middle moves. */
  pinch(id, now, dx, dy) {
    const [other] = [...this.pointers].filter(([key]) => key !== id).map(([, place]) => place);
    const was = this.pointers.get(id);
    const spread = (place) => Math.max(20, Math.hypot(place[0] - other[0], place[1] - other[1]));
    this.closer(spread(was) / spread(now));
    this.pan(dx / 2, dy / 2);
  }

  wheel(event) {
    event.preventDefault();
    this.swing = null;
    const step = event.deltaY * (event.deltaMode === 1 ? 18 : 1);
    this.closer(Math.exp(clamp(step, -200, 200) * 0.0015));
    this.moved();
  }

  /** Turns by radians: the eye about the pivot, or about itself when it flies. */
  turn(sideways, upwards) {
    const { state } = this, { eye, up, pivot } = state;
    const steep = dot(eye.forward, up), flying = this.hand === "fly";
    if (Math.abs(steep) > STEEPEST && Math.sign(upwards) === Math.sign(steep)) upwards = 0;
    const about = (v) => turned(turned(v, eye.right, upwards), up, sideways);
    const place = flying ? eye.position : add(pivot, about(sub(eye.position, pivot)));
    const turnedEye = { ...eye, position: place, right: about(eye.right), down: about(eye.down), forward: about(eye.forward) };
    state.eye = tidy(turnedEye);
    if (flying) state.pivot = add(eye.position, scale(state.eye.forward, length(sub(pivot, eye.position))));
  }

  /** Moves eye and pivot together, so that what is under the pointer stays there. */
  pan(dx, dy) {
    const { eye, pivot } = this.state;
    const unitOf = (2 * tangent(eye.fov) * Math.max(length(sub(pivot, eye.position)), 1e-6)) / this.canvas.clientHeight;
    this.shift(add(scale(eye.right, -dx * unitOf), scale(eye.down, -dy * unitOf)));
  }

  shift(by) {
    const { state } = this;
    state.eye = { ...state.eye, position: add(state.eye.position, by) };
    state.pivot = add(state.pivot, by);
  }

  /** Multiplies the distance to the pivot; flying goes ahead or back instead. */
  closer(factor) {
    const { state } = this, away = sub(state.eye.position, state.pivot);
    if (this.hand === "fly") return this.shift(scale(state.eye.forward, length(away) * (1 - factor)));
    const least = state.size * 1e-3;
    const target = clamp(length(away) * factor, least, state.size * 100);
    state.eye = { ...state.eye, position: add(state.pivot, scale(unit(away), target)) };
  }

  /** A key of HELD went down. */
  press(key) {
    this.held.add(key);
    this.tapped.add(key);
  }

  /** What a swing does in `seconds`, or keys that are held or were let go before a picture came; true where they did anything. */
  step(seconds) {
    if (!this.held.size && !this.tapped.size) return this.swing !== null && this.swingOn(seconds);
    this.swing = null;
    const { eye } = this.state, on = (key) => (this.held.has(key) || this.tapped.has(key) ? 1 : 0);
    const pace = this.state.size * 0.45 * seconds * (this.fast ? 4 : 1);
    const ahead = scale(eye.forward, (on("w") - on("s")) * pace);
    const sideways = scale(eye.right, (on("d") - on("a")) * pace);
    const lift = scale(eye.down, (on("q") - on("e")) * pace);
    this.shift(add(add(ahead, sideways), lift));
    const angle = KEY_TURN * seconds;
    this.turn((on("arrowleft") - on("arrowright")) * angle, (on("arrowup") - on("arrowdown")) * angle);
    this.tapped.clear();
    return true;
  }
}

export const HELD = new Set(["w", "a", "s", "d", "q", "e", "arrowleft", "arrowright", "arrowup", "arrowdown"]);
