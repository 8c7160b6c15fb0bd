// The keyboard: keys that are held move the camera, others do one thing each.

import { HELD } from "./controls.js";

/** Whether a key belongs to the element that has the focus: text is typed there, or it moves by that key. */
export function isTyping({ target, key }) {
  const owner = target.closest?.("input, select, dialog, [role=slider]");
  if (!owner || owner.type === "checkbox") return false;
  if (owner.type === "range" || owner.getAttribute("role") === "slider") return /^(arrow|home|end|page)/i.test(key);
  return true;
}

/** Listens to a page's keys, once a stage is there; `actions` are called by the key's name in lower case. */
export function listenKeys({ state, controls }, actions) {
  window.addEventListener("keydown", (event) => {
    controls.fast = event.shiftKey;
    if (event.ctrlKey || event.metaKey || event.altKey || isTyping(event) || !state.stage) return;
    const key = event.key.toLowerCase();
    if (key === " " && event.target.closest("button, summary, input")) return;
    if (HELD.has(key)) controls.press(key);
    else if (actions[key] && !event.repeat) actions[key]();
    else return;
    event.preventDefault();
  });
  window.addEventListener("keyup", (event) => {
    controls.fast = event.shiftKey;
    controls.held.delete(event.key.toLowerCase());
  });
}
