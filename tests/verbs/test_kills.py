"""Fits in real processes, killed at random instants and taken up again: the same bits. Fifty: benchmarks/kills.py."""

import random
from pathlib import Path

import pytest

from tests.support.fit_runs import SMALL
from tests.support.kills import Fit, killed_fit, same_bits
from tests.support.small_fit import tiny_capture_folder

SHARED = ("--threads", "1", "--checkpoint-every", "0.1", "--eval-every", "0", "--quiet")
FIELDS = {
    "hash": ("--steps", "120", "--recipe", "samples=4096", "--field", "hash", "--set", *SMALL),
    "mlp": ("--steps", "20", "--recipe", "samples=1024", "--set", "width=32", "layers=2"),
    "gaussians": ("--steps", "60", "--max-gaussians", "2000"),
}


# A killed hash fit is one of the default tests: test_fit_process.py.
@pytest.mark.slow
@pytest.mark.parametrize("field", FIELDS)
def test_killed_at_any_instant_it_ends_in_the_same_bits(field: str, tmp_path: Path) -> None:
    fit = Fit(tiny_capture_folder(), ("--field", field, *SHARED, *FIELDS[field]))
    seconds = fit.unbroken(tmp_path / "unbroken" / "a.nf")
    found = killed_fit(fit, tmp_path / "killed" / "a.nf", seconds, 2, random.Random(field))
    assert not found.said and found.kills
    assert same_bits(tmp_path / "unbroken" / "a.nf", tmp_path / "killed" / "a.nf")
    left = {path.name for path in (tmp_path / "killed").iterdir()}
    assert left == {"a.nf", "a.nf.log.jsonl", "a.nf.options.json", "a.said"}
