"""Files that claim to be splats: one line says what is wrong, and nothing large comes of a small file."""

import gzip
import json
import os
import random
import struct
import time
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from neuralfields.codecs import ksplat, spz
from neuralfields.codecs.splats import SPLAT_FORMATS, is_splat_file, read_gaussians, writable, write_gaussians
from neuralfields.compression import container
from neuralfields.errors import InputError
from tests.codecs.test_ksplat import write as write_ksplat
from tests.codecs.test_ply import NAMES, write_rows
from tests.support.peak import at_most
from tests.support.splats import random_gaussians

MUTATIONS = int(os.environ.get("NEURALFIELDS_MUTATIONS", "40"))  # of each format; more by hand
SUFFIXES = [*writable(), ".ksplat"]


def refused(path: Path, match: str | None = None) -> None:
    """One line that begins with a path below the file's folder, in little time and memory."""
    begin = time.process_time()
    with at_most(200e6), pytest.raises(InputError, match=match) as caught:
        read_gaussians(path)
    assert time.process_time() - begin < 10
    text = str(caught.value)
    assert "\n" not in text and text.startswith(str(path.parent)) and len(text) < 400 + len(str(path))


def sound_or_refused(path: Path) -> bool:
    """Whether a changed file was read: then what it gives can be rendered. Anything but InputError is a fault."""
    try:
        read_gaussians(path).require_sound()
    except InputError as error:
        assert "\n" not in str(error)
        return False
    return True


def small(folder: Path, suffix: str) -> Path:
    """A sound file of 60 Gaussians of degree 1."""
    path = folder / suffix if suffix == "meta.json" else folder / f"small{suffix}"
    if suffix == ".ksplat":
        before = random_gaussians(60, 1)
        before.means[:] = before.means.sort(0).values / 8
        before.harmonics.clamp_(-1, 1)
        write_ksplat(path, before, 1)
    else:
        write_gaussians(random_gaussians(60, 1), path)
    return path


def archived(path: Path, members: dict[str, bytes], kind: int = zipfile.ZIP_STORED) -> Path:
    with zipfile.ZipFile(path, "w", kind) as out:
        for name, data in members.items():
            out.writestr(name, data)
    return path


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_files_cut_anywhere_are_refused(suffix, tmp_path: Path):
    path = small(tmp_path, suffix)
    whole, chance = path.read_bytes(), random.Random(0)
    places = {0, 1, 3, 16, 31, 33, len(whole) - 1, *(chance.randrange(len(whole)) for _ in range(MUTATIONS))}
    for place in sorted(places):
        path.write_bytes(whole[:place])
        if suffix == ".splat" and place % 32 == 0 and place:
            continue  # nothing tells a shorter one from a cut one
        with pytest.raises(InputError) as caught:
            read_gaussians(path)
        assert "\n" not in str(caught.value)
    path.write_bytes(whole)
    assert sound_or_refused(path)


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_files_changed_anywhere_are_sound_or_refused(suffix, tmp_path: Path):
    path = small(tmp_path, suffix)
    whole, chance = path.read_bytes(), random.Random(1)
    with at_most(400e6):
        for _ in range(MUTATIONS):
            changed = bytearray(whole)
            for _ in range(chance.choice((1, 1, 4, 30))):
                reach = len(whole) if chance.random() < 0.5 else min(len(whole), 400)
                changed[chance.randrange(reach)] = chance.choice((0, 255, 127, 128, chance.randrange(256)))
            path.write_bytes(changed)
            sound_or_refused(path)


def resealed(parts: dict[str, container.Section], contents: bytes) -> bytes:
    """A .nfz of other contents with checksums that suit them; the last section takes what is over."""
    found, begin = {}, 0
    for name, part in parts.items():
        end = len(contents) if name == list(parts)[-1] else begin + len(part.data)
        found[name] = container.Section(part.coding, contents[begin:end])
        begin = end
    return container.pack(found)


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_contents_changed_beneath_the_packing(suffix, tmp_path: Path):
    """What a checksum or a frame would catch first is changed within it."""
    path = small(tmp_path, suffix)
    chance = random.Random(2)
    if suffix == ".spz":
        whole = gzip.decompress(path.read_bytes())
        pack: Callable[[bytes], None] = lambda data: path.write_bytes(gzip.compress(data))
    elif suffix == ".sog":
        with zipfile.ZipFile(path) as archive:
            members = {name: archive.read(name) for name in archive.namelist()}
        whole = members["meta.json"]
        pack = lambda data: archived(path, members | {"meta.json": data})
    elif suffix == ".nfz":
        parts = container.unpack(path.read_bytes(), path)
        whole = b"".join(part.data for part in parts.values())
        pack = lambda data: path.write_bytes(resealed(parts, data))
    else:
        whole = path.read_bytes()
        pack = lambda data: path.write_bytes(data)
    for _ in range(MUTATIONS):
        changed = bytearray(whole)
        place = chance.randrange(min(len(whole), 600))
        changed[place : place + chance.choice((0, 1, 2))] = bytes(
            chance.choice(b'0-9{}[]"e.\xff\x00') for _ in range(1)
        )
        pack(bytes(changed))
        sound_or_refused(path)


# ---------------------------------------------------------------- PLY (faults 18, 19)


@pytest.mark.parametrize(
    ("old", "new", "match"),
    [
        ("end_header\n", "end_headar\n", "no PLY file|no header"),
        ("element vertex 8", "element vertex -1", "not understood"),
        ("element vertex 8", "element vertex 2000000000", "too many"),
        ("element vertex 8", "element vertex 9", "cut short"),
        ("element vertex 8", "element vertex 0", "holds 0 Gaussians"),
        ("element vertex 8", "element vertex 99999999999999999999999999", "not understood"),
        ("element vertex 8", "element vertex x", "not understood"),
        ("element vertex 8", "element vertex ²", "not understood"),
        ("float x", "floot x", "not understood"),
        ("float opacity", "float opacitee", "lack the properties"),
        ("property float x", "property list uchar int x", "has lists"),
        ("property float x", "property float x\nproperty float x", "a property twice"),
        ("element vertex 8", "element list 1\nproperty list uint float a\nelement vertex 8", "has lists"),
        ("element vertex 8", "element before 4000000000\nproperty double a\nelement vertex 8", "cut short"),
        ("element vertex 8", "element vertex 8\nproperty float f_rest_0", "1 properties f_rest_"),
        ("format binary_little_endian 1.0\n", "", "names no format"),
        ("format binary_little_endian", "format binary_middle_endian", "not understood"),
        ("element vertex 8", "comment " + "c" * 2**21 + "\nelement vertex 8", "no header, or one longer"),
        ("element vertex 8\n", "element vertex 8\n" + "property float a\n" * 20_000, "a property twice"),
    ],
)
def test_headers_that_lie(old, new, match, tmp_path: Path):
    path = write_rows(tmp_path / "a.ply", np.ones((8, 14), np.float32), NAMES)
    head, mark, body = path.read_bytes().partition(b"end_header\n")
    text = (head + mark).decode()
    assert old in text
    path.write_bytes(text.replace(old, new, 1).encode() + body)
    refused(path, match)


def test_text_that_is_no_numbers(tmp_path: Path):
    path = write_rows(tmp_path / "a.ply", np.ones((8, 14), np.float32), NAMES, "ascii")
    whole = path.read_bytes()
    for bad in (whole[:-20], whole.replace(b"1 1", b"1 one", 1), whole.replace(b"1 1 1", b"1 1", 1)):
        path.write_bytes(bad)
        refused(path, "cut short or damaged")
    path.write_bytes(whole.replace(b"1 1", b"1e999 nan", 1))
    assert len(read_gaussians(path)) == 7


def test_values_that_cannot_be_rendered_are_left_out_and_counted(tmp_path: Path):
    table = np.random.default_rng(0).standard_normal((8, 14)).astype(np.float32)
    opacity, scale, turn = NAMES.index("opacity"), NAMES.index("scale_0"), NAMES.index("rot_0")
    table[0, 0], table[1, opacity], table[2, scale] = np.nan, np.inf, -np.inf
    table[3, scale], table[4, turn : turn + 4], table[5, 1] = 80, 0, np.inf
    found = read_gaussians(write_rows(tmp_path / "a.ply", table, NAMES))
    assert len(found) == 4 and found.notes[0].startswith("4 of 8 Gaussians left out")
    assert found.opacity()[0] == 1 and found.scales[1, 0] == -40
    table[:, 0] = np.nan
    refused(write_rows(tmp_path / "a.ply", table, NAMES), "none of its 8 Gaussians is finite")


# ---------------------------------------------------------------- SPZ (fault 20)


def legacy(path: Path, version: int = 3, count: int = 4, degree: int = 0, body: bytes | None = None) -> Path:
    head = b"NGSP" + struct.pack("<IIBBBB", version, count, degree, 12, 0, 0)
    path.write_bytes(gzip.compress(head + (bytes(20 * count) if body is None else body)))
    return path


def test_spz_headers_that_lie(tmp_path: Path):
    path = tmp_path / "a.spz"
    assert len(read_gaussians(legacy(path))) == 4
    for changes, match in (
        ({"version": 0}, "version 0"), ({"version": 5}, "version 5"), ({"degree": 9}, "degree 9"),
        ({"count": 2**32 - 1, "body": b""}, "too many"), ({"count": 0}, "holds 0"), ({"count": 9, "body": b"x"}, "cut"),
        ({"body": bytes(81)}, "1 bytes follow"), ({"body": bytes(79)}, "cut short"),
    ):  # fmt: skip
        refused(legacy(path, **changes), match)
    path.write_bytes(gzip.compress(b"NGSX" + bytes(40)))
    refused(path, "no file of splats")
    path.write_bytes(gzip.compress(b"NGSP" + struct.pack("<IIBBBB", 3, 4, 0, 99, 0, 0) + bytes(80)))
    refused(path, "99 fraction bits")


def test_spz_bombs(tmp_path: Path):
    """A gzip stream of 335 MB of zeros; the content is not unpacked beyond what may be."""
    path = tmp_path / "a.spz"
    packer, parts = zlib.compressobj(1, 8, 31), []
    parts.append(packer.compress(b"NGSP" + struct.pack("<IIBBBB", 3, 4, 0, 12, 0, 0)))
    parts += [packer.compress(bytes(1 << 24)) for _ in range(20)]
    path.write_bytes(b"".join(parts) + packer.flush())
    refused(path, "unpacks to more than 1.0 MB")


@pytest.mark.parametrize(
    ("place", "form", "value", "match"),
    [
        (8, "<I", 2**32 - 1, "too many"), (8, "<I", 5, "are needed"), (12, "<B", 5, "degree 5"),
        (12, "<B", 3, "are needed"), (15, "<B", 0, "0 columns"), (15, "<B", 255, "255 columns"),
        (16, "<I", 0, "from byte 0"), (16, "<I", 2**31, "from byte"), (32, "<Q", 2**63, "are needed"),
        (40, "<Q", 2**40, "are needed"), (40, "<Q", 0, "are needed"), (32, "<Q", 3, "damaged"),
        (4, "<I", 3, "bytes follow|cut"),
    ],
)  # fmt: skip
def test_spz_4_tables_that_lie(place, form, value, match, tmp_path: Path):
    pytest.importorskip("zstandard", reason="version 4 needs zstandard")
    path = tmp_path / "a.spz"
    spz.write(random_gaussians(4, 1), path, version=4)
    data = bytearray(path.read_bytes())
    struct.pack_into(form, data, place, value)
    path.write_bytes(data)
    refused(path, match)


def test_zstd_bombs_and_frames_that_lie(tmp_path: Path):
    zstandard = pytest.importorskip("zstandard", reason="version 4 needs zstandard")
    path = tmp_path / "a.spz"
    for bomb in (
        zstandard.ZstdCompressor().compress(bytes(1 << 28)),
        zstandard.ZstdCompressor(write_content_size=False).compress(bytes(1 << 28)),
    ):
        frames = [bomb] + [zstandard.ZstdCompressor().compress(bytes(size)) for size in (4, 12, 12, 16)]
        head = b"NGSP" + struct.pack("<IIBBBBI12x", 4, 4, 0, 12, 0, 5, 32)
        table = b"".join(struct.pack("<QQ", len(f), s) for f, s in zip(frames, (36, 4, 12, 12, 16), strict=True))
        path.write_bytes(head + table + b"".join(frames))
        refused(path, "its means (unpack to|are damaged)")


# ---------------------------------------------------------------- .ksplat


@pytest.mark.parametrize(
    ("place", "form", "value", "match"),
    [
        (4, "<I", 2**32 - 1, "sections is not known"), (4, "<I", 9000, "cut short"), (16, "<I", 7, "another number"),
        (ksplat.HEADER, "<I", 2**32 - 1, "do not match|another number"),
        (ksplat.HEADER + 8, "<I", 2**32 - 1, "fewer|cut"),
        (ksplat.HEADER + 12, "<I", 2**32 - 1, "cut short"), (ksplat.HEADER + 20, "<H", 3, "do not match"),
        (ksplat.HEADER + 32, "<I", 2**32 - 1, "do not match"), (ksplat.HEADER + 36, "<I", 2**32 - 1, "do not match"),
        (ksplat.HEADER + 40, "<H", 9, "do not match"), (ksplat.HEADER + 4, "<I", 2**32 - 1, "cut short"),
    ],
)  # fmt: skip
def test_ksplat_headers_that_lie(place, form, value, match, tmp_path: Path):
    path = small(tmp_path, ".ksplat")
    data = bytearray(path.read_bytes())
    struct.pack_into(form, data, place, value)
    path.write_bytes(data)
    refused(path, match)


def test_folders_devices_and_links_are_no_splats(tmp_path: Path):
    (tmp_path / "a.ply").mkdir()
    refused(tmp_path / "a.ply", "is a folder")
    (tmp_path / "b.ply").symlink_to(tmp_path / "b.ply")
    assert not is_splat_file(tmp_path / "b.ply")
    with pytest.raises(InputError):
        read_gaussians(tmp_path / "b.ply")
    for suffix in set(SPLAT_FORMATS):
        assert not is_splat_file(tmp_path / f"none{suffix}")


NFZ_SCENE = [
    ({"count": 2**30}, "too many"), ({"count": 0}, "impossible count"), ({"count": 61}, "damaged"),
    ({"degree": 4}, "impossible degree"), ({"degree": 2}, "axes have"), ({"bits": 64}, "impossible bits"),
    ({"step": -1.0}, "impossible steps"), ({"scales": 1e300}, "impossible steps"), ({"even": 0}, "impossible even"),
    ({"most": [0, 0, 0, 0, 11]}, "impossible most"), ({"most": [0]}, "scene is damaged"),
    ({"axes": 99}, "impossible axes"),
    ({"centre": [0, 0, "a"]}, "scene is damaged"), ({"low": [2**40, 0, 0]}, "impossible low"), ({"more": 1}, "damaged"),
]  # fmt: skip


@pytest.mark.parametrize(("change", "match"), NFZ_SCENE)
def test_nfz_scenes_that_lie(change, match, tmp_path: Path):
    path = small(tmp_path, ".nfz")
    parts = container.unpack(path.read_bytes(), path)
    scene = json.loads(parts["scene"].data) | change
    parts["scene"] = container.Section("json", json.dumps(scene).encode())
    path.write_bytes(container.pack(parts))
    refused(path, match)


def test_nfz_tables_that_lie(tmp_path: Path):
    path = small(tmp_path, ".nfz")
    data = bytearray(path.read_bytes())
    count = struct.unpack_from("<H", data, 6)[0]
    for place, form, value, match in (
        (4, "<H", 2, "version 2"), (6, "<H", 65535, "damaged or cut short"), (24, "<I", 9, "unknown"),
        (28, "<Q", 2**60, "cut short in its scene"), (36, "<I", 1, "damaged"),
    ):  # fmt: skip
        changed = bytearray(data)
        struct.pack_into(form, changed, place, value)
        if place >= 12:  # the table's own checksum suits
            struct.pack_into("<I", changed, 8, zlib.crc32(changed[12 : 12 + 28 * count]))
        path.write_bytes(changed)
        refused(path, match)
