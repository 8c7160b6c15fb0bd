"""glTF with KHR_gaussian_splatting: axes, nodes, whole numbers, drafts."""

import base64
import json
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from neuralfields.codecs import gltf_splats, ply
from neuralfields.codecs.splats import format_of, read_gaussians
from neuralfields.errors import InputError
from neuralfields.gaussians import Gaussians, moved
from tests.support.splat_files import assert_within, judge, judged
from tests.support.splats import random_gaussians

NAME = gltf_splats.EXTENSION
CLOSE = {"scales": gltf_splats.CLOSE, "angle": gltf_splats.CLOSE, "opacity": 1e-6}


def document_of(path: Path) -> tuple[dict[str, Any], bytes]:
    """JSON and binary content of a .glb."""
    data = path.read_bytes()
    size = struct.unpack_from("<I", data, 12)[0]
    return json.loads(data[20 : 20 + size]), data[28 + size :]


def write_gltf(path: Path, document: dict[str, Any], binary: bytes) -> Path:
    document["buffers"][0]["uri"] = "data:application/octet-stream;base64," + base64.b64encode(binary).decode()
    path.write_text(json.dumps(document))
    return path


@pytest.mark.parametrize("degree", [0, 1, 2, 3])
@pytest.mark.parametrize("suffix", [".glb", ".gltf"])
def test_what_comes_back_is_float32s_rounding(degree, suffix, tmp_path: Path):
    before = random_gaussians(90, degree)
    path = tmp_path / f"a{suffix}"
    gltf_splats.write(before, path)
    assert format_of(path) == "gltf_splats"
    after = read_gaussians(path)
    assert after.degree == degree
    assert torch.equal(before.means, after.means) and torch.equal(before.harmonics, after.harmonics)
    assert_within(before, after, **CLOSE)


def test_a_gltf_whose_data_come_first_is_known(tmp_path: Path):
    gltf_splats.write(random_gaussians(30_000, 0), tmp_path / "a.glb")
    document, binary = document_of(tmp_path / "a.glb")
    write_gltf(tmp_path / "b.gltf", {"buffers": document["buffers"]} | document, binary)
    assert (tmp_path / "b.gltf").read_text().find(NAME) > gltf_splats.LOOKED
    assert format_of(tmp_path / "b.gltf") == "gltf_splats" and len(read_gaussians(tmp_path / "b.gltf")) == 30_000


def test_the_layout_is_as_stated(tmp_path: Path):
    """+Y is up: what lies at x right, y down, z forward here lies at -x, -y, z there."""
    before = random_gaussians(5, 1)
    gltf_splats.write(before, tmp_path / "a.glb")
    data = (tmp_path / "a.glb").read_bytes()
    assert data[:4] == b"glTF" and struct.unpack_from("<II", data, 4) == (2, len(data))
    document, binary = document_of(tmp_path / "a.glb")
    primitive = document["meshes"][0]["primitives"][0]
    assert primitive["mode"] == 0 and primitive["extensions"][NAME]["kernel"] == "ellipse"
    assert document["extensionsUsed"] == [NAME] and document["buffers"][0]["byteLength"] == len(binary)

    def values(name: str, width: int) -> np.ndarray:
        view = document["bufferViews"][document["accessors"][primitive["attributes"][name]]["bufferView"]]
        return np.frombuffer(binary, "<f4", 5 * width, view["byteOffset"]).reshape(5, width)

    assert np.array_equal(values("POSITION", 3), before.means.numpy() * [-1, -1, 1])
    np.testing.assert_allclose(values(f"{NAME}:SCALE", 3), before.scales.exp().numpy(), rtol=1e-6)
    np.testing.assert_allclose(values(f"{NAME}:OPACITY", 1)[:, 0], before.opacity().numpy(), rtol=1e-6)
    assert np.array_equal(values(f"{NAME}:SH_DEGREE_1_COEF_2", 3), -before.harmonics[:, 3].numpy())
    w, x, y, z = torch.nn.functional.normalize(before.rotations, dim=1).unbind(1)
    np.testing.assert_allclose(values(f"{NAME}:ROTATION", 4), torch.stack([-y, x, w, -z], 1).numpy(), atol=1e-6)


def test_nodes_move_what_is_below_them(tmp_path: Path):
    before = random_gaussians(20, 3)
    gltf_splats.write(before, tmp_path / "a.glb")
    document, binary = document_of(tmp_path / "a.glb")
    half = 0.5**0.5
    document["nodes"] = [
        {"children": [1, 2], "scale": [2, 2, 2], "translation": [0, 0, 1]},
        {"mesh": 0, "rotation": [0, half, 0, half]},
        {"mesh": 0, "matrix": [1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1, 0, 5, 6, 7, 1]},
        {"mesh": 0},  # no part of the scene
    ]
    after = read_gaussians(write_gltf(tmp_path / "b.gltf", document, binary))
    assert len(after) == 40
    turn = torch.diag(torch.tensor([-1.0, -1.0, 1.0, 1.0]))  # between glTF's axes and ours
    second = torch.eye(4) * torch.tensor([2.0, 2, 2, 1])[:, None]
    second[:3, 3] = torch.tensor([10.0, 12, 15])
    first = torch.tensor([[0.0, 0, 2, 0], [0, 2, 0, 0], [-2, 0, 0, 1], [0, 0, 0, 1]])  # a quarter turn about y
    parts = {tuple(frame[:3, 3].tolist()): moved(before, turn @ frame @ turn) for frame in (first, second)}
    found = {True: after.take(slice(0, 20)), False: after.take(slice(20, 40))}
    order = float((found[True].means - parts[(0.0, 0.0, 1.0)].means).abs().max()) < 1e-3
    limits = {"means": 1e-4, "scales": 1e-5, "angle": 1e-5} | {f"degree_{d}": 2e-6 for d in range(4)}
    assert_within(found[order], parts[(0.0, 0.0, 1.0)], **limits)
    assert_within(found[not order], parts[(10.0, 12.0, 15.0)], **limits)


def test_files_beside_it_and_rows_with_gaps(tmp_path: Path):
    before = random_gaussians(6, 0)
    gltf_splats.write(before, tmp_path / "a.glb")
    document, binary = document_of(tmp_path / "a.glb")
    wide = np.zeros((6, 5), "<f4")
    wide[:, 1:4] = np.frombuffer(binary, "<f4", 18).reshape(6, 3)
    document["bufferViews"].append(
        {"buffer": 0, "byteOffset": len(binary), "byteLength": wide.nbytes, "byteStride": 20}
    )
    document["accessors"][0] |= {"bufferView": len(document["bufferViews"]) - 1, "byteOffset": 4}
    document["buffers"] = [{"byteLength": len(binary) + wide.nbytes, "uri": "data.bin"}]
    (tmp_path / "data.bin").write_bytes(binary + wide.tobytes())
    (tmp_path / "b.gltf").write_text(json.dumps(document))
    assert_within(before, read_gaussians(tmp_path / "b.gltf"), **CLOSE)


def test_whole_numbers_and_logarithms_of_drafts(tmp_path: Path):
    before = random_gaussians(4, 0)
    gltf_splats.write(before, tmp_path / "a.glb")
    document, binary = document_of(tmp_path / "a.glb")
    names = document["meshes"][0]["primitives"][0]["attributes"]
    turns = np.array([[32767, 0, 0, 0], [0, -32767, 0, 0], [0, 0, 0, 32767], [23170, 0, 0, 23170]], "<i2")
    opacity = np.array([255, 0, 51, 102], "u1")
    logs = before.scales.numpy().astype("<f4")
    for name, value, kind in (("ROTATION", turns, 5122), ("OPACITY", opacity, 5121), ("SCALE", logs, 5126)):
        accessor = document["accessors"][names[f"{NAME}:{name}"]]
        accessor |= {"componentType": kind, "normalized": kind != 5126, "bufferView": len(document["bufferViews"])}
        document["bufferViews"].append({"buffer": 0, "byteOffset": len(binary), "byteLength": value.nbytes})
        binary += value.tobytes()
    after = read_gaussians(write_gltf(tmp_path / "b.gltf", document, binary))
    assert any("drafts" in note for note in after.notes)
    torch.testing.assert_close(after.scales, before.scales)
    torch.testing.assert_close(after.opacity(), torch.tensor([1.0, 0.0, 0.2, 0.4]))
    half = 0.5**0.5  # w, x, y, z of x, y, z, w above, turned by half a turn about z
    expected = torch.tensor([[0, 0, -1, 0], [0, 1, 0, 0], [0, 0, 0, 1], [0, 0, half, half]])
    chord = torch.minimum((after.rotations - expected).norm(dim=1), (after.rotations + expected).norm(dim=1))
    assert float(chord.max()) < 1e-3


def test_what_is_not_known_is_named(tmp_path: Path):
    gltf_splats.write(random_gaussians(3, 1), tmp_path / "a.glb")

    def changed(edit) -> Path:
        document, binary = document_of(tmp_path / "a.glb")
        edit(document, document["meshes"][0]["primitives"][0])
        return write_gltf(tmp_path / "b.gltf", document, binary)

    for edit, match in (
        (lambda d, p: d.update(extensionsRequired=["KHR_draco_mesh_compression"]), "KHR_draco_mesh_compression"),
        (lambda d, p: p["extensions"][NAME].update(kernel="triangle"), "splats are of 'triangle'"),
        (lambda d, p: p["extensions"][NAME].update(extensions={f"{NAME}_compression_spz_2": {}}), "compression_spz_2"),
        (lambda d, p: p.pop("extensions"), "no primitive of KHR_gaussian_splatting"),
        (lambda d, p: p["attributes"].pop(f"{NAME}:SCALE"), "accessors"),
        (lambda d, p: p["attributes"].pop(f"{NAME}:SH_DEGREE_1_COEF_1"), "accessors"),
    ):
        with pytest.raises(InputError, match=match):
            gltf_splats.read(changed(edit))
    linear = changed(lambda d, p: p["extensions"][NAME].update(colorSpace="lin_rec709_display"))
    assert any("lin_rec709_display" in note for note in gltf_splats.read(linear).notes)


def test_the_outside_judge_writes_what_is_read(tmp_path: Path):
    command = judge()
    before: Gaussians = random_gaussians(120, 3)
    ply.write(before, tmp_path / "a.ply")
    after = read_gaussians(judged(command, tmp_path / "a.ply", tmp_path / "b.glb"))
    assert_within(before, after, means=1e-6, **CLOSE)
    theirs, ours = document_of(tmp_path / "b.glb")[0], None
    gltf_splats.write(before, tmp_path / "c.glb")
    ours = document_of(tmp_path / "c.glb")[0]
    assert set(theirs["meshes"][0]["primitives"][0]["attributes"]) == set(
        ours["meshes"][0]["primitives"][0]["attributes"]
    )
