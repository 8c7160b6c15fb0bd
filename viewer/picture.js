// The streamed picture with its depth. Until the next one comes, the last is carried along with the eye: it is seen as
// if painted on the plane through the pivot, which is exact for what turns about the pivot and near enough around it.
//
// While pictures are coarse, the last sharp one of the same kind is laid over them: where its depth says that it saw the
// very point that a pixel shows now, its colour is taken. What it did not see keeps the coarse colour.

import { add, dot, scale, sub, tangent } from "./math.js";
import { program, texture } from "./scene.js";

const VERTEX = `
out vec2 ndc;
void main() {
  ndc = vec2(gl_VertexID == 1 ? 3.0 : -1.0, gl_VertexID == 2 ? 3.0 : -1.0);
  gl_Position = vec4(ndc, 0.0, 1.0);
}`;

const FRAGMENT = `
#define NEAR_ENOUGH 0.012 // of the distance: two steps of a coarse picture's depth
in vec2 ndc;
uniform mat3 turn, turnThen;          // columns: right, down, forward of the eye now, and of the picture's eye
uniform vec3 place, placeThen, plane; // positions, and a point of the plane that the picture is painted on
uniform vec2 spread, spreadThen;      // tangents of half the field of view
uniform vec2 reach;                   // nearest and farthest depth of the buffer
uniform vec2 range;                   // nearest and farthest depth of the picture
uniform vec3 behind;
uniform sampler2D image;
uniform usampler2D depth;
uniform bool carried;                 // whether there is a sharp picture to take colours from, which the next five describe
uniform mat3 turnSharp;
uniform vec3 placeSharp;
uniform vec2 spreadSharp, rangeSharp;
uniform sampler2D imageSharp;
uniform usampler2D depthSharp;
out vec4 colour;

// How far along its ray the depth picture saw something at uv; 0: nothing.
float seenAt(usampler2D codes, vec2 uv, vec2 between) {
  ivec2 size = textureSize(codes, 0);
  uint code = texelFetch(codes, clamp(ivec2(uv * vec2(size)), ivec2(0), size - 1), 0).r;
  return code == 65535u ? 0.0 : between.x * pow(between.y / between.x, float(code) / 65534.0);
}

// The sharp picture's colour of the point that is seen about a place along the ray of this pixel; a = 0 where it saw another.
// From 2 degrees aside on it counts less, from 10 on nothing: what is seen of fog and gloss changes with the side.
vec4 sharp(vec3 point, vec3 ray) {
  for (int i = 0; i < 4; ++i) {
    vec3 q = transpose(turnSharp) * (point - placeSharp);
    vec2 at = q.xy / (q.z * spreadSharp);
    if (q.z <= 0.0 || any(greaterThan(abs(at), vec2(0.998)))) return vec4(0.0);
    vec2 uv = 0.5 + 0.5 * at;
    float seen = seenAt(depthSharp, uv, rangeSharp), away = length(q);
    if (seen == 0.0) return vec4(0.0);
    if (abs(seen - away) < NEAR_ENOUGH * away) return vec4(texture(imageSharp, uv).rgb, 1.0 - smoothstep(0.03, 0.18, acos(clamp(dot(normalize(ray), normalize(point - placeSharp)), -1.0, 1.0))));
    if (abs(seen - away) > 0.06 * away) return vec4(0.0); // another thing, or the same fog from elsewhere
    point += normalize(ray) * (seen - away); // nearer to where the ray meets what the sharp picture saw
  }
  return vec4(0.0);
}

void main() {
  colour = vec4(behind, 1.0);
  gl_FragDepth = 1.0;
  vec3 ray = turn * vec3(ndc.x * spread.x, -ndc.y * spread.y, 1.0);
  float along = dot(ray, turnThen[2]);
  float t = dot(plane - place, turnThen[2]) / along;
  vec3 q = transpose(turnThen) * (place + t * ray - placeThen);
  vec2 at = q.xy / (q.z * spreadThen);
  vec2 uv = 0.5 + 0.5 * at;
  if (along <= 0.0 || t <= 0.0 || q.z <= 0.0 || any(greaterThan(abs(at), vec2(1.002)))) return;
  colour = vec4(texture(image, uv).rgb, 1.0);
  float away = seenAt(depth, uv, range);
  if (away == 0.0) {
    vec3 far = transpose(turnSharp) * ray; // where both see nothing, the sharp one's colour of it
    vec2 behind_ = far.xy / (far.z * spreadSharp);
    if (carried && far.z > 0.0 && all(lessThan(abs(behind_), vec2(0.998))) && seenAt(depthSharp, 0.5 + 0.5 * behind_, rangeSharp) == 0.0)
      colour.rgb = texture(imageSharp, 0.5 + 0.5 * behind_).rgb;
    return;
  }
  vec3 point = placeThen + away * (turnThen * normalize(vec3(at * spreadThen, 1.0)));
  if (carried) {
    vec4 found = sharp(place + ray * max(dot(point - place, turn[2]), reach.x), ray);
    colour.rgb = mix(colour.rgb, found.rgb, found.a);
  }
  float z = max(dot(point - place, turn[2]), reach.x);
  gl_FragDepth = reach.y / (reach.y - reach.x) * (1.0 - reach.x / z);
}`;

const OF_THE_VIEW = ["depth", "error"]; // whose colours of a point change with the view

class Side {
  constructor(gl) {
    this.slots = [0, 1].map(() => ({ image: texture(gl, gl.LINEAR), depth: texture(gl, gl.NEAREST) })); // sharp, coarse
    this.now = this.slots[1];
    this.header = this.sharp = null; // the last frame's; the slot of the last sharp one
  }
}

export class PictureLayer {
  constructor(gl) {
    this.program = program(gl, VERTEX, FRAGMENT);
    this.sides = [new Side(gl), new Side(gl)];
    this.empty = gl.createVertexArray();
    this.behind = []; // the colour of each side where it has no picture
    this.pivot = [0, 0, 0];
    this.carry = true; // whether a sharp picture is laid over coarse ones
    this.split = null; // where the second side begins, 0 to 1 of the width; null: one side alone
  }

  /** Takes a frame: its header, the eye it was rendered for, an ImageBitmap, its depth as Uint16Array, and a text that is
   * the same for pictures of the same kind. */
  take(gl, header, eye, bitmap, depth, kind) {
    const side = this.sides[header.side], slot = side.slots[header.last ? 0 : 1];
    gl.bindTexture(gl.TEXTURE_2D, slot.image);
    gl.texImage2D(gl.TEXTURE_2D, 0, gl.RGBA, gl.RGBA, gl.UNSIGNED_BYTE, bitmap);
    gl.bindTexture(gl.TEXTURE_2D, slot.depth);
    gl.pixelStorei(gl.UNPACK_ALIGNMENT, 2);
    const { width, height } = header.depth;
    gl.texImage2D(gl.TEXTURE_2D, 0, gl.R16UI, width, height, 0, gl.RED_INTEGER, gl.UNSIGNED_SHORT, depth);
    Object.assign(slot, { header, eye, kind });
    Object.assign(side, { header, eye, values: depth, now: slot });
    if (header.last) side.sharp = slot;
  }

  /** Forgets the pictures: another subject is shown. */
  clear() {
    for (const side of this.sides) side.header = side.sharp = null;
  }

  /** The world point that the first side shows at (x, y) in [0, 1], y downwards; null where there is nothing. */
  pointAt(x, y) {
    const { header, eye, values } = this.sides[0];
    if (!header) return null;
    const { width, height, near, far } = header.depth;
    const code = values[Math.min(height - 1, Math.floor(y * height)) * width + Math.min(width - 1, Math.floor(x * width))];
    if (code === 65535) return null;
    const ty = tangent(eye.fov), tx = (ty * header.width) / header.height;
    const ray = [(2 * x - 1) * tx, (2 * y - 1) * ty, 1];
    const away = (near * (far / near) ** (code / 65534)) / Math.hypot(...ray);
    const axes = [eye.right, eye.down, eye.forward];
    return axes.reduce((p, axis, i) => add(p, scale(axis, ray[i] * away)), eye.position);
  }

  draw(frame) {
    const { gl, width, height } = frame;
    gl.disable(gl.BLEND);
    gl.enable(gl.DEPTH_TEST);
    gl.depthFunc(gl.ALWAYS);
    gl.depthMask(true);
    gl.useProgram(this.program.made);
    gl.bindVertexArray(this.empty);
    const edge = this.split === null ? width : Math.round(this.split * width);
    gl.enable(gl.SCISSOR_TEST);
    this.sides.forEach((side, index) => {
      if (!side.header || (index && this.split === null)) return;
      gl.scissor(index ? edge : 0, 0, index ? width - edge : edge, height);
      this.drawSide(frame, side, this.behind[index] ?? [0.051, 0.059, 0.071]);
    });
    gl.disable(gl.SCISSOR_TEST);
    gl.depthFunc(gl.LEQUAL);
  }

  drawSide({ gl, eye, aspect, near, far }, side, behind) {
    const u = this.program.uniforms, then = side.eye, { header } = side;
    const ty = tangent(eye.fov), tyThen = tangent(then.fov);
    const away = Math.max(dot(sub(this.pivot, then.position), then.forward), near * 10);
    gl.uniformMatrix3fv(u.turn, false, [...eye.right, ...eye.down, ...eye.forward]);
    gl.uniformMatrix3fv(u.turnThen, false, [...then.right, ...then.down, ...then.forward]);
    gl.uniform3fv(u.place, eye.position);
    gl.uniform3fv(u.placeThen, then.position);
    gl.uniform3fv(u.plane, add(then.position, scale(then.forward, away)));
    gl.uniform2f(u.spread, ty * aspect, ty);
    gl.uniform2f(u.spreadThen, (tyThen * header.width) / header.height, tyThen);
    gl.uniform2f(u.reach, near, far);
    gl.uniform2f(u.range, header.depth.near, header.depth.far);
    gl.uniform3fv(u.behind, behind);
    const { now } = side, sharp = side.sharp ?? now, tySharp = tangent(sharp.eye.fov);
    const carried = this.carry && sharp !== now && sharp.kind === now.kind && !OF_THE_VIEW.includes(now.header.what);
    gl.uniform1i(u.carried, carried);
    gl.uniformMatrix3fv(u.turnSharp, false, [...sharp.eye.right, ...sharp.eye.down, ...sharp.eye.forward]);
    gl.uniform3fv(u.placeSharp, sharp.eye.position);
    gl.uniform2f(u.spreadSharp, (tySharp * sharp.header.width) / sharp.header.height, tySharp);
    gl.uniform2f(u.rangeSharp, sharp.header.depth.near, sharp.header.depth.far);
    [now.image, now.depth, sharp.image, sharp.depth].forEach((bound, unit) => {
      gl.activeTexture(gl.TEXTURE0 + unit);
      gl.bindTexture(gl.TEXTURE_2D, bound);
    });
    gl.activeTexture(gl.TEXTURE0);
    ["image", "depth", "imageSharp", "depthSharp"].forEach((name, unit) => gl.uniform1i(u[name], unit));
    gl.drawArrays(gl.TRIANGLES, 0, 3);
  }
}
