// Selecting, deleting and saving Gaussians in a shared file: a bar over the tools. A worker decodes the file's own bytes
// again and writes what is left of them as .ply, with every digit that they have.

import { download } from "./download.js";
import { KINDS } from "./kinds.js";
import { plyAside } from "./ply.js";
import { Selection } from "./selection.js";

const $ = (id) => document.getElementById(id);

export class ShareEditor extends Selection {
  /** `text` is the scene's .nfz in base64, which `layer` draws; `still()` ends what plays. */
  constructor({ text, layer, still, ...page }) {
    super(page);
    Object.assign(this, { text, drawing: layer, still });
    $("edit").hidden = false;
    $("edit").onclick = () => this.open($("editing").hidden);
  }

  get layer() {
    return this.drawing;
  }

  get able() {
    return Boolean(this.choice);
  }

  /** The layer has taken its Gaussians. */
  loaded() {
    this.begun(this.layer.loaded.count);
    this.show();
  }

  open(on) {
    $("editing").hidden = !on;
    $("edit").setAttribute("aria-expanded", String(on));
    document.body.classList.toggle("edited", on);
    if (on !== this.brush.on) this.paint(on, on && this.brush.box);
  }

  paint(on, box) {
    super.paint(on, box);
    if (this.brush.on) {
      this.still();
      if ($("editing").hidden) this.open(true);
    }
  }

  async save() {
    const { choice } = this, { gone } = choice;
    $("select-save").disabled = true;
    this.note("the .ply is being written");
    try {
      const bytes = await plyAside(this.text, choice.goneBits());
      download(`${this.state.stage.subjects[0].name.replace(/[^\w-]+/g, "-") || "scene"}.ply`, new Blob([bytes]));
      this.note(`saved ${choice.left.toLocaleString("en")} Gaussians as .ply`);
      this.saved = gone;
    } catch (error) {
      this.note(error.message);
    }
    this.show();
  }
}

KINDS.editor = ShareEditor;
