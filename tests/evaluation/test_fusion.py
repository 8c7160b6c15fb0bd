"""A mesh fused from renders of Gaussians: a ball of them gives back the ball."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from neuralfields.errors import InputError, UsageError
from neuralfields.evaluation import fusion
from neuralfields.evaluation.export import surface_mesh
from neuralfields.evaluation.fusion import fused_mesh
from neuralfields.fields.gaussians import GaussianField
from neuralfields.fields.surface import Config, SurfaceField
from neuralfields.models.model import Model
from neuralfields.scene import Bounds
from neuralfields.splatting.initial import gaussians_at
from tests.support.shapes import open3d

RADIUS = 0.6


def ball() -> Model:
    """Opaque round Gaussians close together on a sphere off the origin, in a cube that holds them."""
    count = 4000
    height = 1 - 2 * (torch.arange(count) + 0.5) / count
    turn = torch.arange(count) * 2.399963
    ring = (1 - height.square()).sqrt()
    directions = torch.stack([ring * turn.cos(), ring * turn.sin(), height], 1)
    points = directions * RADIUS + torch.tensor([1.0, 2.0, 3.0])
    colours = (directions + 1) / 2
    gaussians = gaussians_at(points, colours, torch.full((count,), 0.02), 0.98, 0)
    return Model(GaussianField.of(gaussians), Bounds((1.0, 2.0, 3.0), 2.0), background=(0.0, 0.0, 0.0))


def test_a_ball():
    open3d()
    mesh = fused_mesh(ball(), 64)
    away = mesh.vertices - np.array([1.0, 2.0, 3.0])
    distance = np.linalg.norm(away, axis=1)
    assert abs(np.median(distance) - RADIUS) < 2 / 64
    assert (np.abs(distance - RADIUS) < 4 / 64).mean() > 0.95
    assert mesh.volume() == pytest.approx(4 / 3 * np.pi * RADIUS**3, rel=0.15)
    wanted = (away / distance[:, None] + 1) / 2 * 255
    assert np.abs(mesh.colours - wanted).mean() < 16


@pytest.mark.slow
def test_nothing_opaque():
    open3d()
    model = ball()
    faint = replace(model.field.gaussians(), opacities=torch.full((4000,), -12.0))
    with pytest.raises(InputError, match="nothing opaque"):
        fused_mesh(replace(model, field=GaussianField.of(faint)), 32)


def test_a_field_is_fused_too(monkeypatch):
    """A new surface field is a sphere of 0.3 cubes."""
    open3d()
    monkeypatch.setattr(fusion, "FIELD_VIEWS", 9)
    monkeypatch.setattr(fusion, "FIELD_SIDE", 32)
    field = SurfaceField(Config(levels=2, table=8, base=4, finest=16, hidden=16, radius=0.3, beta=2e-3))
    model = Model(field, Bounds((1.0, 2.0, 3.0), 2.0), background=(0.0, 0.0, 0.0))
    mesh = surface_mesh(model, 32, source="depth")
    distance = np.linalg.norm(mesh.vertices - np.array([1.0, 2.0, 3.0]), axis=1)
    assert abs(np.median(distance) - RADIUS) < 2 / 32 and len(mesh.faces) > 300
    with pytest.raises(UsageError, match="--box: is of a density"):
        surface_mesh(model, 32, box=(0.0, 0.0, 0.0, 1.0, 1.0, 1.0), source="depth")
    with pytest.raises(UsageError, match="Gaussians have no density"):
        surface_mesh(ball(), 32, source="density")
