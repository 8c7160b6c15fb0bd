"""A field without a shader: the page asks for a stand-in and shows it while the eye moves, the server's at rest."""

import asyncio
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import aiohttp
import numpy as np
import pytest
import torch

from neuralfields.cameras import Camera, look_at
from neuralfields.fields.triplane import FIELD as TriplaneField
from neuralfields.fields.triplane import Config
from neuralfields.models.model import Model, volume_of
from neuralfields.pictures.panels import to_uint8
from neuralfields.serving import stand_in
from neuralfields.serving.messages import camera_of
from neuralfields.serving.server import Server
from neuralfields.serving.stage import Stage
from neuralfields.serving.subjects import model_subject
from tests.serving.test_server import page, talk
from tests.support.browser import Screen, needs_chromium
from tests.support.forked import Forked
from tests.support.hash_models import hash_model

SMALL = ("levels=2", "table=8", "finest=16", "hidden=16")
WORDS = ("--steps", "2", "--set", *SMALL)


def planes() -> Model:
    """A small tri-plane model, grey, within a small cube, with a ring of cameras."""
    model = hash_model()
    inside = torch.zeros(1, 32, 32, 32, dtype=torch.bool)
    inside[:, 13:19, 13:19, 13:19] = True
    model = replace(model, occupancy=torch.where(inside.reshape(1, -1), model.occupancy.new_tensor(-1), 0))
    field = TriplaneField(Config(resolution=16, doublings=0))
    centre, cameras = np.array(model.bounds.centre), []
    for angle in np.linspace(0, 2 * np.pi, 6, endpoint=False):
        pose = look_at(centre + 2 * np.array([np.cos(angle), np.sin(angle), 0.4]), centre, np.array([0.0, 0.0, 1.0]))
        cameras.append(Camera(pose, 16, 12, 14.0, 14.0, 8.0, 6.0))
    seen = {"cameras": tuple(cameras), "held_out": (1,)}  # one view to compare at the end
    return Model(field, model.bounds, model.occupancy, background=(0.1, 0.3, 0.6), **seen)


def served(words: tuple[str, ...] = WORDS) -> Server:
    subject = model_subject("planes", planes(), 0)
    return Server(Stage([subject], planes().bounds), port=0, threads=1, stand_ins=words)


@pytest.fixture
def server() -> Iterator[Server]:
    made = served()
    yield made
    made.close()
    assert not made._thread.is_alive()


def told(stage: dict[str, Any]) -> tuple[bool, bool, str]:
    subject = stage["subjects"][0]
    return subject["field"], subject["stands_in"], subject["why"]


class Copy:
    """What the server starts, as a copy of a process that has imported torch (`forked.py`)."""

    def __init__(self, words: list[str], folder: Path) -> None:
        self.process = Forked(words, folder / "said")
        self.pid = self.process.pid

    @property
    def returncode(self) -> int | None:
        return self.process.returncode

    async def communicate(self) -> tuple[bytes, bytes]:
        out, err = await asyncio.to_thread(self.process.communicate, 60)
        return out.encode(), err.encode()


def test_it_is_distilled_when_a_page_asks(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Told when it begins and when it is there; packed as a hash field; a second request begins nothing."""

    async def copied(*command: str, **streams: int) -> Copy:
        begin = len(stand_in.isolated("neuralfields"))
        assert command[:begin] == stand_in.isolated("neuralfields") and set(streams) == {"stdin", "stdout", "stderr"}
        return Copy(["-m", "neuralfields", *command[begin:]], tmp_path)

    monkeypatch.setattr(stand_in.asyncio, "create_subprocess_exec", copied)

    async def work(web: aiohttp.ClientSession, base: str) -> None:
        async with page(web, base) as one:
            stage = await one.next("stage")
            assert told(stage) == (False, False, "the page has no shader for a field of kind 'triplane'")
            assert stage["subjects"][0]["may_stand_in"]
            for _ in range(2):
                await one.send(type="stand_in", subject=0)
            assert told(await one.next("stage"))[2].endswith("distilled, to stand in while the view moves")
            stage = await one.next("stage")
            assert told(stage)[:2] == (True, True) and "stands in while the view moves" in told(stage)[2]
            async with web.get(base + "field/0") as answer:
                assert answer.status == 200 and (await answer.read())[:4] == b"NFHF"

    talk(server, work)


def test_what_fails_is_said() -> None:
    """By the very process; it fails before it has imported torch."""
    server = served(("--steps", "0"))

    async def work(web: aiohttp.ClientSession, base: str) -> None:
        async with page(web, base) as one:
            await one.next("stage")
            await one.send(type="stand_in", subject=0)
            await one.next("stage")
            field, stands_in, why = told(await one.next("stage"))
            assert (
                not field
                and not stands_in
                and "none could be distilled to stand in" in why
                and "--steps 0: must be" in why
            )

    try:
        talk(server, work)
    finally:
        server.close()


def test_its_process_ends_with_the_viewer() -> None:
    """A distillation that would take an hour does not hold the server."""
    server = served(("--minutes", "60", "--set", *SMALL))

    async def work(web: aiohttp.ClientSession, base: str) -> None:
        async with page(web, base) as one:
            await one.next("stage")
            await one.send(type="stand_in", subject=0)
            await one.next("stage")

    talk(server, work)
    server.close()
    assert not server._thread.is_alive()


@needs_chromium
def test_the_page_shows_it_while_the_eye_moves(browser: Any, server: Server) -> None:
    subject, stand_in = server.stage.subjects[0], volume_of(hash_model())
    subject.volume, subject.stands_in = lambda: stand_in, True  # as if it had been distilled
    screen = Screen(browser, server.url, (740, 60))
    look = screen.page.evaluate
    screen.until("Boolean(window.neuralfields && window.neuralfields.state.stage)")
    look("view.style.cssText = 'flex: none; width: 48px; height: 36px'")
    screen.rest()
    look("drawn.value = 'page'; drawn.onchange()")  # without a GPU the server draws, and nothing is asked for
    screen.until("neuralfields.local.standsIn")
    assert not look("document.getElementById('drawn-why').hidden")
    screen.rest()
    assert not look("neuralfields.local.shows")
    shown = screen.picture()
    camera = camera_of(screen.eye(), shown.shape[1], shown.shape[0])
    exact = to_uint8(volume_of(planes()).render(camera, (0.1, 0.3, 0.6)).rgb)
    assert np.abs(shown - exact).mean() < 3
    look("neuralfields.connection.send = () => true")  # no picture comes from the server any more
    screen.page.keyboard.press("ArrowLeft")
    screen.until("neuralfields.local.shows && neuralfields.local.layer.shown")
    screen.until("document.getElementById('strip').textContent.includes('a stand-in, drawn here')")
    screen.context.close()
    assert screen.errors == []
