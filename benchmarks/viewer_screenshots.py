"""Screenshots of the viewer in every mode, of the bundled sample scene: into benchmarks/pictures/viewer-*.png.

python benchmarks/viewer_screenshots.py SAMPLE.nf [ROUGH.nf]     fields of scenes/sample: a good one, and an early one

Needs chromium and the package playwright. The field comes from `nf demo` or `nf fit scenes/sample`; the early one, for
the comparison, from a fit of a few steps.
"""

import argparse
import shutil
import time
from pathlib import Path
from typing import Any

from playwright.sync_api import Page, sync_playwright

import neuralfields

FOLDER = Path(__file__).parent / "pictures"
SAMPLE = Path(__file__).parents[1] / "scenes" / "sample"
WANTED: set[str] = set()  # names of pictures; all where it is empty
FLAGS = [
    "--no-sandbox", "--use-gl=angle", "--use-angle=swiftshader", "--enable-unsafe-swiftshader", "--disable-quic",
    "--no-first-run", "--disable-background-networking", "--disable-component-update", "--disable-sync",
]  # fmt: skip
RESTS = "Boolean(window.neuralfields && window.neuralfields.rests)"


def rest(page: Page) -> None:
    """Until the picture is whole."""
    page.wait_for_timeout(300)
    while not page.evaluate(RESTS):
        time.sleep(0.1)
    page.wait_for_timeout(200)


def opened(browser: Any, url: str, size: tuple[int, int] = (1280, 800), **choices: Any) -> Page:
    """A page that rests, seen from above."""
    page = browser.new_page(viewport={"width": size[0], "height": size[1]}, **choices)
    page.goto(url)
    while not page.evaluate("Boolean(window.neuralfields && window.neuralfields.state.stage)"):
        time.sleep(0.1)
    page.evaluate("right.value = ''; right.onchange()")
    for _ in range(5):
        page.keyboard.press("]")
    rest(page)
    return page


def shoot(page: Page, name: str) -> None:
    """One picture, if it is wanted."""
    if WANTED and name not in WANTED:
        return
    rest(page)
    page.screenshot(path=FOLDER / f"viewer-{name}.png")
    print(name, flush=True)


def desktop(browser: Any, url: str) -> None:
    """Takes every mode, the overlays, a crop, the photo."""
    page = opened(browser, url)
    for key, name in enumerate(("colour", "depth", "opacity", "normals", "error"), start=1):
        page.keyboard.press(str(key))
        shoot(page, name)
    page.keyboard.press("1")
    page.keyboard.press("v")
    page.evaluate("opacity.value = 0.5; opacity.oninput()")
    shoot(page, "photo")
    page.keyboard.press("v")
    for key in "cxb":
        page.keyboard.press(key)
    page.mouse.move(480, 400)
    page.mouse.wheel(0, 450)
    shoot(page, "cameras")
    page.keyboard.press("c")
    page.keyboard.press("b")
    page.click("summary:text-is('Camera')")
    page.click("summary:text-is('Cut')")
    page.check("#crop")
    page.evaluate("z0.value = 0.44; z0.oninput()")
    shoot(page, "cut")
    page.close()


def main() -> None:
    """Takes them all."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("sample", type=Path)
    parser.add_argument("rough", type=Path, nargs="?")
    parser.add_argument("--threads", type=int)
    parser.add_argument("--only", nargs="*", default=[], help="names of pictures, such as depth phone capture")
    chosen = parser.parse_args()
    WANTED.update(chosen.only)
    FOLDER.mkdir(exist_ok=True)
    things = [chosen.sample, *([chosen.rough] if chosen.rough else [])]
    chromium = shutil.which("chromium")
    with neuralfields.view(things, SAMPLE, port=0, threads=chosen.threads) as viewer, sync_playwright() as play:
        browser = play.chromium.launch(executable_path=chromium, args=FLAGS)
        if not WANTED <= {"compare", "phone", "capture"} or not WANTED:
            desktop(browser, viewer.url)
        if chosen.rough and (not WANTED or "compare" in WANTED):
            page = opened(browser, viewer.url)
            page.evaluate("right.value = '1'; right.onchange()")
            page.wait_for_timeout(500)
            while not page.evaluate("window.neuralfields.picture.sides.every((side) => side.header?.last)"):
                time.sleep(0.1)
            shoot(page, "compare")
            page.close()
        if not WANTED or "phone" in WANTED:
            page = opened(browser, viewer.url, (390, 780), device_scale_factor=2, has_touch=True, is_mobile=True)
            page.keyboard.press("r")
            shoot(page, "phone")
        browser.close()
    if WANTED and "capture" not in WANTED:
        return
    with neuralfields.view(SAMPLE, port=0) as viewer, sync_playwright() as play:
        browser = play.chromium.launch(executable_path=chromium, args=FLAGS)
        page = browser.new_page(viewport={"width": 1280, "height": 800})
        page.goto(viewer.url)
        while not page.evaluate("Boolean(window.neuralfields && window.neuralfields.state.stage)"):
            time.sleep(0.1)
        page.wait_for_timeout(500)
        page.screenshot(path=FOLDER / "viewer-capture.png")
        browser.close()


if __name__ == "__main__":
    main()
