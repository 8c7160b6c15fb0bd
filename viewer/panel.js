// The panel and the keys: what they change in the state, and what they show of it.

import { listenDivider, showDivider } from "./divider.js";
import { listenKeys } from "./keys.js";
import { duration, short } from "./math.js";
import { figure } from "./probe.js";

const $ = (id) => document.getElementById(id);
const MODES = ["rgb", "depth", "opacity", "normals", "error", "rings"];
const LEGENDS = {
  depth: ["near", "far"], opacity: ["empty", "opaque"], error: ["none", "20 % or more"], normals: ["x, y, z", "of the world"],
};

export class Panel {
  /**
   * `parts` are those whose buttons and keys it has: local, editor, films, time, views, gizmo, and photo, the layer of the overlay.
   * `acts` are what a page does: redraw() of its lines, home(), frameAll(), level(), jump(camera), neighbour(step), box() that
   * is shown, and forget() of pictures. The rest as of a page.
   */
  constructor({ state, canvas, controls, wake, moved, note }, parts, acts) {
    Object.assign(this, { state, canvas, controls, wake, moved, note, acts }, parts);
    this.modes();
    this.cameraPart();
    this.overlays();
    this.cut();
    this.pictures();
    this.compare();
    this.keys();
    for (const group of document.querySelectorAll("[role=radiogroup]")) this.radios(group);
    $("hide").onclick = $("unhide").onclick = () => this.bare();
    $("help").onclick = () => $("help-text").showModal();
    $("all").onclick = () => acts.frameAll();
    for (const [id, step] of [["back", -1], ["forward", 1]]) $(id).onclick = () => this.views.go(step);
    $("handle").onclick = () => this.lower($("panel").classList.toggle("low"));
    if (window.matchMedia("(max-width: 720px)").matches) {
      for (const part of document.querySelectorAll("details")) part.open = false;
      $("panel").classList.add("low");
      this.lower(true);
    }
  }

  lower(low) {
    $("handle").setAttribute("aria-expanded", String(!low));
  }

  /** Hides the panel, or shows it again. */
  bare() {
    const bare = document.body.classList.toggle("bare");
    if (document.activeElement === document.body || document.activeElement.id.endsWith("hide")) $(bare ? "unhide" : "hide").focus();
  }

  /** Arrow keys go from one choice of a group to the next, as in every form; Tab passes by all but the chosen. */
  radios(group) {
    const tabs = () => { for (const one of group.children) one.tabIndex = one.getAttribute("aria-checked") === "true" ? 0 : -1; };
    group.addEventListener("keydown", (event) => {
      const step = { ArrowLeft: -1, ArrowUp: -1, ArrowRight: 1, ArrowDown: 1 }[event.key];
      if (!step) return;
      const there = [...group.children].filter((one) => !one.disabled && !one.hidden);
      const next = there[(there.indexOf(event.target) + step + there.length) % there.length];
      next.click();
      next.focus();
      event.preventDefault();
      event.stopPropagation();
    });
    new MutationObserver(tabs).observe(group, { subtree: true, attributeFilter: ["aria-checked"] });
    tabs();
  }

  changed() {
    this.acts.redraw();
    this.moved(true);
  }

  // ---------------------------------------------------------------- parts

  modes() {
    for (const button of $("modes").children) button.onclick = () => this.show(button.dataset.what);
  }

  show(what) {
    if (!this.can(what)) return;
    this.state.what = what;
    for (const button of $("modes").children) button.setAttribute("aria-checked", button.dataset.what === what);
    const legend = $("legend"), words = LEGENDS[what];
    legend.hidden = !words;
    legend.className = `legend ${what}`;
    if (words) [legend.children[1].textContent, legend.children[2].textContent] = words;
    this.changed();
  }

  /** Whether a mode is there: rings are drawn by the page alone. */
  can(what) {
    const { stage, subjects } = this.state;
    if (what === "rings") return Boolean(stage && this.local.made.splats && subjects.length === 1 && stage.subjects[subjects[0]].splats);
    return Boolean(stage?.modes.includes(what));
  }

  cameraPart() {
    for (const button of $("hands").children) button.onclick = () => this.hand(button.dataset.hand);
    this.hand("orbit");
    $("reset").onclick = () => { this.acts.home(); this.moved(true); };
    $("cameras").onchange = () => $("cameras").value && this.acts.jump(Number($("cameras").value));
    $("previous").onclick = () => this.neighbour(-1);
    $("next").onclick = () => this.neighbour(1);
    $("opacity").oninput = () => { this.photo.opacity = $("opacity").valueAsNumber; this.wake(); };
    $("fov").oninput = () => { this.state.eye = { ...this.state.eye, fov: $("fov").valueAsNumber }; this.moved(); };
    $("up").onchange = () => this.upwards($("up").value);
  }

  hand(name) {
    this.controls.hand = name;
    for (const button of $("hands").children) button.setAttribute("aria-checked", button.dataset.hand === name);
  }

  upwards(name) {
    const axis = "xyz".indexOf(name[1]);
    this.state.up = name === "auto" ? this.state.stage.up : [0, 1, 2].map((k) => (k === axis ? (name[0] === "-" ? -1 : 1) : 0));
    this.acts.level();
  }

  neighbour(step) {
    const index = this.acts.neighbour(step);
    if (index !== null) this.acts.jump(index);
  }

  overlays() {
    for (const name of ["cameras", "axes", "bounds", "points"])
      $(`show-${name}`).onchange = (event) => { this.state.show[name] = event.target.checked; this.acts.redraw(); };
  }

  cut() {
    const read = () => {
      const at = (name) => $(name).valueAsNumber;
      this.state.crop = $("crop").checked ? ["x", "y", "z"].map((k) => [at(`${k}0`), at(`${k}1`)].sort((a, b) => a - b)) : null;
      const axis = $("slice").value;
      this.state.slice = axis === "" ? null : { axis: Number(axis), at: at("slice-at"), flip: this.flipped };
      $("box").hidden = !$("crop").checked;
      if (this.state.stage) this.boxWords();
      $("slice-line").hidden = axis === "";
      if (this.state.stage) this.changed();
    };
    this.flipped = false;
    this.readCut = read;
    for (const id of ["crop", "slice"]) $(id).onchange = read;
    for (const id of ["x0", "x1", "y0", "y1", "z0", "z1", "slice-at"]) $(id).oninput = read;
    $("slice-flip").onclick = () => { this.flipped = !this.flipped; read(); };
    read();
  }

  /** Says the crop box in units of the scene, as `nf edit` takes it. */
  boxWords() {
    const box = this.acts.box();
    if (!box || !this.state.crop) return;
    $("box-now").textContent = "xyz".split("").map((name, k) => `${name} ${figure(box[0][k])} … ${figure(box[1][k])}`).join("\n");
    $("box-copy").onclick = () => {
      const option = `--keep-box=${box.flat().map(figure).join(",")}`;
      navigator.clipboard?.writeText(option).catch(() => {}); // where it may not, it can be read
      this.note(option);
    };
  }

  /** Whether the part that cuts is open: its box is drawn only then. */
  cutting() {
    return $("cut").open;
  }

  pictures() {
    $("cut").ontoggle = () => this.acts.redraw();
    $("resolution").onchange = () => { this.state.resolution = Number($("resolution").value); this.changed(); };
    $("drawn").value = this.state.drawn;
    $("drawn").onchange = () => {
      this.state.drawn = $("drawn").value;
      if (this.state.drawn !== "page" && this.state.what === "rings") this.show("rgb");
      this.names();
      this.changed();
    };
    $("fade").onchange = () => { this.state.fade = $("fade").checked; this.changed(); };
    $("background").onchange = () => { this.state.background = $("background").value; this.changed(); };
  }

  compare() {
    const choose = () => {
      this.state.subjects = $("right").value === "" ? [Number($("left").value)] : [Number($("left").value), Number($("right").value)];
      this.acts.forget();
      if (this.state.what === "rings" && !this.can("rings")) this.show("rgb");
      this.names();
      this.changed();
    };
    $("left").onchange = $("right").onchange = choose;
    listenDivider($("divider"), this.canvas, this.state, () => this.split());
  }

  // ---------------------------------------------------------------- what is shown

  begin(stage) {
    $("title").textContent = stage.subjects.map((subject) => subject.name).join(" · ");
    document.title = `${stage.subjects[0].name} – neuralfields`;
    for (const button of $("modes").children) button.disabled = !this.can(button.dataset.what);
    const errors = $("modes").querySelector("[data-what=error]"), rings = $("modes").querySelector("[data-what=rings]");
    const { local } = this, here = stage.subjects.map((_, i) => local.kindOf(i)).filter((kind) => local.made[kind]);
    rings.hidden = !here.includes("splats");
    $("drawn-line").hidden = !here.length;
    errors.title = errors.disabled ? "needs the photos of the capture" : "against the nearest photo, five times";
    const option = (value, text) => Object.assign(document.createElement("option"), { value, textContent: text });
    $("cameras").replaceChildren(option("", stage.cameras.length ? "free" : "none"), ...stage.cameras.map((camera, index) =>
      option(index, camera.name.split("/").at(-1) + (camera.held_out ? "  (held out)" : ""))));
    for (const id of ["cameras", "previous", "next"]) $(id).disabled = !stage.cameras.length;
    $("opacity-line").hidden = !stage.cameras.some((camera) => camera.photo);
    $("points-line").hidden = !stage.points;
    $("fade-line").hidden = !stage.seen;
    for (const name of Object.keys(this.state.show)) $(`show-${name}`).checked = this.state.show[name];
    const several = stage.subjects.filter((subject) => subject.rendered).length > 1;
    $("compare").hidden = !several;
    const choices = () => stage.subjects.flatMap((s, i) => (s.rendered ? [option(i, s.name)] : []));
    $("left").replaceChildren(...choices());
    $("right").replaceChildren(option("", "nothing"), ...choices());
    $("left").value = this.state.subjects[0];
    $("right").value = this.state.subjects[1] ?? "";
    $("strip").textContent = stage.modes.length ? "" : `${stage.cameras.length} cameras`;
    $("modes-part").hidden = !stage.modes.length;
    if (stage.modes.length) this.show(this.state.what);
    $("sounds").replaceChildren(...stage.subjects.flatMap((subject, i) => (subject.sound ? [this.sound(subject.name, i)] : [])));
    this.names();
    this.camera();
    this.facts(null);
  }

  /** Controls to listen to a subject. */
  sound(name, index) {
    const audio = Object.assign(document.createElement("audio"), { controls: true, preload: "none", src: new URL(`sound/${index}`, document.baseURI) });
    audio.setAttribute("aria-label", `Listen to ${name}`);
    return audio;
  }

  names() {
    const { stage, subjects } = this.state, both = subjects.length > 1 || this.local.wanted !== null && this.state.drawn === "both";
    $("labels").hidden = $("divider").hidden = !both;
    [$("label-left").textContent, $("label-right").textContent] = subjects.length > 1 ? subjects.map((index) => stage.subjects[index].name) : ["this device", "server"];
    $("modes").querySelector("[data-what=rings]").disabled = !this.can("rings");
    const { local } = this, why = this.state.drawn === "server" || local.wanted === null || stage.subjects[subjects[0]].stands_in ? local.why : "";
    $("drawn-why").hidden = !why;
    $("drawn-why").textContent = why.includes("stand in") || why.includes("stands in") ? why : `${why}: the server draws`;
    this.editor.begin();
    this.split();
  }

  split() {
    showDivider($("divider"), this.state.split);
    this.wake();
  }

  camera() {
    $("cameras").value = this.state.camera ?? "";
  }

  /** The eye moved: away from its camera, if it stood in one. */
  eye() {
    const { eye, tight } = this.state;
    if (!tight && this.state.camera !== null) {
      this.state.camera = null;
      this.camera();
      this.acts.redraw();
    }
    if (!tight) $("hint").classList.add("seen");
    $("fov").value = eye.fov;
    $("fov-now").textContent = `${Math.round(eye.fov)}°`;
  }

  /** The legend of depth in units of the scene: what its colours span. */
  depthScale(near, far) {
    const words = $("legend").children, text = [`near ${figure(near)}`, `${figure(far)} far`];
    if (words[1].textContent !== text[0] || words[2].textContent !== text[1]) [words[1].textContent, words[2].textContent] = text;
  }

  frame(frame, latency) {
    if (frame.what === "depth" && this.state.what === "depth" && !frame.side) this.depthScale(...frame.depth.scale);
    $("strip").textContent = `${frame.width} × ${frame.height}   ${duration(frame.ms)}`;
    if (latency !== null) this.latency = latency;
    this.facts(frame);
  }

  facts(frame) {
    const { stage } = this.state, list = document.createElement("dl");
    const row = (parent, name, value) => {
      const dt = document.createElement("dt"), dd = document.createElement("dd");
      [dt.textContent, dd.textContent] = [name, value];
      parent.append(dt, dd);
    };
    const parts = stage.subjects.map((subject) => {
      const part = document.createElement("dl");
      if (stage.subjects.length > 1) {
        const name = document.createElement("dt");
        name.className = "name";
        name.textContent = subject.name;
        part.append(name);
      }
      for (const [name, value] of Object.entries(subject.facts)) row(part, name, value);
      return part;
    });
    if (frame) {
      row(list, "picture", `${frame.width} × ${frame.height}`);
      row(list, "this frame", duration(frame.ms));
      if (this.latency !== undefined) row(list, "move to picture", duration(this.latency));
      row(list, "rays", `${short(frame.rays_per_second)}/s`);
      parts.push(list);
    }
    $("facts").replaceChildren(...parts);
  }

  // ---------------------------------------------------------------- keys

  keys() {
    const { acts, controls, films, gizmo, time, views } = this;
    const toggle = (name) => () => { $(`show-${name}`).click(); };
    const keys = {
      f: () => this.hand(controls.hand === "orbit" ? "fly" : "orbit"), r: () => $("reset").click(),
      "[": () => this.neighbour(-1), "]": () => this.neighbour(1), v: () => this.overlay(),
      c: toggle("cameras"), x: toggle("axes"), b: toggle("bounds"), p: toggle("points"),
      k: () => films.add(), " ": () => (time.times ? time.play(!time.playing) : films.play()), g: () => films.still(),
      h: () => this.bare(), z: () => acts.frameAll(), "?": () => $("help").click(),
      u: () => $("fade-line").hidden || $("fade").click(), ",": () => views.go(-1), ".": () => views.go(1),
    };
    [7, 8, 9].forEach((key, axis) => { keys[key] = () => gizmo.turn(axis); });
    MODES.forEach((what, index) => { keys[index + 1] = () => this.show(what); });
    listenKeys({ state: this.state, controls }, keys);
  }

  /** Shows the photo over the picture, or no more. */
  overlay() {
    $("opacity").value = this.photo.opacity > 0 ? 0 : 1;
    $("opacity").oninput();
  }
}
