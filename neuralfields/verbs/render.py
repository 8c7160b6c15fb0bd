"""`nf render`: pictures and films of a model, along the capture's own cameras or along a path.

Vocabulary
  view      a camera or rays
  frame     one picture of the output; rgb, depth and opacity stand side by side in it when several are asked for
  target    the file that a frame becomes, where every frame has one of its own
"""

import sys
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from neuralfields.cameras import Camera
from neuralfields.codecs import load_any
from neuralfields.errors import InputError, UsageError
from neuralfields.files import check_writable
from neuralfields.gpu.device import choose_device
from neuralfields.models.model import Model
from neuralfields.options.common import MAX_SIZE, Quantity
from neuralfields.options.models import RenderOptions
from neuralfields.pictures import camera_paths as paths
from neuralfields.pictures.film import check_film, write_video
from neuralfields.pictures.panels import colour_depth, save_image, to_uint8
from neuralfields.progress import time_text
from neuralfields.rays import Rays, Render
from neuralfields.rendering import surface
from neuralfields.rendering.volume import PICTURE_CHUNK, Volume, finish, render_camera, render_sums
from neuralfields.scene import Bounds
from neuralfields.settings import did_you_mean
from neuralfields.signals.shape import ShapeFacts
from neuralfields.signals.signal import facts_of
from neuralfields.signals.writers import Wanted, signal_text, write_signal

BACKGROUNDS = {"white": (1.0, 1.0, 1.0), "black": (0.0, 0.0, 0.0)}
PATHS = ("held-out", "orbit", "spiral", "interpolate", "automatic")
FRAMES, FPS = 120, 30.0  # where nothing else is asked for
LINE_EVERY = 10.0  # seconds between lines of progress where there is no terminal
OCCUPANCY_WORDS = 32768  # a cascade's bricks, see ops/march.py
Colour = tuple[float, float, float]


def volume_of(model: Model) -> Volume:
    """What renders of a model; a model without occupancy is looked at everywhere."""
    occupancy = model.occupancy
    if occupancy is None:
        device = next(model.field.parameters()).device
        occupancy = torch.full((model.bounds.cascades, OCCUPANCY_WORDS), -1, dtype=torch.int64, device=device)
    return Volume(model.field.eval(), model.bounds, occupancy)


def background_of(model: Model, choice: Any = "auto") -> Colour:
    """auto: the model's own; white; black; or three numbers in [0, 1]. Raises UsageError for anything else."""
    if isinstance(choice, str):
        if choice != "auto" and choice not in BACKGROUNDS:
            raise UsageError(f"background {choice!r}: must be auto, white, black or three numbers in [0, 1]")
        return BACKGROUNDS.get(choice, model.background)
    values = np.asarray(choice, dtype=np.float64)
    if values.shape != (3,) or not ((values >= 0) & (values <= 1)).all():  # NaN compares false, so it is refused
        raise UsageError(f"background {choice!r}: must be auto, white, black or three numbers in [0, 1]")
    return tuple(values.tolist())


def use_machine(device: str = "auto", threads: int | None = None) -> torch.device:
    """Sets the number of threads and gives the device; UsageError where that cannot be had."""
    if threads is not None:
        torch.set_num_threads(threads)
    return choose_device(device)


def render(model: Model, view: Camera | Rays, background: Any = "auto") -> Render:
    """What a camera or rays see of a model: rgb, opacity and depth (world units), without gradients.

    A camera gives [H, W, 3], [H, W], [H, W]; rays (`Rays` of tensors or arrays [R, 3], directions of any length) give
    [R, 3], [R], [R]. `background`: auto (the model's own), white, black, or three numbers in [0, 1].
    Raises InputError for rays of another shape, with values that are not finite, or without direction.
    """
    if isinstance(view, Camera):
        return looker(model, background)(view)
    colour, volume = background_of(model, background), volume_of(model)
    rays, behind = _checked(view).to(volume.device), torch.tensor(colour, device=volume.device)
    with torch.no_grad():
        parts = [
            finish(render_sums(volume, rays[i : i + PICTURE_CHUNK]), behind, model.bounds.side)
            for i in range(0, max(1, len(rays)), PICTURE_CHUNK)
        ]
    return Render(*(torch.cat([getattr(part, name) for part in parts]) for name in ("rgb", "opacity", "depth")))


def _checked(rays: Rays) -> Rays:
    """Rays as float32 tensors [R, 3] with unit directions."""
    origins, directions = (torch.as_tensor(a, dtype=torch.float32) for a in (rays.origins, rays.directions))
    if origins.ndim != 2 or origins.shape[1] != 3 or origins.shape != directions.shape:
        raise InputError(f"rays: origins {list(origins.shape)}, directions {list(directions.shape)}; both need [R, 3]")
    length = directions.norm(dim=1, keepdim=True)
    if not bool(torch.isfinite(origins).all() & torch.isfinite(length).all() & (length > 0).all()):
        raise InputError("rays: an origin or a direction is not finite, or a direction is zero; remove such rays")
    return Rays(origins, directions / length)


def run(options: RenderOptions) -> dict[str, Any]:
    """Renders what the options ask for; keys: path, frames, width, height, ms_per_frame, frames_per_second, ...

    Raises UsageError (unknown path or suffix, output exists), InputError (no cameras, unreadable files), ResourceError.
    """
    model = load_any(options.model, device=use_machine(options.device, options.threads))
    kind = model.field.domain.kind
    if kind in ("image", "video", "sound"):
        wanted = Wanted(options.width, options.height, options.downscale, options.frames, options.fps)
        return write_signal(model, options.out, wanted, options.overwrite)
    if "normal" in options.what and kind != "shape":
        raise UsageError(f"--what normal: a field of {kind} has no normals; rgb, depth and opacity are there")
    cameras, names, bounds = _views(options, model)
    check_film(options.out)
    look = looker(model, options.background)
    path, names = _path(options, cameras, names, bounds)
    film = options.out.suffix.lower() not in ("", ".png")
    if film or len({(c.width, c.height) for c in path}) == 1:
        path = [fitted(camera, (path[0].width, path[0].height)) for camera in path]
    targets = [options.out] if film else _targets(options.out, names)
    _check_targets(options, film, targets)
    clock = _Clock()
    frames = counted(_frames(look, path, options.what, clock), len(path), options.quiet)
    fps = options.fps or FPS
    if film:
        write_video(options.out, frames, fps)
    else:
        for target, frame in zip(targets, frames, strict=True):
            save_image(target, frame)
    height, width = clock.size
    return {
        "path": str(options.out),
        "files": len(targets),
        "frames": len(path),
        "camera_path": options.path,
        "what": list(options.what),
        "width": width,
        "height": height,
        "fps": fps if film else None,
        "ms_per_frame": 1000 * clock.rendering / len(path),
        "frames_per_second": len(path) / clock.total(),
        "seconds": clock.total(),
    }


def text(result: dict[str, Any]) -> str:
    """The same in one line for people."""
    if "kind" in result:
        return signal_text(result)
    many = f"{result['frames']} frame{'s' * (result['frames'] != 1)}"
    rate = f"{result['ms_per_frame']:.0f} ms a frame to render"
    return f"{result['path']}: {many} of {result['width']}x{result['height']}, {rate}, {result['seconds']:.1f} s in all"


class _Clock:
    """Seconds spent on rendering alone, and since the beginning; the size of the last frame (height, width)."""

    def __init__(self) -> None:
        self.begin, self.rendering, self.size = time.perf_counter(), 0.0, (0, 0)

    def total(self) -> float:
        """Seconds since the beginning."""
        return time.perf_counter() - self.begin


def looker(model: Model, background: Any = "auto") -> Callable[[Camera], Render]:
    """What gives a camera's picture of a model: by compositing of a scene, by sphere tracing of a shape.

    Raises UsageError for a model of which there are no views.
    """
    colour, kind = background_of(model, background), model.field.domain.kind
    if kind == "shape":
        facts = facts_of(model.signal, ShapeFacts)
        shape = surface.Surface(model.field.eval(), model.bounds, facts.values == "distance")
        return lambda camera: surface.render_camera(shape, camera, colour)
    if kind != "radiance":
        raise UsageError(f"a field of {kind} is not looked at from cameras; write it with nf export")
    volume = volume_of(model)
    return lambda camera: render_camera(volume, camera, colour)


def _frames(
    look: Callable[[Camera], Render], path: list[Camera], what: tuple[Quantity, ...], clock: _Clock
) -> Iterator[np.ndarray]:
    for camera in path:
        begin = time.perf_counter()
        seen = look(camera)
        clock.rendering += time.perf_counter() - begin
        frame = picture(seen, what)
        clock.size = frame.shape[:2]
        yield frame


def picture(seen: Render | surface.SurfaceRender, what: tuple[Quantity, ...] = ("rgb",)) -> np.ndarray:
    """A render as one uint8 picture [H, W * len(what), 3]: colour, depth in colours, opacity in grey."""
    parts = []
    for quantity in what:
        if quantity == "rgb":
            parts.append(to_uint8(seen.rgb))
        elif quantity == "depth":
            parts.append(colour_depth(seen.depth, seen.opacity))
        elif quantity == "normal":
            parts.append(to_uint8(0.5 + 0.5 * seen.normal))
        else:
            parts.append(np.repeat(to_uint8(seen.opacity)[..., None], 3, axis=2))
    return np.concatenate(parts, axis=1)


def _views(options: RenderOptions, model: Model) -> tuple[list[Camera], list[str], Bounds]:
    """The cameras that a path is made from: for held-out views those alone, else all. With names."""
    if _is_file(options.path):
        return [], [], model.bounds
    if options.scene is not None:
        from neuralfields.captures.readers import read_scene

        scene = read_scene(options.scene)
        cameras, held_out = [frame.camera for frame in scene.frames], scene.test
        names = [frame.name for frame in scene.frames]
    else:
        cameras, held_out, names = list(model.cameras), model.held_out, list(model.camera_names)
    if not cameras:
        raise InputError(f"{options.model}: holds no cameras; name the capture with --scene, or a path of keyframes")
    if options.path == "held-out":
        if not held_out:
            raise InputError(f"{options.model}: has no held-out views; use --path orbit, spiral or interpolate")
        cameras, names = [cameras[i] for i in held_out], [names[i] if names else str(i) for i in held_out]
    return cameras, names, model.bounds


def _path(
    options: RenderOptions, cameras: list[Camera], names: list[str], bounds: Bounds
) -> tuple[list[Camera], list[str]]:
    """The cameras of the frames at their final size, and names to call the frames by."""
    if options.path == "held-out":
        return [fitted(camera, _size(options, camera)) for camera in cameras], names
    if _is_file(options.path):
        path = [fitted(camera, _size(options, camera)) for camera in paths.read_keyframes(Path(options.path))]
        return path, _numbers(len(path))
    if options.path not in (*PATHS, "auto"):
        near = did_you_mean(options.path, PATHS)
        raise UsageError(f"--path {options.path}: unknown{near}; {', '.join(PATHS)} or a .json file with keyframes")
    size, frames = _size(options, cameras[0]), options.frames or FRAMES
    if options.path == "interpolate":
        return paths.interpolate(cameras, frames, size), _numbers(frames)
    make = {"orbit": paths.orbit, "spiral": paths.spiral}.get(options.path, paths.automatic)
    return make(cameras, bounds, frames, size), _numbers(frames)


def _is_file(path: str) -> bool:
    return path.lower().endswith(".json")


def _numbers(count: int) -> list[str]:
    return [f"{index:04d}" for index in range(count)]


def _size(options: RenderOptions, camera: Camera) -> tuple[int, int]:
    """(width, height) in pixels: the camera's, divided by --downscale, with --width or --height in its aspect."""
    factor = options.downscale or 1
    width, height = max(1, camera.width // factor), max(1, camera.height // factor)
    if options.width is not None and options.height is not None:
        return options.width, options.height
    if options.width is not None:
        width, height = options.width, max(1, round(options.width * camera.height / camera.width))
    elif options.height is not None:
        width, height = max(1, round(options.height * camera.width / camera.height)), options.height
    if max(width, height) > MAX_SIZE:
        raise UsageError(f"picture of {width}x{height}: each side must be at most {MAX_SIZE}; give a smaller --width")
    return width, height


def fitted(camera: Camera, size: tuple[int, int]) -> Camera:
    """The camera for a picture of (width, height): its whole view fits in, in the middle, with square pixels."""
    width, height = size
    if (width, height) == (camera.width, camera.height):
        return camera
    resized = camera.resized(width, height)
    if abs(width * camera.height - height * camera.width) <= max(camera.width, camera.height):
        return resized  # the same aspect but for the rounding to whole pixels
    scale = min(width / camera.width, height / camera.height)
    return replace(
        resized,
        fx=camera.fx * scale,
        fy=camera.fy * scale,
        cx=(camera.cx - camera.width / 2) * scale + width / 2,
        cy=(camera.cy - camera.height / 2) * scale + height / 2,
    )


def _targets(out: Path, names: list[str]) -> list[Path]:
    """One PNG a frame: in a folder by the views' names, or beside one another by number."""
    stems = [Path(name.replace("\\", "/")).stem for name in names]
    if out.suffix and len(names) == 1:
        return [out]
    if out.suffix:
        return [out.with_name(f"{out.stem}_{index:04d}{out.suffix}") for index in range(len(names))]
    if len(set(stems)) < len(stems) or not all(stems):
        stems = _numbers(len(names))
    return [out / f"{stem}.png" for stem in stems]


def _check_targets(options: RenderOptions, film: bool, targets: list[Path]) -> None:
    """Refuses before the first frame what could not be written after it; makes the folder."""
    out = options.out
    if not film and not out.suffix:
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


def counted(items: Iterable[Any], total: int, quiet: bool, noun: str = "frames") -> Iterator[Any]:
    """Passes items on and shows how many are done, their rate and the time left, on standard error."""
    console = Console(file=sys.stderr, highlight=False, soft_wrap=True)
    if quiet or not console.is_terminal:
        yield from items if quiet else _counted_lines(items, total, noun)
        return
    columns = (TextColumn(f"{{task.completed}}/{{task.total}} {noun}"), BarColumn(), TextColumn("{task.fields[rate]}"))
    begin = time.monotonic()
    with Progress(*columns, TimeRemainingColumn(), console=console, auto_refresh=False, transient=True) as shown:
        task = shown.add_task("", total=total, rate="")
        for done, item in enumerate(items, start=1):
            yield item
            shown.update(task, completed=done, rate=f"{done / (time.monotonic() - begin + 1e-9):.1f}/s", refresh=True)


def _counted_lines(items: Iterable[Any], total: int, noun: str) -> Iterator[Any]:
    begin = last = time.monotonic()
    for done, item in enumerate(items, start=1):
        yield item
        now = time.monotonic()
        if now - last >= LINE_EVERY and done < total:
            last, rate = now, done / (now - begin)
            line = f"{done}/{total} {noun}  {rate:.2f}/s  left {time_text((total - done) / rate)}\n"
            sys.stderr.write(line)
