// The worker that decodes a .nfz of Gaussians: from base64 to what splats.js draws.

import { answerAside, askAside, fromBase64 } from "./aside.js";
import { decode } from "./nfz.js";
import { pack } from "./packing.js";

/** Packed Gaussians of a base64 text, made in a worker; `tell` hears the share that is done. Rejects with one line. */
export function decodeAside(text, near, tell) {
  return askAside("decoder", { text, near }, tell);
}

answerAside("decoder", ({ text, near }, tell) => {
  const parts = pack(decode(fromBase64(text), tell), near);
  return [parts, [parts.core.buffer, parts.rest.buffer, parts.means.buffer]];
});
