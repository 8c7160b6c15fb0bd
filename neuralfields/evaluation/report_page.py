"""Writes an evaluation as one HTML page: the figures, every view beside its photo, the curve of the fit.

The page holds all it shows: no script, no request, nothing to install. Texts of files and captures are escaped.
"""

import base64
import html
import io
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from neuralfields import fields
from neuralfields.evaluation.evaluate import Report, View
from neuralfields.files import companion, printable
from neuralfields.models.model import Model
from neuralfields.pictures.charts import Chart, Series, plot_lines
from neuralfields.pictures.panels import comparison, stack

WIDEST = 1600  # pixels of the large panels
THUMB = 720  # pixels of the panel of a view in the table
LOG_LINES = 200_000  # of a log that are read
STYLE = """
:root { color-scheme: light; font: 15px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, sans-serif; }
body { max-width: 1080px; margin: 0 auto; padding: 32px 20px 64px; color: #1f2328; background: #fafaf8; }
h1 { margin: 0; font-size: 26px; overflow-wrap: anywhere; } h2 { margin: 40px 0 12px; font-size: 18px; }
p { margin: 4px 0; } .quiet { color: #5f6670; } img { display: block; max-width: 100%; height: auto; }
.figures { display: flex; flex-wrap: wrap; gap: 12px 36px; margin: 24px 0 0; padding: 0; list-style: none; }
.figures b { display: block; font-size: 28px; font-weight: 600; line-height: 1.2; }
.warning { padding: 8px 12px; border-left: 4px solid #b0761a; background: #fff6e2; overflow-wrap: anywhere; }
table { width: 100%; border-collapse: collapse; font-variant-numeric: tabular-nums; }
th { text-align: left; font-weight: 600; color: #5f6670; } td, th { padding: 6px 12px 6px 0; vertical-align: middle; }
td { border-top: 1px solid #e2e4e6; overflow-wrap: anywhere; } .number { text-align: right; white-space: nowrap; }
"""


def panel(view: View) -> str:
    """Photo, render and error of a view with its images, small, as the address of a picture."""
    return _data(comparison(view.photo, view.rgb, view.name, f"{view.psnr:.2f} dB"), THUMB)


def report_page(model: Model, name: str, report: Report, panels: list[str], log: list[dict[str, Any]]) -> str:
    """The page as text. `name`: of the model's file; `panels`: of the report's views; `log`: lines of `fit_log`."""
    shown = [("worst", report.worst), *([("best", report.best)] if len(report.views) > 1 else [])]
    large = stack([comparison(v.photo, v.rgb, f"{label}: {v.name}", f"{v.psnr:.2f} dB") for label, v in shown])
    milliseconds = 1000 * float(np.mean([view.seconds for view in report.views]))
    parameters = sum(p.numel() for p in model.field.parameters())
    figures = [
        (f"{report.psnr:.2f} dB", f"PSNR, {len(report.views)} views ({report.split})"),
        (_ssim(report.ssim), "SSIM"),
        (f"{milliseconds:.0f} ms", "a view, on this machine"),
        (f"{parameters:,}", f"parameters, {fields.field_name(model.field)}"),
    ]
    parts = [f"<h1>{_text(name)}</h1>", _summary(model)]
    parts.append(f'<ul class="figures">{"".join(f"<li><b>{_text(a)}</b>{_text(b)}</li>" for a, b in figures)}</ul>')
    if report.convention:
        parts.append(f'<p class="quiet">{_text(report.convention)}; without that {report.psnr_given:.2f} dB.</p>')
    parts += [f'<p class="warning">{_text(each)}</p>' for each in report.warnings]
    parts.append(f"<h2>Worst and best</h2>{_picture(_data(large, WIDEST), 'Photo, render and error of both')}")
    if (curve := _curve(log)) is not None:
        parts.append(f"<h2>The fit</h2>{_picture(_data(curve, WIDEST), 'PSNR over seconds of training')}")
    parts.append(f"<h2>Every view, the worst first</h2>{_table(report, panels)}")
    parts.append(f"<h2>How it was made</h2>{_made(model)}")
    return _page(name, "\n".join(parts))


def fit_log(model_path: Path) -> list[dict[str, Any]]:
    """Lines of the log that a fit left beside its model; none where it is gone, or is no such log."""
    path, lines = companion(model_path, ".log.jsonl"), []
    try:
        with path.open(encoding="utf-8") as file:
            for _, line in zip(range(LOG_LINES), file, strict=False):
                lines.append(json.loads(line))
    except (OSError, ValueError, RecursionError):
        return []
    return [line for line in lines if isinstance(line, dict)]


def _curve(log: list[dict[str, Any]]) -> np.ndarray | None:
    """PSNR of training and of held-out views over seconds; None where the log has fewer than two points."""
    series = []
    for key, name, strong in (("psnr", "training", False), ("held_out_psnr", "held out", True)):
        points = [(line.get("seconds"), line.get(key)) for line in log]
        points = [(x, y) for x, y in points if _is_number(x) and _is_number(y)]
        if points:
            series.append(Series(name, *(tuple(map(float, side)) for side in zip(*points, strict=True)), strong))
    if sum(len(each.x) for each in series) < 2:
        return None
    return plot_lines(series, Chart(x_label="seconds of training", y_label="PSNR in dB", size=(1200, 480)))


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 1e9


def _summary(model: Model) -> str:
    made = model.made
    words = [f"{made['steps']:,} steps"] if isinstance(made.get("steps"), int) else []
    words += [f"{made['seconds']:.1f} s of training"] if isinstance(made.get("seconds"), float) else []
    words += [f"capture {made['scene']}"] if made.get("scene") else []
    return f'<p class="quiet">{_text(", ".join(words))}</p>' if words else ""


def _table(report: Report, panels: list[str]) -> str:
    rows = ['<tr><th>photo, render, error</th><th class="number">PSNR</th><th class="number">SSIM</th></tr>']
    for view, shown in sorted(zip(report.views, panels, strict=True), key=lambda each: each[0].psnr):
        rows.append(
            f'<tr><td>{_picture(shown, view.name)}</td><td class="number">{view.psnr:.2f} dB</td>'
            f'<td class="number">{_ssim(view.ssim)}</td></tr>'
        )
    return f"<table>{''.join(rows)}</table>"


def _ssim(value: float) -> str:
    """SSIM as text; small pictures have none."""
    return f"{value:.4f}" if math.isfinite(value) else "none"


def _made(model: Model) -> str:
    values = {key: value for key, value in model.made.items() if isinstance(value, str | int | float | bool)}
    rows = "".join(f"<tr><td>{_text(key)}</td><td>{_text(value)}</td></tr>" for key, value in values.items())
    return f"<table>{rows}</table>" if rows else '<p class="quiet">The file does not say.</p>'


def _picture(data: str, words: str) -> str:
    return f'<img src="{data}" alt="{_text(words)}" loading="lazy">'


def _data(picture: np.ndarray, widest: int) -> str:
    """A picture as the address of a JPEG, no wider than `widest`."""
    image = Image.fromarray(picture)
    if image.width > widest:
        image = image.resize((widest, max(1, round(image.height * widest / image.width))), Image.Resampling.LANCZOS)
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=88)
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode()


def _text(value: Any) -> str:
    return html.escape(printable(str(value)), quote=True)


def _page(name: str, body: str) -> str:
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">\n'
        '<meta http-equiv="Content-Security-Policy" content="default-src \'none\'; img-src data:; '
        "style-src 'unsafe-inline'\">\n"
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{_text(name)}: evaluation</title>\n<style>{STYLE}</style></head>\n"
        f"<body><main>{body}</main></body></html>\n"
    )
