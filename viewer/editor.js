// Selecting, deleting and saving Gaussians in the live page: the panel's part. The server writes the file.

import { download } from "./download.js";
import { insideBox } from "./picking.js";
import { Selection } from "./selection.js";

const $ = (id) => document.getElementById(id);

export class Editor extends Selection {
  /** `local` draws the Gaussians; `box()` is the box that is shown, null for all. */
  constructor({ local, box, ...page }) {
    super(page);
    Object.assign(this, { local, inside: box });
    this.of = null; // which Gaussians the choice is of
    $("select-box").onclick = () => this.box();
  }

  get layer() {
    return this.local.layer;
  }

  /** Whether there are Gaussians here that a selection can be made of: a running fit changes them all the time. */
  get able() {
    const { stage, subjects } = this.state;
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
    if (of !== this.of) {
      this.of = of;
      this.begun(count);
    }
    this.changed();
  }

  paint(on, box) {
    super.paint(on, box);
    $("select").open = $("select").open || this.brush.on;
  }

  /** Whether the page draws; where it only could, it begins to. */
  ready() {
    if (!this.able) return false;
    if (this.state.drawn === "server") {
      $("drawn").value = "page";
      $("drawn").onchange();
    }
    return true;
  }

  /** Selects what is inside the crop box and the slice. */
  box() {
    const box = this.inside();
    if (!this.ready() || !this.choice) return;
    if (!box) {
      $("cut").open = true;
      return this.note("first cut to a box, a slice or both: what is inside is selected");
    }
    this.choice.choose(insideBox(this.layer.loaded.core, box));
    this.changed();
  }

  /** The server writes what is left of its own Gaussians into a file; it is told which are deleted. */
  async save() {
    const { choice } = this, { subject } = this.local, suffix = $("select-format").value, { gone } = choice;
    $("select-save").disabled = true;
    this.note(`the ${suffix} is being written`);
    try {
      const address = new URL(`splats/${subject}/file?as=${suffix}&version=${this.layer.loaded.version}`, document.baseURI);
      const answer = await fetch(address, { method: "POST", body: choice.goneBits() });
      if (!answer.ok) throw new Error((await answer.text()).trim());
      const stem = this.state.stage.subjects[subject].name.replace(/\.\w+$/, "").replace(/[^\w-]+/g, "-");
      download(`${stem || "scene"}-edited.${suffix}`, await answer.blob());
      this.note(`saved ${choice.left.toLocaleString("en")} Gaussians as .${suffix}`);
      this.saved = gone;
    } catch (error) {
      this.note(error instanceof TypeError ? "the viewer is not there any more: nothing is saved" : error.message);
    }
    this.show();
  }
}
