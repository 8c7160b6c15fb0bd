"""The mlp field beyond the contract: every domain and encoding, the knob's way through a fit, what a file carries."""

from dataclasses import replace

import pytest
import torch

from neuralfields.domain import RADIANCE, Domain
from neuralfields.fields import make_field
from neuralfields.fields.cam import Cam
from neuralfields.fields.cam import Config as CamConfig
from neuralfields.fields.mlp import Config, Mlp
from neuralfields.layers.encodings import USUAL
from neuralfields.models.model import Model
from neuralfields.models.nf_file import load, save
from neuralfields.scene import Bounds
from neuralfields.trainers.optimiser import Optimiser

DOMAINS = [RADIANCE, Domain("radiance", 4, 4), Domain("image", 2, 3), Domain("shape", 3, 1), Domain("video", 3, 3),
           Domain("sound", 1, 2)]  # fmt: skip
SMALL = Config(count=16, layers=2, width=32)
UNIT = Bounds((0.0, 0.0, 0.0), 1.0)


@pytest.mark.parametrize("domain", DOMAINS, ids=lambda d: f"{d.kind}{d.dimensions}")
@pytest.mark.parametrize("blocks", ["plain", "hourglass"])
@pytest.mark.parametrize("encoding", sorted(USUAL))
def test_every_encoding_serves_every_domain(domain, blocks, encoding):
    torch.manual_seed(0)
    field = Mlp(replace(SMALL, encoding=encoding, blocks=blocks, inner=12, skip=1), domain)
    f = field.features(torch.rand(50, domain.dimensions))
    if domain.radiance:
        log_density, rgb = field.decode(f, torch.nn.functional.normalize(torch.randn(50, 3), dim=1))
        assert f.shape == (50, 32) and bool(torch.isfinite(log_density).all()) and float(rgb.detach().std()) > 1e-3
        (log_density.sum() + rgb.square().sum()).backward()
    else:
        values = field.values(f)
        assert values.shape == (50, domain.channels) and float(values.detach().std()) > 1e-3
        values.square().sum().backward()
    assert all(float(p.grad.abs().max()) > 0 for p in field.parameters())
    grouped = [p for group in field.groups() for p in group.parameters]
    assert len(grouped) == len(set(grouped)) and set(grouped) == set(field.parameters())


def test_parameters_of_the_paper_s_picture_network():
    """256 frequencies, 3 x 256 hidden, 3 outputs: 263,683."""
    field = Mlp(Config(count=256, layers=3, width=256), Domain("image", 2, 3))
    assert sum(p.numel() for p in field.parameters()) == 263_683


def test_frequencies_left_open_are_the_usual_and_written_down():
    for encoding, usual in USUAL.items():
        assert Mlp(replace(SMALL, encoding=encoding)).config.frequencies == usual


@pytest.mark.parametrize("lift", ["trained", "fixed"])
def test_a_file_carries_what_was_drawn(tmp_path, lift):
    torch.manual_seed(4)
    domain = Domain("video", 3, 3)
    field = Mlp(replace(SMALL, blocks="hourglass", lift=lift), domain)
    save(Model(field, UNIT), tmp_path / "a.nf")
    torch.manual_seed(5)
    again = load(tmp_path / "a.nf").field
    assert torch.equal(again.encoding.matrix, field.encoding.matrix) and again.domain == domain
    x = torch.rand(30, 3)
    assert torch.equal(again.values(again.features(x)), field.values(field.features(x)))


@pytest.mark.parametrize("encoding", sorted(USUAL))
def test_it_learns_a_picture(encoding):
    """200 steps of the project's optimiser fit a smooth picture: the learning rate suits each encoding."""
    torch.manual_seed(0)
    frequencies = {"octaves": 3, "gaussian": 2, "siren": 15, "finer": 0}[encoding]
    field = Mlp(replace(SMALL, encoding=encoding, frequencies=frequencies), Domain("image", 2, 1))
    x = torch.rand(800, 2)
    y = 0.5 + 0.4 * torch.sin(7 * x[:, :1]) * torch.cos(5 * x[:, 1:])
    optimiser = Optimiser(field)
    for step in range(200):
        loss = (field.values(field.features(x)) - y).square().mean()
        loss.backward()
        optimiser.step(0.1 ** (step / 200))
    assert float(loss.detach()) < 0.1 * float(y.var())


def test_a_fit_chooses_the_knob_and_writes_it_down():
    target = [torch.rand(32, 32, 3, generator=torch.Generator().manual_seed(0))]
    made = [make_field(Mlp, SMALL, Domain("image", 2, 3), 1, target) for _ in range(2)]
    assert made[0].config.frequencies in range(11, 21)  # noise has high frequencies
    assert made[0].config == made[1].config
    assert all(torch.equal(a, b) for a, b in zip(*(m.state_dict().values() for m in made), strict=True))


def test_density_alone_is_the_same_density():
    torch.manual_seed(0)
    field = Mlp(SMALL)
    f = field.features(torch.rand(20, 3))
    assert torch.equal(field.log_density(f), field.decode(f, torch.eye(3)[torch.zeros(20, dtype=torch.long)])[0])


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"encoding": "fourier"}, "encoding 'fourier'"),
        ({"encoding": "octaves", "frequencies": 2.5}, "whole number"),
        ({"frequencies": -1.0}, "gaussian needs"),
        ({"count": 0}, "count"),
        ({"layers": 17}, "layers"),
        ({"width": 0}, "width"),
        ({"skip": -1}, "skip"),
        ({"blocks": "conv"}, "blocks 'conv': must be plain or hourglass"),
        ({"inner": 0}, "inner"),
        ({"lift": "random"}, "lift 'random': must be trained or fixed"),
        ({"encoding": "siren", "bfloat16": True}, "siren needs float32"),
        ({"learning_rate": float("nan")}, "learning_rate"),
    ],
)
def test_refusals_name_the_setting(settings, words):
    with pytest.raises(ValueError, match=words):
        Config(**settings)


def test_the_largest_config_is_made_on_the_meta_device():
    with torch.device("meta"):
        for extra in ({}, {"blocks": "hourglass"}):
            field = Mlp(Config(count=4096, layers=16, width=2048, skip=15, inner=2048, frequencies=1e6, **extra))
            assert field.bytes() < 1 << 30


def test_what_a_field_teaches_has_wider_small_networks():
    pictures = [torch.rand(16, 16, 3)]
    widths = {}
    for taught in (False, True):
        for given in (None, 48):
            config = Mlp.tuned(replace(SMALL, hidden=given, frequencies=4.0), RADIANCE, pictures, 0, taught)
            field = Mlp(config)
            assert field.heads.density[0].shape[0] == field.config.hidden
            widths[taught, given] = field.config.hidden
    assert widths == {(False, None): 32, (False, 48): 48, (True, None): 64, (True, 48): 48}
    for bad in (0, 513):
        with pytest.raises(ValueError, match=r"hidden .*: must be between 1 and 512"):
            Config(hidden=bad)


def test_wide_layers_of_signals_learn_slower():
    image = Domain("image", 2, 3, (32, 32))
    rates = {w: Mlp(Config(width=w), image).groups()[0].learning_rate for w in (64, 128, 256)}
    assert rates[64] == rates[128] == 2 * rates[256] == Config().learning_rate
    scenes = {w: Mlp(Config(width=w)).groups()[0].learning_rate for w in (128, 256)}
    assert scenes[128] == scenes[256]
    cams = {w: [g.learning_rate for g in Cam(CamConfig(width=w), image).groups()] for w in (64, 256)}
    assert cams[64] == cams[256]
