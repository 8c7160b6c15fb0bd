"""Quality over bytes of a scene of Gaussians: our .nfz at several qualities beside the files of other programs.

All are read back and looked at by the same cameras: a capture's held-out ones, or drawn ones that no tuning saw.
"""

import json
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from neuralfields.codecs import sog, spz
from neuralfields.codecs.splats import read_gaussians, write_gaussians
from neuralfields.compression.compress import Goal, compress
from neuralfields.compression.original import CaptureCameras, Original
from neuralfields.errors import InputError
from neuralfields.files import atomic_write_bytes
from neuralfields.gaussians import Gaussians
from neuralfields.pictures.charts import Chart, Series, plot_lines
from neuralfields.pictures.panels import save_image
from neuralfields.rendering.renderable import Colour
from neuralfields.scene import Bounds

QUALITIES = (0.02, 0.05, 0.1, 0.3, 0.6, 1.2, 2.5)  # dB lost
SPZ_BITS = ((8, 8), (5, 4), (3, 2))  # of harmonics
SOG_SHARES = (4, 16, 64)  # Gaussians to a word of the codebook
OURS = "nfz"


@dataclass(frozen=True)
class Curve:
    """Rows of plain data: `format`, `setting`, bytes, psnr, ssim, seconds, and `photos`: dB they lose, or None."""

    rows: list[dict[str, Any]]
    gaussians: int

    def write(self, picture: Path) -> dict[str, Any]:
        """Writes the picture, and the table beside it as .md and .json; returns path (of the table), picture, rows."""
        save_image(picture, self.chart())
        table_path = picture.with_suffix(".md")
        atomic_write_bytes(table_path, (table(self.rows) + "\n").encode())
        atomic_write_bytes(picture.with_suffix(".json"), json.dumps(self.rows, indent=1).encode())
        return {"path": str(table_path), "picture": str(picture), "gaussians": self.gaussians, "rows": self.rows}

    def chart(self) -> Any:
        """dB over bytes, uint8 [H, W, 3]; files without a difference in 8 bits (100 dB) are left out."""
        lines: dict[str, list[tuple[float, float]]] = {}
        for row in self.rows:
            if row["psnr"] < 100:
                lines.setdefault(row["format"], []).append((row["bytes"] / 1000, row["psnr"]))
        drawn = [
            Series(name, *zip(*sorted(points), strict=True), strong=name == OURS) for name, points in lines.items()
        ]
        title = f"{self.gaussians:,} Gaussians: PSNR against the original over bytes"
        return plot_lines(drawn, Chart(title, x_label="kB of the file", y_label="dB", log_x=True))


def curve(
    gaussians: Gaussians,
    bounds: Bounds,
    goal: Goal,
    background: Colour = (0.0, 0.0, 0.0),
    cameras: CaptureCameras | None = None,
    stage: Callable[[str], None] = lambda _: None,
) -> Curve:
    """Measures every format, and ours at QUALITIES with the steps and seed of `goal`."""
    original, rows = Original(gaussians, bounds, background, cameras), []

    def row(name: str, setting: str, size: int, seconds: float, found: Gaussians) -> None:
        figures = original.figures(found)
        photos = figures["photos"]
        rows.append(
            {
                "format": name, "setting": setting, "bytes": size, "bytes_each": size / len(gaussians),
                "psnr": figures["psnr"], "ssim": figures["ssim"], "photos": photos["lost"] if photos else None,
                "seconds": seconds,
            }
        )  # fmt: skip

    with tempfile.TemporaryDirectory() as folder:
        for name, setting, suffix, write in others(len(gaussians), gaussians.degree):
            stage(f"{name} {setting}".strip())
            file, begin = Path(folder) / f"a{suffix}", time.perf_counter()
            write(gaussians, file)
            seconds = time.perf_counter() - begin
            row(name, setting, file.stat().st_size, seconds, read_gaussians(file))
    for lost in QUALITIES:
        stage(f"{OURS} {lost:g} dB")
        try:
            made = compress(gaussians, bounds, replace(goal, quality=lost), background, cameras)
        except InputError:  # of several qualities the finest may not be reached
            continue
        row(OURS, f"{lost:g} dB", len(made.data), float(made.report["seconds"]), made.gaussians)
    return Curve(rows, len(gaussians))


def others(count: int, degree: int) -> Iterator[tuple[str, str, str, Callable[[Gaussians, Path], None]]]:
    """Name, setting, suffix and writer of the files of other programs."""
    yield "ply", "", ".ply", write_gaussians
    yield "compressed ply", "", ".compressed.ply", write_gaussians
    for bits in SPZ_BITS if degree else SPZ_BITS[1:2]:
        yield "spz", f"{bits[0]}, {bits[1]} bits", ".spz", lambda g, path, b=bits: spz.write(g, path, bits=b)
    yield "sog", "", ".sog", write_gaussians
    for share in SOG_SHARES if degree else ():
        words = max(count // share, 1)
        yield "sog", f"{words} words", ".sog", lambda g, path, w=words: sog.write(g, path, words=w)


def table(rows: list[dict[str, Any]]) -> str:
    """The rows as Markdown."""
    photos = any(row["photos"] is not None for row in rows)
    lines = ["| format | setting | bytes | bytes a Gaussian | PSNR | SSIM |" + (" photos lose |" if photos else "")]
    lines.append("|---|---|---|---|---|---|" + ("---|" if photos else ""))
    for row in rows:
        line = (
            f"| {row['format']} | {row['setting']} | {row['bytes']} | {row['bytes_each']:.2f} | {row['psnr']:.2f} | "
            f"{row['ssim']:.4f} |"
        )
        lines.append(line + (f" {row['photos']:.2f} dB |" if photos else ""))
    return "\n".join(lines)
