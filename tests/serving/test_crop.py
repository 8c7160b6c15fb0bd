"""A field cut open: nothing outside the box, everything inside it, exact at the faces that are seen."""

import numpy as np
import pytest
import torch

from neuralfields.cameras import Camera, look_at
from neuralfields.distillation.boxes import cells
from neuralfields.gaussians import Gaussians
from neuralfields.models.model import Model, volume_of
from neuralfields.ops.occupancy_bits import pack_bricks
from neuralfields.rendering.splat import Splats
from neuralfields.rendering.volume import camera_rays
from neuralfields.scene import Bounds
from neuralfields.serving.crop import render_box
from neuralfields.serving.shading import points_of

WHITE = (1.0, 1.0, 1.0)


def whole(model: Model, grow: float = 1.0) -> tuple:
    centre, half = np.array(model.bounds.centre), model.bounds.side / 2 * grow
    return tuple((centre - half).tolist()), tuple((centre + half).tolist())


def test_a_box_around_everything_changes_nothing(small_model: Model) -> None:
    volume, camera = volume_of(small_model), small_model.cameras[0].resized(48, 48)
    plain, boxed = volume.render(camera, WHITE), render_box(volume, camera, WHITE, whole(small_model, 50))
    assert torch.allclose(plain.rgb, boxed.rgb, atol=1e-5)
    assert torch.allclose(plain.depth, boxed.depth, atol=1e-4)
    assert render_box(volume, camera, WHITE, None).rgb.equal(plain.rgb)


def test_a_box_elsewhere_leaves_the_background(small_model: Model) -> None:
    camera = small_model.cameras[0].resized(24, 24)
    low, high = (tuple(v + 100 for v in corner) for corner in whole(small_model))
    seen = render_box(volume_of(small_model), camera, (0.2, 0.4, 0.6), (low, high))
    assert float(seen.opacity.max()) == 0 and torch.allclose(seen.rgb, torch.tensor([0.2, 0.4, 0.6]).expand(24, 24, 3))


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_what_is_seen_lies_in_the_box(small_model: Model, axis: int) -> None:
    """Up to one cell of the occupancy behind it."""
    volume, camera = volume_of(small_model), small_model.cameras[3].resized(64, 64)
    low, high = (list(corner) for corner in whole(small_model))
    low[axis] = small_model.bounds.centre[axis] + 0.03
    seen = render_box(volume, camera, WHITE, (tuple(low), tuple(high)))
    solid = seen.opacity.numpy() > 0.9
    assert 50 < solid.sum() < (volume.render(camera, WHITE).opacity.numpy() > 0.9).sum()
    points, cell = points_of(seen, camera)[solid], small_model.bounds.side / 128
    assert (points >= np.array(low) - cell).all() and (points <= np.array(high) + cell).all()


def test_the_face_that_is_seen_is_exact(small_model: Model) -> None:
    """A ray that enters a box inside something dense sees it there, as a ray that begins there does."""
    volume, bounds = volume_of(small_model), small_model.bounds
    centre = np.array(bounds.centre)
    above, up = centre + np.array([0, 0, 2 * bounds.side]), np.array([0.0, 1.0, 0.0])
    camera = Camera(look_at(above, centre, up), 32, 32, 40, 40, 16, 16)
    low, high = whole(small_model)
    at = bounds.centre[2] - 0.013
    seen = render_box(volume, camera, WHITE, (low, (*high[:2], at)))
    rays = camera_rays(camera)
    enter = (at - rays.origins[:, 2]) / rays.directions[:, 2]
    begin = type(rays)(rays.origins + rays.directions * enter[:, None], rays.directions)
    across = begin.origins[:, :2]
    inside = (across > torch.tensor(low[:2])).all(1) & (across < torch.tensor(high[:2])).all(1)
    sums = volume.sums(begin[inside])
    assert inside.sum() > 100
    assert torch.allclose(seen.opacity.reshape(-1)[inside], sums.opacity, atol=0.05)
    assert float((seen.opacity.reshape(-1)[inside] - sums.opacity).abs().mean()) < 5e-3


def test_the_mask_against_a_cell_by_cell_one() -> None:
    bounds, box = Bounds((0.3, -0.2, 0.1), 1.6, cascades=2), ((-0.2117, -0.5031, 0.0011), (0.3313, 0.4071, 0.5213))
    middles = (np.arange(128) + 0.5) / 128 - 0.5
    for cascade in range(2):
        size = bounds.side * 2**cascade
        axes = zip(bounds.centre, *box, strict=True)
        touched = [abs(middles * size + c - (a + b) / 2) <= (b - a) / 2 + size / 256 for c, a, b in axes]
        for x, y, z in np.random.default_rng(0).integers(0, 128, (4000, 3)):
            brick, cell = z // 4 * 1024 + y // 4 * 32 + x // 4, z % 4 * 16 + y % 4 * 4 + x % 4
            word = int(cells(bounds, box)[cascade, brick]) >> int(cell) & 1
            assert word == (touched[0][x] and touched[1][y] and touched[2][z])
    assert (
        pack_bricks(torch.ones(1, 64, dtype=torch.bool)).item() == -1
    )  # the order of bits is that of rendering/occupancy.py


def test_a_crop_of_splats_is_those_whose_centres_lie_in_it() -> None:
    means = torch.tensor([[-0.5, 0.0, 2.0], [0.5, 0.0, 2.0]])
    scales, turns = torch.full((2, 3), -2.0), torch.tensor([[1.0, 0, 0, 0]] * 2)
    both = Gaussians(means, scales, turns, torch.full((2,), 4.0), torch.ones(2, 1, 3))
    splats, camera = Splats(both, Bounds((0.0, 0.0, 2.0), 2.0)), Camera(np.eye(4), 32, 32, 32.0, 32.0, 16.0, 16.0)
    left = render_box(splats, camera, (0.0, 0.0, 0.0), ((-1.0, -1.0, 1.0), (0.0, 1.0, 3.0)))
    whole = render_box(splats, camera, (0.0, 0.0, 0.0), None)
    assert float(whole.opacity[:, 20:].max()) > 0.5 and not bool(left.opacity[:, 20:].any())
    assert torch.equal(left.opacity[:, :12], whole.opacity[:, :12])
