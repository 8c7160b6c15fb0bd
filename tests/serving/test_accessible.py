"""The pages by axe-core's rules: nothing serious or critical, in the live page, in a capture's, in a shared file."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from axe_playwright_python.sync_playwright import Axe

import neuralfields
from neuralfields.codecs.splats import write_gaussians
from neuralfields.serving.server import Server
from tests.serving.test_share import shared
from tests.support.browser import Screen, needs_chromium
from tests.support.splats import lopsided
from tests.support.view_ball import ball_stage

GRAVE = ("serious", "critical")


def findings(screen: Screen) -> list[str]:
    """Serious and critical findings, a line for each element."""
    found = Axe().run(screen.page).response["violations"]
    return [
        f"{one['id']}: {node['html'][:120]} {' '.join(node['failureSummary'].split())[:200]}"
        for one in found
        if one["impact"] in GRAVE
        for node in one["nodes"]
    ]


READY = "Boolean(window.neuralfields && window.neuralfields.state.stage)"


@pytest.fixture(scope="module")
def live(browser: Any) -> Iterator[Screen]:
    """The page of a ball, with every part of the panel open."""
    server = Server(ball_stage(), port=0, threads=1)
    screen = Screen(browser, server.url, (900, 700))
    screen.until(READY)
    screen.page.evaluate("for (const part of document.querySelectorAll('details')) part.open = true")
    yield screen
    screen.context.close()
    server.close()


@needs_chromium
@pytest.mark.parametrize("size", [(900, 700), (360, 640)], ids=["desktop", "phone"])
def test_the_live_page(live: Screen, size: tuple[int, int]) -> None:
    live.page.set_viewport_size({"width": size[0], "height": size[1]})
    live.until(f"innerWidth === {size[0]} && neuralfields.rests")
    assert findings(live) == []


@needs_chromium
def test_a_capture(browser: Any, tiny_capture: Path) -> None:
    with neuralfields.view(tiny_capture, port=0, threads=1) as viewer:
        screen = Screen(browser, viewer.url, (900, 700))
        screen.until(READY)
        assert findings(screen) == []
        screen.context.close()


@needs_chromium
def test_a_shared_file(browser: Any, tmp_path: Path) -> None:
    """Itself and with each of its dialogs open."""
    write_gaussians(lopsided(count=50), tmp_path / "a.nfz")
    page = shared(tmp_path, tmp_path / "a.nfz", author="A", licence="CC0", description="Some words.")
    screen = Screen(browser, page.as_uri(), (500, 400), offline=True)
    screen.until(READY)
    for dialog in ("", "about", "help"):
        if dialog:
            screen.page.click(f"#{dialog}")
            assert screen.page.evaluate("document.querySelectorAll('dialog[open]').length") == 1
        assert findings(screen) == [], dialog
        if dialog:
            screen.page.keyboard.press("Escape")
    screen.context.close()


@needs_chromium
def test_a_fault_would_be_found(live: Screen) -> None:
    live.page.set_viewport_size({"width": 900, "height": 700})
    live.page.evaluate("document.getElementById('canvas').insertAdjacentHTML('afterend', '<button></button>')")
    assert [line.split(":")[0] for line in findings(live)] == ["button-name"]
