// The shared page: the file itself is the source. Its scenes are decoded in workers while the poster is shown; then
// everything is drawn here. Two scenes are seen by one eye, on either side of a divider.

import { listenDivider, showDivider } from "./divider.js";
import { Gizmo } from "./gizmo.js";
import { listenKeys } from "./keys.js";
import { KINDS } from "./kinds.js";
import { MarkLayer } from "./lines.js";
import { eyeMessage } from "./math.js";
import { Page } from "./page.js";
import { Probe } from "./probe.js";
import { inSoftware } from "./scene.js";
import { Seen } from "./seen.js";
import { Walk } from "./walk.js";

const $ = (id) => document.getElementById(id);
const TURNING = 0.3; // radians a second of a turn about the pivot, where there is no path to play
const COARSE = 0.5; // pixels that are drawn of those that are shown, each way, where the processor draws

class Shared extends Page {
  constructor(stage) {
    super($("canvas"), $("message"), false);
    const { gl } = this.scene, { state } = this;
    this.slow = inSoftware(gl);
    state.resolution = this.slow && stage.subjects.some(({ kind }) => kind === "field") ? COARSE : 1; // a field takes minutes
    this.playing = null; // a Walk, or "turn"
    this.done = stage.subjects.map(() => 0);
    this.layers = stage.subjects.map(({ kind }) => new KINDS[kind].layer(gl, (work) => this.wake(work)));
    if (stage.subjects.every(({ kind }) => kind === stage.subjects[0].kind)) for (const layer of this.layers.slice(1)) layer.like = this.layers[0];
    const seen = new Seen(gl, stage.seen, stage.bounds);
    for (const layer of this.layers) layer.seen = seen;
    this.read = new MarkLayer(gl);
    this.gizmo = new Gizmo($("gizmo"), { state, moved: () => this.touched() });
    this.scene.layers = [...this.layers, this.read, this.gizmo];
    this.probe = new Probe({ canvas: this.canvas, scene: this.scene, state }, this.read, $("probe"), {
      pointAt: (x, y) => this.pointAt(x, y), prepare: () => this.prepare(), wake: this.wake, taken: () => this.controls.swapped,
    });
    this.enter(stage);
    this.furnish(stage);
    this.home();
    this.follow();
    this.start();
    this.load(stage);
  }

  /** Decodes the scenes that lie in the file, and gives their text up. */
  async load(stage) {
    try {
      await Promise.all(stage.subjects.map(async (subject, i) => {
        const element = $(`scene-${i}`), text = element.textContent.trim();
        element.remove();
        const editor = KINDS.editor ? new KINDS.editor({ canvas: this.canvas, state: this.state, controls: this.controls, wake: this.wake, note: this.note, text, layer: this.layers[i], still: () => this.stop() }) : null;
        const parts = await KINDS[subject.kind].decode(text, subject, (share) => this.progress(i, share)).catch((error) => {
          throw new Error(stage.subjects.length > 1 ? `${subject.name}: ${error.message}` : error.message);
        });
        this.layers[i].load(parts, stage.depth_colours, this.state.size);
        editor?.loaded();
        this.progress(i, 1);
      }));
      if (this.slow) this.note("no graphics processor is used here: the picture is drawn coarsely while it moves, and slowly");
    } catch (error) {
      $("loading").hidden = true;
      this.say(error.message);
    }
    this.moved(true);
  }

  progress(index, share) {
    this.done[index] = share;
    $("share").value = this.done.reduce((sum, one) => sum + one, 0) / this.done.length;
  }

  /** A line of text that stays. */
  say(text) {
    this.note(text);
    clearTimeout(this.noted);
  }

  // ---------------------------------------------------------------- buttons and keys

  furnish(stage) {
    const { state } = this, option = (value, text) => Object.assign(document.createElement("option"), { value, textContent: text });
    const two = stage.subjects.length > 1, names = stage.cameras.map(({ name }, i) => option(i, name));
    $("views-part").hidden = stage.cameras.length < 2;
    $("views").replaceChildren(Object.assign(option("", "free"), { hidden: true }), ...names);
    $("views").onchange = () => this.view(Number($("views").value));
    $("previous").onclick = () => this.view(this.neighbour(-1));
    $("next").onclick = () => this.view(this.neighbour(1));
    $("home").onclick = () => { this.stop(); this.home(); this.moved(true); };
    $("play").onclick = () => this.play();
    $("modes").onchange = () => this.mode($("modes").value);
    if (stage.subjects.some(({ kind }) => kind !== "splats")) $("modes").querySelector("[value=rings]").remove();
    $("fade-line").hidden = !stage.seen;
    $("fade").onchange = () => { state.fade = $("fade").checked; this.moved(true); };
    $("full").hidden = !document.fullscreenEnabled;
    $("full").onclick = () => (document.fullscreenElement ? document.exitFullscreen() : document.documentElement.requestFullscreen());
    for (const name of ["about", "help"]) $(name).onclick = () => $(`${name}-text`).showModal();
    for (const [name, value] of stage.facts) {
      $("facts").append(Object.assign(document.createElement("dt"), { textContent: name }), Object.assign(document.createElement("dd"), { textContent: value }));
    }
    $("divider").hidden = $("labels").hidden = !two;
    if (two) [$("label-left").textContent, $("label-right").textContent] = stage.subjects.map(({ name }) => name);
    const split = () => { showDivider($("divider"), state.split); this.wake(); };
    listenDivider($("divider"), this.canvas, state, split);
    split();
    const keys = {
      r: () => $("home").click(), " ": () => this.play(), "[": () => $("previous").click(), "]": () => $("next").click(),
      f: () => { this.controls.hand = this.controls.hand === "orbit" ? "fly" : "orbit"; this.note(this.controls.hand); },
      i: () => $("about").click(), u: () => stage.seen && $("fade").click(), "?": () => $("help").click(), h: () => document.body.classList.toggle("bare"),
    };
    [7, 8, 9].forEach((key, axis) => { keys[key] = () => this.gizmo.turn(axis); });
    [...$("modes").options].forEach(({ value }, i) => { keys[i + 1] = () => this.mode(value); });
    listenKeys(this, keys);
  }

  mode(what) {
    if (![...$("modes").options].some(({ value }) => value === what)) return;
    this.state.what = $("modes").value = what;
    this.moved(true);
  }

  /** Stands in a view by its index. */
  view(index) {
    if (index === null || !this.state.stage.cameras[index]) return;
    this.stop();
    this.stand(index);
    this.moved(true);
  }

  /** Plays the path of the file, or turns about the pivot; a second time stops. */
  play() {
    if (this.playing) return this.stop();
    const { path } = this.state.stage;
    this.controls.swing = null;
    this.playing = path ? new Walk(path.eyes, path.seconds, performance.now()) : "turn";
    $("play").setAttribute("aria-pressed", "true");
  }

  stop() {
    this.playing = null;
    $("play").setAttribute("aria-pressed", "false");
  }

  // ---------------------------------------------------------------- what Page asks for

  advance(now, seconds) {
    if (!this.playing) return false;
    if (this.playing === "turn") this.controls.turn(TURNING * seconds, 0);
    else {
      this.state.eye = this.playing.at(now);
      if (this.playing.over(now)) this.stop();
    }
    return true;
  }

  touched() {
    this.stop();
    super.touched();
  }

  moved(keep = false) {
    super.moved(keep);
    if (!keep) this.state.camera = null;
    $("views").value = this.state.camera ?? "";
  }

  prepare() {
    const { split, what, resolution } = this.state, { layers } = this;
    layers.forEach((layer, i) => {
      Object.assign(layer, { shown: true, mode: what, resolution, behind: this.behind(i), fade: this.fades(i), deep: this.read.count > 0 });
      layer.span = layers.length === 1 ? [0, 1] : i ? [split, 1] : [0, split];
    });
  }

  shown() {
    if (this.layers.every((layer) => layer.begun)) document.body.classList.add("ready");
    if (this.state.what === "rings") this.note(this.layers.map(({ inView, loaded }) => `${inView ?? 0} of ${loaded?.count ?? 0} in view`).join("   "));
  }

  pointAt(x, y) {
    const layer = this.layers[this.layers.length > 1 && x > this.state.split ? 1 : 0];
    return layer.begun ? layer.pointAt(x, y, this.state.eye) : null;
  }

  look() {
    return { eye: eyeMessage(this.state.eye) };
  }

  /** Whether what is shown is what the eye sees now. */
  get rests() {
    return !this.controls.swing && !this.stale && !this.dirty && this.layers.every((layer) => layer.loaded && layer.settled(this.state.eye));
  }
}

function begin() {
  try {
    window.neuralfields = new Shared(JSON.parse($("stage").textContent));
  } catch (error) {
    $("loading").hidden = true;
    Object.assign($("message"), { textContent: error.message, hidden: false });
  }
}

if (typeof document !== "undefined") begin();
