"""Masks of a folder: found by name, their polarity stated and doubted aloud, their size checked."""

from pathlib import Path

import numpy as np
import pytest
import torch

from neuralfields import cli
from neuralfields.captures.images import load_frames, read_mask
from neuralfields.captures.mask_folder import cut_by_masks, cut_out, polarity_doubt, with_masks
from neuralfields.captures.readers import read_scene
from neuralfields.errors import InputError, UsageError
from neuralfields.evaluation.evaluate import evaluate
from neuralfields.options.fit import FitOptions
from neuralfields.pictures.panels import save_image
from neuralfields.verbs import fit
from tests.support.make_captures import SIZE, transforms
from tests.support.small_fit import SMALL, tiny_capture_folder


def mask(path: Path, size: tuple[int, int] = SIZE, left: int = 255, right: int = 0) -> None:
    """Left half of one grey, right half of another."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.full((size[1], size[0], 3), right, np.uint8)
    pixels[:, : size[0] // 2] = left
    save_image(path, pixels)


@pytest.fixture
def capture(tmp_path: Path) -> Path:
    transforms(tmp_path / "capture")
    return tmp_path / "capture"


def test_white_is_ignored_where_that_is_said(capture: Path, tmp_path: Path) -> None:
    for index in range(8):
        mask(tmp_path / "masks" / (f"{index:04d}.png" if index % 2 else f"{index:04d}.png.png"))
    scene = with_masks(read_scene(capture), tmp_path / "masks", "ignore")
    assert not scene.warnings and not scene.has_alpha
    expected = np.zeros((24, 32), bool)
    expected[:, 16:] = True
    for found in load_frames(scene, range(8), 1).masks:
        np.testing.assert_array_equal(found, expected)


def test_white_is_kept_and_the_rest_is_empty_with_a_soft_edge(capture: Path, tmp_path: Path) -> None:
    for index in range(8):
        mask(tmp_path / "masks" / f"{index:04d}.png")
    before = read_scene(capture)
    scene = with_masks(before, tmp_path / "masks", "keep")
    assert not scene.warnings and scene.has_alpha
    loaded = load_frames(scene, range(8), 1)
    assert loaded.masks == [None] * 8
    for image, given in zip(loaded.images, load_frames(before, range(8), 1).images, strict=True):
        np.testing.assert_array_equal(image[..., :3], given)
        assert (image[:, :15, 3] == 255).all() and not image[:, 17:, 3].any()
        assert set(image[:, 15, 3]) == {191} and set(image[:, 16, 3]) == {64}


def test_a_photo_s_own_alpha_stays(tmp_path: Path) -> None:
    image = np.full((4, 6, 4), 200, np.uint8)
    image[:, :2, 3] = 10
    cut = cut_out(image, np.ones((4, 6), bool))
    np.testing.assert_array_equal(cut, image)


def test_keep_alone_is_for_the_masks_of_the_capture(capture: Path) -> None:
    with pytest.raises(InputError, match="the capture has no masks; name their folder by --masks"):
        cut_by_masks(read_scene(capture))
    for index in range(8):
        mask(capture / "masks" / f"{index:04d}.png")
    scene = read_scene(capture)
    assert not scene.has_alpha and load_frames(scene, [0], 1).masks[0] is not None
    assert load_frames(cut_by_masks(scene), [0], 1).images[0].shape == (24, 32, 4)


def test_photos_without_a_mask_are_named(capture: Path, tmp_path: Path) -> None:
    for index in (0, 2, 3, 4, 6, 7):
        mask(tmp_path / "masks" / f"{index:04d}.png")
    scene = with_masks(read_scene(capture), tmp_path / "masks", "keep")
    line = "--masks: 2 of 8 photos have none, all their pixels are used: images/0001.png, images/0005.png"
    assert scene.warnings[-1] == line
    assert [frame.mask_path is None for frame in scene.frames] == [k in (1, 5) for k in range(8)]


def test_no_folder_no_mask_two_masks(capture: Path, tmp_path: Path) -> None:
    scene = read_scene(capture)
    with pytest.raises(InputError, match="no such folder"):
        with_masks(scene, tmp_path / "gone", "keep")
    mask(tmp_path / "masks" / "other.png")
    with pytest.raises(InputError, match=r"no file is named like a photo \(images/0000.png needs 0000.png\)"):
        with_masks(scene, tmp_path / "masks", "keep")
    mask(tmp_path / "masks" / "a" / "0000.png")
    mask(tmp_path / "masks" / "b" / "0000.png")
    with pytest.raises(InputError, match=r"which of a/0000.png, b/0000.png is for images/0000.png is not clear"):
        with_masks(scene, tmp_path / "masks", "keep")
    mask(tmp_path / "masks" / "images" / "0000.png")
    assert with_masks(scene, tmp_path / "masks", "keep").frames[0].mask_path.parent.name == "images"


def test_a_mask_of_the_same_shape_is_stretched_and_another_refused(tmp_path: Path) -> None:
    mask(tmp_path / "small.png", (16, 12))
    keep = read_mask(tmp_path / "small.png", SIZE)
    assert keep.shape == (24, 32) and keep[:, :14].all() and not keep[:, 16:].any()
    mask(tmp_path / "large.png", (64, 48), 0, 255)
    keep = read_mask(tmp_path / "large.png", SIZE, ignores=True)
    assert keep[:, :16].all() and not keep[:, 16:].any()
    mask(tmp_path / "wrong.png", (16, 16))
    with pytest.raises(InputError, match="mask is 16x16 but its photo is 32x24"):
        read_mask(tmp_path / "wrong.png", SIZE)


def test_a_doubtful_polarity_is_said() -> None:
    few = [np.arange(100).reshape(10, 10) < 30, None]
    assert polarity_doubt(few, "ignore") == (
        "--mask-means ignore: 70% of the pixels of photos with a mask are ignored; if white means keep, say"
        " --mask-means keep"
    )
    assert polarity_doubt(few, "keep").endswith("say --mask-means ignore")
    assert polarity_doubt([~few[0]], "keep") is None and polarity_doubt([None], "ignore") is None


def test_the_polarity_has_to_be_stated(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(UsageError, match="--masks: say too whether its white means ignore or keep"):
        FitOptions(scene=Path("x"), masks=Path("m"))
    with pytest.raises(UsageError, match="--mask-means ignore: needs the folder of the masks"):
        FitOptions(scene=Path("x"), mask_means="ignore")
    assert cli.main(["fit", "x", "--masks", "m"]) == 2
    assert "ignore or keep" in capsys.readouterr().err


def test_a_fit_takes_them_and_its_file_is_measured_by_them(tmp_path: Path, small_steps: None) -> None:
    folder, before = tiny_capture_folder(), torch.get_num_threads()
    scene = read_scene(folder)
    for frame in scene.frames:
        mask(tmp_path / "masks" / Path(frame.name).parent.name / f"{Path(frame.name).stem}.png", (32, 32))
    options = FitOptions(
        scene=folder, out=tmp_path / "a.nf", steps=3, threads=1, field="hash", set=SMALL, eval_every=0,
        masks=tmp_path / "masks", mask_means="keep",
    )  # fmt: skip
    result = fit.run(options)
    torch.set_num_threads(before)
    from neuralfields.models.nf_file import load

    model = load(tmp_path / "a.nf")
    assert evaluate(model).psnr == pytest.approx(result["psnr"])
    (tmp_path / "masks").rename(tmp_path / "elsewhere")
    report = evaluate(model)
    assert report.psnr != pytest.approx(result["psnr"]) and "the masks of the fit are not there" in report.warnings[0]
