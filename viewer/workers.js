// Workers: a module of its own where the page is served; in a shared file, which is one classic script, that script again.

const whole = globalThis.document?.currentScript?.textContent ?? null; // modules have no current script

/** A worker that runs the module of that name, `isWorker` of which is true there. */
export function startWorker(name) {
  if (whole === null) return new Worker(new URL(`${name}.js`, document.baseURI), { type: "module", name });
  return new Worker(URL.createObjectURL(new Blob([whole], { type: "text/javascript" })), { name });
}

/** Whether this is the worker of that name. */
export const isWorker = (name) => typeof document === "undefined" && globalThis.name === name;
