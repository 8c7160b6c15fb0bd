"""The page that draws: frames a second by size and number of Gaussians, time to the first picture, memory, bytes.

python benchmarks/page.py [--data FOLDER] [--field SAMPLE.nf] [--seconds 2] [--quick]

Gaussians (random discs of degree 3 on a sphere, some 30 over each pixel) and a hash field are drawn by the live page in
chromium. `moving_s` is the processor time of the browser's GPU process for a picture while the camera turns, `share`
the part of the whole picture's pixels that such a one had, `whole_s` the processor time from the last move to the whole
picture: what a core without other work takes. `nf share`: shared pages opened from the disk; `first_s` are the seconds
from the click to the first picture of the scene itself, `sharp_s` to the whole one, `heap_MB` of JavaScript then; the
page of splat-transform where that is installed, by bytes. The GPU is named in each row: without one it is SwiftShader,
on the processor.
"""

import argparse
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from playwright.sync_api import Browser, Page, sync_playwright
from table import FOLDER, row, write

import neuralfields
from neuralfields.fields.gaussians import GaussianField
from neuralfields.gaussians import Gaussians
from neuralfields.models.model import Model
from neuralfields.options.models import ShareOptions
from neuralfields.scene import Bounds
from neuralfields.verbs import share

TITLE = "The page that draws: Gaussians and a hash field by size, shared pages by bytes and seconds"
COMMAND = "python benchmarks/page.py"
SIZES = ((480, 270), (960, 540), (1920, 1080))
NUMBERS = {10_000: SIZES, 100_000: SIZES, 500_000: SIZES[1:2]}  # the largest takes a software renderer a minute
FLAGS = [
    "--no-sandbox", "--use-angle=swiftshader", "--use-gl=angle", "--enable-unsafe-swiftshader", "--disable-quic",
    "--no-first-run", "--disable-background-networking", "--disable-component-update", "--disable-sync",
    "--enable-precise-memory-info",
]  # fmt: skip
GPU = """(() => {
    const { gl } = neuralfields.scene, names = gl.getExtension("WEBGL_debug_renderer_info");
    return gl.getParameter(names ? names.UNMASKED_RENDERER_WEBGL : gl.RENDERER);
})()"""
LAYER = "(neuralfields.local?.layer ?? neuralfields.layers[0])"
TURN = """async (seconds) => {
    const app = neuralfields, layer = app.local?.layer ?? app.layers[0], begin = performance.now();
    let pictures = 0, last = layer.front, now = begin;
    while ((now = performance.now()) - begin < 1000 * seconds || !pictures) {
        app.controls.turn(0.02, 0);
        app.moved();
        await new Promise((done) => requestAnimationFrame(done));
        if (layer.front !== last) { last = layer.front; pictures++; }
    }
    const { canvas } = app, [width, height] = layer.front.size;
    return [pictures, (width * height) / (canvas.width * canvas.height)];
}"""


def ball(count: int) -> Model:
    """Random discs of degree 3 on a sphere, some 30 over each pixel of it, whatever their number."""
    chance = torch.Generator().manual_seed(0)

    def normal(*shape: int) -> torch.Tensor:
        return torch.randn(count, *shape, generator=chance)

    places = normal(3)
    places = places / places.norm(dim=1, keepdim=True)
    across = torch.cat([torch.zeros(count, 1), places], 1)  # w, x, y, z that turns z to the normal, by half a turn
    across[:, 3] += 1
    scales = torch.tensor([1.0, 1.0, 0.1]).mul((3 / count) ** 0.5).log() + 0.4 * normal(3)
    harmonics = 0.2 * normal(16, 3) * torch.tensor([4.0] + [1.0] * 15)[:, None]
    gaussians = Gaussians(places, scales, across, 1 + normal(), harmonics)
    return Model(GaussianField.of(gaussians), Bounds((0.0, 0.0, 0.0), 2.4))


def gpu_seconds() -> float:
    """Processor seconds of the GPU process of this script's browser."""
    total = 0.0
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit() and "--type=gpu-process" in _read(folder / "cmdline") and _is_ours(int(folder.name)):
            user, system = _read(folder / "stat").rsplit(")", 1)[1].split()[11:13]
            total += (int(user) + int(system)) / os.sysconf("SC_CLK_TCK")
    return total


def _is_ours(pid: int) -> bool:
    """Whether a process descends from this one."""
    while pid > 1 and pid != os.getpid():
        stat = _read(Path("/proc") / str(pid) / "stat")
        pid = int(stat.rsplit(")", 1)[1].split()[1]) if stat else 0
    return pid == os.getpid()


def _read(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:
        return ""  # it ended meanwhile


def until(page: Page, expression: str, seconds: float = 240) -> float:
    """Waits for that; the seconds it took."""
    begin = time.monotonic()
    while not page.evaluate(f"Boolean({expression})"):
        if time.monotonic() - begin > seconds:
            raise TimeoutError(f"{expression} is not true after {seconds} s")
        time.sleep(0.02)
    return time.monotonic() - begin


@contextmanager
def opened(browser: Browser, url: str, size: tuple[int, int], panel: int = 0) -> Iterator[Page]:
    """A page whose canvas has that size."""
    context = browser.new_context(viewport={"width": size[0] + panel, "height": size[1]})
    page = context.new_page()
    page.set_default_timeout(240_000)
    page.goto(url, wait_until="commit")
    yield page
    context.close()


def drawn(browser: Browser, name: str, model: Any, sizes: tuple[tuple[int, int], ...], seconds: float) -> list[dict]:
    """Rows of a model in the live page, a size each."""
    rows, count = [], len(model.field.gaussians()) if hasattr(model.field, "gaussians") else None
    with neuralfields.view(model, port=0, threads=1) as viewer:
        for size in sizes:
            with opened(browser, viewer.url, size, panel=320) as page:
                until(page, "window.neuralfields && neuralfields.state.stage")
                page.evaluate("drawn.value = 'page'; drawn.onchange()")
                until(page, f"neuralfields.local.draws && {LAYER}.begun")
                until(page, "neuralfields.rests")
                page.evaluate(TURN, 0)
                begin = gpu_seconds()
                pictures, part = page.evaluate(TURN, seconds)
                moved = gpu_seconds()
                until(page, "neuralfields.rests")
                rows.append(
                    row(
                        COMMAND, what=name, gaussians=count or "", size=f"{size[0]}x{size[1]}",
                        moving_s=round((moved - begin) / pictures, 3), share=round(part, 3),
                        whole_s=round(gpu_seconds() - moved, 2),
                        gpu=page.evaluate(GPU),
                    )
                )  # fmt: skip
                print({key: rows[-1][key] for key in list(rows[-1])[:6]}, flush=True)
    return rows


def files(browser: Browser, name: str, path: Path, folder: Path) -> list[dict]:
    """Rows of the shared page of a file, and of the one that splat-transform makes of it."""
    out = folder / f"{name}.html"
    made = share.run(ShareOptions((path,), out=out, quiet=True, overwrite=True))
    begin = time.monotonic()
    with opened(browser, out.as_uri(), (960, 540)) as page:
        until(page, f"window.neuralfields && {LAYER}.begun")
        first = time.monotonic() - begin
        until(page, "neuralfields.rests")
        rows = [
            row(
                COMMAND, what=f"nf share {name}", size="960x540", first_s=round(first, 2),
                sharp_s=round(time.monotonic() - begin, 2), bytes=made["bytes"], code=made["code"],
                heap_MB=round(page.evaluate("performance.memory.usedJSHeapSize") / 1e6, 1), gpu=page.evaluate(GPU),
            )
        ]  # fmt: skip
    other = os.environ.get("NEURALFIELDS_SPLAT_TRANSFORM") or shutil.which("splat-transform")
    if other and path.suffix == ".ply":
        theirs = folder / f"{name}-other.html"
        subprocess.run([other, "-g", "cpu", str(path), str(theirs)], check=True, capture_output=True, timeout=200)
        rows.append(row(COMMAND, what=f"splat-transform {name}", bytes=theirs.stat().st_size))
    for one in rows:
        print({key: value for key, value in one.items() if key not in ("machine", "command")}, flush=True)
    return rows


def main() -> None:
    """Writes the table."""
    default = os.environ.get("NEURALFIELDS_DATA", FOLDER.parent.parent / "shared" / "data")
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path(default))
    parser.add_argument("--field", type=Path, help="a hash field of the sample scene, as nf demo writes it")
    parser.add_argument("--seconds", type=float, default=1.0, help="that the camera turns")
    parser.add_argument("--quick", action="store_true", help="few Gaussians in a small picture; nothing is written")
    options = parser.parse_args()
    torch.set_num_threads(1)
    rows: list[dict] = []
    numbers = {2_000: ((160, 90),)} if options.quick else NUMBERS
    with sync_playwright() as play, tempfile.TemporaryDirectory() as folder:
        browser = play.chromium.launch(executable_path=shutil.which("chromium"), args=FLAGS)
        steps = [
            (drawn, (browser, "Gaussians", ball(count), sizes, options.seconds)) for count, sizes in numbers.items()
        ]
        if not options.quick:
            playbot = options.data / "splats" / "splat_playbot" / "playbot_lod3_sh2.ply"
            steps.insert(0, (files, (browser, "playbot", playbot, Path(folder))))
        if options.field:
            steps.insert(1, (files, (browser, "sample", options.field, Path(folder))))
            field = neuralfields.load(options.field)
            steps.insert(2, (drawn, (browser, "hash field", field, SIZES[:1], options.seconds)))
        for measure, given in steps:
            rows += measure(*given)
            if not options.quick:
                write("page", TITLE, rows)
        browser.close()


if __name__ == "__main__":
    main()
