// What the page draws itself: the Gaussians or the hash field of the subject that is shown, fetched once, and anew while
// a fit changes them.

import { FieldLayer, unpack as unpackField } from "./field.js";
import { duration, short } from "./math.js";
import { goTo } from "./motion.js";
import { inSoftware } from "./scene.js";
import { Seen } from "./seen.js";
import { SplatLayer, unpack as unpackSplats } from "./splats.js";

const AGAIN = 3000; // milliseconds between two fetches of a running fit
const KINDS = { splats: [SplatLayer, unpackSplats], field: [FieldLayer, unpackField] };

export class Local {
  constructor(app) {
    Object.assign(this, { app, made: {}, without: {}, subject: null, busy: false, last: 0, refused: new Map(), asked: new Set() });
    for (const [kind, [Layer]] of Object.entries(KINDS)) {
      try {
        this.made[kind] = new Layer(app.scene.gl, (work) => app.wake(work));
      } catch (error) {
        this.without[kind] = error.message;
      }
    }
    this.slow = inSoftware(app.scene.gl); // seconds a picture; the server takes a part of one
    if (this.slow) app.state.drawn = "server";
    app.connection.on("fit", () => { if (performance.now() - this.last > AGAIN) this.fetch(true); });
  }

  get layers() {
    return Object.values(this.made);
  }

  /** How a subject could be drawn here: "splats", "field", or null. */
  kindOf(index) {
    const subject = this.app.state.stage?.subjects[index];
    return subject?.splats ? "splats" : subject?.field ? "field" : null;
  }

  /** The layer that draws the subject that is shown. */
  get layer() {
    return this.made[this.kindOf(this.app.state.subjects[0])] ?? null;
  }

  /** The subject that the page could draw; null where the server draws. */
  get wanted() {
    const { stage, subjects, what, drawn } = this.app.state;
    const good = stage && subjects.length === 1 && this.layer && !this.refused.has(subjects[0]);
    return good && what !== "error" && drawn !== "server" ? subjects[0] : null;
  }

  /** Why the server draws although it was not asked to; empty where it does not. */
  get why() {
    const { stage, subjects } = this.app.state, [index] = subjects, kind = this.kindOf(index);
    if (!stage || subjects.length > 1 || !stage.subjects[index].rendered) return "";
    return stage.subjects[index].why || this.without[kind] || this.refused.get(index) ||
      (this.slow && kind ? "this browser has no graphics processor" : "");
  }

  /** Whether the page draws now. */
  get draws() {
    return this.wanted !== null && this.wanted === this.subject;
  }

  /** Whether what the page draws only stands in for the subject: the server's picture follows when the eye rests. */
  get standsIn() {
    return Boolean(this.draws && this.app.state.stage.subjects[this.subject].stands_in);
  }

  /** Whether what is seen is drawn here. */
  get shows() {
    return this.draws && !(this.standsIn && this.app.pictured);
  }

  /** Whether the server has to draw too. */
  get needsServer() {
    return !this.draws || this.standsIn || this.app.state.drawn === "both";
  }

  /** Whether a film of a scene that moves is drawn here, and not by pictures of the server. */
  get plays() {
    return this.draws && !this.needsServer && Boolean(this.layer.loaded?.motion);
  }

  /** Asks once for something to draw in place of a subject that no shader here draws. */
  askStandIn() {
    const { stage, subjects, drawn } = this.app.state, [index] = subjects;
    if (!stage?.subjects[index].may_stand_in || !this.made.field || subjects.length > 1 || drawn === "server" || this.asked.has(index)) return;
    if (this.app.connection.send({ type: "stand_in", subject: index })) this.asked.add(index);
  }

  /** Forgets what was fetched: another stage has come. */
  reset() {
    const { app: { scene: { gl }, state: { stage } } } = this;
    this.subject = null;
    this.refused.clear();
    this.seen?.free();
    this.seen = new Seen(gl, stage.seen, stage.bounds);
    for (const layer of this.layers) layer.seen = this.seen;
  }

  /** Brings what is drawn up to the state, before a picture. */
  prepare() {
    const { state } = this.app;
    if (this.wanted !== null && this.wanted !== this.subject) this.fetch(false);
    this.askStandIn();
    for (const layer of this.layers) layer.shown = false;
    if (!this.shows) return;
    const { layer, app: { lines, points, read, photo, thumbs } } = this;
    if (state.stage.times) goTo(layer, this.app.time.share);
    layer.deep = lines.count + read.count > 0 || (points.shown && points.count > 0) || photo.opacity > 0 || thumbs.shown;
    Object.assign(layer, { shown: true, mode: state.what, box: this.app.box(), resolution: state.resolution, behind: this.app.behind(this.subject) });
    layer.fade = this.app.fades(this.subject);
    layer.span = state.drawn === "both" ? [0, state.split] : [0, 1];
  }

  /** What the strip under the picture says of it. */
  words() {
    const { layer } = this, { width, height } = this.app.canvas, { resolution, what } = this.app.state;
    const full = [width, height].map((n) => Math.round(n * resolution)), [x, y] = layer.front?.size ?? full;
    if (this.kindOf(this.subject) === "field") return `${x} × ${y}   ${layer.taken ? `${duration(layer.taken)}, ` : ""}${this.standsIn ? "a stand-in, " : ""}drawn here`;
    const left = layer.loaded.count - layer.gone;
    if (what !== "rings") return `${x} × ${y}   ${short(left)} Gaussians, drawn here`;
    return `${x} × ${y}   ${layer.inView ?? 0} of ${left} Gaussians in view`;
  }

  async fetch(again) {
    const subject = again ? this.subject : this.wanted;
    if (subject === null || this.busy) return;
    this.busy = true;
    this.last = performance.now();
    const kind = this.kindOf(subject), layer = this.made[kind];
    try {
      const have = again ? `?version=${layer.loaded.version}` : "";
      const answer = await fetch(new URL(`${kind}/${subject}${have}`, document.baseURI));
      if (answer.status === 204) return;
      if (!answer.ok) throw new Error((await answer.text()).trim());
      const { state } = this.app;
      layer.load(KINDS[kind][1](await answer.arrayBuffer()), state.stage.depth_colours, state.size);
      this.subject = subject;
      this.app.editor.loaded(subject);
      this.app.moved(true);
    } catch (error) {
      this.refused.set(subject, error.message);
      this.app.note(error.message);
      this.app.panel.names();
      this.app.moved(true);
    } finally {
      this.busy = false;
    }
  }
}
