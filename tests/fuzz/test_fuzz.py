"""Changed inputs, a few of each kind by default, many by `-m slow`: each is read, or refused in the package's words.

NEURALFIELDS_FUZZ sets the number of each kind by hand; benchmarks/fuzz.py feeds hundreds of thousands and survives
crashes.
"""

import os
import random
import time
from pathlib import Path

import pytest

from neuralfields.errors import InputError
from tests.fuzz.mutate import change_bytes, change_json, change_text
from tests.fuzz.run import Target, fuzz
from tests.fuzz.targets import NEEDS, TARGETS

FEW, MANY = int(os.environ.get("NEURALFIELDS_FUZZ", "12")), 5000


def met(name: str, folder: Path, count: int) -> None:
    """No finding among so many inputs; each is made again by its number."""
    if name in NEEDS:
        pytest.importorskip(NEEDS[name])
    outcome = fuzz(TARGETS[name], folder, count)
    assert outcome.findings == [] and outcome.inputs == count


@pytest.mark.parametrize("name", TARGETS)
def test_changed_inputs_are_read_or_refused(name: str, tmp_path: Path) -> None:
    met(name, tmp_path, FEW)


@pytest.mark.slow
@pytest.mark.parametrize("name", TARGETS)
def test_thousands_of_changed_inputs_are_read_or_refused(name: str, tmp_path: Path) -> None:
    met(name, tmp_path, MANY)


def write_numbers(folder: Path) -> None:
    (folder / "a.txt").write_text("1 2 3\n")


def test_what_is_met_badly_is_found(tmp_path: Path) -> None:
    """A guard that never bites is none: a raw exception, and an endless loop."""

    def read(folder: Path) -> None:
        text = (folder / "a.txt").read_bytes()
        if len(text) < 3:
            raise InputError("too short")
        if b"1 2 3" not in text:
            raise KeyError("raw")

    outcome = fuzz(Target(write_numbers, "*", read, change_text), tmp_path, 60)
    assert 0 < len(outcome.findings) < 60 and outcome.refused
    assert all("KeyError at" in text for _, text in outcome.findings)


def test_an_input_that_never_ends_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tests.fuzz.run.SECONDS", 0.05)

    def read(folder: Path) -> None:
        end = time.process_time() + 5
        while (folder / "a.txt").read_bytes() != b"1 2 3\n" and time.process_time() < end:
            pass

    outcome = fuzz(Target(write_numbers, "*", read, change_bytes), tmp_path, 3)
    assert outcome.findings and all("processor time" in text for _, text in outcome.findings)


@pytest.mark.parametrize("change", [change_bytes, change_text, change_json])
def test_the_same_number_gives_the_same_input(change) -> None:
    sound = b'{"a": [1, 2.5, {"b": "c"}], "d": null}'
    made = [[change(sound, random.Random(f"0 {k}")) for k in range(50)] for _ in range(2)]
    assert made[0] == made[1] and len(set(made[0])) > 30
