from dataclasses import replace

import numpy as np
import pytest
import torch

from neuralfields.cameras import Camera, distort
from neuralfields.errors import UsageError
from neuralfields.gaussians import Gaussians, empty
from neuralfields.ops.blend import WITH_DEPTH
from neuralfields.ops.project import View
from neuralfields.ops.splat_pass import morton_order
from neuralfields.rays import Rays
from neuralfields.rendering.splat import Splats, render_gaussians
from neuralfields.scene import Bounds
from tests.support.gaussians import gaussians, one

BOUNDS = Bounds((0.0, 0.0, 4.0), 4.0)
BLACK = (0.0, 0.0, 0.0)


def camera(width: int = 40, height: int = 30, **changes) -> Camera:
    pose = np.eye(4)
    pose[:3, 3] = (0.3, -0.2, 0.1)
    return Camera(pose, width, height, 30.0, 30.0, width / 2, height / 2, **changes)


def cloud(generator: torch.Generator, count: int = 400) -> Splats:
    return Splats(Gaussians(*(part.detach() for part in gaussians(count, generator, torch.float32))), BOUNDS)


def test_depth_is_the_distance_along_the_ray():
    """Analytic truth: a wide opaque wall at z = 3 is 3 |(a, b, 1)| away, and its normal looks back."""
    wall = [part.float() for part in one((0.0, 0.0, 3.1), 1.0, 0.9999, (0.2, 0.4, 0.6))]
    wall[1] = torch.tensor([[6.0, 6.0, -9.0]])
    splats = Splats(Gaussians(*wall), BOUNDS)
    seen = splats.render(camera(), (1.0, 1.0, 1.0))
    a = (torch.arange(40) + 0.5 - 20) / 30
    b = (torch.arange(30) + 0.5 - 15) / 30
    torch.testing.assert_close(seen.depth, 3 * (1 + a**2 + b[:, None] ** 2).sqrt(), rtol=1e-5, atol=0)
    torch.testing.assert_close(seen.normal, torch.tensor([0.0, 0.0, -1.0]).expand(30, 40, 3), rtol=0, atol=1e-5)
    torch.testing.assert_close(seen.rgb[15, 20], 0.99 * torch.tensor([0.2, 0.4, 0.6]) + 0.01, rtol=0, atol=1e-4)


def test_nothing_to_see():
    seen = Splats(empty(), BOUNDS).render(camera(), (0.1, 0.2, 0.3))
    assert not seen.opacity.any() and not seen.depth.any() and not seen.normal.any()
    torch.testing.assert_close(seen.rgb, torch.tensor([0.1, 0.2, 0.3]).expand(30, 40, 3))


def test_a_render_is_not_overwritten_by_the_next(generator):
    splats = cloud(generator)
    first = splats.render(camera(), BLACK)
    kept = [part.clone() for part in (first.rgb, first.opacity, first.depth, first.normal)]
    splats.render(camera(30, 20), (1.0, 1.0, 1.0))
    for part, before in zip((first.rgb, first.opacity, first.depth, first.normal), kept, strict=True):
        assert torch.equal(part, before)


def test_rays_see_what_pixels_see(generator):
    """A ray is a pixel of another size, which linearises the projection elsewhere: colours agree to some hundredths."""
    splats = cloud(generator, 30)
    large = Splats(Gaussians(*(part + 1.0 if i == 1 else part for i, part in enumerate(_parts(splats)))), BOUNDS)
    seen, at = large.render(camera(), BLACK), [(15, 20), (10, 12), (20, 30)]
    directions = torch.tensor([[(x + 0.5 - 20) / 30, (y + 0.5 - 15) / 30, 1.0] for y, x in at])
    rays = Rays(torch.tensor([[0.3, -0.2, 0.1]]).expand(3, 3), torch.nn.functional.normalize(directions, dim=1))
    found = large.render_rays(rays, BLACK)
    for i, (y, x) in enumerate(at):
        torch.testing.assert_close(found.rgb[i], seen.rgb[y, x], rtol=0, atol=0.03 if i == 0 else 0.06)


def _parts(splats):
    g = splats.gaussians
    return g.means, g.scales, g.rotations, g.opacities, g.harmonics


def test_importance_is_in_the_order_of_the_gaussians(generator):
    splats = cloud(generator)
    found = splats.importance([camera(), camera(30, 20)])
    hidden = splats.gaussians.means[:, 2] < 0
    assert not found[hidden].any() and float(found.max()) > 1
    best = int(found.argmax())
    without = Splats(splats.gaussians.take(torch.arange(400) != best), BOUNDS)
    changes = (splats.render(camera(), BLACK).rgb - without.render(camera(), BLACK).rgb).abs().sum()
    assert float(changes) > 1


def test_differentiable_picture_is_the_same(generator):
    splats = cloud(generator)
    view = View.of(camera(), near=0.004)
    found = render_gaussians(splats.gaussians, view, BLACK, level=WITH_DEPTH)
    seen = splats.render(camera(), BLACK)
    torch.testing.assert_close(found.rgb.clamp(max=1.0), seen.rgb, rtol=0, atol=1e-5)
    torch.testing.assert_close(found.opacity, seen.opacity, rtol=0, atol=1e-5)


def test_a_bent_lens_sees_what_the_pinhole_sees_elsewhere(generator):
    """Each pixel of a lens with distortion has the colour of the pinhole's pixel on the same ray."""
    splats, bent = cloud(generator), camera(distortion=(0.1,) + (0.0,) * 7)
    seen, straight = splats.render(bent, BLACK), splats.render(camera(), BLACK)
    assert seen.rgb.shape == straight.rgb.shape and float(seen.opacity.max()) <= 1
    for v, u in ((15, 20), (11, 17), (19, 26), (8, 30)):  # pinhole pixels, and where the lens puts them
        a, b = distort(bent, np.array((u + 0.5 - bent.cx) / bent.fx), np.array((v + 0.5 - bent.cy) / bent.fy))
        place = int(np.floor(a * bent.fx + bent.cx)), int(np.floor(b * bent.fy + bent.cy))
        around = straight.rgb[v - 1 : v + 2, u - 1 : u + 2].flatten(0, 1)
        got = seen.rgb[place[1], place[0]]
        assert bool((got >= around.amin(0) - 0.05).all() and (got <= around.amax(0) + 0.05).all())


def test_fisheye_lenses_are_refused(generator):
    with pytest.raises(UsageError, match="undistort"):
        cloud(generator).render(replace(camera(), model="fisheye"), BLACK)


def test_morton_order_keeps_neighbours(generator):
    """Steps along the order are short: a tenth of what they are in any order."""
    means = torch.rand(4096, 3, generator=generator)
    order = morton_order(means)
    assert sorted(order.tolist()) == list(range(4096))
    step = means[order].diff(dim=0).norm(dim=1).mean()
    assert float(step) < 0.2 * float(means.diff(dim=0).norm(dim=1).mean())
    assert morton_order(means[:1]).tolist() == [0] and morton_order(means[:0]).tolist() == []
