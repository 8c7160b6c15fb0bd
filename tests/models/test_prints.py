"""What a notebook or a prompt shows of a model, of a render and of Gaussians: one line, and a picture."""

from io import BytesIO

import numpy as np
import pytest
import torch
from PIL import Image

from neuralfields.errors import UsageError
from neuralfields.fields import field_class
from neuralfields.gaussians import Gaussians
from neuralfields.models.model import Model
from neuralfields.rays import Render
from neuralfields.scene import Bounds


def picture() -> Render:
    rgb = torch.zeros(2, 3, 3)
    rgb[0, 2] = torch.tensor([1.0, 0.5, 2.0])  # above 1: clipped
    return Render(rgb, torch.ones(2, 3), torch.ones(2, 3))


def test_a_render_is_a_picture() -> None:
    render = picture()
    values = np.asarray(render.to_pil())
    assert values.shape == (2, 3, 3) and values[0, 2].tolist() == [255, 128, 255] and values[1].max() == 0
    shown = Image.open(BytesIO(render._repr_png_()))
    assert np.array_equal(np.asarray(shown), values)
    assert repr(render) == "Render(2 x 3, cpu)"


def test_single_rays_are_none() -> None:
    rays = Render(torch.zeros(4, 3), torch.zeros(4), torch.zeros(4), torch.zeros(4, 3))
    assert rays._repr_png_() is None and repr(rays) == "Render(4, cpu, with normals)"
    with pytest.raises(UsageError, match="reshape it"):
        rays.to_pil()


def test_models_and_gaussians_are_one_line() -> None:
    kind = field_class("mlp")
    model = Model(kind(kind.Config(width=16, layers=2)), Bounds((0.0, 0.0, 0.0), 1.0), metrics={"psnr": 21.456})
    count = sum(parameter.numel() for parameter in model.field.parameters())
    assert repr(model) == f"Model(mlp, {count:,} parameters, psnr 21.46 dB)"
    zeros = torch.zeros(1200, 4)
    some = Gaussians(zeros[:, :3], zeros[:, :3], zeros, zeros[:, 0], torch.zeros(1200, 4, 3))
    assert repr(some) == "Gaussians(1,200 of degree 1, cpu)"
