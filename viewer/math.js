// Vectors are arrays of 3 numbers. An eye is {position, right, down, forward, fov}: OpenCV axes in the world, the
// vertical field of view in degrees. Matrices are Float32Array(16), column by column, as WebGL takes them.

export const add = (a, b) => [a[0] + b[0], a[1] + b[1], a[2] + b[2]];
export const sub = (a, b) => [a[0] - b[0], a[1] - b[1], a[2] - b[2]];
export const scale = (a, s) => [a[0] * s, a[1] * s, a[2] * s];
export const dot = (a, b) => a[0] * b[0] + a[1] * b[1] + a[2] * b[2];
export const cross = (a, b) => [a[1] * b[2] - a[2] * b[1], a[2] * b[0] - a[0] * b[2], a[0] * b[1] - a[1] * b[0]];
export const length = (a) => Math.sqrt(dot(a, a));
export const unit = (a) => scale(a, 1 / Math.max(length(a), 1e-12));
export const mix = (a, b, t) => add(scale(a, 1 - t), scale(b, t));
export const clamp = (x, low, high) => Math.min(Math.max(x, low), high);
export const tangent = (fov) => Math.tan((fov * Math.PI) / 360);

/** `v` turned about a unit axis by an angle in radians (Rodrigues). */
export function turned(v, axis, angle) {
  const c = Math.cos(angle), s = Math.sin(angle);
  return add(add(scale(v, c), scale(cross(axis, v), s)), scale(axis, dot(axis, v) * (1 - c)));
}

/** An eye from the 12 numbers of the upper rows of world_from_camera. */
export function eyeFromPose(pose, fov) {
  const column = (i) => [pose[i], pose[4 + i], pose[8 + i]];
  return { right: column(0), down: column(1), forward: column(2), position: column(3), fov };
}

/** The reverse of eyeFromPose, as messages hold it. */
export function eyeMessage({ right, down, forward, position, fov }) {
  return { pose: [0, 1, 2].flatMap((i) => [right[i], down[i], forward[i], position[i]]), fov };
}

/** The eye with axes of length 1 at right angles: many small turns add up to a shear otherwise. */
export function tidy(eye) {
  const forward = unit(eye.forward);
  const right = unit(sub(eye.right, scale(forward, dot(eye.right, forward))));
  return { ...eye, forward, right, down: cross(forward, right) };
}

/** An eye at `position` that looks at `target`, the top of the picture towards `up`. */
export function lookAt(position, target, up, fov) {
  const forward = unit(sub(target, position));
  let right = cross(forward, up);
  if (length(right) < 1e-6) right = cross(forward, Math.abs(forward[0]) < 0.9 ? [1, 0, 0] : [0, 1, 0]);
  return tidy({ position, forward, right: unit(right), down: [0, 0, 0], fov });
}

/** The clip-space matrix of an eye for a picture of that aspect (width / height). */
export function viewProjection(eye, aspect, near, far) {
  const ty = tangent(eye.fov), tx = ty * aspect;
  const a = (far + near) / (far - near), b = (-2 * far * near) / (far - near);
  const rows = [scale(eye.right, 1 / tx), scale(eye.down, -1 / ty), scale(eye.forward, a), eye.forward];
  const shifts = rows.map((row, i) => -dot(row, eye.position) + (i === 2 ? b : 0));
  const matrix = new Float32Array(16);
  rows.forEach((row, i) => { for (let j = 0; j < 3; j++) matrix[j * 4 + i] = row[j]; matrix[12 + i] = shifts[i]; });
  return matrix;
}

/** Whether two eyes see the same. */
export function sameEye(a, b) {
  const near = (p, q) => length(sub(p, q)) < 1e-9;
  return near(a.position, b.position) && near(a.right, b.right) && near(a.forward, b.forward) && a.fov === b.fov;
}

/** Milliseconds as people read them: 62 ms, 4.1 s. */
export const duration = (ms) => (ms < 1000 ? `${Math.round(ms)} ms` : `${(ms / 1000).toFixed(1)} s`);

/** 12345678 -> "12.3 M". */
export function short(value) {
  for (const [limit, name] of [[1e9, "G"], [1e6, "M"], [1e3, "k"]])
    if (value >= limit) return `${(value / limit).toPrecision(3)} ${name}`;
  return value.toFixed(value < 10 ? 1 : 0);
}
