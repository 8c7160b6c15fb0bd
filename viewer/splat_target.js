// What Gaussians are blended into: half floats of colour with opacity and, where it is asked for, of depth.

import { tangent } from "./math.js";
import { nearest } from "./scene.js";

const SAMPLES = 96; // pixels a side of what is looked at to find the range of depth

export class SplatTarget {
  constructor(gl) {
    Object.assign(this, { gl, size: [0, 0], deep: false, eye: null, key: null, logs: null, frame: gl.createFramebuffer() });
    [this.sum, this.depth] = [gl.createTexture(), gl.createTexture()];
  }

  /** Makes it as large as that, with depth or without, and empty. */
  begin(size, deep) {
    const { gl } = this;
    gl.bindFramebuffer(gl.FRAMEBUFFER, this.frame);
    if (size[0] !== this.size[0] || size[1] !== this.size[1] || deep !== this.deep) {
      Object.assign(this, { size, deep });
      [this.sum, this.depth].forEach((texture, i) => {
        const there = !i || deep;
        gl.bindTexture(gl.TEXTURE_2D, texture);
        nearest(gl, gl.LINEAR);
        gl.texImage2D(gl.TEXTURE_2D, 0, gl.RGBA16F, ...(there ? size : [1, 1]), 0, gl.RGBA, gl.HALF_FLOAT, null);
        gl.framebufferTexture2D(gl.FRAMEBUFFER, gl.COLOR_ATTACHMENT0 + i, gl.TEXTURE_2D, there ? texture : null, 0);
      });
      gl.drawBuffers(deep ? [gl.COLOR_ATTACHMENT0, gl.COLOR_ATTACHMENT1] : [gl.COLOR_ATTACHMENT0]);
    }
    gl.disable(gl.SCISSOR_TEST);
    gl.clearColor(0, 0, 0, 0);
    gl.clear(gl.COLOR_BUFFER_BIT);
    Object.assign(this, { eye: null, key: null, logs: null });
  }

  /** What was blended for depth at side x side pixels evenly taken, from the bottom up: [depth opacity, 0, 0, opacity] each. */
  sampled(side) {
    const { gl, size } = this, values = new Float32Array(4 * side * side), few = gl.createFramebuffer(), texture = gl.createTexture();
    gl.bindTexture(gl.TEXTURE_2D, texture);
    nearest(gl);
    gl.texStorage2D(gl.TEXTURE_2D, 1, gl.RGBA16F, side, side);
    gl.bindFramebuffer(gl.DRAW_FRAMEBUFFER, few);
    gl.framebufferTexture2D(gl.DRAW_FRAMEBUFFER, gl.COLOR_ATTACHMENT0, gl.TEXTURE_2D, texture, 0);
    gl.bindFramebuffer(gl.READ_FRAMEBUFFER, this.frame);
    gl.readBuffer(gl.COLOR_ATTACHMENT1);
    gl.blitFramebuffer(0, 0, ...size, 0, 0, side, side, gl.COLOR_BUFFER_BIT, gl.NEAREST);
    gl.bindFramebuffer(gl.FRAMEBUFFER, few);
    gl.readPixels(0, 0, side, side, gl.RGBA, gl.FLOAT, values);
    gl.bindFramebuffer(gl.FRAMEBUFFER, null);
    gl.deleteFramebuffer(few);
    gl.deleteTexture(texture);
    return values;
  }

  /** Log depth along the ray at the 2nd and the 98th percentile of what is mostly opaque; `unit`: of the depths. */
  range(unit) {
    if (this.logs) return this.logs;
    const values = this.sampled(SAMPLES), ty = tangent(this.eye.fov), tx = (ty * this.size[0]) / this.size[1], found = [];
    for (let i = 0; i < SAMPLES * SAMPLES; i++) {
      const cover = values[4 * i + 3], x = (2 * ((i % SAMPLES) + 0.5)) / SAMPLES - 1, y = (2 * (Math.floor(i / SAMPLES) + 0.5)) / SAMPLES - 1;
      if (cover > 0.5) found.push(Math.log((values[4 * i] / cover) * unit * Math.hypot(x * tx, y * ty, 1)));
    }
    found.sort((a, b) => a - b);
    const pick = (share) => found[Math.round(share * (found.length - 1))] ?? 0;
    return (this.logs = [pick(0.02), pick(0.98)]);
  }
}
