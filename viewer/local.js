// What the page draws itself: the Gaussians of the subject that is shown, fetched once, and anew while a fit changes them.

import { short } from "./math.js";
import { inSoftware } from "./scene.js";
import { SplatLayer, unpack } from "./splats.js";

const AGAIN = 3000; // milliseconds between two fetches of a running fit

export class Local {
  constructor(app) {
    Object.assign(this, { app, layer: null, subject: null, busy: false, last: 0, refused: new Set() });
    try {
      this.layer = new SplatLayer(app.scene.gl, () => app.wake());
      if (inSoftware(app.scene.gl)) app.state.drawn = "server"; // seconds a picture; the server takes a part of one
    } catch (error) {
      console.info(`${error.message}; the server draws`);
    }
    app.connection.on("fit", () => { if (performance.now() - this.last > AGAIN) this.fetch(true); });
  }

  /** The subject whose Gaussians the page could draw; null where the server draws. */
  get wanted() {
    const { stage, subjects, what, drawn } = this.app.state;
    const good = this.layer && stage && subjects.length === 1 && stage.subjects[subjects[0]].splats && !this.refused.has(subjects[0]);
    return good && what !== "error" && drawn !== "server" ? subjects[0] : null;
  }

  /** Whether the page draws now. */
  get draws() {
    return this.wanted !== null && this.wanted === this.subject;
  }

  /** Whether the server has to draw too. */
  get needsServer() {
    return !this.draws || this.app.state.drawn === "both";
  }

  /** Forgets what was fetched: another stage has come. */
  reset() {
    this.subject = null;
    this.refused.clear();
  }

  /** Brings what is drawn up to the state, before a picture. */
  prepare() {
    const { layer } = this, { state } = this.app;
    if (!layer) return;
    if (this.wanted !== null && this.wanted !== this.subject) this.fetch(false);
    layer.shown = this.draws;
    if (!this.draws) return;
    Object.assign(layer, { mode: state.what, box: this.app.box(), resolution: state.resolution, behind: this.app.behind(this.subject) });
    layer.span = state.drawn === "both" ? [0, state.split] : [0, 1];
  }

  /** What the strip under the picture says of it. */
  words() {
    const { layer } = this, { width, height } = this.app.canvas, { resolution, what } = this.app.state;
    const size = `${Math.round(width * resolution)} × ${Math.round(height * resolution)}`;
    if (what !== "rings") return `${size}   ${short(layer.loaded.count - layer.gone)} Gaussians, drawn here`;
    return `${size}   ${layer.inView ?? 0} of ${layer.loaded.count - layer.gone} Gaussians in view`;
  }

  async fetch(again) {
    const subject = again ? this.subject : this.wanted;
    if (subject === null || this.busy) return;
    this.busy = true;
    this.last = performance.now();
    try {
      const have = again ? `?version=${this.layer.loaded.version}` : "";
      const answer = await fetch(new URL(`splats/${subject}${have}`, document.baseURI));
      if (answer.status === 204) return;
      if (!answer.ok) throw new Error((await answer.text()).trim());
      const { state } = this.app;
      this.layer.load(unpack(await answer.arrayBuffer()), state.stage.depth_colours, state.size);
      this.subject = subject;
      this.app.editor.loaded(subject);
      this.app.moved(true);
    } catch (error) {
      this.refused.add(subject);
      this.app.note(error.message);
      this.app.moved(true);
    } finally {
      this.busy = false;
    }
  }
}
