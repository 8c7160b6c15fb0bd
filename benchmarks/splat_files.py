"""Splat files: processor seconds to write and to read, bytes a Gaussian, and how far the round trip is off.

python benchmarks/splat_files.py [--quick] [--data FOLDER] [--count 100000]

Made Gaussians first (harmonics of degree 3 drawn from a mixture, so that neither two are alike nor all independent),
then the real ones of the shared data. Errors are root mean squares: of means as a share of the scene's diagonal, of
harmonics beyond the constant as a share of their own size; angles in degrees. Processor time, so that what else the
machine does counts for little.
"""

import argparse
import os
import tempfile
import time
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

import torch
from table import FOLDER, kept, row, write

from neuralfields.codecs import sog, spz
from neuralfields.codecs.quantisation import morton_order
from neuralfields.codecs.splats import SPLAT_FORMATS, read_gaussians, write_gaussians
from neuralfields.gaussians import COUNTS, Gaussians

REAL = ("splat_small/kacytran_iter7000_9080_sh3.ply", "splat_playbot/3_0", "splat_statues/angel.sog")
TITLE = "Splat files: processor seconds, bytes a Gaussian, error of a round trip"
SORTED = ("compressed.ply", "sog")
Case = tuple[str, str, dict]
CASES: list[Case] = [
    ("ply", "a.ply", {}), ("compressed.ply", "a.compressed.ply", {}), ("splat", "a.splat", {}),
    ("spz 3", "a.spz", {"version": 3}), ("spz 4", "a.spz", {"version": 4}),
    ("spz 3, 8 bits", "a.spz", {"version": 3, "bits": (8, 8)}), ("sog", "a.sog", {}),
    ("sog, N/4 words", "a.sog", {"words": 4}), ("sog, N/16 words", "a.sog", {"words": 16}), ("glb", "a.glb", {}),
]  # fmt: skip


def made(count: int, degree: int = 3) -> Gaussians:
    """Thin discs on a bumpy sphere, a thousand materials with their own harmonics, each Gaussian a little off them."""
    chance = torch.Generator().manual_seed(0)
    way = torch.nn.functional.normalize(torch.randn(count, 3, generator=chance), dim=1)
    size = torch.exp(0.6 * torch.randn(count, 3, generator=chance) - torch.tensor([4.5, 4.5, 7.0]))
    falling = torch.tensor([1.0] + [0.15] * 3 + [0.08] * 5 + [0.05] * 7)[: COUNTS[degree], None]
    materials = torch.randn(1000, COUNTS[degree], 3, generator=chance) * falling
    own = torch.randn(count, COUNTS[degree], 3, generator=chance) * falling * 0.5
    return Gaussians(
        means=way * (2 + 0.1 * torch.sin(9 * way)),
        scales=size.log(),
        rotations=torch.randn(count, 4, generator=chance),
        opacities=2 * torch.randn(count, generator=chance) + 1,
        harmonics=materials[torch.randint(1000, (count,), generator=chance)] + own,
    )


def measure(scene: str, gaussians: Gaussians, case: Case, folder: Path, command: str) -> dict:
    """One format, once each way; the formats' modules are loaded before."""
    name, file, options = case
    path, n = folder / file, len(gaussians)
    options = {key: n // value if key == "words" else value for key, value in options.items()}
    writer = {"spz": spz.write, "sog": sog.write}.get(SPLAT_FORMATS[path.suffix], write_gaussians)
    writing, _ = _timed(lambda: writer(gaussians, path, **options))
    reading, found = _timed(lambda: read_gaussians(path))
    if name.startswith(SORTED):
        gaussians = gaussians.take(torch.from_numpy(morton_order(gaussians.means.numpy())))
    return row(
        command,
        scene=scene,
        gaussians=n,
        degree=gaussians.degree,
        format=name,
        write_s=round(writing, 3),
        read_s=round(reading, 3),
        bytes_each=round(path.stat().st_size / n, 1),
        **_errors(gaussians, found),
    )


def _timed(work: Callable[[], Any]) -> tuple[float, Any]:
    begin = time.process_time()
    result = work()
    return time.process_time() - begin, result


def _errors(gaussians: Gaussians, found: Gaussians) -> dict[str, float | str]:
    diagonal = float((gaussians.means.amax(0) - gaussians.means.amin(0)).norm())
    q, p = (torch.nn.functional.normalize(g.rotations.double(), dim=1) for g in (gaussians, found))
    chord = torch.minimum((q - p).norm(dim=1), (q + p).norm(dim=1))
    angle = 4 * torch.asin((chord / 2).clamp(max=1)) * (180 / torch.pi)
    rest = gaussians.harmonics[:, 1:]
    kept = found.with_degree(gaussians.degree).harmonics[:, 1:]

    def rms(values: torch.Tensor) -> float:
        return float(values.double().square().mean().sqrt())

    return {
        "means_rms": float(f"{rms((gaussians.means - found.means).norm(dim=1)) / diagonal:.2g}"),
        "log_scales_rms": float(f"{rms(gaussians.scales - found.scales):.2g}"),
        "angle_rms": float(f"{rms(angle):.2g}"),
        "opacity_rms": float(f"{rms(gaussians.opacity() - found.opacity()):.2g}"),
        "colour_rms": float(f"{rms(gaussians.base_colour() - found.base_colour()):.2g}"),
        "harmonics_rms": float(f"{rms(rest - kept) / rms(rest):.2g}") if gaussians.degree else "",
    }


def main() -> None:
    """Writes the table, or shows the rows of a quick run."""
    default = os.environ.get("NEURALFIELDS_DATA", FOLDER.parent.parent / "shared" / "data")
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="2000 made Gaussians, nothing is written")
    parser.add_argument("--data", type=Path, default=Path(default))
    parser.add_argument("--count", type=int, default=100_000)
    options = parser.parse_args()
    torch.set_num_threads(1)  # threads that wait for one another on a busy machine would count as work
    count = 2000 if options.quick else options.count
    scenes = {f"made, {count}": made(count)}
    if not options.quick:
        names = [name for name in REAL if (options.data / "splats" / name).exists()]
        scenes |= {name: read_gaussians(options.data / "splats" / name) for name in names}
    command = f"python benchmarks/splat_files.py --count {count}"
    rows = [] if options.quick else kept("splat_files", command)
    done = {(r["scene"], r["format"]) for r in rows}
    for module in set(SPLAT_FORMATS.values()):
        import_module(f"neuralfields.codecs.{module}")
    with tempfile.TemporaryDirectory() as folder:
        for scene, gaussians in scenes.items():
            for case in CASES:
                wanted = gaussians.degree or not ("words" in case[0] or "bits" in case[0])
                if wanted and (scene, case[0]) not in done:
                    rows.append(measure(scene, gaussians, case, Path(folder), command))
                    print({key: value for key, value in rows[-1].items() if key not in ("machine", "command")})
                    if not options.quick:
                        write("splat_files", TITLE, rows)


if __name__ == "__main__":
    main()
