// The page, live or in a shared file: a canvas and its layers, a state, hands on the camera, the loop that draws.
//
//   state.eye moves  ->  moved()  ->  at the next animation frame: wanted(), prepare(), all layers, shown()
//
// What is seen comes from a source, which describes itself as a `stage` (neuralfields/serving/stage.py): the viewer's
// server (main.js) or the file that the page is (share.js). Both fill in the empty methods.

import { Address } from "./address.js";
import { Controls } from "./controls.js";
import { dot, eyeFromPose, length, lookAt, sub, tidy } from "./math.js";
import { Scene } from "./scene.js";

export class Page {
  /** Draws on a canvas and says things in an element; `smooth`: lines too. Throws where there is no WebGL2. */
  constructor(canvas, message, smooth = true) {
    this.canvas = canvas;
    this.message = message;
    this.scene = new Scene(canvas, smooth);
    this.state = {
      stage: null, eye: lookAt([1, -1, 1], [0, 0, 0], [0, 0, 1], 45), pivot: [0, 0, 0], up: [0, 0, 1], size: 1,
      what: "rgb", background: "auto", resolution: 1, subjects: [0], split: 0.5, camera: null, tight: null, fade: true,
    };
    this.dirty = this.stale = this.working = false;
    for (const name of ["wake", "moved", "note"]) this[name] = this[name].bind(this); // the parts of a page are given these
    this.controls = new Controls(canvas, this.state, () => this.touched());
    canvas.addEventListener("webglcontextlost", (event) => { event.preventDefault(); this.note("the GPU gave this page up; it begins anew as soon as it can"); });
    canvas.addEventListener("dblclick", (event) => {
      const { left, top, width, height } = canvas.getBoundingClientRect();
      const point = this.pointAt((event.clientX - left) / width, (event.clientY - top) / height);
      if (point) this.focus(point);
      else if (this.state.stage) this.frameAll();
    });
    canvas.addEventListener("webglcontextrestored", () => location.reload());
  }

  /** Begins to draw, once everything is made. */
  start() {
    new ResizeObserver(() => this.resized()).observe(this.canvas);
    this.last = performance.now();
    requestAnimationFrame((now) => this.tick(now));
  }

  /** Takes a stage: how large the scene is, and how deep it is seen. */
  enter(stage) {
    const { state } = this;
    state.stage = stage;
    state.size = stage.bounds.side;
    this.scene.reach = [state.size * 2e-3, state.size * 2 ** stage.bounds.cascades * 8];
  }

  /** Looks from where the address says, and keeps it there; after home(). */
  follow() {
    this.address ??= new Address({ state: this.state, moved: this.moved, mode: (what) => this.mode(what) });
  }

  /** Back to where it began. */
  home() {
    const { state } = this, { stage } = state;
    Object.assign(state, { up: stage.up, pivot: stage.pivot, eye: tidy(eyeFromPose(stage.eye.pose, stage.eye.fov)) });
    state.tight = stage.extent;
    state.camera = stage.cameras.length ? 0 : null;
    this.fitLens();
  }

  /** Turns the eye to a point, and about it from now on. */
  focus(point) {
    const { state } = this;
    Object.assign(state, { pivot: point, eye: lookAt(state.eye.position, point, state.up, state.eye.fov) });
    this.moved();
  }

  /** All of the scene, however far the eye went. */
  frameAll() {
    this.home();
    this.moved(true);
  }

  /** Turns the top of the picture towards what is up. */
  level() {
    this.focus(this.state.pivot);
  }

  /** The field of view in which all is seen that the chosen camera saw, or that the home view shows. */
  fitLens() {
    const { state } = this;
    if (!state.tight) return;
    const [left, right, top, bottom] = state.tight.map(Math.abs);
    const aspect = this.canvas.clientWidth / Math.max(1, this.canvas.clientHeight);
    const tan = Math.max(top, bottom, Math.max(left, right) / aspect);
    state.eye = { ...state.eye, fov: Math.min(160, (Math.atan(tan) * 360) / Math.PI) };
  }

  /** Stands in a camera of the stage; the pivot is as far ahead as the scene is. */
  stand(index) {
    const { state } = this, camera = state.stage.cameras[index];
    state.camera = index;
    state.tight = camera.extent;
    if (camera.time !== undefined) state.time = camera.time;
    const away = length(sub(state.pivot, state.eye.position));
    state.eye = tidy(eyeFromPose(camera.pose, state.eye.fov));
    const ahead = dot(sub(state.stage.pivot, state.eye.position), state.eye.forward);
    const reach = ahead > 0 ? ahead : away;
    state.pivot = [0, 1, 2].map((k) => state.eye.position[k] + reach * state.eye.forward[k]);
    this.fitLens();
  }

  /** The index of the camera before or after the one that the eye stands in. */
  neighbour(step) {
    const count = this.state.stage?.cameras.length;
    return count ? ((this.state.camera ?? (step > 0 ? -1 : 0)) + step + count) % count : null;
  }

  /** The eye moved or what is shown changed: another picture is wanted. */
  moved(keep = false) {
    if (!keep) this.state.tight = null;
    this.address?.moved();
    this.stale = true;
    this.wake();
  }

  /** A hand moved the eye. */
  touched() {
    this.moved();
  }

  /** Something else is to be seen; `work`: not yet, a layer only goes on with what it draws aside. */
  wake(work = false) {
    if (work) this.working = true;
    else this.dirty = true;
  }

  /** Whether the GPU is busy with the next picture: the last one stays until it is there. */
  get held() {
    return this.scene.layers.some((layer) => layer.shown && layer.begun && layer.fence?.busy);
  }

  resized() {
    if (!this.scene.resize()) return;
    this.fitLens();
    this.moved(true);
  }

  /** The colour behind a subject. */
  behind(index) {
    const { background, stage } = this.state;
    return { white: [1, 1, 1], black: [0, 0, 0], grey: [0.5, 0.5, 0.5] }[background] ?? stage.subjects[index].background;
  }

  /** Whether what no camera saw of a subject is faded. */
  fades(index) {
    const { fade, stage } = this.state;
    return Boolean(fade && stage.seen && stage.subjects[index].fades);
  }

  tick(now) {
    const seconds = Math.min((now - this.last) / 1000, 0.1);
    this.last = now;
    if (this.state.stage) {
      if (this.controls.step(seconds)) this.touched();
      else if (this.advance(now, seconds)) this.moved();
    }
    if (this.stale) {
      this.stale = false;
      this.wanted();
    }
    if (this.dirty && this.state.stage && !this.held) {
      this.dirty = false;
      this.prepare();
      this.scene.draw(this.state.eye);
      this.shown();
    } else if (this.working) {
      this.working = false;
      for (const layer of this.scene.layers) layer.work?.();
    }
    requestAnimationFrame((next) => this.tick(next));
  }

  /** A line of text over the picture, for a while. */
  note(text) {
    this.message.textContent = text;
    this.message.hidden = false;
    clearTimeout(this.noted);
    this.noted = setTimeout(() => { this.message.hidden = true; }, 2500 + 40 * text.length);
  }

  // ---------------------------------------------------------------- for a source to fill in

  /** Moves the eye by what plays; whether anything does. */
  advance() { return false; }

  /** Shows it in a mode. */
  mode() {}

  /** Another picture is wanted. */
  wanted() {}

  /** Before the layers draw. */
  prepare() {}

  /** After they have. */
  shown() {}

  /** The point of the world that is seen at (x, y) in [0, 1], y downwards; null where there is nothing. */
  pointAt() { return null; }
}
