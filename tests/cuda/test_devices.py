"""What goes to another device goes there whole. Without a GPU the meta device is the judge: it refuses to mix."""

from pathlib import Path

import numpy as np
import pytest
import torch

from neuralfields.cameras import Camera
from neuralfields.captures.images import load_frames
from neuralfields.captures.readers import read_scene
from neuralfields.errors import UsageError
from neuralfields.fields import field_class, field_names
from neuralfields.gaussians import Gaussians
from neuralfields.gpu import device as machine
from neuralfields.gpu import launch as cuda_launch
from neuralfields.gpu import splat
from neuralfields.ops import occupancy_bits
from neuralfields.options.fit import FitOptions
from neuralfields.rendering.occupancy import Occupancy
from neuralfields.scene import Bounds
from neuralfields.splatting.photos import PhotoPyramid
from neuralfields.supervision.pixels import Pixels
from neuralfields.trainers.radiance import Background
from neuralfields.trainers.splats import SplatTrainer
from neuralfields.training.fit import fit_scene
from tests.support.gaussians import view


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
        fit_scene(read_scene(small_capture), FitOptions(small_capture, device="cuda", field="hash"))


def test_a_step_of_gaussians_stays_where_they_are(monkeypatch: pytest.MonkeyPatch):
    """The trainer and the renderer by the GPU's pass, its kernels left out: nothing else is on another device."""
    launched, there, pinhole = [], torch.device("meta"), view(40, 28)

    def launch(module: object, name: str, blocks: object, threads: int, *arguments: object) -> None:
        assert {a.device for a in arguments if isinstance(a, torch.Tensor)} == {there}, name
        launched.append(name)

    monkeypatch.setattr(cuda_launch, "launch", launch)
    monkeypatch.setattr(splat, "int", lambda value: 500, raising=False)  # the number of slots, which nobody knows
    shapes = (300, 3), (300, 3), (300, 4), (300,), (300, 4, 3)
    gaussians = Gaussians(*(torch.zeros(shape, device=there) for shape in shapes))
    rgba, mask = torch.zeros(28, 40, 4, dtype=torch.uint8), torch.ones(28, 40, dtype=torch.bool)
    photo = PhotoPyramid({1: rgba}, {1: pinhole}, {1: mask}).to(there)
    bounds = Bounds((0.0, 0.0, 0.0), 1.0)
    training = SplatTrainer(gaussians, [photo], bounds, Background((0.0, 0.0, 0.0), True), 300, 0)
    training.step_count, training.adam_steps = 2, 15  # no error is asked for, higher harmonics are moved
    report = training.step(0.3)
    training.restore({name: torch.zeros(tensor.shape) for name, tensor in training.tensors().items()}, {})
    seen = training.volume.render(Camera(np.eye(4), 40, 28, 30.0, 30.0, 20.0, 14.0), (0.0, 0.0, 0.0))
    assert training.device == training.statistics.device == there and report.samples == 300
    assert {part.device for part in (seen.rgb, seen.opacity, seen.depth, seen.normal)} == {there}
    assert {"splat_project", "splat_pairs", "splat_blend", "splat_blend_gradient", "splat_adam"} <= set(launched)
    assert {"image_loss_moments", "image_loss_gradient"} <= set(launched)
