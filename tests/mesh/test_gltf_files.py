"""glTF meshes: their triangles in their places, and files that name what is not theirs."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest

from neuralfields import cli
from neuralfields.errors import InputError
from neuralfields.mesh.files import read_mesh
from neuralfields.mesh.mesh import checked

trimesh = pytest.importorskip("trimesh")


def two_boxes(coloured: bool = True) -> "trimesh.Scene":
    """A cube of side 1 at the origin, and one of side 2 that a node moves to x = 5."""
    scene = trimesh.Scene()
    for side, place in ((1.0, 0.0), (2.0, 5.0)):
        box = trimesh.creation.box((side, side, side))
        if coloured:
            box.visual.vertex_colors = np.array([[200, 100, 50, 255]] * len(box.vertices), np.uint8)
        scene.add_geometry(box, transform=trimesh.transformations.translation_matrix((place, 0, 0)))
    return scene


def test_all_nodes_are_one_mesh_in_its_places(tmp_path: Path) -> None:
    (tmp_path / "a.glb").write_bytes(two_boxes().export(file_type="glb"))
    mesh, notes = checked(read_mesh(tmp_path / "a.glb"), "a.glb")
    low, high = mesh.box
    assert np.allclose(low, (-0.5, -1, -1)) and np.allclose(high, (6, 1, 1)) and notes == []
    assert mesh.volume() == pytest.approx(1 + 8) and len(mesh.faces) == 24
    assert mesh.colours is not None and np.array_equal(np.unique(mesh.colours, axis=0), [[200, 100, 50]])
    (tmp_path / "b.glb").write_bytes(two_boxes(False).export(file_type="glb"))
    assert read_mesh(tmp_path / "b.glb").colours is None


def gltf(folder: Path) -> Path:
    """A .gltf with its buffers beside it."""
    for name, data in two_boxes().export(file_type="gltf").items():
        (folder / ("a.gltf" if name.endswith(".gltf") else name)).write_bytes(data)
    return folder / "a.gltf"


def test_buffers_beside_the_file_are_read_and_no_others(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    path = gltf(tmp_path / "in")
    assert checked(read_mesh(path), "a.gltf")[0].volume() == pytest.approx(9)
    content = json.loads(path.read_text())
    name = content["buffers"][0]["uri"]
    (tmp_path / "outside.bin").write_bytes((tmp_path / "in" / name).read_bytes())
    for uri in ("../outside.bin", "%2e%2e/outside.bin", str(tmp_path / "outside.bin"), "http://localhost/x.bin"):
        content["buffers"][0]["uri"] = uri
        path.write_text(json.dumps(content))
        with pytest.raises(InputError, match="outside its folder; put it beside"):
            read_mesh(path)
    content["buffers"][0]["uri"] = "gone.bin"
    path.write_text(json.dumps(content))
    with pytest.raises(InputError, match=r"a\.gltf: names 'gone.bin', which is no file"):
        read_mesh(path)


def test_other_content_is_refused_in_a_line(tmp_path: Path) -> None:
    whole = two_boxes().export(file_type="glb")
    cases = {
        "short": whole[:200],
        "text": b"glTF nothing",
        "json": b"{}",
        "bits": whole[:40] + b"\xff" * 40 + whole[80:],
    }
    for data in cases.values():
        for suffix in (".glb", ".gltf"):
            (tmp_path / f"a{suffix}").write_bytes(data)
            with pytest.raises(InputError, match=r"no glTF that is read|holds no triangles|no vertices") as caught:
                read_mesh(tmp_path / f"a{suffix}")
            assert "\n" not in str(caught.value)


def test_without_trimesh_one_line_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "a.glb").write_bytes(two_boxes().export(file_type="glb"))
    monkeypatch.setitem(sys.modules, "trimesh", None)
    assert cli.main(["fit", str(tmp_path / "a.glb"), "--dry-run"]) == 3
    err = capsys.readouterr().err
    assert "a mesh in glTF, which needs the package trimesh; run: pip install 'neuralfields[mesh]'" in err
