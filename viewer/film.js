// Keyframes, a path through them, and the files that the viewer makes: pictures, films, paths.

import { download } from "./download.js";
import { add, clamp, duration, eyeFromPose, length, scale, sub, turned } from "./math.js";
import { Walk } from "./walk.js";

const $ = (id) => document.getElementById(id);
const PREVIEW = 30, MOST_KEYS = 400, AROUND = 8; // eyes a second of a preview; keyframes that the server takes, and of an orbit
const MOST_UNDONE = 50;
const KEPT = "neuralfields keyframes"; // where they lie while the page is loaded anew

/** The keyframes that this tab had before it was loaded anew. */
function kept() {
  try {
    return JSON.parse(sessionStorage.getItem(KEPT) ?? "[]").filter(({ pose, fov }) => pose?.length === 12 && Number.isFinite(fov));
  } catch {
    return [];
  }
}

/** Eyes of a file of keyframes (neuralfields/pictures/camera_paths.py); throws where it is something else. */
export function keysOf({ camera_path }, origin) {
  const keys = camera_path.map(({ camera_to_world: m, fov, render_time: time }) => {
    const pose = [0, 1, 2].flatMap((row) => [m[4 * row], -m[4 * row + 1], -m[4 * row + 2], m[4 * row + 3] - origin[row]]);
    if (m.length !== 16 || ![...pose, fov].every(Number.isFinite)) throw new Error("no keyframe");
    return typeof time === "number" ? { pose, fov, time } : { pose, fov };
  });
  if (!keys.length) throw new Error("no keyframes");
  return keys;
}

export class Films {
  /**
   * `look()` is what the page shows, as messages say it; `eyeOf(eye)` an eye so; `setTime(time)` sets what is shown of a scene
   * that moves; `cut()`: whether something was deleted in the page, which the server still draws. The rest as of a page.
   */
  constructor({ state, connection, moved, wake, note, look, eyeOf, setTime, cut }) {
    Object.assign(this, { state, connection, moved, wake, note, view: look, eyeOf, setTime, cut });
    this.keys = kept();
    Object.assign(this, { number: 0, playing: null, chosen: null, before: [], begun: 0 });
    $("key").onclick = () => this.add();
    $("key-replace").onclick = () => this.change((keys) => keys.splice(this.chosen, 1, this.here()));
    for (const [id, by] of [["key-earlier", -1], ["key-later", 1]]) $(id).onclick = () => this.shift(by);
    $("key-undo").onclick = () => { this.keys = this.before.pop() ?? this.keys; this.chosen = null; this.show(); };
    $("path-load").onclick = () => $("path-file").click();
    $("path-file").onchange = () => this.load($("path-file").files[0]);
    $("orbit").onclick = () => this.orbit();
    $("play").onclick = () => this.play();
    $("film").onclick = () => this.ask("film");
    $("path").onclick = () => this.ask("keys");
    $("still").onclick = () => this.still();
    $("cancel").onclick = () => connection.send({ type: "cancel" }) && this.done();
    connection.on("path", ({ number, eyes }) => number === this.number && this.start(eyes));
    connection.on("progress", ({ done, total }) => this.progress(done, total));
    connection.on("file", (file) => this.save(file));
    connection.on("closed", () => this.done());
    this.show();
  }

  size() {
    const side = (id, usual) => ($(id).value = clamp(Math.round($(id).valueAsNumber) || usual, 16, 16384));
    return { width: Number(side("width", 1280)), height: Number(side("height", 720)) };
  }

  here() {
    return this.eyeOf(this.state.eye);
  }

  /** Changes a copy of the keyframes; what they were before can be had back. */
  change(act) {
    const keys = [...this.keys];
    act(keys);
    if (keys.length > MOST_KEYS) return this.note(`a path has at most ${MOST_KEYS} keyframes`);
    this.before = [...this.before, this.keys].slice(-MOST_UNDONE);
    this.keys = keys;
    if (this.chosen >= keys.length) this.chosen = null;
    this.show();
  }

  /** Adds the eye: after the keyframe that is chosen, or at the end. */
  add() {
    const at = this.chosen === null ? this.keys.length : this.chosen + 1;
    if (this.chosen !== null && this.keys.length < MOST_KEYS) this.chosen = at;
    this.change((keys) => keys.splice(at, 0, this.here()));
  }

  /** Moves the chosen keyframe by one place. */
  shift(by) {
    const from = this.chosen, to = from + by;
    if (from === null || !this.keys[to]) return;
    this.chosen = to;
    this.change((keys) => keys.splice(to, 0, ...keys.splice(from, 1)));
  }

  /** Takes the keyframes of a file, as Save path writes it. */
  async load(file) {
    if (!file) return;
    try {
      const { origin } = this.state.stage.bounds, keys = keysOf(JSON.parse(await file.text()), origin);
      this.chosen = null;
      this.change((now) => now.splice(0, now.length, ...keys));
      this.note(`${keys.length} keyframes of ${file.name}`);
    } catch {
      this.note(`${file.name}: is no path of keyframes; Save path writes one`);
    }
    $("path-file").value = "";
  }

  /** How far a file is that the server makes. */
  progress(done, total) {
    const now = performance.now(), running = !$("job").hidden && done > 0;
    if (!done) this.begun = now;
    $("job").hidden = false;
    $("job-progress").value = done / total;
    const left = running ? ((now - this.begun) / done) * (total - done) : null;
    $("job-words").textContent = `frame ${Math.min(done + 1, total)} of ${total}${left === null ? "" : `, ${duration(left)} left`}`;
  }

  show() {
    const button = (text, label, act) => Object.assign(document.createElement("button"), { type: "button", textContent: text, title: label, ariaLabel: label, onclick: act });
    $("keys").replaceChildren(...this.keys.map((eye, index) => {
      const item = document.createElement("li");
      item.append(
        button(index + 1, `look from keyframe ${index + 1}`, () => { this.chosen = index; this.show(); this.look(eye); }),
        button("×", `remove keyframe ${index + 1}`, () => { this.chosen = null; this.change((keys) => keys.splice(index, 1)); }),
      );
      item.firstChild.setAttribute("aria-pressed", String(index === this.chosen));
      return item;
    }));
    sessionStorage.setItem(KEPT, JSON.stringify(this.keys));
    for (const id of ["play", "film", "path"]) $(id).disabled = this.keys.length < 2;
    $("key-part").hidden = this.chosen === null && !this.before.length;
    $("key-replace").disabled = this.chosen === null;
    $("key-earlier").disabled = !this.chosen;
    $("key-later").disabled = this.chosen === null || this.chosen === this.keys.length - 1;
    $("key-undo").disabled = !this.before.length;
  }

  /** Looks from a keyframe, about a point as far ahead as the pivot is now. */
  look({ pose, fov, time }) {
    if (time !== undefined) this.setTime(time);
    const { state } = this, away = length(sub(state.pivot, state.eye.position)), eye = eyeFromPose(pose, fov);
    Object.assign(state, { eye, pivot: add(eye.position, scale(eye.forward, away)) });
    this.moved();
  }

  /** Keyframes all around the pivot, at the height and distance of the eye; the last is the first again. */
  orbit() {
    const { state } = this, { eye, pivot, up } = state, from = sub(eye.position, pivot);
    const around = [...Array(AROUND + 1).keys()].map((i) => {
      const about = (v) => turned(v, up, (2 * Math.PI * i) / AROUND);
      return this.eyeOf({ ...eye, position: add(pivot, about(from)), right: about(eye.right), down: about(eye.down), forward: about(eye.forward) });
    });
    this.chosen = null;
    this.change((keys) => keys.splice(0, keys.length, ...around));
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
    this.wake();
  }

  stop() {
    this.playing = null;
    $("play").textContent = "Play";
  }

  /** Moves the eye along the path; false where nothing plays. */
  step(now) {
    if (!this.playing) return false;
    this.state.eye = this.playing.at(now);
    const time = this.playing.timeAt(now);
    if (time !== undefined) this.setTime(time);
    if (this.playing.over(now)) this.stop();
    return true;
  }

  ask(file) {
    const fps = Math.min(Math.max($("fps").valueAsNumber || 24, 1), 120);
    const sent = this.tell({
      type: "film", number: ++this.number, look: this.view(), keys: this.keys, seconds: this.seconds, fps,
      ...this.size(), subject: this.state.subjects[0], file,
    });
    if (sent && file === "film") { $("job").hidden = false; $("job-progress").value = 0; }
  }

  still() {
    const sent = this.tell({
      type: "still", number: ++this.number, look: this.view(), ...this.size(), subject: this.state.subjects[0],
    });
    if (sent && this.state.subjects.length > 1) this.next = this.state.subjects[1]; // after this one is there
    if (sent) this.note(this.cut() ? "the server renders it, with what was deleted here" : "the picture is being rendered");
  }

  /** Sends a message; says so where nobody is there to hear it. */
  tell(message) {
    const sent = this.connection.send(message);
    if (!sent) this.note("not connected to the viewer: it cannot render now");
    return sent;
  }

  done() {
    $("job").hidden = true;
  }

  save({ name, mime, payload, width, height }) {
    download(name, new Blob([payload], { type: mime }));
    this.done();
    const { next } = this;
    this.next = null;
    if (next && mime === "image/png") return this.tell({ type: "still", number: ++this.number, look: this.view(), ...this.size(), subject: next });
    this.note(mime === "application/json" ? `${name}: the path is saved` : `${name}: ${width} × ${height}`);
  }
}
