// A camera path that plays: eyes one after the other, evenly over some seconds, straight between two of them.

import { eyeFromPose, mix, tidy } from "./math.js";

export class Walk {
  /** Eyes as messages hold them ({pose, fov}); `begin` in milliseconds. */
  constructor(eyes, seconds, begin) {
    Object.assign(this, { eyes: eyes.map(({ pose, fov }) => eyeFromPose(pose, fov)), times: eyes.map(({ time }) => time), seconds, begin });
  }

  /** How far along the eyes it is. */
  place(now) {
    return Math.min(Math.max((now - this.begin) / 1000 / this.seconds, 0), 1) * (this.eyes.length - 1);
  }

  /** The time of a scene that moves; undefined for one that stands still. */
  timeAt(now) {
    return this.times[Math.round(this.place(now))];
  }

  /** The eye at a time. */
  at(now) {
    const place = this.place(now);
    const first = Math.floor(place), a = this.eyes[first], b = this.eyes[Math.min(first + 1, this.eyes.length - 1)], t = place - first;
    const between = Object.fromEntries(["right", "down", "forward", "position"].map((name) => [name, mix(a[name], b[name], t)]));
    return tidy({ ...between, fov: a.fov + t * (b.fov - a.fov) });
  }

  /** Whether it has come to its end. */
  over(now) {
    return now - this.begin >= 1000 * this.seconds;
  }
}
