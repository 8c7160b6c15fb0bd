// Where training cameras looked: a coarse grid over all of space, by which what none saw is faded, as
// neuralfields/rendering/seen.py has it.

const WORLD = [[0, 0, 0], 1]; // centre and side of its frame
const UNIT = 8; // the texture unit, beyond those of bind() in scene.js

/** GLSL: the factor at a point, in the frame that `Seen.bind` was given; 1 where nothing is faded. */
export const SEEN = `
uniform highp sampler3D seen;
uniform vec4 seenFrame; // a point times w, plus xyz: the inner cube is [-0.5, 0.5]^3
uniform bool fading;
float seenAt(vec3 p) {
  if (!fading) return 1.0;
  vec3 u = 2.0 * (p * seenFrame.w + seenFrame.xyz), a = abs(u);
  float m = max(1.0, max(a.x, max(a.y, a.z))), share = texture(seen, u * ((2.0 - 1.0 / m) / m) * 0.25 + 0.5).r;
  return share * share * (3.0 - 2.0 * share);
}`;

/** The cells of a text of runs, a byte each: 255 where they were seen. */
export function cellsOf({ side, runs }) {
  const cells = new Uint8Array(side ** 3), counts = atob(runs);
  for (let i = 0, at = 0; i < counts.length; i++) cells.fill(i & 1 ? 255 : 0, at, (at += counts.charCodeAt(i)));
  return cells;
}

export class Seen {
  /** `grid` and `bounds` as a stage has them; no grid: nothing is faded. */
  constructor(gl, grid = null, { centre, side } = { centre: [0, 0, 0], side: 1 }) {
    Object.assign(this, { gl, centre, side, there: Boolean(grid), texture: gl.createTexture() });
    gl.bindTexture(gl.TEXTURE_3D, this.texture);
    for (const name of [gl.TEXTURE_MIN_FILTER, gl.TEXTURE_MAG_FILTER]) gl.texParameteri(gl.TEXTURE_3D, name, gl.LINEAR);
    for (const name of [gl.TEXTURE_WRAP_S, gl.TEXTURE_WRAP_T, gl.TEXTURE_WRAP_R]) gl.texParameteri(gl.TEXTURE_3D, name, gl.CLAMP_TO_EDGE);
    gl.pixelStorei(gl.UNPACK_ALIGNMENT, 1);
    const many = grid?.side ?? 1;
    gl.texImage3D(gl.TEXTURE_3D, 0, gl.R8, many, many, many, 0, gl.RED, gl.UNSIGNED_BYTE, grid ? cellsOf(grid) : new Uint8Array(1));
  }

  free() {
    this.gl.deleteTexture(this.texture);
  }

  /** Hands it to a program that uses SEEN; `on`: whether it fades; points are given from `centre` in units of `side`, or in the world. */
  bind(uniforms, on, [centre, side] = WORLD) {
    const { gl } = this, shift = this.centre.map((v, k) => (centre[k] - v) / this.side);
    gl.activeTexture(gl.TEXTURE0 + UNIT);
    gl.bindTexture(gl.TEXTURE_3D, this.texture);
    gl.activeTexture(gl.TEXTURE0);
    gl.uniform1i(uniforms.seen, UNIT);
    gl.uniform4f(uniforms.seenFrame, ...shift, side / this.side);
    gl.uniform1i(uniforms.fading, on && this.there);
  }
}
