"""Benchmarks the viewer: frames a second while the camera moves, and latency from a move to its first frame.

python benchmarks/viewer.py MODEL.nf [MODEL.nf ...] [--seconds 10] [--rests 20] [--threads N]

For each model and each size (270x480 and 540x960): a server in a process of its own, and a page without a browser that
draws at once. It moves along an orbit as fast as pictures come (frames a second), then rests and moves again, many
times (time to the first picture, of whatever size that has, and to the whole one). Run it on a quiet machine: the load
stands in the row.
"""

import argparse
import asyncio
import json
import statistics
import subprocess
import sys
import time
from pathlib import Path

import aiohttp
import numpy as np
from table import FOLDER, row, write

from neuralfields.fields import field_name
from neuralfields.models.model import Model
from neuralfields.models.nf_file import load
from neuralfields.pictures import camera_paths as paths
from neuralfields.serving.messages import eye_of, unpack

SIZES = ((480, 270), (960, 540))
RESTS = 20
TITLE = "The viewer: frames a second while moving, time from a move to its first and to its whole picture"


class Page:
    """Sends views and takes frames; every frame is drawn at once."""

    def __init__(self, line: aiohttp.ClientWebSocketResponse, size: tuple[int, int]) -> None:
        self.line, self.size, self.number = line, size, 0

    async def move(self, eye: dict) -> float:
        """Requests another view; returns the time of the request."""
        self.number += 1
        width, height = self.size
        view = {"type": "view", "number": self.number, "look": {"eye": eye}, "width": width, "height": height}
        await self.line.send_str(json.dumps(view | {"subjects": [0]}))
        return time.perf_counter()

    async def frame(self) -> dict:
        """The next frame's header, with the bytes it took."""
        async for message in self.line:
            if message.type is aiohttp.WSMsgType.BINARY:
                header, payload = unpack(message.data)
                if header["type"] == "frame":
                    await self.line.send_str(json.dumps({"type": "seen", "number": header["frame"]}))
                    return header | {"bytes": len(payload)}
        raise ConnectionError("the viewer closed the line")


def orbit(model: Model, size: tuple[int, int], count: int) -> list[dict]:
    """Viewpoints of an orbit about the scene."""
    return [eye_of(camera) for camera in paths.orbit(list(model.cameras), model.bounds, count, size)]


async def moving(page: Page, eyes: list[dict], seconds: float) -> tuple[float, float, float]:
    """Frames a second, moving sixty times a second; their mean share of the whole picture's pixels; their bytes."""
    whole, shares, sizes = page.size[0] * page.size[1], [], []
    end = (begin := time.perf_counter()) + seconds
    steering = asyncio.ensure_future(_steer(page, eyes, end))
    while time.perf_counter() < end:
        header = await page.frame()
        shares.append(header["width"] * header["height"] / whole)
        sizes.append(header["bytes"])
    await steering
    return len(shares) / (time.perf_counter() - begin), statistics.mean(shares), statistics.mean(sizes)


async def _steer(page: Page, eyes: list[dict], end: float) -> None:
    index = 0
    while time.perf_counter() < end:
        await page.move(eyes[index % len(eyes)])
        index += 1
        await asyncio.sleep(1 / 60)


async def resting(page: Page, eyes: list[dict]) -> tuple[list[float], list[float]]:
    """Seconds from a move to the first and to the whole picture, from rest."""
    first, whole = [], []
    for eye in eyes:
        asked = await page.move(eye)
        times: list[float] = []
        while True:
            header = await page.frame()
            if header["number"] != page.number:
                continue
            times.append(time.perf_counter() - asked)
            if header["last"]:
                break
        first.append(times[0])
        whole.append(times[-1])
    return first, whole


async def measure(url: str, model: Model, size: tuple[int, int], seconds: float, rests: int) -> dict:
    """All figures of one size."""
    own = {"Origin": url.rstrip("/")}
    async with aiohttp.ClientSession() as web, web.ws_connect(f"{url}socket", headers=own, max_msg_size=0) as line:
        page, eyes = Page(line, size), orbit(model, size, 240)
        await resting(page, eyes[:3])  # the speed is learned
        rate, share, data = await moving(page, eyes, seconds)
        await resting(page, eyes[:1])
        first, whole = await resting(page, eyes[:: len(eyes) // rests][:rests])
    return {
        "frames_per_second": round(rate, 1),
        "share_of_pixels": round(share, 3),
        "kB_a_frame": round(data / 1000, 1),
        **{f"first_ms_p{p}": round(1000 * float(np.percentile(first, p))) for p in (50, 90, 99)},
        **{f"whole_ms_p{p}": round(1000 * float(np.percentile(whole, p))) for p in (50, 90)},
    }


def serve(model: Path, threads: int | None) -> tuple[subprocess.Popen, str]:
    """`nf view` in a process of its own and its address."""
    words = ["view", str(model), "--port", "0", *(["--threads", str(threads)] if threads else [])]
    running = subprocess.Popen([str(Path(sys.executable).with_name("nf")), *words], stderr=subprocess.PIPE, text=True)
    for line in running.stderr:
        if line.startswith("viewer: "):
            return running, line.split()[1]
    raise SystemExit(f"{model}: the viewer did not start")


def main() -> None:
    """Measures the models that were named and writes the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("models", nargs="+", type=Path)
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--rests", type=int, default=RESTS)
    parser.add_argument("--threads", type=int)
    chosen = parser.parse_args()
    table = FOLDER / "viewer.json"
    names = {path.name for path in chosen.models}
    rows = [r for r in (json.loads(table.read_text()) if table.is_file() else []) if r["model"] not in names]
    for path in chosen.models:
        model = load(path)
        running, url = serve(path, chosen.threads)
        try:
            for size in SIZES:
                figures = asyncio.run(measure(url, model, size, chosen.seconds, chosen.rests))
                named = {"model": path.name, "field": field_name(model.field), "size": f"{size[1]}x{size[0]}"}
                named["rests"] = chosen.rests
                rows.append(row(f"python benchmarks/viewer.py {path.name}", **named, **figures))
                print(rows[-1], flush=True)
                write("viewer", TITLE, rows)
        finally:
            running.terminate()
            running.wait()


if __name__ == "__main__":
    main()
