// Small photos in the far planes of the cameras' pyramids, as they arrive from the server.

import { corners } from "./marks.js";
import { program } from "./scene.js";

const SIDE = 128; // pixels of a texture's side, whatever the photo's shape

const VERTEX = `
layout(location = 0) in vec4 place; // position, and the layer of the texture
uniform mat4 matrix;
uniform float hidden;
out vec3 at;
void main() {
  int corner = gl_VertexID % 6; // two triangles: top left, top right, bottom right; top left, bottom right, bottom left
  bool right = corner == 1 || corner == 2 || corner == 4, low = corner == 2 || corner >= 4;
  at = vec3(right, low, place.w);
  gl_Position = place.w == hidden ? vec4(2.0, 2.0, 2.0, 1.0) : matrix * vec4(place.xyz, 1.0);
}`;
const FRAGMENT = `
precision highp sampler2DArray;
in vec3 at;
uniform sampler2DArray photos;
out vec4 shown;
void main() { shown = vec4(texture(photos, at).rgb, 1.0); }`;

export class ThumbLayer {
  constructor(gl) {
    Object.assign(this, { gl, shown: false, cameras: [], have: [], hidden: null });
    this.program = program(gl, VERTEX, FRAGMENT);
    [this.array, this.buffer, this.photos] = [gl.createVertexArray(), gl.createBuffer(), gl.createTexture()];
    gl.bindVertexArray(this.array);
    gl.bindBuffer(gl.ARRAY_BUFFER, this.buffer);
    gl.enableVertexAttribArray(0);
    gl.vertexAttribPointer(0, 4, gl.FLOAT, false, 0, 0);
  }

  /** Makes room for the photos of some cameras, whose pyramids are that long. */
  begin(cameras, distance) {
    const { gl } = this, most = Math.min(cameras.length, gl.getParameter(gl.MAX_ARRAY_TEXTURE_LAYERS));
    Object.assign(this, { cameras: cameras.slice(0, most), distance, have: [] });
    gl.bindTexture(gl.TEXTURE_2D_ARRAY, this.photos);
    gl.texImage3D(gl.TEXTURE_2D_ARRAY, 0, gl.RGB8, SIDE, SIDE, Math.max(1, most), 0, gl.RGB, gl.UNSIGNED_BYTE, null);
    for (const name of [gl.TEXTURE_MIN_FILTER, gl.TEXTURE_MAG_FILTER]) gl.texParameteri(gl.TEXTURE_2D_ARRAY, name, gl.LINEAR);
    for (const name of [gl.TEXTURE_WRAP_S, gl.TEXTURE_WRAP_T]) gl.texParameteri(gl.TEXTURE_2D_ARRAY, name, gl.CLAMP_TO_EDGE);
  }

  /** Takes the photo of a camera, an image file. */
  async take(index, data) {
    const bitmap = await createImageBitmap(data, { resizeWidth: SIDE, resizeHeight: SIDE, resizeQuality: "medium" });
    if (index >= this.cameras.length || this.have.includes(index)) return;
    const { gl } = this;
    gl.bindTexture(gl.TEXTURE_2D_ARRAY, this.photos);
    gl.texSubImage3D(gl.TEXTURE_2D_ARRAY, 0, 0, 0, index, SIDE, SIDE, 1, gl.RGB, gl.UNSIGNED_BYTE, bitmap);
    this.have.push(index);
    const values = this.have.flatMap((i) => {
      const frame = corners(this.cameras[i], this.distance);
      return [0, 1, 2, 0, 2, 3].flatMap((corner) => [...frame[corner], i]);
    });
    gl.bindBuffer(gl.ARRAY_BUFFER, this.buffer);
    gl.bufferData(gl.ARRAY_BUFFER, new Float32Array(values), gl.DYNAMIC_DRAW);
  }

  draw({ gl, matrix }) {
    if (!this.shown || !this.have.length) return;
    gl.useProgram(this.program.made);
    gl.bindVertexArray(this.array);
    gl.disable(gl.BLEND);
    gl.enable(gl.DEPTH_TEST);
    gl.depthMask(true);
    gl.activeTexture(gl.TEXTURE0);
    gl.bindTexture(gl.TEXTURE_2D_ARRAY, this.photos);
    gl.uniform1i(this.program.uniforms.photos, 0);
    gl.uniform1f(this.program.uniforms.hidden, this.hidden ?? -1);
    gl.uniformMatrix4fv(this.program.uniforms.matrix, false, matrix);
    gl.drawArrays(gl.TRIANGLES, 0, 6 * this.have.length);
  }
}

/** The index of the camera whose photo's plane is seen at (x, y) in [0, 1]; null where none is. */
export function cameraAt(cameras, distance, matrix, x, y, hidden) {
  let found = null, nearest = Infinity;
  cameras.forEach((camera, index) => {
    if (index === hidden) return;
    const seen = corners(camera, distance).map((p) => {
      const row = (i) => matrix[i] * p[0] + matrix[4 + i] * p[1] + matrix[8 + i] * p[2] + matrix[12 + i], w = row(3);
      return { x: 0.5 + (0.5 * row(0)) / w, y: 0.5 - (0.5 * row(1)) / w, w };
    });
    if (seen.some(({ w }) => w <= 0)) return;
    const sides = seen.map((a, i) => {
      const b = seen[(i + 1) % 4];
      return (b.x - a.x) * (y - a.y) - (b.y - a.y) * (x - a.x);
    });
    const depth = (seen[0].w + seen[2].w) / 2;
    if ((sides.every((side) => side >= 0) || sides.every((side) => side <= 0)) && depth < nearest) [found, nearest] = [index, depth];
  });
  return found;
}
