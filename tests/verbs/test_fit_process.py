"""`nf fit` in real processes: what it leaves, signals, sudden death and going on to the same bits."""

import json
import random
import re
import signal
import subprocess
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import pytest

from neuralfields.captures.readers import read_scene
from neuralfields.errors import InterruptedFit
from neuralfields.files import companion
from neuralfields.models.nf_file import load
from neuralfields.options.fit import FitOptions
from neuralfields.training.fit import fit_scene
from tests.support.fit_runs import SMALL, Interrupting, listing, nf, refused, same_model
from tests.support.forked import Forked
from tests.support.peak import MEASURED
from tests.support.side_by_side import made_once
from tests.support.small_fit import tiny_capture_folder

RECIPE = ("samples=4096",)  # small steps
WORDS = ("--threads", "1", "--checkpoint-every", "0.1", "--recipe", *RECIPE, "--field", "hash", "--set", *SMALL)
STEPS = 60
MEASURER = (sys.executable, "-c", MEASURED)


@dataclass(frozen=True)
class Ended:
    """A process that has ended: `code` as the shell would see it, `wall` in seconds."""

    code: int
    out: str
    err: str
    wall: float


class Process:
    """`nf fit CAPTURE --out OUT ...` in a process, with its output in files beside `out`'s folder.

    `fresh`: as a user's shell starts it, its memory measured; else a copy, which is there at once (`forked.py`).
    """

    def __init__(self, capture: Path, out: Path, *words: str, fresh: bool = False) -> None:
        self.log, self.began = companion(out, ".log.jsonl"), time.monotonic()
        fit = ["-m", "neuralfields", "fit", str(capture), "--out", str(out), *WORDS, *words]
        said = out.parent
        self.streams = [said.with_name(f"{said.name}.{kind}") for kind in ("out", "err")]
        if not fresh:
            self.process = Forked(fit, said)
            return
        with open(self.streams[0], "w") as stdout, open(self.streams[1], "w") as stderr:
            self.process = subprocess.Popen([*MEASURER, sys.executable, *fit], stdout=stdout, stderr=stderr)

    def wait_for(self, path: Path, newer_than: float = 0.0) -> None:
        """Until a file is there and not older."""
        while not (path.exists() and path.stat().st_mtime > newer_than and path.stat().st_size > 0):
            assert self.process.poll() is None, self.streams[1].read_text()
            assert time.monotonic() - self.began < 60, "nothing happens"
            time.sleep(0.005)

    def signal(self, number: int) -> None:
        self.process.send_signal(number)

    def end(self) -> Ended:
        self.process.wait()
        out, err = (path.read_text() for path in self.streams)
        return Ended(self.process.returncode, out, err, time.monotonic() - self.began)


@pytest.fixture(scope="module")
def capture() -> Path:
    """The tiny capture: 12 training and 2 held-out views of 32 x 32, RGBA."""
    return tiny_capture_folder()


@pytest.fixture(scope="module")
def unbroken(capture: Path) -> tuple[Path, Ended]:
    """A run that nobody disturbed; the last line of its errors is its memory's peak. Made once a run of the tests."""

    def make(folder: Path) -> None:
        out = folder / "run" / "a.nf"
        out.parent.mkdir(parents=True)
        words = ("--steps", str(STEPS), "--json", "--eval-every", "0.3")
        (folder / "ended.json").write_text(json.dumps(asdict(Process(capture, out, *words, fresh=True).end())))

    folder = made_once("unbroken", make)
    return folder / "run" / "a.nf", Ended(**json.loads((folder / "ended.json").read_text()))


def test_a_run_reports_one_object_and_leaves_its_files(capture: Path, unbroken: tuple[Path, Ended]) -> None:
    out, ended = unbroken
    assert ended.code == 0, ended.err
    report = json.loads(ended.out)
    assert Path(report["path"]).name == out.name and report["steps"] == STEPS and report["field"] == "hash"
    assert 0 < report["seconds"] < ended.wall and report["samples_per_second"] > 0
    assert 16 < report["psnr"] < 40
    assert "Traceback" not in ended.err
    assert listing(out.parent) == ["a.nf", "a.nf.log.jsonl", "a.nf.options.json"]
    model = load(out)
    assert model.metrics["psnr"] == report["psnr"]
    assert len(model.cameras) == 14 and model.held_out == (12, 13)
    assert "command" not in model.made and model.made["scene"] == str(capture.resolve())
    assert json.loads((out.parent / "a.nf.options.json").read_text())["steps"] == STEPS


def test_the_log_is_lines_of_json(unbroken: tuple[Path, Ended]) -> None:
    lines = [json.loads(line) for line in companion(unbroken[0], ".log.jsonl").read_text().splitlines()]
    work = [line for line in lines if "psnr" in line]
    assert {"step", "seconds", "rays_per_second", "samples_per_second", "psnr", "loss"} == set(work[-1])
    assert work[0]["step"] == 1 and work[-1]["step"] == STEPS
    assert [line["step"] for line in lines] == sorted(line["step"] for line in lines)
    looks = [line for line in lines if "held_out_psnr" in line]
    assert looks and all(5 < line["held_out_psnr"] < 40 for line in looks)


def test_memory_of_a_small_fit(unbroken: tuple[Path, Ended]) -> None:
    assert 1e8 < int(unbroken[1].err.splitlines()[-1]) < 1e9


def test_told_to_stop_and_killed_it_still_ends_in_the_same_bits(
    capture: Path, tmp_path: Path, unbroken: tuple[Path, Ended], capsys: pytest.CaptureFixture[str]
) -> None:
    """A signal saves though no checkpoint was due, the next process dies, the last (this one) leaves no litter."""
    out = tmp_path / "run" / "a.nf"
    out.parent.mkdir()
    saved, log = companion(out, ".checkpoint"), companion(out, ".log.jsonl")
    process = Process(capture, out, "--steps", str(STEPS), "--checkpoint-every", "1000")
    process.wait_for(log)
    time.sleep(0.05)
    process.signal(signal.SIGTERM)
    ended = process.end()
    assert ended.code == 5, ended.err
    found = re.search(r"interrupted at step (\d+); the checkpoint (\S+) is written, go on .* --resume", ended.err)
    assert found and 0 < int(found[1]) < STEPS and found[2] == str(saved)
    assert ended.out == "" and "Traceback" not in ended.err
    assert listing(out.parent) == ["a.nf.checkpoint", "a.nf.log.jsonl"]

    process = Process(capture, out, "--steps", str(STEPS), "--resume")
    process.wait_for(saved, saved.stat().st_mtime)
    time.sleep(random.Random(7).uniform(0, 0.1))
    process.signal(signal.SIGKILL)
    ended = process.end()
    assert ended.code == -signal.SIGKILL and f"resumed at step {found[1]}" in ended.err, ended.err

    code, _, err = nf(capsys, "fit", capture, "--out", out, *WORDS, "--steps", STEPS, "--resume")
    assert code == 0, err
    same_model(load(unbroken[0]), load(out))
    assert listing(out.parent) == ["a.nf", "a.nf.log.jsonl", "a.nf.options.json"]
    steps = [json.loads(line)["step"] for line in log.read_text().splitlines()]
    assert steps == sorted(steps) and steps[0] == 1 and steps[-1] == STEPS


@pytest.mark.serial
def test_a_second_process_is_refused_and_two_signals_stop_at_once(
    capture: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "run" / "a.nf"
    out.parent.mkdir()
    first = Process(capture, out, "--steps", "100000")
    first.wait_for(companion(out, ".checkpoint"))
    err = refused(capsys, 2, capture, "--out", out, "--overwrite", "--steps", 1, "--quiet")
    assert f"another process (pid {first.process.pid}) is writing it" in err
    first.signal(signal.SIGINT)
    time.sleep(0.004)
    first.signal(signal.SIGINT)
    told = time.monotonic()
    ended = first.end()
    assert ended.code == 5 and time.monotonic() - told < 2 and "Traceback" not in ended.err
    assert not out.exists()
    options = FitOptions(
        scene=capture, steps=100000, threads=1, field="hash", set=SMALL, recipe=RECIPE, out=out, resume=True
    )
    with pytest.raises(InterruptedFit):
        fit_scene(read_scene(capture), options, Interrupting(1))


@pytest.mark.serial
def test_minutes_end_in_time(capture: Path, tmp_path: Path) -> None:
    out = tmp_path / "run" / "a.nf"
    out.parent.mkdir()
    ended = Process(capture, out, "--minutes", "0.025", "--json").end()
    report = json.loads(ended.out)
    assert ended.code == 0 and 1.5 <= report["seconds"] < 3.5 and report["steps"] > 5
