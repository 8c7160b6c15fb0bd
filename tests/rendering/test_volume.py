"""Pictures by compositing, judged by closed forms and by what must not change them."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

from neuralfields.cameras import Camera
from neuralfields.fields import field_class
from neuralfields.fields.field import Field
from neuralfields.rays import Rays
from neuralfields.rendering.volume import Volume, camera_rays, finish
from neuralfields.scene import Bounds
from tests.support.fused import Case, case
from tests.test_scenes import analytic

UNIT = Bounds((0.5, 0.5, 0.5), 1.0)
SIGMA = 1.7


class Fog(Field):
    """The same density everywhere; colour (1 + d) / 2, as the analytic scene of that name."""

    def features(self, x: Tensor) -> Tensor:
        return x

    def decode(self, f: Tensor, directions: Tensor) -> tuple[Tensor, Tensor]:
        return torch.full_like(f[:, 0], SIGMA).log(), 0.5 + 0.5 * directions


def fog(bounds: Bounds = UNIT) -> Volume:
    return Volume(Fog(), bounds, torch.full((bounds.cascades, 32768), -1, dtype=torch.int64))


def rays(count: int = 200) -> Rays:
    rng = np.random.default_rng(4)
    origins = rng.normal(size=(count, 3)) * np.where(np.arange(count) % 4 == 0, 0.2, 1.5)[:, None] + 0.5
    directions = rng.uniform(-0.2, 1.2, size=(count, 3)) - origins
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    return Rays(torch.from_numpy(origins), torch.from_numpy(directions))


def exact(lines: Rays) -> tuple[Tensor, Tensor, Tensor]:
    rgb, opacity, depth = analytic.Fog(SIGMA).exact(lines.origins.numpy(), lines.directions.numpy())
    return torch.from_numpy(rgb), torch.from_numpy(opacity), torch.from_numpy(depth)


@pytest.mark.parametrize("coarseness", [1.0, 8.0])
def test_fog_is_the_closed_form(coarseness):
    """The last step reaches past the cube by less than itself: that, and nothing more, is the error."""
    lines, volume = rays(), fog()
    sums = volume.sums(lines, coarseness=coarseness)
    step = volume.settings(coarseness).min_step
    seen = finish(sums, torch.zeros(3), volume.bounds.side)
    rgb, opacity, depth = exact(lines)
    assert int((opacity > 0.1).sum()) > 100 and int((opacity == 0).sum()) > 5
    assert bool((seen.opacity - opacity > -1e-9).all())
    assert float((seen.opacity - opacity).max()) <= SIGMA * step
    assert float((seen.rgb - rgb).abs().max()) <= SIGMA * step
    thick = opacity > 0.1
    assert float((seen.depth - depth)[thick].abs().max()) <= 2 * step
    assert not seen.depth[opacity == 0].any()


def test_fog_beyond_the_inner_cube():
    """A chord through three cascades with growing steps; density is per inner cube, whatever the side in the world."""
    volume = fog(Bounds((1.0, 2.0, -3.0), 0.5, cascades=3))
    middle = torch.tensor([[1.0, 2.0, -3.0]], dtype=torch.float64)
    direction = torch.tensor([[0.0, 0.6, 0.8]], dtype=torch.float64)
    sums = volume.sums(Rays(middle, direction))
    reach = 2 / 0.8  # from the middle to the face of a cube of side 4
    settings = volume.settings()
    truth = 1 - np.exp(-SIGMA * reach)
    assert float(sums.opacity) == pytest.approx(truth, abs=SIGMA * settings.cone * reach * (1 - truth) + 1e-9)
    seen = finish(sums, torch.zeros(3), volume.bounds.side)
    mean = 1 / SIGMA - reach * (1 - truth) / truth
    assert float(seen.depth) == pytest.approx(mean * 0.5, rel=0.02)


def test_jitter_keeps_the_mean():
    """A first step moved by chance makes no brightness: the mean over many jitters is the closed form."""
    line = rays(8)
    truth = exact(line)[1]
    many = Rays(line.origins.repeat(4000, 1), line.directions.repeat(4000, 1))
    jitter = torch.rand(len(many), generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    got = fog().sums(many, jitter, coarseness=16.0).opacity.reshape(4000, 8).mean(0)
    step = fog().settings(16.0).min_step
    assert float((got - truth).abs().max()) < 0.1 * SIGMA * step


def scenes() -> list[Case]:
    return [case("box3", torch.float32, rays=257), case("cube4", torch.float64, rays=257, contrast=20.0)]


@pytest.mark.parametrize("fused", [True, False])
@pytest.mark.parametrize("scene", scenes(), ids=["box3", "cube4"])
def test_rays_do_not_know_each_other(scene, fused):
    """Metamorphic: rendered in parts, or in another order, every ray keeps its bits."""
    with torch.no_grad():
        whole = scene.volume.sums(scene.rays, scene.jitter, fused=fused).values
        parts = [
            scene.volume.sums(scene.rays[s], scene.jitter[s], fused=fused).values
            for s in (slice(0, 1), slice(1, 100), slice(100, 257))
        ]
        order = torch.randperm(257, generator=torch.Generator().manual_seed(6))
        shuffled = scene.volume.sums(scene.rays[order], scene.jitter[order], fused=fused).values
    assert torch.equal(torch.cat(parts), whole)
    assert torch.equal(shuffled, whole[order])


@pytest.mark.parametrize("fused", [True, False])
@pytest.mark.parametrize("space", ["box3", "cube4"])
def test_a_scene_elsewhere_and_larger_looks_the_same(space, fused):
    """Metamorphic: world moved and scaled together with rays and bounds; distances scale with it."""
    scene = case(space, contrast=3.0)
    bounds, scale, shift = scene.volume.bounds, 3.7, torch.tensor([10.0, -4.0, 0.5], dtype=torch.float64)
    moved = replace(
        bounds,
        centre=tuple((torch.tensor(bounds.centre, dtype=torch.float64) * scale + shift).tolist()),
        side=bounds.side * scale,
        near=bounds.near * scale,
    )
    black = torch.zeros(3)
    with torch.no_grad():
        before = finish(scene.volume.sums(scene.rays, fused=fused), black, bounds.side)
        there = Rays(scene.rays.origins * scale + shift, scene.rays.directions)
        after = finish(replace(scene.volume, bounds=moved).sums(there, fused=fused), black, moved.side)
    # A sample within rounding of a cell's border may fall on its other side: all rays but a few are equal.
    same = (after.rgb - before.rgb).abs().amax(1) < 1e-9
    assert float(same.double().mean()) > 0.9
    torch.testing.assert_close(after.opacity[same], before.opacity[same], rtol=0, atol=1e-9)
    torch.testing.assert_close(after.depth[same], before.depth[same] * scale, rtol=1e-8, atol=1e-8)


def test_normalise_puts_the_inner_cube_at_zero_to_one():
    volume = fog(Bounds((1.0, -2.0, 0.5), 4.0))
    corners = torch.tensor([[-1.0, -4.0, -1.5], [3.0, 0.0, 2.5], [1.0, -2.0, 0.5]])
    origins, directions = volume.normalise(Rays(corners, torch.eye(3)))
    assert torch.equal(origins, torch.tensor([[0.0] * 3, [1.0] * 3, [0.5] * 3]))
    assert torch.equal(directions, torch.eye(3))


def test_background_shows_through():
    lines = rays(60)
    sums = fog().sums(lines)
    rgb, opacity = sums.rgb, sums.opacity[:, None]
    background = torch.tensor([0.2, 0.9, 0.5], dtype=torch.float64)
    torch.testing.assert_close(finish(sums, background, 1.0).rgb, rgb + (1 - opacity) * background)
    each = torch.rand(60, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    torch.testing.assert_close(finish(sums, each, 1.0).rgb, rgb + (1 - opacity) * each)
    missed = sums.opacity == 0
    assert bool(missed.any()) and torch.equal(finish(sums, each, 1.0).rgb[missed], each[missed])


def test_near_cuts_off_what_is_close():
    inside = Rays(torch.full((1, 3), 0.5, dtype=torch.float64), torch.tensor([[0.0, 0.0, 1.0]], dtype=torch.float64))
    opacity = float(fog(replace(UNIT, near=0.25)).sums(inside).opacity)
    assert opacity == pytest.approx(1 - np.exp(-SIGMA * 0.25), abs=SIGMA / 290)


def test_settings_are_even_inside_one_cube_and_grow_beyond():
    even, growing = fog().settings(), fog(Bounds((0.0, 0.0, 0.0), 2.0, cascades=4, near=0.5)).settings()
    assert even.cone == 0 and even.max_step == even.min_step
    assert growing.cone > 0 and growing.max_step == 0.5 and growing.near == 0.25


def camera() -> Camera:
    pose = np.eye(4)
    pose[:3, 3] = [0.5, 0.4, -1.0]
    return Camera(pose, 8, 6, 10.0, 10.0, 4.0, 3.0)


def test_a_picture_is_its_rays_row_by_row():
    lines = camera_rays(camera())
    assert len(lines) == 48
    first = torch.tensor([(0.5 - 4) / 10, (0.5 - 3) / 10, 1.0])
    torch.testing.assert_close(lines.directions[0], first / first.norm())
    across, down = lines.directions[1] - lines.directions[0], lines.directions[8] - lines.directions[0]
    assert float(across[0]) > 0 and float(down[1]) > 0 and abs(float(across[1])) < abs(float(across[0]))
    picture = fog().render(camera(), (1.0, 1.0, 1.0))
    assert picture.rgb.shape == (6, 8, 3) and picture.opacity.shape == picture.depth.shape == (6, 8)
    flat = finish(fog().sums(lines), torch.ones(3), 1.0)
    assert torch.equal(picture.rgb.reshape(-1, 3), flat.rgb)
    assert torch.equal(picture.depth.reshape(-1), flat.depth)


def test_fused_and_composed_pictures_agree():
    scene = case("box", torch.float32)
    view = replace(camera(), world_from_camera=np.eye(4), fx=4.0, fy=4.0)
    fused, composed = (scene.volume.render(view, (0.0, 0.0, 0.0), fused=f) for f in (True, False))
    assert float(composed.opacity.max()) > 0.2
    # The fused picture leaves out colours of samples that weigh less than 1e-4.
    torch.testing.assert_close(fused.rgb, composed.rgb, rtol=0, atol=1 / 255)


@pytest.mark.parametrize("name", ["mlp", "cam"])
def test_recalled_features_change_no_bit(name, monkeypatch):
    """What the pass for visible samples computed is what the passes after it would, and gradients are the same."""
    torch.manual_seed(2)
    kind = field_class(name)
    field = kind(kind.Config(count=8, layers=2, width=16, frequencies=1.0), UNIT.domain)
    with torch.no_grad():
        field.heads.density[-1].mul_(8)  # something opaque, something empty
    volume, given = Volume(field, UNIT, fog().occupancy), rays()
    given, results = Rays(given.origins.float(), given.directions.float()), []
    for recalls in (True, False):
        monkeypatch.setattr(kind, "recalls", recalls)
        sums = volume.sums(given, capacity=1 << 20)
        sums.rgb.sum().backward()
        results.append([sums.values.detach(), volume.sums(given).values, *(p.grad for p in field.parameters())])
        field.zero_grad()
    assert all(torch.equal(a, b) for a, b in zip(*results, strict=True))
