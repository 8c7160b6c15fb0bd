// What is drawn on the canvas: layers, one after the other, into one depth buffer.
//
// A layer has draw(frame), with frame = {gl, eye, aspect, matrix, near, far, width, height}. The first layer is the
// streamed picture, which writes the depth of what it shows; whatever geometry follows is hidden behind it. Layers that
// draw a scene of their own (splats) go between the picture and the lines.

import { viewProjection } from "./math.js";

export class Scene {
  /** `smooth`: whether lines are drawn over the picture. Throws where there is no WebGL2. */
  constructor(canvas, smooth = true) {
    this.canvas = canvas;
    const fine = smooth && (window.devicePixelRatio || 1) < 2 && !inSoftware(document.createElement("canvas").getContext("webgl2"));
    this.gl = canvas.getContext("webgl2", { alpha: false, antialias: fine, powerPreference: "low-power" });
    if (!this.gl) throw new Error("this page needs WebGL2, which this browser does not offer");
    this.layers = [];
    this.reach = [0.001, 1000];
  }

  /** Makes the canvas as large as it is shown; true where that changed it. */
  resize() {
    const ratio = Math.min(window.devicePixelRatio || 1, 2);
    const width = Math.max(1, Math.round(this.canvas.clientWidth * ratio));
    const height = Math.max(1, Math.round(this.canvas.clientHeight * ratio));
    if (width === this.canvas.width && height === this.canvas.height) return false;
    this.canvas.width = width;
    this.canvas.height = height;
    return true;
  }

  /** Draws all layers as the eye sees them. */
  draw(eye) {
    const { gl, canvas: { width, height } } = this, [near, far] = this.reach;
    gl.bindFramebuffer(gl.FRAMEBUFFER, null);
    gl.viewport(0, 0, width, height);
    gl.clearColor(0.051, 0.059, 0.071, 1);
    gl.clear(gl.COLOR_BUFFER_BIT | gl.DEPTH_BUFFER_BIT);
    const aspect = width / height, matrix = viewProjection(eye, aspect, near, far);
    for (const layer of this.layers) layer.draw({ gl, eye, aspect, matrix, near, far, width, height });
  }
}

/** A linked program with its uniforms by name; throws with the compiler's words. */
export function program(gl, vertex, fragment) {
  const made = gl.createProgram();
  for (const [kind, source] of [[gl.VERTEX_SHADER, vertex], [gl.FRAGMENT_SHADER, fragment]]) {
    const shader = gl.createShader(kind);
    gl.shaderSource(shader, `#version 300 es\nprecision highp float;\nprecision highp usampler2D;\n${source}`);
    gl.compileShader(shader);
    if (!gl.getShaderParameter(shader, gl.COMPILE_STATUS)) throw new Error(gl.getShaderInfoLog(shader));
    gl.attachShader(made, shader);
  }
  gl.linkProgram(made);
  if (!gl.getProgramParameter(made, gl.LINK_STATUS)) throw new Error(gl.getProgramInfoLog(made));
  const uniforms = {};
  for (let i = 0; i < gl.getProgramParameter(made, gl.ACTIVE_UNIFORMS); i++) {
    const { name } = gl.getActiveUniform(made, i);
    uniforms[name] = gl.getUniformLocation(made, name);
  }
  return { made, uniforms };
}

/** A texture that is read without repeating. */
export function texture(gl, filter) {
  const made = gl.createTexture();
  gl.bindTexture(gl.TEXTURE_2D, made);
  nearest(gl, filter);
  return made;
}

/** How the texture that is bound is read: without repeating. */
export function nearest(gl, filter = gl.NEAREST) {
  for (const name of [gl.TEXTURE_MIN_FILTER, gl.TEXTURE_MAG_FILTER]) gl.texParameteri(gl.TEXTURE_2D, name, filter);
  for (const name of [gl.TEXTURE_WRAP_S, gl.TEXTURE_WRAP_T]) gl.texParameteri(gl.TEXTURE_2D, name, gl.CLAMP_TO_EDGE);
}

/** Binds textures to the samplers of a program: [[uniform, texture], ...]. */
export function bind(gl, pairs) {
  pairs.forEach(([uniform, texture], unit) => {
    gl.activeTexture(gl.TEXTURE0 + unit);
    gl.bindTexture(gl.TEXTURE_2D, texture);
    gl.uniform1i(uniform, unit);
  });
  gl.activeTexture(gl.TEXTURE0);
}

const SOFTWARE = /swiftshader|llvmpipe|softpipe|software|basic render/i;

/** Whether WebGL is drawn by the processor. */
export function inSoftware(gl) {
  if (!gl) return false;
  const names = gl.getExtension("WEBGL_debug_renderer_info");
  return SOFTWARE.test(gl.getParameter(names ? names.UNMASKED_RENDERER_WEBGL : gl.RENDERER));
}
