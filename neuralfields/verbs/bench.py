"""`nf bench`: benchmarks the native path against plain torch, and the networks against the machine's peak.

Vocabulary
  native    the fused path of the hash field (ops/hash_render.py) and its optimiser (ops/adam.py)
  plain     the same model from the ops' plain-torch references alone, with torch.optim.Adam: `Plain`
  round     one call of plain and as many of native as take as long; a ratio is the median over rounds, so drift of the
            machine, which slows both, cancels
  sample    a point at which the path evaluated the field. Native has early ray termination, plain has not: samples
            count field evaluations, rays count results

Both train on batches of 2^15 samples each, as each counts them: plain gets the first of native's rays. They share the
occupancy (of a field that was trained for a few seconds), the view and the threads. Learning rates are zero while the
clock runs: the work is whole and the field stays as it is.
"""

import os
import platform
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median
from typing import Any

import torch
from torch import Tensor

from neuralfields.cameras import Camera, fitted
from neuralfields.captures.images import load_frames
from neuralfields.captures.readers import read_scene
from neuralfields.errors import UsageError
from neuralfields.fields.hash import HashField
from neuralfields.gpu.device import use_machine
from neuralfields.models.model import Model, volume_of
from neuralfields.ops.adam import adam
from neuralfields.ops.composite import TRANSMITTANCE_STOP, composite
from neuralfields.ops.contract import contract_reference
from neuralfields.ops.hash_grid import hash_encode, hash_encode_reference
from neuralfields.ops.march import march_rays, march_rays_reference
from neuralfields.ops.native import kernel, library, threads
from neuralfields.ops.network import network_reference
from neuralfields.ops.spherical_harmonics import spherical_harmonics_reference
from neuralfields.options.fit import FitOptions
from neuralfields.options.machine import BenchOptions
from neuralfields.rays import Rays
from neuralfields.rendering.volume import TruncatedExp, Volume, camera_rays
from neuralfields.scene import Scene
from neuralfields.supervision.pixels import Pixels
from neuralfields.trainers.optimiser import BETAS, EPSILON, Optimiser
from neuralfields.training.fit import fit_scene
from neuralfields.verbs.demo import sample_scene

SAMPLES = 1 << 15  # a training batch, of both paths
PICTURE_SAMPLES = 1 << 17  # samples of the view that both render: a second or two for plain torch
PICTURE_SIDE = 128  # pixels of its longer side at most
PLAIN_RAYS = 1 << 12  # rays that plain torch renders at a time: its intermediate results stay small
FEWEST_ROUNDS = 3
WARM_UP = 3  # seconds of training before, in units of the seconds of a measurement
Work = tuple[int, int]  # rays, samples


@dataclass(frozen=True)
class Batch:
    """Training rays with the jitter of their first steps [R] and their target colours [R, 3]."""

    rays: Rays
    jitter: Tensor
    target: Tensor


class Plain:
    """The hash field in plain torch: the same equations and numbers as fields/hash.py, no native code."""

    def __init__(self, field: HashField) -> None:
        self.table, *weights = (
            p.detach().clone().requires_grad_() for p in (field.table, *field.heads.density, *field.heads.colour)
        )
        self.density, self.colour = weights[: len(field.heads.density)], weights[len(field.heads.density) :]
        self.geometry, self.degree = (field.layout.scales, field.layout.levels), field.config.degree
        # fused=True is the fastest that torch has on a CPU.
        self.optimiser = torch.optim.Adam([self.table, *weights], lr=0.0, betas=BETAS, eps=EPSILON, fused=True)

    def rgb(self, volume: Volume, rays: Rays, jitter: Tensor) -> tuple[Tensor, int]:
        """Renders colours over black [R, 3], and counts the samples."""
        origins, directions = volume.normalise(rays)
        samples = march_rays_reference(origins, directions, jitter, volume.occupancy, volume.settings())
        f = hash_encode_reference(
            contract_reference(samples.x, volume.contraction.kind, volume.contraction.extent),
            self.table,
            *self.geometry,
        )
        code = network_reference(f, self.density)
        harmonics = spherical_harmonics_reference(directions[samples.ray], self.degree)
        rgb = torch.sigmoid(network_reference(torch.cat([code, harmonics], dim=1), self.colour))
        tau = TruncatedExp.apply(code[:, 0]) * samples.length
        return composite_colour(tau, rgb, samples.offsets), samples.x.shape[0]

    def train(self, volume: Volume, batch: Batch) -> Work:
        """Takes a training step."""
        rgb, samples = self.rgb(volume, batch.rays, batch.jitter)
        self.optimiser.zero_grad()
        (rgb - batch.target).square().mean().backward()
        self.optimiser.step()
        return len(batch.rays), samples

    @torch.no_grad()
    def render(self, volume: Volume, rays: Rays) -> tuple[Tensor, int]:
        """Renders a view's colours [R, 3] over black, part by part."""
        parts = [rays[i : i + PLAIN_RAYS] for i in range(0, len(rays), PLAIN_RAYS)]
        seen = [self.rgb(volume, part, torch.zeros(len(part))) for part in parts]
        return torch.cat([rgb for rgb, _ in seen]), sum(samples for _, samples in seen)


def composite_colour(tau: Tensor, rgb: Tensor, offsets: Tensor) -> Tensor:
    """Colours [R, 3] from optical depths tau [S] and rgb [S, 3]: composite_reference without the distortion.

    The reference's distortion loss is over all pairs of samples, which would slow plain torch for nothing.
    """
    counts = offsets.diff()
    inside = torch.arange(int(counts.max()))[None] < counts[:, None]
    padded = tau.new_zeros(inside.shape).masked_scatter(inside, tau)
    transmittance = torch.exp(padded - padded.cumsum(1))
    weight = transmittance * (1 - torch.exp(-padded)) * (transmittance >= TRANSMITTANCE_STOP)
    colour = rgb.new_zeros(*inside.shape, 3).masked_scatter(inside[..., None], rgb)
    return (weight[..., None] * colour).sum(1)


class Native:
    """The native path, as training uses it."""

    def __init__(self, volume: Volume) -> None:
        self.volume, self.optimiser = volume, Optimiser(volume.field)

    def train(self, batch: Batch) -> Work:
        """Takes a training step."""
        sums = self.volume.sums(batch.rays, batch.jitter, 4 * SAMPLES)
        (sums.rgb - batch.target).square().mean().backward()
        self.optimiser.step(0.0)
        return len(batch.rays), sums.samples

    @torch.no_grad()
    def render(self, rays: Rays) -> tuple[Tensor, int]:
        """Renders a view's colours [R, 3] over black."""
        sums = self.volume.sums(rays)
        return sums.rgb, sums.samples


def run(options: BenchOptions) -> dict[str, Any]:
    """Runs the benchmark; `train_ratio`, `render_ratio`: samples a second, native over plain torch. See `text`."""
    use_machine("cpu", options.threads)
    begin, load = time.perf_counter(), os.getloadavg() if hasattr(os, "getloadavg") else None
    source = options.scene or sample_scene()
    scene = read_scene(source)
    warm = FitOptions(
        scene=source,
        minutes=WARM_UP * options.seconds / 60,
        threads=options.threads,
        eval_every=0,
        quiet=True,
        field="hash",
    )
    model = fit_scene(replace(scene, test=()), warm)  # its quality does not matter
    if not isinstance(model.field, HashField):
        raise UsageError("nf bench: measures the hash field alone")
    volume = volume_of(model)
    native, plain = Native(volume), Plain(model.field)
    batch, view = _batch(scene, model, native), _view(model.cameras[0], native)
    fewer = _marched(batch, volume)
    difference = float((native.render(view)[0] - plain.render(volume, view)[0]).abs().max())
    training = race(lambda: native.train(batch), lambda: plain.train(volume, fewer), options.seconds)
    rendering = race(
        lambda: (len(view), native.render(view)[1]), lambda: (len(view), plain.render(volume, view)[1]), options.seconds
    )
    seconds = options.seconds / 10
    return {
        "train_ratio": training["samples"]["ratio"],
        "render_ratio": rendering["samples"]["ratio"],
        "train": training,
        "render": rendering,
        "largest_difference": difference,
        **networks(model.field, seconds),
        "parts_ms": parts(volume, fewer, seconds),
        "machine": _machine(load),
        "setting": {
            "scene": scene.name,
            "trained_steps": model.made["steps"],
            "train_rays": {"native": len(batch.rays), "plain": len(fewer.rays)},
            "view_rays": len(view),
            "plain": "ops' plain-torch references, torch.optim.Adam(fused=True)",
        },
        "seconds": time.perf_counter() - begin,
    }


def race(native: Callable[[], Work], plain: Callable[[], Work], seconds: float) -> dict[str, Any]:
    """Alternates both until plain has run for `seconds`; medians of rays and samples a second, and of their ratio."""
    native(), plain()  # caches, allocations
    rounds: list[tuple[list[float], list[float]]] = []
    spent = 0.0
    while spent < seconds or len(rounds) < FEWEST_ROUNDS:
        slow = _rates(plain, 0.0)
        fast = _rates(native, slow[0])
        rounds.append((fast[1:], slow[1:]))
        spent += slow[0]
    result: dict[str, Any] = {"rounds": len(rounds)}
    for index, unit in enumerate(("rays", "samples")):
        fast_rates, slow_rates = [r[0][index] for r in rounds], [r[1][index] for r in rounds]
        ratios = [a / b for a, b in zip(fast_rates, slow_rates, strict=True)]
        result[unit] = {"native": median(fast_rates), "plain": median(slow_rates), "ratio": median(ratios)}
    return result


def _rates(call: Callable[[], Work], seconds: float) -> list[float]:
    """Calls at least once and for `seconds`; returns the time taken, rays a second, samples a second."""
    begin, rays, samples, spent = time.perf_counter(), 0, 0, -1.0
    while spent < seconds:
        work = call()
        rays, samples, spent = rays + work[0], samples + work[1], time.perf_counter() - begin
    return [spent, rays / spent, samples / spent]


def networks(field: HashField, seconds: float) -> dict[str, Any]:
    """Throughput of both networks on SAMPLES samples in fp32 GFLOP/s, and as a fraction of the peak.

    A multiply-add counts as two. Only the necessary operations are counted: 1 pass forward, 2 backward. The backward
    kernel also recomputes the hidden layers; `network_share_recompute` counts those too.
    """
    core, times = library(), {"forward": 0.0, "backward": 0.0}
    needed, again = 0.0, 0.0
    peaks = [core.fma_peak(threads()) for _ in range(2)]
    for weights in ([w.detach() for w in field.heads.density], [w.detach() for w in field.heads.colour]):
        x = torch.rand(SAMPLES, weights[0].shape[1])
        out, d_x = torch.empty(SAMPLES, weights[-1].shape[0]), torch.empty_like(x)
        d_out, d_weights = torch.rand_like(out), [torch.empty_like(w) for w in weights]
        forward, backward = (kernel(f"network_{way}", x.dtype) for way in ("forward", "backward"))
        times["forward"] += _time(lambda: forward(x, weights, out, threads()), seconds)  # noqa: B023
        times["backward"] += _time(lambda: backward(x, weights, d_out, d_weights, d_x, threads()), seconds)  # noqa: B023
        needed += 2.0 * SAMPLES * sum(w.numel() for w in weights)
        again += 2.0 * SAMPLES * sum(w.numel() for w in weights[:-1])
        peaks += [core.fma_peak(threads()) for _ in range(2)]
    peak = max(peaks)  # other work on the machine only ever lowers it
    both = times["forward"] + times["backward"]
    speeds = {
        "forward": needed / times["forward"],
        "backward": 2 * needed / times["backward"],
        "both": 3 * needed / both,
    }
    return {
        "peak_gflops": peak / 1e9,
        "network_gflops": {way: speed / 1e9 for way, speed in speeds.items()},
        "network_share": {way: speed / peak for way, speed in speeds.items()},
        "network_share_recompute": {
            "backward": (2 * needed + again) / times["backward"] / peak,
            "both": (3 * needed + again) / both / peak,
        },
        "network_ms": {way: 1000 * t for way, t in times.items()},
    }


def parts(volume: Volume, batch: Batch, seconds: float) -> dict[str, float]:
    """Milliseconds of the single ops on the batch, which the fused path does in one pass: a profile."""
    field = volume.field
    origins, directions = volume.normalise(batch.rays)
    arguments = (origins, directions, batch.jitter, volume.occupancy, volume.settings())
    samples = march_rays(*arguments)
    x, count = volume.contraction(samples.x), samples.x.shape[0]
    table = field.table.detach().requires_grad_()
    f = hash_encode(x, table, field.layout.scales, field.layout.levels)
    d_f = torch.rand_like(f)
    density, rgb = torch.rand(count).requires_grad_(), torch.rand(count, 3).requires_grad_()
    packed = (density, samples.length, samples.t, rgb, samples.offsets)
    sums = composite(*packed)[0]
    d_sums = torch.rand_like(sums)
    (gradient,) = torch.autograd.grad(f, table, d_f, retain_graph=True)
    moments, settings = (torch.zeros_like(table), torch.zeros_like(table)), (0.0, *BETAS, EPSILON)
    copy = torch.empty_like(gradient)

    def step() -> None:
        adam(table.detach(), copy.copy_(gradient), moments, 1, settings, True)  # it clears the gradient it used

    calls: dict[str, Callable[[], object]] = {
        "march": lambda: march_rays(*arguments),
        "encode_forward": lambda: kernel("hash_forward", x.dtype)(
            x, table.detach(), field.layout.scales, field.layout.levels, f.detach(), threads()
        ),
        "encode_backward": lambda: torch.autograd.grad(f, table, d_f, retain_graph=True),
        "composite_forward": lambda: composite(*packed),
        "composite_backward": lambda: torch.autograd.grad(sums, (density, rgb), d_sums, retain_graph=True),
        "adam": step,
    }
    times = {name: 1000 * _time(call, seconds) for name, call in calls.items()}
    times["adam"] = max(times["adam"] - 1000 * _time(lambda: copy.copy_(gradient), seconds), 0.0)
    return {"samples": count, **times}


def _time(call: Callable[[], object], seconds: float) -> float:
    """Median seconds of a call, over `seconds` and at least 5 calls."""
    call()
    times: list[float] = []
    while sum(times) < seconds or len(times) < 5:
        begin = time.perf_counter()
        call()
        times.append(time.perf_counter() - begin)
    return median(times)


@torch.no_grad()
def _batch(scene: Scene, model: Model, native: Native) -> Batch:
    """Draws training rays for which native evaluates about SAMPLES samples."""
    loaded = load_frames(scene, scene.train[:16], model.made["downscale"])
    pixels = Pixels(loaded.images, loaded.cameras, loaded.masks)
    generator, rays = torch.Generator().manual_seed(0), 4096
    for _ in range(4):
        drawn = pixels.batch(rays, generator)
        jitter = torch.rand(rays, generator=generator)
        taken = native.volume.sums(drawn.rays, jitter).samples
        if abs(taken / SAMPLES - 1) < 0.03:
            break
        rays = max(64, min(1 << 15, round(rays * SAMPLES / max(taken, 1))))
    return Batch(drawn.rays, jitter, drawn.over(torch.zeros(3)))


def _marched(batch: Batch, volume: Volume) -> Batch:
    """Takes the first rays of a batch, as many as give about SAMPLES samples without early termination."""
    origins, directions = volume.normalise(batch.rays)
    offsets = march_rays(origins, directions, batch.jitter, volume.occupancy, volume.settings()).offsets
    count = max(1, int(torch.searchsorted(offsets, SAMPLES)))
    return Batch(batch.rays[:count], batch.jitter[:count], batch.target[:count])


def _view(camera: Camera, native: Native) -> Rays:
    """Rays of a whole view, shrunk to about PICTURE_SAMPLES samples at most."""
    side = float(min(PICTURE_SIDE, max(camera.width, camera.height)))
    for _ in range(3):
        shrink = side / max(camera.width, camera.height)
        rays = camera_rays(
            fitted(camera, (max(1, round(camera.width * shrink)), max(1, round(camera.height * shrink))))
        )
        taken = native.render(rays)[1]
        if taken <= 1.1 * PICTURE_SAMPLES:
            break
        side = max(8.0, side * (PICTURE_SAMPLES / taken) ** 0.5)
    return rays


def _machine(load: tuple[float, float, float] | None) -> dict[str, Any]:
    """Describes the machine; the load average is that of before the run."""
    name = platform.processor() or platform.machine()
    information = Path("/proc/cpuinfo")
    if information.is_file():
        models = [
            line for line in information.read_text(errors="replace").splitlines() if line.startswith("model name")
        ]
        name = models[0].partition(":")[2].strip() if models else name
    return {
        "cpu": name,
        "cores": os.cpu_count(),
        "threads": threads(),
        "instruction_set": library().instruction_set(),
        "load_before": None if load is None else round(load[0], 2),
        "torch": str(torch.__version__),
        "platform": platform.platform(),
    }


def text(result: dict[str, Any]) -> str:
    """Formats the result as a table for people."""
    machine, setting = result["machine"], result["setting"]
    lines = [
        f"{machine['cpu']}, {machine['threads']} threads of {machine['cores']} cores, {machine['instruction_set']}",
        f"load {machine['load_before']} before; scene {setting['scene']}, {setting['trained_steps']} steps of training",
        f"{'':<14}{'native':>14}{'plain torch':>16}{'ratio':>9}",
    ]
    for name in ("train", "render"):
        for unit in ("samples", "rays"):
            row = result[name][unit]
            rates = f"{row['native']:>12,.0f}{'/s':<4}{row['plain']:>12,.0f}{'/s':<4}"
            lines.append(f"{name + ' ' + unit:<16}{rates}{row['ratio']:>7.1f}")
    share, again = result["network_share"], result["network_share_recompute"]
    lines += [
        f"networks   {result['network_gflops']['both']:.0f} of {result['peak_gflops']:.0f} GFLOP/s:"
        f" {share['both']:.0%} of the fp32 peak (forward {share['forward']:.0%}, backward {share['backward']:.0%});"
        f" with recomputed layers counted {again['both']:.0%}",
        "ops        " + ", ".join(f"{k} {v:.2f} ms" for k, v in result["parts_ms"].items() if k != "samples")
        + f" for {result['parts_ms']['samples']} samples",
        f"largest difference of a colour between the two paths: {result['largest_difference']:.1e}",
    ]  # fmt: skip
    return "\n".join(lines)
