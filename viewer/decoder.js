// The worker that decodes a .nfz: from base64 to what splats.js draws, with progress on the way.

import { decode } from "./nfz.js";
import { pack } from "./packing.js";
import { isWorker, startWorker } from "./workers.js";

const SLICE = 1 << 20; // letters at a time; a multiple of 4
const OFTEN = 40; // milliseconds between two messages of progress

/** Bytes of a base64 text. */
export function fromBase64(text) {
  const bytes = new Uint8Array((text.length / 4) * 3 - (text.endsWith("==") ? 2 : text.endsWith("=") ? 1 : 0));
  for (let begin = 0, at = 0; begin < text.length; begin += SLICE) {
    const part = atob(text.slice(begin, begin + SLICE));
    for (let i = 0; i < part.length; i++) bytes[at++] = part.charCodeAt(i);
  }
  return bytes;
}

/** Packed Gaussians of a base64 text, made in a worker; `tell` hears the share that is done. Rejects with one line. */
export function decodeAside(text, near, tell) {
  return new Promise((resolve, reject) => {
    const worker = startWorker("decoder"), end = (settle, value) => { worker.terminate(); settle(value); };
    worker.onerror = () => end(reject, new Error("this browser ran out of memory, or allows no workers"));
    worker.onmessage = ({ data }) => {
      if (data.parts) end(resolve, data.parts);
      else if (data.error) end(reject, new Error(data.error));
      else tell(data.share);
    };
    worker.postMessage({ text, near });
  });
}

if (isWorker("decoder")) {
  self.onmessage = ({ data }) => {
    let last = 0;
    const tell = (share) => {
      if (performance.now() - last < OFTEN) return;
      last = performance.now();
      self.postMessage({ share });
    };
    try {
      const parts = pack(decode(fromBase64(data.text), tell), data.near);
      self.postMessage({ parts }, [parts.core.buffer, parts.rest.buffer, parts.means.buffer]);
    } catch (error) {
      self.postMessage({ error: error.message });
    }
  };
}
