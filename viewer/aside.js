// A scene that lies in a shared file as base64 is decoded in a worker, which tells how far it is.

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

/** What the worker of that name makes of a message; `tell` hears the share that is done. Rejects with one line. */
export function askAside(name, message, tell) {
  return new Promise((resolve, reject) => {
    const worker = startWorker(name), end = (settle, value) => { worker.terminate(); settle(value); };
    worker.onerror = () => end(reject, new Error("this browser ran out of memory, or allows no workers"));
    worker.onmessage = ({ data }) => {
      if (data.parts) end(resolve, data.parts);
      else if (data.error) end(reject, new Error(data.error));
      else tell(data.share);
    };
    worker.postMessage(message);
  });
}

/** In the worker of that name: answers by `work(message, tell)`, which gives parts and the buffers to hand over. */
export function answerAside(name, work) {
  if (!isWorker(name)) return;
  self.onmessage = async ({ data }) => {
    let last = 0;
    const tell = (share) => {
      if (performance.now() - last < OFTEN) return;
      last = performance.now();
      self.postMessage({ share });
    };
    try {
      const [parts, buffers] = await work(data, tell);
      self.postMessage({ parts }, buffers);
    } catch (error) {
      self.postMessage({ error: error.message });
    }
  };
}
