"""Hash fields that the page marches: how they are packed, who gets them, and the picture against our renderer's."""

import copy
import json
import struct
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import aiohttp
import numpy as np
import pytest
import torch

import neuralfields
from neuralfields.cameras import fitted
from neuralfields.errors import UsageError
from neuralfields.fields.triplane import FIELD as TriplaneField
from neuralfields.fields.triplane import Config as TriplaneConfig
from neuralfields.models.model import Model, volume_of
from neuralfields.serving import field as packing
from neuralfields.serving.crop import render_box
from neuralfields.serving.messages import camera_of
from neuralfields.serving.server import Server
from neuralfields.serving.shading import paint
from neuralfields.serving.stage import Stage
from neuralfields.serving.subjects import model_subject
from neuralfields.serving.viewer import Viewer
from tests.serving.test_server import talk
from tests.support.browser import Screen, needs_chromium
from tests.support.hash_models import BACKGROUND, hash_model

# One of each kind of loop, swizzle and path that the shader is written with.
SHAPES: dict[str, dict[str, Any]] = {
    "plain": {},
    "two features, turned, an odd number of levels": {"features": 2, "levels": 3, "axes": "yzx", "code": 5},
    "eight features, deep, three cascades": {
        "features": 8, "levels": 2, "cascades": 3, "density_layers": 0, "colour_layers": 3, "degree": 2,
    },
    "contracted": {"cascades": 4, "contraction": "cube", "degree": 3, "hidden": 10},
}  # fmt: skip
QUICK = ("contracted",)  # `plain` is proven with the other modes; a shader takes a software renderer seconds to compile


# ---------------------------------------------------------------- bytes


def test_packed_bytes() -> None:
    """Header and parts at multiples of 8; weights and occupancy exact, the table within half a step of its code."""
    model = hash_model(cascades=2, features=2, levels=3)
    with torch.no_grad():
        model.field.table.mul_(1 + 0.1 * torch.rand(model.field.table.shape))
    data = packing.pack(volume_of(model), version=7)
    magic, layout, length, zero = struct.unpack("<4s3I", data[:16])
    assert (magic, layout, zero, len(data) % 8) == (b"NFHF", 1, 0, 0)
    header = json.loads(data[16 : 16 + length])
    assert header["version"] == 7 and header["density"] == [6, 16, 8] and header["colour"] == [24, 16, 16, 3]
    assert [row[1:] for row in header["levels"]] == model.field.layout.levels.tolist()
    at = 16 + -(-length // 8) * 8
    weights = np.concatenate(
        [w.detach().numpy().ravel() for w in (*model.field.heads.density, *model.field.heads.colour)]
    )
    assert np.array_equal(np.frombuffer(data, "<f4", weights.size, at), weights)
    at += -(-4 * weights.size // 8) * 8
    table = model.field.table.detach().numpy()
    codes = np.frombuffer(data, np.int8, table.size, at).reshape(table.shape)
    for (_, size, offset, _), ranges in zip(model.field.layout.levels.tolist(), header["ranges"], strict=True):
        part, step = slice(offset, offset + size), np.array(ranges) / 127
        assert np.abs(codes[part] * step - table[part]).max() <= 0.5001 * step.max()
        assert np.allclose(np.abs(table[part]).max(0), ranges)
    at += -(-table.size // 8) * 8
    assert np.array_equal(np.frombuffer(data, "<i8", -1, at).reshape(2, -1), model.occupancy.numpy())


@pytest.mark.parametrize(
    ("config", "words"),
    [
        ({"hidden": 65}, "networks of width 64 at most, these have 65"),
        ({"levels": 17, "table": 4}, "networks of width 64 at most, these have 68"),
        ({"density_layers": 6, "colour_layers": 5}, "networks of 9 hidden layers at most"),
    ],
)
def test_what_the_shader_cannot_draw_is_refused(config: dict[str, Any], words: str) -> None:
    volume = volume_of(hash_model(**config))
    assert words in packing.refusal(volume)
    with pytest.raises(UsageError, match="the server draws it"):
        packing.pack(volume)


def test_a_byte_a_number_is_enough(small_model: Model) -> None:
    """A fit's picture with its table as the page gets it: at most 0.2 of 255 apart on average, 4 anywhere."""
    codes, ranges = packing._codes(small_model.field)
    field = copy.deepcopy(small_model.field)
    with torch.no_grad():
        for level, row in zip(field.layout.levels.tolist(), ranges, strict=True):
            part = slice(level[2], level[2] + level[1])
            field.table[part] = torch.from_numpy(codes[part] * (row / 127))
    camera = fitted(small_model.cameras[0], (64, 64))
    seen = [volume_of(one).render(camera, (1.0, 1.0, 1.0)) for one in (small_model, replace(small_model, field=field))]
    difference = 255 * (seen[0].rgb - seen[1].rgb).abs()
    assert 0 < difference.mean() < 0.2 and difference.max() < 4
    assert float(seen[0].rgb.std()) > 0.1


def triplane() -> Model:
    model = hash_model()
    return replace(model, field=TriplaneField(TriplaneConfig()))


def test_who_gets_them(monkeypatch: pytest.MonkeyPatch) -> None:
    """200 for a hash field, 204 for the same version, 404 for another architecture, 413 beyond the limit."""
    models = [hash_model(), triplane()]
    stage = Stage([model_subject(f"{i}", model, 0) for i, model in enumerate(models)], models[0].bounds)
    first, second = json.loads(json.dumps(stage.describe()))["subjects"]
    assert (first["field"], first["why"], first["splats"]) == (True, "", False)
    assert (second["field"], second["why"]) == (False, "the page has no shader for a field of kind 'triplane'")
    server = Server(stage, port=0, threads=1)

    async def work(web: aiohttp.ClientSession, base: str) -> list[int]:
        async with web.get(base + "field/0") as answer:
            assert await answer.read() == packing.pack(volume_of(models[0]))
        names = ("field/0?version=0", "field/0?version=3", "field/1", "field/x", "splats/0", "field/", "field")
        found = [(await web.get(base + name)).status for name in names]
        monkeypatch.setattr(packing, "MOST_BYTES", 1000)
        found.append((await web.get(base + "field/0")).status)
        return found

    try:
        assert talk(server, work) == [204, 200, 404, 404, 404, 404, 404, 413]
    finally:
        server.close()


# ---------------------------------------------------------------- the page


@pytest.fixture(scope="module")
def viewer() -> Iterator[Viewer]:
    models = [hash_model(**shape) for shape in SHAPES.values()] + [triplane()]
    with neuralfields.view(models, port=0, threads=1) as made:
        yield made


@pytest.fixture(scope="module")
def screen(browser: Any, viewer: Viewer) -> Iterator[Screen]:
    """A page of 32 x 24 pixels that complained of nothing at the end."""
    made = small(Screen(browser, viewer.url, (740, 60)))
    yield made
    made.context.close()
    assert made.errors == []


def small(screen: Screen, width: int = 32, height: int = 24) -> Screen:
    """Shows the first subject alone, in so many pixels: SwiftShader draws some thousands a second."""
    screen.until("Boolean(window.neuralfields && window.neuralfields.state.stage)")
    screen.page.evaluate("right.value = ''; right.onchange()")
    screen.page.evaluate(f"view.style.cssText = 'flex: none; width: {width}px; height: {height}px'")
    screen.until(f"canvas.width === {width} && canvas.height === {height}")
    screen.rest()
    return screen


def choose(screen: Screen, subject: int, drawn: str = "page") -> None:
    screen.page.evaluate(f"left.value = '{subject}'; left.onchange(); drawn.value = '{drawn}'; drawn.onchange()")
    if drawn != "server":
        screen.until("window.neuralfields.local.draws")
    screen.rest()


def compare(screen: Screen, model: Model, what: str) -> np.ndarray:
    """Absolute differences in 255ths between page and renderer, of the pixels where there is something to see."""
    screen.page.evaluate(f"document.querySelector('[data-what={what}]').click()")
    screen.rest()
    shown = screen.picture()
    camera, box = camera_of(screen.eye(), shown.shape[1], shown.shape[0]), screen.page.evaluate("neuralfields.box()")
    seen = render_box(volume_of(model), camera, model.background, box and tuple(map(tuple, box)))
    exact = paint(seen, camera, what, model.background).astype(int)
    changed = (exact != exact[0, 0]).any(2)
    if what == "normals":  # beside what is not opaque a difference of points lies along the ray, its side is chance
        solid = np.pad(seen.opacity.numpy() > 0.5, 2)
        changed = np.lib.stride_tricks.sliding_window_view(solid, (5, 5)).all((2, 3))
    assert changed.mean() > 0.05 and exact[changed].std() > 20
    difference = np.abs(shown - exact)[changed]
    mirrored = np.abs(shown - exact[:, ::-1])[changed | changed[:, ::-1]].mean()
    print(what, round(difference.mean(), 3), difference.max(), round(mirrored, 1))
    assert mirrored > 5 * difference.mean()
    return difference


TOLERANCES = {"rgb": 0.1, "depth": 0.5, "opacity": 0.1, "normals": 0.5}  # means in 255ths


@needs_chromium
@pytest.mark.parametrize(
    "name", [name if name in QUICK else pytest.param(name, marks=pytest.mark.slow) for name in SHAPES]
)
def test_colour_is_our_renderers(screen: Screen, name: str) -> None:
    """At most 0.1 of 255 on average over what is seen, whatever the shape of levels, networks and space."""
    choose(screen, list(SHAPES).index(name))
    assert compare(screen, hash_model(**SHAPES[name]), "rgb").mean() < TOLERANCES["rgb"]


@needs_chromium
def test_every_mode_is_our_renderers_picture(screen: Screen) -> None:
    choose(screen, 0)
    for what, tolerance in TOLERANCES.items():
        assert compare(screen, hash_model(), what).mean() < tolerance, what
    point = screen.page.evaluate("neuralfields.pointAt(16.5 / 32, 12.5 / 24)")
    camera = camera_of(screen.eye(), 32, 24)
    seen = volume_of(hash_model()).render(camera, BACKGROUND)
    assert point is not None
    depth = float(np.linalg.norm(np.array(point) - camera.centre))
    assert depth == pytest.approx(float(seen.depth[12, 16]), abs=0.01)


@needs_chromium
def test_a_crop_box_cuts_exactly(screen: Screen) -> None:
    choose(screen, 0)
    screen.page.evaluate("crop.checked = true; x0.value = '0.2'; x1.value = '0.6'; crop.onchange()")
    try:
        assert compare(screen, hash_model(), "rgb").mean() < 0.5
    finally:
        screen.page.evaluate("crop.checked = false; crop.onchange()")


@needs_chromium
@pytest.mark.slow
def test_coarse_while_the_eye_moves_and_whole_at_rest(screen: Screen) -> None:
    """A GPU of 300 pixels a millisecond: 14 ms of a moving picture; at rest the whole one in bands of 30 ms."""
    choose(screen, 0)
    found = screen.page.evaluate(
        """async () => {
            const page = neuralfields, { layer } = page.local, { march, begin } = layer, sizes = [], rows = [];
            Object.defineProperty(layer, "pace", { get: () => 300, set: () => {}, configurable: true });
            layer.march = (job, aspect, count) => { rows.push(count); };
            layer.begin = (...given) => { const job = begin.apply(layer, given); sizes.push(job.size); return job; };
            view.style.cssText = "flex: none; width: 200px; height: 150px";
            while (canvas.width !== 200 || !page.rests) await new Promise(requestAnimationFrame);
            const first = sizes.splice(0), bands = rows.splice(0).slice(first.length - 1);
            const moving = [];
            for (let i = 0; i < 4; i++) {
                const before = sizes.length;
                page.controls.turn(0.1, 0);
                page.controls.moved();
                while (sizes.length === before) await new Promise(requestAnimationFrame);
                moving.push(sizes[before]);
            }
            while (!page.rests) await new Promise(requestAnimationFrame);
            Object.assign(layer, { march, begin });
            delete layer.pace;
            layer.pace = 100;
            view.style.cssText = "flex: none; width: 32px; height: 24px";
            return [first.slice(-2), bands, moving, sizes.slice(-1)];
        }"""
    )
    screen.rest()
    levels = [[75, 56], [200, 150]]
    assert found[0] == levels and found[2] == 4 * levels[:1] and found[3] == levels[1:]
    assert found[1] == [45, 45, 45, 15]


@needs_chromium
def test_the_chooser_and_who_draws_instead(screen: Screen) -> None:
    """Without a GPU the server draws unless it is chosen; another architecture has no choice, and says why."""
    facts = (
        "[neuralfields.local.draws, document.getElementById('drawn-why').textContent, neuralfields.local.needsServer]"
    )
    choose(screen, 0, "server")
    assert screen.page.evaluate(facts) == [False, "this browser has no graphics processor: the server draws", True]
    served = screen.picture()
    choose(screen, 0, "both")
    assert screen.page.evaluate(facts)[::2] == [True, True] and not screen.page.evaluate("divider.hidden")
    choose(screen, 0)
    assert screen.page.evaluate(facts)[::2] == [True, False] and screen.page.evaluate("divider.hidden")
    assert screen.page.evaluate("strip.textContent").endswith("drawn here")
    assert np.abs(screen.picture() - served).mean() < 4  # JPEG
    screen.page.evaluate(f"left.value = '{len(SHAPES)}'; left.onchange()")
    screen.rest()
    why = "the page has no shader for a field of kind 'triplane': the server draws"
    assert screen.page.evaluate(facts) == [False, why, True]
    assert screen.page.evaluate("!document.getElementById('drawn-why').hidden")
