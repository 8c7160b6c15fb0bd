"""Gaussians as SOG version 2 (PlayCanvas): numbers as pictures; a .sog, a folder, or levels of detail.

    meta.json   {version: 2, count: N, antialias, means: {mins, maxs, files}, scales: {codebook, files}, quats: {files},
                sh0: {codebook, files}, shN: {count, bands, codebook, files} beyond degree 0}; codebooks of 256 numbers
    pictures    lossless WebP, a Gaussian a pixel, row by row, at least N pixels; the harmonics' words apart
      means_l, means_u   r, g, b low and high byte of x, y, z: 65536 steps between mins and maxs of sign(x) ln(1 + |x|)
      scales             r, g, b word of the codebook for each axis's logarithm
      quats              a - 252: which of w, x, y, z is largest and left out; r, g, b the others, (q sqrt 2 + 1) 127.5
      sh0                r, g, b word of the codebook for the constant harmonic, a opacity
      shN_labels         r + 256 g: which word of the palette
      shN_centroids      64 words a row, K - 1 pixels a word; r, g, b word of the codebook for each channel
    .sog        a zip archive of these; a folder of these is named by its meta.json or by itself
    lod-meta.json   {lodLevels, filenames, tree {children, lods {level: {file, offset, count}}}}: each leaf's Gaussians
                of a level are `count` from `offset` on of the SOG in a file

The world is that of an INRIA .ply. Written along a Z-curve: the order changes. Round trip: sign(x) ln(1 + |x|) of means
1/131070 of its range; logarithms of scales and the constant harmonic 1/62 of their ranges (quantisation.farthest);
opacities 1/510; rotations ANGLE; other harmonics 1/62 of their range where the palette holds every set of them, beyond
that whatever the nearest of its words is (benchmarks/splat_files.md); extra properties are lost.
"""

import io
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import msgspec
import numpy as np
import torch
from PIL import Image

from neuralfields.codecs.quantisation import (
    ANGLE_PER_STEP,
    ROOT_HALF,
    array,
    codebook,
    logits_of,
    morton_order,
    nearest_word,
    palette,
    sigmoid,
    to_byte,
    with_largest,
    without_largest,
)
from neuralfields.codecs.untrusted import Archive, head_of, read_json, read_whole, require_count, safe_name
from neuralfields.errors import InputError
from neuralfields.files import atomic_write, atomic_write_bytes
from neuralfields.gaussians import COUNTS, Gaussians, keep_sound

NAME = "splats as pictures (PlayCanvas SOG)"
META, LEVELS, ZIP = "meta.json", "lod-meta.json", b"PK\x03\x04"
ANGLE = ANGLE_PER_STEP * ROOT_HALF / 255  # radians
TAG = 252
ACROSS = 64  # words of the palette in a row
MOST_WORDS = 65536
SPARE = 65536  # pixels that a picture may have beyond twice the Gaussians
EFFORT = 3  # of WebP, 0 to 6

Load = Callable[[str], bytes]
Ends = Annotated[list[float], msgspec.Meta(min_length=3, max_length=3)]
Book = Annotated[list[float], msgspec.Meta(min_length=256, max_length=256)]
Two = Annotated[list[str], msgspec.Meta(min_length=2, max_length=2)]
One = Annotated[list[str], msgspec.Meta(min_length=1, max_length=1)]


class _Means(msgspec.Struct):
    mins: Ends
    maxs: Ends
    files: Two


class _Quats(msgspec.Struct):
    files: One


class _Coded(msgspec.Struct):
    codebook: Book
    files: One


class _Harmonics(msgspec.Struct):
    count: Annotated[int, msgspec.Meta(ge=1, le=MOST_WORDS)]
    bands: Annotated[int, msgspec.Meta(ge=0, le=3)]
    codebook: Book
    files: Two


class _Meta(msgspec.Struct):
    count: Annotated[int, msgspec.Meta(ge=1, le=2**28)]
    means: _Means
    scales: _Coded
    quats: _Quats
    sh0: _Coded
    shN: _Harmonics | None = None
    antialias: bool = False


class _Part(msgspec.Struct):
    file: Annotated[int, msgspec.Meta(ge=0)]
    offset: Annotated[int, msgspec.Meta(ge=0)]
    count: Annotated[int, msgspec.Meta(ge=0)]


class _Tree(msgspec.Struct):
    children: list["_Tree"] = []
    lods: dict[str, _Part] = {}


class _Levels(msgspec.Struct):
    lodLevels: Annotated[int, msgspec.Meta(ge=1, le=64)]
    filenames: list[str]
    tree: _Tree
    environment: Any = None


class _Version(msgspec.Struct):
    version: int = 1


def recognises(path: Path) -> bool:
    """Whether a path is a .sog archive, a SOG's meta.json or lod-meta.json, or a folder with one of them."""
    if path.is_dir():
        return any(_is_meta(head_of(path / name, 2**20)) for name in (META, LEVELS))
    head = head_of(path, 2**20)
    if not head.startswith(ZIP):
        return path.suffix.lower() == ".json" and _is_meta(head)
    try:
        with zipfile.ZipFile(path) as archive:
            return {META, "means_l.webp"} <= set(archive.namelist())
    except (zipfile.BadZipFile, NotImplementedError, OSError, ValueError):
        return path.suffix.lower() == ".sog"


def _is_meta(head: bytes) -> bool:
    return all(word in head for word in (b'"means"', b'"quats"')) or all(
        word in head for word in (b'"lodLevels"', b'"filenames"')
    )


def read(path: Path, level: int | None = None) -> Gaussians:
    """The Gaussians of a SOG. Raises InputError with one line for any other file.

    `level` of those of a lod-meta.json, 0 the finest; without it the finest whose files are all there.
    """
    if path.is_dir():
        path = path / (META if (path / META).is_file() or not (path / LEVELS).is_file() else LEVELS)
    if head_of(path, 4) == ZIP:
        with Archive(path) as archive:
            return keep_sound(_decode(path, archive.read(META), archive.read, archive.size), path)
    data = read_whole(path)
    if b'"lodLevels"' in data[: 2**20]:
        return keep_sound(_read_level(path, read_json(path, data, _Levels), level), path)
    return keep_sound(_read_folder(path, data), path)


def _read_folder(path: Path, data: bytes) -> Gaussians:
    size = sum(file.stat().st_size for file in path.parent.glob("*.webp"))
    return _decode(path, data, lambda name: read_whole(path.parent / name), size)


def _read_level(path: Path, levels: _Levels, level: int | None) -> Gaussians:
    """All leaves of one level, file by file."""
    names = [safe_name(path, name) for name in levels.filenames]
    found: dict[int, list[_Part]] = {}
    pending = [levels.tree]
    while pending:
        node = pending.pop()
        pending += reversed(node.children)
        for key, part in node.lods.items():
            if not key.isdecimal() or len(key) > 2 or part.file >= len(names):
                raise InputError(f"{path}: a leaf names level {key[:20]!r} of file {part.file}; it is damaged")
            found.setdefault(int(key), []).append(part)
    whole = [k for k in sorted(found) if all((path.parent / names[part.file]).is_file() for part in found[k])]
    chosen = level if level is not None else next(iter(whole), None)
    if chosen not in whole:
        raise InputError(f"{path}: level {chosen} is not there or misses files; those that are whole: {whole}")
    opened: dict[int, Gaussians] = {}
    pieces = []
    for part in found[chosen]:
        if part.file not in opened:
            file = path.parent / names[part.file]
            opened[part.file] = read(file) if file.suffix.lower() == ".sog" else _read_folder(file, read_whole(file))
        if part.offset + part.count > len(opened[part.file]):
            raise InputError(f"{path}: a leaf asks for more Gaussians than {names[part.file]} has; it is damaged")
        pieces.append(opened[part.file].take(slice(part.offset, part.offset + part.count)))
    if sum(map(len, pieces)) > sum(map(len, opened.values())):
        raise InputError(f"{path}: its leaves overlap; it is damaged")
    note = (f"level {chosen} of {levels.lodLevels}, 0 the finest",) if chosen else ()
    joined = Gaussians.cat(pieces)
    return replace(joined, notes=(*joined.notes, *note))


def _decode(path: Path, data: bytes, load: Load, size: int) -> Gaussians:
    """Gaussians of a meta.json and the pictures that it names, `size` bytes of them."""
    version = read_json(path, data, _Version).version
    if version != 2:
        raise InputError(f"{path}: is SOG of version {version}, 2 is read; export it again")
    meta = read_json(path, data, _Meta)
    n, bands = meta.count, meta.shN.bands if meta.shN else 0
    require_count(path, n, bands, size)

    def picture(name: str) -> np.ndarray:
        pixels = _picture(path, safe_name(path, name), load, 2 * n + SPARE)
        if len(pixels) < n:
            raise InputError(f"{path}: {name[:60]} has {len(pixels)} pixels, fewer than its {n} Gaussians")
        return pixels[:n]

    low, high = (picture(name)[:, :3].astype(np.float64) for name in meta.means.files)
    mins, maxs = np.array(meta.means.mins), np.array(meta.means.maxs)
    logs = mins + (maxs - mins) * (low + 256 * high) / 65535
    with np.errstate(over="ignore"):
        means = (np.sign(logs) * np.expm1(np.abs(logs))).astype(np.float32)
    turns = picture(meta.quats.files[0])
    if bool((turns[:, 3] < TAG).any()):
        raise InputError(f"{path}: its rotations have tags below {TAG}; it is damaged or was made smaller with loss")
    three = (turns[:, :3] / 127.5 - 1) * ROOT_HALF
    colour = picture(meta.sh0.files[0])
    constant = np.array(meta.sh0.codebook, np.float32)[colour[:, :3]]
    harmonics = [constant[:, None]] + ([_harmonics(path, meta.shN, picture, load)] if meta.shN and bands else [])
    return Gaussians(
        means=torch.from_numpy(means),
        scales=torch.from_numpy(np.array(meta.scales.codebook, np.float32)[picture(meta.scales.files[0])[:, :3]]),
        rotations=torch.from_numpy(with_largest(turns[:, 3].astype(np.int64) - TAG, three)),
        opacities=logits_of(colour[:, 3] / 255),
        harmonics=torch.from_numpy(np.concatenate(harmonics, 1)),
        antialiased=meta.antialias,
    )


def _harmonics(path: Path, coded: _Harmonics, picture: Callable[[str], np.ndarray], load: Load) -> np.ndarray:
    """[N, K - 1, 3] through the palette."""
    rest = COUNTS[coded.bands] - 1
    labels = picture(coded.files[1])
    label = labels[:, 0].astype(np.int64) + 256 * labels[:, 1].astype(np.int64)
    if int(label.max()) >= coded.count:
        raise InputError(f"{path}: names word {label.max()} of a palette of {coded.count}; it is damaged")
    words = _picture(path, safe_name(path, coded.files[0]), load, ACROSS * rest * 1025, ACROSS * rest)
    if len(words) < rest * coded.count:
        raise InputError(f"{path}: its palette has {len(words) // rest} words, {coded.count} are needed")
    codes = words[: rest * coded.count, :3].reshape(coded.count, rest, 3)
    return np.array(coded.codebook, np.float32)[codes][label]


def _picture(path: Path, name: str, load: Load, most: int, width: int | None = None) -> np.ndarray:
    """Pixels [H W, 4] of a lossless WebP of at most `most`, looked at before it is unpacked."""
    data = load(name)
    wide, high = _webp_size(path, name, data)
    if wide * high > most or (width is not None and wide != width):
        raise InputError(f"{path}: {name[:60]} is {wide}x{high}, which does not fit the number of Gaussians")
    try:
        with Image.open(io.BytesIO(data), formats=["WEBP"]) as image:
            pixels = np.asarray(image.convert("RGBA"))
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise InputError(f"{path}: {name[:60]} is damaged ({str(error)[:60]}); copy it again") from None
    if pixels.shape != (high, wide, 4):
        raise InputError(f"{path}: {name[:60]} is not as large as it says; it is damaged")
    return pixels.reshape(-1, 4)


def _webp_size(path: Path, name: str, data: bytes) -> tuple[int, int]:
    """Width and height of a lossless WebP, from its header."""
    place = 12
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        while place + 13 <= len(data):
            kind, size = data[place : place + 4], int.from_bytes(data[place + 4 : place + 8], "little")
            if kind == b"VP8L" and data[place + 8] == 0x2F:
                bits = int.from_bytes(data[place + 9 : place + 13], "little")
                return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
            if kind in (b"VP8 ", b"ANIM", b"ANMF"):
                break
            place += 8 + size + size % 2
    raise InputError(f"{path}: {name[:60]} is no lossless WebP, its numbers are lost; export it again")


def write(gaussians: Gaussians, path: Path, words: int | None = None) -> None:
    """Writes a .sog, or the files of a folder where the name is meta.json; whole or not at all, meta.json last.

    `words` of the palette of harmonics; without it a power of two, at least half as many as the Gaussians, to 65536.
    """
    members = _encode(gaussians, words)
    if Path(path).name == META:
        for name, data in members.items():
            atomic_write_bytes(Path(path).with_name(name), data)
        return

    def pack(file: Any) -> None:
        with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:
            for name, data in members.items():
                archive.writestr(zipfile.ZipInfo(name), data)  # of 1980: the same Gaussians give the same bytes

    atomic_write(path, pack, sum(map(len, members.values())))


def _encode(gaussians: Gaussians, words: int | None) -> dict[str, bytes]:
    """The files of a SOG by name, meta.json last."""
    order = torch.from_numpy(morton_order(array(gaussians.means))).to(gaussians.device)
    gaussians = gaussians.take(order)
    n = len(gaussians)
    wide = -(-int(np.ceil(np.sqrt(n))) // 4) * 4
    shape = (-(-n // wide // 4) * 4, wide)
    means = array(gaussians.means).astype(np.float64)
    logs = np.sign(means) * np.log1p(np.abs(means))
    mins, maxs = logs.min(0), logs.max(0)
    places = np.rint((logs - mins) / np.maximum(maxs - mins, 1e-30) * 65535).astype(np.uint16)
    index, three = without_largest(array(gaussians.rotations))
    turned = np.clip(np.rint((three / ROOT_HALF + 1) * 127.5), 0, 255).astype(np.uint8)
    scales, constant = array(gaussians.scales), array(gaussians.harmonics[:, 0])
    scale_book, colour_book = codebook(scales), codebook(constant)
    opacity = to_byte(sigmoid(gaussians.opacities))
    pictures = {
        "means_l.webp": ((places & 255).astype(np.uint8), 255),
        "means_u.webp": ((places >> 8).astype(np.uint8), 255),
        "quats.webp": (turned, (TAG + index).astype(np.uint8)),
        "scales.webp": (nearest_word(scales, scale_book), 255),
        "sh0.webp": (nearest_word(constant, colour_book), opacity),
    }
    members = {name: _webp(shape, rgb, alpha) for name, (rgb, alpha) in pictures.items()}
    meta: dict[str, Any] = {
        "version": 2,
        "asset": {"generator": "neuralfields"},
        "count": n,
        "antialias": gaussians.antialiased,
        "means": {"mins": mins.tolist(), "maxs": maxs.tolist(), "files": ["means_l.webp", "means_u.webp"]},
        "scales": {"codebook": scale_book.tolist(), "files": ["scales.webp"]},
        "quats": {"files": ["quats.webp"]},
        "sh0": {"codebook": colour_book.tolist(), "files": ["sh0.webp"]},
    }
    if gaussians.degree:
        words = words or 2 ** int(np.clip(np.log2(max(n, 2)), 6, 16))
        meta["shN"], more = _encode_harmonics(gaussians, shape, min(words, MOST_WORDS))
        members |= more
    return members | {META: msgspec.json.encode(meta)}


def _encode_harmonics(
    gaussians: Gaussians, shape: tuple[int, int], words: int
) -> tuple[dict[str, Any], dict[str, bytes]]:
    """Palette and labels, and what meta.json says of them."""
    n, rest = len(gaussians), gaussians.harmonics.shape[1] - 1
    found, label = palette(array(gaussians.harmonics[:, 1:]).reshape(n, 3 * rest), words)
    book = codebook(found)
    labels = np.stack([label & 255, label >> 8, np.zeros_like(label)], 1).astype(np.uint8)
    codes = nearest_word(found, book).reshape(-1, 3)
    members = {
        "shN_centroids.webp": _webp((-(-len(found) // ACROSS), ACROSS * rest), codes, 255),
        "shN_labels.webp": _webp(shape, labels, 255),
    }
    return {"count": len(found), "bands": gaussians.degree, "codebook": book.tolist(), "files": [*members]}, members


def _webp(shape: tuple[int, int], rgb: np.ndarray, alpha: np.ndarray | int) -> bytes:
    """A lossless picture whose first pixels are these, the others black; colours of transparent pixels are kept."""
    pixels = np.zeros((shape[0] * shape[1], 4), np.uint8)
    pixels[:, 3] = 255
    pixels[: len(rgb), :3] = rgb
    pixels[: len(rgb), 3] = alpha
    file = io.BytesIO()
    Image.fromarray(pixels.reshape(*shape, 4)).save(file, "WEBP", lossless=True, exact=True, method=EFFORT, quality=75)
    return file.getvalue()
