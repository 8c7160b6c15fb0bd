"""Surface field: the sphere it begins with, the density of a distance, its penalty, stages, tracing and mesh."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from neuralfields.cameras import Camera, look_at
from neuralfields.evaluation.export import surface_mesh
from neuralfields.fields.surface import Config, SurfaceField, log_laplace
from neuralfields.layers.differences import CORNERS
from neuralfields.mesh.mesh import faults
from neuralfields.models.model import Model
from neuralfields.models.nf_file import load, save
from neuralfields.rendering.traced import Traced
from neuralfields.scene import Bounds

SMALL = Config(levels=4, table=9, base=4, finest=32, first=2, hidden=16, code=8, radius=0.3, beta=0.01)
BOUNDS = Bounds((1.0, 2.0, 3.0), 4.0)


def ball() -> Model:
    """A new field: a sphere of radius 0.3 cubes, 1.2 in the world."""
    torch.manual_seed(0)
    return Model(SurfaceField(SMALL), BOUNDS, background=(0.0, 0.0, 0.0))


def test_a_new_field_is_a_sphere():
    field = ball().field
    x = torch.rand(500, 3, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        d = field.distance(field.features(x))
        v = 0.9 * (x - 0.5)
        v = v[v.norm(dim=1) > 0.15]  # differences over a corner of the level are no gradient
        slope = field.gradient(v)
    torch.testing.assert_close(d, (x - 0.5).norm(dim=1) - 0.3, rtol=0, atol=1e-3)
    torch.testing.assert_close(slope, torch.nn.functional.normalize(v, dim=1), rtol=0, atol=0.05)


def test_the_density_is_volsdfs():
    s = torch.linspace(-3, 3, 61, dtype=torch.float64)
    beta = torch.tensor([0.4], dtype=torch.float64)
    psi = torch.where(s <= 0, 0.5 * torch.exp(s / beta), 1 - 0.5 * torch.exp(-s / beta))
    torch.testing.assert_close(log_laplace(s, beta).exp(), psi / beta, rtol=1e-9, atol=0)
    far = torch.tensor([-1e4, 1e4], dtype=torch.float64, requires_grad=True)
    log_laplace(far, beta).sum().backward()
    assert torch.isfinite(far.grad).all()


def test_outside_the_inner_cube_the_field_is_an_ordinary_one():
    config = SurfaceField.placed(SMALL, Bounds((0.0, 0.0, 0.0), 1.0, 5, "cube"))
    assert config.inner == 0.25
    assert SurfaceField.placed(SMALL, Bounds((0.0, 0.0, 0.0), 1.0, 3, "box")).inner == 0.125
    field = SurfaceField(config)
    x = torch.tensor([[0.5, 0.5, 0.5], [0.5, 0.5, 0.74], [0.5, 0.5, 0.9]])
    f = field.features(x)
    with torch.no_grad():
        found = field.log_density(f)
        code = field.heads.code(f[:, :-3])
    assert float(found[2]) == float(code[2, 1])
    torch.testing.assert_close(found[0], -field.beta().log()[0], rtol=0, atol=0.02)
    assert float(found[1]) < -10


def test_the_penalty_is_that_of_the_gradient_and_can_be_left_out():
    field = ball().field
    first, second = (float(field.penalty().detach()) for _ in range(2))
    assert first < 1e-4 and int(field.draws) == 2 and second != first
    with torch.no_grad():
        field.table.mul_(1e3)
        field.heads.density[-1].mul_(20)
    rough = field.penalty()
    rough.backward()
    assert float(rough.detach()) > 10 * first and float(field.table.grad.abs().sum()) > 0
    assert SurfaceField(replace(SMALL, eikonal=0.0)).penalty() is None
    corners = np.array(CORNERS)
    assert np.allclose(corners.T @ corners, 4 * np.eye(3)) and np.allclose(corners.sum(0), 0)


def test_levels_come_in_from_coarse_to_fine():
    field = ball().field
    assert field.stages() == (0.1, 0.2) and field.active == 4
    x = torch.rand(50, 3)
    whole = field.features(x)
    for stage, levels in ((0, 2), (1, 3), (2, 4)):
        field.grow(stage)
        assert field.active == levels
        f = field.features(x)
        width = levels * SMALL.features
        assert torch.equal(f[:, :width], whole[:, :width]) and not bool(f[:, width:16].any())


def test_rays_meet_the_sphere_where_it_is():
    model = ball()
    pose = look_at(np.array([1.0, -6.0, 3.0]), np.array(BOUNDS.centre), np.array([0.0, 0.0, 1.0]))
    camera = Camera(pose, 31, 31, 60.0, 60.0, 15.5, 15.5)
    renderable = model.renderable()
    assert isinstance(renderable, Traced)
    seen = renderable.render(camera, (0.0, 0.0, 0.0))
    assert float(seen.depth[15, 15]) == pytest.approx(8 - 1.2, abs=0.01)
    assert seen.normal[15, 15].tolist() == pytest.approx([0, -1, 0], abs=0.02)
    reach = 1.2 / math.sqrt(64 - 1.2**2) * 60  # of the sphere's outline, in pixels
    assert float((seen.normal.norm(dim=2) > 0.5).sum()) == pytest.approx(math.pi * reach**2, rel=0.1)
    assert float(seen.normal[0, 0].abs().sum()) == 0


def test_the_mesh_is_the_level_set(tmp_path):
    save(ball(), tmp_path / "a.nf")
    model = load(tmp_path / "a.nf")
    mesh = surface_mesh(model, 48)
    away = mesh.vertices - np.array(BOUNDS.centre)
    assert faults(mesh).watertight
    np.testing.assert_allclose(np.linalg.norm(away, axis=1), 1.2, atol=0.01)
    inner = surface_mesh(model, 48, threshold=99.0)  # by density, where that is asked for
    assert np.linalg.norm(inner.vertices - np.array(BOUNDS.centre), axis=1).mean() < 1.19
