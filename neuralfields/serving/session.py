"""Session of a connected page: progressive refinement of its view, and files on request.

Vocabulary
  level     a resolution at which the requested view is rendered; each is finer than the one before
  band      some rows of a view: rendered at once, and after which a newer request is checked for
  worker    where everything is rendered: one thread, whose queue all pages share
  flight    frames that were sent and not yet drawn by the page (flow control); never more than two

The first level is chosen by the measured speed, so that it takes 70 ms whatever the field; it is always finished, so
that the image follows the hand. All finer ones are dropped as soon as the page requests another view.
"""

import asyncio
import contextlib
import json
import math
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from neuralfields.cameras import Camera
from neuralfields.errors import InputError, NeuralfieldsError
from neuralfields.media import has
from neuralfields.pictures import camera_paths as paths
from neuralfields.pictures.film import write_video
from neuralfields.rays import Render
from neuralfields.scene import Bounds
from neuralfields.serving.messages import (
    CameraPath,
    Cancel,
    Film,
    Message,
    Photo,
    Seen,
    StandIn,
    Steer,
    Still,
    Thumbs,
    View,
    ViewSettings,
    camera_of,
    clamped,
    eye_of,
    packet,
)
from neuralfields.serving.shading import depth_bytes, jpeg, paint, png
from neuralfields.serving.stage import Stage
from neuralfields.serving.subjects import Subject
from neuralfields.serving.thumbs import send_points, send_thumbs
from neuralfields.serving.worker import Worker

BAND_SECONDS = 0.03
ENCODING = 5e6  # initial guess of pixels a second for shading and compression
FEWEST_PIXELS = 1500
MOST_STREAMED, MOST_STILL, MOST_FILM = 1 << 22, 1 << 23, 1920 * 1088  # pixels of a picture
MOST_FRAMES = 3600
MOST_IN_FLIGHT = 2
LIVE_EVERY = 1.0  # seconds between renders of a running fit while the viewpoint rests
STATUS_EVERY = 0.5


class Dropped(Exception):
    """Raised in a render that is no longer requested."""


class Session:
    """Session of one page. `send` takes a text (str) or a packet (bytes) and returns once it is sent."""

    def __init__(self, stage: Stage, worker: Worker, send: Callable[[str | bytes], Awaitable[None]]) -> None:
        self.stage, self.worker, self.send = stage, worker, send
        self.wanted: View | None = None
        self.sent = self.drawn = 0
        self.encoding = ENCODING
        self._news, self._room = asyncio.Event(), asyncio.Event()
        self._tasks: set[asyncio.Task] = set()
        self._job: asyncio.Task | None = None
        self._path: CameraPath | None = None
        self._pathing: asyncio.Task | None = None
        self._thumbed = False

    async def begin(self) -> None:
        """Sends the description of the stage and starts to render."""
        await self.send(json.dumps(await asyncio.to_thread(self.stage.describe)))
        await send_points(self.stage, self.send)
        self._start(self._render_for_ever())
        if self.stage.status is not None:
            self._start(self._report_for_ever())

    def _start(self, work: Any) -> asyncio.Task:
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def end(self) -> None:
        """Cancels all work for the page, a video included."""
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def take(self, message: Message) -> None:
        """Handles a message of the page. Raises InputError for an invalid one."""
        if isinstance(message, View):
            self._check(message.look, *message.subjects)
            self.wanted = message
            self._news.set()
        elif isinstance(message, Seen):
            self.drawn = max(self.drawn, min(message.number, self.sent))
            self._room.set()
        elif isinstance(message, Photo):
            self._start(self._guarded(self._photo(message.camera)))
        elif isinstance(message, Thumbs):
            if not self._thumbed:
                self._thumbed = True
                self._start(send_thumbs(self.stage, self.send))
        elif isinstance(message, CameraPath):
            self._take_path(message)
        elif isinstance(message, Cancel):
            if self._job is not None:
                self._job.cancel()
        elif isinstance(message, StandIn):
            self._subject(message.subject)
            if self.stage.distil is not None:
                self.stage.distil(message.subject)
        elif isinstance(message, Steer):
            if self.stage.steer is None:
                raise InputError("message of the page: there is no fit to steer")
            self.stage.steer(message.do)
        elif isinstance(message, Still | Film):
            await self._begin_job(message)

    def _check(self, look: ViewSettings, *subjects: int) -> None:
        camera_of(look.eye, 1, 1)
        for index in subjects:
            self._subject(index)
        if look.crop is not None and not all(math.isfinite(v) for corner in look.crop for v in corner):
            raise InputError("message of the page: a box that is not finite")

    def _subject(self, index: int) -> Subject:
        if index >= len(self.stage.subjects):
            raise InputError(f"message of the page: there is no subject {index}")
        return self.stage.subjects[index]

    async def note(self, text: str) -> None:
        """Sends a note that the page shows."""
        await self.send(json.dumps({"type": "note", "text": text[:400]}))

    async def _guarded(self, work: Awaitable[None]) -> None:
        """Turns errors about the user's files into a note on the page, instead of ending the session."""
        try:
            await work
        except NeuralfieldsError as error:
            await self.note(str(error))

    # ------------------------------------------------------------ views

    async def _render_for_ever(self) -> None:
        while True:
            live = self.wanted is not None and self.stage.steer is not None
            with contextlib.suppress(asyncio.TimeoutError):
                await asyncio.wait_for(self._news.wait(), LIVE_EVERY if live else None)
            again = not self._news.is_set()
            self._news.clear()
            view = self.wanted
            if view is None:
                continue
            begin = time.perf_counter()
            with contextlib.suppress(Dropped):
                await self._guarded(self._refine(view, again, begin))

    async def _refine(self, view: View, again: bool, begin: float) -> None:
        """Renders and sends all levels of a view; `again`: of a running fit at rest, so the finest level alone."""
        subjects = [self.stage.subjects[index] for index in view.subjects]
        subjects = [subject for subject in subjects if subject.render is not None]
        levels = self._levels(view, subjects)
        for level, size in enumerate(levels):
            last = level == len(levels) - 1
            if again and not last:
                continue
            for side, subject in enumerate(subjects):
                await self._wait_for_room()
                if self.wanted is not view and (level or side):
                    raise Dropped
                insist = level == 0 and not again
                image, depth = await self._picture(subject, view.look, size, None if insist else view, last)
                await self._send_frame(view, subject, side, size, (image, depth), (last, begin))

    def _levels(self, view: View, subjects: list[Subject]) -> list[tuple[int, int]]:
        """Sizes from one within the time budget to the requested one, each at most twice as wide as the one before."""
        if not subjects:
            return []
        speed = 1 / sum(1 / max(subject.speed, 1.0) for subject in subjects)
        most = max(FEWEST_PIXELS, min(MOST_STREAMED, speed * self.worker.most_seconds))
        width, height = clamped(view.width, view.height, most)
        width, height = self._as_fine_as_the_photo(view.look, width, height)
        pace = 1 / (1 / speed + len(subjects) / self.encoding)
        scale = min(1.0, math.sqrt(max(FEWEST_PIXELS, pace * self.worker.first_seconds) / (width * height)))
        if scale > 0.9:
            return [(width, height)]
        steps = math.ceil(math.log2(1 / scale))
        scales = [scale ** (1 - step / steps) for step in range(steps + 1)]
        return [(max(1, round(width * s)), max(1, round(height * s))) for s in scales]

    def _as_fine_as_the_photo(self, look: ViewSettings, width: int, height: int) -> tuple[int, int]:
        """Limits the size of an error image to the photo's resolution, beyond which it would show the photo's blur.

        Even sides, so that at the photo's own camera the pixels of both coincide.
        """
        camera = camera_of(look.eye, width, height, self.stage.bounds)
        if look.what != "error" or (nearest := self.stage.nearest(camera)) is None:
            return width, height
        scale = min(1.0, self.stage.album.focal(nearest) / camera.fy)
        return max(2, 2 * round(width * scale / 2)), max(2, 2 * round(height * scale / 2))

    async def _wait_for_room(self) -> None:
        while self.sent - self.drawn >= MOST_IN_FLIGHT:
            self._room.clear()
            await self._room.wait()

    async def _picture(
        self, subject: Subject, look: ViewSettings, size: tuple[int, int], view: View | None, fine: bool
    ) -> tuple[bytes, tuple[dict[str, Any], bytes]]:
        """Renders a JPEG and its depth; raises Dropped as soon as `view` is no longer requested."""
        camera = camera_of(look.eye, *size, self.stage.bounds)
        seen = await self._render(subject, look, camera, lambda: view is not None and self.wanted is not view)
        return await self.worker.run(self._encode, subject, look, camera, seen, fine)

    def _encode(self, subject: Subject, look: ViewSettings, camera: Camera, seen: Render, fine: bool) -> Any:
        begin = time.perf_counter()
        made = jpeg(self._paint(subject, look, camera, seen), fine), depth_bytes(seen, fine)
        pixels = camera.width * camera.height
        self.encoding += 0.3 * (pixels / max(time.perf_counter() - begin, 1e-6) - self.encoding)
        return made

    def _paint(self, subject: Subject, look: ViewSettings, camera: Camera, seen: Render) -> np.ndarray:
        reference = None
        if look.what == "error" and (nearest := self.stage.nearest(camera)) is not None:
            reference = self.stage.album.photo(nearest)
        return paint(seen, camera, look.what, self.stage.behind(subject, look.background), reference)

    async def _render(
        self, subject: Subject, look: ViewSettings, camera: Camera, dropped: Callable[[], bool]
    ) -> Render:
        """Renders a camera band by band; a band is a pinhole camera too, with a shifted principal point."""
        colour, parts, row = self.stage.behind(subject, look.background), [], 0
        seen = self.stage.seen if look.fade else None
        begin = time.perf_counter()
        while row < camera.height:
            if dropped():
                raise Dropped
            rows = int(subject.band_speed * BAND_SECONDS / camera.width)
            rows = min(max(1, rows), camera.height - row, max(1, (1 << 16) // camera.width))
            band = replace(camera, height=rows, cy=camera.cy - row)
            parts.append(await self.worker.run(subject.timed, band, colour, look.crop, seen))
            row += rows
        subject.learn(camera.width * camera.height, time.perf_counter() - begin)
        return Render(*(torch.cat([getattr(part, name) for part in parts]) for name in ("rgb", "opacity", "depth")))

    async def _send_frame(
        self, view: View, subject: Subject, side: int, size: tuple[int, int], made: Any, state: tuple[bool, float]
    ) -> None:
        image, (depth, values) = made
        last, begin = state
        self.sent += 1
        header = {
            "type": "frame",
            "frame": self.sent,
            "number": view.number,
            "side": side,
            "subject": self.stage.subjects.index(subject),
            "width": size[0],
            "height": size[1],
            "what": view.look.what,
            "eye": {"pose": view.look.eye.pose, "fov": view.look.eye.fov, "time": view.look.eye.time},
            "depth": depth | {"bytes": len(values)},
            "last": last,
            "ms": 1000 * (time.perf_counter() - begin),
            "rays_per_second": subject.speed,
        }
        await self.send(packet(header, values, image))

    async def _report_for_ever(self) -> None:
        while True:
            await self.send(json.dumps({"type": "fit", **self.stage.status()}))
            await asyncio.sleep(STATUS_EVERY)

    # ------------------------------------------------------------ photos, paths and files

    async def _photo(self, index: int) -> None:
        header, data = await asyncio.to_thread(self.stage.photo_packet, index)
        await self.send(packet(header, data))

    def _take_path(self, message: CameraPath) -> None:
        """Has paths interpolated, one at a time; of those that wait the newest alone, which the page would show."""
        self._path = message
        if self._pathing is None or self._pathing.done():
            self._pathing = self._start(self._guarded(self._paths()))

    async def _paths(self) -> None:
        while (message := self._path) is not None:
            self._path = None
            await self.send(await asyncio.to_thread(_interpolated, message, self.stage.bounds))

    async def _begin_job(self, message: Still | Film) -> None:
        self._check(message.look, message.subject)
        if self._job is not None and not self._job.done():
            await self.note("an image or video is in work already; cancel it first")
            return
        work = self._still(message) if isinstance(message, Still) else self._film(message)
        self._job = self._start(self._guarded(work))

    async def _still(self, message: Still) -> None:
        subject, size = self.stage.subjects[message.subject], clamped(message.width, message.height, MOST_STILL)
        camera = camera_of(message.look.eye, *size, self.stage.bounds)
        seen = await self._render(subject, message.look, camera, lambda: False)
        image = await self.worker.run(self._paint, subject, message.look, camera, seen)
        data = await asyncio.to_thread(png, image)
        await self._send_file(message.number, f"{_stem(subject)}.png", "image/png", data, size)

    async def _film(self, message: Film) -> None:
        subject = self.stage.subjects[message.subject]
        size = clamped(message.width, message.height, MOST_FILM)
        if message.file == "keys":
            return await self._keys(message, subject, size)
        count = min(max(1, round(message.seconds * message.fps)), MOST_FRAMES)
        cameras = paths.interpolate(_cameras(message.keys, size, self.stage.bounds), count)
        loop, gone = asyncio.get_running_loop(), False

        async def frame(index: int, camera: Camera) -> np.ndarray:
            await self._progress(message.number, index, count)
            seen = await self._render(subject, message.look, camera, lambda: gone)
            return await self.worker.run(self._paint, subject, message.look, camera, seen)

        def frames() -> Iterator[np.ndarray]:
            for index, camera in enumerate(cameras):
                if gone:
                    raise Dropped
                yield asyncio.run_coroutine_threadsafe(frame(index, camera), loop).result()

        suffix = ".mp4" if has("av") else ".webp"
        with tempfile.TemporaryDirectory(prefix="neuralfields-film-", ignore_cleanup_errors=True) as folder:
            target = Path(folder) / f"film{suffix}"
            try:
                await asyncio.to_thread(write_video, target, frames(), message.fps)
            finally:
                gone = True
            data = await asyncio.to_thread(target.read_bytes)
        await self._progress(message.number, count, count)
        kind = "video/mp4" if suffix == ".mp4" else "image/webp"
        await self._send_file(message.number, f"{_stem(subject)}{suffix}", kind, data, size)

    async def _keys(self, message: Film, subject: Subject, size: tuple[int, int]) -> None:
        with tempfile.TemporaryDirectory(prefix="neuralfields-path-") as folder:
            target = Path(folder) / "path.json"
            origin = np.asarray(self.stage.bounds.origin)
            keys = [camera.moved(origin) for camera in _cameras(message.keys, size, self.stage.bounds)]
            paths.write_keyframes(target, keys, message.fps)
            data = target.read_bytes()
        await self._send_file(message.number, f"{_stem(subject)}.path.json", "application/json", data, size)

    async def _progress(self, number: int, done: int, total: int) -> None:
        await self.send(json.dumps({"type": "progress", "number": number, "done": done, "total": total}))

    async def _send_file(self, number: int, name: str, mime: str, data: bytes, size: tuple[int, int]) -> None:
        header = {"type": "file", "number": number, "name": name, "mime": mime, "width": size[0], "height": size[1]}
        await self.send(packet(header, data))


def _interpolated(message: CameraPath, bounds: Bounds) -> str:
    """The answer to a path: eyes evenly over its keyframes. Raises InputError for an invalid keyframe."""
    cameras = paths.interpolate(_cameras(message.keys, (640, 480), bounds), message.frames)
    return json.dumps({"type": "path", "number": message.number, "eyes": [eye_of(camera) for camera in cameras]})


def _cameras(keys: list, size: tuple[int, int], bounds: Bounds) -> list[Camera]:
    return [camera_of(key, *size, bounds) for key in keys]


def _stem(subject: Subject) -> str:
    """File stem for downloads: letters and digits of the subject's name."""
    kept = "".join(c if c.isalnum() or c in "-_" else "-" for c in subject.name.removesuffix(".nf"))
    return kept.strip("-")[:60] or "scene"
