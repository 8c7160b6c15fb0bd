// A hash field marched in the visitor's own GPU: one fragment a ray, from the table and the occupancy in textures and the
// networks in uniform blocks; the bytes are described in neuralfields/serving/field.py.
//
// While the eye moves, a picture as large as the GPU makes in some milliseconds is drawn; how many pixels that are is
// learnt from every one. At rest the next has twice as many each way, band by band, until it is as large as the canvas.

import { Fence } from "./fence.js";
import { tangent } from "./math.js";
import { ACROSS, blocksOf, fieldFragment, fours } from "./field_shaders.js";
import { NORMAL_FRAGMENT, SHOW_FRAGMENT } from "./field_show.js";
import { bind, nearest, program } from "./scene.js";
import { Seen } from "./seen.js";
import { WHOLE_VERTEX } from "./splat_shaders.js";
import { Target } from "./targets.js";

const MODES = { rgb: 0, depth: 1, opacity: 2, normals: 3 };
const HEADER = 16, FAR = 3e38, CELLS = 32768;
const MOVING = 14, BAND = 30, REST = 150; // milliseconds: of a moving picture, of a band; until the eye rests
const FEWEST = 3000, FIRST = 100; // pixels of a moving picture or of a band at least; pixels a millisecond before any was measured
const COLD = 192; // pixels of a program's first picture, during which the GPU's driver compiles it

/** The parts of a packed hash field; throws where it is something else. */
export function unpack(buffer) {
  const view = new DataView(buffer), word = (i) => view.getUint32(4 * i, true), whole = (n) => Math.ceil(n / 8) * 8;
  if (buffer.byteLength < HEADER || word(0) !== 0x4648464e || word(1) !== 1) throw new Error("no hash field of this layout");
  const header = JSON.parse(new TextDecoder().decode(new Uint8Array(buffer, HEADER, word(2))));
  const { levels, features, density, colour, cascades } = header;
  let at = HEADER + whole(word(2));
  const take = (kind, count) => {
    if (at + count * kind.BYTES_PER_ELEMENT > buffer.byteLength) throw new Error("the hash field is cut short");
    const part = new kind(buffer, at, count);
    at += whole(part.byteLength);
    return part;
  };
  const counts = [density, colour].flatMap((widths) => widths.slice(1).map((outputs, i) => [outputs, widths[i]]));
  const all = take(Float32Array, counts.reduce((sum, [outputs, inputs]) => sum + outputs * inputs, 0));
  let from = 0;
  const layers = counts.map(([outputs, inputs]) => ({ inputs, weights: all.subarray(from, (from += outputs * inputs)) }));
  const entries = Math.max(...levels.map((level) => level[2] + level[3]));
  return { ...header, layers, table: take(Int8Array, entries * features), occupancy: take(Uint32Array, 2 * CELLS * cascades) };
}

/** The weights of a block as mat4 after mat4, column by column, zeros where a layer has no such row or column. */
export function matrices({ layer, inputs, outputs, first }, layers) {
  const { inputs: row, weights } = layers[layer], across = fours(inputs), values = new Float32Array(16 * across * fours(outputs));
  for (let o = 0; o < outputs; o++)
    for (let i = 0; i < inputs; i++) values[16 * ((o >> 2) * across + (i >> 2)) + 4 * (i & 3) + (o & 3)] = weights[o * row + first + i];
  return values;
}

/** A byte for each block of 16^3 cells: whether any of them is occupied. */
export function blocksOfBricks(occupancy) {
  const found = new Uint8Array(occupancy.length / 128);
  for (let word = 0; word < occupancy.length / 2; word++) {
    if (!occupancy[2 * word] && !occupancy[2 * word + 1]) continue;
    const x = word & 31, y = (word >> 5) & 31, z = (word >> 10) & 31;
    found[512 * (word >> 15) + ((z >> 2) * 8 + (y >> 2)) * 8 + (x >> 2)] = 1;
  }
  return found;
}

export class FieldLayer {
  /** `wake` is called when another picture can be shown; wake(true) when it can go on with work(). Throws where the GPU renders no floating point. */
  constructor(gl, wake) {
    if (!gl.getExtension("EXT_color_buffer_float")) throw new Error("this GPU renders no floating point");
    Object.assign(this, { gl, wake, shown: false, loaded: null, span: [0, 1], mode: "rgb", behind: [1, 1, 1], box: null, resolution: 1 });
    Object.assign(this, { pace: FIRST, loads: 0, fence: new Fence(gl), job: null, key: null, since: 0, buffers: [] });
    Object.assign(this, { seen: new Seen(gl), fade: false }); // where cameras looked; whether what they did not see is faded
    this.show = program(gl, WHOLE_VERTEX, SHOW_FRAGMENT);
    this.normal = program(gl, WHOLE_VERTEX, NORMAL_FRAGMENT);
    this.empty = gl.createVertexArray();
    [this.table, this.bricks, this.blocks, this.colours, this.normals] = [...Array(5)].map(() => gl.createTexture());
    this.turns = gl.createFramebuffer();
    [this.front, this.back] = [new Target(gl), new Target(gl)];
  }

  /** Takes a field as `unpack` gives it, and the colours of depth (768 numbers). */
  load(parts, colours) {
    const { gl } = this, { layers, table, occupancy, ...kept } = parts;
    const texels = table.length / Math.min(4, kept.features);
    if (Math.ceil(texels / ACROSS) > gl.getParameter(gl.MAX_TEXTURE_SIZE)) throw new Error("a larger table than this GPU's textures hold");
    const { version, ...shape } = kept, written = JSON.stringify(shape);
    if (this.written !== written) Object.assign(this, { program: program(gl, WHOLE_VERTEX, fieldFragment(kept)), written, cold: true });
    gl.pixelStorei(gl.UNPACK_ALIGNMENT, 1);
    const [format, channels] = kept.features === 2 ? [gl.RG8_SNORM, gl.RG] : [gl.RGBA8_SNORM, gl.RGBA];
    this.fill(this.table, format, channels, gl.BYTE, table, kept.features === 2 ? 2 : 4);
    this.fill(this.bricks, gl.RG32UI, gl.RG_INTEGER, gl.UNSIGNED_INT, occupancy, 2);
    this.image(this.blocks, gl.R8UI, [512, kept.cascades], gl.RED_INTEGER, gl.UNSIGNED_BYTE, blocksOfBricks(occupancy));
    this.image(this.colours, gl.RGB8, [256, 1], gl.RGB, gl.UNSIGNED_BYTE, new Uint8Array(colours));
    for (const buffer of this.buffers) gl.deleteBuffer(buffer);
    this.buffers = blocksOf(kept).map((block, i) => {
      const buffer = gl.createBuffer();
      gl.bindBuffer(gl.UNIFORM_BUFFER, buffer);
      gl.bufferData(gl.UNIFORM_BUFFER, matrices(block, layers), gl.STATIC_DRAW);
      gl.uniformBlockBinding(this.program.made, gl.getUniformBlockIndex(this.program.made, `${block.name}_`), i);
      return buffer;
    });
    Object.assign(this, { loaded: kept, loads: this.loads + 1, key: null, job: null });
    this.wake();
  }

  image(texture, format, size, channels, type, values) {
    const { gl } = this;
    gl.bindTexture(gl.TEXTURE_2D, texture);
    nearest(gl);
    gl.texImage2D(gl.TEXTURE_2D, 0, format, ...size, 0, channels, type, values);
  }

  /** Fills a data texture row by row; the last row may be short. */
  fill(texture, format, channels, type, values, each) {
    const { gl } = this, row = each * ACROSS, whole = Math.floor(values.length / row), left = values.length - whole * row;
    this.image(texture, format, [ACROSS, Math.max(1, whole + (left ? 1 : 0))], channels, type, null);
    const put = (y, w, h, part) => gl.texSubImage2D(gl.TEXTURE_2D, 0, 0, y, w, h, channels, type, part);
    if (whole) put(0, ACROSS, whole, values.subarray(0, whole * row));
    if (left) put(whole, left / each, 1, values.subarray(whole * row));
  }

  /** Whether it has drawn anything yet. */
  get begun() {
    return Boolean(this.front.eye);
  }

  /** Whether what is shown is what this eye sees, in full resolution. */
  settled(eye) {
    const { front, fence, last } = this;
    return Boolean(front.eye && last && !fence.busy && front.key === this.key && front.eye === eye && front.size[0] === last[0] && front.size[1] === last[1]);
  }

  draw(frame) {
    if (!this.shown || !this.loaded) return;
    this.frame = frame;
    this.advance(frame);
    if (!this.front.eye) return;
    if (this.mode === "normals") this.turn(frame);
    this.compose(frame);
  }

  // ---------------------------------------------------------------- how much, and when

  /** Goes on with the picture that is drawn aside. */
  work() {
    const { front, frame } = this;
    if (!this.shown || !this.loaded || !frame) return;
    this.advance(frame);
    this.gl.bindFramebuffer(this.gl.FRAMEBUFFER, null);
    if (this.front !== front) this.wake();
  }

  /** Goes on with what the eye is to see, unless the GPU is busy with it. */
  advance({ eye, aspect, width, height }) {
    const full = [width, height].map((n) => Math.max(1, Math.round(n * this.resolution)));
    const key = JSON.stringify([eye, aspect, this.box, this.loads, this.fade, full]), now = performance.now();
    this.last = full;
    if (key !== this.key) Object.assign(this, { key, job: null, since: now });
    if (this.fence.busy) return;
    const { front } = this;
    const few = this.cold ? COLD : Math.max(FEWEST, this.pace * MOVING);
    if (front.key !== key) this.job = this.begin(eye, full, Math.sqrt(few / (full[0] * full[1])));
    else if (front.eye !== eye) front.eye = eye; // another object for the same eye
    if (!this.job && front.size[0] === full[0] && front.size[1] === full[1]) return;
    if (!this.job && now - this.since < REST) return void this.again(REST - (now - this.since));
    this.job ??= this.begin(eye, full, (2 * front.size[0]) / full[0]);
    this.band(aspect);
  }

  begin(eye, full, share) {
    const size = share > 0.6 ? full : full.map((n) => Math.max(1, Math.round(n * share)));
    return { eye, size, row: 0, key: this.key, coarse: this.front.key !== this.key, begin: performance.now() };
  }

  again(milliseconds) {
    clearTimeout(this.timer);
    this.timer = setTimeout(() => this.wake(true), milliseconds);
  }

  /** Draws the next rows of the picture in work, all of them where it is that of a moving eye. */
  band(aspect) {
    const { gl, job, back } = this, [width, height] = job.size;
    const rows = job.coarse ? height : Math.min(height - job.row, Math.max(1, Math.floor(Math.max(FEWEST, this.pace * BAND) / width)));
    back.fit(job.size);
    this.march(job, aspect, rows);
    job.row += rows;
    if (job.row >= height) {
      Object.assign(back, { eye: job.eye, key: job.key });
      Object.assign(this, { front: back, back: this.front, job: null, logs: null });
      if (this.cold) back.key = null; // another one at once
    }
    this.fence.begin((milliseconds) => this.learn(milliseconds, width * rows, job));
  }

  /** Takes how long the GPU took for so many pixels. */
  learn(milliseconds, pixels, job) {
    const pace = pixels / Math.max(milliseconds, 0.2);
    if (!this.cold) this.pace = pace < this.pace ? pace : 0.5 * (pace + this.pace);
    if (!this.job) this.taken = performance.now() - job.begin;
    this.cold = false;
    const { front, last } = this;
    this.wake(Boolean(this.job) || front.size[0] !== last[0] || front.size[1] !== last[1]); // what is whole says how long it took
  }

  // ---------------------------------------------------------------- pictures

  march({ eye, size, row }, aspect, rows) {
    const { gl, loaded, program: { made, uniforms: u } } = this, { centre, side } = loaded;
    const inside = (p) => p.map((v, k) => (v - centre[k]) / side + 0.5), ty = tangent(eye.fov);
    const [low, high] = this.box ? this.box.map(inside) : [[-FAR, -FAR, -FAR], [FAR, FAR, FAR]];
    gl.viewport(0, 0, ...size);
    gl.disable(gl.DEPTH_TEST);
    gl.disable(gl.BLEND);
    gl.enable(gl.SCISSOR_TEST);
    gl.scissor(0, row, size[0], rows);
    gl.useProgram(made);
    gl.bindVertexArray(this.empty);
    bind(gl, [[u.table, this.table], [u.bricks, this.bricks], [u.blocks, this.blocks]]);
    this.seen.bind(u, this.fade, [centre, side]);
    this.buffers.forEach((buffer, i) => gl.bindBufferBase(gl.UNIFORM_BUFFER, i, buffer));
    gl.uniformMatrix3fv(u.turn, false, [...eye.right, ...eye.down, ...eye.forward]);
    gl.uniform3fv(u.place, inside(eye.position));
    gl.uniform3fv(u.low, low);
    gl.uniform3fv(u.high, high);
    gl.uniform2fv(u.size, size);
    gl.uniform2f(u.spread, ty * aspect, ty);
    gl.drawArrays(gl.TRIANGLES, 0, 3);
    gl.disable(gl.SCISSOR_TEST);
  }

  /** Normals of the picture that is shown. */
  turn({ aspect }) {
    const { gl, front: { eye, size, sum, depth }, normal: { made, uniforms: u } } = this, ty = tangent(eye.fov);
    gl.bindFramebuffer(gl.FRAMEBUFFER, this.turns);
    this.image(this.normals, gl.RGBA16F, size, gl.RGBA, gl.HALF_FLOAT, null);
    gl.framebufferTexture2D(gl.FRAMEBUFFER, gl.COLOR_ATTACHMENT0, gl.TEXTURE_2D, this.normals, 0);
    gl.viewport(0, 0, ...size);
    gl.disable(gl.DEPTH_TEST);
    gl.useProgram(made);
    gl.bindVertexArray(this.empty);
    bind(gl, [[u.sum, sum], [u.depth, depth]]);
    gl.uniform2f(u.spread, ty * aspect, ty);
    gl.uniformMatrix3fv(u.turn, false, [...eye.right, ...eye.down, ...eye.forward]);
    gl.drawArrays(gl.TRIANGLES, 0, 3);
  }

  compose({ aspect, near, far, width, height }) {
    const { gl, front, show: { made, uniforms: u } } = this, ty = tangent(front.eye.fov);
    if (this.mode === "depth") this.logs ??= front.logs();
    gl.bindFramebuffer(gl.FRAMEBUFFER, null);
    gl.viewport(0, 0, width, height);
    gl.enable(gl.DEPTH_TEST);
    gl.depthFunc(gl.ALWAYS);
    gl.depthMask(true);
    gl.useProgram(made);
    gl.bindVertexArray(this.empty);
    bind(gl, [[u.sum, front.sum], [u.depth, front.depth], [u.colours, this.colours], [u.normals, this.mode === "normals" ? this.normals : front.sum]]);
    gl.uniform1i(u.mode, MODES[this.mode] ?? 0);
    gl.uniform3fv(u.behind, this.behind);
    gl.uniform2f(u.spread, ty * aspect, ty);
    gl.uniform2f(u.reach, near, far);
    gl.uniform2fv(u.logs, this.logs ?? [0, 1]);
    const [from, to] = this.span.map((share) => Math.round(share * width));
    gl.enable(gl.SCISSOR_TEST);
    gl.scissor(from, 0, to - from, height);
    gl.drawArrays(gl.TRIANGLES, 0, 3);
    gl.disable(gl.SCISSOR_TEST);
    gl.depthFunc(gl.LEQUAL);
  }

  /** The world point that is shown at (x, y) in [0, 1], y downwards; null where there is nothing. */
  pointAt(x, y) {
    return this.front.pointAt(x, y);
  }
}
