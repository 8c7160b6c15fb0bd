"""Writes Gaussians or a hash field as one .html file that draws itself: from a disk, on a phone, without any request.

The file holds the code of the page (viewer/share.js and what it imports, joined by bundle.py), its style, a poster, a
description of the scene as the viewer's server gives it, and each scene as a .nfz in base64. Its policy
(Content-Security-Policy) lets run what the file was written with, by its SHA-256, and nothing be fetched or sent.
"""

import base64
import hashlib
import html
import io
import json
import math
import re
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

import numpy as np
from PIL import Image

from neuralfields.errors import UsageError
from neuralfields.files import size_text
from neuralfields.pictures.panels import to_uint8
from neuralfields.rendering.splat import near_of
from neuralfields.serving.bundle import BLANK, bundle, shrunk
from neuralfields.serving.field import field_description
from neuralfields.serving.framing import camera_of
from neuralfields.serving.server import assets
from neuralfields.serving.stage import Stage
from neuralfields.serving.subjects import Subject
from neuralfields.version import VERSION

MOST_BYTES = 100_000_000
POSTER_SIDE, POSTER_QUALITY = 960, 75
ASPECT = 4 / 3  # of the poster of a scene that has no cameras
WORKERS = {"splats": ("sorter", "decoder"), "field": ("field_decoder",), "editor": ()}  # of each part of the code
STYLES = {"splats": (), "field": (), "editor": ("select.css",)}  # beside those of every page


@dataclass(frozen=True)
class About:
    """What the page says of itself: plain text, whatever is in it."""

    title: str
    author: str = ""
    description: str = ""
    licence: str = ""

    def byline(self) -> str:
        """Author and licence in one line."""
        return " · ".join(part for part in (self.author, self.licence) if part)


def share_page(stage: Stage, files: list[bytes], about: About, path: dict[str, Any] | None, views: int = 0) -> bytes:
    """The page of a stage of Gaussians or hash fields, the .nfz of each subject in `files`.

    `path`: {"eyes": [...], "seconds"} to play; `views`: how many of the stage's cameras are offered, evenly taken.
    Raises UsageError where the page would be larger than `MOST_BYTES`.
    """
    described = _described(stage, files, about, path, views)
    behind = ", ".join(str(round(255 * value)) for value in stage.subjects[0].background)
    code, loader = code_of_page(parts_of(stage)), loader_of_page()
    style = f"{style_of_page(parts_of(stage))}:root {{ --behind: rgb({behind}); }}\n"
    scenes = "\n".join(
        f'<script type="text/plain" id="scene-{i}">{base64.b64encode(data).decode()}</script>'
        for i, data in enumerate(files)
    )
    text = {
        "policy": _policy((loader, code), style), "version": VERSION, "title": html.escape(about.title),
        "author": html.escape(about.author), "description": html.escape(about.description),
        "byline": html.escape(about.byline()), "poster": _poster(stage), "stage": _json(described),
        "style": style, "code": packed(code), "loader": loader, "scenes": scenes,
    }  # fmt: skip
    head, *parts = assets()["share.html"][1].decode().split("{{")
    pieces = [head]
    for part in parts:
        name, _, rest = part.partition("}}")
        pieces += [text[name], rest]
    page = "".join(pieces).encode()
    if len(page) > MOST_BYTES:
        raise UsageError(
            f"the page would have {size_text(len(page))}, at most {size_text(MOST_BYTES)} are opened well by a phone; "
            "make it smaller: nf compress --max-bytes 50MB, or nf share --max-bytes 50MB"
        )
    return page


def kinds_of(stage: Stage) -> tuple[str, ...]:
    """Kinds of the subjects, as the page names them."""
    return tuple(sorted({_kind(subject) for subject in stage.subjects}))


def parts_of(stage: Stage) -> tuple[str, ...]:
    """What the page's code must have: the kinds of its subjects, and an editor of Gaussians that are alone in it."""
    kinds = kinds_of(stage)
    return (*kinds, "editor") if kinds == ("splats",) and len(stage.subjects) == 1 else kinds


def _kind(subject: Subject) -> str:
    return "splats" if subject.splats else "field"


def code_of_page(parts: Sequence[str] = ("splats", "editor")) -> str:
    """The page's script: all modules that it needs for those parts (`parts_of`), as one. What runs last begins."""
    sources = {name.removesuffix(".js"): data.decode() for name, (_, data) in assets().items() if name.endswith(".js")}
    entries = [name for part in parts for name in (*WORKERS[part], f"share_{part}")]
    code = bundle([*entries, "share"], sources)
    return code


def packed(code: str) -> str:
    """The script as it lies in the file: zlib in base64, two fifths of its bytes."""
    return base64.b64encode(zlib.compress(code.encode(), 9)).decode()


def loader_of_page() -> str:
    """The script that unpacks and runs it."""
    code = shrunk(BLANK.sub("", assets()["unpack.js"][1].decode()))
    assert "</script" not in code.lower() and "<!--" not in code  # would end or confuse the element around it
    return code


def size_of_page(parts: Sequence[str]) -> int:
    """Bytes in the file of code and style for those parts."""
    return len(packed(code_of_page(parts))) + len(loader_of_page()) + len(style_of_page(parts))


def style_of_page(parts: Sequence[str] = ("splats", "editor")) -> str:
    """The style sheets of a page of those parts, one after the other, without comments and needless spaces."""
    style = "".join(
        assets()[name][1].decode()
        for name in ("base.css", "share.css", *(name for part in parts for name in STYLES[part]))
    )
    return re.sub(r"\s*([{};,])\s*", r"\1", re.sub(r"/\*.*?\*/", "", style, flags=re.DOTALL)).strip()


def _policy(scripts: Sequence[str], style: str) -> str:
    """Content-Security-Policy: these very scripts and style, pictures and workers of the page's own; nothing else."""

    def named(part: str) -> str:
        return f"'sha256-{base64.b64encode(hashlib.sha256(part.encode()).digest()).decode()}'"

    return (
        f"default-src 'none'; script-src {' '.join(map(named, scripts))}; style-src {named(style)}; "
        "img-src data:; worker-src blob:; base-uri 'none'; form-action 'none'"
    )


def _json(value: Any) -> str:
    """JSON within an element: no `<` that could end it."""
    return json.dumps(value, allow_nan=False, separators=(",", ":")).replace("<", "\\u003c")


def _described(
    stage: Stage, files: list[bytes], about: About, path: dict[str, Any] | None, views: int
) -> dict[str, Any]:
    """The stage as the page takes it: without photos, and with no more cameras than are offered."""
    found = stage.describe()
    picks = np.unique(np.linspace(0, len(stage.cameras) - 1, min(views, len(stage.cameras))).round().astype(int))
    cameras = [found["cameras"][i] for i in picks]
    for camera in cameras:
        camera["name"] = PurePosixPath(camera["name"].replace("\\", "/")).stem
    subjects = [_subject(subject, data) for subject, data in zip(stage.subjects, files, strict=True)]
    known = {"author": about.author, "licence": about.licence}
    facts = [(name, value) for name, value in known.items() if value]
    for subject, data in zip(stage.subjects, files, strict=True):
        label = "Gaussians" if subject.splats else "hash field"
        many = f"{len(subject.splats().gaussians):,}, " if subject.splats else ""
        label = f"{label} of {subject.name}" if len(files) > 1 else label
        facts.append((label, many + size_text(len(data))))
    keep = ("depth_colours", "bounds", "eye", "extent", "up", "pivot", "seen")
    rest = {"facts": [*facts, ("made with", f"neuralfields {VERSION}")], "path": path}
    return {name: found[name] for name in keep} | {"subjects": subjects, "cameras": cameras} | rest


def _subject(subject: Subject, data: bytes) -> dict[str, Any]:
    """What the page must know of a subject to decode and to draw it."""
    found = {"name": subject.name, "kind": _kind(subject), "background": list(subject.background)}
    found["fades"] = subject.fades
    if subject.splats:
        return found | {"near": near_of(subject.splats().bounds)}
    assert subject.volume is not None  # others are refused before
    return found | {"field": field_description(subject.volume(), data)}


def _poster(stage: Stage) -> str:
    """A picture of the start view as a data URL; the page shows it where its first picture will stand."""
    subject, described = stage.subjects[0], stage.describe()
    pose, tangent = np.eye(4), math.tan(math.radians(described["eye"]["fov"]) / 2)
    pose[:3] = np.array(described["eye"]["pose"]).reshape(3, 4)
    around = described["extent"] or (-tangent * ASPECT, tangent * ASPECT, -tangent, tangent)
    camera = camera_of((pose, tuple(around), pose[:3, 3]), POSTER_SIDE)
    seen = to_uint8(subject.draw(camera, subject.background, None, stage.seen).rgb)
    out = io.BytesIO()
    Image.fromarray(seen).save(out, "WEBP", quality=POSTER_QUALITY)
    return "data:image/webp;base64," + base64.b64encode(out.getvalue()).decode()
