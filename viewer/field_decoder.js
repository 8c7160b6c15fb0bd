// The worker that decodes the .nfz of a hash field (docs/nfz.md): from base64 to what field.js draws.
//
// Beside the file stands what its sections are (neuralfields/serving/field.py): the shapes that the shader needs,
// and of each coded part where its whole numbers belong and their step.

import { answerAside, askAside, fromBase64 } from "./aside.js";
import { decodeColumns } from "./entropy.js";
import { sections } from "./nfz.js";

const WORDS = 2 * 32768; // of 32 bits, of a cascade's occupancy

/** Parts of a hash field of a base64 text, made in a worker; `tell` hears the share that is done. Rejects with one line. */
export function decodeFieldAside(text, about, tell) {
  return askAside("field_decoder", { text, about }, tell);
}

/** Parts of a hash field, as `unpack` of field.js gives them: layers in float32, the table a byte a number. */
export async function decodeField(bytes, about, tell = () => {}) {
  const found = sections(bytes), { parts, ...shape } = about, { levels, ranges, features, density, colour, cascades } = shape;
  const pairs = [density, colour].flatMap((widths) => widths.slice(1).map((outputs, i) => [outputs, widths[i]]));
  const layers = pairs.map(([outputs, inputs]) => ({ inputs, weights: new Float32Array(outputs * inputs) }));
  const table = new Int8Array(features * Math.max(...levels.map((level) => level[2] + level[3])));
  const size = (i) => found.get(`part${i}`)?.data.length ?? 0, total = parts.reduce((sum, _, i) => sum + size(i), 1);
  let done = 0;
  parts.forEach(({ layer, begin, rows, columns, step }, i) => {
    const name = `part${i}`, section = found.get(name);
    if (section?.coding !== "columns") throw new Error(`it has no ${name} as they are known here; get the file again`);
    const progress = (share) => tell((done + share * section.data.length) / total);
    const codes = decodeColumns(name, section.data, columns, new Uint8Array(rows), new Int32Array(0), false, progress);
    done += section.data.length;
    if (layer !== null) {
      for (let k = 0; k < codes.length; k++) layers[layer].weights[begin * columns + k] = codes[k] * step;
      return;
    }
    const level = levels.findIndex((one) => one[3] === begin), scale = ranges[level].map((most) => Math.fround(127 / most));
    for (let k = 0; k < codes.length; k++) table[begin * columns + k] = nearest(Math.fround(Math.fround(codes[k] * step) * scale[k % columns]));
  });
  return { ...shape, layers, table, occupancy: await occupied(found.get("occupancy")?.data, WORDS * cascades) };
}

/** The nearest whole number, the even one of two: what is quantised twice often lies between two. */
function nearest(x) {
  const found = Math.round(x);
  return found - x === 0.5 && found & 1 ? found - 1 : found;
}

/** The words of an occupancy, from a zlib stream. */
async function occupied(data, count) {
  const stream = new Blob([data]).stream().pipeThrough(new DecompressionStream("deflate"));
  const buffer = await new Response(stream).arrayBuffer();
  if (buffer.byteLength !== 4 * count) throw new Error("its occupancy is damaged; get the file again");
  return new Uint32Array(buffer);
}

answerAside("field_decoder", async ({ text, about }, tell) => {
  const parts = await decodeField(fromBase64(text), about, tell);
  return [parts, [parts.table.buffer, parts.occupancy.buffer]];
});
