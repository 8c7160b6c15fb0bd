// The worker that decodes a .nfz of Gaussians: from base64 to what splats.js draws, or to a .ply of what is left of them.

import { answerAside, askAside, fromBase64 } from "./aside.js";
import { decode } from "./nfz.js";
import { kept, pack } from "./packing.js";
import { plyOf } from "./ply.js";

/** Packed Gaussians of a base64 text, made in a worker; `tell` hears the share that is done. Rejects with one line. */
export function decodeAside(text, near, tell) {
  return askAside("decoder", { text, near }, tell);
}

/** The bytes of a .ply without the packed Gaussians whose bit in `gone` is 1 (choice.js), made in a worker. */
export async function plyAside(text, gone) {
  return (await askAside("decoder", { text, gone }, () => {})).ply;
}

answerAside("decoder", ({ text, near, gone }, tell) => {
  const gaussians = decode(fromBase64(text), tell);
  if (gone) {
    const ply = plyOf(gaussians, kept(gaussians).filter((_, row) => !((gone[row >> 3] >> (row & 7)) & 1)));
    return [{ ply }, [ply.buffer]];
  }
  const parts = pack(gaussians, near);
  return [parts, [parts.core.buffer, parts.rest.buffer, parts.means.buffer]];
});
