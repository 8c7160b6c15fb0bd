"""A shared file: one page that draws itself from a disk with the network cut, by hand, touch and keyboard."""

import base64
import json
import re
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from neuralfields import cli
from neuralfields.cameras import Camera, look_at
from neuralfields.codecs.splats import splat_model, write_gaussians
from neuralfields.compression import container
from neuralfields.compression.nfz import decode
from neuralfields.errors import UsageError
from neuralfields.models.model import Model
from neuralfields.models.nf_file import save
from neuralfields.options.models import ShareOptions
from neuralfields.pictures.camera_paths import write_keyframes
from neuralfields.pictures.panels import to_uint8
from neuralfields.serving import share as pages
from neuralfields.serving.messages import camera_of
from neuralfields.verbs import share
from tests.support.browser import Screen, needs_chromium
from tests.support.splats import lopsided

HOSTILE = "</title></script><script>window.bad = 1</script><img src=x onerror='window.bad=1'>\"' onload=\"&lt;--><!--"
SIZE = (280, 200)


def shared(folder: Path, *inputs: Path, **options: Any) -> Path:
    out = folder / "page.html"
    share.run(ShareOptions(inputs, out=out, quiet=True, overwrite=True, **options))
    return out


def element(page: str, name: str) -> str:
    """The text of a script element."""
    return re.search(rf'<script [^>]*id="{name}">([^<]*)</script>', page)[1]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two .nfz, `a` and the same with every colour doubled, `b`; `page.html` of the first, `two.html` of both."""
    made = tmp_path_factory.mktemp("shared")
    given = lopsided()
    write_gaussians(given, made / "a.nfz")
    given.harmonics[:, 0] *= 2
    write_gaussians(given, made / "b.nfz")
    write_keyframes(made / "path.json", [looking(x) for x in (-1.0, 0.5, 1.5)])
    shared(made, made / "a.nfz", made / "b.nfz").rename(made / "two.html")
    texts = {
        "title": f"T {HOSTILE}",
        "author": f"A {HOSTILE}",
        "description": f"D {HOSTILE}",
        "licence": f"L {HOSTILE}",
    }
    shared(made, made / "a.nfz", **texts).rename(made / "hostile.html")
    shared(made, made / "a.nfz", path=made / "path.json", seconds=0.5)
    return made


def looking(x: float) -> Camera:
    pose = look_at(np.array([x, -0.4, -2.0]), np.zeros(3), np.array([0.0, -1.0, 0.0]))
    return Camera(pose, 64, 48, 60.0, 60.0, 32.0, 24.0)


# ---------------------------------------------------------------- the file


def test_what_the_file_holds(folder: Path) -> None:
    """The .nfz as it was given, code within its limit, a policy that lets nothing out, no address of elsewhere."""
    page = (folder / "page.html").read_text()
    assert base64.b64decode(element(page, "scene-0")) == (folder / "a.nfz").read_bytes()
    assert pages.size_of_page(("splats", "editor")) < 60_000
    assert zlib.decompress(base64.b64decode(element(page, "code"))).decode() == pages.code_of_page()
    policy = re.search(r'Security-Policy" content="([^"]*)"', page)[1]
    assert policy.startswith("default-src 'none'; ") and "unsafe" not in policy and "http" not in policy
    assert not re.findall(r"https?:|//[a-z]+\.[a-z]{2,}|\burl\(|@import|import\(|\bimport ", page.split("<script>")[0])
    assert not re.findall(r"https?:|\bfetch\(|XMLHttp|WebSocket|sendBeacon|import\.meta", pages.code_of_page())
    stage = json.loads(element(page, "stage"))
    assert stage["subjects"][0]["name"] == "a" and stage["cameras"] == [] and len(stage["path"]["eyes"]) == 4
    assert str(folder) not in page  # nothing of this machine


def test_views_are_cameras_of_the_model(tmp_path: Path, folder: Path) -> None:
    model = splat_model(folder / "a.nfz")
    cameras = tuple(looking(0.1 * i) for i in range(9))
    names = tuple(f"photos/deep/{i:03d}.jpg" for i in range(9))
    path = tmp_path / "a.nf"
    save(Model(model.field, model.bounds, cameras=cameras, camera_names=names), path)
    page = shared(tmp_path, path, views=3, quality=2.0, background="white").read_text()
    stage = json.loads(element(page, "stage"))
    assert [camera["name"] for camera in stage["cameras"]] == ["000", "004", "008"]
    assert stage["eye"]["pose"] == cameras[0].world_from_camera[:3].ravel().tolist()
    assert stage["subjects"][0]["background"] == [1, 1, 1] and "--behind: rgb(255, 255, 255)" in page
    assert len(decode(base64.b64decode(element(page, "scene-0")), "it")) <= 400
    assert json.loads(element(shared(tmp_path, path, views=0, quality=2.0).read_text(), "stage"))["cameras"] == []


def test_what_is_refused(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(UsageError, match=r"is a \.html"):
        share.run(ShareOptions((folder / "a.nfz",), out=tmp_path / "a.zip"))
    with pytest.raises(UsageError, match="3 models: one is shared, or two"):
        ShareOptions((Path("a"), Path("b"), Path("c")))
    monkeypatch.setattr(pages, "MOST_BYTES", 50_000)
    with pytest.raises(UsageError, match=r"the page would have .* kB, at most 50.0 kB .* nf compress"):
        shared(tmp_path, folder / "a.nfz")
    assert not list(tmp_path.glob("*.html")) and capsys.readouterr().out == ""


def test_the_command(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["share", str(folder / "a.nfz"), "-o", str(tmp_path / "x.html"), "--quiet"]) == 0
    assert re.search(r"x.html: \d+\.\d kB \(scene \d+\.\d kB, the viewer \d\d\.\d kB\)", capsys.readouterr().out)
    assert cli.main(["share", str(folder / "a.nfz"), "-o", str(tmp_path / "x.html"), "--json"]) == 2
    assert "--overwrite" in capsys.readouterr().err


# ---------------------------------------------------------------- in the browser


class Shared(Screen):
    """A shared file, opened from the disk with the network cut; whole pixels although there is no GPU."""

    def __init__(
        self, browser: Any, path: Path, size: tuple[int, int] = SIZE, whole: bool = True, **context: Any
    ) -> None:
        super().__init__(browser, path.as_uri(), size, offline=True, **context)
        self.until("Boolean(window.neuralfields)")
        if whole:
            self.until("neuralfields.layers.every((layer) => layer.begun)")
            self.page.evaluate("neuralfields.state.resolution = 1; neuralfields.moved(true)")
            self.rest()

    def close(self) -> None:
        """It asked for nothing but itself and its workers, and complained of nothing."""
        self.context.close()
        assert self.errors == []
        assert [url for url in self.asked[1:] if not url.startswith("blob:null/")] == [] and len(self.asked) < 8


@pytest.fixture(scope="module")
def screen(browser: Any, folder: Path) -> Iterator[Shared]:
    made = Shared(browser, folder / "page.html")
    yield made
    made.close()


def expected(screen: Screen, path: Path, shape: tuple[int, ...]) -> np.ndarray:
    model = splat_model(path)
    return to_uint8(model.renderable().render(camera_of(screen.eye(), shape[1], shape[0]), (0.0, 0.0, 0.0)).rgb).astype(
        int
    )


@needs_chromium
def test_it_draws_our_rasterisers_picture(screen: Shared, folder: Path) -> None:
    """At most 1 of 255 apart where there is something; all of it within the window; the poster gone."""
    shown = screen.picture()
    exact = expected(screen, folder / "a.nfz", shown.shape)
    seen = exact.max(2) > 20
    assert np.abs(shown - exact)[seen].mean() < 1 and exact[seen].std() > 15
    rows, columns = np.nonzero(seen)
    assert 0 < rows.min() and rows.max() < SIZE[1] - 1 and 0 < columns.min() and columns.max() < SIZE[0] - 1
    assert np.ptp(rows) > 0.6 * SIZE[1] or np.ptp(columns) > 0.6 * SIZE[0]
    assert screen.page.evaluate("document.body.className") == "shared ready"


@needs_chromium
def test_the_poster_stands_where_the_picture_will(screen: Shared) -> None:
    shown = screen.picture()
    screen.page.evaluate("poster.style.cssText = 'opacity: 1; visibility: visible; transition: none'")
    poster = screen.picture()
    screen.page.evaluate("poster.style.cssText = 'transition: none'")
    assert np.abs(poster - shown).mean() < 4 and not np.array_equal(poster, shown)
    assert np.abs(poster[:, ::-1] - shown).mean() > 8


@needs_chromium
def test_the_keyboard_alone(screen: Shared) -> None:
    page, before = screen.page, screen.eye()
    seen = set()
    for _ in range(9):
        page.keyboard.press("Tab")
        seen.add(page.evaluate("document.activeElement.id"))
    assert {"home", "play", "modes", "about", "help"} <= seen
    page.keyboard.press("?")
    assert page.evaluate("document.getElementById('help-text').open")
    page.keyboard.press("Escape")
    page.keyboard.press("i")
    page.keyboard.press("Enter")  # the only button of the dialog has the focus
    assert not page.evaluate("[...document.querySelectorAll('dialog')].some((one) => one.open)")
    plain = screen.picture()
    page.keyboard.press("2")
    screen.rest()
    assert page.input_value("#modes") == "depth" and np.abs(screen.picture() - plain).mean() > 3
    page.keyboard.press("1")
    page.focus("#canvas")
    page.keyboard.press("ArrowLeft")  # shorter than a frame, and yet it turns
    screen.until(f"neuralfields.state.eye.right[0] !== {before.pose[0]}")
    page.keyboard.press("r")
    assert screen.eye().pose == pytest.approx(before.pose) and screen.eye().fov == pytest.approx(before.fov)


@needs_chromium
def test_a_click_reads_and_shift_measures(screen: Shared) -> None:
    """Place, depth and colour of what is seen there, as our rasteriser has it; a cross that the scene hides."""
    screen.rest()
    page, shown = screen.page, screen.picture()
    bright = np.argwhere(shown.max(2) > 150)
    y, x = bright[len(bright) // 2].tolist()
    box = page.locator("#canvas").bounding_box()
    page.mouse.click(box["x"] + x + 0.5, box["y"] + y + 0.5)
    place, depth, colour = page.text_content("#probe").split("   ")
    point, eye = np.array([float(value) for value in place.split(",")]), np.array(screen.eye().pose).reshape(3, 4)
    local = eye[:, :3].T @ (point - eye[:, 3])
    assert float(depth.removeprefix("depth ")) == pytest.approx(local[2], abs=0.01)
    camera = camera_of(screen.eye(), shown.shape[1], shown.shape[0])
    assert camera.fx * local[:2] / local[2] + [camera.cx, camera.cy] == pytest.approx([x + 0.5, y + 0.5], abs=0.6)
    assert np.abs([int(colour[i : i + 2], 16) for i in (1, 3, 5)] - shown[y, x]).max() <= 1
    screen.rest()
    assert np.abs(screen.picture() - shown).max() > 20 and page.evaluate("neuralfields.read.count") == 6
    other = shown[y, x + 6 :].max(1).argmax() + x + 6
    page.keyboard.down("Shift")
    page.mouse.click(box["x"] + other + 0.5, box["y"] + y + 0.5)
    page.keyboard.up("Shift")
    assert page.text_content("#probe").startswith("distance ") and page.evaluate("neuralfields.read.count") == 14
    page.keyboard.press("Escape")
    screen.rest()
    assert page.is_hidden("#probe") and np.array_equal(screen.picture(), shown)


@needs_chromium
def test_it_plays_its_path(screen: Shared) -> None:
    screen.page.focus("#canvas")
    screen.page.keyboard.press(" ")
    assert screen.page.get_attribute("#play", "aria-pressed") == "true"
    screen.until("neuralfields.playing === null")
    last = looking(1.5).world_from_camera[:3].ravel()
    assert screen.eye().pose == pytest.approx(last.tolist(), abs=1e-5)
    screen.page.keyboard.press("r")


@needs_chromium
def test_every_control_has_a_name(screen: Shared) -> None:
    """Of what a screen reader needs: language, one heading, names of controls, no empty or double id."""
    assert screen.page.evaluate("""(() => {
        const named = (one) => (one.getAttribute("aria-label") || one.textContent || one.alt || "").trim();
        const all = [...document.querySelectorAll("button, select, canvas, progress, img, nav, [role=slider]")];
        const ids = [...document.querySelectorAll("[id]")].map((one) => one.id);
        return { lang: document.documentElement.lang, headings: document.querySelectorAll("h1").length,
                 nameless: all.filter((one) => !named(one)).length, doubles: ids.length - new Set(ids).size };
    })()""") == {"lang": "en", "headings": 1, "nameless": 0, "doubles": 0}  # fmt: skip


@needs_chromium
def test_two_are_compared(browser: Any, folder: Path) -> None:
    """Left of the line the first, right of it the second, from one eye; moved by keys."""
    screen = Shared(browser, folder / "two.html")
    assert [screen.page.inner_text(f"#label-{side}") for side in ("left", "right")] == ["a", "b"]
    for keys, share_ in (([], 0.5), (["ArrowLeft"] * 10, 0.3), (["End"], 0.98)):
        screen.page.focus("#divider")
        for key in keys:
            screen.page.keyboard.press(key)
        screen.rest()
        shown = screen.picture()
        edge = round(share_ * SIZE[0])
        first, second = (expected(screen, folder / f"{name}.nfz", shown.shape) for name in "ab")
        exact = np.concatenate([first[:, :edge], second[:, edge:]], 1)
        seen = exact.max(2) > 20
        assert np.abs(shown - exact)[seen].mean() < 1.2, share_
    assert int(screen.page.get_attribute("#divider", "aria-valuenow")) == 98
    screen.close()


@needs_chromium
def test_texts_stay_texts(browser: Any, folder: Path) -> None:
    screen = Shared(browser, folder / "hostile.html", whole=False)
    page = screen.page
    assert page.title() == f"T {HOSTILE}" and page.inner_text("#title") == f"T {HOSTILE}"
    assert page.inner_text("#by") == f"A {HOSTILE} · L {HOSTILE}"
    page.keyboard.press("i")
    assert page.inner_text("#about-text .long") == f"D {HOSTILE}"
    assert page.evaluate("[typeof window.bad, document.images.length, document.scripts.length < 4]") == [
        "undefined", 1, True,
    ]  # fmt: skip
    screen.until("neuralfields.rests")
    screen.close()


@needs_chromium
def test_fingers_on_a_phone(browser: Any, folder: Path) -> None:
    """One turns, two come closer and move; everything can be reached and nothing sticks out."""
    screen = Shared(browser, folder / "page.html", (360, 640), whole=False, has_touch=True, is_mobile=True)
    page, before = screen.page, screen.eye()
    page.evaluate("neuralfields.state.resolution = 0.1")
    assert page.evaluate("document.documentElement.scrollWidth") <= 360
    canvas = page.locator("#canvas").bounding_box()
    for name in ("#home", "#play", "#modes", "#about", "#help"):
        box = page.locator(name).bounding_box()
        assert box["x"] >= 0 and box["x"] + box["width"] <= 360 and box["y"] + box["height"] <= 640
        assert min(box["width"], box["height"]) >= 30 and box["y"] > canvas["y"] + canvas["height"]
    line = screen.context.new_cdp_session(page)

    def touch(kind: str, *points: tuple[int, int]) -> None:
        spots = [{"x": x, "y": y, "id": i} for i, (x, y) in enumerate(points)]
        line.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": spots})

    def away() -> float:
        return page.evaluate("((p, e) => Math.hypot(p[0] - e[0], p[1] - e[1], p[2] - e[2]))"
                             "(neuralfields.state.pivot, neuralfields.state.eye.position)")  # fmt: skip

    far, pivot = away(), page.evaluate("neuralfields.state.pivot")
    touch("touchStart", (100, 200))
    touch("touchMove", (160, 210))
    touch("touchEnd")
    assert (
        screen.eye() != before and away() == pytest.approx(far) and page.evaluate("neuralfields.state.pivot") == pivot
    )
    touch("touchStart", (150, 300), (200, 300))
    for i in range(1, 6):
        touch("touchMove", (150 - 10 * i, 300), (200 + 10 * i, 300))
    touch("touchEnd")
    near = away()
    assert near < 0.6 * far
    touch("touchStart", (150, 300), (200, 300))
    for i in range(1, 6):
        touch("touchMove", (150, 300 + 8 * i), (200, 300 + 8 * i))
    touch("touchEnd")
    assert away() == pytest.approx(near, rel=0.05) and page.evaluate("neuralfields.state.pivot") != pivot
    screen.close()


@needs_chromium
def test_a_damaged_scene_says_so_over_its_poster(browser: Any, folder: Path, tmp_path: Path) -> None:
    page = (folder / "page.html").read_text()
    scene = element(page, "scene-0")
    parts = container.unpack((folder / "a.nfz").read_bytes(), "a")
    damaged = bytearray(container.pack(parts))
    damaged[-9] ^= 16
    (tmp_path / "a.html").write_text(page.replace(scene, base64.b64encode(damaged).decode()))
    screen = Shared(browser, tmp_path / "a.html", whole=False)
    screen.until("!document.getElementById('message').hidden")
    assert screen.page.inner_text("#message") == "its axes are damaged (checksum); get the file again"
    assert screen.page.evaluate("document.body.className") == "shared" and screen.page.is_visible("#poster")
    screen.close()
