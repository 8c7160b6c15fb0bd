"""Gaussians in time through a .nfz: every number within its step, and a file that keeps its times and a quality."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from neuralfields.codecs import load_any
from neuralfields.compression.compress import Goal, compress
from neuralfields.compression.container import Section, pack, unpack
from neuralfields.compression.nfz import decode, encode
from neuralfields.compression.quantise import Quantiser
from neuralfields.compression.quantised import LIFETIME, OCTAVE, dequantised
from neuralfields.compression.tune import usual
from neuralfields.errors import InputError
from neuralfields.gaussians import Gaussians
from neuralfields.motion import CENTRE, DURATION, MOTION, PATH
from neuralfields.scene import Bounds

BOUNDS = Bounds((0.0, 0.0, 0.0), 4.0, times=(3.0, 9.0))


def some(count: int = 600) -> Gaussians:
    chance = torch.Generator().manual_seed(0)

    def draw(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=chance)

    motion = 0.3 * draw(count, MOTION)
    motion[:, CENTRE], motion[:, DURATION] = torch.rand(count, generator=chance), 1.5 * draw(count)
    parts = draw(count, 3) * 0.6, draw(count, 3) * 0.3 - 2, draw(count, 4), 2 + draw(count), 0.3 * draw(count, 4, 3)
    return Gaussians(*parts, motion=motion)


def test_every_number_is_within_its_step() -> None:
    given = some()
    quantiser = Quantiser(given, None)
    quantised = quantiser.quantise(usual(BOUNDS).times(0.1))
    found = decode(encode(quantised, BOUNDS.times), "here")
    order = quantiser.placed(quantised.grid).order
    wanted = given.take(torch.from_numpy(order))
    again = dequantised(found)
    assert torch.equal(again.motion, dequantised(quantised).motion)
    off = (again.motion - wanted.motion).abs().numpy()
    assert off[:, CENTRE].max() <= LIFETIME / 2 + 1e-6 and off[:, DURATION].max() <= OCTAVE / 2 + 1e-5
    steps = np.stack(
        [2.0 ** np.minimum(8, k * np.clip(-found.moving.lifetimes[:, 1] >> 3, 0, 5)) for k in (1, 2, 3)], 1
    )
    assert (off[:, PATH] <= found.moving.path * steps.repeat(3, 1) / 2 + 1e-6).all()
    for moment in (0.1, 0.9):  # turned likewise, though axes are described as neighbours have them
        a, b = (torch.nn.functional.normalize(one.at(moment).rotations, dim=1) for one in (again, wanted))
        lengths = [(one.at(moment).scales.sum(1)) for one in (again, wanted)]
        assert (lengths[0] - lengths[1]).abs().max() < 0.1
        same = _covariances(again.at(moment)) - _covariances(wanted.at(moment))
        there = wanted.at(moment).opacities > -3
        assert same[there].abs().max() < 0.02 * _covariances(wanted).abs().max(), (a.shape, b.shape)


def _covariances(gaussians: Gaussians) -> torch.Tensor:
    w, x, y, z = torch.nn.functional.normalize(gaussians.rotations, dim=1).unbind(1)
    rows = [
        torch.stack([1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)], 1),
        torch.stack([2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)], 1),
        torch.stack([2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)], 1),
    ]
    axes = torch.stack(rows, 1) * gaussians.scales.exp()[:, None]
    return axes @ axes.transpose(1, 2)


def test_a_file_keeps_its_times_and_a_quality(tmp_path: Path) -> None:
    made = compress(some(), BOUNDS, Goal(quality=0.5))
    path = tmp_path / "a.nfz"
    path.write_bytes(made.data)
    model = load_any(path)
    assert model.bounds.times == BOUNDS.times and model.field.domain.dimensions == 4
    assert made.report["psnr"] > 30 and len(made.data) < 600 * 32
    assert torch.equal(model.field.motion.sort(0).values, made.gaussians.motion.sort(0).values)


@pytest.mark.parametrize("broken", ["times", "cut", "lacking"])
def test_damage_is_said(broken: str) -> None:
    sections = unpack(encode(Quantiser(some(50), None).quantise(usual(BOUNDS)), BOUNDS.times), "here")
    if broken == "times":
        sections["moving"] = Section("json", b'{"times":[2,1],"path":1.0,"turn":1.0}')
    elif broken == "cut":
        sections["path2"] = replace(sections["path2"], data=sections["path2"].data[:-3])
    else:
        del sections["turns"]
    with pytest.raises(InputError, match="here: "):
        decode(pack(sections), "here")
