// Gaussians drawn in the visitor's own GPU: sorted in a worker, blended farthest first into half floats, then shown.
//
// While the eye moves, what was sorted last is drawn; a sort takes some hundredths of a second and is followed by the next
// as long as the eye's place or direction differ from the sorted ones.

import { add, length, scale, sub, tangent } from "./math.js";
import { MOTION, fromHalves, instant } from "./motion.js";
import { bind, nearest, program } from "./scene.js";
import { ACROSS, SHOW_FRAGMENT, SPLAT_FRAGMENT, WHOLE_VERTEX, splatVertex } from "./splat_shaders.js";
import { startWorker } from "./workers.js";

const MODES = { rgb: 0, rings: 0, depth: 1, opacity: 2, normals: 3 };
const HEADER = 64, RANGES = 64, FAR = 3e38, SAMPLES = 96, MAP = 256;

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
  const ranges = new Float32Array(buffer, HEADER, 16), motion = moves ? fromHalves(new Uint16Array(buffer, still)) : null;
  return { motion, moment: null, count, many, version: word(4), antialiased: Boolean(word(5) & 1), near: view.getFloat32(24, true), ranges, core, rest, means };
}

export class SplatLayer {
  /** `wake` is called when another picture can be drawn. Throws where the GPU cannot blend half floats. */
  constructor(gl, wake) {
    if (!gl.getExtension("EXT_color_buffer_float") && !gl.getExtension("EXT_color_buffer_half_float"))
      throw new Error("this GPU blends no floating point");
    Object.assign(this, { gl, wake, shown: false, loaded: null, span: [0, 1], mode: "rgb", behind: [1, 1, 1], box: null, resolution: 1 });
    this.choice = null; // what is selected and deleted (choice.js)
    this.like = null; // another layer, whose range of depth is taken
    Object.assign(this, { unit: 1, drawn: 0, inView: null, sorted: null, asked: null, size: [0, 0] });
    this.show = program(gl, WHOLE_VERTEX, SHOW_FRAGMENT);
    this.empty = gl.createVertexArray();
    this.array = gl.createVertexArray();
    this.order = gl.createBuffer();
    gl.bindVertexArray(this.array);
    gl.bindBuffer(gl.ARRAY_BUFFER, this.order);
    gl.enableVertexAttribArray(0);
    gl.vertexAttribIPointer(0, 1, gl.UNSIGNED_INT, 0, 0);
    gl.vertexAttribDivisor(0, 1);
    [this.core, this.rest, this.colours, this.sum, this.depth, this.few, this.marks] = [...Array(7)].map(() => gl.createTexture());
    [this.target, this.small] = [gl.createFramebuffer(), gl.createFramebuffer()];
    gl.bindTexture(gl.TEXTURE_2D, this.marks);
    nearest(gl);
    gl.texImage2D(gl.TEXTURE_2D, 0, gl.R8UI, 1, 1, 0, gl.RED_INTEGER, gl.UNSIGNED_BYTE, null);
    this.worker = startWorker("sorter");
    this.worker.onmessage = ({ data }) => this.take(data);
  }

  /** Takes Gaussians as `unpack` gives them, the colours of depth (768 numbers), and the scene's size. */
  load(parts, colours, unit) {
    const { gl } = this;
    const rows = Math.ceil(Math.max(2, parts.rest.length / 4 / Math.max(1, parts.count)) * parts.count / ACROSS);
    if (rows > gl.getParameter(gl.MAX_TEXTURE_SIZE)) throw new Error("more Gaussians than this GPU's textures hold");
    if (!this.loaded || this.loaded.many !== parts.many) this.program = program(gl, splatVertex(parts.many), SPLAT_FRAGMENT);
    this.fill(this.core, parts.core);
    this.fill(this.rest, parts.rest);
    gl.bindTexture(gl.TEXTURE_2D, this.colours);
    nearest(gl);
    gl.pixelStorei(gl.UNPACK_ALIGNMENT, 1);
    gl.texImage2D(gl.TEXTURE_2D, 0, gl.RGB8, 256, 1, 0, gl.RGB, gl.UNSIGNED_BYTE, new Uint8Array(colours));
    const { means, rest, ...kept } = parts;
    Object.assign(this, { loaded: kept, unit, sorted: null, drawn: 0, choice: null, gone: 0 });
    this.worker.postMessage({ means }, [means.buffer]);
    this.asked = null;
    this.wake();
  }

  /** Goes to a moment in [0, 1] of a scene that moves. */
  goTo(moment) {
    const { loaded } = this;
    if (!loaded?.motion || loaded.moment === moment) return;
    const { core, means } = instant(loaded, moment);
    this.fill(this.core, core);
    this.worker.postMessage({ means }, [means.buffer]);
    loaded.moment = moment;
    this.wake();
  }

  /** Shows what is selected and leaves out what is deleted. */
  mark(choice) {
    const { gl } = this, { marks } = choice;
    gl.bindTexture(gl.TEXTURE_2D, this.marks);
    nearest(gl);
    gl.pixelStorei(gl.UNPACK_ALIGNMENT, 1);
    gl.texImage2D(gl.TEXTURE_2D, 0, gl.R8UI, ACROSS, marks.length / ACROSS, 0, gl.RED_INTEGER, gl.UNSIGNED_BYTE, marks);
    if (choice.gone !== this.gone) this.worker.postMessage({ marks });
    Object.assign(this, { choice, gone: choice.gone });
  }

  /** Fills a data texture row by row; the last row may be short. */
  fill(texture, words) {
    const { gl } = this, row = 4 * ACROSS, whole = Math.floor(words.length / row);
    gl.bindTexture(gl.TEXTURE_2D, texture);
    nearest(gl);
    gl.pixelStorei(gl.UNPACK_ALIGNMENT, 4);
    gl.texImage2D(gl.TEXTURE_2D, 0, gl.RGBA32UI, ACROSS, Math.max(1, Math.ceil(words.length / row)), 0, gl.RGBA_INTEGER, gl.UNSIGNED_INT, null);
    const put = (y, w, h, part) => gl.texSubImage2D(gl.TEXTURE_2D, 0, 0, y, w, h, gl.RGBA_INTEGER, gl.UNSIGNED_INT, part);
    if (whole) put(0, ACROSS, whole, words.subarray(0, whole * row));
    if (words.length > whole * row) put(whole, (words.length - whole * row) / 4, 1, words.subarray(whole * row));
  }

  /** Asks the worker for the order that this eye sees, unless it is there or a sort is under way. */
  sort({ eye, aspect }) {
    if (this.asked) return;
    const ty = tangent(eye.fov), box = this.box ?? [[-FAR, -FAR, -FAR], [FAR, FAR, FAR]];
    const wanted = { ...eye, box, spread: [ty * aspect, ty], near: this.loaded.near, gone: this.gone, moment: this.loaded.moment };
    if (this.sorted && JSON.stringify(this.sorted) === JSON.stringify(wanted)) return;
    this.asked = wanted;
    this.worker.postMessage({ ...wanted, place: eye.position, version: this.loaded.version });
  }

  take({ order, inView, version }) {
    if (!this.asked || version !== this.loaded.version) return;
    const { gl } = this;
    gl.bindBuffer(gl.ARRAY_BUFFER, this.order);
    gl.bufferData(gl.ARRAY_BUFFER, order, gl.DYNAMIC_DRAW);
    Object.assign(this, { drawn: order.length, sorted: this.asked, asked: null, inView });
    this.wake();
  }

  /** Whether it has drawn anything yet. */
  get begun() {
    return Boolean(this.sorted);
  }

  /** Whether the order is that of this eye. */
  settled(eye) {
    const { sorted } = this;
    return Boolean(sorted && !this.asked && sorted.moment === this.loaded.moment && length(sub(sorted.position, eye.position)) === 0 && length(sub(sorted.forward, eye.forward)) === 0);
  }

  draw(frame) {
    if (!this.shown || !this.loaded) return;
    this.sort(frame);
    if (!this.sorted) return;
    const { gl } = this, size = [frame.width, frame.height].map((n) => Math.max(1, Math.round(n * this.resolution)));
    this.fit(size);
    this.blend(frame);
    this.logs = this.mode === "depth" ? this.like?.logs ?? this.depths(frame) : [0, 1];
    gl.bindFramebuffer(gl.FRAMEBUFFER, null);
    gl.viewport(0, 0, frame.width, frame.height);
    this.compose(frame);
  }

  /** Textures to blend into, as large as the picture. */
  fit(size) {
    if (size[0] === this.size[0] && size[1] === this.size[1]) return;
    const { gl } = this;
    this.size = size;
    gl.bindFramebuffer(gl.FRAMEBUFFER, this.target);
    [this.sum, this.depth].forEach((texture, i) => {
      gl.bindTexture(gl.TEXTURE_2D, texture);
      nearest(gl, gl.LINEAR);
      gl.texImage2D(gl.TEXTURE_2D, 0, gl.RGBA16F, ...size, 0, gl.RGBA, gl.HALF_FLOAT, null);
      gl.framebufferTexture2D(gl.FRAMEBUFFER, gl.COLOR_ATTACHMENT0 + i, gl.TEXTURE_2D, texture, 0);
    });
    gl.drawBuffers([gl.COLOR_ATTACHMENT0, gl.COLOR_ATTACHMENT1]);
  }

  blend({ eye }) {
    const { gl, size, loaded } = this, u = this.program.uniforms, box = this.box ?? [[-FAR, -FAR, -FAR], [FAR, FAR, FAR]];
    gl.bindFramebuffer(gl.FRAMEBUFFER, this.target);
    gl.viewport(0, 0, ...size);
    gl.disable(gl.SCISSOR_TEST);
    gl.disable(gl.DEPTH_TEST);
    gl.clearColor(0, 0, 0, 0);
    gl.clear(gl.COLOR_BUFFER_BIT);
    gl.enable(gl.BLEND);
    gl.blendFunc(gl.ONE, gl.ONE_MINUS_SRC_ALPHA);
    gl.useProgram(this.program.made);
    gl.bindVertexArray(this.array);
    bind(gl, [[u.core, this.core], [u.rest, this.rest], [u.marks, this.marks]]);
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
    gl.uniform1i(u.rings, this.mode === "rings");
    gl.uniform1i(u.marked, Boolean(this.choice));
    gl.drawArraysInstanced(gl.TRIANGLE_STRIP, 0, 4, this.drawn);
    gl.disable(gl.BLEND);
  }

  /** Log depth along the ray at the 2nd and the 98th percentile of what is mostly opaque, from a grid of pixels. */
  depths({ eye, aspect }) {
    const values = this.sampled(SAMPLES), ty = tangent(eye.fov), found = [];
    for (let i = 0; i < SAMPLES * SAMPLES; i++) {
      const cover = values[4 * i + 3], x = (2 * ((i % SAMPLES) + 0.5)) / SAMPLES - 1, y = (2 * (Math.floor(i / SAMPLES) + 0.5)) / SAMPLES - 1;
      if (cover > 0.5) found.push(Math.log((values[4 * i] / cover) * this.unit * Math.hypot(x * ty * aspect, y * ty, 1)));
    }
    found.sort((a, b) => a - b);
    const pick = (share) => found[Math.round(share * (found.length - 1))] ?? 0;
    return [pick(0.02), pick(0.98)];
  }

  /** What was blended for depth at side x side pixels evenly taken, from the bottom up: [depth opacity, 0, 0, opacity] each. */
  sampled(side) {
    const { gl, size } = this, values = new Float32Array(4 * side * side);
    if (side !== this.sampledSide) {
      this.sampledSide = side;
      gl.bindFramebuffer(gl.FRAMEBUFFER, this.small);
      gl.bindTexture(gl.TEXTURE_2D, this.few);
      nearest(gl);
      gl.texImage2D(gl.TEXTURE_2D, 0, gl.RGBA16F, side, side, 0, gl.RGBA, gl.HALF_FLOAT, null);
      gl.framebufferTexture2D(gl.FRAMEBUFFER, gl.COLOR_ATTACHMENT0, gl.TEXTURE_2D, this.few, 0);
    }
    gl.bindFramebuffer(gl.READ_FRAMEBUFFER, this.target);
    gl.readBuffer(gl.COLOR_ATTACHMENT1);
    gl.bindFramebuffer(gl.DRAW_FRAMEBUFFER, this.small);
    gl.blitFramebuffer(0, 0, ...size, 0, 0, side, side, gl.COLOR_BUFFER_BIT, gl.NEAREST);
    gl.bindFramebuffer(gl.FRAMEBUFFER, this.small);
    gl.readPixels(0, 0, side, side, gl.RGBA, gl.FLOAT, values);
    gl.bindFramebuffer(gl.FRAMEBUFFER, null);
    return values;
  }

  /** Depth along the axis of what is mostly opaque, coarsely, from the bottom up; 0 where there is nothing. */
  depthMap() {
    const values = this.sampled(MAP), depth = new Float32Array(MAP * MAP);
    for (let i = 0; i < depth.length; i++) if (values[4 * i + 3] > 0.5) depth[i] = (values[4 * i] / values[4 * i + 3]) * this.unit;
    return { side: MAP, depth };
  }

  compose({ eye, aspect, near, far, width, height }) {
    const { gl } = this, u = this.show.uniforms, ty = tangent(eye.fov);
    gl.enable(gl.DEPTH_TEST);
    gl.depthFunc(gl.ALWAYS);
    gl.depthMask(true);
    gl.useProgram(this.show.made);
    gl.bindVertexArray(this.empty);
    bind(gl, [[u.sum, this.sum], [u.depth, this.depth], [u.colours, this.colours]]);
    gl.uniform1i(u.mode, MODES[this.mode] ?? 0);
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

  /** The world point that is shown at (x, y) in [0, 1], y downwards; null where there is nothing. */
  pointAt(x, y, eye) {
    const { gl, size } = this, value = new Float32Array(4), ty = tangent(eye.fov), tx = (ty * size[0]) / size[1];
    gl.bindFramebuffer(gl.FRAMEBUFFER, this.target);
    gl.readBuffer(gl.COLOR_ATTACHMENT1);
    gl.readPixels(Math.floor(x * size[0]), Math.floor((1 - y) * size[1]), 1, 1, gl.RGBA, gl.FLOAT, value);
    gl.bindFramebuffer(gl.FRAMEBUFFER, null);
    if (value[3] <= 0.5) return null;
    const z = (value[0] / value[3]) * this.unit, ray = [(2 * x - 1) * tx, (2 * y - 1) * ty, 1];
    return [eye.right, eye.down, eye.forward].reduce((p, axis, i) => add(p, scale(axis, ray[i] * z)), eye.position);
  }
}
