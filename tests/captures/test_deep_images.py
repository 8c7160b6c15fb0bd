"""EXR, deep TIFF, 16-bit PNG, HEIC and AVIF: their values against what was written, and files that lie."""

import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from PIL import Image

from neuralfields.captures import deep_images
from neuralfields.captures.images import image_header, read_image
from neuralfields.errors import InputError
from tests.support.make_media import deep_png
from tests.support.peak import at_most

SIZE = (37, 53)
DEEP = np.random.default_rng(0).integers(0, 65536, (*SIZE, 4), dtype=np.uint16)
LIGHT = (np.random.default_rng(1).random((*SIZE, 3)) ** 2 * 1.3).astype(np.float32)


def rounded(deep: np.ndarray) -> np.ndarray:
    """16 bits to the nearest of 8, by whole numbers."""
    return ((deep.astype(np.int64) + 128) // 257).astype(np.uint8)


def encoded(linear: np.ndarray) -> np.ndarray:
    """Light as 8-bit sRGB, pixel by pixel as IEC 61966-2-1 has it."""

    def one(x: float) -> int:
        x = min(max(x, 0.0), 1.0)
        return round(255 * (12.92 * x if x <= 0.0031308 else 1.055 * x ** (1 / 2.4) - 0.055))

    return np.vectorize(one)(linear.astype(np.float64)).astype(np.uint8)


def near(seen: np.ndarray, truth: np.ndarray, share: float = 0.002) -> None:
    """Equal but for a few ties of rounding."""
    difference = np.abs(seen.astype(int) - truth)
    assert seen.shape == truth.shape and difference.max() <= 1 and (difference > 0).mean() <= share


@pytest.mark.parametrize("channels", [2, 3, 4])
def test_colour_png_of_16_bits_is_rounded_not_cut(tmp_path: Path, channels: int) -> None:
    pytest.importorskip("av")
    (tmp_path / "a.png").write_bytes(deep_png(DEEP[..., :channels]))
    header = image_header(tmp_path / "a.png")
    assert (header.size, header.alpha, header.format) == (SIZE[::-1], channels != 3, "PNG16")
    truth = rounded(DEEP[..., :channels])
    near(read_image(tmp_path / "a.png"), truth[..., [0, 0, 0, 1]] if channels == 2 else truth, 0)


TIFFS: dict[str, tuple[np.ndarray, dict[str, Any]]] = {
    "rgb 16": (DEEP[..., :3], {}),
    "rgba 16": (DEEP, {"extrasamples": [2]}),
    "deflated": (DEEP[..., :3], {"compression": "zlib", "predictor": True}),
    "tiled": (DEEP[..., :3], {"tile": (16, 16), "compression": "zlib"}),
    "planes": (np.moveaxis(DEEP[..., :3], -1, 0), {"planarconfig": "separate"}),
    "rgb 32": (DEEP[..., :3].astype(np.uint32) * 65537, {}),
    "big endian": (DEEP[..., :3], {"byteorder": ">"}),
}


@pytest.mark.parametrize("name", TIFFS)
def test_whole_numbers_in_tiff_are_srgb_as_stored(tmp_path: Path, name: str) -> None:
    values, options = TIFFS[name]
    options = dict(options)
    with tifffile.TiffWriter(tmp_path / "a.tif", byteorder=options.pop("byteorder", None)) as file:
        file.write(values, photometric="rgb", **options)
    header, alpha = image_header(tmp_path / "a.tif"), name == "rgba 16"
    assert (header.size, header.alpha) == (SIZE[::-1], alpha)
    near(read_image(tmp_path / "a.tif"), rounded(DEEP if alpha else DEEP[..., :3]), 0)


@pytest.mark.parametrize("kind", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize("grey", [False, True])
def test_floats_in_tiff_are_light(tmp_path: Path, kind: type, grey: bool) -> None:
    light = (LIGHT[..., 0] if grey else LIGHT).astype(kind)
    tifffile.imwrite(tmp_path / "a.tif", light, photometric="minisblack" if grey else "rgb")
    truth = encoded(light)
    near(read_image(tmp_path / "a.tif"), truth[..., None].repeat(3, 2) if grey else truth)


def test_grey_of_which_white_is_0(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "a.tif", LIGHT[..., 0].clip(0, 1), photometric="miniswhite")
    near(read_image(tmp_path / "a.tif")[..., 0], encoded(1 - LIGHT[..., 0].clip(0, 1)))


@pytest.mark.parametrize("orientation", [1, 3, 6, 8])
def test_deep_tiff_is_turned_as_pillow_turns_the_others(tmp_path: Path, orientation: int) -> None:
    tag = [(274, "H", 1, orientation, True)]
    for name, values in (("deep", DEEP[..., :3] // 257 * 257), ("plain", (DEEP[..., :3] // 257).astype(np.uint8))):
        tifffile.imwrite(tmp_path / f"{name}.tif", values, photometric="rgb", extratags=tag)
    deep, plain = (image_header(tmp_path / f"{name}.tif") for name in ("deep", "plain"))
    assert deep.size == plain.size == deep.rotated_size == plain.rotated_size
    assert (read_image(tmp_path / "deep.tif") == read_image(tmp_path / "plain.tif")).all()


def exr(path: Path, channels: dict[str, np.ndarray], **header: Any) -> Path:
    library = pytest.importorskip("OpenEXR")
    library.File({"type": library.scanlineimage, **header}, channels).write(str(path))
    return path


@pytest.mark.parametrize("compression", ["NO", "ZIP", "PIZ", "DWAA", "PXR24", "B44", "HTJ2K32"])
@pytest.mark.parametrize("kind", [np.float16, np.float32])
def test_exr_is_light(tmp_path: Path, compression: str, kind: type) -> None:
    library = pytest.importorskip("OpenEXR")
    y, x = np.mgrid[: SIZE[0], : SIZE[1]]
    light = np.stack([x / SIZE[1], y / SIZE[0], 0.5 + 0.4 * np.sin(x / 9)], -1).astype(kind)
    how = getattr(library, f"{compression}_COMPRESSION")
    exr(tmp_path / "a.exr", {"RGB": light}, compression=how)
    assert image_header(tmp_path / "a.exr").size == SIZE[::-1]
    seen = read_image(tmp_path / "a.exr").astype(int)
    loss = {"DWAA": 3, "B44": 3}.get(compression, 1)
    assert np.abs(seen - encoded(light)).max() <= loss


def test_colour_of_exr_is_divided_by_alpha(tmp_path: Path) -> None:
    alpha = np.array([[0, 0.25, 0.5, 1]], np.float32)
    colour = np.array([[[0.2, 0.4, 0.6]]], np.float32)
    path = exr(tmp_path / "a.exr", {"RGBA": np.concatenate([colour * alpha[..., None], alpha[..., None]], 2)})
    pixels = read_image(path)
    assert image_header(path).alpha and pixels.shape == (1, 4, 4)
    assert pixels[0, :, 3].tolist() == [0, 64, 128, 255]
    assert (pixels[0, 0, :3] == 0).all()
    near(pixels[0, 1:, :3], encoded(colour[0].repeat(3, 0)), 1)


def test_exr_with_odd_values_is_clipped(tmp_path: Path) -> None:
    values = np.array([[[np.nan, np.inf, -np.inf], [-1, 0, 3]]], np.float32)
    assert read_image(exr(tmp_path / "a.exr", {"RGB": values})).tolist() == [[[0, 255, 0], [0, 0, 255]]]


def test_the_right_channels_of_exr_are_taken(tmp_path: Path) -> None:
    r, g, b = (np.full((4, 6), value, np.float32) for value in (1.0, 0.0, 1.0))
    layered = exr(tmp_path / "a.exr", {"view.R": r, "view.G": g, "view.B": b, "depth.Z": g, "Z": r})
    assert read_image(layered)[0, 0].tolist() == [255, 0, 255]
    plain = exr(tmp_path / "b.exr", {"view.R": r, "view.G": r, "view.B": r, "R": g, "G": g, "B": g})
    assert read_image(plain)[0, 0].tolist() == [0, 0, 0]
    assert read_image(exr(tmp_path / "c.exr", {"Y": r}))[0, 0].tolist() == [255] * 3
    with pytest.raises(InputError, match="without channels R, G, B or Y"):
        image_header(exr(tmp_path / "d.exr", {"Z": r}))


@pytest.mark.parametrize("window", [((1, 2), (4, 3)), ((-2, -1), (3, 2)), ((40, 40), (43, 43))])
def test_the_data_window_lies_in_the_display_window(tmp_path: Path, window: tuple) -> None:
    """As EXR's own document draws it: what is outside is not shown, what is not covered is black."""
    (left, top), (right, bottom) = window
    light = np.ones((bottom - top + 1, right - left + 1, 3), np.float32)
    shown = (np.array([0, 0], np.int32), np.array([7, 5], np.int32))
    data = (np.array([left, top], np.int32), np.array([right, bottom], np.int32))
    pixels = read_image(exr(tmp_path / "a.exr", {"RGB": light}, displayWindow=shown, dataWindow=data))
    y, x = np.mgrid[:6, :8]
    inside = (x >= left) & (x <= right) & (y >= top) & (y <= bottom)
    assert (pixels == np.where(inside, 255, 0)[..., None]).all()


def test_heic_and_avif_are_upright_photos(tmp_path: Path) -> None:
    picture = np.zeros((48, 64, 3), np.uint8)
    picture[:, :32] = (200, 40, 40)
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(picture).save(tmp_path / "a.avif", quality=95, exif=exif)
    names = ["a.avif"]
    try:
        import pillow_heif
    except ImportError:
        pass
    else:
        pillow_heif.from_pillow(Image.fromarray(np.rot90(picture, -1))).save(tmp_path / "a.heic", quality=95)
        names.append("a.heic")
    for name in names:
        seen = read_image(tmp_path / name, upright=True)
        assert seen.shape == (64, 48, 3) and image_header(tmp_path / name).rotated_size == (48, 64)
        assert np.abs(seen.astype(int) - np.rot90(picture, -1)).mean() < 6
        data = (tmp_path / name).read_bytes()
        (tmp_path / name).write_bytes(data[: len(data) * 2 // 3])
        with pytest.raises(InputError, match=name):
            read_image(tmp_path / name)


def test_a_colour_profile_changes_nothing_broken_or_not(tmp_path: Path) -> None:
    from PIL import ImageCms

    picture = Image.fromarray((DEEP[..., :3] // 257).astype(np.uint8))
    for number, profile in enumerate(
        (ImageCms.ImageCmsProfile(ImageCms.createProfile("XYZ")).tobytes(), b"\xff" * 200)
    ):
        picture.save(tmp_path / f"{number}.png", icc_profile=profile)
        assert (read_image(tmp_path / f"{number}.png") == np.asarray(picture)).all()


@pytest.mark.filterwarnings("ignore:.*:UserWarning:PIL")
def test_broken_exif_leaves_the_pixels(tmp_path: Path) -> None:
    """Damaged in many ways: each photo is read, upright or not."""
    picture = Image.fromarray((DEEP[..., :3] // 257).astype(np.uint8))
    exif = Image.Exif()
    exif[0x0112], exif[0x010F] = 6, "maker"
    whole, random = exif.tobytes(), np.random.default_rng(3)
    for number in range(60):
        broken = bytearray(whole)
        for _ in range(3):
            broken[random.integers(6, len(broken))] = random.integers(256)
        path = tmp_path / f"{number}.{('jpg', 'png', 'webp')[number % 3]}"
        picture.save(path, exif=bytes(broken[: random.integers(8, len(broken) + 1)]), lossless=True)
        pixels = read_image(path, upright=True)
        assert pixels.shape in ((*SIZE, 3), (*SIZE[::-1], 3))
        assert image_header(path).size == SIZE[::-1]


# ---------------------------------------------------------------- files that lie


def deep_files(folder: Path) -> list[Path]:
    paths = [folder / "a.png", folder / "a.tif", folder / "b.tif"]
    paths[0].write_bytes(deep_png(DEEP[..., :3]))
    tifffile.imwrite(paths[1], LIGHT, photometric="rgb")
    tifffile.imwrite(paths[2], DEEP[..., :3], photometric="rgb", compression="zlib")
    return [*paths, exr(folder / "a.exr", {"RGBA": np.dstack([LIGHT, LIGHT[..., :1]])})]


def test_deep_files_cut_anywhere_are_refused(tmp_path: Path) -> None:
    pytest.importorskip("av")
    for path in deep_files(tmp_path):
        data = path.read_bytes()
        for length in (*range(0, 80, 7), *np.linspace(80, len(data) * 0.95, 12).astype(int)):
            path.write_bytes(data[:length])
            with pytest.raises(InputError, match=path.name) as error:
                read_image(path)
            assert "\n" not in str(error.value)


@pytest.mark.parametrize("index", range(4))
def test_damaged_deep_files_give_our_errors_only(tmp_path: Path, index: int) -> None:
    """Bytes changed at random, most of them in the header: read, or refused in one line; memory stays small."""
    pytest.importorskip("av")
    path, random = deep_files(tmp_path)[index], np.random.default_rng(5)
    data = path.read_bytes()
    read_image(path)  # the decoder's own memory is not counted
    for number in range(150):
        broken = bytearray(data)
        for _ in range(random.integers(1, 4)):
            broken[random.integers(4, 600 if number % 3 else len(data))] = random.integers(256)
        path.write_bytes(broken)
        try:
            read_image(path)
        except InputError as error:
            assert "\n" not in str(error) and path.name in str(error)


def test_bombs_are_refused_before_they_are_decoded(tmp_path: Path) -> None:
    pytest.importorskip("av")
    (tmp_path / "a.png").write_bytes(deep_png(DEEP[..., :3], (20000, 20000)))
    tifffile.imwrite(tmp_path / "a.tif", np.zeros((8, 8, 3), np.float32), photometric="rgb", rowsperstrip=8)
    for tag in (256, 257):  # width and height
        with tifffile.TiffFile(tmp_path / "a.tif", mode="r+") as file:
            file.pages[0].tags[tag].overwrite(20000)
    path = exr(tmp_path / "a.exr", {"RGB": LIGHT})
    window = struct.pack("<iiii", 0, 0, SIZE[1] - 1, SIZE[0] - 1)
    path.write_bytes(path.read_bytes().replace(window, struct.pack("<iiii", 0, 0, 30000, 30000)))
    for name in ("a.png", "a.tif", "a.exr"):
        for ask in (image_header, read_image):
            with at_most(50e6), pytest.raises(InputError, match=f"{name}: image declares more than 178 million pixels"):
                ask(tmp_path / name)


def test_a_strip_that_inflates_to_more_than_its_pixels_is_refused(tmp_path: Path) -> None:
    bomb = zlib.compress(b"\0" * 150_000_000, 1)
    tifffile.imwrite(tmp_path / "a.tif", np.zeros((256, 256, 3), np.uint16), photometric="rgb", compression="zlib")
    with tifffile.TiffFile(tmp_path / "a.tif", mode="r+") as file:
        end = file.filehandle.size
        file.pages[0].tags["StripOffsets"].overwrite(end)
        file.pages[0].tags["StripByteCounts"].overwrite(len(bomb))
    with (tmp_path / "a.tif").open("ab") as file:
        file.write(bomb)
    with at_most(50e6), pytest.raises(InputError, match="larger than its pixels"):
        read_image(tmp_path / "a.tif")


def test_what_would_not_fit_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(deep_images, "LARGEST_BYTES", LIGHT.nbytes - 1)
    tifffile.imwrite(tmp_path / "a.tif", LIGHT, photometric="rgb")
    for path in (tmp_path / "a.tif", exr(tmp_path / "a.exr", {"RGB": LIGHT})):
        with pytest.raises(InputError, match=r"image decodes to .* at most"):
            image_header(path)


def test_tiffs_that_are_not_read_say_so(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "a.tif", DEEP[..., :3].astype(np.int16), photometric="rgb")
    with pytest.raises(InputError, match="a TIFF of int16 pixels"):
        read_image(tmp_path / "a.tif")
    tifffile.imwrite(tmp_path / "b.tif", DEEP, photometric="separated")
    with pytest.raises(InputError, match="neither grey nor RGB"):
        read_image(tmp_path / "b.tif")
    tifffile.imwrite(tmp_path / "c.tif", LIGHT, photometric="rgb")
    with tifffile.TiffFile(tmp_path / "c.tif", mode="r+") as file:
        file.pages[0].tags["Compression"].overwrite(34925)  # LZMA
    with pytest.raises(InputError, match="compression 34925; save it uncompressed"):
        read_image(tmp_path / "c.tif")


@pytest.mark.serial
def test_a_large_picture_of_light_is_read_by_parts(tmp_path: Path) -> None:
    """Its samples and the 8 bits of them, not a copy of both for each step between."""
    side = 2500
    tifffile.imwrite(tmp_path / "a.tif", np.full((side, side, 3), 0.2, np.float32), photometric="rgb")
    with at_most(2.6 * 4 * 3 * side**2):
        seen = read_image(tmp_path / "a.tif")
    assert seen.shape == (side, side, 3) and (seen == encoded(np.array([0.2]))).all()
