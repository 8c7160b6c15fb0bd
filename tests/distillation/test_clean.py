"""Cleaning: floaters that few cameras see go, and nothing else does; the number says how many cells that were."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from neuralfields.cameras import Camera, look_at
from neuralfields.cli import main
from neuralfields.distillation.clean import clean, clean_text, connected
from neuralfields.errors import UsageError
from neuralfields.models.model import Model
from neuralfields.models.nf_file import load, save
from neuralfields.ops.occupancy_bits import CELLS, bricks_of, cells_of


def ring(count: int) -> tuple[Camera, ...]:
    """Narrow cameras around the middle, at a distance of 3."""
    turns = 2 * np.pi * np.arange(count) / count
    places = [3 * np.array([np.cos(a), np.sin(a), 0.1]) for a in turns]
    poses = [look_at(place, np.zeros(3), np.array([0.0, 0, 1])) for place in places]
    return tuple(Camera(pose, 100, 100, 200.0, 200.0, 50, 50) for pose in poses)


def cell_at(place: np.ndarray, model: Model) -> tuple[int, ...]:
    """The cell (z, y, x) of a place of the world in the first cascade."""
    cell = ((place - np.array(model.bounds.centre)) / model.bounds.side + 0.5) * CELLS
    return tuple(int(v) for v in cell[::-1])


@pytest.fixture
def fogged(small_model: Model) -> Model:
    """The small model seen by a narrow ring, a block before one camera, a rod from the scene, a speck."""
    bounds = replace(small_model.bounds, side=6.4)
    model = replace(small_model, bounds=bounds, cameras=ring(12), held_out=(3,), camera_names=("",) * 12)
    cells = torch.zeros(len(model.occupancy), CELLS, CELLS, CELLS, dtype=torch.bool)
    cells[0, 56:72, 56:72, 56:72] = True  # the scene: all cameras see it
    z, y, x = cell_at(0.93 * model.cameras[0].centre, model)
    cells[0, z - 1 : z + 1, y - 1 : y + 1, x - 1 : x + 1] = True
    z, y, x = cell_at(np.array([0.8, 0.8, 0.0]), model)
    cells[0, z, y, x] = True
    cells[0, 64, 64, 72:120] = True  # a rod from the scene to where only some look
    return replace(model, occupancy=bricks_of(cells))


def test_what_few_see_goes_and_what_touches_the_scene_stays(fogged: Model) -> None:
    cleaned, facts = clean(fogged)
    before, after = cells_of(fogged.occupancy)[0], cells_of(cleaned.occupancy)[0]
    assert facts == {"cleaned": 9, "occupied": int(before.sum()), "few": 2, "cameras": 11}
    assert not bool((after & ~before).any()) and int((before & ~after).sum()) == 9
    assert bool(after[56:72, 56:72, 56:72].all()) and bool(after[64, 64, 72:120].all())
    assert cleaned.made["cleaned"] == 9 and cleaned.field is fogged.field


def test_a_scene_without_floaters_is_unchanged(small_model: Model) -> None:
    cleaned, facts = clean(small_model)
    assert facts["cleaned"] < 0.02 * facts["occupied"]
    camera = small_model.cameras[0].resized(32, 32)
    pictures = [m.renderable().render(camera, (0.0, 0.0, 0.0)).rgb for m in (small_model, cleaned)]
    torch.testing.assert_close(*pictures, atol=0.02, rtol=0)


def test_connections_go_by_corners_too() -> None:
    cells = torch.zeros(CELLS, CELLS, CELLS, dtype=torch.bool)
    for k in range(10):
        cells[k, k, k] = True
    cells[12, 12, 12] = True
    seeds = torch.zeros_like(cells)
    seeds[0, 0, 0] = True
    assert int(connected(cells, seeds).sum()) == 10


def test_what_cannot_be_cleaned_is_said(small_model: Model) -> None:
    for lacking in (replace(small_model, occupancy=None), replace(small_model, cameras=(), held_out=())):
        with pytest.raises(UsageError, match="needs a field with its occupancy grid and the cameras"):
            clean(lacking)


@pytest.mark.parametrize("bits", [32, 8])
def test_the_command(fogged: Model, tmp_path: Path, capsys: pytest.CaptureFixture[str], bits: int) -> None:
    save(fogged, tmp_path / "a.nf", bits=bits)
    assert main(["edit", str(tmp_path / "a.nf"), "--clean", "-o", str(tmp_path / "b.nf"), "--threads", "1"]) == 0
    said = capsys.readouterr().out
    assert "9 of 4153 occupied cells emptied (0.22%), which touch nothing that more than 2 of 11 cameras see" in said
    one, other = load(tmp_path / "a.nf"), load(tmp_path / "b.nf")
    for name, value in one.field.state_dict().items():
        torch.testing.assert_close(other.field.state_dict()[name], value, rtol=1e-3, atol=1e-5)
    assert int((cells_of(one.occupancy) ^ cells_of(other.occupancy)).sum()) == 9
    assert main(["edit", str(tmp_path / "a.nf"), "--clean", "--erase-box", "0,0,0,1,1,1"]) == 2
    assert "--clean: goes alone" in capsys.readouterr().err
    assert clean_text({"path": "a", "cleaned": 0, "occupied": 0, "few": 2, "cameras": 3}).startswith("wrote a: 0 of 0")
