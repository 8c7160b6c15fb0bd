"""`nf render`: renders images and videos of a model, by the capture's own cameras or along a camera path.

Vocabulary
  frame     one image of the output; rgb, depth and opacity are side by side when several are asked for
  target    output file of a frame, where every frame has its own
"""

import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from neuralfields import memory
from neuralfields.cameras import Camera, fitted
from neuralfields.captures.transforms import transforms_cameras
from neuralfields.codecs import load_any
from neuralfields.errors import InputError, UsageError
from neuralfields.files import check_writable, require_ordinary
from neuralfields.gpu.device import use_machine
from neuralfields.models.model import Model, background_of
from neuralfields.options.common import MAX_SIZE, Quantity
from neuralfields.options.models import RenderOptions
from neuralfields.pictures import camera_paths as paths
from neuralfields.pictures.depths import DEPTH_FILES, common_scale, depth_numbers, save_depth
from neuralfields.pictures.film import check_film, write_video
from neuralfields.pictures.panels import render_picture, save_image
from neuralfields.progress import StageDisplay, counted
from neuralfields.rays import Render
from neuralfields.rendering.meshed import for_many
from neuralfields.rendering.renderable import Colour, Renderable
from neuralfields.scene import FURTHEST, Bounds, kept_near
from neuralfields.settings import did_you_mean
from neuralfields.signals.writers import OutputSize, signal_text, write_signal

PATHS = ("held-out", "orbit", "spiral", "interpolate", "automatic", "fixed")
FRAMES, FPS = 120, 30.0  # defaults
SCALE_VIEWS, SCALE_SIDE = 8, 96  # of the views from which a film takes its scale of depth, pixels
BYTES = {"render": 32, "rgb": 12, "depth": 110}  # of a pixel at the most: of a render, and of what is made of it


class _Frames(msgspec.Struct):
    """What tells a transforms file from keyframes."""

    frames: list[msgspec.Raw]


def run(options: RenderOptions) -> dict[str, Any]:
    """Renders images or a video; keys: path, frames, width, height, ms_per_frame, frames_per_second, ...

    Raises UsageError (unknown path or suffix, output exists), InputError (no cameras, unreadable files), ResourceError.
    """
    model = load_any(options.model, device=use_machine(options.device, options.threads))
    if not model.has_views:
        wanted = OutputSize(options.width, options.height, options.downscale, options.frames, options.fps)
        return write_signal(model, options.out, wanted, options.overwrite)
    cameras, names, bounds = _views(options, model)
    numbers = options.out.suffix.lower() in DEPTH_FILES or options.depth_unit is not None
    if numbers and options.what != ("depth",):
        raise UsageError(f"{options.out}: holds distances as numbers; say --what depth with it")
    if not numbers:
        check_film(options.out)
    renderable, colour = model.renderable(), background_of(model, options.background)
    path, names = _path(options, cameras, names, bounds)
    path = paths.in_time(path, options.time, bounds)
    is_video = options.out.suffix.lower() not in ("", ".png", *DEPTH_FILES)
    if is_video or len({(c.width, c.height) for c in path}) == 1:
        path = [fitted(camera, (path[0].width, path[0].height)) for camera in path]
    _require_memory(path, options.what)
    targets = [options.out] if is_video else _targets(options.out, names)
    _check_targets(options, is_video, targets)
    clock, renderable = _Clock(), for_many(renderable, len(path))
    moves = len(path) > 1 and (is_video or options.path != "held-out")
    scale = _scale(renderable, colour, path) if moves and "depth" in options.what and not numbers else None

    def picture(seen: Render) -> np.ndarray:
        return depth_numbers(seen) if numbers else render_picture(seen, options.what, scale)

    frames = counted(_frames(renderable, colour, path, picture, clock), len(path), options.quiet)
    fps = options.fps or FPS
    if is_video:
        write_video(options.out, frames, fps)
    else:
        for target, frame in zip(targets, frames, strict=True):
            save_depth(target, frame, options.depth_unit) if numbers else save_image(target, frame)
    height, width = clock.size
    return {
        "path": str(options.out),
        "files": len(targets),
        "frames": len(path),
        "camera_path": options.path,
        "what": list(options.what),
        "width": width,
        "height": height,
        "depth_unit": options.depth_unit,
        "fps": fps if is_video else None,
        "ms_per_frame": 1000 * clock.rendering / len(path),
        "frames_per_second": len(path) / clock.total(),
        "seconds": clock.total(),
    }


def _require_memory(path: list[Camera], what: tuple[Quantity, ...]) -> None:
    """Refuses pictures that do not fit into memory; a render and what is made of it are whole, its rays are not."""
    width, height = max(((camera.width, camera.height) for camera in path), key=lambda size: size[0] * size[1])
    needed = width * height * sum(BYTES.get(quantity, BYTES["rgb"]) for quantity in ("render", *what))
    memory.require(needed, f"pictures of {width}x{height}", "give a smaller --width, or --downscale")


def text(result: dict[str, Any]) -> str:
    """Formats the result as one line for people."""
    if "kind" in result:
        return signal_text(result)
    many = f"{result['frames']} frame{'s' * (result['frames'] != 1)}"
    rate = f"{result['ms_per_frame']:.0f} ms a frame to render"
    size, unit = f"{result['width']}x{result['height']}", ""
    if result["depth_unit"] is not None:
        unit = f"; 16-bit depth in steps of {result['depth_unit']:g} units of the capture, 0 where nothing is"
    return f"{result['path']}: {many} of {size}, {rate}, {result['seconds']:.1f} s in all{unit}"


class _Clock:
    """Clock: seconds of rendering alone, and since the beginning; size of the last frame (height, width)."""

    def __init__(self) -> None:
        self.begin, self.rendering, self.size = time.perf_counter(), 0.0, (0, 0)

    def total(self) -> float:
        """Seconds since the beginning."""
        return time.perf_counter() - self.begin


def _frames(
    renderable: Renderable,
    background: Colour,
    path: list[Camera],
    picture: Callable[[Render], np.ndarray],
    clock: _Clock,
) -> Iterator[np.ndarray]:
    for camera in path:
        begin = time.perf_counter()
        seen = renderable.render(camera, background)
        clock.rendering += time.perf_counter() - begin
        frame = picture(seen)
        clock.size = frame.shape[:2]
        yield frame


def _scale(renderable: Renderable, background: Colour, path: list[Camera]) -> tuple[float, float] | None:
    """One scale of depth in colours for all frames, from a few of them in small: else each would have its own."""
    some = path[:: max(1, len(path) // SCALE_VIEWS)]
    small = [min(1.0, SCALE_SIDE / max(camera.width, camera.height)) for camera in some]
    sizes = [(max(1, round(c.width * s)), max(1, round(c.height * s))) for c, s in zip(some, small, strict=True)]
    return common_scale([renderable.render(c.resized(*size), background) for c, size in zip(some, sizes, strict=True)])


def _views(options: RenderOptions, model: Model) -> tuple[list[Camera], list[str], Bounds]:
    """Cameras to make a path from, with names: the held-out ones for --path held-out, else all."""
    if _is_file(options.path):
        return [], [], model.bounds
    if options.scene is not None:
        from neuralfields.captures.readers import read_scene

        scene = read_scene(options.scene, allow_outside=options.allow_outside).about(model.bounds.origin)
        cameras, held_out = [frame.camera for frame in scene.frames], scene.test
        names = [frame.name for frame in scene.frames]
    else:
        cameras, held_out, names = list(model.cameras), model.held_out, list(model.camera_names)
    if not cameras:
        raise InputError(f"{options.model}: holds no cameras; name the capture with --scene, or a path of keyframes")
    if options.path == "fixed":
        cameras = [cameras[i] for i in (*held_out, 0)]
    if options.path == "held-out":
        if not held_out:
            raise InputError(f"{options.model}: has no held-out views; use --path orbit, spiral or interpolate")
        cameras, names = [cameras[i] for i in held_out], [names[i] if names else str(i) for i in held_out]
    return cameras, names, model.bounds


def _path(
    options: RenderOptions, cameras: list[Camera], names: list[str], bounds: Bounds
) -> tuple[list[Camera], list[str]]:
    """Cameras of the frames at their final size, and names of the frames."""
    if options.path == "held-out":
        return [fitted(camera, _size(options, camera)) for camera in cameras], names
    if _is_file(options.path):
        origin = np.asarray(bounds.origin)
        given, names = _cameras_in(Path(options.path), options)
        given = [camera.moved(-origin) for camera in given]
        near = [kept_near(camera, bounds) for camera in given]
        if far := sum(one is not other for one, other in zip(given, near, strict=True)):
            StageDisplay(options.quiet).note(
                f"warning: {options.path}: {far} cameras are over {FURTHEST:g} times the scene's side away from it and"
                " see nothing; is the path in the scene's units?"
            )
        return [fitted(camera, _size(options, camera)) for camera in near], names
    if options.path not in (*PATHS, "auto"):
        near = did_you_mean(options.path, PATHS)
        raise UsageError(f"--path {options.path}: unknown{near}; {', '.join(PATHS)} or a .json file with keyframes")
    size, frames = _size(options, cameras[0]), options.frames or FRAMES
    if options.path == "fixed":
        return paths.fixed(cameras, frames, size), _numbers(frames)
    if options.path == "interpolate":
        return paths.interpolate([replace(c, time=None) for c in cameras], frames, size), _numbers(frames)
    make = {"orbit": paths.orbit, "spiral": paths.spiral}.get(options.path, paths.automatic)
    return make(cameras, bounds, frames, size), _numbers(frames)


def _cameras_in(path: Path, options: RenderOptions) -> tuple[list[Camera], list[str]]:
    """Cameras of a JSON file, and names of their frames: of keyframes, or of a transforms file."""
    require_ordinary(path)
    with suppress(OSError, msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        if path.stat().st_size <= paths.FILE_MOST and msgspec.json.decode(path.read_bytes(), type=_Frames).frames:
            size = (options.width, options.height) if options.width and options.height else None
            return transforms_cameras(path, size)
    cameras = paths.read_keyframes(path)
    return cameras, _numbers(len(cameras))


def _is_file(path: str) -> bool:
    return path.lower().endswith(".json")


def _numbers(count: int) -> list[str]:
    return [f"{index:04d}" for index in range(count)]


def _size(options: RenderOptions, camera: Camera) -> tuple[int, int]:
    """Image size (width, height): the camera's, divided by --downscale, with --width or --height in its aspect."""
    factor = options.downscale or 1
    width, height = max(1, camera.width // factor), max(1, camera.height // factor)
    if options.width is not None and options.height is not None:
        return options.width, options.height
    if options.width is not None:
        width, height = options.width, max(1, round(options.width * camera.height / camera.width))
    elif options.height is not None:
        width, height = max(1, round(options.height * camera.width / camera.height)), options.height
    if max(width, height) > MAX_SIZE:
        raise UsageError(f"image of {width}x{height}: each side must be at most {MAX_SIZE}; give a smaller --width")
    return width, height


def _targets(out: Path, names: list[str]) -> list[Path]:
    """Output files, one PNG a frame: in a folder by the views' names, or beside one another by number."""
    stems = [Path(name.replace("\\", "/")).stem for name in names]
    if out.suffix and len(names) == 1:
        return [out]
    if out.suffix:
        return [out.with_name(f"{out.stem}_{index:04d}{out.suffix}") for index in range(len(names))]
    if len(set(stems)) < len(stems) or not all(stems):
        stems = _numbers(len(names))
    return [out / f"{stem}.png" for stem in stems]


def _check_targets(options: RenderOptions, is_video: bool, targets: list[Path]) -> None:
    """Checks before the first frame that the outputs can be written; makes the folder."""
    out = options.out
    if not is_video and not out.suffix:
        if out.exists() and not out.is_dir():
            raise UsageError(f"{out}: is a file; give a folder, or a name that ends in .png or .mp4")
        if not out.exists():
            try:
                out.mkdir(parents=True)
            except OSError as error:
                raise InputError(f"{out}: cannot be made ({(error.strerror or '').lower()}); choose another") from None
    existing = [target for target in targets if target.exists()]
    if existing and not options.overwrite:
        raise UsageError(f"{existing[0]}: exists; add --overwrite to replace it, or choose another name")
    check_writable(targets[0], overwrite=True)
