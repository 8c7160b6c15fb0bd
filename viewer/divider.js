// The line between two pictures of one canvas: dragged by a pointer, moved by the arrow keys.

import { clamp } from "./math.js";

const LEAST = 0.02, STEP = 0.02;

/** Lets an element move `state.split`, the place of the line from 0 (left) to 1; `changed` is called after each step. */
export function listenDivider(element, canvas, state, changed) {
  const put = (place) => {
    state.split = clamp(place, LEAST, 1 - LEAST);
    changed();
  };
  const drag = (event) => {
    const { left, width } = canvas.getBoundingClientRect();
    put((event.clientX - left) / width);
  };
  element.onpointerdown = (event) => { element.setPointerCapture(event.pointerId); element.onpointermove = drag; };
  element.onpointerup = element.onpointercancel = () => { element.onpointermove = null; };
  element.onkeydown = (event) => {
    const place = { ArrowLeft: state.split - STEP, ArrowRight: state.split + STEP, Home: 0, End: 1 }[event.key];
    if (place === undefined) return;
    put(place);
    event.preventDefault();
  };
}

/** Shows where the line is. */
export function showDivider(element, split) {
  element.style.left = `${100 * split}%`;
  element.setAttribute("aria-valuenow", Math.round(100 * split));
}
