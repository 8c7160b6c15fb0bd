// Pictures that the page draws into textures before it shows them, and what is read back from them.

import { add, scale, tangent } from "./math.js";
import { nearest } from "./scene.js";

const SAMPLES = 96;

/** A framebuffer of colour with opacity (16 bits) and of distance (32 bits) for each pixel. */
export class Target {
  constructor(gl) {
    Object.assign(this, { gl, size: [0, 0], eye: null, key: null, frame: gl.createFramebuffer() });
    [this.sum, this.depth] = [gl.createTexture(), gl.createTexture()];
  }

  /** Makes it as large as that; what was in it is gone. */
  fit(size) {
    const { gl } = this;
    gl.bindFramebuffer(gl.FRAMEBUFFER, this.frame);
    if (size[0] === this.size[0] && size[1] === this.size[1]) return;
    this.size = size;
    [[this.sum, gl.RGBA16F, gl.RGBA, gl.HALF_FLOAT, gl.LINEAR], [this.depth, gl.R32F, gl.RED, gl.FLOAT, gl.NEAREST]].forEach(
      ([texture, format, channels, type, filter], i) => {
        gl.bindTexture(gl.TEXTURE_2D, texture);
        nearest(gl, filter);
        gl.texImage2D(gl.TEXTURE_2D, 0, format, ...size, 0, channels, type, null);
        gl.framebufferTexture2D(gl.FRAMEBUFFER, gl.COLOR_ATTACHMENT0 + i, gl.TEXTURE_2D, texture, 0);
      });
    gl.drawBuffers([gl.COLOR_ATTACHMENT0, gl.COLOR_ATTACHMENT1]);
  }

  /** An attachment over a grid of at most 96 x 96 pixels, RGBA each. */
  grid(attachment) {
    const { gl } = this, [width, height] = this.size.map((n) => Math.min(n, SAMPLES)), values = new Float32Array(4 * width * height);
    gl.bindFramebuffer(gl.READ_FRAMEBUFFER, this.frame);
    gl.readBuffer(gl.COLOR_ATTACHMENT0 + attachment);
    gl.bindFramebuffer(gl.DRAW_FRAMEBUFFER, this.small());
    gl.blitFramebuffer(0, 0, ...this.size, 0, 0, width, height, gl.COLOR_BUFFER_BIT, gl.NEAREST);
    gl.bindFramebuffer(gl.FRAMEBUFFER, this.few);
    gl.readPixels(0, 0, width, height, gl.RGBA, gl.FLOAT, values);
    return values;
  }

  small() {
    const { gl } = this;
    if (this.few) return this.few;
    const texture = gl.createTexture();
    this.few = gl.createFramebuffer();
    gl.bindTexture(gl.TEXTURE_2D, texture);
    nearest(gl);
    gl.texImage2D(gl.TEXTURE_2D, 0, gl.RGBA32F, SAMPLES, SAMPLES, 0, gl.RGBA, gl.FLOAT, null);
    gl.bindFramebuffer(gl.DRAW_FRAMEBUFFER, this.few);
    gl.framebufferTexture2D(gl.DRAW_FRAMEBUFFER, gl.COLOR_ATTACHMENT0, gl.TEXTURE_2D, texture, 0);
    return this.few;
  }

  read(attachment, x, y, width, height, into) {
    const { gl } = this;
    gl.bindFramebuffer(gl.FRAMEBUFFER, this.frame);
    gl.readBuffer(gl.COLOR_ATTACHMENT0 + attachment);
    gl.readPixels(x, y, width, height, gl.RGBA, gl.FLOAT, into);
  }

  /** Logarithms of the distance at the 2nd and the 98th percentile of what is mostly opaque. */
  logs() {
    const sums = this.grid(0), depths = this.grid(1), found = [];
    for (let i = 0; i < sums.length; i += 4) if (sums[i + 3] > 0.5 && depths[i] > 0) found.push(Math.log(depths[i]));
    found.sort((a, b) => a - b);
    const pick = (share) => {
      const at = share * (found.length - 1), below = Math.floor(at), next = Math.min(below + 1, found.length - 1);
      return found[below] + (at - below) * (found[next] - found[below]);
    };
    return found.length ? [pick(0.02), pick(0.98)] : [0, 1];
  }

  /** The point of the world at (x, y) in [0, 1], y downwards; null where there is nothing. */
  pointAt(x, y) {
    if (!this.eye) return null;
    const { gl, eye, size } = this, sum = new Float32Array(4), depth = new Float32Array(4), ty = tangent(eye.fov);
    const at = [Math.min(size[0] - 1, Math.floor(x * size[0])), Math.min(size[1] - 1, Math.floor((1 - y) * size[1]))];
    this.read(0, ...at, 1, 1, sum);
    this.read(1, ...at, 1, 1, depth);
    gl.bindFramebuffer(gl.FRAMEBUFFER, null);
    if (!(sum[3] > 0.5 && depth[0] > 0)) return null;
    const ray = [((2 * x - 1) * ty * size[0]) / size[1], (2 * y - 1) * ty, 1], away = depth[0] / Math.hypot(...ray);
    return [eye.right, eye.down, eye.forward].reduce((p, axis, i) => add(p, scale(axis, ray[i] * away)), eye.position);
  }
}
