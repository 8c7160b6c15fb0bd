from dataclasses import replace
from unittest import mock

import pytest
import torch

from neuralfields.captures.readers import read_scene
from neuralfields.domain import RADIANCE, Domain
from neuralfields.fields.rbf import Config, RbfField
from neuralfields.ops.rbf import KERNELS, rbf
from neuralfields.options.fit import FitOptions
from neuralfields.trainers.trainer import StepReport, Trainer
from neuralfields.training.fit import fit_scene
from tests.support.settings import training_settings

IMAGE = Domain("image", 2, 3)
SMALL = Config(levels=4, table=8, base=4, finest=32)


def waves(x: torch.Tensor) -> torch.Tensor:
    """A picture of rings and stripes, [S, 2] -> [S, 3]."""
    radius = (x - 0.5).norm(dim=1)
    parts = [torch.sin(40 * radius), torch.sin(25 * x[:, 0]) * torch.cos(9 * x[:, 1]), (radius < 0.3).float()]
    return 0.5 + 0.4 * torch.stack(parts, 1)


class Pictured(Trainer):
    """A field on `waves`."""

    def step(self, progress: float) -> StepReport:
        self.advance(progress)
        x = torch.rand(1024, 2, generator=self.generator())
        loss = (self.field.values(self.field.features(x)) - waves(x)).square().mean()
        self.descend(loss, progress)
        return StepReport(1024, 1024, float(loss.detach()))


def fitted(config: Config, steps: int = 120) -> float:
    """The error after some steps."""
    torch.manual_seed(0)
    trainer = Pictured(RbfField(config, IMAGE), 0)
    for step in range(steps):
        trainer.step(step / steps)
    x = torch.rand(4096, 2, generator=torch.Generator().manual_seed(9))
    with torch.no_grad():
        return float((trainer.field.values(trainer.field.features(x)) - waves(x)).square().mean())


def test_units_begin_where_features_are():
    """Drawn from features, units see some samples and not all; the released ones see all alike."""
    torch.manual_seed(0)
    x, seen = torch.rand(2000, 3), {}
    for name in ("data", "released"):
        field = RbfField(replace(SMALL, initialisation=name))
        with torch.no_grad():
            seen[name] = rbf(field.features(x), field.centres, field.log_precisions)
    assert 0.01 < float(seen["data"].amax(1).median()) and float(seen["data"].median()) < 0.1
    assert float(seen["released"].std(1).mean()) < 1e-3


def test_the_draw_keeps_what_was_learned():
    torch.manual_seed(0)
    trainer = Pictured(RbfField(replace(SMALL, redraw=0.5), IMAGE), 0)
    for _ in range(60):
        trainer.step(0.1)
    field, x = trainer.field, torch.rand(2000, 2)
    before, centres = field.values(field.features(x)).detach(), field.centres
    trainer.advance(0.6)
    after = field.values(field.features(x)).detach()
    assert trainer.stage == 1 and not torch.equal(field.centres, centres)
    assert float((after - before).square().mean()) < 0.2 * float(before.var())
    assert all(p in trainer.optimiser.moments for p in field.parameters())


def test_a_draw_in_a_scene_prefers_what_is_dense():
    """Half of space is a wall, half is empty: centres come from the wall."""
    field = RbfField(replace(SMALL, units=32))
    with torch.no_grad():
        field.table.uniform_(-0.01, 0.01)
        field.weights.zero_()
    wall = lambda f: torch.where(f[:, 0] > 0, 8.0, -8.0)
    with mock.patch.object(field, "log_density", wall):
        field.grow(1)
    assert bool((field.centres[:, 0] > 0).all())


def test_no_draw_where_none_is_asked():
    assert RbfField(SMALL).stages() == (SMALL.redraw,)
    assert RbfField(replace(SMALL, redraw=0.0)).stages() == ()
    assert RbfField(replace(SMALL, initialisation="released")).stages() == ()


@pytest.mark.slow
def test_the_released_beginning_learns_less():
    ours, released = fitted(SMALL), fitted(replace(SMALL, initialisation="released", bypass=False))
    assert ours < 0.5 * released


@pytest.mark.parametrize("kernel", KERNELS)
def test_every_kernel_learns(kernel):
    assert fitted(replace(SMALL, kernel=kernel)) < 0.6 * float(waves(torch.rand(4096, 2)).var(0).mean())


@pytest.mark.parametrize(
    "domain", [IMAGE, Domain("shape", 3, 1), Domain("video", 3, 3, (8, 6, 4)), Domain("sound", 1, 2)]
)
def test_signals(domain):
    field, x = RbfField(SMALL, domain), torch.rand(50, domain.dimensions)
    values = field.values(field.features(x))
    assert values.shape == (50, domain.channels) and bool(torch.isfinite(values).all())


@pytest.mark.slow
def test_a_scene_is_learned(tiny_capture):
    """80 small steps of the sample scene, from photos to held-out views."""
    sizes = ("levels=6", "table=12", "finest=128", "redraw=0.1")
    options = FitOptions(scene=tiny_capture, field="rbf", steps=80, eval_every=0, quiet=True, threads=1, set=sizes)
    before = torch.get_num_threads()
    with training_settings(samples=1 << 11):
        model = fit_scene(read_scene(tiny_capture), options)
    torch.set_num_threads(before)
    assert model.metrics["psnr"] > 15.0  # an empty picture has 9.6


def test_it_is_made_without_memory():
    with torch.device("meta"):
        field = RbfField(Config(), RADIANCE)
    assert all(p.is_meta for p in field.parameters())


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"features": 3}, "features 3: must be 2, 4 or 8"),
        ({"finest": 8}, "finest 8: must not be below base 16"),
        ({"kernel": "gauss"}, "kernel 'gauss': must be one of gaussian"),
        ({"initialisation": "random"}, "initialisation 'random': must be data or released"),
        ({"units": 440, "levels": 16, "features": 8}, "units 440: with 16 levels of 8 features at most 512"),
    ],
)
def test_what_cannot_be_is_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        Config(**settings)


def test_four_coordinates_are_refused():
    with pytest.raises(ValueError, match="takes three at most; use --field kplanes"):
        RbfField(Config(), Domain("radiance", 4, 4))
