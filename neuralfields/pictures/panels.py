"""Pictures for people: image files, colour maps of depth and error, comparison panels.

Vocabulary
  picture  [H, W, 3] (or 4, with straight alpha), uint8, or float in [0, 1]; numpy or torch; sRGB
  panel    a picture with its title and a note on a strip below it
  factor   by how much an error is amplified before it is coloured

Files appear whole or not at all (files.py). Text is set in Pillow's own font, so nothing depends on the machine.
"""

import math
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from neuralfields.captures.deep_images import srgb_from_linear
from neuralfields.errors import InputError, UsageError
from neuralfields.files import atomic_file
from neuralfields.media import WRITTEN_IMAGES
from neuralfields.options.common import Quantity
from neuralfields.rays import Render

PAPER, INK, GREY, RULE = (250, 250, 248), (31, 35, 40), (112, 118, 128), (226, 228, 230)
DEPTH_STOPS = (  # lightness, chroma, hue
    (0.95, 0.09, 100),
    (0.84, 0.13, 115),
    (0.70, 0.12, 165),
    (0.55, 0.10, 220),
    (0.40, 0.12, 268),
    (0.24, 0.09, 290),
)
ERROR_STOPS = (
    (0.16, 0.02, 290),
    (0.33, 0.12, 310),
    (0.52, 0.19, 370),
    (0.70, 0.18, 405),
    (0.88, 0.15, 450),
    (0.98, 0.03, 460),
)
ROWS_AT_ONCE = 1 << 22  # numbers of a picture that are converted together
SMALLEST_PANEL = 240  # pixels of height below which a panel is enlarged by a whole number


def to_uint8(rgb: Any) -> np.ndarray:
    """A picture as uint8: floats are clamped to [0, 1] and rounded, NaN becomes 0."""
    values = rgb.detach().cpu().numpy() if hasattr(rgb, "detach") else np.asarray(rgb)
    if values.dtype == np.uint8:
        return values
    out = np.empty(values.shape, np.uint8)
    rows = max(1, ROWS_AT_ONCE // max(1, values[:1].size))
    for begin in range(0, len(values), rows):
        part = np.nan_to_num(values[begin : begin + rows].astype(np.float32))
        out[begin : begin + rows] = np.round(np.clip(part, 0.0, 1.0) * 255.0)
    return out


def save_image(path: Path, array: Any) -> None:
    """Writes an image ([H, W], [H, W, 3] or [H, W, 4]); PNG or JPEG by the suffix, JPEG without alpha.

    Raises UsageError for another suffix, ResourceError and InputError as files.atomic_file does.
    """
    path, suffix = Path(path), Path(path).suffix.lower()
    if suffix not in WRITTEN_IMAGES:
        raise UsageError(f"{path}: cannot write {suffix or 'a file without suffix'!r}; use .png or .jpg")
    image = Image.fromarray(to_uint8(array))
    with atomic_file(path) as temporary:
        if suffix == ".png":
            image.save(temporary, format="PNG")
        else:
            image.convert("RGB").save(temporary, format="JPEG", quality=93, subsampling=0)


# ---------------------------------------------------------------- colours


@cache
def colour_table(stops: tuple[tuple[float, float, float], ...]) -> np.ndarray:
    """256 sRGB colours [256, 3] uint8 along (lightness, chroma, hue in degrees) of Oklab.

    Equal steps of the table look like equal steps to the eye. Oklab: Ottosson 2020.
    """
    light, chroma, hue = np.array(stops, dtype=np.float64).T
    at, here = np.linspace(0, 1, len(stops)), np.linspace(0, 1, 256)
    light, chroma = np.interp(here, at, light), np.interp(here, at, chroma)
    hue = np.interp(here, at, np.unwrap(np.radians(hue)))
    a, b = chroma * np.cos(hue), chroma * np.sin(hue)
    long = (light + 0.3963377774 * a + 0.2158037573 * b) ** 3
    middle = (light - 0.1055613458 * a - 0.0638541728 * b) ** 3
    short = (light - 0.0894841775 * a - 1.2914855480 * b) ** 3
    linear = np.stack(
        [
            4.0767416621 * long - 3.3077115913 * middle + 0.2309699292 * short,
            -1.2684380046 * long + 2.6097574011 * middle - 0.3413193965 * short,
            -0.0041960863 * long - 0.7034186147 * middle + 1.7076147010 * short,
        ],
        axis=-1,
    ).clip(0.0, 1.0)
    return to_uint8(srgb_from_linear(linear))


def _array(values: Any) -> np.ndarray:
    return (values.detach().cpu().numpy() if hasattr(values, "detach") else np.asarray(values)).astype(np.float32)


def _solid(depth: Any, opacity: Any) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    distance, cover = _array(depth), np.clip(np.nan_to_num(_array(opacity)), 0.0, 1.0)
    return distance, cover, (cover > 0.5) & np.isfinite(distance) & (distance > 0)


def depth_scale(depth: Any, opacity: Any) -> tuple[float, float] | None:
    """Logarithms of the 2nd and the 98th percentile of the depth of mostly opaque pixels; None if there are none."""
    distance, _, solid = _solid(depth, opacity)
    if not solid.any():
        return None
    low, high = np.percentile(np.log(distance[solid]), (2, 98))
    return float(low), float(high)


def colour_depth(depth: Any, opacity: Any, scale: tuple[float, float] | None = None) -> np.ndarray:
    """Colour map of depth [H, W], uint8 [H, W, 3]: near is light yellow, far is dark violet, on white by opacity.

    The colours follow the logarithm of depth over `scale`. Default: the picture's own `depth_scale`.
    """
    distance, cover, solid = _solid(depth, opacity)
    low, high = scale or depth_scale(depth, opacity) or (0.0, 0.0)
    if not solid.any():
        return np.full((*distance.shape, 3), 255, dtype=np.uint8)
    with np.errstate(divide="ignore", invalid="ignore"):
        where = np.nan_to_num((np.log(np.maximum(distance, 1e-12)) - low) / max(high - low, 1e-6))
    colours = colour_table(DEPTH_STOPS)[(np.clip(where, 0, 1) * 255).round().astype(int)] / np.float32(255)
    return to_uint8(colours * cover[..., None] + 1.0 - cover[..., None])


# ---------------------------------------------------------------- panels


@dataclass(frozen=True)
class Panel:
    """A `picture` with its `title` and a `note` in grey, e.g. a number with its unit."""

    picture: Any
    title: str = ""
    note: str = ""


def _fitted(draw: ImageDraw.ImageDraw, text: str, font: Any, width: float) -> str:
    """The text, shortened at its end with an ellipsis until it is no wider than `width`."""
    if draw.textlength(text, font=font) <= width:
        return text
    while text and draw.textlength(text + "\u2026", font=font) > width:
        text = text[:-1]
    return text.rstrip() + "\u2026" if text else ""


def as_rgb(picture: Any) -> Image.Image:
    """Converts a picture of any kind to an RGB image, alpha composited over white."""
    image = Image.fromarray(to_uint8(picture))
    if image.mode == "RGBA":
        white = Image.new("RGBA", image.size, (255, 255, 255, 255))
        image = Image.alpha_composite(white, image)
    return image.convert("RGB")


def side_by_side(panels: list[Panel]) -> np.ndarray:
    """Lays panels out in a row at one height, each with its label below; uint8 [H, W, 3]. Small ones are enlarged.

    Raises UsageError for an empty list.
    """
    if not panels:
        raise UsageError("side_by_side: no panels were given; it needs at least one")
    images = [as_rgb(panel.picture) for panel in panels]
    height = max(image.height for image in images)
    height *= max(1, math.ceil(SMALLEST_PANEL / height))
    scaled = []
    for image in images:
        whole = height % image.height == 0
        width = max(1, round(image.width * height / image.height))
        scaled.append(image.resize((width, height), Image.Resampling.NEAREST if whole else Image.Resampling.LANCZOS))
    text = max(15, round(height / 21))
    margin, gap = round(1.5 * text), round(0.8 * text)
    strip = round(1.6 * text) if any(p.title or p.note for p in panels) else 0
    total = sum(image.width for image in scaled) + gap * (len(scaled) - 1)
    sheet = Image.new("RGB", (total + 2 * margin, height + 2 * margin + strip), PAPER)
    draw, font, x = ImageDraw.Draw(sheet), ImageFont.load_default(text), margin
    for panel, image in zip(panels, scaled, strict=True):
        sheet.paste(image, (x, margin))
        draw.rectangle((x - 1, margin - 1, x + image.width, margin + height), outline=RULE)
        base = margin + height + round(1.75 * text)
        note = _fitted(draw, panel.note, font, image.width)
        room = image.width - (draw.textlength(note, font=font) + text if note else 0)
        draw.text((x, base), _fitted(draw, panel.title, font, room), fill=INK, font=font, anchor="ls")
        draw.text((x + image.width, base), note, fill=GREY, font=font, anchor="rs")
        x += image.width + gap
    return np.asarray(sheet)


def error_picture(image: Any, reference: Any, factor: float) -> np.ndarray:
    """Error map: mean absolute error over the channels, times `factor`, in colours: black is 0, white is 1 / factor."""
    error = np.abs(to_uint8(image).astype(np.float32) - to_uint8(reference).astype(np.float32)).mean(axis=-1) / 255
    return colour_table(ERROR_STOPS)[(np.clip(error * factor, 0, 1) * 255).round().astype(int)]


def comparison(photo: Any, render: Any, title: str = "", note: str = "", factor: float | None = None) -> np.ndarray:
    """Comparison panel: photo | render | error map, uint8 [H, W, 3]; `title` names the photo, `note` the render.

    `factor` amplifies the error; without it the largest of 1, 2, 5, 10, 20 that saturates at most 1 % of the pixels.
    Raises InputError when the sizes differ.
    """
    a, b = np.asarray(as_rgb(photo)), np.asarray(as_rgb(render))
    if a.shape != b.shape:
        raise InputError(f"photo {list(a.shape)} and render {list(b.shape)}: both must have one size to be compared")
    if factor is None:
        worst = float(np.percentile(np.abs(a.astype(np.float32) - b).mean(axis=-1) / 255, 99))
        factor = next((f for f in (20.0, 10.0, 5.0, 2.0) if worst * f <= 1), 1.0)
    error = Panel(error_picture(b, a, factor), "error", f"{factor:g}x")
    return side_by_side([Panel(a, title or "photo"), Panel(b, "render", note), error])


def stack(pictures: list[Any]) -> np.ndarray:
    """Stacks pictures vertically, left-aligned on paper; uint8 [H, W, 3]. Raises UsageError for an empty list."""
    if not pictures:
        raise UsageError("stack: no pictures were given; it needs at least one")
    images = [as_rgb(picture) for picture in pictures]
    sheet = Image.new("RGB", (max(i.width for i in images), sum(i.height for i in images)), PAPER)
    y = 0
    for image in images:
        sheet.paste(image, (0, y))
        y += image.height
    return np.asarray(sheet)


def render_picture(
    seen: Render, what: tuple[Quantity, ...] = ("rgb",), scale: tuple[float, float] | None = None
) -> np.ndarray:
    """A render as one uint8 image [H, W * len(what), 3]: colour, depth in colours (of `scale`), opacity in grey."""
    parts = []
    for quantity in what:
        if quantity == "rgb":
            parts.append(to_uint8(seen.rgb))
        elif quantity == "depth":
            parts.append(colour_depth(seen.depth, seen.opacity, scale))
        elif quantity == "normal":
            if seen.normal is None:
                raise UsageError("normal: a model of this kind has no normals; rgb, depth and opacity are there")
            parts.append(to_uint8(0.5 + 0.5 * seen.normal))
        else:
            parts.append(np.repeat(to_uint8(seen.opacity)[..., None], 3, axis=2))
    return np.concatenate(parts, axis=1)
