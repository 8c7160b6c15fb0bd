"""`nf compress --resume`: interrupted or killed at any instant, it ends in the bytes of an unbroken run."""

import os
import signal
from dataclasses import replace
from pathlib import Path

import pytest

from neuralfields import cli
from neuralfields.compression.original import drawn
from neuralfields.errors import InputError, InterruptedFit, UsageError
from neuralfields.fields.gaussians import GaussianField
from neuralfields.files import companion
from neuralfields.models.loops import Loops
from neuralfields.models.model import Model
from neuralfields.models.nf_file import save
from neuralfields.options import training
from neuralfields.options.models import CompressOptions
from neuralfields.verbs import compress
from tests.compression.conftest import small_pictures
from tests.compression.test_compress import BOUNDS, ball
from tests.compression.test_fields import a_model
from tests.support.signalled import signalled

__all__ = ["small_pictures"]  # used by every test here


@pytest.fixture
def options(tmp_path: Path) -> CompressOptions:
    save_ball(200, tmp_path / "a.nf")
    return CompressOptions(tmp_path / "a.nf", out=tmp_path / "a.nfz", quality=1.5, steps=12, threads=1, quiet=True)


def save_ball(count: int, path: Path) -> None:
    """Splats with cameras of small pictures."""
    save(Model(GaussianField.of(ball(count)), BOUNDS, cameras=tuple(drawn(BOUNDS, 8, 48, 5)), held_out=(1,)), path)


def interrupt_at(monkeypatch: pytest.MonkeyPatch, step: int) -> None:
    """The process gets a SIGINT after that step; None any more where it is negative."""
    before = Loops.run

    def run(self: Loops, *arguments):
        for turn in before(self, *arguments):
            yield turn
            if self.step_count + 1 == step:
                os.kill(os.getpid(), signal.SIGINT)

    monkeypatch.setattr(Loops, "run", run)


CODED, NETWORKS = {}, {"method": "neuralgs", "clusters": 2, "width": 8}


@pytest.mark.parametrize(
    ("more", "steps"), [(CODED, (2, 9)), (CODED | {"max_bytes": "2kB"}, (6,)), (NETWORKS, (10, 30))]
)
def test_interrupted_it_ends_in_the_same_bytes(
    options: CompressOptions, more: dict, steps: tuple[int, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("neuralfields.compression.neuralgs.REGRESSION", 2)
    ends_in_the_same_bytes(replace(options, **more), steps, monkeypatch)


def test_an_interrupted_field_ends_in_the_same_bytes(options: CompressOptions, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(training, "DEFAULT", replace(training.DEFAULT, samples=1 << 14, fewest_rays=64))
    monkeypatch.setattr("neuralfields.distillation.convert.PICTURE_SIDE", 24)
    save(a_model(), options.model)
    for name, value in (("SIDE", 16), ("PROBES", 1), ("VIEWS", 2), ("REPORT", 2)):
        monkeypatch.setattr(f"neuralfields.compression.fields.{name}", value)
    ends_in_the_same_bytes(replace(options, max_bytes="2800", steps=6), (2, 5), monkeypatch)


def ends_in_the_same_bytes(options: CompressOptions, steps: tuple[int, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    """Runs it unbroken, and interrupted after these steps."""
    compress.run(options)
    wanted = options.out.read_bytes()
    options.out.unlink(), options.out.with_suffix(".png").unlink()
    checkpoint = companion(options.out, ".checkpoint")
    for i, step in enumerate(steps):
        with monkeypatch.context() as patched:
            interrupt_at(patched, step)
            with pytest.raises(InterruptedFit, match=f"at step {step}; the checkpoint .* --resume"):
                compress.run(replace(options, resume=i > 0))
        assert checkpoint.is_file() and not options.out.exists()
    report = compress.run(replace(options, resume=True))
    assert options.out.read_bytes() == wanted and report["bytes"] == len(wanted)
    assert sorted(p.name for p in options.out.parent.iterdir()) == ["a.nf", "a.nfz", "a.png"]


def test_what_is_kept_is_not_lost_and_not_mixed(
    options: CompressOptions, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    with pytest.raises(InputError, match="no checkpoint to resume"):
        compress.run(replace(options, resume=True))
    with monkeypatch.context() as patched:
        interrupt_at(patched, 3)
        with pytest.raises(InterruptedFit):
            compress.run(options)
    with pytest.raises(UsageError, match="holds 3 steps of an interrupted compression; go on with --resume"):
        compress.run(options)
    for change, name in (({"seed": 1}, "goal"), ({"steps": 13}, "goal"), ({"method": "neuralgs"}, "method")):
        with pytest.raises(UsageError, match=f"was made with {name}"):
            compress.run(replace(options, resume=True, **change))
    save_ball(210, options.model)
    with pytest.raises(UsageError, match="was made with input"):
        compress.run(replace(options, resume=True))
    with pytest.raises(UsageError, match="--resume: --fast"):
        replace(options, resume=True, fast=True)
    assert cli.main(["info", str(companion(options.out, ".checkpoint"))]) == 3
    assert "checkpoint of a compression, at step 3; go on with it by --resume" in capsys.readouterr().err
    compress.run(replace(options, overwrite=True))
    assert not companion(options.out, ".checkpoint").exists()


def test_a_killed_process_ends_in_the_same_bytes(options: CompressOptions, tmp_path: Path) -> None:
    out, checkpoint = tmp_path / "b.nfz", companion(tmp_path / "b.nfz", ".checkpoint")
    words = ["--steps", "30", "--threads", "1", "--quiet", "--checkpoint-every", "0.1"]
    command = ["compress", str(options.model), str(out), *words]
    code, told = signalled(signal.SIGKILL, checkpoint.name, command, tmp_path / "said")
    assert code == -signal.SIGKILL and not out.exists() and checkpoint.is_file(), told
    assert cli.main([*command, "--resume"]) == 0
    assert cli.main(["compress", str(options.model), str(tmp_path / "c.nfz"), *words]) == 0
    assert out.read_bytes() == (tmp_path / "c.nfz").read_bytes() and not checkpoint.exists()
