"""Edits: what a box leaves, in points, in the occupancy, in pictures, and in the field that is distilled from it."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from neuralfields.cli import main
from neuralfields.distillation.boxes import Edit
from neuralfields.errors import UsageError
from neuralfields.models.model import Model, volume_of
from neuralfields.models.nf_file import load, save
from neuralfields.ops.contract import Contraction, contract, uncontract
from neuralfields.rendering.masked import NOTHING
from neuralfields.scene import Bounds
from neuralfields.settings import parse_box


@pytest.mark.parametrize("kind, extent", [("box", 1.0), ("box", 4.0), ("cube", 16.0)])
def test_uncontract_is_the_inverse(kind: str, extent: float):
    generator = torch.Generator().manual_seed(0)
    reach = extent if kind == "box" else 6.0
    x = (torch.rand(2000, 3, generator=generator, dtype=torch.float64) - 0.5) * reach + 0.5
    torch.testing.assert_close(
        uncontract(contract(x, kind, extent), Contraction(kind, extent)), x, rtol=1e-9, atol=1e-9
    )


def test_boxes_are_in_world_units():
    bounds = Bounds((10.0, 0.0, 0.0), 4.0)
    world = torch.tensor([[10.0, 0.0, 0.0], [11.9, 0.0, 0.0], [9.0, 1.0, 0.5]])
    x = (world - torch.tensor(bounds.centre)) / bounds.side + 0.5
    assert Edit(erase=((9.5, -1, -1, 12, 1, 1),)).left(x, bounds).tolist() == [False, False, True]
    assert Edit(keep=((9.5, -1, -1, 12, 1, 1),)).left(x, bounds).tolist() == [True, True, False]
    both = Edit(erase=((11.0, -1, -1, 12, 1, 1),), keep=((9.5, -1, -1, 12, 1, 1),))
    assert both.left(x, bounds).tolist() == [True, False, False]


def test_a_half_is_gone_from_density_occupancy_and_picture(small_model: Model):
    bounds = small_model.bounds
    centre, reach = np.array(bounds.centre), 10 * bounds.side
    low = (*(centre - reach), centre[0], *(centre[1:] + reach))  # x below the middle
    box = (low[0], low[1], low[2], centre[0], centre[1] + reach, centre[2] + reach)
    volume = volume_of(small_model)
    edited = Edit(erase=(tuple(map(float, box)),)).volume(volume)
    x = torch.rand(4000, 3, generator=torch.Generator().manual_seed(1))
    density, before = edited.density(x), volume.density(x)
    gone = x[:, 0] <= 0.5
    assert float(density[gone].max()) == pytest.approx(math.exp(NOTHING), abs=1e-30)
    torch.testing.assert_close(density[~gone], before[~gone], rtol=1e-4, atol=1e-5)
    count = [sum(bin(w & (2**64 - 1)).count("1") for w in v.occupancy.flatten().tolist()) for v in (volume, edited)]
    assert 0.2 * count[0] < count[1] < 0.8 * count[0]
    camera = small_model.cameras[0].resized(24, 24)
    opacity = [float(v.render(camera, (0.0, 0.0, 0.0)).opacity.sum()) for v in (volume, edited)]
    assert 0.1 * opacity[0] < opacity[1] < 0.95 * opacity[0]


def test_keeping_everything_changes_nothing(small_model: Model):
    volume, far = volume_of(small_model), 100 * small_model.bounds.side
    edited = Edit(keep=((-far, -far, -far, far, far, far),)).volume(volume)
    assert torch.equal(edited.occupancy, volume.occupancy)
    camera = small_model.cameras[0].resized(16, 16)
    pictures = [v.render(camera, (0.0, 0.0, 0.0)).rgb for v in (volume, edited)]
    torch.testing.assert_close(*pictures, atol=2e-3, rtol=0)


def test_a_box_within_one_cell_is_kept(small_model: Model):
    """It holds no corner and not the middle of its cell, which is kept all the same; erasing it leaves the cell."""
    volume = volume_of(small_model)
    volume = replace(volume, occupancy=torch.full_like(volume.occupancy, -1))
    cell, low = small_model.bounds.side / 128, np.array(small_model.bounds.centre)
    box = tuple(float(v) for v in (*(low + 0.1 * cell), *(low + 0.2 * cell)))
    kept = Edit(keep=(box,)).occupancy(volume)[0].tolist()
    assert sum(bin(word & (2**64 - 1)).count("1") for word in kept) == 1
    assert torch.equal(Edit(erase=(box,)).occupancy(volume), volume.occupancy)


def test_boxes_are_read_and_refused():
    assert parse_box("1,2,3,-1,5,0", "--erase-box") == (-1, 2, 0, 1, 5, 3)
    for text in ("1,2,3", "a,b,c,d,e,f", "0,0,0,0,1,1", "nan,0,0,1,1,1", ""):
        with pytest.raises(UsageError, match=r"--keep-box .*(two corners|is flat)"):
            parse_box(text, "--keep-box")


@pytest.mark.usefixtures("small_steps", "small_distillation")
def test_the_verb_erases(small_model: Model, tmp_path):
    save(small_model, tmp_path / "a.nf")
    centre, reach = small_model.bounds.centre, 5 * small_model.bounds.side
    box = ",".join(f"{v:.3f}" for v in (*(c - reach for c in centre), centre[0], centre[1] + reach, centre[2] + reach))
    words = ["edit", str(tmp_path / "a.nf"), "-o", str(tmp_path / "b.nf"), "--erase-box", box, "--steps", "5"]
    assert main([*words, "--threads", "1", "--quiet"]) == 0
    after = load(tmp_path / "b.nf")
    camera = small_model.cameras[0].resized(24, 24)
    opacity = [float(volume_of(m).render(camera, (0.0, 0.0, 0.0)).opacity.sum()) for m in (small_model, after)]
    assert opacity[1] < 0.95 * opacity[0]
    assert after.lineage[0]["field"] == "hash" and (tmp_path / "b.png").is_file()
    assert main(["edit", str(tmp_path / "a.nf"), "-o", str(tmp_path / "c.nf")]) == 2
