// The brush: a circle over the picture that selects while it is dragged, or a rectangle that is drawn and selects what is
// in it at the end. Alt takes out of the selection; the right button turns the camera meanwhile; a second finger moves it
// and takes the stroke back.

import { CHOSEN } from "./choice.js";
import { dropHidden, inRectangle, project, underBrush } from "./picking.js";

export class Brush {
  /** `host` has choice, layer and changed(); of the page canvas, state and controls; `outline` is the element that follows the pointer. */
  constructor(host, { canvas, state, controls }, outline) {
    Object.assign(this, { host, canvas, state, controls, outline, on: false, box: false, radius: 24, visible: false, stroke: null });
    const first = { capture: true };
    canvas.addEventListener("pointerdown", (event) => this.down(event), first);
    canvas.addEventListener("pointermove", (event) => this.move(event), first);
    for (const name of ["pointerup", "pointercancel"]) canvas.addEventListener(name, (event) => this.up(event), first);
    canvas.addEventListener("pointerleave", () => { if (!this.stroke) this.outline.hidden = true; });
  }

  /** On or off; `box`: a rectangle in place of the circle. */
  turn(on, box = false) {
    const { controls, canvas } = this;
    this.on = controls.swapped = on;
    this.box = box;
    canvas.classList.toggle("brushing", on && !box);
    canvas.classList.toggle("boxing", on && box);
    this.outline.classList.toggle("box", box);
    this.outline.hidden = true;
  }

  down(event) {
    const { controls } = this;
    if (!this.on || !this.host.choice) return;
    if (this.stroke) { // a second finger
      controls.pointers.set(this.stroke.id, this.stroke.last);
      this.drop();
      return;
    }
    if (event.button !== 0 || event.shiftKey || controls.pointers.size) return;
    event.stopImmediatePropagation();
    this.canvas.setPointerCapture(event.pointerId);
    const { layer } = this.host, { eye } = this.state, { width, height } = this.canvas;
    const projected = project(layer.loaded.core, { eye, aspect: width / height, near: layer.loaded.near, box: layer.box });
    if (this.visible) dropHidden(projected, layer.depthMap());
    const last = [event.clientX, event.clientY];
    this.stroke = { id: event.pointerId, first: last, last, projected, ids: [], on: !event.altKey };
    if (!this.box) this.take(last);
  }

  move(event) {
    if (!this.on) return;
    this.show(event);
    if (this.stroke?.id !== event.pointerId) return;
    event.stopImmediatePropagation();
    const now = [event.clientX, event.clientY];
    if (this.box) this.stroke.last = now;
    else this.take(now);
  }

  up(event) {
    if (this.stroke?.id !== event.pointerId) return;
    event.stopImmediatePropagation();
    if (this.box) this.flip(inRectangle(this.stroke.projected, ...[this.stroke.first, this.stroke.last].map((place) => this.within(place))));
    const { ids } = this.stroke;
    this.stroke = null;
    if (this.box || event.pointerType === "touch") this.outline.hidden = true;
    this.host.choice.remember(ids, CHOSEN);
    this.host.changed();
  }

  /** Takes the stroke back. */
  drop() {
    this.host.choice.flip(this.stroke.ids, CHOSEN);
    this.stroke = null;
    this.outline.hidden = true;
    this.host.changed();
  }

  /** A point of the page as shares of the picture. */
  within([x, y]) {
    const { left, top, width, height } = this.canvas.getBoundingClientRect();
    return [(x - left) / width, (y - top) / height];
  }

  take(now) {
    const { stroke, host } = this, { left, top, width, height } = this.canvas.getBoundingClientRect();
    const [from, to] = [stroke.last, now].map(([x, y]) => [x - left, y - top]);
    stroke.last = now;
    this.flip(underBrush(stroke.projected, from, to, this.radius, [width, height]));
    host.changed();
  }

  flip(found) {
    const { stroke, host } = this, ids = host.choice.open(found, stroke.on);
    host.choice.flip(ids, CHOSEN);
    for (const id of ids) stroke.ids.push(id);
  }

  show({ clientX, clientY }) {
    const { left, top } = this.canvas.getBoundingClientRect(), { style } = this.outline, at = [clientX - left, clientY - top];
    if (this.box && !this.stroke) return;
    const first = this.box ? [this.stroke.first[0] - left, this.stroke.first[1] - top] : at.map((v) => v - this.radius);
    const [low, high] = [Math.min, Math.max].map((pick) => [0, 1].map((k) => pick(first[k], this.box ? at[k] : at[k] + this.radius)));
    this.outline.hidden = false;
    style.width = `${high[0] - low[0]}px`;
    style.height = `${high[1] - low[1]}px`;
    style.transform = `translate(${low[0]}px, ${low[1]}px)`;
  }
}
