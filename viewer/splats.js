// Gaussians drawn in the visitor's own GPU: sorted in a worker, blended farthest first into half floats, then shown.
//
// While the eye moves, what was sorted last is drawn; a sort takes some hundredths of a second and is followed by the next
// as long as the eye's place or direction differ from the sorted ones. A moving picture has as many pixels as the GPU was
// measured to blend in some milliseconds; the whole one follows at rest, so many Gaussians at a time, and is shown when
// it is done.

import { Fence } from "./fence.js";
import { add, clamp, length, scale, sub, tangent } from "./math.js";
import { bind, inSoftware, nearest, program } from "./scene.js";
import { ACROSS, SHOW_FRAGMENT, SPLAT_FRAGMENT, SPLAT_VERTEX, WHOLE_VERTEX, placeFragment } from "./splat_shaders.js";
import { SplatTarget } from "./splat_target.js";
import { Seen } from "./seen.js";
import { startWorker } from "./workers.js";

const MODES = { rgb: 0, rings: 0, depth: 1, opacity: 2, normals: 3 };
const HEADER = 64, RANGES = 64, MOTION = 16, FAR = 3e38, MAP = 256;
const MOVING = 14, BAND = 30, REST = 120; // milliseconds: of a moving picture, of a part of a whole one; until the eye rests
const LEAST = 0.25; // pixels of a moving picture, each way, of those of a whole one

const same = (a, b) => a[0] === b[0] && a[1] === b[1];

/** The parts of packed Gaussians (neuralfields/serving/splats.py); throws where they are something else. */
export function unpack(buffer) {
  const view = new DataView(buffer), word = (i) => view.getUint32(4 * i, true);
  if (buffer.byteLength < HEADER + RANGES || word(0) !== 0x5053464e || word(1) !== 1) throw new Error("no Gaussians of this layout");
  const count = word(2), many = word(3), texels = Math.ceil((3 * (many - 1)) / 16);
  const moves = Boolean(word(5) & 2), still = HEADER + RANGES + count * (32 + 16 * texels);
  if (buffer.byteLength !== still + (moves ? 2 * MOTION * count : 0)) throw new Error("Gaussians are cut short");
  const core = new Uint32Array(buffer, HEADER + RANGES, 8 * count);
  const rest = new Uint32Array(buffer, HEADER + RANGES + 32 * count, 4 * texels * count);
  const floats = new Float32Array(core.buffer, core.byteOffset, core.length), means = new Float32Array(3 * count);
  for (let i = 0; i < count; i++) for (let k = 0; k < 3; k++) means[3 * i + k] = floats[8 * i + k];
  const ranges = new Float32Array(buffer, HEADER, 16), motion = moves ? new Uint16Array(buffer, still) : null;
  return { motion, moment: null, count, many, version: word(4), antialiased: Boolean(word(5) & 1), near: view.getFloat32(24, true), ranges, core, rest, means };
}

export class SplatLayer {
  /** `wake` is called when another picture can be shown; wake(true) when it can go on with work(). Throws where the GPU cannot blend half floats. */
  constructor(gl, wake) {
    if (!gl.getExtension("EXT_color_buffer_float") && !gl.getExtension("EXT_color_buffer_half_float"))
      throw new Error("this GPU blends no floating point");
    Object.assign(this, { gl, wake, shown: false, loaded: null, span: [0, 1], mode: "rgb", behind: [1, 1, 1], box: null, resolution: 1 });
    this.choice = null; // what is selected and deleted (choice.js)
    this.like = null; // another layer, whose range of depth is taken
    Object.assign(this, { seen: new Seen(gl), fade: false }); // where cameras looked; whether what they did not see is faded
    this.deep = false; // whether what is drawn over it shall be hidden behind it
    Object.assign(this, { unit: 1, drawn: 0, orders: 0, inView: null, sorted: null, asked: null, gone: 0 });
    Object.assign(this, { share: inSoftware(gl) ? LEAST : 1, pace: 100, cold: true, key: null, since: 0, job: null });
    this.show = program(gl, WHOLE_VERTEX, SHOW_FRAGMENT);
    this.splat = program(gl, SPLAT_VERTEX, SPLAT_FRAGMENT);
    this.empty = gl.createVertexArray();
    [this.core, this.rest, this.order, this.shapes, this.looks, this.colours, this.marks] = [...Array(7)].map(() => gl.createTexture());
    this.placed = gl.createFramebuffer();
    this.words(this.marks, gl.R8UI, [1, 1], gl.RED_INTEGER, gl.UNSIGNED_BYTE, null);
    [this.front, this.back, this.dot] = [new SplatTarget(gl), new SplatTarget(gl), new SplatTarget(gl)];
    this.fence = new Fence(gl);
    this.worker = startWorker("sorter");
    this.worker.onmessage = ({ data }) => this.take(data);
  }

  /** Takes Gaussians as `unpack` gives them, the colours of depth (768 numbers), and the scene's size. */
  load(parts, colours, unit) {
    const { gl } = this, rows = Math.max(1, Math.ceil(parts.count / ACROSS));
    if (Math.max(2, parts.rest.length / 4 / Math.max(1, parts.count)) * rows > gl.getParameter(gl.MAX_TEXTURE_SIZE))
      throw new Error("more Gaussians than this GPU's textures hold");
    if (!this.loaded || this.loaded.many !== parts.many)
      Object.assign(this, { place: program(gl, WHOLE_VERTEX, placeFragment(parts.many)), cold: true });
    this.fill(this.core, parts.core);
    this.fill(this.rest, parts.rest);
    gl.pixelStorei(gl.UNPACK_ALIGNMENT, 1);
    this.words(this.colours, gl.RGB8, [256, 1], gl.RGB, gl.UNSIGNED_BYTE, new Uint8Array(colours));
    gl.bindFramebuffer(gl.FRAMEBUFFER, this.placed);
    [this.shapes, this.looks].forEach((texture, i) => {
      this.words(texture, gl.RGBA32UI, [ACROSS, rows], gl.RGBA_INTEGER, gl.UNSIGNED_INT, null);
      gl.framebufferTexture2D(gl.FRAMEBUFFER, gl.COLOR_ATTACHMENT0 + i, gl.TEXTURE_2D, texture, 0);
    });
    gl.drawBuffers([gl.COLOR_ATTACHMENT0, gl.COLOR_ATTACHMENT1]);
    gl.bindFramebuffer(gl.FRAMEBUFFER, null);
    const { means, rest, ...kept } = parts;
    Object.assign(this, { loaded: kept, unit, sorted: null, drawn: 0, choice: null, gone: 0, job: null, key: null });
    this.worker.postMessage({ means }, [means.buffer]);
    this.asked = null;
    this.wake();
  }

  /** Shows what is selected and leaves out what is deleted. */
  mark(choice) {
    const { gl } = this, { marks } = choice;
    gl.pixelStorei(gl.UNPACK_ALIGNMENT, 1);
    this.words(this.marks, gl.R8UI, [ACROSS, marks.length / ACROSS], gl.RED_INTEGER, gl.UNSIGNED_BYTE, marks);
    if (choice.gone !== this.gone) this.worker.postMessage({ marks });
    Object.assign(this, { choice, gone: choice.gone });
  }

  /** Gives a data texture its contents. */
  words(texture, format, size, channels, type, values) {
    const { gl } = this;
    gl.bindTexture(gl.TEXTURE_2D, texture);
    nearest(gl);
    gl.texImage2D(gl.TEXTURE_2D, 0, format, ...size, 0, channels, type, values);
  }

  /** Fills a data texture row by row; the last row may be short. */
  fill(texture, words) {
    const { gl } = this, row = 4 * ACROSS, whole = Math.floor(words.length / row);
    gl.pixelStorei(gl.UNPACK_ALIGNMENT, 4);
    this.words(texture, gl.RGBA32UI, [ACROSS, Math.max(1, Math.ceil(words.length / row))], gl.RGBA_INTEGER, gl.UNSIGNED_INT, null);
    const put = (y, w, h, part) => gl.texSubImage2D(gl.TEXTURE_2D, 0, 0, y, w, h, gl.RGBA_INTEGER, gl.UNSIGNED_INT, part);
    if (whole) put(0, ACROSS, whole, words.subarray(0, whole * row));
    if (words.length > whole * row) put(whole, (words.length - whole * row) / 4, 1, words.subarray(whole * row));
  }

  // ---------------------------------------------------------------- the order

  /** Asks the worker for the order that this eye sees, unless it is there or a sort is under way. */
  sort({ eye, aspect }) {
    if (this.asked) return;
    const ty = tangent(eye.fov), box = this.box ?? [[-FAR, -FAR, -FAR], [FAR, FAR, FAR]], { position, forward } = eye;
    const { near, moment } = this.loaded, wanted = { position, forward, near, moment };
    // What counts what is in view depends on more than the order does.
    if (this.mode === "rings") Object.assign(wanted, { ...eye, box, spread: [ty * aspect, ty], gone: this.gone });
    if (this.sorted && JSON.stringify(this.sorted) === JSON.stringify(wanted)) return;
    this.asked = wanted;
    this.worker.postMessage({ ...wanted, place: position, version: this.loaded.version });
  }

  take({ order, drawn, inView, version }) {
    if (!this.asked || version !== this.loaded.version) return;
    const { gl, sorted, asked } = this;
    gl.pixelStorei(gl.UNPACK_ALIGNMENT, 4);
    this.words(this.order, gl.R32UI, [ACROSS, order.length / ACROSS], gl.RED_INTEGER, gl.UNSIGNED_INT, order);
    const moved = !sorted || [sorted, asked].map(({ position, forward, moment }) => JSON.stringify([position, forward, moment])).reduce((a, b) => a !== b);
    Object.assign(this, { drawn, sorted: asked, asked: null, inView, orders: this.orders + (moved ? 1 : 0) });
    this.wake();
  }

  // ---------------------------------------------------------------- how much, and when

  /** Whether it has drawn anything yet. */
  get begun() {
    return Boolean(this.front.eye);
  }

  /** Whether what is shown is what this eye sees, whole. */
  settled(eye) {
    const { sorted, front, full } = this;
    return Boolean(sorted && !this.asked && full && sorted.moment === this.loaded.moment && length(sub(sorted.position, eye.position)) === 0 && length(sub(sorted.forward, eye.forward)) === 0
      && !this.fence.busy && front.eye === eye && front.key === this.key && same(front.size, full));
  }

  draw(frame) {
    if (!this.shown || !this.loaded) return;
    this.frame = frame;
    this.sort(frame);
    if (this.sorted) this.advance(frame);
    if (!this.front.eye) return;
    this.logs = this.mode === "depth" && this.front.deep ? this.like?.logs ?? this.front.range(this.unit) : [0, 1];
    this.compose(frame);
  }

  /** Goes on with the picture that is drawn aside. */
  work() {
    const { front, frame } = this;
    if (!this.shown || !this.loaded || !this.sorted || !frame) return;
    this.sort(frame);
    this.advance(frame);
    if (this.front !== front) this.wake();
  }

  /** Goes on with what the eye is to see, unless the GPU is busy with it. */
  advance({ eye, aspect, width, height }) {
    const full = [width, height].map((n) => Math.max(1, Math.round(n * this.resolution))), now = performance.now();
    const kind = this.mode === "normals" || this.mode === "rings" ? this.mode : "rgb"; // the others are shown from the same sums
    const key = JSON.stringify([eye, aspect, this.box, this.orders, this.choice?.edition, this.loaded.version, this.loaded.moment, this.fade, kind, full]);
    this.full = full;
    if (key !== this.key) Object.assign(this, { key, job: null, since: now });
    if (this.fence.busy) return;
    const { front } = this, deep = this.deep || this.mode === "depth", whole = same(front.size, full);
    if (front.key !== key) {
      const size = this.share < 0.8 ? full.map((n) => Math.max(1, Math.round(n * this.share))) : full;
      this.job = { eye, size, key, deep, from: 0, coarse: true };
    } else {
      front.eye = eye; // another object for the same eye
      if (whole && (front.deep || !deep)) return;
      if (!this.job && !whole && now - this.since < REST) return void this.again(REST - (now - this.since));
      if (!this.job || (deep && !this.job.deep)) this.job = { eye, size: full, key, deep, from: 0, coarse: false };
    }
    this.go();
  }

  again(milliseconds) {
    clearTimeout(this.timer);
    this.timer = setTimeout(() => this.wake(true), milliseconds);
  }

  /** Blends the next Gaussians of the picture in work, all of them where it is that of a moving eye. */
  go() {
    const { job, back, drawn } = this, rows = Math.max(1, Math.floor((this.pace * BAND) / ACROSS));
    const to = job.coarse ? drawn : Math.min(drawn, job.from + rows * ACROSS), many = to - job.from;
    if (!job.from) back.begin(job.size, job.deep);
    this.blend(back, job.eye, job.from, to);
    job.from = to;
    if (to >= drawn) {
      Object.assign(back, { eye: job.eye, key: job.key });
      Object.assign(this, { front: back, back: this.front, job: null });
    }
    this.fence.begin((milliseconds) => this.learn(milliseconds, many, job));
  }

  /** Takes how long the GPU took for so many Gaussians. */
  learn(milliseconds, many, { coarse, size }) {
    const { full, share } = this, taken = Math.max(milliseconds, 0.5);
    if (coarse && !this.cold) {
      if (taken > 1.4 * MOVING || (share < 1 && taken < 0.7 * MOVING)) this.share = clamp(share * clamp(Math.sqrt(MOVING / taken), 0.5, 1.25), LEAST, 1);
      this.pace = (many / taken) * ((size[0] * size[1]) / (full[0] * full[1]));
    } else if (!coarse) this.pace = many / taken;
    this.cold = false;
    this.wake(true);
  }

  // ---------------------------------------------------------------- pictures

  /** Blends the Gaussians from one place of the order to another, of which the first is the first of a row, into a target. */
  blend(target, eye, from, to, [width, height] = target.size, corner = [0, 0]) {
    const { gl, splat: { made, uniforms: u } } = this;
    gl.disable(gl.SCISSOR_TEST);
    gl.disable(gl.DEPTH_TEST);
    gl.disable(gl.BLEND);
    this.put(eye, [width, height], from, to);
    gl.bindFramebuffer(gl.FRAMEBUFFER, target.frame);
    gl.viewport(-corner[0], -corner[1], width, height);
    gl.enable(gl.BLEND);
    gl.blendFunc(gl.ONE, gl.ONE_MINUS_SRC_ALPHA);
    gl.useProgram(made);
    gl.bindVertexArray(this.empty);
    bind(gl, [[u.shapes, this.shapes], [u.looks, this.looks]]);
    gl.uniform2f(u.size, width, height);
    gl.uniform1i(u.rings, this.mode === "rings");
    gl.uniform1i(u.first, from);
    gl.drawArrays(gl.TRIANGLES, 0, 3 * (to - from));
    gl.disable(gl.BLEND);
    gl.bindFramebuffer(gl.FRAMEBUFFER, null);
  }

  /** Finds where those Gaussians are seen in a picture of that size, and how. */
  put(eye, size, from, to) {
    const { gl, loaded, place: { made, uniforms: u } } = this, box = this.box ?? [[-FAR, -FAR, -FAR], [FAR, FAR, FAR]], row = Math.floor(from / ACROSS);
    gl.bindFramebuffer(gl.FRAMEBUFFER, this.placed);
    gl.viewport(0, 0, ACROSS, Math.ceil(loaded.count / ACROSS));
    gl.enable(gl.SCISSOR_TEST);
    gl.scissor(0, row, ACROSS, Math.ceil(to / ACROSS) - row);
    gl.useProgram(made);
    gl.bindVertexArray(this.empty);
    bind(gl, [[u.core, this.core], [u.rest, this.rest], [u.marks, this.marks], [u.order, this.order]].filter(([uniform]) => uniform));
    this.seen.bind(u, this.fade);
    gl.uniform1i(u.count, this.drawn);
    gl.uniform1fv(u["ranges[0]"] ?? null, loaded.ranges);
    gl.uniformMatrix3fv(u.turn, false, [...eye.right, ...eye.down, ...eye.forward]);
    gl.uniform3fv(u.place, eye.position);
    gl.uniform3fv(u.low, box[0]);
    gl.uniform3fv(u.high, box[1]);
    gl.uniform2fv(u.size, size);
    gl.uniform1f(u.focal, (0.5 * size[1]) / tangent(eye.fov));
    gl.uniform1f(u.near, loaded.near);
    gl.uniform1f(u.unitOfDepth, this.unit);
    gl.uniform1i(u.antialiased, loaded.antialiased);
    gl.uniform1i(u.normals, this.mode === "normals");
    gl.uniform1i(u.marked, Boolean(this.choice));
    gl.drawArrays(gl.TRIANGLES, 0, 3);
    gl.disable(gl.SCISSOR_TEST);
  }

  compose({ aspect, near, far, width, height }) {
    const { gl, front, show: { made, uniforms: u } } = this, ty = tangent(front.eye.fov);
    gl.viewport(0, 0, width, height);
    gl.enable(gl.DEPTH_TEST);
    gl.depthFunc(gl.ALWAYS);
    gl.depthMask(true);
    gl.useProgram(made);
    gl.bindVertexArray(this.empty);
    bind(gl, [[u.sum, front.sum], [u.depth, front.deep ? front.depth : front.sum], [u.colours, this.colours]]);
    gl.bindTexture(gl.TEXTURE_2D, front.sum);
    nearest(gl, same(front.size, [width, height]) ? gl.NEAREST : gl.LINEAR); // one look at it is cheaper than four
    gl.uniform1i(u.mode, MODES[this.mode] ?? 0);
    gl.uniform1i(u.deep, front.deep);
    gl.uniform3fv(u.behind, this.mode === "rings" ? [0.051, 0.059, 0.071] : this.behind);
    gl.uniform2f(u.spread, ty * aspect, ty);
    gl.uniform2f(u.reach, near, far);
    gl.uniform2fv(u.logs, this.logs);
    gl.uniform1f(u.unitOfDepth, this.unit);
    const [from, to] = this.span.map((share) => Math.round(share * width));
    gl.enable(gl.SCISSOR_TEST);
    gl.scissor(from, 0, to - from, height);
    gl.drawArrays(gl.TRIANGLES, 0, 3);
    gl.disable(gl.SCISSOR_TEST);
    gl.depthFunc(gl.LEQUAL);
  }

  // ---------------------------------------------------------------- what is read from it

  /** Depth along the axis of what is mostly opaque, coarsely, from the bottom up; 0 where there is nothing. */
  depthMap() {
    const { front, back } = this, depth = new Float32Array(MAP * MAP);
    if (!front.deep) {
      this.job = null;
      back.begin(front.size, true);
      this.blend(back, front.eye, 0, this.drawn);
      Object.assign(back, { eye: front.eye, key: front.key });
      Object.assign(this, { front: back, back: front });
    }
    const values = this.front.sampled(MAP);
    for (let i = 0; i < depth.length; i++) if (values[4 * i + 3] > 0.5) depth[i] = (values[4 * i] / values[4 * i + 3]) * this.unit;
    return { side: MAP, depth };
  }

  /** The world point that is shown at (x, y) in [0, 1], y downwards; null where there is nothing. */
  pointAt(x, y, eye) {
    const { gl, dot, full: [width, height] } = this, value = new Float32Array(4), ty = tangent(eye.fov), tx = (ty * width) / height;
    dot.begin([1, 1], true);
    this.blend(dot, eye, 0, this.drawn, [width, height], [Math.floor(x * width), Math.floor((1 - y) * height)]);
    gl.bindFramebuffer(gl.FRAMEBUFFER, dot.frame);
    gl.readBuffer(gl.COLOR_ATTACHMENT1);
    gl.readPixels(0, 0, 1, 1, gl.RGBA, gl.FLOAT, value);
    gl.bindFramebuffer(gl.FRAMEBUFFER, null);
    if (value[3] <= 0.5) return null;
    const z = (value[0] / value[3]) * this.unit, ray = [(2 * x - 1) * tx, (2 * y - 1) * ty, 1];
    return [eye.right, eye.down, eye.forward].reduce((p, axis, i) => add(p, scale(axis, ray[i] * z)), eye.position);
  }
}
