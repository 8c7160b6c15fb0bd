"""A real browser for the tests of the page: Debian's chromium, WebGL2 drawn by its software renderer."""

import io
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from neuralfields.serving.messages import Eye

CHROMIUM = shutil.which("chromium")
# As the last of its kind it replaces playwright's, whose choice is the first line. The others load two pages of the
# browser's own, for suggestions below the address, and a spare process per context: 1.2 seconds of a core each time.
NOT = (
    "DestroyProfileOnBrowserClose,HttpsUpgrades,PaintHolding,AimEnabled,LensOverlay,MediaRouter,OptimizationHints,"
    "WebUIOmniboxPopup,WebUIOmniboxAimPopup,SpareRendererForSitePerProcess"
)
FLAGS = [
    "--no-sandbox", "--use-gl=angle", "--use-angle=swiftshader", "--enable-unsafe-swiftshader", "--disable-quic",
    "--in-process-gpu", "--disable-gpu-compositing",  # a page is there in half the time
    "--no-first-run", "--disable-background-networking", "--disable-component-update", "--disable-sync",
    f"--disable-features={NOT}",
]  # fmt: skip
SIZE = (740, 240)  # the panel takes 320 of them
OVER = "#gizmo, #strip, #hint, #message, #card, #tools, #divider, #labels"  # what lies over the canvas
STATE = """(() => {
    const { connection, number, picture, state, stale, dirty } = window.neuralfields ?? {};
    const headers = picture?.sides.map(({ header }) => header && [header.number, header.frame, header.last]);
    return { line: connection?.socket.readyState, number, headers, stage: state?.stage != null, stale, dirty,
             hidden: document.hidden, ready: document.readyState };
})()"""
STALL = "GPU stall due to ReadPixels"  # chromium's own: without a GPU it reads what it shows back from WebGL
RESTS = "Boolean(window.neuralfields && window.neuralfields.rests)"
REMEMBER = """window.atFirst = [...document.querySelectorAll("input, select, details")]
    .map((one) => [one, one.value, one.checked, one.open]); null"""
RESTORE = """(() => {
    for (const [one, value, checked, open] of window.atFirst) {
        if (one.open !== open) one.open = open;
        if (one.type === "file" || (one.value === value && one.checked === checked)) continue;
        Object.assign(one, one.type === "checkbox" ? { checked } : { value });
        one.oninput?.({ target: one });
        one.onchange?.({ target: one });
    }
    document.activeElement.blur();
    if (neuralfields.panel.flipped) document.getElementById("slice-flip").onclick();
    neuralfields.mode("rgb");
    neuralfields.home();
    neuralfields.moved(true);
})()"""
needs_chromium = pytest.mark.skipif(CHROMIUM is None, reason="no chromium on this machine (Debian's package chromium)")


class Screen:
    """A page of the browser on a viewer, with what it said and asked for."""

    def __init__(self, browser: Any, url: str, size: tuple[int, int] = SIZE, **context: Any) -> None:
        context = {"viewport": {"width": size[0], "height": size[1]}, "reduced_motion": "reduce"} | context
        self.context = browser.new_context(**context)
        self.page, self.url = self.context.new_page(), url
        self.errors: list[str] = []
        self.asked: list[str] = []
        self.page.on("console", self._hear)
        self.page.on("pageerror", lambda error: self.errors.append(str(error)))
        self.page.on("request", lambda request: self.asked.append(request.url))
        self.page.on("websocket", lambda line: self.asked.append(line.url))
        self.page.set_default_timeout(15_000)
        self.page.goto(url)

    def _hear(self, message: Any) -> None:
        if message.type in ("error", "warning") and STALL not in message.text:
            self.errors.append(message.text)

    def until(self, expression: str, seconds: float = 60) -> None:
        """The page's own policy forbids to evaluate in it, so it is asked from outside."""
        end = time.monotonic() + seconds
        while not self.page.evaluate(expression):
            if time.monotonic() > end:
                state = self.page.evaluate(STATE)
                raise AssertionError(f"{expression} is not true after {seconds} s; {self.errors}; {state}")
            time.sleep(0.03)

    def rest(self) -> None:
        self.page.wait_for_timeout(60)  # a change is asked for at the next animation frame
        self.until(RESTS)
        self.page.wait_for_timeout(40)  # and drawn at one

    def remember(self) -> None:
        """Keeps what the panel says, for `restore`."""
        self.page.evaluate(REMEMBER)

    def restore(self) -> None:
        """The live page as it was when `remember` was called, at home: to load it anew takes seconds."""
        self.page.evaluate(RESTORE)
        self.rest()

    def picture(self) -> np.ndarray:
        """The canvas as it is shown, without what lies over it."""
        self.page.evaluate(f"for (const over of document.querySelectorAll('{OVER}')) over.style.opacity = 0")
        box = self.page.locator("#canvas").bounding_box()
        clip = {name: box[name] for name in ("x", "y", "width", "height")}
        return np.asarray(Image.open(io.BytesIO(self.page.screenshot(clip=clip))).convert("RGB")).astype(int)

    def drag(self, dx: int, dy: int, button: str = "left") -> None:
        x, y = 150, 110
        self.page.mouse.move(x, y)
        self.page.mouse.down(button=button)
        self.page.mouse.move(x + dx, y + dy, steps=4)
        self.page.mouse.up(button=button)

    def eye(self) -> Eye:
        """Where the page looks from."""
        found = self.page.evaluate("window.neuralfields.look().eye")
        return Eye(found["pose"], found["fov"])

    def save(self, press: Callable[[], None]) -> tuple[str, bytes]:
        """The file that the page hands over once `press` was done."""
        with self.page.expect_download(timeout=60_000) as caught:
            press()
        return caught.value.suggested_filename, Path(caught.value.path()).read_bytes()


@pytest.fixture(scope="package")
def browser() -> Iterator[Any]:
    """Started once: it takes three seconds of a core. Its loop is alive between tests (`own_loop.py`)."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as play:
        made = play.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield made
        made.close()
