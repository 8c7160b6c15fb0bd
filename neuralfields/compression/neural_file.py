"""A scene of small networks (neural.py) as the bytes of a .nfz, and back (docs/nfz.md).

Sections: `neural` (JSON), `spread` (means and spreads of attributes), `layer0` to `layer4` (weights), then for each
tier t `places{t}` and `labels{t}`. The first tiers are the most important: what has arrived of a file can be shown.
"""

from pathlib import Path

import msgspec
import numpy as np

from neuralfields.compression import coder
from neuralfields.compression.container import Section, pack, unpack
from neuralfields.compression.grid import MOST_BITS, Grid, from_morton, morton
from neuralfields.compression.neural import (
    LAYERS,
    MOST_CLUSTERS,
    MOST_OCTAVES,
    MOST_WIDTH,
    Networks,
    NeuralScene,
    Tier,
    attributes_of,
    shapes,
)
from neuralfields.errors import InputError

HEADER = "neural"
MOST_HEADER, MOST_TIERS = 65536, 16
EACH, FREE = 4, 2**18  # Gaussians a byte, as in nfz.py
WEIGHTS_EACH, FREE_WEIGHTS = 16, 2**22
LARGEST = 1e15


class _Header(msgspec.Struct, forbid_unknown_fields=True):
    """The `neural` section."""

    tiers: list[int]
    degree: int
    antialiased: bool
    centre: tuple[float, float, float]
    step: float
    even: int
    low: tuple[int, int, int]
    bits: int
    clusters: int
    width: int
    octaves: int
    steps: tuple[float, float, float, float, float]

    def problem(self) -> str | None:
        """What is impossible about it, if anything."""
        checks = {
            "tiers": 1 <= len(self.tiers) <= MOST_TIERS and all(count >= 1 for count in self.tiers),
            "degree": 0 <= self.degree <= 3,
            "centre": all(abs(x) <= LARGEST for x in self.centre),
            "step": 0 < self.step <= LARGEST,
            "even": 1 <= self.even <= 2**MOST_BITS,
            "low": all(abs(x) <= 2**MOST_BITS for x in self.low),
            "bits": 1 <= self.bits <= MOST_BITS,
            "clusters": 1 <= self.clusters <= MOST_CLUSTERS,
            "width": 1 <= self.width <= MOST_WIDTH,
            "octaves": 0 <= self.octaves <= MOST_OCTAVES,
            "steps": all(0 < x <= 1e6 for x in self.steps),
        }
        return next((name for name, good in checks.items() if not good), None)


def is_neural(sections: dict[str, Section]) -> bool:
    """Whether the sections of a file are those of networks."""
    return HEADER in sections


def begins(data: bytes) -> bool:
    """Whether the first bytes of a file are those of networks."""
    return data[12:24].rstrip(b"\0") == HEADER.encode()


def encode(scene: NeuralScene) -> bytes:
    """The file of a scene; the same for the same."""
    grid, networks = scene.grid, scene.networks
    header = _Header(
        [len(tier) for tier in scene.tiers], scene.degree, scene.antialiased, grid.centre, grid.step, grid.even,
        grid.low, grid.bits, networks.clusters, networks.width, networks.octaves, networks.steps,
    )  # fmt: skip
    spread = networks.mean.astype("<f4").tobytes() + networks.spread.astype("<f4").tobytes()
    parts = {HEADER: Section("json", msgspec.json.encode(header)), "spread": Section("raw", spread)}
    for i, layer in enumerate(networks.weights):
        parts[f"layer{i}"] = Section("columns", _encode_alone(layer))
    for i, tier in enumerate(scene.tiers):
        near = coder.nearest_before(tier.places)
        parts[f"places{i}"] = Section("places", coder.encode_places(morton(tier.places), 3 * grid.bits))
        if networks.clusters > 1:
            labels = tier.labels.astype(np.int32)[:, None]
            parts[f"labels{i}"] = Section("columns", coder.encode_columns(labels, _no_shifts(len(tier)), near))
    lacking = -(-len(scene) // EACH) - len(pack(parts)) if len(scene) > FREE else 0
    if lacking > 0:
        parts["padding"] = Section("raw", bytes(lacking))
    return pack(parts)


def decode(data: bytes, path: Path | str) -> NeuralScene:
    """The scene of a file. Raises InputError with one line for any other, naming the section."""
    return scene_of(unpack(data, path), len(data), path)


def decode_arrived(data: bytes, path: Path | str) -> NeuralScene | None:
    """What the first bytes of a file hold: the networks and every tier that is whole; None while there is none yet."""
    sections = unpack(data, path, whole=False)
    if f"layer{LAYERS - 1}" not in sections:
        return None
    scene = scene_of(sections, FREE, path, whole=False)
    return scene if scene.tiers else None


def scene_of(sections: dict[str, Section], size: int, path: Path | str, whole: bool = True) -> NeuralScene:
    """The scene of a file's sections and size; without `whole` of the tiers that are there."""
    header = _header(sections, size, path)
    clusters, width = header.clusters, header.width
    grid = Grid(header.centre, header.step, header.even, header.low, header.bits)
    mean, spread = _spread(sections, attributes_of(header.degree), path)
    weights = tuple(
        _decoded(sections, f"layer{i}", path, lambda data, shape=shape: _decode_alone(data, shape))
        for i, shape in enumerate(shapes(clusters, width, header.octaves, header.degree))
    )
    tiers = []
    for i, count in enumerate(header.tiers):
        if not whole and (f"places{i}" not in sections or (clusters > 1 and f"labels{i}" not in sections)):
            break
        codes = _decoded(sections, f"places{i}", path, lambda d, n=count: coder.decode_places(d, n, 3 * header.bits))
        places = from_morton(codes)
        labels = np.zeros(count, np.uint8)
        if clusters > 1:
            near = coder.nearest_before(places)
            labels = _decoded(
                sections, f"labels{i}", path,
                lambda d, n=count, near=near: _labels(coder.decode_columns(d, 1, _no_shifts(n), near), clusters),
            )  # fmt: skip
        tiers.append(Tier(places, labels))
    networks = Networks(header.octaves, weights, header.steps, mean, spread)
    return NeuralScene(grid, tuple(tiers), networks, header.degree, header.antialiased)


def _encode_alone(values: np.ndarray) -> bytes:
    """Whole numbers one after the other, without anything near to tell them by."""
    flat = values.reshape(-1, 1).astype(np.int32)
    return coder.encode_columns(flat, _no_shifts(len(flat)), _nothing_near(len(flat)), predict=False)


def _decode_alone(data: bytes, shape: tuple[int, ...]) -> np.ndarray:
    count = int(np.prod(shape))
    return coder.decode_columns(data, 1, _no_shifts(count), _nothing_near(count), predict=False).reshape(shape)


def _no_shifts(count: int) -> np.ndarray:
    return np.zeros(count, np.uint8)


def _nothing_near(count: int) -> np.ndarray:
    return np.full((count, coder.NEAR), -1, np.int32)


def _labels(values: np.ndarray, clusters: int) -> np.ndarray:
    if values.min() < 0 or values.max() >= clusters:
        raise InputError(f"labels beyond 0 to {clusters - 1}")
    return values[:, 0].astype(np.uint8)


def _decoded(sections: dict[str, Section], name: str, path: Path | str, how) -> np.ndarray:  # noqa: ANN001
    coding = "places" if name.startswith("places") else "columns"
    if name not in sections or sections[name].coding != coding:
        raise InputError(f"{path}: has no {name} as they are known here; copy it again")
    try:
        return how(sections[name].data)
    except InputError as error:
        raise InputError(f"{path}: {error}; copy it again") from None


def _spread(sections: dict[str, Section], width: int, path: Path | str) -> tuple[np.ndarray, np.ndarray]:
    data = sections["spread"].data if "spread" in sections else b""
    if len(data) != 8 * width:
        raise InputError(f"{path}: its spread has {len(data)} bytes, {8 * width} are needed; copy it again")
    values = np.frombuffer(data, "<f4")
    if not np.isfinite(values).all() or float(np.abs(values).max()) > LARGEST:
        raise InputError(f"{path}: its spread is not finite; copy it again")
    return values[:width], values[width:]


def _header(sections: dict[str, Section], size: int, path: Path | str) -> _Header:
    """The header, once it is possible and its counts are borne out by the file's size."""
    if HEADER not in sections or len(sections[HEADER].data) > MOST_HEADER:
        raise InputError(f"{path}: has no {HEADER} of at most {MOST_HEADER} bytes; copy it again")
    try:
        header = msgspec.json.decode(sections[HEADER].data, type=_Header)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        words = " ".join(str(error).split())[:120]
        raise InputError(f"{path}: its {HEADER} is damaged ({words}); copy it again") from None
    problem = header.problem()
    if problem is not None:
        value = getattr(header, problem, "")
        raise InputError(f"{path}: its {HEADER} has an impossible {problem} ({value}); copy it again")
    if sum(header.tiers) > max(FREE, EACH * size):
        raise InputError(f"{path}: says {sum(header.tiers)} Gaussians, too many for its {size} bytes; it is damaged")
    count = sum(int(np.prod(s)) for s in shapes(header.clusters, header.width, header.octaves, header.degree))
    if count > max(FREE_WEIGHTS, WEIGHTS_EACH * size):
        raise InputError(f"{path}: says {count} weights, too many for its {size} bytes; it is damaged")
    return header
