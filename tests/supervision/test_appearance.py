"""Affine colour maps of disturbed photos are found; their mean is the identity; gradients go back through them."""

import shutil
from dataclasses import replace
from pathlib import Path

import imageio.v3
import numpy as np
import pytest
import torch
from torch import Tensor

from neuralfields.captures.images import load_frames
from neuralfields.captures.readers import read_scene
from neuralfields.errors import InterruptedFit
from neuralfields.evaluation.evaluate import evaluate
from neuralfields.gaussians import PARAMETERS
from neuralfields.options.fit import FitOptions, Supervision
from neuralfields.options.training import DEFAULT
from neuralfields.rays import Rays, RaySums
from neuralfields.scene import Scene
from neuralfields.supervision.appearance import Appearance, exposure_of
from neuralfields.supervision.colour_maps import about_mean, fitted_maps, mapped_picture
from neuralfields.supervision.exposure import Exposure, by_other_half, learned_of
from neuralfields.supervision.pixels import Batch
from neuralfields.training.fit import fit_scene
from tests.support.fit_runs import Interrupting
from tests.support.settings import set_training
from tests.support.small_fit import SMALL

PHOTOS = 5


def some_maps(count: int = PHOTOS, seed: int = 0, mixed: float = 0.1) -> Tensor:
    """Gains of 0.8 to 1.25, channels mixed by up to 0.1, offsets to 0.05; their mean is the identity."""
    generator = torch.Generator().manual_seed(seed)
    maps = (2 * torch.rand(count, 3, 4, generator=generator) - 1) * mixed
    maps[..., 3] *= 0.05 / mixed
    gains = 0.8 + 0.45 * torch.rand(count, 3, generator=generator)
    index = torch.arange(3)
    maps[:, index, index] = gains
    return about_mean(maps)


def picture(seed: int, size: tuple[int, int] = (24, 32)) -> tuple[Tensor, Tensor]:
    """Colours without background, [H, W, 3], and opacity."""
    generator = torch.Generator().manual_seed(seed)
    opacity = 0.5 + 0.5 * torch.rand(*size, generator=generator)
    return 0.6 * torch.rand(*size, 3, generator=generator) * opacity[..., None], opacity


def followed(maps: Tensor, rounds: int = 3) -> Appearance:
    """What is learned of photos that are exactly their maps of what is rendered, whole photo by whole photo."""
    what = Appearance(len(maps))
    for step in range(rounds * len(maps)):
        own, opacity = picture(step)
        index = step % len(maps)
        what.follow_photo(index, own, opacity, mapped_picture(maps[index], own, opacity), None)
    return what


def test_known_maps_are_found_and_their_mean_is_the_identity() -> None:
    true = some_maps()
    found = followed(true).maps
    torch.testing.assert_close(found, true, atol=0.01, rtol=0)
    torch.testing.assert_close(found.mean(0), torch.eye(3, 4), atol=1e-6, rtol=0)
    assert float((true - torch.eye(3, 4)).abs().mean()) > 0.03


def test_rays_find_them_too() -> None:
    true, what, rays = some_maps(), Appearance(PHOTOS), 600
    assert bool((what.maps == torch.eye(3, 4)).all())
    for step in range(DEFAULT.exposure_warmup + 20):
        generator = torch.Generator().manual_seed(step)
        camera = torch.randint(0, PHOTOS, (rays,), generator=generator)
        own, opacity = (part.flatten(0, 1) for part in picture(step, (20, 30)))
        values = torch.cat([own, opacity[:, None], torch.zeros(rays, 3)], 1)
        sums = RaySums(values, torch.ones(rays, dtype=torch.uint8), rays)
        rgb = (true[camera] * torch.cat([own, opacity[:, None]], 1)[:, None]).sum(-1)
        nothing = Rays(torch.zeros(rays, 3), torch.zeros(rays, 3))
        behind = torch.full((3,), 0.2)
        batch = Batch(nothing, rgb + (1 - opacity[:, None]) * behind, None, camera, torch.zeros(rays, 2))
        what.follow(step, batch, sums, behind, torch.ones(rays))
    torch.testing.assert_close(what.maps, true, atol=0.01, rtol=0)
    torch.testing.assert_close(what.applied(sums, camera).rgb, rgb, atol=0.02, rtol=0)


def test_few_pixels_do_not_bend_a_map() -> None:
    """Three pixels of a photo, one of them odd: the map is nearly the gain of its channels."""
    what = followed(some_maps())
    own, opacity = picture(99)
    mask = torch.zeros(24, 32)
    mask[0, :3] = 1
    lone = Appearance(1)
    lone.follow_photo(0, own, opacity, torch.where(mask[..., None] > 0, 0.9 * own + 0.1 * own.flip(2), 0 * own), mask)
    few = fitted_maps(lone.sums[:, 0], torch.ones(3))
    assert float((few - torch.eye(3, 4)).abs().max()) < 0.1
    assert float((what.maps - torch.eye(3, 4)).abs().max()) > 0.1


def test_photos_of_plain_gains_have_diagonal_maps() -> None:
    """And a fit that begins with them holds them, as gains do."""
    gain = torch.linspace(-0.3, 0.3, PHOTOS)[:, None] * torch.tensor([1.0, 0.5, -1.0])
    one, two = Appearance(PHOTOS), Exposure(PHOTOS)
    one.begin(gain)
    two.begin(gain)
    wanted = about_mean(torch.nn.functional.pad(torch.diag_embed(torch.exp(gain)), (0, 1)))
    torch.testing.assert_close(one.maps, wanted, atol=2e-3, rtol=0)
    torch.testing.assert_close(one.gain, two.gain, atol=1e-4, rtol=0)


@pytest.mark.parametrize("kind", [Exposure, Appearance])
def test_gradients_through_it_are_those_of_finite_differences(kind: type[Exposure]) -> None:
    what = kind(2)
    what.gain = torch.tensor([[0.1, -0.2, 0.3], [0.0, 0.1, -0.1]], dtype=torch.float64)
    what.maps = some_maps(2).double()
    own, opacity = (part.double() for part in picture(3, (4, 5)))
    behind = torch.tensor([0.1, 0.3, 0.2], dtype=torch.float64)
    rgb = own + (1 - opacity)[..., None] * behind
    weight = torch.rand(4, 5, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    d_rgb, d_opacity = what.led_back(1, weight, behind)

    def loss() -> float:
        return float((weight * what.exposed_photo(1, rgb, opacity, behind)).sum())

    for values, found in ((rgb, d_rgb), (opacity, d_opacity)):
        for place in (0, 7, values.numel() - 1):
            before, sides = float(values.flatten()[place]), []
            for side in (-1e-5, 1e-5):
                values.view(-1)[place] = before + side
                sides.append(loss())
            values.view(-1)[place] = before
            assert (sides[1] - sides[0]) / 2e-5 == pytest.approx(float(found.flatten()[place]), rel=1e-6)


def test_each_half_has_the_map_of_the_other() -> None:
    own, opacity = picture(7, (40, 60))
    one = some_maps()[2].abs()
    photo = mapped_picture(one, own, opacity).numpy()
    own, opacity = own.numpy(), opacity.numpy()
    by_map, by_gain = (by_other_half(own, 0 * own, photo, None, part) for part in (opacity, None))
    assert np.abs(by_map - photo).max() < 0.01 < 3 * np.abs(by_gain - photo).mean()
    keep = np.zeros(opacity.shape, bool)
    keep[:, :30] = True
    np.testing.assert_allclose(by_other_half(own, 0 * own, photo, keep, opacity)[:, :30], own[:, :30], atol=1e-6)


def test_the_stronger_of_two_options_is_taken() -> None:
    chosen = [Supervision(), Supervision(exposure=True), Supervision(exposure=True, appearance=True)]
    kinds = [type(exposure_of(options, 3, "cpu", DEFAULT)) for options in chosen]
    assert kinds == [type(None), Exposure, Appearance]
    assert learned_of({}) == "" and learned_of({"exposure": True, "appearance": True}) == "appearance"


def options_for(capture: Path, **more: object) -> FitOptions:
    chosen = {"steps": 200, "threads": 1, "quiet": True, "eval_every": 0, "set": ("most=2000", "degree=0")}
    return FitOptions(capture, **{"field": "gaussians"} | chosen | more)


def tinted(capture: Path, folder: Path) -> Scene:
    """The capture with training photos in colours of their own; held-out ones are as they were."""
    shutil.copytree(capture, folder)
    scene = read_scene(folder)
    for index, colour_map in zip(scene.train, some_maps(len(scene.train), 5, 0.3).numpy(), strict=True):
        values = imageio.v3.imread(scene.frames[index].path)
        colours = 255 * (values[..., :3] / 255 @ colour_map[:, :3].T + colour_map[:, 3])
        values[..., :3] = colours.round().clip(0, 255)
        imageio.v3.imwrite(scene.frames[index].path, values)
    return scene


def off(found: np.ndarray, true: np.ndarray, photos: list[np.ndarray]) -> float:
    """Mean difference of colours by two sets of maps, in levels of 255."""
    parts = []
    for photo, change in zip(photos, found - true, strict=True):
        parts.append(np.abs(photo[photo[..., 3] > 128][:, :3] @ change[:, :3].T + 255 * change[:, 3]).mean())
    return float(np.mean(parts))


@pytest.mark.slow
@pytest.mark.usefixtures("one_thread")
def test_a_fit_learns_the_maps_of_its_photos(small_capture: Path, tmp_path: Path) -> None:
    """And its scene is nearer to photos that nobody changed, by a little: most error at 64 pixels is elsewhere."""
    scene = tinted(small_capture, tmp_path / "tinted")
    gains, maps = (fit_scene(scene, options_for(scene.root, **{name: True})) for name in ("exposure", "appearance"))
    one, two = (evaluate(replace(m, made=m.made | {"appearance": True}), scene) for m in (gains, maps))
    assert "appearance" in two.convention and two.psnr_given == pytest.approx(maps.metrics["psnr_given"])
    assert two.psnr == pytest.approx(maps.metrics["psnr"])
    assert two.psnr > one.psnr
    found = np.array([maps.made["appearance_maps"][scene.frames[k].name] for k in scene.train])
    np.testing.assert_allclose(found.mean(0), np.eye(3, 4), atol=1e-3)
    factors = [gains.made["exposure_gains"][scene.frames[k].name] for k in scene.train]
    diagonal = np.pad(np.array(factors)[..., None] * np.eye(3), ((0, 0), (0, 0), (0, 1)))
    colours = load_frames(read_scene(small_capture), scene.train, None).images
    true = some_maps(len(scene.train), 5, 0.3).numpy()
    assert off(found, true, colours) < 0.6 * off(diagonal, true, colours) < off(np.eye(3, 4) + 0 * true, true, colours)


@pytest.mark.slow
@pytest.mark.usefixtures("one_thread")
def test_a_resumed_fit_ends_in_the_same_bits(small_capture: Path, tmp_path: Path) -> None:
    scene, out = tinted(small_capture, tmp_path / "tinted"), tmp_path / "a.nf"
    words = {"appearance": True, "refine_poses": True, "steps": 60, "recipe": ("pose_warmup=20",)}
    whole = fit_scene(scene, options_for(scene.root, **words))
    with pytest.raises(InterruptedFit):
        fit_scene(scene, options_for(scene.root, out=out, **words), Interrupting(40))
    again = fit_scene(scene, options_for(scene.root, out=out, resume=True, **words))
    for name in PARAMETERS:
        assert torch.equal(getattr(again.field, name), getattr(whole.field, name)), name
    assert again.made["appearance_maps"] == whole.made["appearance_maps"]


@pytest.mark.slow
@pytest.mark.usefixtures("one_thread")
def test_radiance_fields_learn_them_too(small_capture: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    set_training(monkeypatch, samples=1 << 11)
    scene, out = tinted(small_capture, tmp_path / "tinted"), tmp_path / "a.nf"
    words = {"field": "hash", "steps": 130, "set": SMALL, "appearance": True}
    whole = fit_scene(scene, options_for(scene.root, **words))
    with pytest.raises(InterruptedFit):
        fit_scene(scene, options_for(scene.root, out=out, **words), Interrupting(120))
    again = fit_scene(scene, options_for(scene.root, out=out, resume=True, **words))
    assert again.made["appearance_maps"] == whole.made["appearance_maps"]
    assert again.metrics["psnr"] == whole.metrics["psnr"] != whole.metrics["psnr_given"]
