"""Quantised Gaussians as the bytes of a .nfz, and back (docs/nfz.md). How they were quantised is another matter.

Sections: `scene` (JSON: what the rest needs), `places`, then columns `classes`, `scales`, `rotations`, `opacities`,
`colours`, `harmonics`, and `axes`, the bases of the last two. Columns are independent streams once places and classes
are there, and rotations wait for scales. A scene that moves has `moving` (JSON) and the columns `lifetimes`, `path1`,
`path2`, `path3` and `turns`, which wait for lifetimes.
"""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import astuple
from pathlib import Path

import msgspec
import numpy as np

from neuralfields.compression import coder
from neuralfields.compression.container import Coding, Section, pack, unpack
from neuralfields.compression.grid import MOST_BITS, Grid, from_morton, morton
from neuralfields.compression.quantised import (
    MOST_CLASS,
    Axes,
    MostShifts,
    Moving,
    Quantised,
    Steps,
    path_shifts,
    rotation_shifts,
    shifts_of,
)
from neuralfields.errors import InputError
from neuralfields.gaussians import COUNTS

SECTIONS: dict[str, Coding] = {
    "scene": "json", "places": "places", "classes": "columns", "scales": "columns", "rotations": "columns",
    "opacities": "columns", "colours": "columns", "harmonics": "columns", "axes": "raw",
}  # fmt: skip
MOVING: dict[str, Coding] = {"moving": "json", "lifetimes": "columns", "turns": "columns"}
PATHS = ("path1", "path2", "path3")
MOVING |= dict.fromkeys(PATHS, "columns")
MOST_HEADER = 65536  # bytes of JSON
# A file may hold this many Gaussians for each of its bytes, or FREE where that is more; a writer fills up smaller ones.
EACH, FREE = 4, 2**18
LARGEST = 1e15  # of steps and centres: beyond it products of float32 overflow


class _Scene(msgspec.Struct, forbid_unknown_fields=True):
    """The `scene` section."""

    count: int
    degree: int
    antialiased: bool
    centre: tuple[float, float, float]
    step: float
    even: int
    low: tuple[int, int, int]
    bits: int
    scales: float
    rotations: float
    opacities: float
    colours: float
    harmonics: float
    most: tuple[int, int, int, int, int]
    axes: int

    def problem(self) -> str | None:
        """What is impossible about it, if anything."""
        steps = (self.step, self.scales, self.rotations, self.opacities, self.colours, self.harmonics)
        checks = {
            "count": self.count >= 1,
            "degree": 0 <= self.degree <= 3,
            "centre": all(abs(x) <= LARGEST for x in self.centre),
            "steps": all(0 < x <= LARGEST for x in steps),
            "even": 1 <= self.even <= 2**MOST_BITS,
            "low": all(abs(x) <= 2**MOST_BITS for x in self.low),
            "bits": 1 <= self.bits <= MOST_BITS,
            "most": all(0 <= shift <= coder.MOST_SHIFT for shift in self.most),
            "axes": 0 <= self.axes <= 3 * (COUNTS[min(max(self.degree, 0), 3)] - 1),
        }
        return next((name for name, good in checks.items() if not good), None)


class _Moving(msgspec.Struct, forbid_unknown_fields=True):
    """The `moving` section: the scene's first and last time in the capture's unit, and the steps of paths and turns."""

    times: tuple[float, float]
    path: float
    turn: float

    def problem(self) -> str | None:
        """What is impossible about it, if anything."""
        first, last = self.times
        checks = {
            "times": -LARGEST <= first < last <= LARGEST,
            "path": 0 < self.path <= LARGEST,
            "turn": 0 < self.turn <= LARGEST,
        }
        return next((name for name, good in checks.items() if not good), None)


def encode(quantised: Quantised, times: tuple[float, float] | None = None) -> bytes:
    """The file of quantised Gaussians; the same for the same, whatever the number of threads.

    `times`: the first and the last of a scene that moves.
    """
    q, grid, steps = quantised, quantised.grid, quantised.steps
    scene = _Scene(
        len(q), q.degree, q.antialiased, grid.centre, grid.step, grid.even, grid.low, grid.bits,
        steps.scales, steps.rotations, steps.opacities, steps.colours, steps.harmonics,
        astuple(q.most), q.harmonics.shape[1],
    )  # fmt: skip
    near = coder.nearest_before(q.places)
    turned = rotation_shifts(q.classes, q.scales, steps.scales, q.most.rotations)
    jobs = {
        "classes": (q.classes.astype(np.int32)[:, None], np.zeros_like(q.classes), True),
        "scales": (q.scales, shifts_of(q.classes, q.most.scales), True),
        "rotations": (q.rotations, turned, True),
        "opacities": (q.opacities, shifts_of(q.classes, q.most.opacities), True),
        "colours": (q.colours, shifts_of(q.classes, q.most.colours), True),
        "harmonics": (q.harmonics, shifts_of(q.classes, q.most.harmonics), False),
    }
    with ThreadPoolExecutor() as pool:
        places = pool.submit(coder.encode_places, morton(q.places), 3 * grid.bits)
        waiting = {name: pool.submit(coder.encode_columns, v, s, near, p) for name, (v, s, p) in jobs.items() if v.size}
    axes = b"".join(
        part.tobytes() for a in (q.colour_axes, q.harmonic_axes) for part in (a.mean.astype("<f4"), a.axes.astype("i1"))
    )
    data = {"scene": msgspec.json.encode(scene), "places": places.result(), "axes": axes}
    data |= {name: future.result() for name, future in waiting.items()}
    if q.moving is not None:
        data |= _moving_data(q.moving, q.classes, near, times or (0.0, 1.0))
    parts = {name: Section(coding, data[name]) for name, coding in (SECTIONS | MOVING).items() if name in data}
    lacking = -(-len(q) // EACH) - len(pack(parts)) if len(q) > FREE else 0
    if lacking > 0:
        parts["padding"] = Section("raw", bytes(lacking))
    return pack(parts)


def _moving_data(moving: Moving, classes: np.ndarray, near: np.ndarray, times: tuple[float, float]) -> dict[str, bytes]:
    """The sections of what moves."""
    shifts = [path_shifts(classes, moving.lifetimes, power) for power in (1, 2, 3)]
    found = {"moving": msgspec.json.encode(_Moving(times, moving.path, moving.turn))}
    found["lifetimes"] = coder.encode_columns(moving.lifetimes, np.zeros_like(classes), near)
    found |= {
        name: coder.encode_columns(values, shift, near)
        for name, values, shift in zip(PATHS, moving.paths, shifts, strict=True)
    }
    return found | {"turns": coder.encode_columns(moving.turns, shifts[0], near)}


def _moving_of(sections: dict[str, Section], classes: np.ndarray, near: np.ndarray, path: Path | str) -> Moving | None:
    """The reverse of `_moving_data`; None where nothing moves."""
    if "moving" not in sections:
        return None
    header = _moving(sections, path)
    for name, coding in MOVING.items():
        if name not in sections or sections[name].coding != coding:
            raise InputError(f"has no {name} as they are known here")
    lives = coder.decode_columns(sections["lifetimes"].data, 2, np.zeros_like(classes), near)
    shifts = [path_shifts(classes, lives, power) for power in (1, 2, 3)]
    paths = [
        coder.decode_columns(sections[name].data, 3, shift, near) for name, shift in zip(PATHS, shifts, strict=True)
    ]
    turns = coder.decode_columns(sections["turns"].data, 4, shifts[0], near)
    return Moving(lives, tuple(paths), turns, header.path, header.turn)


def _moving(sections: dict[str, Section], path: Path | str) -> _Moving:
    try:
        found = msgspec.json.decode(sections["moving"].data[:MOST_HEADER], type=_Moving)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise InputError(
            f"{path}: its motion is damaged ({' '.join(str(error).split())[:120]}); copy it again"
        ) from None
    if (problem := found.problem()) is not None:
        raise InputError(f"{path}: its motion has an impossible {problem}; copy it again")
    return found


def times_of(data: bytes, path: Path | str) -> tuple[float, float] | None:
    """The first and the last time of a file's scene; None where it stands still."""
    sections = unpack(data, path)
    return _moving(sections, path).times if "moving" in sections else None


def decode(data: bytes, path: Path | str) -> Quantised:
    """The quantised Gaussians of a file. Raises InputError with one line for any other, naming the section."""
    sections = unpack(data, path)
    scene = _scene(sections, len(data), path)
    count, rest = scene.count, 3 * (COUNTS[scene.degree] - 1)
    grid = Grid(scene.centre, scene.step, scene.even, scene.low, scene.bits)
    steps = Steps(scene.scales, scene.rotations, scene.opacities, scene.colours, scene.harmonics)
    most = MostShifts(*scene.most)
    wanted = {name for name in SECTIONS if name != "harmonics" or scene.axes}
    for name in sorted(wanted):
        if name not in sections or sections[name].coding != SECTIONS[name]:
            raise InputError(f"{path}: has no {name} as they are known here; copy it again")
    axes = _axes(sections["axes"].data, rest, scene.axes, path)
    try:
        places = from_morton(coder.decode_places(sections["places"].data, count, 3 * scene.bits))
        near = coder.nearest_before(places)

        def columns(name: str, width: int, shifts: np.ndarray, predict: bool = True) -> np.ndarray:
            return coder.decode_columns(sections[name].data, width, shifts, near, predict)

        classes = columns("classes", 1, np.zeros(count, np.uint8))[:, 0]
        if classes.min() < 0 or classes.max() > MOST_CLASS:
            raise InputError(f"classes beyond 0 to {MOST_CLASS}")
        classes = classes.astype(np.uint8)
        wide = {"opacities": 1, "colours": 3} | ({"harmonics": scene.axes} if scene.axes else {})
        with ThreadPoolExecutor() as pool:
            waiting = {
                name: pool.submit(columns, name, width, shifts_of(classes, getattr(most, name)), name != "harmonics")
                for name, width in wide.items()
            }
            scales = columns("scales", 3, shifts_of(classes, most.scales))
            rotations = columns("rotations", 3, rotation_shifts(classes, scales, steps.scales, most.rotations))
        found = {name: future.result() for name, future in waiting.items()}
        moving = _moving_of(sections, classes, near, path)
    except InputError as error:
        raise InputError(f"{path}: {error}; copy it again") from None
    return Quantised(
        grid, places, classes, scales, rotations, found["opacities"], found["colours"],
        found.get("harmonics", np.zeros((count, 0), np.int32)), steps, most, *axes, scene.degree, scene.antialiased,
        moving,
    )  # fmt: skip


def section_bytes(data: bytes, path: Path | str) -> dict[str, int]:
    """Bytes of each section of a file, and of its table (`table`)."""
    sizes = {name: len(section.data) for name, section in unpack(data, path).items()}
    return sizes | {"table": len(data) - sum(sizes.values())}


def _scene(sections: dict[str, Section], size: int, path: Path | str) -> _Scene:
    """The header, once it is possible and its count is borne out by the file's size."""
    if "scene" not in sections or len(sections["scene"].data) > MOST_HEADER:
        raise InputError(f"{path}: has no scene of at most {MOST_HEADER} bytes; copy it again")
    try:
        scene = msgspec.json.decode(sections["scene"].data, type=_Scene)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise InputError(
            f"{path}: its scene is damaged ({' '.join(str(error).split())[:120]}); copy it again"
        ) from None
    problem = scene.problem()
    if problem is not None:
        raise InputError(
            f"{path}: its scene has an impossible {problem} ({getattr(scene, problem, '')}); copy it again"
        )
    if scene.count > max(FREE, EACH * size):
        raise InputError(f"{path}: says {scene.count} Gaussians, too many for its {size} bytes; it is damaged")
    return scene


def _axes(data: bytes, rest: int, many: int, path: Path | str) -> tuple[Axes, Axes]:
    sizes = [12, 9, 4 * rest, many * rest]
    if len(data) != sum(sizes):
        raise InputError(f"{path}: its axes have {len(data)} bytes, {sum(sizes)} are needed; copy it again")
    ends = np.cumsum(sizes)
    parts = [data[end - size : end] for end, size in zip(ends, sizes, strict=True)]
    means = [np.frombuffer(part, "<f4") for part in (parts[0], parts[2])]
    if not all(np.isfinite(mean).all() for mean in means):
        raise InputError(f"{path}: its axes are not finite; copy it again")
    turns = np.frombuffer(parts[1], np.int8).reshape(3, 3), np.frombuffer(parts[3], np.int8).reshape(many, rest)
    return Axes(means[0], turns[0]), Axes(means[1], turns[1])
