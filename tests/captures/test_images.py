"""Pixels: every kind of file to 8-bit RGB or RGBA, exact area averages, masks, skipping."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from neuralfields.captures.images import (
    automatic_downscale,
    downscale,
    image_header,
    load_frames,
    read_image,
    read_mask,
)
from neuralfields.captures.readers import read_scene
from neuralfields.errors import InputError
from tests.support import make_captures
from tests.support.make_captures import png_header

GREY = np.array([[0, 100, 200], [50, 150, 255]], dtype=np.uint8)


def saved(path: Path, image: Image.Image, **options: object) -> Path:
    image.save(path, **options)
    return path


def test_grey_becomes_three_equal_channels(tmp_path: Path) -> None:
    pixels = read_image(saved(tmp_path / "a.png", Image.fromarray(GREY)))
    assert pixels.dtype == np.uint8
    assert (pixels == GREY[..., None].repeat(3, axis=2)).all()


def test_sixteen_bit_is_scaled_not_clipped(tmp_path: Path) -> None:
    deep = GREY.astype(np.uint16) * 257
    pixels = read_image(saved(tmp_path / "a.png", Image.fromarray(deep)))
    assert (pixels[..., 1] == GREY).all()


def test_palette_with_and_without_transparency(tmp_path: Path) -> None:
    palette = Image.fromarray(np.array([[0, 1, 2]], dtype=np.uint8), mode=None).convert("P")
    palette.putpalette([255, 0, 0, 0, 255, 0, 0, 0, 255] + [0] * 759)
    palette.putdata([0, 1, 2])
    assert read_image(saved(tmp_path / "a.png", palette)).tolist() == [[[255, 0, 0], [0, 255, 0], [0, 0, 255]]]
    clear = read_image(saved(tmp_path / "b.png", palette, transparency=1))
    assert clear[0, :, 3].tolist() == [255, 0, 255]


@pytest.mark.parametrize(("mode", "suffix"), [("CMYK", "jpg"), ("1", "png"), ("LA", "png"), ("RGBA", "webp")])
def test_other_modes_are_converted(tmp_path: Path, mode: str, suffix: str) -> None:
    path = saved(tmp_path / f"a.{suffix}", Image.new(mode, (5, 4)))
    pixels = read_image(path)
    assert pixels.shape == (4, 5, 4 if "A" in mode else 3)
    assert image_header(path).alpha == ("A" in mode)


def sideways(path: Path) -> np.ndarray:
    """A 6x4 photo whose EXIF says to turn it by 90 degrees."""
    stored = np.random.default_rng(0).integers(0, 255, (4, 6, 3), dtype=np.uint8)
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(stored).save(path, exif=exif)
    return stored


def test_orientation_is_applied_only_when_the_intrinsics_ask(tmp_path: Path) -> None:
    stored = sideways(tmp_path / "a.png")
    header = image_header(tmp_path / "a.png")
    assert (header.size, header.rotated_size) == ((6, 4), (4, 6))
    assert (read_image(tmp_path / "a.png", (6, 4)) == stored).all()
    assert (read_image(tmp_path / "a.png") == stored).all()
    assert (read_image(tmp_path / "a.png", (4, 6)) == np.rot90(stored, -1)).all()


def cut(image: bytes, share: float) -> bytes:
    return image[: int(len(image) * share)]


def test_unreadable_files_are_named(tmp_path: Path) -> None:
    make_captures.photo(tmp_path / "good.jpg", (200, 100))
    make_captures.photo(tmp_path / "good.png", (200, 100))
    bad = {
        "text.jpg": b"this is no image",
        "empty.png": b"",
        "cut.jpg": cut((tmp_path / "good.jpg").read_bytes(), 0.5),
        "cut.png": cut((tmp_path / "good.png").read_bytes(), 0.5),
        "bomb.png": png_header(20000, 20000),
        "drawing.eps": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n",
    }
    for name, data in bad.items():
        (tmp_path / name).write_bytes(data)
        with pytest.raises(InputError, match=name) as error:
            read_image(tmp_path / name)
        assert "\n" not in str(error.value)
    with pytest.raises(InputError, match="million pixels"):
        image_header(tmp_path / "bomb.png")
    with pytest.raises(InputError, match="no such image"):
        read_image(tmp_path / "absent.png")


def test_area_average_by_a_whole_factor_by_hand() -> None:
    image = np.array([[0, 10, 7, 7], [20, 30, 7, 8]], dtype=np.uint8)
    assert downscale(image, 2).tolist() == [[15, 7]]  # 15, and 7.25 to nearest


def test_area_average_over_fractions_of_pixels_by_hand() -> None:
    image = np.array([[0, 10, 20, 30, 40]], dtype=np.uint8)
    # Spans of 2.5: (0 + 10 + 20 / 2) / 2.5 = 8 and (20 / 2 + 30 + 40) / 2.5 = 32.
    assert downscale(image, (2, 1)).tolist() == [[8, 32]]
    assert downscale(image.T, (1, 2)).tolist() == [[8], [32]]


def test_colour_is_weighted_by_alpha() -> None:
    image = np.array([[[200, 0, 0, 255], [0, 100, 0, 0]], [[100, 0, 0, 85], [0, 0, 0, 0]]], dtype=np.uint8)
    # Alpha: (255 + 85) / 4 = 85. Red: (200 * 255 + 100 * 85) / 340 = 175.
    assert downscale(image, 2).tolist() == [[[175, 0, 0, 85]]]
    assert downscale(np.full((2, 2, 4), (9, 9, 9, 0), dtype=np.uint8), 2).tolist() == [[[0, 0, 0, 0]]]


@pytest.mark.parametrize("size", [(37, 23), (20, 23), (13, 5), (1, 1)])
def test_any_size_agrees_with_a_fine_grid(size: tuple[int, int]) -> None:
    image = np.random.default_rng(1).integers(0, 256, (23, 37, 3), dtype=np.uint8)
    small = downscale(image, size)
    # Each pixel repeated so often that both grids divide it: plain means are then exact.
    fine = image.repeat(size[1], axis=0).repeat(size[0], axis=1).astype(np.float64)
    exact = fine.reshape(size[1], 23, size[0], 37, 3).mean(axis=(1, 3))
    assert np.abs(small - exact).max() <= 0.5 + 1e-4


def test_enlarging_is_refused() -> None:
    with pytest.raises(ValueError, match="cannot downscale"):
        downscale(GREY, (4, 2))


def test_automatic_factor() -> None:
    sizes = [(1000, 10), (1001, 10), (10, 4032), (270, 480)]
    assert [automatic_downscale(*size) for size in sizes] == [1, 2, 5, 1]


def test_preview_of_a_jpeg_is_smaller_but_large_enough(tmp_path: Path) -> None:
    make_captures.photo(tmp_path / "a.jpg", (1600, 1200))
    assert read_image(tmp_path / "a.jpg", at_least=300).shape == (300, 400, 3)
    assert read_image(tmp_path / "a.jpg", at_least=301).shape == (600, 800, 3)


def test_mask_is_black_where_ignored(tmp_path: Path) -> None:
    path = saved(tmp_path / "m.png", Image.fromarray(np.array([[0, 255], [100, 200]], dtype=np.uint8)))
    assert read_mask(path, (2, 2)).tolist() == [[False, True], [False, True]]
    with pytest.raises(InputError, match=r"2x2 .* 4x2"):
        read_mask(path, (4, 2))


def test_loading_scales_cameras_and_masks(tmp_path: Path) -> None:
    document = make_captures.transforms(tmp_path)
    keep = np.full((24, 32), 255, dtype=np.uint8)
    keep[0, 0] = 0
    saved(tmp_path / "mask.png", Image.fromarray(keep))
    document["frames"][0]["mask_path"] = "mask.png"
    make_captures.save(tmp_path, document)
    scene = read_scene(tmp_path)
    seen = []
    loaded = load_frames(scene, [0, 3], 5, lambda done, total: seen.append((done, total)))
    assert [image.shape for image in loaded.images] == [(4, 6, 3)] * 2
    camera = loaded.cameras[0]
    assert (camera.width, camera.height) == (6, 4)
    assert (camera.fx, camera.fy) == pytest.approx((40 * 6 / 32, 40 * 4 / 24))
    assert loaded.masks[1] is None
    # One ignored pixel takes away the small pixel that covers it, and no other.
    assert loaded.masks[0].shape == (4, 6)
    assert np.argwhere(~loaded.masks[0]).tolist() == [[0, 0]]
    assert (loaded.indices, seen, loaded.warnings) == ([0, 3], [(1, 2), (2, 2)], [])
    assert (loaded.images[0] == downscale(read_image(scene.frames[0].path), (6, 4))).all()


def test_loading_without_a_factor_limits_the_longer_side(tmp_path: Path) -> None:
    make_captures.transforms(tmp_path, fl_x=900.0, w=1600, h=1200, photos=False)
    for i in range(8):
        make_captures.photo(tmp_path / f"images/{i:04d}.png", (1600, 1200) if i == 5 else (400, 300))
    loaded = load_frames(read_scene(tmp_path), [0, 5])
    assert [(c.width, c.height) for c in loaded.cameras] == [(200, 150), (800, 600)]
    assert [c.fx for c in loaded.cameras] == [112.5, 450.0]


@pytest.mark.parametrize(("broken", "fails"), [(0, False), (2, False), (3, True)])
def test_unreadable_photos_are_skipped_up_to_a_fifth(tmp_path: Path, broken: int, fails: bool) -> None:
    make_captures.transforms(tmp_path, make_captures.ring(10))
    scene = read_scene(tmp_path)
    for frame in scene.frames[1 : 1 + broken]:
        frame.path.write_bytes(cut(frame.path.read_bytes(), 0.6))
    if fails:
        with pytest.raises(InputError, match=r"3 of 10 photos cannot be read.*0001\.png"):
            load_frames(scene, range(10))
        return
    loaded = load_frames(scene, range(10))
    assert loaded.indices == [i for i in range(10) if not 1 <= i < 1 + broken]
    assert len(loaded.images) == len(loaded.cameras) == len(loaded.masks) == 10 - broken
    assert len(loaded.warnings) == (broken > 0)


def test_fox_downscaled_by_four(shared_data: Path) -> None:
    scene = read_scene(shared_data / "captures" / "ngp_fox")
    loaded = load_frames(scene, scene.test, 4)
    assert {image.shape for image in loaded.images} == {(480, 270, 3)}
    assert loaded.cameras[0].fx == pytest.approx(1375.52 / 4)
    full = np.asarray(Image.open(scene.frames[0].path)).astype(np.float64)
    exact = full.reshape(480, 4, 270, 4, 3).mean(axis=(1, 3))
    assert np.abs(loaded.images[0] - exact).max() <= 0.5
