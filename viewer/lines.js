// Lines or points that are drawn over the picture and hide behind it.

import { program } from "./scene.js";

const LINE_VERTEX = `
layout(location = 0) in vec3 position;
layout(location = 1) in vec4 tint;
uniform mat4 matrix;
uniform float size;
out vec4 colour;
void main() {
  colour = tint;
  gl_Position = matrix * vec4(position, 1.0);
  gl_Position.z -= 2e-4 * gl_Position.w; // a mark on a surface is not hidden by it
  gl_PointSize = size;
}`;
const LINE_FRAGMENT = `
in vec4 colour;
out vec4 shown;
void main() { shown = vec4(colour.rgb * colour.a, colour.a); }`;

/** Vertices of one kind (lines or points), each with a colour. */
export class MarkLayer {
  constructor(gl, mode = "LINES", size = 1) {
    this.mode = gl[mode];
    this.size = size;
    this.program = program(gl, LINE_VERTEX, LINE_FRAGMENT);
    this.array = gl.createVertexArray();
    this.buffer = gl.createBuffer();
    this.count = 0;
    this.shown = true;
    this.over = false; // whether nothing hides it
    gl.bindVertexArray(this.array);
    gl.bindBuffer(gl.ARRAY_BUFFER, this.buffer);
    gl.enableVertexAttribArray(0);
    gl.vertexAttribPointer(0, 3, gl.FLOAT, false, 28, 0);
    gl.enableVertexAttribArray(1);
    gl.vertexAttribPointer(1, 4, gl.FLOAT, false, 28, 12);
  }

  /** Numbers, seven a vertex: position and colour. */
  set(gl, values) {
    gl.bindBuffer(gl.ARRAY_BUFFER, this.buffer);
    gl.bufferData(gl.ARRAY_BUFFER, new Float32Array(values), gl.DYNAMIC_DRAW);
    this.count = values.length / 7;
  }

  draw({ gl, matrix }) {
    if (!this.shown || !this.count) return;
    gl.useProgram(this.program.made);
    gl.bindVertexArray(this.array);
    gl.enable(gl.BLEND);
    gl.blendFunc(gl.ONE, gl.ONE_MINUS_SRC_ALPHA);
    gl.depthMask(false);
    if (this.over) gl.disable(gl.DEPTH_TEST);
    gl.uniformMatrix4fv(this.program.uniforms.matrix, false, matrix);
    gl.uniform1f(this.program.uniforms.size, this.size * Math.min(window.devicePixelRatio || 1, 2));
    gl.drawArrays(this.mode, 0, this.count);
    gl.enable(gl.DEPTH_TEST);
    gl.depthMask(true);
  }
}
