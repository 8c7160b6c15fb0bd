// The keyboard: keys that are held move the camera, others do one thing each.

import { HELD } from "./controls.js";

/** Listens to a page's keys; `actions` are called by the key's name in lower case. */
export function listenKeys(page, actions) {
  window.addEventListener("keydown", (event) => {
    page.fast = event.shiftKey;
    const typing = event.target.closest?.("input, select, dialog, [role=slider]") && event.target.type !== "checkbox";
    if (event.ctrlKey || event.metaKey || event.altKey || typing || !page.state.stage) return;
    const key = event.key.toLowerCase();
    if (key === " " && event.target.closest("button, summary, input")) return;
    if (HELD.has(key)) page.controls.press(key);
    else if (actions[key] && !event.repeat) actions[key]();
    else return;
    event.preventDefault();
  });
  window.addEventListener("keyup", (event) => {
    page.fast = event.shiftKey;
    page.controls.held.delete(event.key.toLowerCase());
  });
}
