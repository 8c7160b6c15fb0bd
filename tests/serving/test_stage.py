"""What is shown: models, captures, whatever renders a camera; their cameras, photos and points."""

import io
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from neuralfields.cameras import Camera, look_at, project
from neuralfields.captures.readers import read_scene
from neuralfields.codecs.splats import write_gaussians
from neuralfields.distillation.insert import blend, placed
from neuralfields.errors import InputError, UsageError
from neuralfields.evaluation.render import render
from neuralfields.fields.gaussians import GaussianField
from neuralfields.fields.surface import Config as SurfaceConfig
from neuralfields.fields.surface import SurfaceField
from neuralfields.models.model import Model
from neuralfields.models.nf_file import save
from neuralfields.options.models import EditOptions, ShareOptions
from neuralfields.serving.shading import Reference
from neuralfields.serving.stage import extent, stage_of, straightened
from neuralfields.verbs import share
from tests.support.foreign_files import snapshot_of, write_snapshot
from tests.support.hash_models import hash_model
from tests.support.make_captures import colmap
from tests.support.splats import lopsided
from tests.support.view_ball import Ball, ball_stage, eye


def test_a_file_with_its_capture(small_file: Path, small_model: Model) -> None:
    stage = stage_of([small_file])
    shown = stage.describe()
    assert [s["name"] for s in shown["subjects"]] == ["small.nf"] and shown["modes"][-1] == "error"
    assert shown["subjects"][0]["facts"]["field"] == "hash" and "dB" in shown["subjects"][0]["facts"]["held-out PSNR"]
    assert len(shown["cameras"]) == len(small_model.cameras) and all(c["photo"] for c in shown["cameras"])
    assert sum(c["held_out"] for c in shown["cameras"]) == len(small_model.held_out) and not stage.notes
    camera = small_model.cameras[1]
    seen = stage.subjects[0].timed(camera, small_model.background, None)
    assert torch.equal(seen.rgb, render(small_model, camera).rgb) and stage.subjects[0].speed > 0
    header, data = stage.photo_packet(1)
    assert header["camera"] == 1 and Image.open(io.BytesIO(data)).size == (64, 64)


def test_a_file_of_another_program(small_model: Model, small_capture: Path, tmp_path: Path) -> None:
    path = write_snapshot(tmp_path / "a.ingp", snapshot_of(small_model, "float"))
    stage = stage_of([path], small_capture, "cpu")
    shown = stage.describe()
    assert shown["subjects"][0]["name"] == "a.ingp" and shown["subjects"][0]["facts"]["field"] == "hash"
    assert len(shown["cameras"]) == len(small_model.cameras) and all(c["photo"] for c in shown["cameras"])
    camera = small_model.cameras[1]
    seen, ours = stage.subjects[0].timed(camera, (0.0, 0.0, 0.0), None), render(small_model, camera, "black")
    assert float((seen.rgb - ours.rgb).abs().mean()) < 0.02
    alone = stage_of([path])
    assert alone.album is None and "no photos: " in alone.notes[0] and alone.describe()["cameras"]
    (tmp_path / "photo.jpg").write_bytes(b"\xff\xd8\xff" + bytes(200))
    with pytest.raises(InputError, match=r"photo\.jpg: not a readable JPEG image"):
        stage_of([tmp_path / "photo.jpg"])


def test_models_are_loaded_on_the_device_that_is_chosen(small_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []
    monkeypatch.setattr("neuralfields.serving.subjects.choose_device", lambda name: asked.append(name) or "meta")
    models = []
    monkeypatch.setattr(Model, "renderable", lambda model: models.append(model))
    stage_of([small_file], device="cuda")
    stage_of([small_file])
    assert asked == ["cuda", "auto"] and len(models) == 2
    assert {tensor.device.type for model in models for tensor in model.field.state_dict().values()} == {"meta"}


def test_a_model_whose_capture_is_gone(small_model: Model, tmp_path: Path) -> None:
    model = replace(small_model, made=small_model.made | {"scene": str(tmp_path / "gone")})
    stage = stage_of([model])
    assert stage.album is None and "error" not in stage.describe()["modes"]
    assert len(stage.notes) == 1 and "is not there" in stage.notes[0]
    assert stage.nearest(model.cameras[0]) is None
    with pytest.raises(InputError, match="photos"):
        stage.photo_packet(0)


def test_a_capture_alone(tmp_path: Path) -> None:
    colmap(tmp_path)
    stage = stage_of([tmp_path])
    shown = stage.describe()
    assert shown["modes"] == [] and shown["points"] == len(read_scene(tmp_path).points) > 0
    assert shown["subjects"][0]["kind"] == "capture" and len(shown["cameras"]) == 4
    with pytest.raises(UsageError, match="nf fit"):
        stage.subjects[0].timed(eye(), (1, 1, 1), None)


def test_whatever_renders_a_camera() -> None:
    stage = stage_of([Ball()])
    seen = stage.subjects[0].timed(eye(), (0.0, 0.0, 0.0), None)
    assert stage.describe()["eye"]["fov"] == 45 and float(seen.rgb[0, 0].max()) == 0
    assert float(seen.opacity.max()) == 1


@pytest.mark.parametrize("thing", [3, None, object()])
def test_what_cannot_be_shown(thing: object) -> None:
    with pytest.raises(UsageError, match="cannot show a"):
        stage_of([thing])


def test_nothing_and_no_file(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="nothing was given"):
        stage_of([])
    with pytest.raises(InputError, match="no such file"):
        stage_of([tmp_path / "a.nf"])


@pytest.mark.parametrize("kind", ["perspective", "fisheye"])
def test_extent_and_straightened_photo(kind: str) -> None:
    """A photo of stripes through a lens, straightened, shows each world direction where a pinhole would."""
    lens = (-0.15, 0.02, 0.001, -0.002, 0, 0, 0, 0) if kind == "perspective" else (0.02, 0.0, 0.0, 0.0, 0, 0, 0, 0)
    camera = Camera(np.eye(4), 120, 90, 80.0, 82.0, 58.0, 47.0, kind, lens)
    left, right, top, bottom = extent(camera)
    corner, _ = project(camera, np.array([[left, 0, 1], [right, 0, 1], [0, top, 1], [0, bottom, 1.0]]))
    assert left < 0 < right and top < 0 < bottom and corner[0, 0] < 3 and corner[1, 0] > 117
    u, v = np.meshgrid(np.arange(120) + 0.5, np.arange(90) + 0.5)
    photo = np.stack([u * 2, v * 2, 0 * u], -1).astype(np.uint8)
    flat = straightened(Reference(photo, camera))
    assert flat.shape == (90, 120, 4) and (flat[..., 3] == 255).mean() > 0.7
    for row, column in ((45, 60), (20, 90), (70, 30)):
        a = left + (column + 0.5) / 120 * (right - left)
        b = top + (row + 0.5) / 90 * (bottom - top)
        (x, y), _ = project(camera, np.array([a, b, 1.0]))
        assert flat[row, column, :2] == pytest.approx([2 * x, 2 * y], abs=3)
    plain = replace(camera, model="perspective", distortion=(0.0,) * 8)
    assert straightened(Reference(photo, plain)) is photo
    assert extent(plain) == pytest.approx((-58 / 80, 62 / 80, -47 / 82, 43 / 82))


def test_the_nearest_camera_with_a_photo(small_file: Path) -> None:
    stage = stage_of([small_file])
    for index in (0, 7, 20):
        assert stage.nearest(stage.cameras[index]) == index


def test_a_stage_is_plain_data_with_any_name() -> None:
    stage = ball_stage()
    stage.names[0] = "</script><img src=x onerror=alert(1)>.png"
    assert json.loads(json.dumps(stage.describe()))["cameras"][0]["name"] == stage.names[0]


def test_scenes_of_every_kind_are_shown_and_told_apart(tmp_path: Path) -> None:
    """A blend and a surface field are drawn by the server, which says why, cut to a box too."""
    base, other = hash_model(), hash_model(seed=1)
    surface = SurfaceField(SurfaceConfig(levels=2, table=6, finest=32, first=2, hidden=8))
    placement = placed(base, other, EditOptions(Path("a.nf"), insert=Path("b.nf"), scale=0.5))
    models = {"blend": blend(base, other, placement), "surface": replace(base, field=surface)}
    camera = looking_in(base)
    for kind, model in models.items():
        subject = stage_of([model]).subjects[0]
        assert (subject.why, subject.volume) == (f"the page has no shader for a field of kind {kind!r}", None)
        whole = subject.render(camera, (0.0, 0.0, 0.0), None)
        centre, half = base.bounds.centre, base.bounds.side / 4
        cut = subject.render(camera, (0.0, 0.0, 0.0), tuple(tuple(c + sign * half for c in centre) for sign in (-1, 1)))
        assert 0 < float(cut.opacity.sum()) < float(whole.opacity.sum())
        save(model, tmp_path / f"{kind}.nf")
        with pytest.raises(UsageError, match=rf"no shader for a field of kind '{kind}'; make Gaussians of it first"):
            share.run(ShareOptions((tmp_path / f"{kind}.nf",), out=tmp_path / "a.html", quiet=True))


def looking_in(model: Model) -> Camera:
    centre = np.array(model.bounds.centre)
    pose = look_at(centre + np.array([0.0, -2.0 * model.bounds.side, 0.3]), centre, np.array([0.0, 0.0, 1.0]))
    return Camera(pose, 24, 24, 30.0, 30.0, 12.0, 12.0)


def test_a_folder_of_splat_files_has_times_and_is_framed(tmp_path: Path) -> None:
    for index in range(3):
        shifted = replace(lopsided(), means=lopsided().means + 0.2 * index)
        write_gaussians(shifted, tmp_path / f"{index}.ply")
    stage = stage_of([tmp_path])
    (subject,) = stage.subjects
    described = stage.describe()
    assert described["times"] == [0.0, 2.0] and subject.splats is None and subject.first is not None
    assert described["extent"] is not None  # as a file of splats is
    camera = looking_in(Model(GaussianField.of(lopsided()), stage.bounds))
    seen = [subject.render(replace(camera, time=t), (0.0, 0.0, 0.0), None).rgb for t in (0.0, 0.9, 2.0)]
    assert torch.equal(seen[1], subject.render(replace(camera, time=1.0), (0.0, 0.0, 0.0), None).rgb)
    assert (seen[0] - seen[2]).abs().max() > 0.05
    low, high = (tuple(c + sign * 100.0 for c in stage.bounds.centre) for sign in (-1, 1))
    assert torch.equal(subject.render(replace(camera, time=2.0), (0.0, 0.0, 0.0), (low, high)).rgb, seen[2])
