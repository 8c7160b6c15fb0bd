"""Times of frames: read, checked, held out by, and left where a scene stands still."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from neuralfields import media
from neuralfields.captures.check import check_scene
from neuralfields.captures.images import read_image
from neuralfields.captures.readers import read_scene
from neuralfields.errors import InputError
from neuralfields.options.fit import FitOptions
from neuralfields.pictures.film import write_video
from neuralfields.training.plan import plan_fit
from tests.support import make_captures
from tests.support.moving import moving_capture, moving_scene


def timed(folder: Path, times: list) -> Path:
    document = make_captures.transforms(folder, make_captures.ring(len(times)))
    for frame, time in zip(document["frames"], times, strict=True):
        if time is not None:
            frame["time"] = time
    make_captures.save(folder, document)
    return folder


@pytest.mark.parametrize(
    ("times", "found"),
    [
        ([0, 0.25, 0.5, 0.75], (0.0, 1.0)),
        ([100, 130, 110, 120], (100.0, 130.0)),
        (["-1.5", "0", "1", "2.5"], (-1.5, 2.5)),
        ([7, 7, 7, 7], None),
        ([0, None, 1, 2], None),
    ],
)
def test_the_scene_lasts_from_the_first_time_to_the_last(tmp_path, times, found):
    scene = read_scene(timed(tmp_path, times))
    assert scene.bounds.times == found
    assert any("none is used" in line for line in scene.warnings) == (None in times)
    if found is not None:
        assert [frame.camera.time for frame in scene.frames] == [float(t) for t in times]
        assert scene.bounds.moment(found[0]) == 0 and scene.bounds.moment(found[1] + 5) == 1


@pytest.mark.parametrize("time", ["noon", 1e300, "nan"])
def test_what_is_no_time_is_refused(tmp_path, time):
    with pytest.raises(InputError, match=r"frames\[1\].*time is"):
        read_scene(timed(tmp_path, [0.0, time, 1.0]))


def test_every_eighth_is_held_out_in_the_order_of_time(tmp_path):
    """Names and times run against each other: what is held out lies evenly in time."""
    scene = read_scene(timed(tmp_path, list(np.linspace(1, 0, 17))))
    held_out = sorted(scene.frames[i].camera.time for i in scene.test)
    assert held_out == [0.0, 0.5, 1.0]


def test_the_moving_scene_is_read():
    scene = read_scene(moving_capture())
    assert len(scene.frames) == 24 and scene.bounds.times == (0.0, 1.0) and not scene.warnings
    assert len({frame.camera.time for frame in scene.frames}) == 24


def test_a_field_without_time_says_so_and_stands_still():
    plan = plan_fit(FitOptions(scene=moving_capture(), field="voxels"))
    assert plan.source.bounds.times is None and all(f.camera.time is None for f in plan.source.frames)
    assert any("the scene moves" in line and "kplanes" in line for line in plan.source.warnings)
    still = plan_fit(FitOptions(scene=moving_capture(), field="kplanes", still=True)).source
    assert still.bounds.times is None and not any("the scene moves" in line for line in still.warnings)
    assert plan_fit(FitOptions(scene=moving_capture(), field="kplanes")).source.bounds.times == (0.0, 1.0)


def test_of_cameras_that_film_together_one_is_held_out(tmp_path):
    scene = read_scene(moving_scene().write(tmp_path / "many", cameras=5, frames=3, size=8))
    held_out = {scene.frames[i].name for i in scene.test}
    assert held_out == {f"cam00/000{i}.png" for i in range(3)} and len(scene.train) == 12
    assert not any("nearly identical" in problem.message for problem in check_scene(tmp_path / "many").problems)


def test_a_folder_of_pictures_is_a_film_of_its_camera(tmp_path):
    """One entry a camera, which names a folder: its pictures are at times 0, 1, 2 ... by name."""
    folder = moving_scene().write(tmp_path / "films", cameras=4, frames=3, size=8)
    document = json.loads((folder / "transforms.json").read_text())
    entries = {Path(f["file_path"]).parts[0]: f["transform_matrix"] for f in document["frames"]}
    document["frames"] = [{"file_path": f"./{name}/", "transform_matrix": m} for name, m in entries.items()]
    make_captures.save(folder, document)
    scene = read_scene(folder)
    assert scene.bounds.times == (0.0, 2.0) and len(scene.frames) == 12
    assert [f.camera.time for f in scene.frames[:4]] == [0.0, 1.0, 2.0, 0.0]
    assert {scene.frames[i].name[:5] for i in scene.test} == {"cam00"}


def test_a_film_of_a_camera_is_read_frame_by_frame(tmp_path, monkeypatch):
    """One entry a camera, which names an .mp4; its frames are decoded once, into the cache."""
    monkeypatch.setenv("NEURALFIELDS_CACHE", str(tmp_path / "cache"))
    folder = moving_scene().write(tmp_path / "films", cameras=4, frames=3, size=32)
    document, entries = json.loads((folder / "transforms.json").read_text()), {}
    for frame in document["frames"]:
        entries.setdefault(Path(frame["file_path"]).parts[0], frame["transform_matrix"])
    shown = {}
    for name in entries:
        pictures = [read_image(path)[..., :3] for path in sorted((folder / name).glob("*.png"))]
        write_video(folder / f"{name}.mp4", pictures, 30)
        shown[name] = pictures
        shutil.rmtree(folder / name)
    document["frames"] = [{"file_path": f"{name}.mp4", "transform_matrix": m} for name, m in entries.items()]
    make_captures.save(folder, document)
    scene = read_scene(folder)
    assert scene.bounds.times == (0.0, 2.0) and len(scene.frames) == 12
    assert scene.frames[5].name == "cam01.mp4/00002.png" and scene.frames[5].camera.time == 2.0
    assert {scene.frames[i].name[:5] for i in scene.test} == {"cam00"}
    read = read_image(scene.frames[5].path).astype(int)
    off = [float(np.abs(read - picture).mean()) for picture in shown["cam01"]]
    assert off[2] < 8 and off[2] == min(off)  # a film has half the colours' resolution
    monkeypatch.setattr(media, "video_frames", lambda path: pytest.fail("it was decoded again"))
    assert [frame.path for frame in read_scene(folder).frames] == [frame.path for frame in scene.frames]


def test_a_damaged_film_is_one_line(tmp_path, monkeypatch):
    monkeypatch.setenv("NEURALFIELDS_CACHE", str(tmp_path / "cache"))
    folder = tmp_path / "here"
    document = make_captures.transforms(folder)
    (folder / "cam.mp4").write_bytes(b"no film at all")
    document["frames"] = [document["frames"][0] | {"file_path": "cam.mp4"}]
    make_captures.save(folder, document)
    with pytest.raises(InputError, match=r"cam\.mp4: is not a readable video"):
        read_scene(folder)
    assert not [*(tmp_path / "cache" / "films").iterdir()]


def test_a_folder_outside_is_no_film(tmp_path):
    make_captures.photo(tmp_path / "other" / "a.png")
    folder = tmp_path / "here"
    document = make_captures.transforms(folder)
    document["frames"].append(document["frames"][0] | {"file_path": "../other"})
    make_captures.save(folder, document)
    with pytest.raises(InputError, match="outside"):
        read_scene(folder)
