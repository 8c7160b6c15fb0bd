"""Progress display and training log: live on a terminal, a plain line now and then elsewhere, a log of JSON lines.

The display is on standard error, so that standard output holds the result alone. The log has one line a second,
{"step", "seconds", "stage"?, "rays_per_second", "samples_per_second", "psnr"?, "loss"?}, and one for every validation
on held-out views, {"step", "seconds", "held_out_psnr"}. No thread runs: the display is drawn from `update`, the cores
are for the fit.
"""

import json
import sys
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any, TextIO, TypeVar

from rich import progress as rich_progress
from rich.console import Console, Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from neuralfields.files import plain, printable, set_aside

LOG_EVERY = 1.0  # seconds of training
LINE_EVERY = 10.0  # seconds of the clock, where there is no terminal
DRAW_EVERY = 0.25
RATE_WINDOW = 3.0  # seconds over which rays and samples a second are averaged
T = TypeVar("T")
SPARKS = "▁▂▃▄▅▆▇█"


def count_text(value: float) -> str:
    """Formats a number in three figures: 950, 12.3k, 2.05M."""
    if value < 1000:
        return f"{value:.0f}"
    for unit in ("k", "M", "G"):
        value /= 1000
        if value < 999.5 or unit == "G":
            return f"{value:.{2 if value < 10 else 1 if value < 100 else 0}f}{unit}"
    raise AssertionError


def time_text(seconds: float | None) -> str:
    """Formats a duration: 0:07, 12:30, 3:04:05."""
    if seconds is None:
        return "-"
    whole = max(0, round(seconds))
    hours, minutes = whole // 3600, whole // 60 % 60
    return f"{hours}:{minutes:02d}:{whole % 60:02d}" if hours else f"{minutes}:{whole % 60:02d}"


def sparkline(values: list[float], width: int = 24) -> str:
    """Draws the last `width` values as small bars, from their minimum to their maximum."""
    values = values[-width:]
    low, high = min(values, default=0.0), max(values, default=0.0)
    top = len(SPARKS) - 1
    return "".join(SPARKS[round((value - low) / (high - low) * top) if high > low else 0] for value in values)


class _Display(Console):
    """A rich console that a closed pipe silences; rich's own would end the program and close standard output.

    Texts are printed without markup, and control characters in them are escaped (files.printable).
    """

    def say(self, text: str) -> None:
        """Prints a line; a closed terminal does not stop the work."""
        with suppress(OSError):
            self.print(printable(text), markup=False)

    def on_broken_pipe(self) -> None:
        self.quiet = True


class Progress:
    """Progress display and log of a fit, as a context manager.

    `total_steps`, `total_seconds`: where the fit ends, whichever comes first. `log_path`: the JSON-lines log; with
    `append` an existing one is continued, with `replace` replaced, otherwise kept under a numbered name. `quiet`: no
    display, the log is still written. `stream` and `clock` (seconds) are for tests. A log that cannot be written gives
    one warning and is closed: it never stops a fit.
    """

    def __init__(
        self,
        total_steps: int | None,
        total_seconds: float | None,
        log_path: Path | None = None,
        quiet: bool = False,
        *,
        append: bool = False,
        replace: bool = False,
        stream: TextIO | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.total_steps, self.total_seconds, self.quiet, self.clock = total_steps, total_seconds, quiet, clock
        self.console = _Display(file=stream or sys.stderr, highlight=False, soft_wrap=True)
        encoding = (getattr(stream or sys.stderr, "encoding", None) or "utf-8").lower()
        terminal = self.console.is_terminal and not self.console.is_dumb_terminal
        self._live: Live | None = None
        self._wants_live = terminal and encoding.startswith("utf") and not quiet
        self._log_path, self._append, self._replace, self._log = log_path, append, replace, None
        self._window: deque[tuple[float, float, float]] = deque()
        self._rays = self._samples = 0.0
        self._begin: tuple[int, float] | None = None
        self._now: dict[str, Any] = {"step": 0, "seconds": 0.0}
        self._held_out: list[float] = []
        self._logged_at = self._line_at = self._drawn_at = float("-inf")
        self._unlogged = self._unshown = False

    def __enter__(self) -> "Progress":
        self._open_log()
        if self._wants_live:
            self._live = Live(console=self.console, auto_refresh=False, transient=False, redirect_stdout=False)
            self._live.start()
        self._line_at = self.clock()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._unlogged:
            self._write_log(self._now)
        if self._live is not None:
            self._draw()
            with suppress(OSError):
                self._live.stop()
            self._live = None
        elif self._unshown:
            self._print(self.line())
        if self._log is not None:
            with suppress(OSError):
                self._log.close()
            self._log = None

    def update(
        self,
        step: int,
        seconds: float,
        rays: float,
        samples: float,
        psnr: float | None,
        loss: float | None = None,
        stage: str = "",
    ) -> None:
        """Records a training step. `seconds` of training so far; `rays`, `samples`: since the last update; `psnr` of
        the batch where it was rendered; `stage`: the name of the training stage, where there are several.
        """
        if self._begin is None:
            self._begin = (step, seconds)
        self._rays += rays
        self._samples += samples
        self._window.append((seconds, self._rays, self._samples))
        while len(self._window) > 2 and self._window[1][0] <= seconds - RATE_WINDOW:
            self._window.popleft()
        first = self._window[0]
        span = seconds - first[0]
        ray_rate = (self._rays - first[1]) / span if span > 0 else None
        sample_rate = (self._samples - first[2]) / span if span > 0 else None
        given = {"psnr": psnr, "loss": loss, "stage": stage or None}
        self._now = {"step": step, "seconds": round(seconds, 3), "rays_per_second": ray_rate and round(ray_rate)}
        self._now |= {"samples_per_second": sample_rate and round(sample_rate)}
        self._now |= {name: value for name, value in given.items() if value is not None}
        self._unlogged = self._unshown = True
        if seconds - self._logged_at >= LOG_EVERY:
            self._logged_at, self._unlogged = seconds, False
            self._write_log(self._now)
        self._show()

    def held_out(self, step: int, psnr: float) -> None:
        """Records a validation: mean PSNR of the held-out views in dB."""
        self._held_out.append(psnr)
        self._write_log({"step": step, "seconds": self._now["seconds"], "held_out_psnr": psnr})
        self._draw()

    def note(self, text: str) -> None:
        """Prints one line above the display, unless quiet."""
        self._print(text)

    def log_note(self, text: str) -> None:
        """Prints a line and writes it to the log too, behind the last step."""
        if self._unlogged:
            self._unlogged = False
            self._write_log(self._now)
        self._write_log({"step": self._now["step"], "seconds": self._now["seconds"], "note": text})
        self.note(text)

    def line(self) -> str:
        """Formats the state as one plain line."""
        return "  ".join(f"{name} {value}" for name, value in self._cells())

    def _show(self) -> None:
        if self.quiet:
            return
        now = self.clock()
        if self._live is not None:
            if now - self._drawn_at >= DRAW_EVERY:
                self._drawn_at = now
                self._draw()
        elif now - self._line_at >= LINE_EVERY:
            self._line_at, self._unshown = now, False
            self._print(self.line())

    def _draw(self) -> None:
        if self._live is not None:
            with suppress(OSError):  # a closed terminal does not stop a fit
                self._live.update(self._picture(), refresh=True)

    def _print(self, text: str) -> None:
        if not self.quiet:
            self.console.say(text)

    def _left(self) -> float | None:
        """Estimated seconds left, by the steps or by the time, whichever ends first."""
        options = []
        step, seconds = self._now["step"], self._now["seconds"]
        if self.total_seconds is not None:
            options.append(max(0.0, self.total_seconds - seconds))
        if self.total_steps is not None and self._begin is not None and step > self._begin[0]:
            pace = (seconds - self._begin[1]) / (step - self._begin[0])
            options.append(max(0, self.total_steps - step) * pace)
        return min(options, default=None)

    def _done(self) -> float:
        """Fraction of the fit that is done, 0 to 1."""
        by_step = self._now["step"] / self.total_steps if self.total_steps else 0.0
        by_time = self._now["seconds"] / self.total_seconds if self.total_seconds else 0.0
        return min(1.0, max(by_step, by_time))

    def _cells(self) -> list[tuple[str, str]]:
        now = self._now
        total = f"/{self.total_steps}" if self.total_steps else ""
        cells = [("step", f"{now['step']}{total}"), ("time", time_text(now["seconds"]))]
        cells.append(("left", time_text(self._left())))
        if "stage" in now:
            cells.append(("stage", now["stage"]))
        if now.get("rays_per_second") is not None:
            if now["rays_per_second"] or "stage" not in now:  # a stage of distillation may sample points alone
                cells.append(("rays/s", count_text(now["rays_per_second"])))
            cells.append(("samples/s", count_text(now["samples_per_second"])))
        if "psnr" in now:
            cells.append(("psnr", f"{now['psnr']:.2f} dB"))
        if self._held_out:
            cells.append(("held-out", f"{self._held_out[-1]:.2f} dB"))
        if "loss" in now:
            cells.append(("loss", f"{now['loss']:.5f}"))
        return cells

    def _picture(self) -> Group:
        cells = self._cells()
        head = Table.grid(padding=(0, 1))
        bar = ProgressBar(total=1.0, completed=self._done(), width=max(10, min(50, self.console.width - 40)))
        head.add_row(bar, f"{self._done():4.0%}", f"{cells[1][1]} done, {cells[2][1]} left")
        body = Text()
        for name, value in [cells[0], *cells[3:]]:
            body.append(f"{name} ", style="dim")
            body.append(f"{value}   ", style="bold")
        if len(self._held_out) > 1:
            body.append(sparkline(self._held_out), style="green")
        return Group(head, body)

    def _open_log(self) -> None:
        if self._log_path is None:
            return
        try:
            if self._append and self._log_path.exists():
                _drop_torn_line(self._log_path)
            elif not self._replace:
                set_aside(self._log_path)
            self._log = open(self._log_path, "a" if self._append else "w", encoding="utf-8")
        except OSError as error:
            self._give_up(error)

    def _write_log(self, entry: dict[str, Any]) -> None:
        if self._log is None:
            return
        try:
            self._log.write(json.dumps(plain(entry)) + "\n")
            self._log.flush()
        except OSError as error:
            with suppress(OSError):
                self._log.close()
            self._log = None
            self._give_up(error)

    def _give_up(self, error: OSError) -> None:
        self.note(f"warning: {self._log_path}: the log cannot be written ({error.strerror}); the fit goes on without")


def _drop_torn_line(path: Path) -> None:
    """Removes an incomplete last line, which a killed process leaves behind."""
    with open(path, "r+b") as file:
        data = file.read()
        file.truncate(data.rfind(b"\n") + 1)


class StageDisplay:
    """Progress display of consecutive stages: a bar on a terminal, plain lines elsewhere; on standard error."""

    def __init__(self, quiet: bool = False, stream: TextIO | None = None) -> None:
        self.quiet = quiet
        self.console = _Display(file=stream or sys.stderr, highlight=False, soft_wrap=True)
        self._bar: rich_progress.Progress | None = None
        self._name, self._begin, self._line_at = "", 0.0, 0.0

    def begin(self, name: str) -> None:
        """Starts a stage."""
        self._name, self._begin, self._line_at = name, time.monotonic(), time.monotonic()
        if not self.quiet and self.console.is_terminal and not self.console.is_dumb_terminal:
            columns = (
                rich_progress.TextColumn("{task.description:<10}"),
                rich_progress.BarColumn(),
                rich_progress.MofNCompleteColumn(),
                rich_progress.TimeElapsedColumn(),
                rich_progress.TimeRemainingColumn(),
            )
            self._bar = rich_progress.Progress(*columns, console=self.console, transient=True)
            self._bar.add_task(name, total=None)
            self._bar.start()

    def update(self, done: int, total: int) -> None:
        """Sets how much of the stage is done."""
        if self._bar is not None:
            self._bar.update(self._bar.task_ids[0], completed=done, total=total)
        elif time.monotonic() - self._line_at >= LINE_EVERY:
            self._line_at = time.monotonic()
            taken = self._line_at - self._begin
            left = f"  left {time_text(taken / done * (total - done))}" if 0 < done < total else ""
            self.note(f"{self._name:<10} {done}/{total}  {time_text(taken)}{left}")

    def end(self, line: str | None) -> None:
        """Ends the stage; `line` sums up its result, None after an error."""
        if self._bar is not None:
            self._bar.stop()
            self._bar = None
        if line is not None:
            self.note(f"{self._name:<10} {line}")

    def note(self, text: str) -> None:
        """Prints one line, unless quiet."""
        if not self.quiet:
            self.console.say(text)


def counted(items: Iterable[T], total: int, quiet: bool, noun: str = "frames") -> Iterator[T]:
    """Iterates over items with a progress display: how many are done and the time left; `noun` names them."""
    display = StageDisplay(quiet)
    display.begin(noun)
    try:
        for done, item in enumerate(items, start=1):
            yield item
            display.update(done, total)
    finally:
        display.end(None)
