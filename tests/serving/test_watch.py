"""A fit that is watched: the same bits, a stated share of the time, and a hand on it."""

import asyncio
import queue
import socket
import threading
import time
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest import mock

import aiohttp
import pytest
import torch

from neuralfields.captures.readers import read_scene
from neuralfields.errors import InputError, UsageError
from neuralfields.models.model import Model
from neuralfields.models.nf_file import load
from neuralfields.options.fit import FitOptions
from neuralfields.serving import watch as watch_module
from neuralfields.serving.watch import CURVE, MOST_SAVED, SHARE, FitWorker, Watch, Watching, watch_fit
from neuralfields.training.fit import fit_scene
from neuralfields.verbs import fit
from neuralfields.verbs import fit as fit_verb
from tests.support.make_captures import photo
from tests.support.own_loop import run_in_own_loop
from tests.support.settings import training_settings
from tests.support.small_fit import SMALL
from tests.support.view_ball import Page, view


@pytest.fixture
def options(tiny_capture: Path, tmp_path: Path) -> FitOptions:
    return FitOptions(
        scene=tiny_capture,
        out=tmp_path / "live.nf",
        steps=40,
        eval_every=0,
        quiet=True,
        threads=1,
        field="hash",
        set=SMALL,
    )


def run(options: FitOptions) -> Model:
    before = torch.get_num_threads()
    with training_settings(samples=1 << 10):
        try:
            return fit_scene(read_scene(options.scene), options, watch=watch_fit if options.view else None)
        finally:
            torch.set_num_threads(before)


class Visitor:
    """A page on a running fit, in a thread of its own: does what `visit` says once it is connected.

    The fit waits for it: a quiet machine ends one before a page is there, which then would wait for its beginning.
    """

    def __init__(self, monkeypatch: pytest.MonkeyPatch, visit: Any) -> None:
        self.visit, self.result, self.error = visit, None, None
        enter = Watching.__enter__
        self.thread = None

        def entered(watching: Watching) -> Watching:
            made = enter(watching)
            url = f"http://127.0.0.1:{watching.server.port}/"
            self.thread = threading.Thread(target=self._run, args=(url,))
            self.thread.start()
            while self.thread.is_alive() and not watching.server.sessions:
                time.sleep(0.005)
            return made

        monkeypatch.setattr(Watching, "__enter__", entered)

    def _run(self, url: str) -> None:
        async def main() -> Any:
            own = {"Origin": url[:-1]}
            async with aiohttp.ClientSession() as web, web.ws_connect(url + "socket", headers=own) as line:
                return await asyncio.wait_for(self.visit(Page(line)), 90)

        try:
            self.result = asyncio.run(main())
        except Exception as error:
            self.error = error

    def done(self) -> Any:
        self.thread.join(30)
        if self.error:
            raise self.error
        return self.result


def test_a_watched_fit_ends_in_the_same_bits(options: FitOptions, monkeypatch: pytest.MonkeyPatch) -> None:
    async def look(page: Page) -> list[dict]:
        stage = await page.next("stage")
        frames = []
        for number in range(1, 4):
            message = view(number, size=(48, 48))
            message["look"]["eye"] = stage["eye"]
            await page.send(**message)
            frames.append(await page.next("frame", lambda f, n=number: f["number"] == n))
        return [stage, await page.next("fit"), *frames]

    plain = run(options)
    visitor = Visitor(monkeypatch, look)

    def wait(self: Watch, loop: Any) -> None:
        """So short a fit would be over before the page has its pictures."""
        visitor.thread.join(0.02)
        while loop.training.step_count == 40 and visitor.thread.is_alive():
            self.worker.drain(1.0, patience=0.05)

    with mock.patch.object(Watch, "_obey", wait):
        watched = run(replace(options, view=True))
    stage, status, *frames = visitor.done()
    assert stage["live"] and stage["subjects"][0]["facts"]["field"] == "hash" and len(frames) == 3
    assert status["step"] <= 40 and 0 <= status["progress"] <= 1 and status["loss"]
    for name, value in plain.field.state_dict().items():
        assert torch.equal(value, watched.field.state_dict()[name]), name
    assert torch.equal(plain.occupancy, watched.occupancy)


def test_the_page_of_a_fit_is_where_it_is_asked_for(options: FitOptions, monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[str] = []
    monkeypatch.setattr("webbrowser.open", opened.append)
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]

    async def look(page: Page) -> dict:
        return await page.next("stage")

    visitor = Visitor(monkeypatch, look)
    run(replace(options, view=True, port=port, host="localhost", open=True))
    assert visitor.done()["live"] and opened == [f"http://localhost:{port}/"]


def test_pause_save_resume_and_finish(options: FitOptions, monkeypatch: pytest.MonkeyPatch) -> None:
    async def steer(page: Page) -> dict:
        await page.next("stage")
        await page.send(type="steer", do="pause")
        paused = await page.next("fit", lambda s: s["paused"])
        await page.send(type="steer", do="save")
        saved = await page.next("fit", lambda s: s["message"])
        await asyncio.sleep(0.3)
        still = await page.next("fit")
        await page.send(type="steer", do="resume")
        await page.next("fit", lambda s: not s["paused"] and s["step"] > saved["step"])
        await page.send(type="steer", do="stop")
        ending = await page.next("fit", lambda s: "written" in s["message"])
        return {"paused": paused, "saved": saved, "still": still, "ending": ending}

    visitor = Visitor(monkeypatch, steer)
    begin = time.perf_counter()
    model = run(replace(options, view=True, steps=100_000))
    seen = visitor.done()
    assert seen["saved"]["step"] == seen["still"]["step"] < model.made["steps"] < 100_000
    assert model.made["seconds"] < time.perf_counter() - begin - 0.3  # the pause is not the fit's time
    path = options.out.with_name(f"live-{seen['saved']['step']}.nf")
    assert path.name in seen["saved"]["message"] and load(path).made["steps"] == seen["saved"]["step"]


@pytest.mark.serial
def test_pictures_take_their_share_and_no_more() -> None:
    """With more wishes than time, the time of watching is a quarter of all."""
    watch = Watch.__new__(Watch)
    watch.worker, watch._saved, watch._last = FitWorker(), 0.0, time.perf_counter()
    watch._note = watch._obey = lambda loop: None
    loop = SimpleNamespace(stop=False, finish=False)

    async def flood() -> float:
        asked = [asyncio.ensure_future(watch.worker.run(time.sleep, 0.004)) for _ in range(2000)]
        await asyncio.sleep(0)
        begin, watching = time.perf_counter(), 0.0
        watch._last = begin
        for _ in range(60):
            time.sleep(0.012)  # a step
            before = time.perf_counter()
            watch(loop)
            watching += time.perf_counter() - before
        whole = time.perf_counter() - begin
        for wish in asked:
            wish.cancel()
        return watching / whole

    assert run_in_own_loop(flood()) == pytest.approx(SHARE, abs=0.06)


def test_time_in_hand_does_not_pile_up() -> None:
    watch = Watch.__new__(Watch)
    watch.worker, watch._saved, watch._last = FitWorker(), 0.0, time.perf_counter() - 1000
    watch._note = watch._obey = lambda loop: None
    watch(SimpleNamespace(stop=False, finish=False))
    assert 0.9 * MOST_SAVED < watch._saved <= MOST_SAVED


def test_the_worker_gives_results_and_errors_and_gives_up() -> None:
    worker = FitWorker()

    async def ask() -> tuple[int, str]:
        async def drain() -> None:
            for _ in range(200):
                worker.drain(1.0)
                await asyncio.sleep(0.001)

        draining = asyncio.ensure_future(drain())
        value = await worker.run(lambda a, b: a + b, 2, 3)
        try:
            await worker.run(int, "x")
        except ValueError as error:
            text = str(error)
        draining.cancel()
        waiting = asyncio.ensure_future(worker.run(int))
        await asyncio.sleep(0)
        worker.close()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        return value, text

    value, text = run_in_own_loop(ask())
    assert value == 5 and "invalid literal" in text


def test_curves_keep_their_shape_and_stay_short(options: FitOptions) -> None:
    loop = SimpleNamespace(report=SimpleNamespace(loss=0.0), held_out=None, training=SimpleNamespace(step_count=0))
    watch = Watch.__new__(Watch)
    watch._lock, watch._every, watch._seen, watch.loss, watch.psnr = mock.MagicMock(), 1, None, [], []
    for step in range(1, 10_000):
        loop.training.step_count, loop.report.loss = step, 1 / step
        loop.held_out = step // 1000 or None
        watch._note(loop)
    steps = [step for step, _ in watch.loss]
    assert CURVE / 2 <= len(steps) <= CURVE and steps == sorted(set(steps)) and steps[-1] > 9900
    assert [value for _, value in watch.psnr] == list(range(1, 10))


def test_a_save_that_fails_is_said_and_the_fit_goes_on() -> None:
    watch = Watch.__new__(Watch)
    watch._asked, watch.worker = queue.SimpleQueue(), FitWorker()

    def fail() -> str:
        raise InputError("the disk is gone")

    watch.save = fail
    watch._asked.put("save")
    loop = SimpleNamespace(finish=False, training=SimpleNamespace(step_count=1))
    watch._obey(loop)
    assert watch.message == "not saved: the disk is gone" and not loop.finish


def test_a_signal_has_no_page(tmp_path: Path) -> None:
    photo(tmp_path / "a.png")
    with pytest.raises(UsageError, match="--view shows scenes"):
        fit.run(FitOptions(scene=tmp_path / "a.png", out=tmp_path / "a.nf", steps=1, quiet=True, view=True))


def test_the_page_stays_after_the_fit_with_the_final_model(
    options: FitOptions, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """It ends with its page: first the message that it measures, then the file's own figures and its pictures."""

    told, finish = threading.Event(), watch_module.Watch.finish

    def late(watch: watch_module.Watch, *arguments: Any) -> None:
        assert told.wait(60)  # a status goes out twice a second, and measuring so little may take less
        finish(watch, *arguments)

    async def stay(page: Page) -> list[dict]:
        begun = await page.next("stage")
        ended = await page.next("fit", lambda s: s["ended"])
        told.set()
        stage = await page.next("stage")
        message = view(1, size=(48, 48))
        message["look"]["eye"] = stage["eye"]
        await page.send(**message)
        return [begun, ended, stage, await page.last(1), await page.next("fit")]

    monkeypatch.setattr(watch_module, "GONE", 0.3)
    monkeypatch.setattr(watch_module.Watch, "finish", late)
    visitor = Visitor(monkeypatch, stay)
    with training_settings(samples=1 << 10):
        result = fit_verb.run(replace(options, view=True, quiet=True, overwrite=True))
    begun, ended, stage, frame, status = visitor.done()
    assert begun["live"] and "measuring" in ended["message"] and not stage["live"]
    assert stage["subjects"][0]["facts"]["held-out PSNR"] == f"{result['psnr']:.2f} dB"
    assert frame["last"] and status["message"] == f"wrote {options.out}"
    assert status["psnr"][-1][1] == pytest.approx(result["psnr"])
    assert "its page stays" in capsys.readouterr().err
