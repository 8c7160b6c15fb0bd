"""Runs of `nf fit` on the small capture: how they are interrupted, what they leave, what they refuse."""

import signal
from pathlib import Path
from typing import Any

import pytest
import torch

from neuralfields import cli
from neuralfields.captures.readers import read_scene
from neuralfields.errors import InterruptedFit
from neuralfields.models.model import Model
from neuralfields.options.fit import FitOptions
from neuralfields.progress import Progress
from neuralfields.training.fit import fit_scene
from tests.support.settings import training_settings
from tests.support.side_by_side import made_once
from tests.support.small_fit import tiny_capture_folder

SMALL = ("levels=4", "table=12", "finest=64", "hidden=32")


def listing(folder: Path) -> list[str]:
    return sorted(entry.name for entry in folder.iterdir())


def same_model(one: Model, two: Model) -> None:
    other = two.field.state_dict()
    for name, tensor in one.field.state_dict().items():
        assert torch.equal(tensor, other[name]), name
    assert torch.equal(one.occupancy, two.occupancy)
    assert one.metrics["psnr"] == two.metrics["psnr"] and one.made["steps"] == two.made["steps"]


def _interrupted(folder: Path) -> None:
    capture, before = tiny_capture_folder(), torch.get_num_threads()
    options = FitOptions(scene=capture, steps=12, threads=1, field="hash", set=SMALL, quiet=True, out=folder / "a.nf")
    folder.mkdir()
    with training_settings(samples=1 << 12), pytest.raises(InterruptedFit):
        fit_scene(read_scene(capture), options, Interrupting(2))
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def interrupted() -> Path:
    """The output of a fit of 12 steps of the tiny capture that was interrupted at step 2: its checkpoint is there."""
    return made_once("interrupted", _interrupted) / "a.nf"


class Interrupting(Progress):
    """Presses Ctrl-C after so many updates, `times` times at once."""

    def __init__(self, after: int, number: int = signal.SIGINT, times: int = 1) -> None:
        super().__init__(None, None, quiet=True)
        self.left, self.number, self.times = after, number, times

    def update(self, *values: Any, **named: Any) -> None:
        """Counts, and signals."""
        super().update(*values, **named)
        self.left -= 1
        if self.left == 0:
            for _ in range(self.times):
                signal.raise_signal(self.number)


def nf(capsys: pytest.CaptureFixture[str], *words: object) -> tuple[int, str, str]:
    code = cli.main([str(word) for word in words])
    out, err = capsys.readouterr()
    return code, out, err


def refused(capsys: pytest.CaptureFixture[str], code: int, *words: object) -> str:
    """One clear line and nothing on standard output."""
    got, out, err = nf(capsys, "fit", *words)
    assert got == code, err
    assert out == "" and "Traceback" not in err and err.startswith("nf: error: ") and err.count("\n") == 1
    return err
