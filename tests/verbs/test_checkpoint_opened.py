"""The checkpoint of an interrupted fit opened by every verb that takes a model: the field as it stood, and when."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors import safe_open

from neuralfields.captures.images import read_image
from neuralfields.captures.readers import read_scene
from neuralfields.codecs import load_any
from neuralfields.errors import InputError, InterruptedFit
from neuralfields.files import companion
from neuralfields.models.checkpoint_file import load_checkpoint
from neuralfields.models.nf_file import load
from neuralfields.options.fit import FitOptions
from neuralfields.serving.stage import stage_of
from neuralfields.signals.readers import read_signal
from neuralfields.supervision.pose_refinement import apply_motion
from neuralfields.training.checkpoint import Checkpoint
from neuralfields.training.fit import fit_scene
from neuralfields.verbs import fit
from tests.support.fit_runs import SMALL, Interrupting, nf
from tests.support.moving import moving_capture
from tests.support.small_fit import tiny_capture_folder
from tests.support.small_signals import scene_picture

SETS: dict[str, Any] = {"hash": SMALL, "gaussians": (), "voxels": ("resolution=17", "colour_resolution=17")}
LINE = "a.nf.checkpoint: the checkpoint of a fit that is not finished; shown at step 3 of 12"
pytestmark = pytest.mark.usefixtures("one_thread")
RECIPE = ("samples=4096",)


def options_for(capture: Path, out: Path, field: str, **more: Any) -> FitOptions:
    """Options of a fit of 12 steps of that field."""
    shared = {"steps": 12, "threads": 1, "recipe": RECIPE, "quiet": True, "set": SETS[field]}
    limit = {"max_gaussians": 1000} if field == "gaussians" else {}
    return FitOptions(**{"scene": capture, "field": field, "out": out} | shared | limit | more)


def interrupted(capture: Path, out: Path, field: str, after: int = 3, **more: Any) -> Path:
    """The checkpoint of a fit that was interrupted after so many steps."""
    with pytest.raises(InterruptedFit):
        fit_scene(read_scene(capture), options_for(capture, out, field, **more), Interrupting(after))
    return companion(out, ".checkpoint")


@pytest.fixture(scope="module", params=["hash", "gaussians"])
def made(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint at step 3 of 12 of that field, of the tiny capture."""
    return interrupted(tiny_capture_folder(), tmp_path_factory.mktemp("made") / "a.nf", request.param)


def test_info_names_the_step_and_the_field(made: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = nf(capsys, "info", made)
    assert code == 0 and "checkpoint of a fit, at step 3 of 12" in out and err == ""
    code, out, _ = nf(capsys, "info", made, "--json")
    found = json.loads(out)
    assert (found["steps"], found["cameras"]) == (3, 14) and found["field"] in SETS
    assert found["made"]["scene_kind"] == "transforms/blender" and "command" not in found["made"]


def test_render_and_eval_show_what_resuming_and_ending_gives(
    made: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Ended at its step, the fit gives a model of the same pictures and figures."""
    before = made.read_bytes()
    capture, out = tiny_capture_folder(), tmp_path / "a.nf"
    words = ("--downscale", 1, "--threads", 1, "--quiet")
    code, _, err = nf(capsys, "render", made, tmp_path / "early", *words)
    assert code == 0 and LINE in err and err.count("\n") == 1
    code, out_text, err = nf(capsys, "eval", made, "--json", "--threads", 1, "--quiet")
    assert code == 0 and LINE in err
    assert made.read_bytes() == before  # its fit can still be taken up
    companion(out, ".checkpoint").write_bytes(before)
    field = json.loads(nf(capsys, "info", made, "--json")[1])["field"]
    fit.run(options_for(capture, out, field, steps=3, resume=True))
    assert nf(capsys, "render", out, tmp_path / "ended", *words)[0] == 0
    pictures = sorted(path.name for path in (tmp_path / "ended").iterdir())
    assert len(pictures) == 2
    for name in pictures:
        assert np.array_equal(read_image(tmp_path / "early" / name), read_image(tmp_path / "ended" / name))
    assert json.loads(out_text)["psnr"] == pytest.approx(load(out).metrics["psnr"], abs=1e-6)


def test_viewed_and_exported(made: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    subject = stage_of([made], None).subjects[0]
    assert subject.name == "a.nf.checkpoint"
    gaussians = load_any(made).made["field"] == "gaussians"
    target = tmp_path / ("a.ply" if gaussians else "a.obj")
    more = () if gaussians else ("--resolution", 24, "--threshold", 1e-3)
    code, _, err = nf(capsys, "export", made, target, "--threads", 1, *more)
    assert LINE in err and (code == 0 or "no surface" in err)  # three steps are fog


@pytest.mark.slow
def test_compressed_and_converted(made: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, _, err = nf(capsys, "compress", made, "--out", tmp_path / "a.nfz", "--threads", 1, "--quiet")
    assert code == 0 and LINE in err, err
    assert load_any(tmp_path / "a.nfz").renderable()
    if json.loads(nf(capsys, "info", made, "--json")[1])["field"] == "hash":
        words = ("--to", "hash", "--steps", 2, "--set", *SMALL, "--threads", 1, "--quiet", "--out", tmp_path / "b.nf")
        code, _, err = nf(capsys, "convert", made, *words)
        assert code == 0 and LINE in err and load(tmp_path / "b.nf").lineage, err


def test_a_field_that_is_still_small_is_shown_and_saved_at_its_last_size(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    made = interrupted(tiny_capture_folder(), tmp_path / "a.nf", "voxels", after=1)
    model, line = load_checkpoint(made)
    assert line.endswith("shown at step 1 of 12")
    assert model.field.grid.shape[:3] == (17, 17, 17)
    from neuralfields.models.nf_file import save

    save(model, tmp_path / "b.nf")
    assert torch.equal(load(tmp_path / "b.nf").field.grid, model.field.grid)


def test_refined_poses_and_exposure_are_those_of_the_step(tmp_path: Path) -> None:
    made = interrupted(
        tiny_capture_folder(),
        tmp_path / "a.nf",
        "hash",
        refine_poses=True,
        exposure=True,
        after=10,
        recipe=(*RECIPE, "pose_warmup=1"),
    )
    model, _ = load_checkpoint(made)
    scene = read_scene(tiny_capture_folder())
    given = [scene.frames[i].camera for i in scene.train]
    with safe_open(made, "pt") as file:
        motion = file.get_tensor("poses.motion")
    assert bool((motion != 0).any(1).all())
    for camera, expected in zip(model.cameras, apply_motion(given, motion), strict=False):
        assert np.array_equal(camera.world_from_camera, expected.world_from_camera)
    assert len(model.made["exposure_gains"]) == len(scene.train)


def test_a_scene_that_moves(tmp_path: Path) -> None:
    made = interrupted(moving_capture(), tmp_path / "a.nf", "hash")
    model, _ = load_checkpoint(made)
    assert model.bounds.times is not None and len(model.occupancy) == model.field.domain.segments > 1
    camera = replace(model.cameras[0].resized(8, 8), time=model.bounds.times[1])
    assert bool(torch.isfinite(model.renderable().render(camera, (0.0, 0.0, 0.0)).rgb).all())


def test_a_signal(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Image.fromarray(scene_picture()).save(tmp_path / "x.png")
    options = FitOptions(scene=tmp_path / "x.png", steps=12, threads=1, set=("levels=4", "table=10"))
    with pytest.raises(InterruptedFit):
        fit_scene(read_signal(tmp_path / "x.png"), replace(options, out=tmp_path / "x.nf"), Interrupting(3))
    code, _, err = nf(capsys, "export", tmp_path / "x.nf.checkpoint", tmp_path / "y.png")
    assert code == 0 and "shown at step 3 of 12" in err, err
    assert read_image(tmp_path / "y.png").shape[:2] == (32, 48)


def test_one_that_lies_or_holds_no_model_is_refused(made: Path, tmp_path: Path) -> None:
    from tests.support.small_training import small_training

    Checkpoint(tmp_path / "old", {"field": "hash"}).save(small_training(), 1.0)
    with pytest.raises(InputError, match="is a checkpoint without a model, of an older version; go on with its fit"):
        load_any(tmp_path / "old")
    data = bytearray(made.read_bytes())
    data[-3] ^= 8
    (tmp_path / "flipped").write_bytes(data)
    with pytest.raises(InputError, match="checkpoint is damaged"):
        load_any(tmp_path / "flipped")
    (tmp_path / "named.nf").write_bytes(made.read_bytes())
    with pytest.raises(InputError, match="is the checkpoint of a fit"):
        load_any(tmp_path / "named.nf")
