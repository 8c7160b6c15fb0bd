// When the GPU is done with what it was given, told without holding the page up.

export class Fence {
  constructor(gl) {
    Object.assign(this, { gl, sync: null, since: 0, done: null });
  }

  /** Whether the GPU is still at it. */
  get busy() {
    this.look();
    return Boolean(this.sync);
  }

  /** Calls `done` with the milliseconds that the GPU took for all that it was given until now, once it is done. */
  begin(done) {
    const { gl } = this;
    Object.assign(this, { sync: gl.fenceSync(gl.SYNC_GPU_COMMANDS_COMPLETE, 0), since: performance.now(), done });
    gl.flush();
    setTimeout(() => this.poll(), 1);
  }

  poll() {
    if (this.busy) setTimeout(() => this.poll(), 1);
  }

  look() {
    const { gl, sync } = this;
    if (!sync || gl.clientWaitSync(sync, 0, 0) === gl.TIMEOUT_EXPIRED) return;
    gl.deleteSync(sync);
    this.sync = null;
    this.done(performance.now() - this.since);
  }
}
