"""What no training camera saw is faded: in the live page, by its server and in a shared file, all alike."""

import base64
import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import neuralfields
from neuralfields.cameras import Camera, look_at
from neuralfields.codecs.splats import splat_model
from neuralfields.fields.field import Field
from neuralfields.fields.gaussians import GaussianField
from neuralfields.gaussians import Gaussians
from neuralfields.models.model import Model, volume_of
from neuralfields.models.nf_file import save
from neuralfields.ops.contract import uncontract
from neuralfields.pictures.panels import to_uint8
from neuralfields.rendering.seen import Seen, seen_by
from neuralfields.rendering.splat import Splats
from neuralfields.rendering.volume import Volume
from neuralfields.scene import Bounds
from neuralfields.serving.messages import camera_of
from neuralfields.serving.stage import Stage, stage_of
from tests.serving.test_share import Shared, element, shared
from tests.support.browser import Screen, needs_chromium
from tests.support.hash_models import BACKGROUND, hash_model
from tests.support.splats import lopsided

BOUNDS, BLACK = Bounds((0.0, 0.0, 0.0), 2.0), (0.0, 0.0, 0.0)


def looking(x: float) -> Camera:
    """A camera before the left half of the L."""
    pose = look_at(np.array([x, 0.0, -2.2]), np.array([x, 0.0, 0.0]), np.array([0.0, -1.0, 0.0]))
    return Camera(pose, 32, 32, 60.0, 60.0, 16.0, 16.0)


def half_seen() -> Model:
    cameras = (looking(-0.65), looking(-0.7), looking(0.5))
    return Model(GaussianField.of(lopsided()), BOUNDS, cameras=cameras, held_out=(2,), background=BLACK)


@pytest.fixture(scope="module")
def stage() -> Stage:
    return stage_of([half_seen()])


def test_who_fades(stage: Stage) -> None:
    """Not by held-out cameras, not what has none, nothing while a fit runs."""
    assert stage.describe()["seen"]["side"] == 48 and stage.describe()["subjects"][0]["fades"]
    factor = stage.seen.factor(lopsided().means)
    assert 0.3 < float((factor == 1).float().mean()) < 0.7 and 0.2 < float((factor == 0).float().mean())
    assert stage_of([replace(half_seen(), cameras=())]).describe()["seen"] is None
    running = stage_of([half_seen()])
    running.steer = lambda command: None
    assert running.describe()["seen"] is None and running.seen is None


@pytest.fixture(scope="module")
def screen(browser: Any) -> Iterator[Screen]:
    """The live page, drawn by itself, with all of the L in view."""
    with neuralfields.view([half_seen()], port=0, threads=1) as viewer:
        made = Screen(browser, viewer.url, (740, 240))
        made.until("Boolean(window.neuralfields && window.neuralfields.state.stage)")
        back(made)
        made.page.evaluate("drawn.value = 'page'; drawn.onchange()")
        made.until("neuralfields.local.draws")
        made.rest()
        yield made
        made.context.close()
        assert made.errors == []


def back(screen: Screen) -> None:
    screen.page.evaluate(
        "(({ controls, state }) => { controls.turn(0.5, 0.1); controls.closer(1.6);"
        " state.eye = { ...state.eye, fov: 50 }; controls.moved(); })(neuralfields)"
    )


def exact(screen: Screen, shape: tuple[int, ...], stage: Stage | None, given: Gaussians | None = None) -> np.ndarray:
    """Our rasteriser's picture of the page's eye, faded by a stage."""
    given = given or lopsided()
    given = given if stage is None else stage.seen.faded(given)
    camera = camera_of(screen.eye(), shape[1], shape[0])
    return to_uint8(Splats(given, BOUNDS).render(camera, BLACK).rgb).astype(int)


def apart(shown: np.ndarray, other: np.ndarray) -> float:
    """Mean difference in 255ths where there is something to see."""
    seen = [np.abs(one - other[0, 0]).max(2) > 8 for one in (shown, other)]
    return float(np.abs(shown - other)[seen[0] | seen[1]].mean())


@needs_chromium
def test_the_page_and_its_server_fade_alike(screen: Screen, stage: Stage) -> None:
    shown = screen.picture()
    assert apart(shown, exact(screen, shown.shape, stage)) < 1 and apart(shown, exact(screen, shown.shape, None)) > 10
    screen.page.evaluate("drawn.value = 'server'; drawn.onchange()")
    screen.rest()
    assert apart(screen.picture(), exact(screen, shown.shape, stage)) < 5  # JPEG
    screen.page.evaluate("drawn.value = 'page'; drawn.onchange()")
    screen.rest()


@needs_chromium
def test_all_of_it_by_a_key(screen: Screen) -> None:
    faded = screen.picture()
    screen.page.keyboard.press("u")
    screen.rest()
    assert not screen.page.is_checked("#fade")
    shown = screen.picture()
    assert apart(shown, exact(screen, shown.shape, None)) < 1
    screen.page.evaluate("drawn.value = 'server'; drawn.onchange()")
    screen.rest()
    assert apart(screen.picture(), exact(screen, shown.shape, None)) < 5
    screen.page.evaluate("drawn.value = 'page'; drawn.onchange()")
    screen.page.keyboard.press("u")
    screen.rest()
    assert np.array_equal(screen.picture(), faded)


class Thinned(Field):
    """A volume's field whose density is multiplied by what cameras saw, as the page's shader does it."""

    def __init__(self, volume: Volume, seen: Seen) -> None:
        super().__init__()
        self.volume, self.seen = volume, seen
        self.config, self.domain = volume.field.config, volume.field.domain

    def features(self, x: Tensor) -> Tensor:
        """Features, with the factor appended."""
        bounds = self.volume.bounds
        world = (uncontract(x, self.volume.contraction) - 0.5) * bounds.side + x.new_tensor(bounds.centre)
        return torch.cat([self.volume.field.features(x), self.seen.factor(world)[:, None]], 1)

    def decode(self, f: Tensor, directions: Tensor) -> tuple[Tensor, Tensor]:
        """Log-density and colour."""
        return self.log_density(f), self.volume.field.decode(f[:, :-1], directions)[1]

    def log_density(self, f: Tensor) -> Tensor:
        """Log-density with that of the factor."""
        return self.volume.field.log_density(f[:, :-1]) + f[:, -1].clamp(min=1e-9).log()


@needs_chromium
def test_a_field_is_thinned(browser: Any) -> None:
    """The page multiplies the density; the server leaves out what is mostly unseen."""
    model = hash_model(cascades=2, contraction="cube", hidden=8, levels=2)
    pose = look_at(np.array([-0.3, -0.1, -2.2]), np.array([-0.3, -0.1, 0.3]), np.array([0.0, -1.0, 0.0]))
    camera = Camera(pose, 32, 32, 60.0, 60.0, 16.0, 16.0)
    volume, seen = volume_of(model), seen_by([camera], model.bounds)
    thin = Volume(Thinned(volume, seen), volume.bounds, volume.occupancy)
    with neuralfields.view([replace(model, cameras=(camera,))], port=0, threads=1) as viewer:
        screen = Screen(browser, viewer.url, (740, 90))
        screen.until("Boolean(window.neuralfields && window.neuralfields.state.stage)")
        screen.page.evaluate("drawn.value = 'page'; drawn.onchange()")
        screen.until("neuralfields.local.draws")
        back(screen)
        screen.rest()
        shown = screen.picture()
        eye = camera_of(screen.eye(), shown.shape[1], shown.shape[0])
        wanted, whole = (to_uint8(one.render(eye, BACKGROUND).rgb).astype(int) for one in (thin, volume))
        assert apart(shown, wanted) < 0.5 and apart(shown, whole) > 5
        screen.page.evaluate("drawn.value = 'server'; drawn.onchange()")
        screen.rest()
        assert apart(screen.picture(), wanted) < 0.4 * apart(screen.picture(), whole)
        screen.context.close()
        assert screen.errors == []


@needs_chromium
def test_a_shared_file_fades_too(browser: Any, tmp_path: Path, stage: Stage) -> None:
    """By default, with its poster; all of it is a check box away."""
    save(half_seen(), tmp_path / "half.nf")
    path = shared(tmp_path, tmp_path / "half.nf", steps=0)
    text = path.read_text()
    assert len(base64.b64decode(json.loads(element(text, "stage"))["seen"]["runs"])) < 5000
    (tmp_path / "half.nfz").write_bytes(base64.b64decode(element(text, "scene-0")))
    given = splat_model(tmp_path / "half.nfz").field.gaussians()
    page = Shared(browser, path)
    back(page)
    page.rest()
    shown = page.picture()
    assert apart(shown, exact(page, shown.shape, stage, given)) < 1
    page.page.keyboard.press("i")
    page.page.click("#fade")
    page.page.keyboard.press("Escape")
    page.rest()
    assert apart(page.picture(), exact(page, shown.shape, None, given)) < 1 < apart(page.picture(), shown) / 10
    page.close()
