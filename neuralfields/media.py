"""Formats of images, videos, sounds and meshes: suffixes, recognition by first bytes, decoders and plugins.

Vocabulary
  suffix  the kind of signal to read a file as; its first bytes alone choose the decoder (image_format)
  plugin  a package that decodes what Pillow does not; each is imported where it is used, and where it is missing one
          line names the file, what it holds and the command that installs it
  deep    more than 8 bits a channel: 16-bit integers, or floating point

Who decodes what, and where it is not imageio's v3 interface, why (measured: imageio 2.38, 12 megapixels, 2 cores)
  8-bit images  Pillow. imageio's plugin refuses 1,052 of 4,500 photos with damaged EXIF that Pillow decodes, since it
                parses EXIF before it hands out pixels. It decodes a whole PNG for its header (332 ms, Pillow 0.05 ms),
                cannot decode a JPEG smaller (207 ms, 60 ms), and opens every format, EPS and so Ghostscript among them.
  HEIC, AVIF    Pillow, for HEIC with pillow-heif.
  deep TIFF     imageio with tifffile.
  deep PNG      PyAV. imageio's plugin collects garbage as it closes: 190 ms a file where torch is loaded.
  EXR           OpenEXR. imageio takes PyAV: 16-bit floats come as integers, DWAA is wrong where 8 does not divide
                the width, and the newer compressions are unknown.
  videos        PyAV. imageio drops rotation and time stamps, cannot skip to key frames, and cannot set the quality of
                h264 (1.6 dB lower without).
  animations    imageio writes them (.gif, .webp).
"""

import hashlib
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from neuralfields.errors import InputError, UsageError
from neuralfields.files import cache_folder, disk_error, require_ordinary

if TYPE_CHECKING:
    import numpy as np

IMAGES = (".png", ".jpg", ".jpeg", ".webp", ".tif", ".tiff", ".bmp", ".exr", ".heic", ".heif", ".avif")
RAW = (".dng", ".cr2", ".cr3", ".nef", ".arw")  # known as photos, and refused by name
VIDEOS = (".mp4", ".mov", ".mkv", ".webm", ".avi", ".m4v")
SOUNDS = (".wav", ".flac", ".ogg", ".oga", ".mp3", ".m4a", ".aac", ".opus")
MESHES = (".obj", ".ply", ".stl", ".off", ".glb", ".gltf")
SIGNALS = {"image": IMAGES, "shape": MESHES, "video": VIDEOS, "sound": SOUNDS}
MOST_FRAMES = 20_000  # of a film of a capture
WRITTEN_IMAGES = (".png", ".jpg", ".jpeg")
WRITTEN_VIDEOS = (".mp4", ".gif", ".webp")

# Suffixes that are known and not read: what such a file is, and what to do with it.
UNREAD = {
    "a mesh, of a format that is not read": (
        (".fbx", ".dae", ".3ds", ".3mf", ".usd", ".usda", ".usdc", ".usdz", ".blend", ".step", ".stp"),
        f"meshes are read from {', '.join(MESHES)}: export it as one of them (Blender writes them)",
    ),
    "an animation, of a format that is not read": (
        (".gif", ".apng"),
        "convert it to .mp4, or to a folder of frames (--format video)",
    ),
    "a film, of a format that is not read": ((".wmv", ".flv", ".mpg", ".mpeg", ".ts", ".3gp"), "convert it to .mp4"),
    "an image, of a format that is not read": (
        (".psd", ".svg", ".jp2", ".jxl", ".hdr", ".pfm", ".tga", ".ppm", ".pgm", ".ico", *RAW),
        "convert it to .png, .jpg or .exr",
    ),
    "a sound, of a format that is not read": ((".aif", ".aiff", ".wma", ".mid"), "convert it to .wav"),
    "a cloud of points, of a format that is not read": (
        (".las", ".laz", ".e57", ".pcd", ".xyz"),
        "photos with poses, or a mesh, can be fitted",
    ),
    "an array of numbers": ((".npy", ".npz", ".mat", ".h5"), "save it as an image (.png, .exr), a mesh or a sound"),
    "an archive": ((".zip", ".tar", ".gz", ".tgz", ".7z", ".rar"), "unpack it and give the folder"),
    "a fitted model": (
        (".nf", ".nfz", ".ingp", ".splat", ".ksplat", ".spz", ".sog"),
        "nf info, nf view, nf render and nf convert take it",
    ),
    "weights of another program": ((".pt", ".pth", ".ckpt", ".msgpack"), "nf info and nf convert read those they know"),
}


def unread(path: Path) -> str | None:
    """What a file is whose suffix is known and that is not fitted, and what to do; None for other suffixes."""
    for what, (suffixes, remedy) in UNREAD.items():
        if path.suffix.lower() in suffixes:
            return f"{what}; {remedy}"
    return None


# Import name -> what pip installs. `neuralfields[...]` are the extras of pyproject.toml.
PLUGINS = {
    "av": "'neuralfields[video]'",
    "OpenEXR": "'neuralfields[images]'",
    "pillow_heif": "'neuralfields[images]'",
    "imagecodecs": "imagecodecs",
    "trimesh": "'neuralfields[mesh]'",
}
HEAD = 64  # bytes that `image_format` needs
HEIF_BRANDS = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1")
# Demuxers of VIDEOS and SOUNDS. Others are kept shut: a playlist (HLS, ffconcat) named .mp4 would open further files.
CONTAINERS = "mov,matroska,avi,mpegts,wav,w64,flac,ogg,mp3,aac"
BT709, BT601, SMPTE170M, LIMITED = 1, 5, 6, 1  # as ITU-T H.273 numbers matrices, primaries and transfers; the range
UNSPECIFIED = 2
LARGEST_FRAME = 178_956_970  # pixels; what Pillow refuses in an image


def kind_of(path: Path | str) -> str | None:
    """Kind of signal of a file by its suffix: image, shape, video, sound; None for another suffix."""
    suffix = Path(path).suffix.lower()
    return next((kind for kind, suffixes in SIGNALS.items() if suffix in suffixes), None)


def image_format(head: bytes) -> str | None:
    """Recognises an image format by its first 64 bytes: Pillow's name, PNG16 (16-bit colour), EXR; None for others."""
    if head[:8] == b"\x89PNG\r\n\x1a\n":
        # Byte 24 is the depth, 25 the colour type; of 16 bits Pillow keeps all of grey and the upper 8 of colour.
        return "PNG16" if head[24:25] == b"\x10" and head[25:26] != b"\0" else "PNG"
    if head[4:8] == b"ftyp":
        brands = {head[i : i + 4] for i in range(8, min(len(head), int.from_bytes(head[:4], "big")), 4)}
        if brands & {b"avif", b"avis"}:
            return "AVIF"
        return "HEIF" if brands & set(HEIF_BRANDS) else None
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        return "WEBP"
    starts = {"JPEG": b"\xff\xd8\xff", "BMP": b"BM", "EXR": b"\x76\x2f\x31\x01"}
    tiff = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
    if head[:4] in tiff:
        return "TIFF"
    return next((name for name, start in starts.items() if head.startswith(start)), None)


def has(package: str) -> bool:
    """Whether a plugin is installed; it is not imported."""
    return find_spec(package) is not None


def import_plugin(package: str, path: Path, holds: str) -> Any:
    """Imports a package of PLUGINS. Raises InputError where it is missing, which says what the file `holds`."""
    try:
        return import_module(package)
    except ImportError:
        raise InputError(
            f"{path}: {holds}, which needs the package {package}; run: pip install {PLUGINS[package]}"
        ) from None


def import_av(path: Path, instead: str = "") -> Any:
    """Imports av (PyAV). Raises UsageError where it is missing; `instead` names another way, if there is one."""
    try:
        return import_module("av")
    except ImportError:
        way = f", or {instead}" if instead else ""
        raise UsageError(f"{path}: needs the package av; run: pip install {PLUGINS['av']}{way}") from None


@contextmanager
def open_av(path: Path, kind: str) -> Iterator[Any]:
    """Opens a video or sound (`kind`) file by PyAV, to be read within the block.

    Raises UsageError where av is missing, InputError for a file of another kind or a damaged one.
    """
    av = import_av(path)
    require_ordinary(path)
    inside = {"format_whitelist": CONTAINERS, "protocol_whitelist": "file"}
    try:
        # Tags are not always UTF-8; by default one that is not would end in a UnicodeDecodeError.
        container = av.open(str(path), options=inside, metadata_errors="replace")
    except (UnicodeError, OverflowError, ZeroDivisionError):
        raise InputError(f"{path}: the header of the {kind} is damaged; convert it again") from None
    except av.FFmpegError as error:
        into = {"video": "mp4", "sound": "wav"}[kind]
        raise InputError(f"{path}: is not a readable {kind} ({error.strerror}); convert it to {into}") from None
    with container:
        try:
            yield container
        except av.FFmpegError as error:
            raise InputError(f"{path}: the {kind} is damaged or cut short ({error.strerror}); copy it again") from None
        except (UnicodeError, OverflowError, ZeroDivisionError):  # a header with texts or rates that nothing can hold
            raise InputError(f"{path}: the header of the {kind} is damaged; convert it again") from None


@dataclass(frozen=True)
class VideoHeader:
    """Header of a video: length in seconds, number of frames, frames a second; 0 where they are not stated."""

    seconds: float
    frames: int
    fps: float


@contextmanager
def _video(path: Path) -> Iterator[tuple[Any, Any]]:
    """Opens a video: its container and first video stream."""
    with open_av(path, "video") as container:
        if not container.streams.video:
            raise InputError(f"{path}: has no video stream; give a video, or a folder of images")
        stream = container.streams.video[0]
        if stream.codec_context is None:
            raise InputError(f"{path}: is in a coding that is not decoded, or damaged; convert it to mp4 (h264)")
        if stream.width * stream.height > LARGEST_FRAME:
            raise InputError(f"{path}: declares frames of {stream.width}x{stream.height}; make them smaller first")
        yield container, stream


def video_header(path: Path) -> VideoHeader:
    """Reads length, number of frames and frame rate; no frame is decoded. Raises as `open_av`."""
    with _video(path) as (container, stream):
        return VideoHeader(float(container.duration or 0) / 1e6, stream.frames, float(stream.average_rate or 0))


def video_frames(path: Path, keys_only: bool = False) -> Iterator[Any]:
    """Decodes the frames of a video (PyAV frames, with their time), or key frames alone; see `frame_pixels`."""
    with _video(path) as (container, stream):
        stream.thread_type = "AUTO"
        if keys_only:
            stream.codec_context.skip_frame = "NONKEY"
        yield from container.decode(stream)


def frames_folder(path: Path) -> Path:
    """A folder in the cache with all frames of a video, 00000.png and on; they are decoded once.

    Raises as `open_av`, InputError for more than `MOST_FRAMES`, ResourceError where the disk is full.
    """
    facts = path.stat()
    told = f"{path.resolve()}|{facts.st_size}|{facts.st_mtime_ns}"
    folder = cache_folder() / "films" / hashlib.sha256(told.encode()).hexdigest()[:24]
    if folder.is_dir():
        return folder
    from PIL import Image

    unfinished = folder.with_name(f"{folder.name}.{os.getpid()}")
    try:
        unfinished.mkdir(parents=True, exist_ok=True)
        for index, frame in enumerate(video_frames(path)):
            if index == MOST_FRAMES:
                raise InputError(f"{path}: more than {MOST_FRAMES} frames; cut the film, or give fewer as pictures")
            Image.fromarray(frame_pixels(frame)).save(unfinished / f"{index:05d}.png", compress_level=1)
        if not folder.is_dir():
            unfinished.rename(folder)
    except OSError as error:
        raise disk_error(error, folder, None) from error
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)
    return folder


def frame_times(path: Path) -> list[float]:
    """Times of a video's frames in seconds, in order, by its packets alone; empty where none is stated."""
    with _video(path) as (container, stream):
        stated = [packet.pts for packet in container.demux(stream) if packet.pts is not None]
        return [float(time * stream.time_base) for time in sorted(stated)]


def frame_pixels(frame: Any) -> "np.ndarray":
    """Pixels of a frame, uint8 [H, W, 3] in sRGB, rotated by the video's rotation flag."""
    import numpy as np

    # An untagged film has the matrix of its size, as players take it; PyAV would take BT.601 for all.
    untagged = frame.colorspace == UNSPECIFIED and high_definition(frame.height, frame.width)
    pixels = frame.to_ndarray(format="rgb24", src_colorspace=BT709 if untagged else None)
    return np.ascontiguousarray(np.rot90(pixels, round(frame.rotation / 90)))


def high_definition(height: int, width: int) -> bool:
    """Whether films of a size have BT.709's matrix where nothing is said: from 720 lines on, upright ones too."""
    return min(height, width) >= 720 or max(height, width) >= 1280
