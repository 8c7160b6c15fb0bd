// Keyframes, a path through them, and the files that the viewer makes: pictures, films, paths.

import { download } from "./download.js";
import { add, clamp, eyeFromPose, length, scale, sub, turned } from "./math.js";
import { Walk } from "./walk.js";

const $ = (id) => document.getElementById(id);
const PREVIEW = 30, MOST_KEYS = 400, AROUND = 8; // eyes a second of a preview; keyframes that the server takes, and of an orbit
const KEPT = "neuralfields keyframes"; // where they lie while the page is loaded anew

/** The keyframes that this tab had before it was loaded anew. */
function kept() {
  try {
    return JSON.parse(sessionStorage.getItem(KEPT) ?? "[]").filter(({ pose, fov }) => pose?.length === 12 && Number.isFinite(fov));
  } catch {
    return [];
  }
}

export class Films {
  constructor(app) {
    this.app = app;
    this.keys = kept();
    this.number = 0;
    this.playing = null;
    $("key").onclick = () => this.add();
    $("orbit").onclick = () => this.orbit();
    $("play").onclick = () => this.play();
    $("film").onclick = () => this.ask("film");
    $("path").onclick = () => this.ask("keys");
    $("still").onclick = () => this.still();
    $("cancel").onclick = () => app.connection.send({ type: "cancel" }) && this.done();
    app.connection.on("path", ({ number, eyes }) => number === this.number && this.start(eyes));
    app.connection.on("progress", ({ done, total }) => { $("job").hidden = false; $("job-progress").value = done / total; });
    app.connection.on("file", (file) => this.save(file));
    app.connection.on("closed", () => this.done());
    this.show();
  }

  size() {
    const side = (id, usual) => ($(id).value = clamp(Math.round($(id).valueAsNumber) || usual, 16, 16384));
    return { width: Number(side("width", 1280)), height: Number(side("height", 720)) };
  }

  add() {
    if (this.keys.length >= MOST_KEYS) return this.app.note(`a path has at most ${MOST_KEYS} keyframes`);
    this.keys.push(this.app.eyeMessage(this.app.state.eye));
    this.show();
  }

  show() {
    const button = (text, label, act) => Object.assign(document.createElement("button"), { type: "button", textContent: text, title: label, ariaLabel: label, onclick: act });
    $("keys").replaceChildren(...this.keys.map((eye, index) => {
      const item = document.createElement("li");
      item.append(
        button(index + 1, `look from keyframe ${index + 1}`, () => this.look(eye)),
        button("×", `remove keyframe ${index + 1}`, () => { this.keys.splice(index, 1); this.show(); }),
      );
      return item;
    }));
    sessionStorage.setItem(KEPT, JSON.stringify(this.keys));
    for (const id of ["play", "film", "path"]) $(id).disabled = this.keys.length < 2;
  }

  /** Looks from a keyframe, about a point as far ahead as the pivot is now. */
  look({ pose, fov, time }) {
    if (time !== undefined) this.app.time.set(time);
    const { state } = this.app, away = length(sub(state.pivot, state.eye.position)), eye = eyeFromPose(pose, fov);
    Object.assign(state, { eye, pivot: add(eye.position, scale(eye.forward, away)) });
    this.app.moved();
  }

  /** Keyframes all around the pivot, at the height and distance of the eye; the last is the first again. */
  orbit() {
    const { state } = this.app, { eye, pivot, up } = state, from = sub(eye.position, pivot);
    this.keys = [...Array(AROUND + 1).keys()].map((i) => {
      const about = (v) => turned(v, up, (2 * Math.PI * i) / AROUND);
      return this.app.eyeMessage({ ...eye, position: add(pivot, about(from)), right: about(eye.right), down: about(eye.down), forward: about(eye.forward) });
    });
    this.show();
  }

  get seconds() {
    return Math.min(Math.max($("seconds").valueAsNumber || 4, 0.1), 600);
  }

  /** Starts a preview in the page, or stops it. */
  play() {
    if (this.playing) return this.stop();
    if (this.keys.length < 2) return;
    const frames = Math.min(2000, Math.max(2, Math.round(this.seconds * PREVIEW)));
    this.tell({ type: "path", number: ++this.number, keys: this.keys, frames });
  }

  start(eyes) {
    this.playing = new Walk(eyes, this.seconds, performance.now());
    $("play").textContent = "Stop";
    this.app.wake();
  }

  stop() {
    this.playing = null;
    $("play").textContent = "Play";
  }

  /** Moves the eye along the path; false where nothing plays. */
  step(now) {
    if (!this.playing) return false;
    this.app.state.eye = this.playing.at(now);
    const time = this.playing.timeAt(now);
    if (time !== undefined) this.app.time.set(time);
    if (this.playing.over(now)) this.stop();
    return true;
  }

  ask(file) {
    const fps = Math.min(Math.max($("fps").valueAsNumber || 24, 1), 120);
    const sent = this.tell({
      type: "film", number: ++this.number, look: this.app.look(), keys: this.keys, seconds: this.seconds, fps,
      ...this.size(), subject: this.app.state.subjects[0], file,
    });
    if (sent && file === "film") { $("job").hidden = false; $("job-progress").value = 0; }
  }

  still() {
    const sent = this.tell({
      type: "still", number: ++this.number, look: this.app.look(), ...this.size(), subject: this.app.state.subjects[0],
    });
    if (sent) this.app.note(this.app.editor.choice?.gone ? "the server renders it, with what was deleted here" : "the picture is being rendered");
  }

  /** Sends a message; says so where nobody is there to hear it. */
  tell(message) {
    const sent = this.app.connection.send(message);
    if (!sent) this.app.note("not connected to the viewer: it cannot render now");
    return sent;
  }

  done() {
    $("job").hidden = true;
  }

  save({ name, mime, payload, width, height }) {
    download(name, new Blob([payload], { type: mime }));
    this.done();
    this.app.note(mime === "application/json" ? `${name}: the path is saved` : `${name}: ${width} × ${height}`);
  }
}
