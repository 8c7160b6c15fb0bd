// The brush: a circle over the picture that selects while it is dragged. Alt takes out of the selection; the right button
// turns the camera meanwhile; a second finger moves it and takes the stroke back.

import { CHOSEN } from "./choice.js";
import { dropHidden, project, underBrush } from "./picking.js";

export class Brush {
  /** `host` has choice, layer, app and changed(); `circle` is the element that follows the pointer. */
  constructor(host, circle) {
    Object.assign(this, { host, circle, on: false, radius: 24, visible: false, stroke: null });
    const { canvas } = host.app, first = { capture: true };
    canvas.addEventListener("pointerdown", (event) => this.down(event), first);
    canvas.addEventListener("pointermove", (event) => this.move(event), first);
    for (const name of ["pointerup", "pointercancel"]) canvas.addEventListener(name, (event) => this.up(event), first);
    canvas.addEventListener("pointerleave", () => { this.circle.hidden = true; });
  }

  turn(on) {
    const { controls, canvas } = this.host.app;
    this.on = controls.swapped = on;
    canvas.classList.toggle("brushing", on);
    if (!on) this.circle.hidden = true;
  }

  down(event) {
    const { controls } = this.host.app;
    if (!this.on || !this.host.choice) return;
    if (this.stroke) { // a second finger
      controls.pointers.set(this.stroke.id, this.stroke.last);
      this.drop();
      return;
    }
    if (event.button !== 0 || event.shiftKey || controls.pointers.size) return;
    event.stopImmediatePropagation();
    this.host.app.canvas.setPointerCapture(event.pointerId);
    const { app, layer } = this.host, { eye } = app.state, { width, height } = app.canvas;
    const projected = project(layer.loaded.core, { eye, aspect: width / height, near: layer.loaded.near, box: layer.box });
    if (this.visible) dropHidden(projected, layer.depthMap());
    const last = [event.clientX, event.clientY];
    this.stroke = { id: event.pointerId, last, projected, ids: [], on: !event.altKey };
    this.take(last);
  }

  move(event) {
    if (!this.on) return;
    this.show(event);
    if (this.stroke?.id !== event.pointerId) return;
    event.stopImmediatePropagation();
    this.take([event.clientX, event.clientY]);
  }

  up(event) {
    if (this.stroke?.id !== event.pointerId) return;
    event.stopImmediatePropagation();
    const { ids } = this.stroke;
    this.stroke = null;
    this.host.choice.remember(ids, CHOSEN);
    this.host.changed();
  }

  /** Takes the stroke back. */
  drop() {
    this.host.choice.flip(this.stroke.ids, CHOSEN);
    this.stroke = null;
    this.host.changed();
  }

  take(now) {
    const { stroke, host } = this, { left, top, width, height } = host.app.canvas.getBoundingClientRect();
    const [from, to] = [stroke.last, now].map(([x, y]) => [x - left, y - top]);
    const ids = host.choice.open(underBrush(stroke.projected, from, to, this.radius, [width, height]), stroke.on);
    stroke.last = now;
    host.choice.flip(ids, CHOSEN);
    for (const id of ids) stroke.ids.push(id);
    host.changed();
  }

  show({ clientX, clientY }) {
    const { left, top } = this.host.app.canvas.getBoundingClientRect(), { style } = this.circle;
    this.circle.hidden = false;
    style.width = style.height = `${2 * this.radius}px`;
    style.transform = `translate(${clientX - left - this.radius}px, ${clientY - top - this.radius}px)`;
  }
}
