"""Two processes on one fit, meeting through gloo on the CPU."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from neuralfields import ranks
from neuralfields.models.nf_file import load

REPOSITORY = Path(__file__).resolve().parents[1]
TORCHRUN = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]

SCRIPT = """
import sys, torch
from torch import distributed
from neuralfields import ranks
from neuralfields.trainers import radiance as training
from neuralfields.fields.hash import Config
from neuralfields.options import training as training_options
from neuralfields.training.photos import new_training
from tests.support.settings import plan_of
from dataclasses import replace
from neuralfields.captures.images import load_frames
from neuralfields.options.fit import FitOptions
from neuralfields.captures.readers import read_scene

training_options.DEFAULT = replace(training_options.DEFAULT, samples=1 << 10)
with ranks.joined("cpu"):
    assert ranks.count() == 2 and ranks.most(ranks.rank(), 1 - ranks.rank()) == [1.0, 1.0]
    p = torch.nn.Parameter(torch.zeros(3))
    if ranks.rank():  # the other process has no gradient: it counts as zeros
        p.grad = torch.tensor([2.0, 4.0, 6.0])
    assert ranks.average([p], True) and p.grad.tolist() == [1.0, 2.0, 3.0]
    assert ranks.average([p], ranks.rank() == 0) is False

    scene = read_scene(sys.argv[1])
    options = FitOptions(sys.argv[1])
    loaded = load_frames(scene, scene.train[:4], None)
    config = Config(levels=4, table=10, finest=64, hidden=16)
    mine = new_training(scene, plan_of(scene, options, config), loaded)
    losses = torch.tensor([mine.step(step / 4).loss for step in range(4)])
    flat = torch.cat([p.detach().reshape(-1) for p in mine.field.parameters()])
    for name, tensor, equal in (("field", flat, True), ("losses", losses, False),
                                ("occupancy", mine.occupancy.density.reshape(-1), True)):
        both = [torch.empty_like(tensor) for _ in range(2)]
        distributed.all_gather(both, tensor)
        assert torch.equal(*both) is equal, name
print("done", flush=True)
"""


def run(words: list[str], folder: Path) -> subprocess.CompletedProcess:
    done = subprocess.run(
        [*TORCHRUN, *words], cwd=folder, capture_output=True, text=True, timeout=300, env=environment(), check=False
    )
    assert done.returncode == 0, done.stderr[-4000:]
    return done


def environment() -> dict[str, str]:
    import os

    return {**os.environ, "PYTHONPATH": str(REPOSITORY), "OMP_NUM_THREADS": "1"}


def test_alone_nothing_changes():
    p = torch.nn.Parameter(torch.zeros(2))
    with ranks.joined("cpu"):
        assert (ranks.count(), ranks.rank(), ranks.most(0.5, True)) == (1, 0, [0.5, True])
        assert ranks.average([p], True) is True and p.grad is None


@pytest.mark.slow
def test_two_processes_stay_equal_on_rays_of_their_own(small_capture: Path, tmp_path: Path):
    (tmp_path / "script.py").write_text(SCRIPT)
    done = run([str(tmp_path / "script.py"), str(small_capture)], tmp_path)
    assert done.stdout.count("done") == 2


@pytest.mark.slow
def test_the_first_of_two_processes_writes_and_reports(small_capture: Path, tmp_path: Path):
    words = ["fit", str(small_capture), "--steps", "6", "--set", "levels=4", "table=10", "finest=64", "--json"]
    done = run(["-m", "neuralfields", *words, "--out", "a.nf", "--device", "cpu", "--threads", "1"], tmp_path)
    (line,) = done.stdout.strip().splitlines()
    assert json.loads(line)["steps"] == 6
    assert load(tmp_path / "a.nf").made["steps"] == 6
