"""`nf poses` from photos to a capture that is read back, with COLMAP itself; what goes wrong on the way."""

import json
import shutil
import signal
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from neuralfields.captures.check import check_scene
from neuralfields.captures.readers import read_capture, read_scene
from neuralfields.cli import main
from neuralfields.errors import InputError, PosesNotFoundError, UsageError
from neuralfields.options.captures import PoseSettings, PosesOptions
from neuralfields.options.fit import FitOptions
from neuralfields.poses import find as poses
from neuralfields.poses import search as pose_search
from neuralfields.poses.colmap_process import ColmapFailure
from neuralfields.progress import StageDisplay
from neuralfields.training import plan
from neuralfields.verbs import poses as poses_module
from tests.support.cube_photos import Shoot, position_errors, texture
from tests.support.cube_photos import photo as cast
from tests.support.make_captures import photo, transforms
from tests.support.side_by_side import made_once
from tests.support.signalled import signalled

REPOSITORY = Path(__file__).parents[2]
SHOOT = Shoot(count=8, arc=60.0, size=(224, 168), ground=True)


@pytest.fixture(scope="session", autouse=True)
def has_pycolmap():
    try:
        poses._require_pycolmap()
    except UsageError as error:
        pytest.skip(str(error))


@pytest.fixture(scope="session")
def shot() -> Path:
    """Photos of a cube whose sides differ, on a rich ground."""
    return made_once("cube photos", SHOOT.write)


def interrupted(number: int, record: Path, *words: str, cwd: Path) -> str:
    """`nf poses`, sent a signal as soon as a stage's record is there; its errors."""
    code, told = signalled(number, record.name, ["poses", *words], cwd / "said", cwd)
    assert code == (5 if number == signal.SIGINT else -signal.SIGKILL), told
    return told


@pytest.fixture(scope="session")
def posed(shot, tmp_path_factory) -> tuple[Path, dict]:
    """Their capture and the report, by a run killed after one stage, resumed, stopped after the next, and resumed.

    What an undisturbed run finds is the same; `test_an_undisturbed_run_finds_the_same` has one.
    """
    folder = tmp_path_factory.mktemp("posed")
    out = folder / "capture"
    features, matches = out / "work" / "features.done.json", out / "work" / "matches.done.json"
    interrupted(signal.SIGKILL, features, str(shot), "-o", "capture", cwd=folder)
    before = features.read_bytes()
    told = interrupted(signal.SIGINT, matches, str(shot), "-o", "capture", "--resume", cwd=folder)
    assert "--resume" in told and features.read_bytes() == before
    before += matches.read_bytes()
    report = poses_module.run(PosesOptions(photos=shot, out=out, quiet=True, resume=True))
    assert features.read_bytes() + matches.read_bytes() == before
    return out, report


def test_interrupted_runs_go_on_after_their_last_stage(posed):
    assert {"photos", "features", "matches"} <= set(posed[1]["kept"]) and posed[1]["registered"] == 8


@pytest.mark.slow
def test_an_undisturbed_run_finds_the_same(posed, shot, tmp_path):
    report = poses_module.run(PosesOptions(photos=shot, out=tmp_path / "out", quiet=True))
    assert report["level"] == posed[1]["level"] and not report["kept"]
    ours, theirs = (
        np.stack([f.camera.centre for f in read_scene(path).frames]) for path in (tmp_path / "out", posed[0])
    )
    assert position_errors(ours, theirs).max() < 0.02


def test_the_poses_are_right_and_trusted(posed):
    out, report = posed
    assert report["level"] == "trusted" and report["registered"] == 8 and not report["missing"]
    scene = read_scene(out)
    centres = np.stack([frame.camera.centre for frame in scene.frames])
    assert position_errors(centres, SHOOT.centres).max() < 0.05
    camera = scene.frames[0].camera
    assert camera.fx / camera.width == pytest.approx(1 / (2 * 0.9), rel=0.05)
    up = np.stack([-frame.camera.world_from_camera[:3, 1] for frame in scene.frames])
    assert up[:, 2].min() > 0.8
    assert np.median(np.linalg.norm(centres, axis=1)) == pytest.approx(4, rel=0.1)
    assert "pycolmap" not in sys.modules


def test_other_readers_find_the_same_capture(posed):
    out, report = posed
    ours, theirs = read_capture(out), read_capture(out, "colmap")
    assert ours.kind == "transforms/nerfstudio" and len(theirs.points) > 100
    for a, b in zip(ours.frames, theirs.frames, strict=True):
        assert a.name == b.name
        np.testing.assert_allclose(a.camera.world_from_camera, b.camera.world_from_camera, atol=1e-6)
        assert (a.camera.width, a.camera.fx, a.camera.cx) == pytest.approx((b.camera.width, b.camera.fx, b.camera.cx))
        with Image.open(a.path) as picture:
            assert picture.size == (a.camera.width, a.camera.height)
    np.testing.assert_allclose(ours.points, theirs.points, atol=1e-5)
    assert (out / "sparse.ply").read_bytes().startswith(b"ply")
    names = {name: Path(path).name for name, path in report["names"].items()}
    assert names == {f"cube_{i:02d}.png": f"cube_{i:02d}.png" for i in range(8)}


def test_check_has_nothing_against_it(posed):
    problems = check_scene(posed[0]).problems
    assert [p.message for p in problems if p.level != "note"] == ["8 photos are few"]


def test_a_second_run_keeps_every_stage_and_the_capture(posed, shot):
    out, report = posed
    before = (out / "transforms.json").read_bytes()
    with pytest.raises(UsageError, match="--overwrite"):
        poses_module.run(PosesOptions(photos=shot, out=out, quiet=True))
    again = poses_module.run(PosesOptions(photos=shot, out=out, quiet=True, resume=True))
    assert again["kept"] == ["photos", "copies", "features", "matches", "model", "undistort"]
    assert again["level"] == report["level"] and (out / "transforms.json").read_bytes() == before


@pytest.mark.slow
def test_a_crash_is_told_and_the_next_rung_is_tried(shot, tmp_path, monkeypatch, capsys):
    real, jobs = pose_search.run_job, []

    def run_job(job, *rest):
        jobs.append(job["task"])
        if job["task"] == "mapping" and len(jobs) == 3:
            raise ColmapFailure("COLMAP (mapping) crashed (abort)")
        return real(job, *rest)

    monkeypatch.setattr(pose_search, "run_job", run_job)
    report = poses_module.run(PosesOptions(photos=shot, out=tmp_path / "out", largest=150))
    assert jobs == ["features", "matches", "mapping"] * 2
    assert report["rung"] == pose_search.LADDER[1].name and report["registered"] == 8
    assert "crashed (abort)" in capsys.readouterr().err


def test_a_package_that_always_crashes_leaves_the_reason(shot, tmp_path, monkeypatch):
    def run_job(job, *rest):
        raise ColmapFailure("COLMAP (features) crashed (segmentation fault)")

    monkeypatch.setattr(pose_search, "run_job", run_job)
    with pytest.raises(PosesNotFoundError, match="segmentation fault"):
        poses_module.run(PosesOptions(photos=shot, out=tmp_path / "out", quiet=True))


def write_blank(folder: Path) -> None:
    for index in range(4):
        Image.new("RGB", (160, 120), (200 + index, 200, 200)).save(folder / f"{index}.png")


def write_noise(folder: Path) -> None:
    for index in range(4):
        photo(folder / f"{index}.png", size=(160, 120), seed=index)


@pytest.mark.parametrize(
    ("write", "words"),
    [pytest.param(write_blank, "next to nothing", marks=pytest.mark.slow), (write_noise, "overlap")],
)
def test_photos_that_show_nothing_in_common_have_no_poses(tmp_path, capsys, write, words):
    folder = tmp_path / "photos"
    folder.mkdir()
    write(folder)
    assert main(["poses", str(folder), "-o", str(tmp_path / "out"), "--quiet"]) == PosesNotFoundError.exit_code == 4
    err = capsys.readouterr().err
    assert words in err and err.startswith("nf: error: ") and err.count("\n") == 1
    assert not (tmp_path / "out" / "transforms.json").exists()


@pytest.mark.slow
def test_of_two_places_the_larger_is_kept_and_the_other_told(shot, tmp_path):
    folder = tmp_path / "photos"
    shutil.copytree(shot, folder)
    (folder / "cube_07.png").unlink()
    elsewhere, faces = Shoot(count=48, size=SHOOT.size), [texture(20 + face) for face in range(6)]
    for index in range(4):
        Image.fromarray(cast(elsewhere, index, faces, texture(77, 512))).save(folder / f"far_{index}.png")
    report = poses_module.run(PosesOptions(photos=folder, out=tmp_path / "out", quiet=True))
    assert report["registered"] == 7 and set(report["missing"]) == {f"far_{i}.png" for i in range(4)}
    assert report["level"] == "doubts"
    printed = poses_module.text(report)
    assert "far_0.png" in printed and "7 of 11 photos" in printed


def test_folders_that_would_be_harmed_are_refused(shot, tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "letter.txt").write_text("keep me")
    (tmp_path / "file").write_text("a file")
    shutil.copytree(shot, tmp_path / "scene" / "images")
    for source, out in [(shot, shot), (shot, tmp_path / "mine"), (shot, tmp_path / "file")]:
        with pytest.raises(UsageError, match="--out"):
            poses_module.run(PosesOptions(photos=source, out=out, quiet=True, overwrite=True))
    with pytest.raises(UsageError, match="holds the photos"):
        poses_module.run(PosesOptions(photos=tmp_path / "scene", out=tmp_path / "scene", quiet=True))
    assert len(list((tmp_path / "scene" / "images").iterdir())) == 8
    assert (tmp_path / "mine" / "letter.txt").read_text() == "keep me"
    with pytest.raises(InputError, match="no such"):
        poses_module.run(PosesOptions(photos=tmp_path / "none", quiet=True))
    with pytest.raises(InputError, match="is no video"):
        poses_module.run(PosesOptions(photos=tmp_path / "file", out=tmp_path / "out", quiet=True))
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="at least 3"):
        poses_module.run(PosesOptions(photos=tmp_path / "empty", out=tmp_path / "out", quiet=True))
    assert not (tmp_path / "out").exists()


def doubtful(capture: Path) -> None:
    report = {"path": str(capture), "level": "doubtful", "reasons": ["sides look alike"], "missing": {}, "line": "?"}
    (capture / "poses.json").write_text(json.dumps(report))


def test_doubtful_poses_are_never_fitted_in_silence(tmp_path):
    transforms(tmp_path / "capture")
    doubtful(tmp_path / "capture")
    with pytest.raises(PosesNotFoundError, match=r"sides look alike.*--accept-doubtful-poses"):
        plan.plan_fit(FitOptions(scene=tmp_path / "capture"))
    assert plan.plan_fit(FitOptions(scene=tmp_path / "capture", accept_doubtful_poses=True)).source.frames


def test_fit_of_photos_finds_poses_first_and_keeps_their_name(tmp_path, monkeypatch, capsys):
    folder = tmp_path / "garden"
    for index in range(4):
        photo(folder / f"{index}.jpg", seed=index)
    asked = []

    def find(source, out, settings, display):
        asked.append((source, out))
        transforms(out)
        doubtful(out)

    monkeypatch.setattr(plan, "find_poses", find)
    options = FitOptions(scene=folder, out=tmp_path / "o.nf", quiet=True)
    with pytest.raises(PosesNotFoundError):
        plan.plan_fit(options)
    assert asked == [(folder, tmp_path / "o-capture")]
    assert "without poses" in capsys.readouterr().err
    scene = plan.plan_fit(
        FitOptions(scene=folder, out=tmp_path / "o.nf", quiet=True, accept_doubtful_poses=True)
    ).source
    assert scene.name == "garden" and scene.root == tmp_path / "o-capture"
    with pytest.raises(UsageError, match="nf poses"):
        plan.plan_fit(FitOptions(scene=folder, dry_run=True))


def test_what_has_no_poses_is_told_by_looking_and_a_film_by_its_format(tmp_path):
    photo(tmp_path / "photos" / "0.jpg")
    transforms(tmp_path / "capture")
    assert plan.without_poses(tmp_path / "photos", None)
    assert not plan.without_poses(tmp_path / "photos", "video")
    assert not plan.without_poses(tmp_path / "capture", None)
    assert not plan.without_poses(tmp_path / "clip.mp4", None)
    assert plan.without_poses(tmp_path / "clip.mp4", "photos")


def test_the_verb_ends_with_4_and_says_why_when_poses_are_doubtful(shot, tmp_path, monkeypatch, capsys):
    def find(source, out, settings, display):
        assert isinstance(settings, PoseSettings) and isinstance(display, StageDisplay)
        out.mkdir()
        doubtful(out)
        return json.loads((out / "poses.json").read_text())

    monkeypatch.setattr(poses_module, "find_poses", find)
    assert main(["poses", str(shot), "-o", str(tmp_path / "out")]) == 4
    assert "sides look alike" in capsys.readouterr().out
    shutil.rmtree(tmp_path / "out")
    assert main(["poses", str(shot), "-o", str(tmp_path / "out"), "--json"]) == 4
    assert json.loads(capsys.readouterr().out)["level"] == "doubtful"


def test_the_way_of_matching_follows_the_number_of_photos():
    assert pose_search.matching_way("auto", 60, film=False) == "exhaustive"
    assert pose_search.matching_way("auto", 400, film=False) == "retrieval"
    assert pose_search.matching_way("auto", 100, film=True) == "sequential"
    assert pose_search.matching_way("retrieval", 10, film=True) == "retrieval"


@pytest.mark.slow
def test_a_few_photos_of_the_fox(shared_data, tmp_path):
    (tmp_path / "fox").mkdir()
    given = read_scene(shared_data / "captures" / "ngp_fox")
    for frame in given.frames[:8]:
        with Image.open(frame.path) as picture:
            picture.reduce(5).save(tmp_path / "fox" / frame.path.name, quality=95)
    report = poses_module.run(PosesOptions(photos=tmp_path / "fox", out=tmp_path / "out", quiet=True))
    assert report["level"] == "trusted" and report["registered"] == 8
    ours = np.stack([frame.camera.centre for frame in read_scene(tmp_path / "out").frames])
    true = np.stack([frame.camera.centre for frame in given.frames[:8]])
    assert position_errors(ours, true).max() < 0.05 * np.ptp(true, axis=0).max()


@pytest.mark.slow
def test_a_cube_with_one_texture_on_all_sides_is_doubtful(tmp_path):
    """20 of 20 photos, a third of a pixel, and every camera at a wrong place: COLMAP is content, the verdict is not."""
    for ground in (False, True):
        shoot = Shoot(same=True, ground=ground)
        out = tmp_path / f"out-{ground}"
        report = poses_module.run(PosesOptions(photos=shoot.write(tmp_path / f"in-{ground}"), out=out, quiet=True))
        centres = np.stack([frame.camera.centre for frame in read_scene(out).frames])
        assert report["registered"] == 20 and report["reprojection"] < 0.6
        assert position_errors(centres, shoot.centres).mean() > 3
        assert report["level"] == "doubtful" and poses_module.exit_code(report) == 4


@pytest.mark.slow
def test_sequence_and_retrieval_find_what_all_pairs_find(tmp_path, shot):
    for way in ("sequential", "retrieval"):
        report = poses_module.run(PosesOptions(photos=shot, out=tmp_path / way, quiet=True, matching=way))
        assert report["registered"] == 8 and report["level"] == "trusted"


@pytest.mark.slow
def test_all_at_once_finds_what_photo_by_photo_finds(tmp_path, shot):
    report = poses_module.run(PosesOptions(photos=shot, out=tmp_path / "out", quiet=True, mapper="global"))
    centres = np.stack([frame.camera.centre for frame in read_scene(tmp_path / "out").frames])
    assert report["registered"] == 8
    assert position_errors(centres, SHOOT.centres).max() < 0.05


@pytest.mark.slow
def test_a_film_becomes_a_capture(tmp_path):
    from neuralfields.pictures.film import write_video

    way = Shoot(count=90, arc=60.0, size=(256, 192), ground=True)
    faces, floor = [texture(face) for face in range(6)], texture(99, 512)
    write_video(tmp_path / "clip.mp4", (cast(way, index, faces, floor) for index in range(90)), 30)
    out = tmp_path / "out"
    report = poses_module.run(PosesOptions(photos=tmp_path / "clip.mp4", out=out, quiet=True, frames=10))
    frames = read_scene(out).frames
    assert report["level"] == "trusted" and 8 <= report["registered"] == len(frames) <= 10
    numbers = [int(Path(frame.name).stem.rpartition("_")[2]) for frame in frames]
    centres = np.stack([frame.camera.centre for frame in frames])
    assert position_errors(centres, way.centres[numbers]).max() < 0.05
