// Selecting, deleting and saving Gaussians: the panel's part, its keys, and what the layer shows of it.

import { Brush } from "./brush.js";
import { Choice } from "./choice.js";
import { download } from "./download.js";
import { isTyping } from "./keys.js";
import { insideBox } from "./picking.js";

const $ = (id) => document.getElementById(id);

export class Editor {
  constructor(app) {
    Object.assign(this, { app, choice: null, of: null, saved: 0 });
    this.brush = new Brush(this, $("brush"));
    $("brush-on").onclick = () => this.paint(!this.brush.on);
    $("brush-size").oninput = () => { this.brush.radius = $("brush-size").valueAsNumber; };
    $("brush-visible").onchange = () => { this.brush.visible = $("brush-visible").checked; };
    const press = { "select-box": () => this.box(), "select-invert": () => this.edit("invert"), "select-none": () => this.edit("clear"),
      "select-delete": () => this.edit("remove"), "select-undo": () => this.edit("undo"), "select-redo": () => this.edit("redo"), "select-save": () => this.save() };
    for (const [id, act] of Object.entries(press)) $(id).onclick = act;
    window.addEventListener("keydown", (event) => this.key(event));
    window.addEventListener("beforeunload", (event) => { if (this.choice && this.choice.gone !== this.saved) event.preventDefault(); });
  }

  get layer() {
    return this.app.local.layer;
  }

  /** Whether there are Gaussians here that a selection can be made of: a running fit changes them all the time. */
  get able() {
    const { stage, subjects } = this.app.state;
    return Boolean(stage && this.layer && !stage.live && !stage.times && subjects.length === 1 && stage.subjects[subjects[0]].splats);
  }

  /** The state has changed: another subject, or another that draws. */
  begin() {
    $("select").hidden = !this.able;
    if (!this.able && this.brush.on) this.paint(false);
    this.show();
  }

  /** The layer has taken Gaussians: those of before keep their selection. */
  loaded(subject) {
    if (!this.able) return Object.assign(this, { choice: null, of: null });
    const { count, version } = this.layer.loaded, of = `${subject} ${version} ${count}`;
    if (of !== this.of) Object.assign(this, { of, choice: new Choice(count), saved: 0 });
    this.changed();
  }

  paint(on) {
    if (on && !this.ready()) return;
    this.brush.turn(on);
    $("brush-on").setAttribute("aria-pressed", String(on));
    $("select").open = $("select").open || on;
    if (on) this.app.note("drag to select, with Alt to take out; the right button turns, Shift moves");
  }

  /** Whether the page draws; where it only could, it begins to. */
  ready() {
    if (!this.able) return false;
    if (this.app.state.drawn === "server") {
      $("drawn").value = "page";
      $("drawn").onchange();
    }
    return true;
  }

  /** One of the actions of a Choice by its name. */
  edit(name) {
    if (!this.choice || !this.ready()) return;
    this.choice[name]();
    this.changed();
  }

  box() {
    const box = this.app.box();
    if (!this.ready() || !this.choice) return;
    if (!box) {
      $("cut").open = true;
      return this.app.note("first cut to a box, a slice or both: what is inside is selected");
    }
    this.choice.choose(insideBox(this.layer.loaded.core, box));
    this.changed();
  }

  changed() {
    this.layer.mark(this.choice);
    this.show();
    this.app.wake();
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

  /** The server writes what is left of its own Gaussians into a file; it is told which are deleted. */
  async save() {
    const { choice, app } = this, subject = app.local.subject, suffix = $("select-format").value, { gone } = choice;
    $("select-save").disabled = true;
    app.note(`the ${suffix} is being written`);
    try {
      const address = new URL(`splats/${subject}/file?as=${suffix}&version=${this.layer.loaded.version}`, document.baseURI);
      const answer = await fetch(address, { method: "POST", body: choice.goneBits() });
      if (!answer.ok) throw new Error((await answer.text()).trim());
      const stem = app.state.stage.subjects[subject].name.replace(/\.\w+$/, "").replace(/[^\w-]+/g, "-");
      download(`${stem || "scene"}-edited.${suffix}`, await answer.blob());
      app.note(`saved ${choice.left.toLocaleString("en")} Gaussians as .${suffix}`);
      this.saved = gone;
    } catch (error) {
      app.note(error instanceof TypeError ? "the viewer is not there any more: nothing is saved" : error.message);
    }
    this.show();
  }
}
