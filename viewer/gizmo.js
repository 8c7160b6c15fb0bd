// The world's axes in a corner, turned as the eye sees them; a click on one looks at the scene from there.

import { add, length, scale, sub, lookAt, tidy, dot } from "./math.js";

const REACH = 27, NAMES = ["x", "y", "z"]; // pixels of an axis that lies in the picture

/** The eye on that side of the pivot, as far as it was: axis 0, 1 or 2, sign 1 or -1. */
export function eyeAlong({ eye, pivot, up }, axis, sign) {
  const side = [0, 1, 2].map((k) => (k === axis ? sign : 0)), position = add(pivot, scale(side, length(sub(eye.position, pivot))));
  if (Math.abs(dot(side, up)) < 0.99) return lookAt(position, pivot, up, eye.fov);
  return tidy({ ...eye, position, forward: scale(side, -1) }); // from above: what was to the right stays there
}

export class Gizmo {
  /** Fills an element, in which a line of each axis is drawn; changes the state's eye and calls moved(). It is drawn as the layers of a scene are. */
  constructor(element, { state, moved }) {
    Object.assign(this, { element, state, moved, eye: null });
    this.lines = element.querySelectorAll("line");
    this.balls = NAMES.flatMap((name, axis) => [1, -1].map((sign) => {
      const words = `from ${sign > 0 ? "+" : "−"}${name}`;
      const ball = Object.assign(document.createElement("button"), {
        type: "button", tabIndex: -1, textContent: sign > 0 ? name : "", className: sign > 0 ? name : `${name} far`, title: words, ariaLabel: words,
        onclick: () => this.look(axis, sign), // the keys for it are 7, 8, 9
      });
      return { ball, axis, sign };
    }));
    element.append(...this.balls.map(({ ball }) => ball));
  }

  /** Looks from one end of an axis. */
  look(axis, sign) {
    this.state.eye = eyeAlong(this.state, axis, sign);
    this.moved();
  }

  /** Looks from the positive end of an axis, a second time from the other. */
  turn(axis) {
    this.look(axis, this.state.eye.forward[axis] < -0.999 ? -1 : 1);
  }

  draw({ eye }) {
    if (eye === this.eye) return;
    this.eye = eye;
    for (const { ball, axis, sign } of this.balls) {
      const [x, y, z] = [eye.right, eye.down, eye.forward].map((v) => sign * v[axis]);
      ball.style.transform = `translate(${(REACH * x).toFixed(1)}px, ${(REACH * y).toFixed(1)}px)`;
      ball.style.zIndex = Math.round(10 - 9 * z);
      if (sign < 0) continue;
      this.lines[axis].setAttribute("x2", REACH * x);
      this.lines[axis].setAttribute("y2", REACH * y);
    }
  }
}
