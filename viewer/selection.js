// Gaussians selected and deleted by hand, in the live page and in a shared file: buttons, keys, and what the layer shows.
// What they are selected in, and how what is left is saved, is said by editor.js and share_editor.js.

import { Brush } from "./brush.js";
import { Choice } from "./choice.js";
import { isTyping } from "./keys.js";

const $ = (id) => document.getElementById(id);

export class Selection {
  /** What it takes of a page. */
  constructor({ canvas, state, controls, wake, note }) {
    Object.assign(this, { state, wake, note, choice: null, saved: 0 });
    this.brush = new Brush(this, { canvas, state, controls }, $("brush"));
    $("brush-on").onclick = () => this.paint(!this.brush.on || this.brush.box);
    $("box-on").onclick = () => this.paint(!this.brush.on || !this.brush.box, true);
    $("brush-size").oninput = () => { this.brush.radius = $("brush-size").valueAsNumber; };
    $("brush-visible").onchange = () => { this.brush.visible = $("brush-visible").checked; };
    const press = { "select-invert": "invert", "select-none": "clear", "select-delete": "remove", "select-undo": "undo", "select-redo": "redo" };
    for (const [id, name] of Object.entries(press)) $(id).onclick = () => this.edit(name);
    $("select-save").onclick = () => this.save();
    window.addEventListener("keydown", (event) => this.key(event));
    window.addEventListener("beforeunload", (event) => { if (this.choice && this.choice.gone !== this.saved) event.preventDefault(); });
  }

  /** Begins with so many Gaussians, of which none is selected. */
  begun(count) {
    Object.assign(this, { choice: new Choice(count), saved: 0 });
  }

  /** The brush is taken up or laid down; `box`: it draws a rectangle. */
  paint(on, box = false) {
    if (on && !this.ready()) return;
    this.brush.turn(on, box);
    $("brush-on").setAttribute("aria-pressed", String(on && !box));
    $("box-on").setAttribute("aria-pressed", String(on && box));
    const fingers = window.matchMedia("(pointer: coarse)").matches;
    if (on) this.note(fingers ? "one finger selects, two move the camera" : "drag to select, with Alt to take out; the right button turns, Shift moves");
  }

  /** One of the actions of a Choice by its name. */
  edit(name) {
    if (!this.choice || !this.ready()) return;
    this.choice[name]();
    this.changed();
  }

  changed() {
    this.layer.mark(this.choice);
    this.show();
    this.wake();
  }

  show() {
    const { choice } = this, number = (n) => n.toLocaleString("en");
    $("select-count").textContent = choice ? `${number(choice.chosen)} selected of ${number(choice.left)}${choice.gone ? `, ${number(choice.gone)} deleted` : ""}` : "";
    for (const id of ["select-delete", "select-none"]) $(id).disabled = !choice?.chosen;
    $("select-undo").disabled = !choice?.done.length;
    $("select-redo").disabled = !choice?.undone.length;
    $("select-save").disabled = !choice?.left;
  }

  key(event) {
    if (!this.able || isTyping(event)) return;
    const key = event.key.toLowerCase(), control = event.ctrlKey || event.metaKey;
    if (control && key === "z") this.edit(event.shiftKey ? "redo" : "undo");
    else if (control && key === "y") this.edit("redo");
    else if (control || event.altKey) return;
    else if ((key === "delete" || key === "backspace") && this.choice?.chosen) this.edit("remove");
    else if (key === "escape" && (this.choice?.chosen || this.brush.on)) this.brush.on ? this.paint(false) : this.edit("clear");
    else if (key === "l") this.paint(!this.brush.on);
    else return;
    event.preventDefault();
  }

  // ---------------------------------------------------------------- for each page to fill in

  /** The layer that draws the Gaussians. */
  get layer() { return null; }

  /** Whether there are Gaussians that a selection can be made of. */
  get able() { return false; }

  /** Whether the page draws them now. */
  ready() { return this.able; }

  /** Saves what is left. */
  async save() {}
}
