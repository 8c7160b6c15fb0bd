"""Draws line charts.

Vocabulary
  series  one line of a chart: a name and points
  tick    a round number on an axis

A line carries its name at its end, so that no legend is needed.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from neuralfields.errors import UsageError
from neuralfields.pictures.panels import GREY, INK, PAPER, RULE

LINES = ((214, 73, 42), (27, 118, 152), (122, 92, 172), (60, 138, 84), (176, 122, 16), (96, 104, 114))


@dataclass(frozen=True)
class Series:
    """One line: its `name`, points `x` and `y`, whether it is drawn `strong` (ours) or thin (the others)."""

    name: str
    x: tuple[float, ...]
    y: tuple[float, ...]
    strong: bool = False


@dataclass(frozen=True)
class Chart:
    """Title, axis labels and ranges of a chart; `size` in pixels; `log_x` for time."""

    title: str = ""
    subtitle: str = ""
    x_label: str = ""
    y_label: str = ""
    log_x: bool = False
    size: tuple[int, int] = (1200, 720)


def ticks(low: float, high: float, log: bool = False) -> list[float]:
    """Round numbers in [low, high]: 1, 2, 5 times powers of ten, about six of them."""
    if log:
        decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
        marks = [m * 10.0**d for d in decades for m in (1, 2, 5) if low * 0.999 <= m * 10.0**d <= high * 1.001]
        if len(marks) >= 3:
            return marks
    raw = (high - low) / 6
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(m * power for m in (1, 2, 5, 10) if m * power >= raw * 0.999)
    return [i * step for i in range(math.ceil(low / step - 1e-6), math.floor(high / step + 1e-6) + 1)]


def _spread(positions: list[float], gap: float, low: float, high: float) -> list[float]:
    """Positions moved as little as needed to stand `gap` apart within [low, high], their order kept."""
    order = sorted(range(len(positions)), key=lambda i: positions[i])
    moved = list(positions)
    for _ in range(200):
        for a, b in pairwise(order):
            short = gap - (moved[b] - moved[a])
            if short > 0:
                moved[a], moved[b] = moved[a] - short / 2, moved[b] + short / 2
        moved = [min(max(p, low), high) for p in moved]
    return moved


def plot_lines(series: list[Series], chart: Chart) -> np.ndarray:
    """A line chart, uint8 [H, W, 3]; each line carries its name at its end, series of few points have markers.

    Points that are not finite (and x <= 0 on a log scale) are left out. Raises UsageError when none is left.
    """
    kept = []
    for line in series:
        finite = (p for p in zip(line.x, line.y, strict=True) if math.isfinite(p[0]) and math.isfinite(p[1]))
        points = [p for p in finite if p[0] > 0 or not chart.log_x]
        if points:
            kept.append(replace(line, x=tuple(p[0] for p in points), y=tuple(p[1] for p in points)))
    if not kept:
        raise UsageError("plot_lines: no finite points were given; it needs at least one")
    return _Plot(kept, chart).draw()


class _Plot:
    """One chart being drawn, at twice its size so that lines come out smooth."""

    def __init__(self, series: list[Series], chart: Chart) -> None:
        self.series, self.chart, self.k = series, chart, 2
        width, height = (side * self.k for side in chart.size)
        self.sheet = Image.new("RGB", (width, height), PAPER)
        self.pen = ImageDraw.Draw(self.sheet)
        self.text = 17 * self.k
        self.font, self.big = ImageFont.load_default(self.text), ImageFont.load_default(round(self.text * 1.5))
        names = max(self.pen.textlength(s.name, font=self.font) for s in series)
        top = (4.0 if chart.subtitle else 2.4) * self.text if chart.title else 0
        self.box = (3.4 * self.text, top + 3.0 * self.text, width - names - 2.6 * self.text, height - 3.6 * self.text)
        xs, ys = [x for s in series for x in s.x], [y for s in series for y in s.y]
        self.x_range = (min(xs), max(xs))
        if min(xs) == max(xs):
            self.x_range = (xs[0] / 2, xs[0] * 2) if chart.log_x else (xs[0] - 1, xs[0] + 1)
        pad = 0.06 * (max(ys) - min(ys)) or 1.0
        self.y_range = (min(ys) - pad, max(ys) + pad)

    def across(self, x: float) -> float:
        """Pixel of a value on the x axis."""
        scale: Callable[[float], float] = math.log if self.chart.log_x else float
        low, high = (scale(v) for v in self.x_range)
        return self.box[0] + (scale(x) - low) / (high - low) * (self.box[2] - self.box[0])

    def down(self, y: float) -> float:
        """Pixel of a value on the y axis."""
        low, high = self.y_range
        return self.box[3] - (y - low) / (high - low) * (self.box[3] - self.box[1])

    def frame(self) -> None:
        """Title, grid, ticks and axis labels."""
        left, top, right, bottom = self.box
        pen, text, chart = self.pen, self.text, self.chart
        pen.text((text * 1.2, text * 2.3), chart.title, fill=INK, font=self.big, anchor="ls")
        pen.text((text * 1.2, text * 3.8), chart.subtitle, fill=GREY, font=self.font, anchor="ls")
        for y in ticks(*self.y_range):
            pen.line((left, self.down(y), right, self.down(y)), fill=RULE, width=self.k)
            pen.text((left - 0.6 * text, self.down(y)), f"{y:g}", fill=GREY, font=self.font, anchor="rm")
        pen.line((left, bottom, right, bottom), fill=GREY, width=self.k)
        for x in ticks(*self.x_range, log=chart.log_x):
            pen.line((self.across(x), bottom, self.across(x), bottom + 0.35 * text), fill=GREY, width=self.k)
            pen.text((self.across(x), bottom + 0.6 * text), f"{x:g}", fill=GREY, font=self.font, anchor="mt")
        pen.text((right, bottom + 2.9 * text), chart.x_label, fill=GREY, font=self.font, anchor="rs")
        pen.text((text * 1.2, top - 1.3 * text), chart.y_label, fill=GREY, font=self.font, anchor="ls")

    def draw(self) -> np.ndarray:
        """The finished chart at its own size."""
        self.frame()
        order = sorted(range(len(self.series)), key=lambda i: self.series[i].strong)
        for i in order:
            self.line(self.series[i], LINES[i % len(LINES)])
        ends = [(self.across(s.x[-1]), self.down(s.y[-1])) for s in self.series]
        heights = _spread([y for _, y in ends], 1.25 * self.text, self.box[1], self.box[3] - 0.5 * self.text)
        for i in order:
            (x, y), beside = ends[i], (ends[i][0] + 1.0 * self.text, heights[i])
            if abs(y - heights[i]) > 0.5 * self.text:
                self.pen.line((x + 0.5 * self.text, y, *beside), fill=GREY, width=self.k)
            look = {"fill": LINES[i % len(LINES)], "stroke_width": 2 * self.k, "stroke_fill": PAPER}
            self.pen.text(beside, self.series[i].name, font=self.font, anchor="lm", **look)
        return np.asarray(self.sheet.resize(self.chart.size, Image.Resampling.LANCZOS))

    def line(self, series: Series, colour: tuple[int, int, int]) -> None:
        """One line with its markers."""
        points = [(self.across(x), self.down(y)) for x, y in zip(series.x, series.y, strict=True)]
        width = self.k * (4 if series.strong else 2.5)
        if len(points) > 1:
            self.pen.line(points, fill=colour, width=round(width), joint="curve")
        radius = width + 1.5 * self.k
        for x, y in points if len(points) <= 12 else points[-1:]:
            around = (x - radius, y - radius, x + radius, y + radius)
            self.pen.ellipse(around, fill=colour, outline=PAPER, width=self.k)
