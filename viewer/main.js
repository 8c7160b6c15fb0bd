// The live page: the viewer's server is its source, through a connection; a panel changes what is shown.
//
//   state.eye moves  ->  a view message  ->  frames, coarse to fine  ->  the picture layer  ->  seen

import { Connection } from "./connection.js";
import { Editor } from "./editor.js";
import { Films } from "./film.js";
import { Fit } from "./fit.js";
import { Gizmo } from "./gizmo.js";
import { Handles } from "./handles.js";
import { MarkLayer } from "./lines.js";
import { Local } from "./local.js";
import { PhotoLayer, COLOURS, axes, box, frusta } from "./marks.js";
import { eyeFromPose, eyeMessage, sameEye, short, tidy, lookAt, sub, length, cross, unit, viewProjection, add, scale, dot, tangent } from "./math.js";
import { Page } from "./page.js";
import { Panel } from "./panel.js";
import { Probe } from "./probe.js";
import { PictureLayer } from "./picture.js";
import { ThumbLayer, cameraAt } from "./thumbs.js";
import { Time } from "./time.js";
import { Views } from "./views.js";

const $ = (id) => document.getElementById(id);
const MOST_PENDING = 200;

class App extends Page {
  constructor() {
    super($("canvas"), $("message"));
    const { gl } = this.scene;
    this.picture = new PictureLayer(gl);
    this.lines = new MarkLayer(gl);
    this.points = new MarkLayer(gl, "POINTS", 2);
    this.photo = new PhotoLayer(gl);
    this.read = new MarkLayer(gl);
    this.grips = Object.assign(new MarkLayer(gl, "POINTS", 9), { over: true });
    this.thumbs = new ThumbLayer(gl);
    this.scene.layers = [this.picture, this.thumbs, this.photo, this.points, this.lines, this.read, this.grips];
    Object.assign(this.state, {
      show: { cameras: false, axes: false, bounds: false, points: false }, crop: null, slice: null, drawn: "page",
    });
    this.number = 0;
    this.pending = new Map(); // number of a view -> when it was asked for
    this.latency = null;
    this.kinds = []; // what pictures show, but for the eye, and the number of the first view of that
    this.connection = new Connection();
    this.furnish();
    this.listen();
    this.start();
  }

  /** Makes the parts: each is given what it takes of the page, and no more. */
  furnish() {
    const { state, scene, canvas, controls, connection, wake, moved, note, photo } = this, { gl } = scene;
    const page = { state, canvas, controls, wake, moved, note }, box = () => this.box();
    this.local = new Local({
      canvas, gl, state, connection, wake, moved, note, box, behind: (index) => this.behind(index), fades: (index) => this.fades(index),
      covered: () => this.covered, pictured: () => this.pictured, moment: () => this.time.share,
      taken: (subject) => this.editor.loaded(subject), failed: () => this.panel.names(),
    });
    scene.layers.splice(1, 0, ...this.local.layers);
    this.editor = new Editor({ ...page, local: this.local, box });
    this.time = new Time({
      state, moved, wake, drawn: () => this.local.plays, ask: (time) => this.ask(time), display: (picture) => this.display(picture),
    });
    this.films = new Films({
      state, connection, moved, wake, note, look: () => this.look(), eyeOf: (eye) => this.eyeMessage(eye),
      setTime: (time) => this.time.set(time), cut: () => Boolean(this.editor.choice?.gone),
    });
    this.fit = new Fit(connection);
    this.views = new Views({ state, controls, shown: moved });
    this.probe = new Probe({ canvas, scene, state }, this.read, $("probe"), {
      pointAt: (x, y) => this.pointAt(x, y), prepare: () => this.prepare(), wake,
      taken: (x, y, further) => this.editor.brush.on || (!further && this.stepInto(x, y)),
    });
    this.handles = new Handles({ canvas, scene, state }, this.grips, {
      whole: () => this.whole(), shown: () => this.panel.cutting(), free: () => !this.editor.brush.on, changed: () => this.panel.readCut(),
    });
    this.gizmo = new Gizmo($("gizmo"), { state, moved });
    scene.layers.push(this.gizmo);
    const { local, editor, films, time, views, gizmo } = this;
    this.panel = new Panel(page, { local, editor, films, time, views, gizmo, photo }, {
      redraw: () => this.redraw(), home: () => this.home(), frameAll: () => this.frameAll(), level: () => this.level(),
      jump: (camera) => this.jump(camera), neighbour: (step) => this.neighbour(step), box, forget: () => this.picture.clear(),
    });
  }

  listen() {
    const { connection } = this;
    connection.on("open", () => { $("dot").className = "on"; $("dot").title = "connected"; $("lost").hidden = true; });
    connection.on("closed", ({ reason }) => {
      $("dot").className = "off";
      $("dot").title = "the viewer is not there any more";
      $("lost").hidden = false;
      if (reason) this.note(reason);
    });
    connection.on("stage", (stage) => this.begin(stage));
    connection.on("frame", (frame) => this.receive(frame));
    connection.on("note", ({ text }) => this.note(text));
    connection.on("thumb", async ({ camera, payload }) => {
      await this.thumbs.take(camera, new Blob([payload], { type: "image/jpeg" }));
      this.wake();
    });
    connection.on("points", ({ count, coloured, payload }) => {
      const places = new Float32Array(payload, 0, 3 * count), values = [], colours = coloured && new Uint8Array(payload, 12 * count);
      const colourOf = (i) => (colours ? [0, 1, 2].map((k) => colours[3 * i + k] / 255) : [0.62, 0.74, 0.86]);
      for (let i = 0; i < count; i++) values.push(places[3 * i], places[3 * i + 1], places[3 * i + 2], ...colourOf(i), coloured ? 1 : 0.8);
      this.points.set(this.scene.gl, values);
      this.wake();
    });
    connection.on("photo", async ({ camera, mime, payload }) => {
      const bitmap = await createImageBitmap(new Blob([payload], { type: mime }), { ...BITMAP, premultiplyAlpha: "premultiply" });
      if (camera !== this.photo.wanted) return; // the eye went on to another camera while this photo was on its way
      this.photo.set(this.scene.gl, this.state.stage.cameras[camera], this.frustumSize(), bitmap);
      this.wake();
    });
  }

  /** A stage has come: at first, and after every new connection. The eye stays where it is the second time. */
  begin(stage) {
    const { state } = this, again = state.stage !== null;
    this.enter(stage);
    if (!again) {
      state.subjects = stage.subjects.length > 1 && stage.subjects[1].rendered ? [0, 1] : [0];
      const bare = !stage.subjects.some((subject) => subject.rendered);
      Object.assign(state.show, { cameras: bare, points: bare });
      if (bare) this.panel.overlay(); // in a camera there is nothing else to see
      this.home();
    }
    this.local.reset();
    this.thumbs.begin(stage.cameras, stage.cameras.length ? this.frustumSize() : 1);
    this.thumbed = false;
    $("gizmo").hidden = stage.subjects.some(({ kind }) => kind === "signal");
    this.panel.begin(stage);
    this.time.begin(stage.times, state.time ?? stage.eye.time);
    for (const note of stage.notes) this.note(note);
    if (!again) this.follow();
    this.redraw();
    this.moved(true);
  }

  home() {
    super.home();
    if (!this.state.stage.subjects.some((subject) => subject.rendered)) this.overlook();
    this.overlay(this.state.camera);
    this.panel.camera();
    this.redraw();
  }

  /** Asks for the photo of a camera, to lie over the picture; null: none does. */
  overlay(index) {
    const photo = Boolean(this.state.stage.cameras[index]?.photo);
    Object.assign(this.photo, { camera: null, wanted: photo ? index : null });
    if (photo) this.connection.send({ type: "photo", camera: index });
  }

  /** The camera whose photo is seen at (x, y) in [0, 1]; null where cameras are not shown. */
  cameraAt(x, y) {
    const { state, scene, canvas } = this, matrix = viewProjection(state.eye, canvas.width / canvas.height, ...scene.reach);
    return state.show.cameras ? cameraAt(state.stage.cameras, this.frustumSize(), matrix, x, y, state.camera) : null;
  }

  /** Jumps to the camera whose photo is seen there; whether there is one. */
  stepInto(x, y) {
    const camera = this.cameraAt(x, y);
    if (camera !== null) this.jump(camera);
    return camera !== null;
  }

  /** All of the scene, from the side that the eye is on. */
  frameAll() {
    const { state } = this, { stage } = state, home = stage.eye.pose, at = [home[3], home[7], home[11]];
    const far = Math.max(length(sub(at, stage.pivot)), stage.cameras.length ? 0.5 * state.size : 0);
    const fov = Math.max(state.eye.fov, 40);
    const away = [0, 1, 2].map((k) => stage.pivot[k] - far * state.eye.forward[k]);
    Object.assign(state, { pivot: stage.pivot, eye: tidy({ ...state.eye, position: away, fov }) });
    this.moved();
  }

  /** Stands outside of all cameras, so that a capture is seen as a whole. */
  overlook() {
    const { state, canvas } = this, places = [state.pivot, ...state.stage.cameras.map((camera) => eyeFromPose(camera.pose, 0).position)];
    const middle = scale(places.slice(1).reduce(add, [0, 0, 0]), 1 / Math.max(1, places.length - 1)), back = sub(middle, state.pivot);
    const level = sub(back, scale(state.up, dot(back, state.up))), sideways = cross(state.up, [1, 0, 0].map((v, k) => (Math.abs(state.up[0]) < 0.9 ? v : Number(k === 1))));
    const behind = unit(length(level) > 0.1 * state.size ? add(unit(level), scale(unit(cross(state.up, level)), 0.6)) : sideways);
    const eye = lookAt(add(behind, scale(state.up, 0.55)), [0, 0, 0], state.up, 50), axes = [eye.right, eye.down, eye.forward];
    const spans = axes.map((axis) => places.map((place) => dot(place, axis))).map((values) => [Math.min(...values), Math.max(...values)]);
    const centre = axes.reduce((sum, axis, k) => add(sum, scale(axis, (spans[k][0] + spans[k][1]) / 2)), [0, 0, 0]);
    const [w, h, d] = spans.map(([low, high]) => (high - low) / 2 + 1.5 * this.frustumSize()), ty = tangent(50);
    const far = d + Math.max(h / ty, w / (ty * (canvas.clientWidth / Math.max(1, canvas.clientHeight))));
    Object.assign(state, { eye: { ...eye, position: sub(centre, scale(eye.forward, far)) }, pivot: centre, tight: null, camera: null });
  }

  /** Stands in a camera, with its photo over the picture where there is one. */
  jump(index) {
    const camera = this.state.stage.cameras[index];
    if (!camera) return;
    this.stand(index);
    this.time.follow();
    this.overlay(index);
    this.panel.camera();
    this.redraw();
    this.moved(true);
  }

  mode(what) {
    this.panel.show(what);
  }

  moved(keep = false) {
    super.moved(keep);
    this.views.moved();
    this.panel.eye();
  }

  resized() {
    super.resized();
    this.panel.split();
  }

  /** What the page shows, as messages say it. */
  look() {
    const { what, background, eye, fade, stage } = this.state;
    return { eye: this.eyeMessage(eye), what: what === "rings" ? "rgb" : what, background, crop: this.box(), fade: fade && Boolean(stage?.seen) };
  }

  /** An eye as messages hold it, at the time that is shown. */
  eyeMessage(eye, time = this.state.time) {
    return this.state.stage?.times ? { ...eyeMessage(eye), time } : eyeMessage(eye);
  }

  /** The box that is left by crop and slice, as two corners in the world; null for everything. */
  box() {
    const { crop, slice, stage } = this.state;
    if (!crop && !slice) return null;
    const whole = this.whole(), far = crop ? 0 : stage.bounds.side * 2 ** stage.bounds.cascades * 4;
    const low = whole.low.map((v, k) => (crop ? v + crop[k][0] * stage.bounds.side : v - far));
    const high = whole.low.map((v, k) => (crop ? v + crop[k][1] * stage.bounds.side : v + far));
    if (slice) {
      const at = whole.low[slice.axis] + slice.at * stage.bounds.side;
      if (slice.flip) low[slice.axis] = Math.max(low[slice.axis], at);
      else high[slice.axis] = Math.min(high[slice.axis], at);
    }
    return [low, high];
  }

  whole() {
    const { centre, side } = this.state.stage.bounds;
    return { low: centre.map((v) => v - side / 2), high: centre.map((v) => v + side / 2) };
  }

  frustumSize() {
    const places = this.state.stage.cameras.map((camera) => eyeFromPose(camera.pose, 0).position);
    const away = places.map((place) => length(sub(place, this.state.stage.pivot))).sort((a, b) => a - b);
    return 0.09 * (away[Math.floor(away.length / 2)] || this.state.size);
  }

  /** Makes the lines anew. */
  redraw() {
    const { state } = this, { stage, show } = state;
    if (!stage) return;
    const { low, high } = this.whole(), lines = [];
    if (show.cameras) lines.push(...frusta(stage.cameras, this.frustumSize(), state.camera));
    Object.assign(this.thumbs, { shown: show.cameras, hidden: state.camera });
    if (show.cameras && !this.thumbed) this.thumbed = this.connection.send({ type: "thumbs" });
    if (show.axes) lines.push(...axes(stage.bounds.centre, 0.5 * stage.bounds.side));
    if (show.bounds) lines.push(...box(low, high, COLOURS.bounds));
    const cut = this.box();
    if (cut && this.panel.cutting()) {
      const clip = (corner, pick) => corner.map((v, k) => pick(v, pick === Math.max ? low[k] : high[k]));
      const from = clip(cut[0], Math.max), to = clip(cut[1], Math.min);
      if (from.every((v, k) => v < to[k])) lines.push(...box(from, to, COLOURS.cut));
    }
    this.lines.set(this.scene.gl, lines);
    this.handles.redraw();
    this.points.shown = show.points;
    this.wake();
  }

  /** Asks the server for a picture where it draws. */
  wanted() {
    const { state, canvas } = this;
    if (!state.stage || !state.stage.modes.length || !this.local.needsServer || this.time.playing) return;
    const width = Math.max(1, Math.round(canvas.width * state.resolution));
    const height = Math.max(1, Math.round(canvas.height * state.resolution));
    this.request(this.look(), width, height);
  }

  /** Asks for a picture of the film at a time. */
  ask(time) {
    const { eye } = this.state;
    this.request({ ...this.look(), eye: this.eyeMessage(eye, time) }, ...this.time.size(this.canvas.width, this.canvas.height));
  }

  request(look, width, height) {
    const { state } = this, view = { type: "view", number: ++this.number, look, width, height, subjects: state.subjects };
    if (!this.connection.send(view)) return;
    const { eye, ...kind } = look, text = JSON.stringify([kind, state.subjects, eye.time]); // another time is another picture
    if (this.kinds.at(-1)?.text !== text) this.kinds = [...this.kinds.slice(-20), { from: this.number, text }];
    $("dot").classList.add("busy");
    this.pending.set(this.number, performance.now());
    if (this.pending.size > MOST_PENDING) this.pending.delete(this.pending.keys().next().value);
  }

  /** Decodes a frame; frames are shown in the order in which they were sent, whichever is decoded first. */
  receive(frame) {
    const { payload, depth } = frame, before = this.received;
    const decoded = createImageBitmap(new Blob([payload.slice(depth.bytes)], { type: "image/jpeg" }), BITMAP);
    this.received = (async () => {
      const bitmap = await decoded;
      await before?.catch(() => {}); // it told what was wrong with it
      this.take(frame, bitmap, new Uint16Array(payload.slice(0, depth.bytes)));
    })();
  }

  take(frame, bitmap, values) {
    const asked = this.pending.get(frame.number);
    if (asked !== undefined) this.latency = performance.now() - asked;
    for (const number of this.pending.keys()) if (number <= frame.number) this.pending.delete(number);
    const picture = { frame, bitmap, values };
    if (this.time.take(picture, this.number)) return this.connection.send({ type: "seen", number: frame.frame }); // it is drawn later
    this.seen = frame.frame;
    this.display(picture);
    bitmap.close();
    this.panel.frame(frame, asked === undefined ? null : this.latency);
    if (frame.last && frame.number === this.number) $("dot").classList.remove("busy");
    this.wake();
  }

  /** Puts a picture on the canvas. */
  display({ frame, bitmap, values }) {
    const eye = tidy(eyeFromPose(frame.eye.pose, frame.eye.fov)), kind = this.kinds.findLast(({ from }) => from <= frame.number)?.text;
    this.picture.take(this.scene.gl, frame, eye, bitmap, values, kind);
    this.wake();
  }

  advance(now, seconds) {
    if (this.time.playing) this.time.tick(seconds, JSON.stringify([{ ...this.look(), eye: eyeMessage(this.state.eye) }, this.state.subjects, this.canvas.width, this.canvas.height]));
    return this.films.step(now);
  }

  prepare() {
    const { what, pivot, subjects } = this.state;
    this.picture.pivot = pivot;
    // Beside a picture that is carried along there is what its own edges mostly show.
    this.picture.behind = subjects.map((index) => (what === "opacity" || what === "error" ? DARK : this.behind(index)));
    this.picture.split = this.state.subjects.length > 1 ? this.state.split : null;
    this.local.prepare();
  }

  shown() {
    if (this.local.shows) {
      $("strip").textContent = this.local.words();
      if (this.state.what === "depth" && this.local.layer.logs) this.panel.depthScale(...this.local.layer.logs.map(Math.exp));
    }
    if (this.seen) this.connection.send({ type: "seen", number: this.seen });
    this.seen = null;
  }

  /** Whether anything lies over the picture that it hides where it is nearer. */
  get covered() {
    const { lines, read, points, photo, thumbs } = this;
    return lines.count + read.count > 0 || (points.shown && points.count > 0) || photo.opacity > 0 || thumbs.shown;
  }

  pointAt(x, y) {
    return this.local.shows ? this.local.layer.pointAt(x, y, this.state.eye) : this.picture.pointAt(x, y);
  }

  /** Whether the picture at full resolution is that of the eye as it is now. */
  get rests() {
    if (this.controls.swing) return false;
    if (this.local.needsServer) return this.pictured;
    return !this.stale && !this.dirty && this.local.layer.settled(this.state.eye);
  }

  /** Whether the server's picture at full resolution is that of the eye as it is now. */
  get pictured() {
    const { header, eye } = this.picture.sides[0];
    return Boolean(header && header.last && header.number === this.number && !this.stale && sameEye(eye, this.state.eye));
  }

  get figures() {
    const { header } = this.picture.sides[0];
    return header ? { ms: header.ms, rays: short(header.rays_per_second) } : null;
  }
}

const DARK = [0.02, 0.02, 0.02];
const BITMAP = { premultiplyAlpha: "none", colorSpaceConversion: "none" };

try {
  window.neuralfields = new App();
} catch (error) {
  $("message").textContent = error.message;
  $("message").hidden = false;
}
