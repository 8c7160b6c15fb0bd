"""The Gaussian rasteriser on the CPU: a view, a step of training and their parts, beside a plain-torch rasteriser.

python benchmarks/splat_speed.py DATA [--steps 400] [--plain]

DATA holds captures/ngp_fox. The Gaussians are real: 60 thousand around the capture's sparse points, or at random in its
bounds, are fitted for some hundred steps first, so that they overlap as those of a fit do. Wall time: the lowest tenth
of the repetitions with the threads named; processor time likewise with one thread, which other processes disturb less.
`--plain` adds torch's own time for the same view and step (minutes), and the ratios.
"""

import argparse
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from table import row, write
from torch import Tensor

from neuralfields.cameras import NO_DISTORTION
from neuralfields.captures.images import load_frames
from neuralfields.captures.readers import read_scene
from neuralfields.ops.blend import blend_reference
from neuralfields.ops.image_loss import image_loss, image_loss_reference
from neuralfields.ops.project import View, project_reference
from neuralfields.ops.splat_pass import Adam, Packed, SplatPass, morton_order
from neuralfields.trainers.splats import HARMONICS_EVERY

BLACK = (0.0, 0.0, 0.0)
REPETITIONS = 15


def beginning(points: np.ndarray, count: int, generator: torch.Generator) -> Packed:
    """`count` Gaussians around points, each as large as its neighbours are far."""
    from_points = torch.from_numpy(points).float()
    chosen = torch.randint(0, len(from_points), (count,), generator=generator)
    some = from_points[torch.randint(0, len(from_points), (min(2000, len(from_points)),), generator=generator)]
    far = torch.cat(
        [torch.cdist(part, some).topk(4, 1, largest=False)[0][:, 1:].mean(1) for part in from_points.split(4096)]
    )
    spread = (far[chosen] * (len(some) / count) ** (1 / 3)).clamp(min=1e-4)
    means = from_points[chosen] + spread[:, None] * torch.randn(count, 3, generator=generator)
    scales = (0.5 * spread).log()[:, None].expand(-1, 3).contiguous()
    rotations = torch.randn(count, 4, generator=generator)
    order = morton_order(means)
    harmonics = torch.zeros(count, 16, 3)
    return Packed.of(means[order], scales[order], rotations, torch.full((count,), -1.5), harmonics)


def fit(run: SplatPass, views: list[View], targets: list[Tensor], steps: int, extent: float) -> None:
    """Some hundred steps over the photos in turn."""
    packed = run.gaussians
    moments = packed.zeros_like(), packed.zeros_like()
    for step in range(1, steps + 1):
        at = (7 * step) % len(views)
        loss = image_loss(run.render(views[at], BLACK, 3 * step // steps).rgb, targets[at])
        run.backward(loss.d_rgb)
        run.adam(moments, Adam(2e-4 * extent, 5e-3, 1e-3, 5e-2, 5e-3, 2.5e-4, step=step, rest_step=step))


def timed(
    what: Callable[[], object], threads: int, clock: Callable[[], float], repetitions: int = REPETITIONS
) -> float:
    """Milliseconds of a call, the lowest tenth of the repetitions."""
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    taken = []
    for _ in range(repetitions):
        start = clock()
        what()
        taken.append(1e3 * (clock() - start))
    torch.set_num_threads(before)
    return sorted(taken)[len(taken) // 10]


def step_of(run: SplatPass, view: View, target: Tensor) -> Callable[[int], None]:
    """A training step with rates too small to change the scene; higher harmonics are moved as often as in a fit."""
    packed = run.gaussians
    moments = packed.zeros_like(), packed.zeros_like()
    buffers = torch.empty_like(target), target.new_empty(target.shape[:2])
    rates = Adam(1e-9, 1e-9, 1e-9, 1e-9, 1e-9, 1e-9, step=1)

    def step(number: int) -> None:
        loss = image_loss(run.render(view, BLACK, 3).rgb, target, out=buffers)
        run.backward(loss.d_rgb)
        run.adam(
            moments,
            replace(rates, step=number + 1, rest_step=0 if number % HARMONICS_EVERY else number // HARMONICS_EVERY),
        )

    return step


def plain(run: SplatPass, view: View, target: Tensor) -> tuple[float, float]:
    """Seconds of a view, and of a view with its gradients, by the reference in plain torch."""
    leaves = [part.requires_grad_() for part in run.gaussians.unpacked()]

    def render() -> Tensor:
        return blend_reference(project_reference(*leaves, view, 3), view.size, BLACK, 16)[0]

    start = time.perf_counter()
    with torch.no_grad():
        render()
    middle = time.perf_counter()
    image_loss_reference(render(), target)[0].backward()
    return middle - start, time.perf_counter() - middle


def measure(run: SplatPass, view: View, target: Tensor, command: str, with_plain: bool) -> dict:
    """One row: what there is, and how long it takes."""
    threads, counter = torch.get_num_threads(), iter(range(1, 10**6))
    step = step_of(run, view, target)
    step(16)
    seen, pairs = int(run.kept("totals")[0]), int(run.kept("tile_offset")[-1])
    figures = {
        "size": f"{view.size[0]}x{view.size[1]}",
        "gaussians": len(run.gaussians),
        "visible": seen,
        "pairs": pairs,
        "view_ms": round(timed(lambda: run.render(view, BLACK, 3), threads, time.perf_counter), 1),
        "step_ms": round(timed(lambda: step(next(counter)), threads, time.perf_counter, 48), 1),
        "view_cpu_ms": round(timed(lambda: run.render(view, BLACK, 3), 1, time.process_time), 1),
        "step_cpu_ms": round(timed(lambda: step(next(counter)), 1, time.process_time, 48), 1),
        "threads": threads,
    }
    if with_plain:
        view_s, step_s = plain(run, view, target)
        figures |= {
            "plain_view_s": round(view_s, 2),
            "plain_step_s": round(step_s, 2),
            "view_ratio": round(1e3 * view_s / figures["view_ms"]),
            "step_ratio": round(1e3 * step_s / figures["step_ms"]),
        }
    return row(command, **figures)


def seeing_least(run: SplatPass, views: list[View]) -> int:
    """The view that sees the fewest Gaussians."""
    found = []
    for view in views:
        run.render(view, BLACK, 3)
        found.append(int(run.kept("totals")[0]))
    return min(range(len(views)), key=found.__getitem__)


def main() -> None:
    """By number of Gaussians at one size, then by size."""
    words = argparse.ArgumentParser(description=__doc__)
    words.add_argument("data", type=Path)
    words.add_argument("--steps", type=int, default=400)
    words.add_argument("--plain", action="store_true")
    words.add_argument("--counts", type=int, nargs="+", default=[10_000, 60_000, 200_000, 1_000_000])
    words.add_argument("--downscales", type=int, nargs="+", default=[4, 2])
    asked = words.parse_args()
    scene = read_scene(asked.data / "captures" / "ngp_fox")
    generator = torch.Generator().manual_seed(0)
    box = np.asarray(scene.bounds.centre) + scene.bounds.side * (np.random.default_rng(0).random((4000, 3)) - 0.5)
    points = scene.points if scene.points is not None else box
    command = f"python benchmarks/splat_speed.py $DATA --steps {asked.steps}" + " --plain" * asked.plain
    rows = []
    for downscale in asked.downscales:
        loaded = load_frames(scene, scene.train, downscale=downscale)
        cameras = [replace(camera, model="perspective", distortion=NO_DISTORTION) for camera in loaded.cameras]
        views = [View.of(camera, near=0.01 * scene.bounds.side) for camera in cameras]
        targets = [torch.from_numpy(np.ascontiguousarray(image[..., :3])).float() / 255 for image in loaded.images]
        counts = asked.counts if downscale == asked.downscales[0] else [60_000]
        for count in counts:
            run = SplatPass(beginning(points, count, generator))
            fit(run, views, targets, asked.steps if count <= 60_000 else asked.steps // 4, scene.bounds.side)
            which = [0, seeing_least(run, views)] if count == 60_000 else [0]
            for at in which:
                rows.append(measure(run, views[at], targets[at], command, asked.plain and count == 60_000 and at == 0))
                print(rows[-1], flush=True)
    write("splat_speed", "The Gaussian rasteriser on a CPU", rows)


if __name__ == "__main__":
    main()
