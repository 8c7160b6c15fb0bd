// The view in the page's address, behind a #: who is sent it looks from there, and a page that is loaded anew goes on there.

import { cross, dot, length, sub, tidy } from "./math.js";

const LATER = 500; // milliseconds without a move; browsers forbid to write an address all the time
const text = (numbers) => numbers.map((v) => Number(v.toPrecision(6))).join(",");

/** The text of a view. */
export function wordsOf({ eye, pivot, what }) {
  const { position, forward, right, fov } = eye;
  return `at=${text(position)}&to=${text(forward)}&right=${text(right)}&fov=${text([fov])}&pivot=${text(pivot)}&show=${what}`;
}

/** {eye, pivot, what} of such a text; null where it is something else. */
export function viewOf(words) {
  const found = new URLSearchParams(words.replace(/^#/, ""));
  const read = (name, count) => {
    const values = (found.get(name) ?? "").split(",").map(Number);
    return values.length === count && values.every((v) => Number.isFinite(v) && Math.abs(v) < 1e9) ? values : null;
  };
  const [position, forward, right, pivot, fov] = [read("at", 3), read("to", 3), read("right", 3), read("pivot", 3), read("fov", 1)];
  if (!position || !forward || !right || !pivot || !fov || fov[0] < 1 || fov[0] > 160) return null;
  if (length(forward) < 0.1 || length(cross(forward, right)) < 0.1 || dot(sub(pivot, position), sub(pivot, position)) === 0) return null;
  return { eye: tidy({ position, forward, right, down: [0, 0, 0], fov: fov[0] }), pivot, what: found.get("show") ?? "rgb" };
}

export class Address {
  /** Shows what the address says, if it says anything: changes the state, whose stage is there, and tells by moved() and mode(what). */
  constructor({ state, moved, mode }) {
    Object.assign(this, { state, shown: moved, mode, timer: 0 });
    window.addEventListener("hashchange", () => this.go());
    this.go();
  }

  go() {
    const view = viewOf(location.hash);
    if (!view) return;
    Object.assign(this.state, { eye: view.eye, pivot: view.pivot });
    this.shown();
    this.mode(view.what);
  }

  /** The eye moved: once it rests, the address says where; nothing where it is at home or in a camera. */
  moved() {
    clearTimeout(this.timer);
    this.timer = setTimeout(() => {
      const { state } = this, words = state.tight ? "" : wordsOf(state);
      if (location.hash.slice(1) === words) return;
      try {
        history.replaceState(history.state, "", words ? `#${words}` : location.pathname + location.search);
      } catch { /* a frame that may not */ }
    }, LATER);
  }
}
