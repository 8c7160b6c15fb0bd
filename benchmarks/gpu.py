"""Benchmarks the CUDA path: training time to a quality, frames a second, and both against the hardware's limits.

python benchmarks/gpu.py [--data FOLDER] [--device cuda] [--seconds 40] [--gaussians]       captures in FOLDER/captures

Less than ten minutes. Every row stands beside its floor: the time that the same work takes at the copy rate and the
matrix rate that are measured in the same run. The time of validation is not training time; compilation is reported
apart. Then the same fit by tiny-cuda-nn's and nerfacc's kernels, where they are installed (nerfacc builds its own in a
minute when it is first asked), and Gaussians (gpu_splats.py), which `--gaussians` asks for alone: three minutes more.
Rows are written as they come. `--quick` runs the Gaussians' part in small on the CPU, to see that it runs.
"""

import argparse
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gpu_splats
import torch
from table import row, write

from neuralfields.cameras import Camera, fitted
from neuralfields.captures.images import LoadedFrames, load_frames
from neuralfields.captures.readers import read_scene
from neuralfields.errors import UsageError
from neuralfields.evaluation.evaluate import measure
from neuralfields.gpu import compile as cuda_compile
from neuralfields.ops import backend
from neuralfields.options.fit import FitOptions
from neuralfields.trainers.radiance import RadianceTrainer
from neuralfields.training.photos import new_training
from neuralfields.training.plan import plan_fit

# capture, downscale, the qualities to reach in dB
CASES = {
    "fox quarter": ("ngp_fox", 4, (25.0, 27.0, 29.0)),
    "fox full": ("ngp_fox", 1, (25.0, 27.0, 29.0)),
    "chair": ("synthetic_chair", 1, (30.0, 33.0)),
}
SIZES = {"800x800": (800, 800), "1080p": (1920, 1080)}
FIELDS = ("hash", "cam", "mlp")
VALIDATE_EVERY = 1.2  # the next validation comes after this many times the training time of the last
LOOK_VIEWS = 4
HASH_STEPS = 20_000  # the learning rate falls over as many
# Whose kernels, as ops/backend.py takes them, and whether a step may be one fused pass (ours alone can).
KERNELS = (
    ("ours, fused", ("native", "native"), True),
    ("ours, op by op", ("native", "native"), False),
    ("tiny-cuda-nn's networks and encoding", ("tcnn", "native"), False),
    ("nerfacc's march", ("native", "nerfacc"), False),
    ("tiny-cuda-nn and nerfacc", ("tcnn", "nerfacc"), False),
)
KERNEL_WARM_UP, KERNEL_STEPS = 300, 200


class Machine:
    """The device, its clock, and its limits as measured: bytes a second of a copy, fp16 operations a second."""

    def __init__(self, device: str) -> None:
        self.device = torch.device(device)
        self.cuda = self.device.type == "cuda"
        self.name = torch.cuda.get_device_name() if self.cuda else "cpu"
        size = 1 << (30 if self.cuda else 26)
        a, b = (torch.empty(size, dtype=torch.uint8, device=device) for _ in range(2))
        self.bandwidth = 2 * size / self.seconds(lambda: a.copy_(b))
        n, dtype = (8192, torch.float16) if self.cuda else (1024, torch.float32)
        x = torch.randn(n, n, device=device).to(dtype)
        self.operations = 2 * n**3 / self.seconds(lambda: x @ x)

    def wait(self) -> None:
        """Until the device has done everything."""
        if self.cuda:
            torch.cuda.synchronize()

    def seconds(self, work: Callable[[], Any], times: int = 10) -> float:
        """Of one call, the mean of some after two that warm up."""
        for index in range(times + 2):
            if index == 2:
                self.wait()
                start = time.perf_counter()
            work()
        self.wait()
        return (time.perf_counter() - start) / times


def floors(field: torch.nn.Module, machine: Machine) -> tuple[float, float]:
    """Seconds a sample that its table's bytes and its networks' products cost at least: (forward, training step).

    Bytes: 8 corners a level are read; in training their gradients are read and written, and Adam's four arrays of
    what was hit too, once a step, which is left out. Products: 2 a weight forward, twice that backward.
    """
    if not hasattr(field, "table"):
        return 0.0, 0.0
    config = field.config
    gathered = 8 * config.levels * config.features * 4
    weights = sum(p.numel() for p in field.heads.parameters())
    forward = max(gathered / machine.bandwidth, 2 * weights / machine.operations)
    return forward, forward + max(3 * gathered / machine.bandwidth, 4 * weights / machine.operations)


def training_of(capture: Path, downscale: int, field: str, machine: Machine) -> tuple[RadianceTrainer, LoadedFrames]:
    """A fit at its beginning and the held-out views."""
    scene = read_scene(capture)
    options = FitOptions(capture, field=field, downscale=downscale, device=machine.device.type)
    loaded = load_frames(scene, scene.train, downscale)
    return new_training(scene, plan_fit(options, scene), loaded), load_frames(scene, scene.test, downscale)


def quality(training: RadianceTrainer, views: LoadedFrames, count: int | None = None) -> float:
    """Mean held-out PSNR, of some views evenly chosen or of all."""
    every = max(1, len(views.images) // count) if count else 1
    background = training.background.colour
    chosen = list(zip(views.images, views.cameras, views.masks, strict=True))[::every]
    scores = [measure(training.volume, *view[:2], background, view[2], structure=False).psnr for view in chosen]
    return sum(scores) / len(scores)


def time_to(name: str, data: Path, machine: Machine, limit: float) -> tuple[dict[str, Any], RadianceTrainer]:
    """One fit of the hash field: seconds until each quality, and the rates of its last second."""
    capture, downscale, targets = CASES[name]
    training, views = training_of(data / capture, downscale, "hash", machine)
    reached: dict[float, float] = {}
    seconds, next_look, samples, rays, timed = 0.0, 0.25, 0, 0, 0.0
    training.step(0.0)  # compiles and warms up; it counts as a step, not as time
    while seconds < limit and len(reached) < len(targets):
        machine.wait()
        start = time.perf_counter()
        while seconds + (spent := time.perf_counter() - start) < min(next_look, limit):
            report = training.step(min(1.0, training.step_count / HASH_STEPS))
            samples, rays = samples + report.samples, rays + report.rays
        machine.wait()
        spent = time.perf_counter() - start
        seconds, timed = seconds + spent, timed + spent
        psnr = quality(training, views, LOOK_VIEWS)
        for target in targets:
            if psnr >= target and target not in reached and quality(training, views) >= target:
                reached[target] = seconds
        next_look = seconds * VALIDATE_EVERY
    figures = {f"s to {target:g} dB": round(reached[target], 2) if target in reached else "not reached"
               for target in targets}  # fmt: skip
    floor = floors(training.field, machine)[1] * samples
    rates = {"Msamples/s": samples / timed / 1e6, "Mrays/s": rays / timed / 1e6, "steps": training.step_count}
    return {**figures, "dB at the end": round(quality(training, views), 2), **rates, "floor s": floor}, training


def frames(training: RadianceTrainer, view: Camera, machine: Machine) -> dict[str, Any]:
    """Milliseconds of a picture at each size, and its floor."""
    found: dict[str, Any] = {}
    for name, size in SIZES.items():
        camera = fitted(view, size)
        seconds = machine.seconds(lambda c=camera: training.volume.render(c, (0.0, 0.0, 0.0)), 5)
        found |= {f"ms at {name}": seconds * 1000, f"frames/s at {name}": 1 / seconds}
    return found


def main() -> None:
    """Everything, a row at a time."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=Path(os.environ.get("NEURALFIELDS_DATA", "../shared/data")))
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--seconds", type=float, default=40.0, help="the longest that one fit may take")
    parser.add_argument("--cases", nargs="*", default=list(CASES))
    parser.add_argument("--gaussians", action="store_true", help="Gaussians alone")
    parser.add_argument("--quick", action="store_true", help="Gaussians alone, small and on the CPU")
    options = parser.parse_args()
    if options.quick:
        options.gaussians, options.device, options.seconds = True, "cpu", 4.0
    begin, rows, captures = time.perf_counter(), [], options.data / "captures"
    machine = Machine(options.device)
    command = f"python benchmarks/gpu.py --device {options.device} --seconds {options.seconds:g}"
    command += " --quick" * options.quick or " --gaussians" * options.gaussians

    def tell(what: str, **figures: Any) -> None:
        rows.append(row(command, what=what, device=machine.name, **figures))
        print(f"[{time.perf_counter() - begin:5.0f} s] {what}: {figures}", flush=True)
        write("gpu", f"The CUDA path on {machine.name}", rows)

    tell("limits", **{"GB/s": machine.bandwidth / 1e9, "TFLOP/s": machine.operations / 1e12})
    if machine.cuda:
        start = time.perf_counter()
        from neuralfields.verbs.doctor_cuda import self_test

        difference = self_test()
        first = time.perf_counter() - start
        tell("self-test", **{"s with compiling": first, "difference": difference, "cache": bool(cuda_compile.key)})
    if not options.gaussians:
        tell_fields(options, captures, machine, tell)
    gpu_splats.tell_all(captures, machine, options.seconds, options.quick, tell)


def tell_fields(options: argparse.Namespace, captures: Path, machine: Machine, tell: Callable[..., None]) -> None:
    """The rows of fields, and of the kernels of others."""
    for name in options.cases:
        figures, training = time_to(name, captures, machine, options.seconds)
        tell(f"hash on {name}", **figures)
        tell(f"pictures of hash, {name}", **frames(training, training_view(captures, name), machine))
    for field in FIELDS[1:]:
        training, views = training_of(captures / "synthetic_chair", 1, field, machine)
        training.step(0.0)
        start = time.perf_counter()
        while time.perf_counter() - start < options.seconds / 2:
            training.step(0.5)
        figures = frames(training, views.cameras[0], machine)
        tell(f"pictures of {field}, chair", **{"dB": round(quality(training, views, LOOK_VIEWS), 2)}, **figures)
    for what, chosen, fused in KERNELS:
        try:
            with backend.using(*chosen, machine.device.type):
                tell(f"chair by {what}", **rates_of(captures, machine, fused))
        except UsageError as error:
            tell(f"chair by {what}", compared=str(error))


def rates_of(captures: Path, machine: Machine, fused: bool) -> dict[str, Any]:
    """Training steps of the hash field on the chair by the kernels in use, after a warm-up that clears floaters."""
    training, views = training_of(captures / "synthetic_chair", 1, "hash", machine)
    if not fused:
        training.field.fused = lambda: None
    for step in range(KERNEL_WARM_UP):
        training.step(step / HASH_STEPS)
    machine.wait()
    start, samples, rays = time.perf_counter(), 0, 0
    for step in range(KERNEL_STEPS):
        report = training.step((KERNEL_WARM_UP + step) / HASH_STEPS)
        samples, rays = samples + report.samples, rays + report.rays
    machine.wait()
    seconds = time.perf_counter() - start
    rates = {"ms a step": 1000 * seconds / KERNEL_STEPS, "Msamples/s": samples / seconds / 1e6}
    psnr = round(quality(training, views, LOOK_VIEWS), 2)
    return {**rates, "Mrays/s": rays / seconds / 1e6, "dB": psnr, **frames(training, views.cameras[0], machine)}


def training_view(captures: Path, name: str) -> Camera:
    """The first held-out camera of a case."""
    scene = read_scene(captures / CASES[name][0])
    return scene.frames[scene.test[0]].camera


if __name__ == "__main__":
    main()
