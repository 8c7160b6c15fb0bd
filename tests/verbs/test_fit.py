"""The verb `fit` and the function of that name: refusals, signals, what a checkpoint is taken up by, masks."""

import json
import re
import signal
import subprocess
import time
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import neuralfields
from neuralfields.captures.images import read_image
from neuralfields.captures.readers import read_scene
from neuralfields.errors import InputError, InterruptedFit, UsageError
from neuralfields.evaluation.quick import PhotoValidation
from neuralfields.files import companion
from neuralfields.models.model import Model
from neuralfields.models.nf_file import load
from neuralfields.options.common import DEFAULT_STEPS
from neuralfields.options.fit import FitOptions
from neuralfields.pictures.panels import save_image
from neuralfields.rendering.occupancy import Occupancy
from neuralfields.scene import Scene
from neuralfields.training import photos as fit_photos
from neuralfields.training.checkpoint import Checkpoint
from neuralfields.training.fit import fit_scene
from neuralfields.training.loop import Budget
from neuralfields.verbs import fit
from tests.support.fit_runs import SMALL, Interrupting, listing, nf, refused, same_model
from tests.support.small_fit import tiny_capture_folder

pytestmark = pytest.mark.usefixtures("small_steps")


@pytest.fixture(scope="module")
def capture() -> Path:
    """The tiny capture: 12 training and 2 held-out views of 32 x 32, RGBA."""
    return tiny_capture_folder()


def test_an_existing_output_is_kept(capture: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "a.nf"
    out.write_bytes(b"mine")
    assert "exists; add --overwrite" in refused(capsys, 2, capture, "--out", out, "--steps", 1)
    assert out.read_bytes() == b"mine" and listing(tmp_path) == ["a.nf"]


def test_overwrite_replaces_it(capture: Path, tmp_path: Path, small_steps: None) -> None:
    out = tmp_path / "a.nf"
    out.write_bytes(b"mine")
    options = FitOptions(
        scene=capture, steps=2, threads=1, field="hash", set=SMALL, out=out, overwrite=True, quiet=True
    )
    assert fit.run(options)["steps"] == 2
    assert load(out).made["steps"] == 2


def test_dry_run_writes_nothing(
    capture: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    code, out, _ = nf(capsys, "fit", capture, "--dry-run", "--json")
    plan = json.loads(out)
    assert code == 0 and plan["photos"] == "12 to train on, 2 held out" and plan["path"] == "tiny.nf"
    assert listing(tmp_path) == []


USAGE = {
    "field": (("--field", "hahs"), r"unknown field 'hahs'; known: .*hash.*; did you mean hash\?"),
    "key": (("--field", "hash", "--set", "levls=4"), r"unknown key 'levls' \(did you mean 'levels'\?\)"),
    "value": (("--field", "hash", "--set", "levels=many"), r"levels=many: must be a whole number"),
    "cuda": (("--device", "cuda"), r"--device cuda: .* use --device cpu"),
}


@pytest.mark.parametrize("case", USAGE)
@pytest.mark.parametrize("dry", [False, True])
def test_usage_errors_come_before_anything_is_written(
    capture: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], case: str, dry: bool
) -> None:
    words, message = USAGE[case]
    (tmp_path / "a.nf.log.jsonl").write_text('{"step": 1}\n')  # of the fit before, which is still worth reading
    more = ("--dry-run",) if dry else ()
    assert re.search(message, refused(capsys, 2, capture, "--out", tmp_path / "a.nf", "--quiet", *words, *more))
    assert listing(tmp_path) == ["a.nf.log.jsonl"]
    assert (tmp_path / "a.nf.log.jsonl").read_text() == '{"step": 1}\n'


def test_a_missing_capture_and_a_missing_folder(
    capture: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert "no such file or folder" in refused(capsys, 3, tmp_path / "gone")
    assert "no such folder; create it first" in refused(capsys, 3, capture, "--out", tmp_path / "no" / "a.nf")
    assert listing(tmp_path) == []


def test_nothing_to_resume(capture: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    err = refused(capsys, 3, capture, "--out", tmp_path / "a.nf", "--resume", "--quiet", "--threads", 1)
    assert "a.nf.checkpoint: no checkpoint to resume; run without --resume" in err
    with pytest.raises(UsageError, match="--resume needs the output it goes on with: give --out"):
        fit_scene(read_scene(capture), FitOptions(scene=capture, field="hash", set=SMALL, threads=1, resume=True))


def masked(scene: Scene, folder: Path, value: int, frames: tuple[int, ...]) -> Scene:
    """The scene with a mask of one grey for the photos `frames`."""
    path = folder / f"mask{value}.png"
    camera = scene.frames[0].camera
    save_image(path, np.full((camera.height, camera.width, 3), value, np.uint8))
    changed = [replace(f, mask_path=path) if i in frames else f for i, f in enumerate(scene.frames)]
    return replace(scene, frames=tuple(changed))


def options_for(capture: Path, **more: Any) -> FitOptions:
    return FitOptions(
        **{"scene": capture, "steps": 12, "threads": 1, "field": "hash", "set": SMALL, "quiet": True} | more
    )


def test_masks_that_leave_nothing(capture: Path, tmp_path: Path) -> None:
    scene = read_scene(capture)
    with pytest.raises(InputError, match="the masks leave no pixel to train on; check their polarity"):
        fit_scene(masked(scene, tmp_path, 0, scene.train), options_for(capture))


@pytest.mark.parametrize(("count", "measured"), [(1, True), (None, False)])
def test_held_out_masks_that_leave_nothing_are_no_loss_of_the_fit(
    capture: Path, tmp_path: Path, count: int | None, measured: bool, small_steps: None
) -> None:
    """The views that are left are measured; where none is, there is no score."""
    scene = read_scene(capture)
    scene = masked(scene, tmp_path, 0, scene.test[:count])
    model = fit_scene(scene, options_for(capture, steps=2, eval_every=0.001))
    assert model.made["steps"] == 2
    assert 5 < model.metrics["psnr"] < 20 if measured else "psnr" not in model.metrics


def test_no_held_out_view_at_all(capture: Path, small_steps: None) -> None:
    model = fit_scene(replace(read_scene(capture), test=()), options_for(capture, eval_every=0.01))
    assert "psnr" not in model.metrics and model.held_out == ()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_after_the_step_and_handlers_are_put_back(
    capture: Path, tmp_path: Path, small_steps: None, number: int
) -> None:
    before = [signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM)]
    with pytest.raises(InterruptedFit, match="interrupted at step 5; nothing is kept without an output"):
        fit_scene(read_scene(capture), options_for(capture), Interrupting(5, number))
    assert [signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM)] == before
    with pytest.raises(InterruptedFit, match=r"interrupted at step 4; the checkpoint .*a\.nf\.checkpoint is written"):
        fit_scene(read_scene(capture), options_for(capture, out=tmp_path / "a.nf"), Interrupting(4, number))
    assert listing(tmp_path) == ["a.nf.checkpoint"]


def test_two_signals_end_at_once_and_leave_the_last_checkpoint(
    capture: Path, tmp_path: Path, small_steps: None
) -> None:
    scene, options = read_scene(capture), options_for(capture, out=tmp_path / "a.nf")
    with pytest.raises(InterruptedFit):
        fit_scene(scene, options, Interrupting(3))
    before = (tmp_path / "a.nf.checkpoint").read_bytes()
    with pytest.raises(KeyboardInterrupt):
        fit_scene(scene, replace(options, resume=True), Interrupting(2, times=2))
    assert (tmp_path / "a.nf.checkpoint").read_bytes() == before and listing(tmp_path) == ["a.nf.checkpoint"]


def test_the_same_command_again_keeps_the_checkpoint(
    capture: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], small_steps: None
) -> None:
    """Neither of two outputs' checkpoints and logs is touched by the other, nor by a fit that starts anew unasked."""
    scene = read_scene(capture)
    for name in ("fox.v1", "fox.v2"):
        with pytest.raises(InterruptedFit):
            fit_scene(scene, options_for(capture, out=tmp_path / name), Interrupting(2 if name == "fox.v1" else 3))
    kept = {name: (tmp_path / f"{name}.checkpoint").read_bytes() for name in ("fox.v1", "fox.v2")}
    (tmp_path / "fox.v1.log.jsonl").write_text('{"step": 1}\n')
    words = (capture, "--out", tmp_path / "fox.v1", "--steps", 2, "--quiet", "--threads", 1, "--set", *SMALL)
    err = refused(capsys, 2, *words)
    assert "fox.v1.checkpoint: holds 2 steps of an interrupted fit; go on with --resume, or start anew with" in err
    assert {name: (tmp_path / f"{name}.checkpoint").read_bytes() for name in kept} == kept
    assert listing(tmp_path) == ["fox.v1.checkpoint", "fox.v1.log.jsonl", "fox.v2.checkpoint"]
    with pytest.raises(UsageError, match="holds 2 steps of an interrupted fit"):
        fit_scene(scene, options_for(capture, out=tmp_path / "fox.v1"))
    with pytest.raises(InterruptedFit):  # asked for, it is replaced
        fit_scene(scene, options_for(capture, out=tmp_path / "fox.v1", overwrite=True), Interrupting(4))
    assert (tmp_path / "fox.v1.checkpoint").read_bytes() != kept["fox.v1"]


def test_a_file_in_the_place_of_the_checkpoint_is_kept(
    capture: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "a.nf.checkpoint").write_bytes(b"another program's")
    for more in ((), ("--overwrite",)):
        err = refused(capsys, 2, capture, "--out", tmp_path / "a.nf", "--quiet", *more)
        assert "is in the place of the checkpoint and is no readable one; move it away" in err
    assert listing(tmp_path) == ["a.nf.checkpoint"]
    assert (tmp_path / "a.nf.checkpoint").read_bytes() == b"another program's"


def test_an_older_log_and_record_are_kept_under_a_number(
    capture: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], small_steps: None
) -> None:
    for kind in ("log.jsonl", "options.json"):
        (tmp_path / f"a.nf.{kind}").write_text("mine\n")
    words = ("fit", capture, "--out", tmp_path / "a.nf", "--steps", 2, "--quiet", "--threads", 1, "--set", *SMALL)
    assert nf(capsys, *words)[0] == 0
    assert (tmp_path / "a.nf.log.1.jsonl").read_text() == (tmp_path / "a.nf.options.1.json").read_text() == "mine\n"
    assert nf(capsys, *words, "--overwrite")[0] == 0
    assert len(listing(tmp_path)) == 5


def test_interrupted_at_the_last_step_a_resume_just_finishes(capture: Path, tmp_path: Path, small_steps: None) -> None:
    scene, options = read_scene(capture), options_for(capture, out=tmp_path / "a.nf")
    with pytest.raises(InterruptedFit):
        fit_scene(scene, options, Interrupting(12))
    same_model(fit_scene(scene, replace(options, resume=True)), fit_scene(scene, replace(options, out=None)))


def changed_photo(scene: Scene, folder: Path) -> Scene:
    """One pixel of one photo is another."""
    frame = scene.frames[scene.train[2]]
    image = read_image(frame.path)
    image[17, 10] = (1, 2, 3, 255)
    save_image(folder / "changed.png", image)
    return changed_frame(scene, path=folder / "changed.png")


def changed_frame(scene: Scene, **values: Any) -> Scene:
    frames = list(scene.frames)
    frames[scene.train[2]] = replace(frames[scene.train[2]], **values)
    return replace(scene, frames=tuple(frames))


def changed_pose(scene: Scene, folder: Path) -> Scene:
    camera = scene.frames[scene.train[2]].camera
    pose = camera.world_from_camera.copy()
    pose[0, 3] += 1e-3
    return changed_frame(scene, camera=replace(camera, world_from_camera=pose))


def changed_lens(scene: Scene, folder: Path) -> Scene:
    camera = scene.frames[scene.train[2]].camera
    return changed_frame(scene, camera=replace(camera, fx=camera.fx * 1.01))


def changed_mask(scene: Scene, folder: Path) -> Scene:
    return masked(scene, folder, 0, (scene.train[2],))


def changed_bounds(scene: Scene, folder: Path) -> Scene:
    return replace(scene, bounds=replace(scene.bounds, side=scene.bounds.side * 1.1))


@pytest.fixture
def no_grid(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leaves out the slow part of a start that is refused anyway."""
    monkeypatch.setattr(Occupancy, "hide_unseen", lambda *_: None)


@pytest.mark.parametrize("change", [changed_photo, changed_pose, changed_lens, changed_mask, changed_bounds])
def test_a_checkpoint_of_another_capture_is_refused(
    capture: Path, tmp_path: Path, interrupted: Path, change: Any, no_grid: None
) -> None:
    scene = change(read_scene(capture), tmp_path)
    with pytest.raises(UsageError, match=r"a\.nf\.checkpoint: was made with .*; resume with the same, or start anew"):
        fit_scene(scene, options_for(capture, out=interrupted, resume=True), Interrupting(1))


@pytest.mark.parametrize(
    ("more", "named"),
    [
        ({"seed": 1}, "seed 0, now it is 1"),
        ({"steps": None}, f"steps 12, now it is {DEFAULT_STEPS}"),
        ({"threads": 2}, "threads 1, now it is 2"),
        ({"downscale": 2}, "photos"),
        ({"bits": 8}, "bits 32, now it is 8"),
        ({"half": True}, "half False, now it is True"),
        ({"background": "black"}, "background 'auto', now it is 'black'"),
        ({"set": (*SMALL[1:], "levels=5")}, "config .*'levels': 4.*'levels': 5"),
    ],
)
def test_a_checkpoint_of_other_options_is_refused(
    capture: Path, interrupted: Path, more: dict[str, Any], named: str, no_grid: None
) -> None:
    before = companion(interrupted, ".checkpoint").read_bytes()
    with pytest.raises(UsageError, match=f"made with {named}"):
        fit_scene(read_scene(capture), options_for(capture, out=interrupted, resume=True, **more), Interrupting(1))
    assert companion(interrupted, ".checkpoint").read_bytes() == before


def test_the_api_gives_a_model_that_renders(capture: Path, small_steps: None) -> None:
    model = neuralfields.fit(capture, steps=120, out=None, threads=1, set=SMALL)
    assert isinstance(model, Model) and model.made["steps"] == 120
    camera = model.cameras[model.held_out[0]]
    picture = neuralfields.render(model, camera)
    assert picture.rgb.shape == (camera.height, camera.width, 3)
    assert bool(torch.isfinite(picture.rgb).all()) and float(picture.opacity.max()) > 0.5
    assert model.metrics["psnr"] > 18


def test_the_api_leaves_its_output_and_no_checkpoint(capture: Path, tmp_path: Path, small_steps: None) -> None:
    out = tmp_path / "a.nf"
    model = neuralfields.fit(capture, steps=30, out=out, threads=1, set=SMALL, checkpoint_every=0.1)
    same_model(model, load(out))
    assert listing(tmp_path) == ["a.nf"]
    with pytest.raises(UsageError, match="exists; add --overwrite"):
        neuralfields.fit(capture, steps=30, out=out)


def test_the_global_generator_of_torch_is_left_alone(capture: Path, small_steps: None) -> None:
    torch.manual_seed(5)
    want = torch.rand(3)
    torch.manual_seed(5)
    fit_scene(read_scene(capture), options_for(capture, steps=1))
    assert torch.equal(torch.rand(3), want)


def test_a_full_disk_ends_with_6_and_keeps_nothing_half(
    capture: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], small_steps: None
) -> None:
    mount = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2m", "none", str(tmp_path)], capture_output=True)
    if mount.returncode != 0:
        pytest.skip("mounting a small tmpfs needs root")
    try:
        words = (
            capture,
            "--out",
            tmp_path / "a.nf",
            "--steps",
            10**5,
            "--quiet",
            "--threads",
            1,
            "--checkpoint-every",
            0.1,
        )
        assert re.search(r"needs \d+\.\d MB, but .* are free on this disk", refused(capsys, 6, *words))
        assert listing(tmp_path) == ["a.nf.log.jsonl"]
    finally:
        subprocess.run(["umount", str(tmp_path)], check=True)


@pytest.mark.parametrize("alpha", [True, False])
@pytest.mark.parametrize("background", ["auto", "random", "white", "black"])
def test_backgrounds(capture: Path, background: str, alpha: bool) -> None:
    scene = replace(read_scene(capture), has_alpha=alpha)
    chosen = fit_photos.choose_background(scene, options_for(capture, background=background))
    assert chosen.random == (background in ("auto", "random"))
    white = background == "white" or (alpha and background != "black")
    assert chosen.colour == ((1.0,) * 3 if white else (0.0,) * 3)


@pytest.mark.parametrize("name", ["__call__", "save"])
def test_slow_validations_and_saves_leave_time_for_steps(
    capture: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, small_steps: None, name: str
) -> None:
    """What takes longer than its interval is still not done after every step."""
    times: list[float] = []

    def slow(*_: object) -> float:
        times.append(time.monotonic())
        time.sleep(0.15)
        return 20.0

    monkeypatch.setattr(PhotoValidation if name == "__call__" else Checkpoint, name, slow)
    options = options_for(capture, out=tmp_path / "a.nf", steps=20, checkpoint_every=0.1, eval_every=0.1)
    if name == "save":
        options = replace(options, eval_every=0)
    fit_scene(read_scene(capture), options)
    assert times and all(after - before > 0.24 for before, after in pairwise(times))


def test_budget(capture: Path) -> None:
    assert Budget.of(options_for(capture, steps=None)) == Budget(DEFAULT_STEPS, None)
    by_time = Budget.of(options_for(capture, steps=None, minutes=0.5))
    assert by_time == Budget(None, 30.0) and by_time.progress(10**9, 15.0) == 0.5 and by_time.progress(0, 31) == 1
    both = Budget.of(options_for(capture, steps=100, minutes=1))
    assert both.progress(50, 6) == 0.5 and both.progress(10, 54) == 0.9 and both.progress(100, 0) == 1
