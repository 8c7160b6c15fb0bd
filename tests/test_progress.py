"""The display of a fit, with the clock in our hands."""

import io
import json
import time
from pathlib import Path

import pytest

from neuralfields.progress import Progress, count_text, sparkline, time_text


class Clock:
    """A clock that goes only when told."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


class Terminal(io.StringIO):
    """A stream that says it is a terminal."""

    encoding = "utf-8"

    def isatty(self) -> bool:
        return True


def run(progress: Progress, clock: Clock, steps: int, pace: float = 0.1, begin: int = 0) -> None:
    """`steps` steps of `pace` seconds, 4096 rays and 50,000 samples each."""
    for step in range(begin + 1, begin + steps + 1):
        clock.now += pace
        progress.update(step, step * pace, 4096, 50_000, psnr=20 + step / 100, loss=0.01)


def log(path: Path) -> list[dict[str, object]]:
    """The log's lines, each of which must be JSON."""
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_plain_lines_every_ten_seconds(tmp_path: Path) -> None:
    clock, stream = Clock(), io.StringIO()
    with Progress(1000, None, tmp_path / "a.log.jsonl", stream=stream, clock=clock) as progress:
        run(progress, clock, 250)
        progress.held_out(250, 27.123)
        progress.note("checkpoint saved")
        run(progress, clock, 20, begin=250)
    lines = stream.getvalue().splitlines()
    assert [line.split()[1] for line in lines if line.startswith("step")] == ["100/1000", "200/1000", "270/1000"]
    assert lines[0] == (
        "step 100/1000  time 0:10  left 1:30  rays/s 41.0k  samples/s 500k  psnr 21.00 dB  loss 0.01000"
    )
    assert "checkpoint saved" in lines and "held-out 27.12 dB" in lines[-1] and "\x1b" not in stream.getvalue()


def test_log_has_a_line_a_second_and_every_held_out(tmp_path: Path) -> None:
    clock = Clock()
    with Progress(None, 60.0, tmp_path / "a.log.jsonl", quiet=True, stream=io.StringIO(), clock=clock) as progress:
        run(progress, clock, 52)
        progress.held_out(52, float("nan"))
        run(progress, clock, 1, begin=52)
    entries = log(tmp_path / "a.log.jsonl")
    assert [entry["step"] for entry in entries] == [1, 11, 21, 31, 41, 51, 52, 53]
    assert entries[-2] == {"step": 52, "seconds": 5.2, "held_out_psnr": None}
    assert entries[1] == {
        "step": 11, "seconds": 1.1, "rays_per_second": 40960, "samples_per_second": 500000, "psnr": 20.11, "loss": 0.01
    }  # fmt: skip


def test_a_stage_is_said_and_what_was_not_rendered_has_no_psnr(tmp_path: Path) -> None:
    clock, stream = Clock(), io.StringIO()
    with Progress(10, None, tmp_path / "a.log.jsonl", stream=stream, clock=clock) as progress:
        for step in (1, 2):
            clock.now += 10
            progress.update(step, step * 1.0, 0, 50_000, None, 0.3, "points")
        clock.now += 10
        progress.update(3, 3.0, 4096, 50_000, 21.0, 0.01, "pictures")
    lines = stream.getvalue().splitlines()
    assert lines[1] == "step 2/10  time 0:02  left 0:08  stage points  samples/s 50.0k  loss 0.30000"
    assert lines[2].endswith("stage pictures  rays/s 2.05k  samples/s 50.0k  psnr 21.00 dB  loss 0.01000")
    assert [(e["stage"], "psnr" in e) for e in log(tmp_path / "a.log.jsonl")] == [
        ("points", False), ("points", False), ("pictures", True),
    ]  # fmt: skip


def test_resuming_appends_and_drops_a_torn_line(tmp_path: Path) -> None:
    path = tmp_path / "a.log.jsonl"
    path.write_text('{"step": 1}\n{"step": 2}\n{"ste')
    clock = Clock()
    with Progress(10, None, path, quiet=True, append=True, clock=clock) as progress:
        run(progress, clock, 1, begin=2)
    assert [entry["step"] for entry in log(path)] == [1, 2, 3]
    with Progress(10, None, path, quiet=True, clock=clock) as progress:
        run(progress, clock, 1)
    assert [entry["step"] for entry in log(path)] == [1]


def test_time_left_takes_what_ends_first_and_counts_from_where_it_began() -> None:
    clock, stream = Clock(), io.StringIO()
    with Progress(1000, 3600.0, stream=stream, clock=clock) as progress:
        for step, seconds in ((501, 100.0), (511, 110.0)):  # resumed at step 500
            clock.now += 11
            progress.update(step, seconds, 1, 1, 20.0)
    assert "left 8:09" in stream.getvalue().splitlines()[-1]  # 489 steps at one a second, less than the hour
    with Progress(None, 120.0, stream=stream, clock=clock) as progress:
        clock.now += 11
        progress.update(7, 100.0, 1, 1, 20.0)
    assert stream.getvalue().splitlines()[-1].startswith("step 7  time 1:40  left 0:20")


def test_terminal_is_redrawn_four_times_a_second(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "120")
    clock, stream = Clock(), Terminal()
    with Progress(100, None, stream=stream, clock=clock) as progress:
        run(progress, clock, 99, pace=0.01)
        drawn = stream.getvalue().count("samples/s")
        progress.held_out(99, 25.0)
        progress.held_out(100, 26.0)
        progress.note("a remark [bold]as it is[/bold]")
    shown = stream.getvalue()
    assert 2 <= drawn <= 5, drawn
    assert "a remark [bold]as it is[/bold]" in shown and "▁█" in shown and "26.00 dB" in shown
    assert "\x1b[?25h" in shown  # the cursor is back


@pytest.mark.parametrize(("encoding", "term"), [("ascii", "xterm"), ("utf-8", "dumb")])
def test_poor_terminals_get_plain_lines(monkeypatch: pytest.MonkeyPatch, encoding: str, term: str) -> None:
    monkeypatch.setenv("TERM", term)
    stream, clock = Terminal(), Clock()
    stream.encoding = encoding  # type: ignore[misc]
    with Progress(100, None, stream=stream, clock=clock) as progress:
        run(progress, clock, 60, pace=1.0)
    shown = stream.getvalue()
    assert shown.isascii() and "\x1b" not in shown and shown.count("\n") == 6


def test_quiet_shows_nothing(tmp_path: Path) -> None:
    clock, stream = Clock(), io.StringIO()
    with Progress(10, None, tmp_path / "a.jsonl", quiet=True, stream=stream, clock=clock) as progress:
        run(progress, clock, 10, pace=20.0)
        progress.note("hidden")
    assert stream.getvalue() == "" and len(log(tmp_path / "a.jsonl")) == 10


def test_a_log_that_cannot_be_written_never_stops_a_fit(tmp_path: Path) -> None:
    clock, stream = Clock(), io.StringIO()
    for path in (tmp_path / "no" / "a.jsonl", Path("/dev/full")):
        with Progress(10, None, path, stream=stream, clock=clock) as progress:
            run(progress, clock, 5, pace=2.0)
    assert stream.getvalue().count("the log cannot be written") == 2


def test_a_display_that_is_gone_never_stops_a_fit() -> None:
    class Gone(io.StringIO):
        def write(self, text: str) -> int:
            raise BrokenPipeError

    clock = Clock()
    with Progress(10, None, stream=Gone(), clock=clock) as progress:
        run(progress, clock, 5, pace=20.0)


def test_an_interrupt_passes_through_and_the_last_step_is_logged(tmp_path: Path) -> None:
    clock = Clock()
    with (
        pytest.raises(KeyboardInterrupt),
        Progress(10, None, tmp_path / "a.jsonl", quiet=True, clock=clock) as progress,
    ):
        run(progress, clock, 3)
        raise KeyboardInterrupt
    assert [entry["step"] for entry in log(tmp_path / "a.jsonl")] == [1, 3]


@pytest.mark.serial
def test_updates_cost_little() -> None:
    progress = Progress(100_000, None, quiet=True)
    begin = time.process_time()
    for step in range(20_000):
        progress.update(step, step * 0.002, 4096, 50_000, 20.0)
    assert (time.process_time() - begin) / 20_000 < 100e-6


def test_texts() -> None:
    assert [count_text(x) for x in (0, 950, 12_340, 2_049_000, 999_900)] == ["0", "950", "12.3k", "2.05M", "1.00M"]
    assert [time_text(x) for x in (None, 7, 750, 11045)] == ["-", "0:07", "12:30", "3:04:05"]
    assert sparkline([1.0, 2.0, 3.0]) == "▁▅█" and sparkline([]) == "" and sparkline([5.0, 5.0]) == "▁▁"
