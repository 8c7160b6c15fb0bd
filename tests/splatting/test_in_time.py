"""The beginning of Gaussians in time, in a scene whose moving ball is known: where they are, when, and how fast."""

from pathlib import Path

import numpy as np
import pytest
import torch

from neuralfields.captures.images import load_frames
from neuralfields.captures.readers import read_scene
from neuralfields.gaussians import Gaussians
from neuralfields.motion import CENTRE, DURATION, PATH
from neuralfields.splatting.in_time import LONG, alive_for_a_while, from_photos_in_time
from neuralfields.splatting.initial import Photos, at_random
from neuralfields.splatting.photos import training_photos
from tests.support.moving import moving_scene
from tests.support.side_by_side import made_once

COUNT, STEP = 1200, 1e-3


@pytest.fixture(scope="module")
def photos() -> Photos:
    def make(folder: Path) -> None:
        moving_scene().write(folder, cameras=6, frames=16, size=40)

    scene = read_scene(made_once("moving-seen-by-six", make))
    return training_photos(load_frames(scene, scene.train), scene.bounds, False)[1]


@pytest.fixture(scope="module")
def begun(photos: Photos) -> Gaussians:
    return from_photos_in_time(photos, 0, COUNT, torch.Generator().manual_seed(0))


def near_the_ball(gaussians: Gaussians, slack: float = 1.3) -> torch.Tensor:
    """Which are within the moving ball, or a little beyond it, at their own time."""
    script = moving_scene()
    centres = np.stack([script.balls(t)[0].centre for t in gaussians.motion[:, CENTRE].tolist()])
    return (gaussians.means - torch.from_numpy(centres)).norm(dim=1) < slack * script.RADIUS


def test_brief_ones_are_where_the_ball_is_at_their_time(photos: Photos, begun: Gaussians) -> None:
    brief = begun.take(begun.motion[:, DURATION] < 0)
    assert len(begun) == COUNT and len(brief) == round(0.6 * COUNT)
    chance = alive_for_a_while(at_random(photos, 0, COUNT, torch.Generator().manual_seed(0)), photos, torch.Generator())
    found, random = (float(near_the_ball(some).float().mean()) for some in (brief, chance))
    assert found > 0.15 and found > 5 * random, (found, random)
    assert bool((begun.motion[begun.motion[:, DURATION] > 0, DURATION] == LONG).all())


def test_those_on_the_ball_go_its_way(begun: Gaussians) -> None:
    brief = begun.take(begun.motion[:, DURATION] < 0)
    on = brief.take(near_the_ball(brief))
    script, speeds = moving_scene(), on.motion[:, PATH.start : PATH.start + 3]
    times = on.motion[:, CENTRE].tolist()
    true = np.stack([(script.balls(t + STEP)[0].centre - script.balls(t)[0].centre) / STEP for t in times])
    goes = speeds.norm(dim=1) > 0
    assert goes.float().mean() > 0.1
    cosine = torch.nn.functional.cosine_similarity(speeds[goes].double(), torch.from_numpy(true)[goes], dim=1)
    assert float(cosine.median()) > 0.4, cosine


def test_it_repeats(photos: Photos, begun: Gaussians) -> None:
    again = from_photos_in_time(photos, 0, COUNT, torch.Generator().manual_seed(0))
    assert torch.equal(again.means, begun.means) and torch.equal(again.motion, begun.motion)
