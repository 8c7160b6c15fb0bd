"""Shapes in annotations are checked in the tests: what has a wrong one raises, so that no other test passes with it."""

import numpy as np
import pytest
import torch
from jaxtyping import TypeCheckError

from neuralfields.cameras import Camera, look_at, project
from neuralfields.fields import field_class, field_names
from neuralfields.rays import Rays, RaySums, Render, Samples
from neuralfields.scene import Sightings


def zeros(*shape: int, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    return torch.zeros(shape, dtype=dtype)


OFFSETS = torch.tensor([0, 5])
WRONG = {
    "more directions than origins": lambda: Rays(zeros(4, 3), zeros(5, 3)),
    "homogeneous directions": lambda: Rays(zeros(4, 3), zeros(4, 4)),
    "whole numbers": lambda: Rays(zeros(4, 3, dtype=torch.int64), zeros(4, 3)),
    "an opacity with a channel": lambda: Render(zeros(4, 3), zeros(4, 1), zeros(4)),
    "a picture's colour and a row's depth": lambda: Render(zeros(4, 5, 3), zeros(4, 5), zeros(20)),
    "normals of fewer rays": lambda: Render(zeros(4, 3), zeros(4), zeros(4), zeros(3, 3)),
    "a picture that is no picture": lambda: Render(zeros(6, 3), zeros(6), zeros(6)).reshape(2, 3).reshape(4),
    "lengths of fewer samples": lambda: Samples(zeros(5, 3), zeros(5), zeros(4), OFFSETS),
    "offsets in 32 bits": lambda: Samples(zeros(5, 3), zeros(5), zeros(5), OFFSETS.int()),
    "six sums": lambda: RaySums(zeros(4, 6), zeros(4, dtype=torch.uint8), 9),
    "validity as truth": lambda: RaySums(zeros(4, 7), zeros(4, dtype=torch.bool), 9),
    "a pose of three rows": lambda: Camera(np.eye(4)[:3], 4, 4, 2.0, 2.0, 2.0, 2.0),
    "points in the plane": lambda: project(Camera(np.eye(4), 4, 4, 2.0, 2.0, 2.0, 2.0), np.zeros((5, 2))),
    "a place without height": lambda: look_at(np.zeros(2), np.ones(3), np.ones(3)),
    "more errors than points": lambda: Sightings(np.arange(3), np.zeros(4)),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_shape_raises(name: str):
    with pytest.raises((TypeCheckError, RuntimeError)):
        WRONG[name]()


def test_right_shapes_pass():
    assert len(Rays(zeros(4, 3), zeros(4, 3))[1:3]) == 2
    assert Render(zeros(6, 3), zeros(6), zeros(6), zeros(6, 3)).reshape(2, 3).rgb.shape == (2, 3, 3)
    assert Samples(zeros(5, 3), zeros(5), zeros(5), OFFSETS).ray.shape == (5,)
    assert RaySums(zeros(4, 7), zeros(4, dtype=torch.uint8), 9).rgb.shape == (4, 3)


@pytest.mark.parametrize("name", field_names())
def test_every_field_is_held_to_the_contract(name: str, monkeypatch: pytest.MonkeyPatch):
    kind = field_class(name)
    field = kind(kind.Config())
    f = field.features(torch.rand(4, 3))
    with pytest.raises(TypeCheckError):
        field.features(torch.rand(4))
    with pytest.raises(TypeCheckError):
        field.decode(f, torch.rand(5, 3))
    with pytest.raises(TypeCheckError):
        field.decode(f, torch.rand(4, 2))
    with pytest.raises(TypeCheckError):
        field.log_density(f[0])
