"""One page's pictures: coarse at once, fine at rest, nothing stale, never more than two on their way."""

import asyncio
import io
import itertools
import json
import threading
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from neuralfields.errors import InputError
from neuralfields.serving import session as session_module
from neuralfields.serving.messages import camera_of, read, unpack
from neuralfields.serving.session import MOST_IN_FLIGHT, Session
from neuralfields.serving.shading import paint
from neuralfields.serving.stage import Stage
from neuralfields.serving.worker import ThreadWorker
from tests.support.own_loop import run_in_own_loop
from tests.support.view_ball import Ball, ball_stage, eye, view

pytestmark = pytest.mark.filterwarnings("error::pytest.PytestUnraisableExceptionWarning")


class Wire:
    """What a session sends; draws every frame at once unless told not to."""

    def __init__(self, draws: bool = True) -> None:
        self.sent, self.draws, self.session = [], draws, None

    async def __call__(self, data: str | bytes) -> None:
        header, payload = (json.loads(data), b"") if isinstance(data, str) else unpack(data)
        self.sent.append(header | {"payload": payload})
        if header["type"] == "frame" and self.draws:
            await self.say(type="seen", number=header["frame"])

    async def say(self, **message: Any) -> None:
        await self.session.take(read(json.dumps(message)))

    def of(self, kind: str) -> list[dict]:
        return [header for header in self.sent if header["type"] == kind]

    async def until(self, true: Callable[[], Any], seconds: float = 20) -> None:
        for _ in range(int(seconds / 0.005)):
            if true():
                return
            await asyncio.sleep(0.005)
        raise TimeoutError(f"only {[h['type'] for h in self.sent]}")


def converse(talk: Callable[[Wire], Any], stage: Stage | None = None, draws: bool = True) -> Wire:
    """Runs a conversation with a session of its own."""
    wire, worker = Wire(draws), ThreadWorker(1)

    async def run() -> None:
        wire.session = Session(stage or ball_stage(), worker, wire)
        await wire.session.begin()
        try:
            await talk(wire)
        finally:
            await wire.session.end()

    try:
        run_in_own_loop(run())
    finally:
        worker.pool.shutdown(wait=True)
    return wire


def picture(header: dict) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(header["payload"][header["depth"]["bytes"] :])))


def last(wire: Wire, number: int) -> Callable[[], Any]:
    return lambda: [f for f in wire.of("frame") if f["number"] == number and f["last"]]


def test_a_picture_becomes_finer_until_it_is_exact() -> None:
    ball = Ball(seconds=0.002)
    stage = ball_stage(ball)
    stage.subjects[0].speed = 30_000.0
    message = view(1, size=(320, 240))

    async def talk(wire: Wire) -> None:
        await wire.say(**message)
        await wire.until(last(wire, 1))

    frames = converse(talk, stage).of("frame")
    widths = [frame["width"] for frame in frames]
    assert widths == sorted(set(widths)) and widths[0] < 80 and widths[-1] == 320 and len(widths) >= 3
    assert all(b <= 2.05 * a for a, b in itertools.pairwise(widths))
    camera = camera_of(read(json.dumps(message)).look.eye, 320, 240)
    exact = paint(Ball().render(camera), camera, "rgb", (1.0, 1.0, 1.0))
    assert np.abs(picture(frames[-1]).astype(int) - exact).mean() < 1  # bands joined without a seam, JPEG apart
    assert frames[-1]["eye"]["pose"] == message["look"]["eye"]["pose"] and frames[-1]["ms"] > 0


def test_the_first_level_follows_the_measured_speed() -> None:
    for speed, least, most in ((1e9, 320, 320), (1e6, 250, 320), (1e5, 80, 110), (10.0, 30, 60)):
        stage = ball_stage()
        stage.subjects[0].speed = speed
        worker = ThreadWorker(1)
        levels = Session(stage, worker, Wire())._levels(read(json.dumps(view(1, size=(320, 240)))), stage.subjects)
        worker.close()
        assert least <= levels[0][0] <= most and levels[-1] == (320, 240)


def test_a_move_drops_what_is_in_work_and_every_view_between() -> None:
    ball = Ball()
    ball.gate = threading.Event()
    stage = ball_stage(ball)

    async def talk(wire: Wire) -> None:
        await wire.say(**view(1, size=(640, 480)))
        await wire.until(lambda: ball.calls)
        for number in range(2, 40):
            await wire.say(**view(number, angle=number / 40, size=(640, 480)))
        ball.gate.set()
        await wire.until(last(wire, 39))

    frames = converse(talk, stage).of("frame")
    assert {frame["number"] for frame in frames} == {1, 39}
    assert len([frame for frame in frames if frame["number"] == 1]) == 1  # the first level alone, and that is shown


def test_a_page_that_does_not_draw_gets_two_frames_and_no_more() -> None:
    async def talk(wire: Wire) -> None:
        for number in range(1, 30):
            await wire.say(**view(number, size=(200, 150)))
            await asyncio.sleep(0.01)
        assert len(wire.of("frame")) == MOST_IN_FLIGHT
        await wire.say(type="seen", number=10**9)  # more than was ever sent counts as all that was
        wire.draws = True
        await wire.until(last(wire, 29))

    wire = converse(talk, draws=False)
    assert wire.session.sent - wire.session.drawn <= MOST_IN_FLIGHT


def test_two_subjects_beside_each_other() -> None:
    stage = ball_stage()
    stage.subjects.append(ball_stage().subjects[0])

    async def talk(wire: Wire) -> None:
        await wire.say(**view(1) | {"subjects": [1, 0]})
        await wire.until(lambda: len(last(wire, 1)()) == 2)

    ends = [frame for frame in converse(talk, stage).of("frame") if frame["last"]]
    assert [(frame["side"], frame["subject"]) for frame in ends] == [(0, 1), (1, 0)]


def test_sixteen_thousand_pixels_are_clamped() -> None:
    async def talk(wire: Wire) -> None:
        wire.session.stage.subjects[0].speed = 1e9
        levels = wire.session._levels(read(json.dumps(view(1, size=(16384, 16384)))), wire.session.stage.subjects)
        assert levels[-1] == (2048, 2048)

    converse(talk)


@pytest.mark.parametrize("message", [
    view(1) | {"subjects": [1]}, {"type": "steer", "do": "stop"},
    view(1) | {"subjects": [0, 7]},
])  # fmt: skip
def test_what_cannot_be_meant_is_an_error(message: dict) -> None:
    async def talk(wire: Wire) -> None:
        with pytest.raises(InputError):
            await wire.say(**message)

    converse(talk)


def test_a_missing_photo_is_a_note() -> None:
    async def talk(wire: Wire) -> None:
        await wire.say(type="photo", camera=1)
        await wire.until(lambda: wire.of("note"))

    assert "photos" in converse(talk).of("note")[0]["text"]


def test_points_come_as_numbers() -> None:
    stage = ball_stage()
    stage.points = np.arange(12, dtype=np.float64).reshape(4, 3)

    async def talk(wire: Wire) -> None:
        await asyncio.sleep(0)

    (header,) = converse(talk, stage).of("points")
    assert header["count"] == 4 and np.frombuffer(header["payload"], "<f4").tolist() == list(range(12))


def keys(count: int) -> list[dict]:
    return [view(0, angle=0.3 * i)["look"]["eye"] for i in range(count)]


def test_a_path_for_the_preview() -> None:
    async def talk(wire: Wire) -> None:
        await wire.say(type="path", number=5, keys=keys(3), frames=9)
        await wire.until(lambda: wire.of("path"))

    (header,) = converse(talk).of("path")
    assert header["number"] == 5 and len(header["eyes"]) == 9
    assert header["eyes"][4]["pose"] == pytest.approx(keys(3)[1]["pose"], abs=1e-6)


def test_of_many_paths_the_newest(monkeypatch: pytest.MonkeyPatch) -> None:
    """One is in work, beside which the session does all else; what waits is replaced. An invalid one is a note."""
    gate, threads, real = threading.Event(), [], session_module._interpolated

    def slow(*arguments: Any) -> str:
        threads.append(threading.current_thread())
        gate.wait(10)
        return real(*arguments)

    monkeypatch.setattr(session_module, "_interpolated", slow)

    async def talk(wire: Wire) -> None:
        for number in range(300):
            await wire.say(type="path", number=number, keys=keys(2), frames=4)
            await asyncio.sleep(0)
        await wire.session.take(read(json.dumps(view(1))))
        await wire.until(last(wire, 1))
        gate.set()
        await wire.until(lambda: len(wire.of("path")) == 2)
        await wire.say(type="path", number=300, keys=[{"pose": [0.0] * 12, "fov": 40}], frames=4)
        await wire.until(lambda: wire.of("note"))
        await wire.say(type="path", number=301, keys=keys(2), frames=4)
        await wire.until(lambda: len(wire.of("path")) == 3)

    wire = converse(talk)
    assert [header["number"] for header in wire.of("path")] == [0, 299, 301]
    assert threading.main_thread() not in threads and "axes are no rotation" in wire.of("note")[0]["text"]


def test_a_still_is_exact_and_clamped() -> None:
    async def talk(wire: Wire) -> None:
        await wire.say(type="still", number=3, look=view(0)["look"], width=120, height=90, subject=0)
        await wire.until(lambda: wire.of("file"))

    (file,) = converse(talk).of("file")
    camera = camera_of(read(json.dumps(view(0))).look.eye, 120, 90)
    image = np.asarray(Image.open(io.BytesIO(file["payload"])))
    assert file["name"] == "ball.png" and file["mime"] == "image/png"
    assert np.array_equal(image, paint(Ball().render(camera), camera, "rgb", (1.0,) * 3))


def film(**changes: Any) -> dict:
    return {
        "type": "film", "number": 4, "look": view(0)["look"], "keys": keys(2), "seconds": 0.5, "fps": 12,
        "width": 64, "height": 48, "subject": 0, **changes,
    }  # fmt: skip


def test_a_film_has_its_frames(tmp_path: Any) -> None:
    av = pytest.importorskip("av")

    async def talk(wire: Wire) -> None:
        await wire.say(**film())
        await wire.until(lambda: wire.of("file"))

    wire = converse(talk)
    (file,) = wire.of("file")
    target = tmp_path / file["name"]
    target.write_bytes(file["payload"])
    with av.open(str(target)) as opened:
        frames = [frame.to_ndarray(format="rgb24") for frame in opened.decode(video=0)]
    assert file["mime"] == "video/mp4" and len(frames) == 6 and frames[0].shape == (48, 64, 3)
    camera = eye(0.0)
    assert np.abs(frames[0].astype(int) - paint(Ball().render(camera), camera, "rgb", (1.0,) * 3)).mean() < 12
    assert np.abs(frames[0].astype(int) - frames[-1]).mean() > 1
    assert [p["done"] for p in wire.of("progress")][-1] == 6


def test_a_film_can_be_given_up_and_only_one_is_made_at_a_time() -> None:
    stage = ball_stage(Ball(seconds=0.02))

    async def talk(wire: Wire) -> None:
        await wire.say(**film(seconds=600, fps=120))
        await wire.until(lambda: wire.of("progress"))
        await wire.say(**film())
        await wire.until(lambda: wire.of("note"))
        await wire.say(type="cancel")
        await wire.until(lambda: wire.session._job.done())
        await wire.say(**film(file="keys"))
        await wire.until(lambda: wire.of("file"))

    wire = converse(talk, stage)
    assert "in work already" in wire.of("note")[0]["text"]
    assert json.loads(wire.of("file")[0]["payload"])["render_width"] == 64


def test_all_pages_get_their_turn() -> None:
    """A page that asks for a huge picture of a slow field does not keep another one waiting."""
    ball, worker = Ball(seconds=0.01), ThreadWorker(1)
    stage = ball_stage(ball)
    stage.subjects[0].speed = 20_000.0

    async def run() -> tuple[int, int]:
        wires = [Wire(), Wire()]
        for wire in wires:
            wire.session = Session(stage, worker, wire)
            await wire.session.begin()
        await wires[0].say(**view(1, size=(4000, 3000)))
        await wires[0].until(lambda: wires[0].of("frame"))
        await wires[1].say(**view(1, size=(64, 48)))
        await wires[1].until(last(wires[1], 1))
        counts = tuple(len(wire.of("frame")) for wire in wires)
        unfinished = not last(wires[0], 1)()
        for wire in wires:
            await wire.session.end()
        assert unfinished
        return counts

    assert min(run_in_own_loop(run())) >= 1
    worker.pool.shutdown(wait=True)


def test_the_worker_sets_its_threads() -> None:
    worker = ThreadWorker(1)
    assert run_in_own_loop(worker.run(torch.get_num_threads)) == 1
    worker.close()
