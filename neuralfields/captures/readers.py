"""Detects the format of a posed capture and reads it.

transforms.json, transforms_train.json   -> captures/transforms.py
sparse/0, sparse_txt, cameras.bin ...     -> captures/colmap.py
poses_bounds.npy                          -> captures/llff.py
cameras.xml of Metashape                  -> captures/metashape.py
bundle.out, reconstruction.json ...       -> captures/other_poses.py
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from neuralfields.cameras import Camera
from neuralfields.captures.arrangement import arrange
from neuralfields.captures.bounds import around_cube, find_bounds
from neuralfields.captures.capture import Capture, split
from neuralfields.captures.colmap import model_folders, read_colmap
from neuralfields.captures.hull import Silhouette, goes_on, object_bounds
from neuralfields.captures.images import LoadedFrames, load_frames
from neuralfields.captures.llff import read_llff
from neuralfields.captures.metashape import metashape_file, read_metashape
from neuralfields.captures.origin import near_origin
from neuralfields.captures.other_poses import (
    named_format,
    other_format,
    read_bundler,
    read_nerfies,
    read_opensfm,
    read_polycam,
)
from neuralfields.captures.preview import backdrop, before_plain_backdrop, leaves_object, silhouette
from neuralfields.captures.transforms import read_transforms, transforms_files
from neuralfields.errors import InputError, UsageError
from neuralfields.files import require_ordinary
from neuralfields.media import unread
from neuralfields.scene import Scene, time_range
from neuralfields.settings import parse_box

READERS: dict[str, Callable[[Path, bool], Capture]] = {
    "transforms": read_transforms,
    "colmap": read_colmap,
    "llff": read_llff,
    "metashape": read_metashape,
    "bundler": read_bundler,
    "opensfm": read_opensfm,
    "nerfies": read_nerfies,
    "polycam": read_polycam,
}
BLENDER = "transforms/blender"
MOST_SILHOUETTES, FEWEST_SILHOUETTES, SILHOUETTE_SIDE = 40, 5, 128
MOST_IN_TIME = 160  # where things move all photos count, as what is fast is seen by few; of more none is looked at
EXPECTED = "transforms.json, transforms_train.json, a COLMAP model (sparse/0) or poses_bounds.npy"


def formats_in(path: Path) -> list[str]:
    """Detects the formats in a folder, in the order of preference."""
    found = []
    if transforms_files(path):
        found.append("transforms")
    if model_folders(path):
        found.append("colmap")
    if (path / "poses_bounds.npy").is_file():
        found.append("llff")
    if not found:  # further programs', only where there is nothing more usual
        found += ["metashape"] if metashape_file(path) is not None else []
        found += [name] if (name := other_format(path)) is not None else []
    return found


def read_capture(path: Path | str, format: str | None = None, allow_outside: bool = False) -> Capture:
    """Reads the capture at `path`, a folder or a transforms file, as `format`. Default: the detected format.

    Raises InputError for an unusable capture, UsageError for an unknown format.
    """
    path = Path(path)
    if format is not None and format not in READERS:
        raise UsageError(f"--format {format}: unknown; {', '.join(READERS)} are read")
    if not path.exists():
        raise InputError(f"{path}: no such file or folder; give the folder of a posed capture")
    require_ordinary(path)
    if path.is_file():
        if path.suffix.lower() != ".json" or format not in (None, "transforms"):
            if (known := unread(path)) is not None:
                raise InputError(f"{path}: {known}")
            raise InputError(
                f"{path}: a file; give the capture's folder, its transforms.json, or an image, mesh, video or sound"
            )
        return near_origin(read_transforms(path, allow_outside))
    found = formats_in(path)
    if format is None and not found:
        if (known := named_format(path)) is not None:
            raise InputError(f"{path}: {known}, or find poses anew with nf poses")
        empty = not any(path.iterdir())
        raise InputError(f"{path}: {'empty folder' if empty else 'no posed capture'}; expected {EXPECTED}")
    chosen = format if format is not None else found[0]
    capture = READERS[chosen](path, allow_outside)
    others = [name for name in found if name != chosen]
    if chosen == "transforms" and (path / "colmap").is_dir():  # nerfstudio's layout: the model that the file is made of
        others = [name for name in others if name != "colmap"]
    if others and format is None:
        line = f"read as {chosen}; {' and '.join(others)} found too, --format {others[0]} reads that"
        capture = replace(capture, warnings=(line, *capture.warnings))
    return near_origin(capture)


def read_scene(path: Path | str, format: str | None = None, allow_outside: bool = False) -> Scene:
    """Reads a posed capture as a Scene: frames that exist, split, bounds. No pixel is decoded but a Blender capture's.

    `format`: a key of `READERS`. Default: detected. `allow_outside` lets photos lie outside the capture's
    folder. Raises InputError with file, field and remedy.
    """
    return scene_from_capture(read_capture(path, format, allow_outside), Path(path))


def scene_from_capture(capture: Capture, path: Path) -> Scene:
    """Makes a Scene of a capture: adds the train/test split and the bounds."""
    root = path if path.is_dir() else path.parent
    train, test, warnings = split(capture)
    cameras = [frame.camera for frame in capture.frames]
    kind = capture.kind
    if kind == BLENDER and (any(capture.origin) or not before_plain_backdrop(capture.frames)):
        kind = ""  # its box is for an object about the origin; a room, or a far background, is unbounded
    bounds, because = find_bounds(cameras, capture.points, kind, capture.hints)
    return Scene(
        name=root.resolve().name,
        root=root,
        kind=capture.kind,
        frames=capture.frames,
        train=train,
        test=test,
        bounds=replace(bounds, origin=capture.origin, times=time_range(capture.frames)),
        has_alpha=capture.has_alpha,
        points=capture.points,
        warnings=(*capture.warnings, *warnings),
        because=because,
    )


def boxed(scene: Scene, loaded: LoadedFrames | None, box: str | None = None) -> Scene:
    """The scene with the box that its photos show: the visual hull of an object by some silhouettes.

    Nothing is outside of an object that is cut out, or before a plain backdrop; with masks that leave an object alone
    nothing outside counts, and it would be fog. Cameras must look inward, and the bounds must not be a box already.
    Where the scene moves, it is the hull of all its times. What goes on beyond most photos' borders is no object.
    `loaded`: training photos; None: some are decoded if they are of use. `box`: two corners in the capture's units,
    x0,y0,z0,x1,y1,z1, taken instead. Raises UsageError for a wrong one.
    """
    cameras = [frame.camera for frame in scene.frames]
    inward = arrange(cameras).layout == "around" and all(camera.model == "perspective" for camera in cameras)
    colour = backdrop(scene.frames) if inward and not scene.has_alpha else None
    scene = replace(scene, backdrop=colour)
    if box is not None:
        return _given(scene, cameras, box)
    masked = any(frame.mask_path for frame in scene.frames)
    inward &= scene.bounds.times is None or len(scene.train) <= MOST_IN_TIME
    if inward and scene.bounds.contraction == "cube" and (scene.has_alpha or colour or masked):
        photos = _some_loaded(scene) if loaded is None else loaded
        shapes = silhouettes(photos, colour, masks=True)
        if len(shapes) >= max(FEWEST_SILHOUETTES, len(_looked_at(photos)) / 2):
            return _of_object(scene, shapes, cameras)
    return scene


def _of_object(scene: Scene, shapes: list[Silhouette], cameras: list[Camera]) -> Scene:
    cut = any(frame.mask_cuts for frame in scene.frames)
    where = "one-coloured background" if scene.backdrop else "alpha" if scene.has_alpha and not cut else "masks"
    found = object_bounds(shapes, cameras, scene.bounds.times)
    if found is None and scene.bounds.times is not None:
        return scene
    if found is None:
        line = f"the silhouettes by the photos' {where} have nothing in common; check that they belong to these poses"
        return replace(scene, warnings=(*scene.warnings, line))
    if goes_on(shapes):
        return scene
    because = f"the photos' {where}: their visual hull, with nothing outside"
    return replace(scene, bounds=replace(found, origin=scene.bounds.origin), because=because)


def _given(scene: Scene, cameras: list[Camera], box: str) -> Scene:
    corners = np.array(parse_box(box, "--box")).reshape(2, 3) - scene.bounds.origin
    centre, half = corners.mean(axis=0), float(np.ptp(corners, axis=0).max()) / 2
    bounds = around_cube(cameras, centre, half)
    if scene.has_alpha or scene.backdrop or (scene.bounds.contraction == "box" and scene.bounds.cascades == 1):
        bounds = replace(bounds, cascades=1, contraction="box")
    bounds = replace(bounds, origin=scene.bounds.origin, times=scene.bounds.times)
    return replace(scene, bounds=bounds, because="--box")


def _some_loaded(scene: Scene) -> LoadedFrames:
    """Some training photos, evenly chosen, and no more than are looked at; none where they cannot be read."""
    try:
        most = _most([scene.frames[index].camera for index in scene.train])
        return load_frames(scene, scene.train[:: -(-len(scene.train) // most)])
    except InputError:
        return LoadedFrames([], [], [], [], [])


def _most(cameras: Sequence[Camera]) -> int:
    """How many photos' silhouettes are looked at: more where cameras have times, of which few are of about one."""
    return MOST_SILHOUETTES if all(camera.time is None for camera in cameras) else MOST_IN_TIME


def _looked_at(loaded: LoadedFrames) -> range:
    """The photos whose silhouettes are looked at."""
    return range(0, len(loaded.images), max(1, -(-len(loaded.images) // _most(loaded.cameras))))


def silhouettes(
    loaded: LoadedFrames, colour: tuple[float, float, float] | None, masks: bool = False
) -> list[Silhouette]:
    """Silhouettes of some photos, evenly chosen, at a small size; of those that show where nothing is.

    Of photos with times those of all, and of none where they are too many.

    `masks`: also of those whose masks leave an object alone: they ignore the border and most of the photo.
    """
    found = []
    if any(camera.time is not None for camera in loaded.cameras) and len(loaded.images) > MOST_IN_TIME:
        return found
    for index in _looked_at(loaded):
        image, camera, mask = loaded.images[index], loaded.cameras[index], loaded.masks[index]
        factor = max(1, min(image.shape[:2]) // SILHOUETTE_SIDE)
        whole = tuple(slice(0, size // factor * factor) for size in image.shape[:2])
        seen = silhouette(image[whole], colour)
        if seen is None and masks and mask is not None and leaves_object(mask):
            seen = mask[whole]
        if seen is None:
            continue
        height, width = seen.shape[0] // factor, seen.shape[1] // factor
        blocks = seen.reshape(height, factor, width, factor).any(axis=(1, 3))
        found.append(Silhouette(_cropped(camera, factor, (width, height)), blocks))
    return found


def _cropped(camera: Camera, factor: int, size: tuple[int, int]) -> Camera:
    """The camera of a photo whose whole blocks of factor x factor pixels become pixels."""
    lens = {name: getattr(camera, name) / factor for name in ("fx", "fy", "cx", "cy")}
    return replace(camera, width=size[0], height=size[1], **lens)
