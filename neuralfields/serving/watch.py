"""Live view of a running fit: renders the current field, streams the training curves, takes pause, save and stop.

The fit's own thread renders, between two steps, so that nothing is read while it is written; the server has a thread of
its own. Renders get a fixed fraction of the time at most: a fit with a page open is slower by that fraction, and ends
in the same bits as one without. While it is paused, renders get all of it.
"""

import asyncio
import math
import queue
import sys
import threading
import time
import webbrowser
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import replace
from pathlib import Path
from typing import Any

from neuralfields.errors import NeuralfieldsError
from neuralfields.fields import field_name
from neuralfields.fields.gaussians import GaussianField
from neuralfields.files import size_text
from neuralfields.models.model import Model
from neuralfields.models.nf_file import save
from neuralfields.options.common import Page
from neuralfields.options.fit import FitOptions
from neuralfields.scene import Scene
from neuralfields.serving.field import refusal
from neuralfields.serving.server import Server
from neuralfields.serving.session import STATUS_EVERY
from neuralfields.serving.stage import build_stage
from neuralfields.serving.subjects import model_subject, volume_subject
from neuralfields.training.loop import Loop

SHARE = 0.25  # fraction of the time for rendering
MOST_SAVED = 0.3  # seconds of rendering time that may accumulate while there is no request
CURVE = 400  # points of a curve at most
LIVE_FIRST_SECONDS, LIVE_MOST_SECONDS = 0.03, 0.5  # of rendering time, a fraction of wall time
GONE = 2.0  # seconds without a page after which nobody looks any more
BETWEEN = 0.25  # seconds between two looks whether the viewer was closed
CLOSING = 1.5 * STATUS_EVERY  # seconds for the last status to reach the pages


class FitWorker:
    """Worker whose functions run in the fit's thread, when `drain` is called there."""

    first_seconds = LIVE_FIRST_SECONDS

    def __init__(self) -> None:
        self._waiting: queue.SimpleQueue[tuple[Future, Callable[..., Any], tuple]] = queue.SimpleQueue()
        self._closed = self.paused = False

    @property
    def most_seconds(self) -> float:
        """Time budget of a finest level: small while the fit runs, so that a render shows about one moment of it."""
        return math.inf if self.paused else LIVE_MOST_SECONDS

    async def run(self, function: Callable[..., Any], *arguments: Any) -> Any:
        """Queues a function for the fit's thread and returns its result."""
        done: Future = Future()
        if self._closed:
            raise asyncio.CancelledError
        self._waiting.put((done, function, arguments))
        return await asyncio.wrap_future(done)

    def drain(self, seconds: float, patience: float = 0.0) -> None:
        """Runs waiting functions until that many seconds are spent.

        `patience`: seconds to wait for a first function where there is none.
        """
        spent = 0.0
        while spent < seconds:
            try:
                done, function, arguments = self._waiting.get(block=patience > 0, timeout=patience or None)
            except queue.Empty:
                break
            begin, patience = time.perf_counter(), 0.0
            if done.set_running_or_notify_cancel():
                try:
                    done.set_result(function(*arguments))
                except Exception as error:  # raised where the result is awaited
                    done.set_exception(error)
            spent += time.perf_counter() - begin

    def release(self) -> None:
        """Runs functions in a thread of their own from now on: the fit's thread does nothing more."""
        self.paused = True
        threading.Thread(target=self._run_for_ever, name="viewer-render", daemon=True).start()

    def _run_for_ever(self) -> None:
        while not self._closed:
            self.drain(BETWEEN, patience=BETWEEN)

    def close(self) -> None:
        """Cancels waiting functions."""
        self._closed = True
        while not self._waiting.empty():
            self._waiting.get()[0].cancel()


class Watch:
    """Callback for `Loop.watch`. `save`: writes the current model and gives the path."""

    def __init__(self, loop: Loop, scene: Scene, save: Callable[[], str]) -> None:
        self.loop, self.save, self.worker = loop, save, FitWorker()
        self.loss: list[tuple[float, float]] = []
        self.psnr: list[tuple[float, float]] = []
        self.message, self.ended, self._every = "", False, 1
        self._asked: queue.SimpleQueue[str] = queue.SimpleQueue()
        self._saved, self._last, self._lock = 0.0, time.perf_counter(), threading.Lock()
        self._seen: float | None = None
        training = loop.training
        facts = {"field": field_name(training.field), "size": size_text(training.field.bytes())}
        subject = volume_subject(
            scene.name, lambda: training.volume, background=training.background.colour, facts=facts
        )
        subject.version = lambda: training.step_count
        if isinstance(training.field, GaussianField):
            subject.splats = lambda: training.volume
        elif not (why := refusal(replace(training.volume, field=training.field))):  # also of one that is taught first
            subject.volume = lambda: training.volume
        else:
            subject.why = why
        self.stage = build_stage([subject], [], scene)
        self.stage.steer, self.stage.status = self._asked.put, self.status

    def __call__(self, loop: Loop) -> None:
        """Runs after a step: records curves, obeys commands, renders within the time budget; blocks while paused."""
        now = time.perf_counter()
        self._saved = min(self._saved + (now - self._last) * SHARE / (1 - SHARE), MOST_SAVED)
        self._note(loop)
        self._obey(loop)
        self.worker.drain(self._saved)
        self._saved -= time.perf_counter() - now
        while self.worker.paused and not (loop.stop or loop.finish):
            self.worker.drain(0.25, patience=0.05)
            self._obey(loop)
        self._last = time.perf_counter()

    def _note(self, loop: Loop) -> None:
        """Records a point of the curves: every n-th step, n doubled whenever a curve is full."""
        step = loop.training.step_count
        with self._lock:
            if step % self._every == 0:
                self.loss.append((step, loop.report.loss))
            if loop.held_out is not None and loop.held_out != self._seen:
                self._seen = loop.held_out
                self.psnr.append((step, loop.held_out))
            if len(self.loss) > CURVE:
                self.loss, self._every = self.loss[::2], self._every * 2
            self.psnr = self.psnr[:: 2 if len(self.psnr) > CURVE else 1]

    def _obey(self, loop: Loop) -> None:
        while not self._asked.empty():
            wish = self._asked.get()
            if wish in ("pause", "resume"):
                self.worker.paused = wish == "pause"
            elif wish == "stop":
                loop.finish, self.message = True, "ending: the model is being written"
            else:
                try:
                    self.message = f"saved {self.save()} at step {loop.training.step_count}"
                except NeuralfieldsError as error:
                    self.message = f"not saved: {error}"

    def status(self) -> dict[str, Any]:
        """Status of the fit for the page; called in the server's thread."""
        loop, report = self.loop, self.loop.report
        with self._lock:
            loss, psnr = list(self.loss), list(self.psnr)
        return {
            "step": loop.training.step_count,
            "seconds": loop.seconds,
            "progress": loop.budget.progress(loop.training.step_count, loop.seconds),
            "rays": report.rays if report else 0,
            "samples_per_second": loop.samples / max(loop.seconds, 1e-9),
            "loss": loss,
            "psnr": psnr,
            "paused": self.worker.paused,
            "message": self.message,
            "ended": self.ended,
        }

    def finish(self, model: Model, path: Path) -> None:
        """Shows the final model in place of the running fit, with its figures; renders in a thread of its own."""
        final = model_subject(self.stage.subjects[0].name, model, path.stat().st_size)
        self.stage.subjects[0] = replace(final, version=lambda: self.loop.training.step_count + 1)
        psnr = model.metrics.get("psnr")
        if isinstance(psnr, int | float) and math.isfinite(psnr):
            with self._lock:
                self.psnr.append((self.loop.training.step_count, float(psnr)))
        self.stage.steer, self.message = None, f"wrote {path}"
        self.worker.release()


def watch_fit(
    scene: Scene, options: FitOptions, loop: Loop, model: Callable[[], Model], stays: bool = False
) -> "Watching":
    """Serves a live view of a fit (a `training.plan.WatchFit`); it saves models beside the output, named by step.

    `stays`: whether it goes on being served after the fit, until `Watching.linger` or `Watching.close`.
    """
    out = options.out or Path(f"{scene.name}.nf")

    def save_now() -> str:
        path = out.with_name(f"{out.stem}-{loop.training.step_count}.nf")
        save(model(), path, half=options.half)
        return str(path)

    return Watching(Watch(loop, scene, save_now), options, stays)


class Watching:
    """Context of a live view: `with Watching(watch): loop.run(...)`. Prints the address on standard error."""

    def __init__(self, watch: Watch, page: Page | None = None, stays: bool = False) -> None:
        self.watch, self.page, self.stays = watch, page or Page(), stays

    def __enter__(self) -> "Watching":
        self.server = Server(self.watch.stage, self.page.host, self.page.port, worker=self.watch.worker)
        sys.stderr.write("\n".join(self.server.lines()) + "\n")
        if self.page.open:
            webbrowser.open(self.server.url)
        self.watch.loop.watch = self.watch
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        self.watch.loop.watch, self.watch.ended = None, True
        if self.stays and kind is None:
            self.watch.message = "measuring on the held-out photos, then the model is written"
            return
        self.watch.message = self.watch.message or "the fit has ended"
        time.sleep(CLOSING)
        self.close()

    def linger(self, model: Model, path: Path) -> None:
        """Shows the final model until no page is open any more, or Ctrl-C; then closes."""
        try:
            if self.server.sessions:
                self.watch.finish(model, path)
                self.server.describe_again()
                sys.stderr.write(f"wrote {path}; its page stays until it is closed, or Ctrl-C\n")
            left = 0.0 if self.server.sessions else GONE
            while left < GONE:  # a page that is loaded anew is away for a moment
                time.sleep(BETWEEN)
                left = 0.0 if self.server.sessions else left + BETWEEN
        except KeyboardInterrupt:
            pass
        finally:
            self.close()

    def close(self) -> None:
        """Stops serving."""
        self.watch.worker.close()
        self.server.close()
