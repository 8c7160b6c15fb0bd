"""A ball whose picture is known exactly, and a page made of sockets alone, for the tests of the viewer."""

import asyncio
import json
import threading
import time
from collections.abc import Callable
from typing import Any

import aiohttp
import numpy as np
import torch

from neuralfields.cameras import Camera, look_at
from neuralfields.rays import Render
from neuralfields.rendering.volume import camera_rays
from neuralfields.scene import Bounds
from neuralfields.serving.messages import eye_of, unpack
from neuralfields.serving.stage import Stage
from neuralfields.serving.subjects import Subject

RADIUS = 0.5


class Ball:
    """Renders a ball around the origin, coloured by its normals. `seconds`: what a picture takes at least."""

    def __init__(self, seconds: float = 0.0) -> None:
        self.seconds, self.calls = seconds, []
        self.gate: threading.Event | None = None

    def render(self, camera: Camera) -> Render:
        """Over white."""
        self.calls.append((camera.width, camera.height))
        time.sleep(self.seconds)
        if self.gate is not None:
            self.gate.wait(10)
        rays = camera_rays(camera)
        along = (rays.origins * rays.directions).sum(1)
        inside = along**2 - rays.origins.square().sum(1) + RADIUS**2
        depth = -along - inside.clamp(min=0).sqrt()
        hit = (inside > 0) & (depth > 0)
        normal = (rays.origins + rays.directions * depth[:, None]) / RADIUS
        rgb = torch.where(hit[:, None], normal / 2 + 0.5, 1.0)
        opacity = hit.float()
        return Render(rgb, opacity, torch.where(hit, depth, 0)).reshape(camera.height, camera.width)


def eye(angle: float = 0.0, distance: float = 2.0, size: tuple[int, int] = (64, 48)) -> Camera:
    """A camera that looks at the ball from the side."""
    place = distance * np.array([np.cos(angle), np.sin(angle), 0.3])
    pose = look_at(place, np.zeros(3), np.array([0.0, 0.0, 1.0]))
    return Camera(pose, *size, size[1], size[1], size[0] / 2, size[1] / 2)


def ball_stage(ball: Ball | None = None) -> Stage:
    """The ball as a subject with three cameras around it."""
    ball = ball or Ball()
    facts = {"field": "<b>ball</b>"}
    subject = Subject("ball", "picture", lambda camera, colour, box: ball.render(camera), facts=facts)
    cameras = [eye(angle) for angle in (0.0, 1.0, 2.0)]
    return Stage([subject], Bounds((0.0, 0.0, 0.0), 1.5), cameras, ["a.png", "b.png", "c.png"], frozenset({2}))


def view(number: int, angle: float = 0.0, size: tuple[int, int] = (64, 48), **look: Any) -> dict[str, Any]:
    """A view message as the page sends it."""
    seen = {"eye": eye_of(eye(angle)), **look}
    return {"type": "view", "number": number, "look": seen, "width": size[0], "height": size[1], "subjects": [0]}


class Page:
    """A client of the server: sends messages, and draws (acknowledges) frames unless told not to."""

    def __init__(self, line: aiohttp.ClientWebSocketResponse, draws: bool = True) -> None:
        self.line, self.draws = line, draws

    async def send(self, **message: Any) -> None:
        """A message."""
        await self.line.send_str(json.dumps(message))

    async def next(self, kind: str, when: Callable[[dict], bool] = lambda header: True) -> dict[str, Any]:
        """The next message of that kind; a packet's payload is its `payload`."""
        while True:
            message = await asyncio.wait_for(self.line.receive(), 60)
            if message.type is aiohttp.WSMsgType.TEXT:
                header = json.loads(message.data)
            elif message.type is aiohttp.WSMsgType.BINARY:
                header, payload = unpack(message.data)
                header["payload"] = payload
            else:
                raise ConnectionError(f"closed: {self.line.close_code} {message.extra}")
            if header["type"] == "frame" and self.draws:
                await self.send(type="seen", number=header["frame"])
            if header["type"] == kind and when(header):
                return header

    async def last(self, number: int) -> dict[str, Any]:
        """The finest frame of a view."""
        return await self.next("frame", lambda header: header["number"] == number and header["last"])
