"""SOG and glTF whose parts lie about one another: refused by name, before anything large is made of them."""

import io
import json
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from neuralfields.codecs import gltf_splats
from neuralfields.codecs.splats import read_gaussians, write_gaussians
from neuralfields.errors import InputError
from tests.codecs.test_gltf_splats import NAME, document_of, write_gltf
from tests.hostile.test_splat_files import archived, refused, small
from tests.support.peak import at_most
from tests.support.splats import random_gaussians

# ---------------------------------------------------------------- SOG (fault 21)


def members_of(path: Path) -> dict[str, bytes]:
    with zipfile.ZipFile(path) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def webp(width: int, height: int, lossless: bool = True, value: int = 255) -> bytes:
    file = io.BytesIO()
    Image.new("RGBA", (width, height), (value,) * 4).save(file, "WEBP", lossless=lossless, exact=True, method=0)
    return file.getvalue()


def claiming(width: int, height: int) -> bytes:
    """A WebP of 8 x 8 pixels whose header says more: to encode that many takes seconds."""
    data = bytearray(webp(8, 8))
    place = data.index(b"VP8L") + 9  # the chunk's name, its size and a signature; then 14 bits for each side less one
    bits = int.from_bytes(data[place : place + 4], "little") & ~0xFFFFFFF
    data[place : place + 4] = (bits | (width - 1) | (height - 1) << 14).to_bytes(4, "little")
    return bytes(data)


Edit = Callable[[dict[str, Any]], Any]
SOG_META: list[tuple[Edit, str]] = [
    (lambda m: m.pop("version"), "version 1"),
    (lambda m: m.update(version=3), "version 3"),
    (lambda m: m.update(count=0), "count"),
    (lambda m: m.update(count=2**31), "count"),
    (lambda m: m.update(count=2**27), "too many"),
    (lambda m: m.update(count=200), "fewer than its 200"),
    (lambda m: m.update(count="many"), "count"),
    (lambda m: m["scales"].update(codebook=[0.0] * 255), "codebook"),
    (lambda m: m["sh0"].update(codebook=[0.0] * 257), "codebook"),
    (lambda m: m["sh0"].update(codebook=["x"] * 256), "codebook"),
    (lambda m: m["means"].update(mins=[0.0]), "mins"),
    (lambda m: m["means"].update(files=["means_l.webp"]), "files"),
    (lambda m: m["means"].update(maxs=[1e300] * 3), "none of its"),
    (lambda m: m["quats"].update(files=["../../../etc/passwd"]), "only names within its folder"),
    (lambda m: m["quats"].update(files=["/etc/passwd"]), "only names within its folder"),
    (lambda m: m["quats"].update(files=["a/../b.webp"]), "only names within its folder"),
    (lambda m: m["quats"].update(files=["C:\\a.webp"]), "only names within its folder"),
    (lambda m: m["quats"].update(files=[""]), "only names within its folder"),
    (lambda m: m["quats"].update(files=["x" * 300]), "only names within its folder"),
    (lambda m: m["quats"].update(files=["none.webp"]), "has no 'none.webp'"),
    (lambda m: m["quats"].update(files=["meta.json"]), "no lossless WebP"),
    (lambda m: m["quats"].update(files=["sh0.webp"]), "tags below 252"),
    (lambda m: m["shN"].update(count=3), "of a palette of 3"),
    (lambda m: m["shN"].update(count=0), "count"),
    (lambda m: m["shN"].update(count=65536), "words, 65536 are needed"),
    (lambda m: m["shN"].update(bands=3), "does not fit"),
    (lambda m: m["shN"].update(bands=4), "bands"),
    (lambda m: m["shN"].update(files=["sh0.webp", "shN_labels.webp"]), "does not fit"),
]


@pytest.mark.parametrize(("edit", "match"), SOG_META)
def test_sog_meta_that_lies(edit, match, tmp_path: Path):
    members = members_of(small(tmp_path, ".sog"))
    meta = json.loads(members["meta.json"])
    edit(meta)
    refused(archived(tmp_path / "a.sog", members | {"meta.json": json.dumps(meta).encode()}), match)


def test_a_folder_leads_nowhere_else(tmp_path: Path):
    (tmp_path / "in").mkdir()
    path = small(tmp_path / "in", "meta.json")
    (tmp_path / "in" / "quats.webp").rename(tmp_path / "quats.webp")
    for name in ("../quats.webp", str(tmp_path / "quats.webp")):
        meta = json.loads(path.read_bytes())
        meta["quats"]["files"] = [name]
        path.write_text(json.dumps(meta))
        refused(path, "only names within its folder")


@pytest.mark.parametrize(
    ("text", "match"),
    [
        (b"[" * 100_000, "too deeply|expected|truncated|malformed"),
        (b'{"means":{},"quats":' + b'{"a":' * 100_000, "too deeply|truncated|malformed|missing"),
        (b'{"means": NaN, "quats": 1}', "malformed|expected|missing"),
        (b"\xff\xfe", "malformed|invalid|utf"),
        (b'{"means": 1, "quats": "\xff"}', "malformed|invalid|missing|version"),
        (b"", "truncated|no such|is empty|malformed"),
    ],
)
def test_json_that_is_none(text, match, tmp_path: Path):
    members = members_of(small(tmp_path, ".sog"))
    refused(archived(tmp_path / "a.sog", members | {"meta.json": text}), match)


@pytest.mark.parametrize(
    ("name", "data", "match"),
    [
        ("sh0.webp", webp(4, 4), "16 pixels, fewer than its 60"),
        ("sh0.webp", claiming(16383, 16383), "16383x16383, which does not fit"),
        ("sh0.webp", webp(8, 8, lossless=False), "no lossless WebP"),
        ("sh0.webp", b"RIFF\x10\0\0\0WEBPVP8L", "no lossless WebP"),
        ("sh0.webp", webp(8, 8)[:30], "damaged|no lossless"),
        ("sh0.webp", b"\x89PNG\r\n\x1a\n" + bytes(100), "no lossless WebP"),
        ("shN_labels.webp", webp(8, 8), "names word 65535"),
        ("shN_centroids.webp", claiming(192, 16383), "does not fit"),
    ],
)
def test_sog_pictures_that_lie(name, data, match, tmp_path: Path):
    members = members_of(small(tmp_path, ".sog"))
    refused(archived(tmp_path / "a.sog", members | {name: data}), match)


def test_sog_archives_that_lie(tmp_path: Path):
    members = members_of(small(tmp_path, ".sog"))
    path = tmp_path / "a.sog"
    bomb = archived(path, members | {"sh0.webp": bytes(70 << 20)}, zipfile.ZIP_DEFLATED)
    refused(bomb, "unpacks to 73")
    refused(archived(path, members | {"../x": b""}), "only names within its folder")
    with pytest.warns(UserWarning, match="Duplicate"), zipfile.ZipFile(path, "w") as out:
        for name in (*members, "meta.json"):
            out.writestr(name, members[name])
    refused(path, "names in common")
    refused(archived(path, members | {f"f{i}": b"" for i in range(2000)}), "too many")
    archived(path, members)
    locked = bytearray(path.read_bytes())
    for mark, place in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        begin = locked.find(mark)
        while begin >= 0:
            locked[begin + place] |= 1
            begin = locked.find(mark, begin + 4)
    path.write_bytes(locked)
    refused(path, "encrypted")
    archived(path, members)
    data = bytearray(path.read_bytes())
    data[data.find(members["sh0.webp"]) + 40] ^= 255
    path.write_bytes(data)
    refused(path, r"sh0\.webp is damaged")


LEVELS: list[tuple[Edit, str]] = [
    (lambda m: m.update(filenames=["../secret/meta.json"]), "only names within its folder"),
    (lambda m: m.update(filenames=["lod-meta.json"]), "SOG of version 1"),
    (lambda m: m.update(filenames=[]), "of file 0"),
    (lambda m: m.update(lodLevels=10**9), "lodLevels"),
    (lambda m: m["tree"]["lods"]["0"].update(file=9), "of file 9"),
    (lambda m: m["tree"]["lods"]["0"].update(count=10**12), "asks for more"),
    (lambda m: m["tree"]["lods"]["0"].update(offset=-1), "offset"),
    (lambda m: m["tree"]["lods"].update({"x": {"file": 0, "offset": 0, "count": 1}}), "level 'x'"),
    (lambda m: m["tree"].update(children=[{"lods": m["tree"]["lods"]}] * 3), "overlap"),
    (lambda m: m.update(tree={}), "misses files"),
]


@pytest.mark.parametrize(("edit", "match"), LEVELS)
def test_levels_that_lie(edit, match, tmp_path: Path):
    (tmp_path / "0_0").mkdir()
    small(tmp_path / "0_0", "meta.json")
    text = {
        "lodLevels": 1, "filenames": ["0_0/meta.json"], "tree": {"lods": {"0": {"file": 0, "offset": 0, "count": 60}}}
    }  # fmt: skip
    path = tmp_path / "lod-meta.json"
    path.write_text(json.dumps(text))
    assert len(read_gaussians(path)) == 60
    edit(text)
    path.write_text(json.dumps(text))
    refused(path, match)
    path.write_text('{"lodLevels":1,"filenames":["a"],"tree":' + '{"children":[' * 50_000)
    refused(path, "too deeply|truncated|malformed")


# ---------------------------------------------------------------- glTF (fault 22)


def _splats(document: dict[str, Any]) -> dict[str, Any]:
    return document["meshes"][0]["primitives"][0]


GLTF: list[tuple[Edit, str]] = [
    (lambda d: d["accessors"][0].update(count=10**9), "too many"),
    (lambda d: d["accessors"][0].update(count=2**70), "too many"),
    (lambda d: d["accessors"][0].update(count=61), "outside its data|different numbers"),
    (lambda d: d["accessors"][0].update(count=0), "holds 0|no Gaussians"),
    (lambda d: d["accessors"][0].update(count=-5), "holds 0"),
    (lambda d: d["accessors"][0].update(byteOffset=10**12), "outside its data"),
    (lambda d: d["accessors"][0].update(byteOffset=-4), "outside its data"),
    (lambda d: d["accessors"][0].update(componentType=5130), "is VEC3 of 5130"),
    (lambda d: d["accessors"][0].update(type="MAT4"), "is MAT4 of 5126"),
    (lambda d: d["accessors"][0].update(sparse={"count": 1}), "is sparse VEC3"),
    (lambda d: d["accessors"][0].update(bufferView=99), "number 99 of"),
    (lambda d: d["accessors"][0].update(bufferView=-1), "number -1 of"),
    (lambda d: d["accessors"][0].pop("bufferView"), "number None of"),
    (lambda d: d["bufferViews"][0].update(byteStride=2**40), "outside its data"),
    (lambda d: d["bufferViews"][0].update(byteStride=1), "outside its data"),
    (lambda d: d["bufferViews"][0].update(byteOffset=-100), "outside its data"),
    (lambda d: d["bufferViews"][0].update(byteLength=10), "outside its data"),
    (lambda d: d["bufferViews"][0].update(buffer=7), "number 7 of"),
    (lambda d: d["buffers"].append({"byteLength": 1, "uri": "../../a.bin"}), "only names within its folder"),
    (lambda d: d["buffers"].append({"byteLength": 1, "uri": "file:///etc/passwd"}), "only names within its folder"),
    (lambda d: d["buffers"][0].update(uri="none.bin"), "no such file"),
    (lambda d: d["buffers"][0].update(uri="data:;base64,####"), "not base64"),
    (lambda d: d["buffers"][0].pop("uri"), "has no data"),
    (lambda d: d["nodes"][0].update(children=[0]), "1000 primitives"),
    (lambda d: d["nodes"][0].update(children=[0], mesh=None), "nodes that hold themselves"),
    (lambda d: d["nodes"][0].update(children=[0] * 50_000), "nodes that hold themselves"),
    (lambda d: d["nodes"][0].update(mesh=5), "number 5 of"),
    (lambda d: d["nodes"][0].update(matrix=[1.0] * 15), "matrix has 15"),
    (lambda d: d["nodes"][0].update(matrix=[0.0] * 16), "mirrors, shears"),
    (lambda d: d["nodes"][0].update(scale=[1, 2, 3]), "mirrors, shears"),
    (lambda d: d["nodes"][0].update(scale=[1, 1, -1]), "mirrors, shears"),
    (lambda d: d["nodes"][0].update(scale=[1e300, 1e300, 1e300]), "mirrors, shears|none of its"),
    (lambda d: d.update(scene=4), "number 4 of"),
    (lambda d: d.update(meshes={}), "meshes"),
    (lambda d: d.update(extensionsRequired=["EXT_unknown"]), "EXT_unknown"),
    (lambda d: d["meshes"][0].update(primitives=[_splats(d)] * 1001), "more than 1000 primitives"),
    (lambda d: _splats(d)["attributes"].update({f"{NAME}:SCALE": 0.5}), "attributes"),
]


@pytest.mark.parametrize(("edit", "match"), GLTF)
def test_gltf_that_lies(edit, match, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(gltf_splats, "MOST_NODES", 5000)
    document, binary = document_of(small(tmp_path, ".glb"))
    write_gltf(tmp_path / "a.gltf", document, binary)
    document = json.loads((tmp_path / "a.gltf").read_text())
    edit(document)
    (tmp_path / "a.gltf").write_text(json.dumps(document))
    with np.errstate(all="ignore"):
        refused(tmp_path / "a.gltf", match)


def test_primitives_that_share_their_data_do_not_multiply(tmp_path: Path):
    """1000 primitives of the same 40,000 Gaussians would be 40 million."""
    write_gaussians(random_gaussians(40_000, 0), tmp_path / "a.glb")
    document, binary = document_of(tmp_path / "a.glb")
    document["meshes"][0]["primitives"] *= 1000
    write_gltf(tmp_path / "b.gltf", document, binary)
    with at_most(1.5e9), pytest.raises(InputError, match="too many"):
        read_gaussians(tmp_path / "b.gltf")


@pytest.mark.parametrize(
    ("place", "form", "value", "match"),
    [
        (4, "<I", 1, "version 2"), (8, "<I", 2**31, "cut short"), (12, "<I", 2**31, "cut short"),
        (16, "<4s", b"JUNK", "not JSON"), (12, "<I", 4, "cut short|truncated|malformed|not JSON|without KHR"),
    ],
)  # fmt: skip
def test_glb_chunks_that_lie(place, form, value, match, tmp_path: Path):
    path = small(tmp_path, ".glb")
    data = bytearray(path.read_bytes())
    struct.pack_into(form, data, place, value)
    path.write_bytes(data)
    refused(path, match)
