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
  /**
   * `covered()`: whether marks lie over what is drawn, which it then hides; `pictured()`: whether the server's picture of this
   * eye is there; `moment()`: how far the time of a scene that moves is, in [0, 1]. `taken(subject)` is called when the page
   * has a subject, `failed()` when it cannot. The rest as of a page.
   */
  constructor({ canvas, gl, state, connection, wake, moved, note, box, behind, fades, covered, pictured, moment, taken, failed }) {
    Object.assign(this, { canvas, gl, state, connection, moved, note, box, behind, fades, covered, pictured, moment, taken, failed });
    Object.assign(this, { made: {}, without: {}, subject: null, busy: false, last: 0, refused: new Map(), asked: new Set() });
    for (const [kind, [Layer]] of Object.entries(KINDS)) {
      try {
        this.made[kind] = new Layer(gl, wake);
      } catch (error) {
        this.without[kind] = error.message;
      }
    }
    this.slow = inSoftware(gl); // seconds a picture; the server takes a part of one
    if (this.slow) state.drawn = "server";
    connection.on("fit", () => { if (performance.now() - this.last > AGAIN) this.fetch(true); });
  }

  get layers() {
    return Object.values(this.made);
  }

  /** How a subject could be drawn here: "splats", "field", or null. */
  kindOf(index) {
    const subject = this.state.stage?.subjects[index];
    return subject?.splats ? "splats" : subject?.field ? "field" : null;
  }

  /** The layer that draws the subject that is shown. */
  get layer() {
    return this.made[this.kindOf(this.state.subjects[0])] ?? null;
  }

  /** The subject that the page could draw; null where the server draws. */
  get wanted() {
    const { stage, subjects, what, drawn } = this.state;
    const good = stage && subjects.length === 1 && this.layer && !this.refused.has(subjects[0]);
    return good && what !== "error" && drawn !== "server" ? subjects[0] : null;
  }

  /** Why the server draws although it was not asked to; empty where it does not. */
  get why() {
    const { stage, subjects } = this.state, [index] = subjects, kind = this.kindOf(index);
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
    return Boolean(this.draws && this.state.stage.subjects[this.subject].stands_in);
  }

  /** Whether what is seen is drawn here. */
  get shows() {
    return this.draws && !(this.standsIn && this.pictured());
  }

  /** Whether the server has to draw too. */
  get needsServer() {
    return !this.draws || this.standsIn || this.state.drawn === "both";
  }

  /** Whether a film of a scene that moves is drawn here, and not by pictures of the server. */
  get plays() {
    return this.draws && !this.needsServer && Boolean(this.layer.loaded?.motion);
  }

  /** Asks once for something to draw in place of a subject that no shader here draws. */
  askStandIn() {
    const { stage, subjects, drawn } = this.state, [index] = subjects;
    if (!stage?.subjects[index].may_stand_in || !this.made.field || subjects.length > 1 || drawn === "server" || this.asked.has(index)) return;
    if (this.connection.send({ type: "stand_in", subject: index })) this.asked.add(index);
  }

  /** Forgets what was fetched: another stage has come. */
  reset() {
    const { gl, state: { stage } } = this;
    this.subject = null;
    this.refused.clear();
    this.seen?.free();
    this.seen = new Seen(gl, stage.seen, stage.bounds);
    for (const layer of this.layers) layer.seen = this.seen;
  }

  /** Brings what is drawn up to the state, before a picture. */
  prepare() {
    const { state } = this;
    if (this.wanted !== null && this.wanted !== this.subject) this.fetch(false);
    this.askStandIn();
    for (const layer of this.layers) layer.shown = false;
    if (!this.shows) return;
    const { layer } = this;
    if (state.stage.times) goTo(layer, this.moment());
    layer.deep = this.covered();
    Object.assign(layer, { shown: true, mode: state.what, box: this.box(), resolution: state.resolution, behind: this.behind(this.subject) });
    layer.fade = this.fades(this.subject);
    layer.span = state.drawn === "both" ? [0, state.split] : [0, 1];
  }

  /** What the strip under the picture says of it. */
  words() {
    const { layer } = this, { width, height } = this.canvas, { resolution, what } = this.state;
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
      const { state } = this;
      layer.load(KINDS[kind][1](await answer.arrayBuffer()), state.stage.depth_colours, state.size);
      this.subject = subject;
      this.taken(subject);
      this.moved(true);
    } catch (error) {
      this.refused.set(subject, error.message);
      this.note(error.message);
      this.failed();
      this.moved(true);
    } finally {
      this.busy = false;
    }
  }
}
