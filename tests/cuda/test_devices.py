"""What goes to another device goes there whole. Without a GPU the meta device is the judge: it refuses to mix."""

from pathlib import Path

import pytest
import torch

from neuralfields.captures.images import load_frames
from neuralfields.captures.readers import read_scene
from neuralfields.errors import UsageError
from neuralfields.fields import field_class, field_names
from neuralfields.gpu import device as machine
from neuralfields.gpu import launch as cuda_launch
from neuralfields.ops import occupancy_bits
from neuralfields.options.fit import FitOptions
from neuralfields.rendering.occupancy import Occupancy
from neuralfields.supervision.pixels import Pixels
from neuralfields.training.fit import fit_scene


@pytest.mark.parametrize("name", field_names())
def test_fields_move_whole(name: str):
    kind = field_class(name)
    field = kind(kind.Config()).to("meta")
    x, d = torch.rand(5, 3, device="meta"), torch.rand(5, 3, device="meta")
    f = field.features(x)
    log_density, rgb = field.decode(f, d)
    assert {log_density.device.type, rgb.device.type, field.log_density(f).device.type} == {"meta"}


def test_pixels_move_whole(small_capture: Path):
    scene = read_scene(small_capture)
    loaded = load_frames(scene, scene.train[:2], None)
    pixels = Pixels(loaded.images, loaded.cameras, loaded.masks)
    there = pixels.to("meta")
    batch = there.at(torch.zeros(7, dtype=torch.int64, device="meta"))
    assert batch.rgb.device.type == batch.rays.origins.device.type == "meta"
    assert len(there) == len(pixels) and pixels.values.device.type == "cpu"


def test_occupancy_moves_whole():
    grid = Occupancy(1).to("meta")
    tensors = [value for value in vars(grid).values() if isinstance(value, torch.Tensor)]
    assert len(tensors) >= 6 and {t.device.type for t in tensors} == {"meta"}


def test_bits_are_packed_alike():
    density = torch.rand(2, 30, 64, generator=torch.Generator().manual_seed(1))
    density[0, 0] = 1.0  # all bits, the sign among them
    want = occupancy_bits.pack_bricks(density > 0.5)
    assert want[0, 0] == -1 and torch.equal(occupancy_bits.pack_bricks_by_torch(density > 0.5), want)


def test_the_choice_of_a_device(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert machine.choose_device("auto").type == machine.choose_device("cpu").type == "cpu"
    with pytest.raises(UsageError, match=r"--device cuda: .*, or use --device cpu"):
        machine.choose_device("cuda")
    with pytest.raises(UsageError, match="--device tpu: must be auto, cpu or cuda"):
        machine.choose_device("tpu")
    assert capsys.readouterr().err == ""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 0)
    monkeypatch.setattr(machine, "missing_for_cuda", lambda: "cuda-core is not installed")
    assert machine.choose_device("auto").type == "cpu"
    assert "a GPU is here but is not used: cuda-core is not installed" in capsys.readouterr().err
    for module in (machine, cuda_launch):
        monkeypatch.setattr(module, "missing_for_cuda", lambda: None)
    assert machine.choose_device("auto") == machine.choose_device("cuda") == torch.device("cuda", 0)


def test_a_fit_on_a_gpu_that_is_not_there_says_so_first(small_capture: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(UsageError, match="--device cuda"):
        fit_scene(read_scene(small_capture), FitOptions(small_capture, device="cuda"))
