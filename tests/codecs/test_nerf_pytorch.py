"""Vanilla NeRF checkpoints: what the layers compute, in which units, and real ones against real photos."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn.functional import linear, relu

from neuralfields.cameras import Camera, look_at
from neuralfields.captures.readers import read_scene
from neuralfields.codecs import load_any, nerf_pytorch
from neuralfields.codecs.nerf_pytorch import EMPTY, Config, Nerf, layout_of, octaves, read
from neuralfields.codecs.placement import Placement, find_occupied, synthetic_cameras
from neuralfields.errors import InputError, UsageError
from neuralfields.evaluation.evaluate import evaluate
from neuralfields.evaluation.render import render
from neuralfields.models.model import volume_of
from neuralfields.models.nf_file import save
from neuralfields.ops.occupancy_bits import occupied
from tests.support import foreign_files
from tests.support.foreign_files import flexible_weights, original_weights


def encoded(x: Tensor, count: int) -> Tensor:
    """x, then sines and cosines, octave by octave."""
    parts = [x]
    for i in range(count):
        parts += [(x * 2**i).sin(), (x * 2**i).cos()]
    return torch.cat(parts, -1)


def field_of(weights: dict[str, Tensor], layout: str, **place: object) -> Nerf:
    field = Nerf(Config(layout, {key: tuple(value.shape) for key, value in weights.items()}, **place))
    for layer in field.modules():
        if isinstance(layer, torch.nn.Linear):
            layer.weight.data, layer.bias.data = (weights[f"{layer.source}.{part}"] for part in ("weight", "bias"))
    return field.requires_grad_(False)


def points() -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    x, d = torch.rand(200, 3, generator=generator), torch.randn(200, 3, generator=generator)
    return x, torch.nn.functional.normalize(d, dim=1)


def agree(field: Nerf, x: Tensor, d: Tensor, sigma: Tensor, rgb: Tensor, side: float) -> None:
    f = field.features(x)
    log_density, colour = field.decode(f, d)
    torch.testing.assert_close(log_density, (sigma * side).clamp(min=EMPTY).log(), atol=1e-3, rtol=1e-3)
    torch.testing.assert_close(colour, torch.sigmoid(rgb), atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(field.log_density(f), log_density)
    assert float(log_density.min()) > -16 and 20 < int((sigma > 0).sum()) < 200


@pytest.fixture
def no_look(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leaves out the search for occupied cells, which these tests do not look at."""
    full = torch.full((1, 32768), -1, dtype=torch.int64)
    monkeypatch.setattr(nerf_pytorch, "find_occupied", lambda volume: full)


def test_flexible_layout_has_no_relu_after_its_first_layer():
    w, (x, d) = flexible_weights(), points()

    def layer(name: str, h: Tensor) -> Tensor:
        return linear(h, w[f"{name}.weight"], w[f"{name}.bias"])

    h = layer("layer1", encoded((x - 0.5) * 3, 10))
    for i in range(3):
        h = relu(layer(f"layers_xyz.{i}", h))
    colour = relu(layer("layers_dir.0", torch.cat([relu(layer("fc_feat", h)), encoded(d, 4)], 1)))
    agree(field_of(w, "flexible"), x, d, layer("fc_alpha", h)[:, 0], layer("fc_rgb", colour), 3.0)


def test_original_layout_sees_its_input_again():
    w, (x, d) = original_weights(), points()

    def layer(name: str, h: Tensor) -> Tensor:
        return linear(h, w[f"{name}.weight"], w[f"{name}.bias"])

    e = h = encoded((x - 0.5) * 2.5 + torch.tensor([0.2, -0.1, 0.4]), 10)
    for i in range(8):
        h = relu(layer(f"pts_linears.{i}", torch.cat([e, h], 1) if i == 5 else h))
    colour = relu(layer("views_linears.0", torch.cat([layer("feature_linear", h), encoded(d, 4)], 1)))
    field = field_of(w, "original", centre=(0.2, -0.1, 0.4), side=2.5)
    agree(field, x, d, layer("alpha_linear", h)[:, 0], layer("rgb_linear", colour), 2.5)


def test_paper_layout_takes_density_from_its_feature():
    w: dict[str, Tensor] = {}
    generator, (x, d) = torch.Generator().manual_seed(5), points()
    for i in range(8):
        foreign_files.linear(w, f"layers_xyz.{i}", 63 if i == 0 else 16 + 63 * (i == 4), 16, generator)
    for name, inputs, outputs in (
        ("fc_feat", 16, 16), ("fc_alpha", 16, 1), ("layers_dir.0", 43, 8), ("layers_dir.1", 8, 8),
        ("layers_dir.2", 8, 8), ("layers_dir.3", 8, 8), ("fc_rgb", 8, 3),
    ):  # fmt: skip
        foreign_files.linear(w, name, inputs, outputs, generator)

    def layer(name: str, h: Tensor) -> Tensor:
        return linear(h, w[f"{name}.weight"], w[f"{name}.bias"])

    e = h = encoded((x - 0.5) * 3, 10)
    for i in range(8):
        h = relu(layer(f"layers_xyz.{i}", torch.cat([e, h], 1) if i == 4 else h))
    feature = layer("fc_feat", h)
    colour = torch.cat([feature, encoded(d, 4)], 1)
    for i in range(3):  # the fourth is in the file and is never used
        colour = relu(layer(f"layers_dir.{i}", colour))
    assert layout_of({"model_fine_state_dict": w}) == "paper"
    agree(field_of(w, "paper"), x, d, layer("fc_alpha", feature)[:, 0], layer("fc_rgb", colour), 3.0)


def test_without_directions_one_layer_gives_all():
    w = {key: value for key, value in original_weights().items() if key.startswith("pts")}
    foreign_files.linear(w, "output_linear", 16, 5, torch.Generator().manual_seed(2))
    field, (x, d) = field_of(w, "original"), points()
    out = linear(field.features(x), w["output_linear.weight"], w["output_linear.bias"])
    agree(field, x, d, out[:, 3], out[:, :3], 3.0)
    assert torch.equal(field.decode(field.features(x), -d)[1], field.decode(field.features(x), d)[1])


def test_octaves_with_and_without_the_point_itself():
    x = points()[0]
    torch.testing.assert_close(octaves(x, 63), encoded(x, 10))
    torch.testing.assert_close(octaves(x, 60), encoded(x, 10)[:, 3:])
    assert torch.equal(octaves(x, 3), x)


def ball() -> dict[str, Tensor]:
    """Weights whose density is 40 - 60 |z| per world unit, red: from z alone, without octaves of it mattering."""
    w = {key: torch.zeros_like(value) for key, value in flexible_weights(layers=1).items()}
    w["layer1.weight"][0, 2], w["layer1.weight"][1, 2] = 1, -1
    w["layers_xyz.0.weight"][0, 0] = w["layers_xyz.0.weight"][1, 1] = 1
    w["fc_alpha.weight"][0, :2], w["fc_alpha.bias"][0] = -60, 40
    w["fc_rgb.bias"][:] = torch.tensor([9.0, -9.0, -9.0])
    return w


@pytest.mark.parametrize("side", [3.0, 4.5])
def test_density_is_per_unit_of_their_world(side, no_look, tmp_path):
    """A slab of a known optical depth along z, 2 / 3: twice the integral of 1 - 1.5 z over [0, 2 / 3]."""
    weights = ball()
    for name in ("fc_alpha.weight", "fc_alpha.bias"):
        weights[name] /= 40
    torch.save({"model_fine_state_dict": weights}, tmp_path / "a.ckpt")
    model = load_any(tmp_path / "a.ckpt", place=Placement(side=side))
    pose = look_at(np.array([0.0, 0.0, 4.0]), np.zeros(3), np.array([0.0, 1.0, 0.0]))
    seen = render(model, Camera(pose, 3, 3, 400.0, 400.0, 1.5, 1.5))
    assert float(seen.opacity[1, 1]) == pytest.approx(1 - np.exp(-2 / 3), abs=4e-3)
    assert seen.rgb[1, 1].tolist() == pytest.approx([1, np.exp(-2 / 3), np.exp(-2 / 3)], abs=4e-3)
    assert model.background == (1, 1, 1) and model.bounds.side == side


@pytest.mark.slow
def test_occupancy_is_where_density_is(tmp_path):
    weights = ball()
    weights["fc_alpha.bias"][0] = 12  # a thin slab, to |z| = 0.2: fewer cells to look at
    torch.save({"model_fine_state_dict": weights, "iter": 5}, tmp_path / "a.ckpt")
    model = load_any(tmp_path / "a.ckpt")
    volume = volume_of(model)
    assert torch.equal(find_occupied(volume), model.occupancy)
    x = torch.rand(4000, 3, generator=torch.Generator().manual_seed(0))
    there = occupied(x, torch.zeros(4000, dtype=torch.int64), model.occupancy)
    z = ((x[:, 2] - 0.5) * 3).abs()
    assert bool(there[z < 0.15].all()) and not bool(there[z > 0.25].any())


def test_cameras_are_the_synthetic_scenes_own():
    cameras = synthetic_cameras()
    assert len(cameras) == 100 and {(c.width, c.height) for c in cameras} == {(800, 800)}
    for camera in cameras:
        assert np.linalg.norm(camera.centre) == pytest.approx(4) and camera.centre[2] > 0
        assert camera.forward @ camera.centre == pytest.approx(-4)
        assert 2 * np.arctan(400 / camera.fx) == pytest.approx(0.6911, abs=1e-4)


def test_the_fine_network_renders_and_a_lone_coarse_one_too(no_look, tmp_path):
    fine, coarse = flexible_weights(seed=1), flexible_weights(seed=2)
    path = tmp_path / "a.ckpt"
    for content, expected in (
        ({"model_coarse_state_dict": coarse, "model_fine_state_dict": fine}, fine),
        ({"model_coarse_state_dict": coarse, "model_fine_state_dict": None}, coarse),
    ):
        model = read(path, content, Placement())
        assert torch.equal(model.field.alpha.weight, expected["fc_alpha.weight"])
    assert layout_of({"network_fn_state_dict": original_weights()}) == "original"


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("config.yml", "dataset:\n  no_ndc: false\n  type: llff\n"),
        ("args.txt", "dataset_type = llff\nno_ndc = False\n"),
    ],
)
def test_projective_scenes_are_refused(name, text, no_look, tmp_path):
    torch.save({"model_fine_state_dict": flexible_weights()}, tmp_path / "a.ckpt")
    (tmp_path / name).write_text(text)
    with pytest.raises(InputError, match="normalised device coordinates"):
        load_any(tmp_path / "a.ckpt")
    (tmp_path / name).write_text(text.lower().replace("false", "true"))
    model = load_any(tmp_path / "a.ckpt")
    assert model.background == (0, 0, 0) and model.bounds.near == 0


@pytest.mark.parametrize(
    ("key", "shape", "message"),
    [
        ("fc_alpha.weight", (1, 7), "the density layer's shape"),
        ("layers_dir.0.weight", (8, 40), "a direction of 24|a direction of 22"),
        ("fc_rgb.weight", (4, 8), "fc_rgb has shapes"),
        ("layers_xyz.1.weight", (16, 17), "trunk layer 2"),
        ("layer1.weight", (16, 64), "an encoding of 64 values"),
    ],
)
def test_layers_that_do_not_fit_are_named(key, shape, message, tmp_path):
    weights = flexible_weights()
    weights[key] = torch.zeros(shape)
    if key == "layers_dir.0.weight":
        weights[key] = torch.zeros(8, 16 + 22)
    with pytest.raises(InputError, match=message):
        read(tmp_path / "a.ckpt", {"model_fine_state_dict": weights}, Placement())
    del weights["fc_feat.bias"]
    with pytest.raises(InputError, match="do not make a NeRF of the flexible layout"):
        read(tmp_path / "a.ckpt", {"model_fine_state_dict": weights}, Placement())


def test_weights_that_are_not_finite_are_refused(tmp_path):
    weights = flexible_weights()
    weights["fc_rgb.bias"][1] = torch.nan
    with pytest.raises(InputError, match=r"model_fine_state_dict\.fc_rgb\.bias holds values that are not finite"):
        read(tmp_path / "a.ckpt", {"model_fine_state_dict": weights}, Placement())


def test_places_are_checked():
    for wrong in ({"side": 0.0}, {"near": -1.0}, {"centre": (0.0, float("nan"), 0.0)}, {"background": (2.0, 0.0, 0.0)}):
        with pytest.raises(UsageError, match=next(iter(wrong))):
            Placement(**wrong)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "low", "high"), [("chair", 27.3, 33.4), ("materials", 24.0, 27.5)], ids=["chair", "materials"]
)
def test_real_checkpoints_against_real_photos(name, low, high, shared_data: Path):
    """The figures that were verified of these files by other means: 80 x 80, white."""
    folder, capture = shared_data / "checkpoints" / "krrish94", shared_data / "captures" / f"synthetic_{name}"
    model = load_any(next((folder / f"{name}-lowres").glob("*.ckpt")), scene=capture)
    scene = read_scene(capture)
    report = evaluate(model, replace(scene, test=scene.test[::3]), downscale=5)
    assert all(low < view.psnr < high for view in report.views)


def test_a_real_forward_facing_checkpoint_is_refused(shared_data: Path):
    path = next((shared_data / "checkpoints" / "krrish94" / "fern-lowres").glob("*.ckpt"))
    with pytest.raises(InputError, match="normalised device coordinates"):
        load_any(path)


def test_a_teacher_from_elsewhere_is_not_saved(no_look, tmp_path):
    model = read(tmp_path / "a.ckpt", {"model_fine_state_dict": flexible_weights()}, Placement())
    with pytest.raises(InputError, match="a nerf_pytorch field is a teacher from elsewhere and is not saved"):
        save(model, tmp_path / "a.nf")
    assert not (tmp_path / "a.nf").exists()
