"""The contract, held by every architecture in fields/: a new file there is tested the day it exists."""

from dataclasses import MISSING, FrozenInstanceError, fields, is_dataclass

import pytest
import torch

from neuralfields.errors import UsageError
from neuralfields.fields import field_class, field_names
from neuralfields.fields.field import Field
from neuralfields.models.model import Model
from neuralfields.models.nf_file import load, save
from neuralfields.scene import Bounds

NAMES = field_names()
SAMPLES = 300


def make(name: str, dtype: torch.dtype = torch.float32) -> Field:
    """A field of the default Config with parameters large enough to matter."""
    torch.manual_seed(1)
    kind = field_class(name)
    field = kind(kind.Config())
    with torch.no_grad():
        for group in field.groups():
            if group.role == "grid":
                for parameter in group.parameters:
                    parameter.uniform_(-0.5, 0.5)
    return field.to(dtype)


def points(count: int = SAMPLES, dtype: torch.dtype = torch.float32) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(2)
    x = torch.rand(count, 3, generator=generator, dtype=torch.float64)
    d = torch.randn(count, 3, generator=generator, dtype=torch.float64)
    return x.to(dtype), torch.nn.functional.normalize(d, dim=1).to(dtype)


@pytest.mark.parametrize("name", NAMES)
def test_shapes_and_ranges(name):
    field, (x, d) = make(name), points()
    f = field.features(x)
    assert f.ndim == 2 and len(f) == SAMPLES
    log_density, rgb = field.decode(f, d)
    assert log_density.shape == (SAMPLES,) and rgb.shape == (SAMPLES, 3)
    assert bool(torch.isfinite(log_density).all()) and bool((rgb >= 0).all()) and bool((rgb <= 1).all())
    assert float(rgb.detach().std()) > 1e-4 and float(log_density.detach().std()) > 1e-4
    torch.testing.assert_close(field.log_density(f), log_density)


@pytest.mark.parametrize("name", NAMES)
def test_empty_batch(name):
    field, (x, d) = make(name), points(0)
    log_density, rgb = field.decode(field.features(x), d)
    assert log_density.shape == (0,) and rgb.shape == (0, 3)


@pytest.mark.parametrize("name", NAMES)
def test_every_parameter_has_one_group_and_gets_a_gradient(name):
    field, (x, d) = make(name), points(3000)
    grouped = [p for group in field.groups() for p in group.parameters]
    assert len(grouped) == len(set(grouped)) and set(grouped) == set(field.parameters())
    assert all(group.learning_rate > 0 for group in field.groups())
    log_density, rgb = field.decode(field.features(x), d)
    (log_density.sum() + rgb.square().sum()).backward()
    for label, parameter in field.named_parameters():
        assert parameter.grad is not None and float(parameter.grad.abs().max()) > 0, label


@pytest.mark.usefixtures("float32_products")
@pytest.mark.parametrize("name", NAMES)
def test_float64_agrees(name):
    results = []
    for dtype in (torch.float32, torch.float64):
        field, (x, d) = make(name, dtype), points(dtype=dtype)
        results.append([r.double() for r in field.decode(field.features(x), d)])
    for single, double in zip(*results, strict=True):
        torch.testing.assert_close(single, double, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("name", NAMES)
def test_save_and_load_are_bit_exact(name, tmp_path):
    field, (x, d) = make(name), points()
    save(Model(field, Bounds((0.0, 0.0, 0.0), 1.0)), tmp_path / "a.nf")
    again = load(tmp_path / "a.nf").field
    assert again.config == field.config
    for a, b in zip(field.decode(field.features(x), d), again.decode(again.features(x), d), strict=True):
        assert torch.equal(a, b)


@pytest.mark.parametrize("name", NAMES)
def test_config_is_frozen_plain_and_guarded(name):
    config = field_class(name).Config()
    assert is_dataclass(config) and all(f.default is not MISSING for f in fields(config))
    first = fields(config)[0].name
    with pytest.raises(FrozenInstanceError):
        setattr(config, first, 0)
    with pytest.raises(ValueError, match=first):
        field_class(name).Config(**{first: -1})


@pytest.mark.parametrize("name", NAMES)
def test_bytes_are_those_of_the_parameters(name):
    field = make(name)
    assert field.bytes() == sum(p.numel() * 4 for p in field.parameters())


def test_an_unknown_field_names_the_nearest():
    with pytest.raises(UsageError, match=r"unknown field 'hsh'.*did you mean hash"):
        field_class("hsh")


@pytest.mark.parametrize("name", NAMES)
def test_sizes_rise(name):
    """What a target size in bytes is chosen from: settings of the Config, each larger than the one before."""
    kind, before = field_class(name), 0
    assert len(kind.SIZES) > 3
    for size in kind.SIZES:
        with torch.device("meta"):
            count = kind(kind.Config(**size)).bytes()
        assert count > before
        before = count
