"""`nf fit --resume --steps`: an interrupted fit is prolonged or ended early, a finished one goes on from its model."""

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from neuralfields.errors import UsageError
from neuralfields.files import companion
from neuralfields.models.nf_file import load
from neuralfields.options.fit import FitOptions
from neuralfields.verbs import fit
from tests.support.fit_runs import SMALL
from tests.support.small_fit import tiny_capture_folder

pytestmark = pytest.mark.usefixtures("small_steps")


def options_for(capture: Path, **more: Any) -> FitOptions:
    return FitOptions(**{"scene": capture, "steps": 12, "threads": 1, "field": "hash", "set": SMALL} | more)


@pytest.fixture(scope="module")
def capture() -> Path:
    return tiny_capture_folder()


@pytest.mark.parametrize(("steps", "ends"), [(1, 2), (2, 2), (15, 15)])
def test_an_interrupted_fit_may_be_prolonged_or_ended_early(
    capture: Path, interrupted: Path, tmp_path: Path, steps: int, ends: int, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "a.nf"
    shutil.copy(companion(interrupted, ".checkpoint"), companion(out, ".checkpoint"))
    result = fit.run(options_for(capture, out=out, resume=True, steps=steps))
    assert result["steps"] == load(out).made["steps"] == ends
    assert f"resumed at step 2, of {steps} in place of 12" in capsys.readouterr().err
    assert not companion(out, ".checkpoint").exists()


def test_finished_gaussians_are_prolonged(
    capture: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], small_steps: None
) -> None:
    """Those that show something stay, their steps add up, and they get better; of another degree they are refused."""
    out = tmp_path / "a.nf"
    limits = {"field": "gaussians", "set": ("degree=1",), "max_gaussians": 1500, "quiet": False}
    before = fit.run(options_for(capture, out=out, steps=60, **limits))
    count = len(load(out).field.gaussians())
    with pytest.raises(UsageError, match="is finished, and holds a field gaussians of other settings"):
        fit.run(options_for(capture, out=out, steps=90, resume=True, **limits | {"set": ("degree=2",)}))
    result = fit.run(options_for(capture, out=out, steps=140, resume=True, **limits))
    after = load(out)
    assert result["steps"] == after.made["steps"] == 140 and result["psnr"] > before["psnr"] + 0.2
    assert 0.9 * count <= len(after.field.gaussians()) <= 1500
    assert "a.nf is finished: goes on from its 60 steps, with a new optimiser" in capsys.readouterr().err


@pytest.mark.parametrize("field", ["hash", pytest.param("kplanes", marks=pytest.mark.slow)])
def test_a_finished_fit_is_prolonged_from_its_model(
    capture: Path, tmp_path: Path, field: str, capsys: pytest.CaptureFixture[str], small_steps: None
) -> None:
    out = tmp_path / "a.nf"
    small = SMALL if field == "hash" else ()
    options = options_for(capture, out=out, steps=30, set=small, field=field, quiet=False)
    before = fit.run(options)["psnr"]
    result = fit.run(replace(options, steps=60, resume=True))
    assert result["steps"] == load(out).made["steps"] == 60 and result["psnr"] > before + 0.2
    assert "a.nf is finished: goes on from its 30 steps, with a new optimiser" in capsys.readouterr().err
    if field == "hash":
        with pytest.raises(UsageError, match="is finished, and holds a field hash of other settings than the hash"):
            fit.run(replace(options, steps=70, resume=True, set=("levels=2",)))
        assert load(out).made["steps"] == 60
