// The views that the eye came to rest at, to go back to and forward again.

import { length, sameEye, sub } from "./math.js";

const REST = 400, MOST = 100; // milliseconds without a move; views that are kept

export class Views {
  /** `shown(true)` is called after the state was given a view. */
  constructor({ state, controls, shown }) {
    Object.assign(this, { state, controls, shown, list: [], at: -1, timer: 0 });
  }

  /** The eye moved: where it rests is another view. */
  moved() {
    clearTimeout(this.timer);
    this.timer = setTimeout(() => (this.controls.pointers.size ? this.moved() : this.add()), REST); // a hand that holds still
  }

  add() {
    const { eye, pivot, up, camera, tight } = this.state, here = this.list[this.at];
    if (here && sameEye(here.eye, eye) && length(sub(here.pivot, pivot)) === 0) return;
    this.list = [...this.list.slice(0, this.at + 1), { eye, pivot, up, camera, tight }].slice(-MOST);
    this.at = this.list.length - 1;
  }

  /** Back by one view (-1), or forward (1); false where there is none. */
  go(step) {
    clearTimeout(this.timer);
    this.add();
    const view = this.list[this.at + step];
    if (!view) return false;
    this.at += step;
    Object.assign(this.state, view);
    this.shown(true);
    return true;
  }
}
