// Time in a scene that moves: a slider, and a film that plays where the eye rests.
//
//   steps    the film has a picture for each of so many times; `shelf` holds those that came, for one view of one kind
//   ahead    while it plays the next picture that is not there is asked for before it is shown: first all of them
//            coarse, then, as it goes round, all of them sharp
//
// Another view, or another kind of picture, empties the shelf. The film waits where a picture is not there yet.

import { clamp } from "./math.js";

const $ = (id) => document.getElementById(id);
const STEPS = 60, SECONDS = 4; // pictures of the film, and how long it lasts at speed 1
const MOST_PIXELS = 480 * 360; // of a picture of the film

export class Time {
  /**
   * Sets state.time. `drawn()`: whether the page draws every time itself; otherwise `ask(time)` asks for a picture and
   * `display(picture)` shows one that came. `moved` and `wake` as of a page.
   */
  constructor({ state, moved, wake, drawn, ask, display }) {
    Object.assign(this, { state, moved, wake, drawn, ask, display });
    this.shelf = new Map(); // step -> a picture { frame, bitmap, values } of each side
    this.kind = null; // the view that the shelf is of
    this.playing = false;
    this.steps = STEPS;
    this.asked = null; // the step that is asked for, and whether sharp
    this.place = 0; // where the film is, in steps
    this.shown = null;
    $("time").oninput = () => this.scrub($("time").valueAsNumber);
    $("time-play").onclick = () => this.play(!this.playing);
  }

  /** Takes the times of a stage; a scene that stands still has none. */
  begin(times, time) {
    this.times = times;
    $("time-part").hidden = !times;
    this.empty(null); // what was asked for before a connection was lost does not come any more
    if (times) this.set(time ?? times[0]);
  }

  get speed() {
    return Number($("time-speed").value);
  }

  /** The time of a step of the film. */
  at(step) {
    return this.times[0] + ((this.times[1] - this.times[0]) * step) / (this.steps - 1);
  }

  set(time) {
    const { state } = this, [first, last] = this.times;
    state.time = clamp(time, first, last);
    const share = (state.time - first) / (last - first);
    $("time").value = share;
    $("time-now").textContent = Number(state.time.toPrecision(4));
    return share;
  }

  /** The time that is shown as a share of the scene's. */
  get share() {
    return (this.state.time - this.times[0]) / (this.times[1] - this.times[0]);
  }

  /** The eye stands in a camera now, at its time. */
  follow() {
    if (!this.times) return;
    this.play(false);
    this.set(this.state.time);
  }

  /** The slider was moved: the film stops, and that time is shown. */
  scrub(share) {
    this.play(false);
    this.set(this.times[0] + share * (this.times[1] - this.times[0]));
    this.moved(true);
  }

  /** Another time by so many steps of the film. */
  step(by) {
    if (!this.times) return;
    this.play(false);
    const share = $("time").valueAsNumber, step = Math.round(share * (this.steps - 1)) + by;
    this.scrub(clamp(step, 0, this.steps - 1) / (this.steps - 1));
  }

  play(on) {
    if (!this.times || on === this.playing) return;
    this.playing = on;
    $("time-play").textContent = on ? "Pause" : "Play";
    $("time-play").setAttribute("aria-pressed", String(on));
    if (on) {
      const step = Math.round($("time").valueAsNumber * (this.steps - 1));
      this.place = step >= this.steps - 1 ? 0 : step;
    } else this.moved(true); // the sharp picture of the time at which it stopped
    this.asked = this.shown = null;
    this.wake();
  }

  /** The size of a picture of the film for a canvas of that size. */
  size(width, height) {
    const share = Math.min(this.state.resolution, Math.sqrt(MOST_PIXELS / (width * height)));
    return [Math.max(1, Math.round(width * share)), Math.max(1, Math.round(height * share))];
  }

  /** Which step to ask for: the next that is missing, then the next that is coarse; null where all are there. */
  missing() {
    const around = [...Array(this.steps).keys()].map((i) => (Math.floor(this.place) + i) % this.steps);
    return around.find((step) => !this.whole(step)) ?? around.find((step) => !this.whole(step, true)) ?? null;
  }

  /** Whether the pictures of all sides are there, or the sharp ones. */
  whole(step, sharp = false) {
    const sides = this.shelf.get(step) ?? [];
    return this.state.subjects.every((_, side) => sides[side] && (!sharp || sides[side].frame.last));
  }

  /** Goes on by some seconds; shows the picture of the place and asks for the next. `look` says what is shown. */
  tick(seconds, kind) {
    if (!this.playing) return;
    if (this.drawn()) return this.flow(seconds);
    if (kind !== this.kind) this.empty(kind);
    const step = Math.floor(this.place), there = this.whole(step), newest = there ? this.shelf.get(step).map(({ frame }) => frame.frame).join() : null;
    if (there && this.shown !== newest) {
      this.shown = newest;
      this.set(this.at(step));
      for (const picture of this.shelf.get(step)) this.display(picture);
    }
    const next = this.place + seconds * this.speed * (this.steps / SECONDS);
    // Never past a picture that is not there: the film waits for it.
    if (there) this.place = Math.floor(next) === step ? next : step + 1;
    if (this.place >= this.steps) {
      this.place = $("time-loop").checked ? 0 : this.steps - 1;
      if (!$("time-loop").checked) return this.play(false);
    }
    if (this.asked === null && (this.asked = this.missing()) !== null) this.ask(this.at(this.asked));
  }

  /** Goes on where the page draws each time itself: no picture has to be waited for. */
  flow(seconds) {
    const last = this.steps - 1, next = this.place + seconds * this.speed * (this.steps / SECONDS);
    this.place = next <= last ? next : $("time-loop").checked ? 0 : last;
    this.set(this.at(this.place));
    if (next > last && !$("time-loop").checked) return this.play(false);
    this.wake();
  }

  empty(kind) {
    for (const { bitmap } of [...this.shelf.values()].flat()) bitmap.close();
    this.shelf.clear();
    Object.assign(this, { kind, asked: null, shown: null });
  }

  /** Takes a picture that came while the film plays, of the view of that number; false where it does not play. */
  take(picture, number) {
    const { frame, bitmap } = picture;
    if (!this.playing) return false;
    if (this.asked === null || frame.number !== number) {
      bitmap.close(); // of a view that is no longer wanted
      return true;
    }
    const sides = this.shelf.get(this.asked) ?? [], again = this.whole(this.asked);
    sides[frame.side]?.bitmap.close();
    sides[frame.side] = picture;
    this.shelf.set(this.asked, sides);
    // A first round of coarse pictures is soon there; a picture of the second round waits for the sharp one.
    if (again ? this.whole(this.asked, true) : this.whole(this.asked)) this.asked = null;
    return true;
  }
}
