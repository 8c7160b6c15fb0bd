"""Gaussians that the page draws: how they are packed, who gets them, and the page's picture against our rasteriser."""

import json
import struct
from collections.abc import Iterator
from dataclasses import replace

import aiohttp
import numpy as np
import pytest
import torch

import neuralfields
from neuralfields.cameras import Camera
from neuralfields.errors import UsageError
from neuralfields.fields.gaussians import GaussianField
from neuralfields.gaussians import Gaussians
from neuralfields.models.model import Model
from neuralfields.pictures.background import over
from neuralfields.pictures.panels import to_uint8
from neuralfields.rendering.splat import Splats
from neuralfields.scene import Bounds
from neuralfields.serving import splats as packing
from neuralfields.serving.crop import gaussians_inside
from neuralfields.serving.messages import camera_of
from neuralfields.serving.server import Server
from neuralfields.serving.shading import paint
from neuralfields.serving.viewer import Viewer
from tests.serving.test_server import talk
from tests.support.browser import CHROMIUM, Screen
from tests.support.splats import lopsided as scene
from tests.support.view_ball import ball_stage

BOUNDS = Bounds((0.0, 0.0, 0.0), 2.0)
BACKGROUND = (0.1, 0.3, 0.6)


def model_of(gaussians: Gaussians) -> Model:
    return Model(GaussianField.of(gaussians), BOUNDS, background=BACKGROUND)


# ---------------------------------------------------------------- bytes


def test_packed_bytes() -> None:
    """Header, exact means, rotations within 1e-4, halves, harmonics within the step of their code."""
    given = scene(antialiased=True)
    data = packing.pack(Splats(given, BOUNDS), version=7)
    assert len(data) == packing.packed_size(400, 16)
    magic, layout, count, many, version, flags, near = struct.unpack("<4s5If", data[:28])
    assert (magic, layout, count, many, version, flags) == (b"NFSP", 1, 400, 16, 7, 1) and near == pytest.approx(2e-3)
    ranges = np.frombuffer(data, "<f4", 16, 64)
    core = np.frombuffer(data, np.uint8, 400 * 32, 128).reshape(400, 32)
    assert np.array_equal(core[:, :12].copy().view("<f4"), given.means.numpy())
    assert np.allclose(core[:, 18:24].copy().view("<f2"), given.scales, atol=2e-3)
    assert np.allclose(core[:, 24:26].copy().view("<f2")[:, 0], given.opacities, atol=2e-3)
    code = core[:, 12:18].copy().view("<u2").astype(int)
    place = (code[:, 0] >> 15) | ((code[:, 1] >> 15) << 1)
    smaller = ((code & 32767) / 32767 * 2 - 1) / np.sqrt(2)
    turned = np.zeros((400, 4))
    for row, (k, values) in enumerate(zip(place, smaller, strict=True)):
        turned[row, [i for i in range(4) if i != k]] = values
        turned[row, k] = np.sqrt(1 - (values**2).sum())
    unit = torch.nn.functional.normalize(given.rotations, dim=1).numpy()
    assert np.abs((turned * unit).sum(1)).min() > 1 - 1e-7
    codes = np.frombuffer(data, np.int8, 400 * 48, 128 + 400 * 32).reshape(400, 48)[:, :45] / 127
    found = (codes * np.abs(codes)).reshape(400, 15, 3) * ranges[1:, None]
    assert np.abs(found - given.harmonics[:, 1:].numpy()).max() < 0.01 * ranges.max()


def test_half_a_million_and_too_many(monkeypatch: pytest.MonkeyPatch) -> None:
    assert packing.packed_size(500_000, 16) < 40.1e6 and packing.packed_size(10, 1) == 128 + 320
    monkeypatch.setattr(packing, "MOST_BYTES", 1000)
    with pytest.raises(UsageError, match="the server draws them"):
        packing.pack(Splats(scene(), BOUNDS))


def test_who_gets_them(monkeypatch: pytest.MonkeyPatch) -> None:
    """200 for a subject of Gaussians, 204 for the same version, 404 for a field, 413 beyond the limit."""
    stage, gaussians = ball_stage(), scene()
    stage.subjects.append(replace(stage.subjects[0], splats=lambda: Splats(gaussians, BOUNDS), version=lambda: 5))
    assert [one["splats"] for one in json.loads(json.dumps(stage.describe()))["subjects"]] == [False, True]
    server = Server(stage, port=0, threads=1)

    async def work(web: aiohttp.ClientSession, base: str) -> list[int]:
        async with web.get(base + "splats/1") as answer:
            assert await answer.read() == packing.pack(Splats(gaussians, BOUNDS), 5)
        names = (
            "splats/1",
            "splats/1?version=5",
            "splats/1?version=4",
            "splats/0",
            "splats/2",
            "splats/-1",
            "splats/x",
        )
        found = [(await web.get(base + name)).status for name in names]
        monkeypatch.setattr(packing, "MOST_BYTES", 1000)
        found.append((await web.get(base + "splats/1")).status)
        found.append((await web.get(base + "splats/1", headers={"Host": "evil.example"})).status)
        return found

    try:
        assert talk(server, work) == [200, 204, 200, 404, 404, 404, 404, 413, 403]
    finally:
        server.close()


# ---------------------------------------------------------------- the page


@pytest.fixture(scope="module")
def viewer() -> Iterator[Viewer]:
    with neuralfields.view([model_of(scene()), model_of(scene(antialiased=True))], port=0, threads=1) as made:
        made.server.stage.subjects[1].name = "antialiased"
        yield made


@pytest.fixture(scope="module")
def screen(browser, viewer: Viewer) -> Iterator[Screen]:
    """A page that draws the first subject itself, and at the end complained of nothing and stayed at home."""
    if CHROMIUM is None:
        pytest.skip("no chromium on this machine (Debian's package chromium)")
    made = Screen(browser, viewer.url, (740, 240))
    made.until("Boolean(window.neuralfields && window.neuralfields.state.stage)")
    made.page.select_option("#right", "")
    made.rest()
    assert made.page.evaluate("[drawn.value, window.neuralfields.local.draws]") == ["server", False]  # no GPU here
    made.page.evaluate("drawn.value = 'page'; drawn.onchange()")
    made.until("window.neuralfields.local.draws")
    made.rest()
    yield made
    made.context.close()
    assert made.errors == []
    host = viewer.url.removeprefix("http://")
    assert all(url.split("://", 1)[1].startswith(host) for url in made.asked), made.asked


def show(screen: Screen, what: str) -> np.ndarray:
    screen.page.evaluate(f"document.querySelector('[data-what={what}]').click()")
    screen.rest()
    return screen.picture()


def expected(gaussians: Gaussians, camera: Camera, what: str) -> np.ndarray:
    seen = Splats(gaussians, BOUNDS).render(camera, BACKGROUND)
    if what == "normals":
        return to_uint8(over(seen.normal.numpy() / 2 + 0.5, seen.opacity.numpy(), np.array(BACKGROUND, np.float32)))
    if what == "rgb":
        return to_uint8(seen.rgb)
    return paint(seen, camera, what, BACKGROUND)


def compare(screen: Screen, gaussians: Gaussians, what: str) -> float:
    """Mean absolute difference in 255ths between page and rasteriser, where there is something to see."""
    shown = show(screen, what)
    exact = expected(gaussians, camera_of(screen.eye(), shown.shape[1], shown.shape[0]), what).astype(int)
    changed = (exact != exact[0, 0]).any(2)
    assert changed.mean() > 0.03 and exact[changed].std() > 15
    mirrored = np.abs(shown - exact[:, ::-1])[changed | changed[:, ::-1]].mean()
    difference = np.abs(shown - exact)[changed].mean()
    print(what, round(difference, 2), round(mirrored, 2))
    assert mirrored > 5 * difference
    return difference


def test_every_mode_is_our_rasterisers_picture(screen: Screen) -> None:
    """At most 1 of 255 on average over what is seen, 2 for depth, whose range is of fewer pixels."""
    for what, tolerance in {"rgb": 1.0, "depth": 2.0, "opacity": 1.0, "normals": 1.0}.items():
        assert compare(screen, scene(), what) < tolerance, what
    show(screen, "rings")
    assert screen.page.evaluate("strip.textContent").endswith("400 of 400 Gaussians in view")


def test_order_after_half_a_turn_crop_and_antialiasing(screen: Screen) -> None:
    show(screen, "rgb")
    screen.page.evaluate(
        "(({ controls }) => { controls.turn(Math.PI, 0.1); controls.closer(0.7); controls.moved(); })(neuralfields)"
    )
    screen.rest()
    assert compare(screen, scene(), "rgb") < 1
    screen.page.evaluate("crop.checked = true; x0.value = '0.3'; x1.value = '0.6'; crop.onchange()")
    screen.rest()
    box = screen.page.evaluate("window.neuralfields.box()")
    inside = gaussians_inside(scene(), box)
    assert 50 < len(inside) < 350
    assert compare(screen, inside, "rgb") < 1
    screen.page.evaluate("crop.checked = false; crop.onchange(); left.value = '1'; left.onchange()")
    screen.until("window.neuralfields.local.draws")
    screen.rest()
    assert compare(screen, scene(antialiased=True), "rgb") < 1


def test_both_draw_on_either_side_and_the_server_alone(screen: Screen) -> None:
    """JPEG and the server's half of the picture: at most 4 of 255 apart."""
    show(screen, "rgb")
    alone = screen.picture()
    for choice in ("both", "server"):
        screen.page.evaluate(f"drawn.value = '{choice}'; drawn.onchange()")
        screen.rest()
        assert screen.page.evaluate("divider.hidden") == (choice == "server")
        screen.page.evaluate("divider.style.opacity = labels.style.opacity = 0")
        shown = screen.picture()
        assert np.abs(shown - alone).mean() < 4 and not np.array_equal(shown, alone)
    screen.page.evaluate("drawn.value = 'page'; drawn.onchange()")
    screen.rest()
    assert np.array_equal(screen.picture(), alone)
    middle = screen.page.evaluate(
        "(() => { const { local, state } = window.neuralfields; return local.layer.pointAt(0.5, 0.5, state.eye); })()"
    )
    assert middle is None or np.abs(middle).max() < 1


def test_the_workers_order(screen: Screen) -> None:
    """Farthest first, ties in order, nothing behind; the same twice with the room taken again."""
    chance = np.random.default_rng(1)
    means = chance.normal(size=(3000, 3)).astype("f4")
    means[100:200] = means[100]
    forward = np.array([0.6, 0.0, 0.8])
    script = """async ([means, forward]) => {
        const { farthestFirst } = await import(new URL("sorter.js", location.href));
        const room = {}, run = (f) => Array.from(farthestFirst(new Float32Array(means), [0, 0, -1], f, 0.2, room));
        return [run(forward), run(forward.map((v) => -v)), run(forward)];
    }"""
    one, other, again = screen.page.evaluate(script, [means.ravel().tolist(), forward.tolist()])
    for order, direction in ((one, forward), (other, -forward)):
        depth = (means.astype(float) - [0, 0, -1]) @ direction
        assert sorted(order) == np.flatnonzero(depth > 0.2).tolist()
        assert np.diff(depth[order]).max() < 1e-5
    assert one == again
    ties = [index for index in one if 100 <= index < 200]
    assert ties == sorted(ties) and len(ties) in (0, 100)
