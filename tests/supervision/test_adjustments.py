"""Adjustments that are off change nothing; several processes that share a fit agree on what is adjusted."""

import subprocess
from pathlib import Path

import pytest
import torch

from neuralfields.rays import Rays, RaySums
from neuralfields.supervision.adjustments import NONE, Adjustments, concatenate_rays, split_sums
from neuralfields.supervision.pixels import Batch
from tests.support.small_fit import small_capture_folder
from tests.test_ranks import TORCHRUN, environment

SCRIPT = """
import sys, torch
from torch import distributed
from neuralfields import ranks
from neuralfields.supervision import alignment
from neuralfields.supervision import exposure
from neuralfields.supervision import pose_refinement as refine
from neuralfields.supervision import robust
from neuralfields.trainers import radiance as training
from neuralfields.fields.hash import Config
from neuralfields.options import training as training_options
from neuralfields.training.photos import new_training
from tests.support.settings import plan_of
from dataclasses import replace
from neuralfields.captures.images import load_frames
from neuralfields.options.fit import FitOptions
from neuralfields.captures.readers import read_scene

training_options.DEFAULT = replace(
    training_options.DEFAULT, samples=1 << 10, pose_warmup=2, exposure_start=2, exposure_warmup=2, robust_warmup=2
)
robust.EVERY, alignment.FEWEST_RAYS = 2, 1
with ranks.joined("cpu"):
    assert ranks.total(1 + ranks.rank()) == 3
    scene = read_scene(sys.argv[1])
    options = FitOptions(sys.argv[1], refine_poses=True, exposure=True, robust=True)
    loaded = load_frames(scene, scene.train[:4], None)
    config = Config(levels=4, table=10, finest=64, hidden=16)
    mine = new_training(scene, plan_of(scene, options, config), loaded)
    for step in range(6):
        mine.step(step / 6)
    for name, tensor in mine.adjustments.tensors().items():
        both = [torch.empty_like(tensor) for _ in range(2)]
        distributed.all_gather(both, tensor.contiguous())
        assert torch.equal(*both), name
    assert float(mine.adjustments.poses.motion.abs().max()) > 0
print("done", flush=True)
"""


@pytest.mark.slow
def test_processes_agree(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    done = subprocess.run(
        [*TORCHRUN, str(script), str(small_capture_folder())], cwd=tmp_path, capture_output=True, text=True,
        timeout=300, env=environment(), check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.count("done") == 2


def rays(count: int) -> Rays:
    return Rays(torch.rand(count, 3), torch.rand(count, 3))


def test_off_is_the_very_same() -> None:
    some, camera = rays(5), torch.zeros(5, dtype=torch.int64)
    sums = RaySums(torch.rand(5, 7), torch.ones(5, dtype=torch.uint8), 9)
    valid = sums.valid.bool()
    batch = Batch(some, torch.rand(5, 3), None, camera, torch.rand(5, 2))
    assert NONE == Adjustments() and NONE.moved(some, camera) is some and NONE.exposed(sums, camera) is sums
    assert NONE.weight(valid, batch) is valid and NONE.tensors() == {}
    jitter = torch.rand(5)
    assert concatenate_rays(some, jitter, None) == (some, jitter)


def test_further_rays_are_behind_and_come_back_alone() -> None:
    some, more, jitter = rays(5), rays(2), torch.rand(5)
    both, jitters = concatenate_rays(some, jitter, more)
    assert len(both) == 7 and torch.equal(both.origins[5:], more.origins) and jitters[5:].tolist() == [0.5, 0.5]
    sums = RaySums(torch.rand(7, 7), torch.ones(7, dtype=torch.uint8), 9)
    first, behind = split_sums(sums, 5)
    assert torch.equal(first.values, sums.values[:5]) and torch.equal(behind.values, sums.values[5:])
    assert first.samples == 9 and behind.samples == 0
