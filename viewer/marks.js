// What is drawn over the picture and hides behind it: cameras, axes, bounds and the cut as lines, a photo.

import { add, eyeFromPose, length, scale, sub } from "./math.js";
import { program, texture } from "./scene.js";

export const COLOURS = {
  camera: [0.46, 0.53, 0.63, 0.85], heldOut: [0.85, 0.6, 0.2, 0.95],
  bounds: [0.55, 0.58, 0.63, 0.6], cut: [0.85, 0.6, 0.2, 0.95],
  axes: [[0.87, 0.42, 0.42, 1], [0.47, 0.76, 0.47, 1], [0.42, 0.58, 0.93, 1]],
};

const segment = (a, b, colour) => [...a, ...colour, ...b, ...colour];

/** Corners of a camera's picture at a distance: top left, top right, bottom right, bottom left. */
export function corners(camera, distance) {
  const eye = eyeFromPose(camera.pose, 0), [left, right, top, bottom] = camera.extent;
  return [[left, top], [right, top], [right, bottom], [left, bottom]].map(([x, y]) =>
    add(eye.position, scale(add(add(scale(eye.right, x), scale(eye.down, y)), eye.forward), distance)));
}

/** A pyramid for every camera but the one that the eye stands in, with a tick that points to its top. */
export function frusta(cameras, distance, chosen) {
  return cameras.flatMap((camera, index) => {
    if (index === chosen) return [];
    const colour = camera.held_out ? COLOURS.heldOut : COLOURS.camera;
    const tip = eyeFromPose(camera.pose, 0).position, frame = corners(camera, distance);
    const sides = frame.flatMap((corner, i) => [...segment(tip, corner, colour), ...segment(corner, frame[(i + 1) % 4], colour)]);
    const top = scale(add(frame[0], frame[1]), 0.5), up = scale(sub(frame[0], frame[3]), 0.22);
    return [...sides, ...segment(frame[0], add(top, up), colour), ...segment(frame[1], add(top, up), colour)];
  });
}

/** Red, green and blue arms along x, y and z. */
export function axes(origin, size) {
  return COLOURS.axes.flatMap((colour, i) => segment(origin, add(origin, [0, 1, 2].map((k) => (k === i ? size : 0))), colour));
}

/** The edges of a box. */
export function box(low, high, colour) {
  const corner = (bits) => [0, 1, 2].map((k) => ((bits >> k) & 1 ? high[k] : low[k]));
  const edges = [];
  for (let bits = 0; bits < 8; bits++)
    for (let k = 0; k < 3; k++) if (!((bits >> k) & 1)) edges.push(...segment(corner(bits), corner(bits | (1 << k)), colour));
  return edges;
}

const PHOTO_VERTEX = `
layout(location = 0) in vec3 position;
uniform mat4 matrix;
out vec2 uv;
void main() {
  uv = vec2(gl_VertexID == 1 || gl_VertexID == 2, gl_VertexID >= 2);
  gl_Position = matrix * vec4(position, 1.0);
}`;
const PHOTO_FRAGMENT = `
in vec2 uv;
uniform sampler2D image;
uniform float opacity;
out vec4 shown;
void main() { shown = texture(image, uv) * opacity; } // its colours are multiplied by alpha already`;

/** A photo in the plane of its camera: exactly over the picture where the eye stands in that camera. */
export class PhotoLayer {
  constructor(gl) {
    this.program = program(gl, PHOTO_VERTEX, PHOTO_FRAGMENT);
    this.image = texture(gl, gl.LINEAR);
    this.array = gl.createVertexArray();
    this.buffer = gl.createBuffer();
    this.opacity = 0;
    this.camera = this.wanted = null; // the camera that it shows; the index of the one whose photo was asked for
    gl.bindVertexArray(this.array);
    gl.bindBuffer(gl.ARRAY_BUFFER, this.buffer);
    gl.enableVertexAttribArray(0);
    gl.vertexAttribPointer(0, 3, gl.FLOAT, false, 0, 0);
  }

  /** The camera it belongs to, the size of its pyramid, and the photo. */
  set(gl, camera, distance, bitmap) {
    gl.bindTexture(gl.TEXTURE_2D, this.image);
    gl.texImage2D(gl.TEXTURE_2D, 0, gl.RGBA, gl.RGBA, gl.UNSIGNED_BYTE, bitmap);
    gl.bindBuffer(gl.ARRAY_BUFFER, this.buffer);
    gl.bufferData(gl.ARRAY_BUFFER, new Float32Array(corners(camera, distance).flat()), gl.STATIC_DRAW);
    Object.assign(this, { camera, distance });
  }

  draw({ gl, eye, matrix }) {
    if (!this.camera || this.opacity <= 0) return;
    gl.useProgram(this.program.made);
    gl.bindVertexArray(this.array);
    gl.enable(gl.BLEND);
    gl.blendFunc(gl.ONE, gl.ONE_MINUS_SRC_ALPHA);
    const home = eyeFromPose(this.camera.pose, 0).position;
    if (length(sub(home, eye.position)) < 0.02 * this.distance) gl.disable(gl.DEPTH_TEST);
    gl.depthMask(false);
    gl.bindTexture(gl.TEXTURE_2D, this.image);
    gl.uniform1i(this.program.uniforms.image, 0);
    gl.uniform1f(this.program.uniforms.opacity, this.opacity);
    gl.uniformMatrix4fv(this.program.uniforms.matrix, false, matrix);
    gl.drawArrays(gl.TRIANGLE_FAN, 0, 4);
    gl.depthMask(true);
    gl.enable(gl.DEPTH_TEST);
  }
}
