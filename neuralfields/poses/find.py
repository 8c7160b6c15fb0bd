"""Finds camera poses by structure from motion: photos or a video in, a posed capture out.

  photos | frames -> features -> matches -> model -> verdict -> world -> undistorted photos, transforms.json

The capture holds transforms.json (nerfstudio's dialect), images/, colmap/sparse/0 and sparse.ply in the same world,
poses.json (the report), and work/ with the cached results of the stages. COLMAP runs in a child process
(colmap_process.py).
"""

import json
import math
import shutil
import sys
from dataclasses import asdict, fields
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from neuralfields.cameras import CAMERA_AXES
from neuralfields.captures.images import FEWEST_IMAGES
from neuralfields.errors import InputError, PosesNotFoundError, UsageError
from neuralfields.files import OutputLock, atomic_write_bytes, check_writable, plain
from neuralfields.media import VIDEOS, kind_of
from neuralfields.options.captures import PoseSettings
from neuralfields.poses.colmap_process import run_job
from neuralfields.poses.graph import PoseGraph, read_graph
from neuralfields.poses.photos import PHOTO_FOLDERS, Photo, fingerprint, photo_files, photo_folder, read_photos
from neuralfields.poses.search import LADDER, Attempt, search, threads_of
from neuralfields.poses.stages import Stages
from neuralfields.poses.verdict import Verdict, judge, why_missing
from neuralfields.poses.video_frames import Chosen, choose_frames, write_frames
from neuralfields.poses.world import World, find_world
from neuralfields.progress import StageDisplay
from neuralfields.version import VERSION

MARK = "made-by-nf-poses"
LARGEST_REPORT = 64 * 2**20  # bytes


class _Judged(msgspec.Struct):
    """What a fit asks of a report (poses.json)."""

    level: str
    reasons: list[str]


def default_capture(source: Path) -> Path:
    """Default folder of the capture: <name>-capture in the current folder."""
    name = source.resolve().stem if source.is_file() else source.resolve().name
    return Path(f"{name}-capture")


def is_video(path: Path) -> bool:
    """Whether a path is a video file, by its suffix."""
    return path.is_file() and kind_of(path) == "video"


def find_poses(source: Path, out: Path, settings: PoseSettings, display: StageDisplay) -> dict[str, Any]:
    """Finds camera poses and writes the capture `out`; stages that an earlier run finished are not run again.

    Raises InputError for photos that cannot be used, PosesNotFoundError when there is no model, UsageError when
    pycolmap is missing. Doubtful poses are written too: the report's `level` says so.
    """
    _require_pycolmap()
    _check_folders(source, out)
    out.mkdir(parents=True, exist_ok=True)
    check_writable(out / "transforms.json", overwrite=True)
    with OutputLock(out / "transforms.json"):
        stages = Stages(out / "work", display)
        (out / "work" / MARK).touch()
        photos, facts = _photos(source, out, settings, stages)
        attempt, result = search(photos, out, settings, stages)
        graph = read_graph(out / "work" / f"graph-{LADDER.index(attempt)}.npz")
        verdict = judge(graph, result["models"], result["reprojection"])
        display.note(f"{'verdict':<10} {verdict.line}")
        world = find_world(_poses_of(graph), graph.points)
        cameras = _undistort(out, photos, attempt, world, settings, stages)
        missing = why_missing(graph, result["models"], {photo.name: photo.sharpness for photo in photos})
        report = _report(source, out, photos, attempt, result, verdict, world, stages) | facts
        report["missing"] = missing
        atomic_write_bytes(out / "poses.json", json.dumps(plain(report), indent=1).encode())
        _write_transforms(out, cameras)  # last: a capture with it is whole
    return report


def _require_pycolmap() -> None:
    """Raises UsageError where pycolmap is not installed; the package itself is never imported here."""
    try:
        version("pycolmap")
    except PackageNotFoundError:
        raise UsageError("the package pycolmap is missing; run: pip install 'neuralfields[photos]'") from None


def _is_ours(out: Path) -> bool:
    """Whether a folder is a capture that `nf poses` began: nothing else is ever replaced."""
    return (out / "work" / MARK).is_file()


def _check_folders(source: Path, out: Path) -> None:
    """Raises for a source without photos, and for a target that holds other files or the photos themselves."""
    if not source.exists():
        raise InputError(f"{source}: no such file or folder; give a folder of photos or a video")
    if source.is_file() and not is_video(source):
        raise InputError(f"{source}: is no video; give a folder of photos or a video ({', '.join(VIDEOS)})")
    target, photos = out.resolve(), (source if source.is_file() else _folder(source)).resolve()
    if photos.is_dir() and (target in (photos, source.resolve()) or target == photos.parent):
        raise UsageError(f"--out {out}: holds the photos; the capture needs a folder of its own")
    if source.is_dir() and len(photo_files(photos)) < FEWEST_IMAGES:
        read_photos(photos)  # says how many are needed, before anything is written
    if out.exists() and not out.is_dir():
        raise UsageError(f"--out {out}: is a file; the capture is a folder")
    if out.is_dir() and any(out.iterdir()) and not _is_ours(out):
        raise UsageError(f"--out {out}: holds other files; the capture needs a folder of its own")


def _folder(source: Path) -> Path:
    """Folder of photos at or in a source, even where poses lie beside them."""
    found = photo_folder(source)
    if found is None:
        found = next((source / name for name in PHOTO_FOLDERS if photo_files(source / name)), source)
    return found


def _photos(source: Path, out: Path, settings: PoseSettings, stages: Stages) -> tuple[list[Photo], dict[str, Any]]:
    """Stage `photos`: reads and checks the photos."""
    if source.is_file():
        folder = _frames(source, out, settings, stages)
    else:
        folder = _folder(source)

    def work() -> dict[str, Any]:
        found = read_photos(folder, settings.strict)
        return {
            "photos": [asdict(photo) | {"path": str(photo.path)} for photo in found.photos],
            "unreadable": found.unreadable,
            "notes": found.notes,
        }

    result = stages.run(
        "photos",
        {"files": fingerprint(photo_files(folder)), "folder": str(folder.resolve()), "strict": settings.strict},
        work,
        summary=lambda result: f"{len(result['photos'])} photos",
    )
    for line in result["notes"]:
        stages.display.note(f"{'':<10} {line}")
    photos = [Photo(**{**entry, "path": Path(entry["path"])}) for entry in result["photos"]]
    return photos, {"unreadable": result["unreadable"], "notes": result["notes"]}


def _frames(source: Path, out: Path, settings: PoseSettings, stages: Stages) -> Path:
    """Stage `frames`: sharp frames of a video, evenly spaced along the camera's path."""
    folder = out / "work" / "frames"

    def work() -> dict[str, Any]:
        shutil.rmtree(folder, ignore_errors=True)
        chosen = choose_frames(source, settings.frames, stages.display.update)
        write_frames(source, chosen, folder, stages.display.update)
        return asdict(chosen)

    def summary(result: dict[str, Any]) -> str:
        keys = "key frames" if result["keys_only"] else "frames"
        chosen = Chosen(**result)
        return f"{len(chosen.indices)} of {chosen.decoded} {keys} chosen, {chosen.seconds:.1f} s of video"

    stages.run("frames", {"film": fingerprint([source]), "count": settings.frames}, work, [folder], summary)
    return folder


def _poses_of(graph: PoseGraph) -> np.ndarray:
    """world_from_camera [n, 4, 4] of the registered photos."""
    matrices = np.tile(np.eye(4), (int(graph.registered.sum()), 1, 1))
    matrices[:, :3, :3] = graph.camera_from_world[graph.registered, :, :3].transpose(0, 2, 1)
    matrices[:, :3, 3] = graph.centres[graph.registered]
    return matrices


def _undistort(
    out: Path, photos: list[Photo], attempt: Attempt, world: World, settings: PoseSettings, stages: Stages
) -> dict[str, dict[str, Any]]:
    """Stage `undistort`: undistorts the model in its world, then the photos; returns name -> lens and pose."""
    # Here: torch takes seconds to load, and what is refused or interrupted before needs none of it.
    from neuralfields.poses.undistort import write_flat

    work, number = out / "work", LADDER.index(attempt)
    images, sparse = out / "images", out / "colmap" / "sparse" / "0"

    def job() -> dict[str, Any]:
        (out / "transforms.json").unlink(missing_ok=True)
        values = {
            "task": "flatten",
            "model": str((work / f"model-{number}").resolve()),
            "out": str(sparse.resolve()),
            "points": str((out / "sparse.ply").resolve()),
            "world": world.similarity.tolist(),
            "sizes": {photo.name: (photo.width, photo.height) for photo in photos},
            "seed": settings.seed,
            "threads": threads_of(settings),
        }
        result = run_job(values, work, 60 * settings.stage_minutes, stages.display.update)
        shutil.rmtree(images, ignore_errors=True)
        shutil.rmtree(work / "flat", ignore_errors=True)
        write_flat(result, photos, work / "flat", stages.display.update)
        (work / "flat").rename(images)
        return result

    wanted = {"world": world.similarity.tolist(), "rung": number}
    result = stages.run("undistort", wanted, job, [images, sparse], lambda r: f"{len(r['photos'])} photos")
    lenses = {key: lens["after"] for key, lens in result["lenses"].items()}
    return {name: lenses[entry["lens"]] | entry for name, entry in result["photos"].items()}


def _write_transforms(out: Path, cameras: dict[str, Any]) -> None:
    """Writes transforms.json in nerfstudio's dialect: OpenGL axes, intrinsics shared where they are the same."""
    entries = []
    for name in sorted(cameras):
        camera = cameras[name]
        fx, fy, cx, cy = camera["parameters"]
        lens = {"fl_x": fx, "fl_y": fy, "cx": cx, "cy": cy, "w": camera["width"], "h": camera["height"]}
        matrix = np.array(camera["world_from_camera"]) @ CAMERA_AXES["opengl"]
        entries.append((lens, {"file_path": f"images/{name}", "transform_matrix": matrix.tolist()}))
    shared = entries[0][0] if all(lens == entries[0][0] for lens, _ in entries) else None
    document: dict[str, Any] = {"camera_model": "OPENCV", "k1": 0.0, "k2": 0.0, "p1": 0.0, "p2": 0.0}
    if shared is not None:
        document |= shared | {"camera_angle_x": 2 * math.atan(0.5 * shared["w"] / shared["fl_x"])}
    document["ply_file_path"] = "sparse.ply"
    document["frames"] = [frame if shared is not None else lens | frame for lens, frame in entries]
    atomic_write_bytes(out / "transforms.json", json.dumps(document, indent=1).encode())


def _report(
    source: Path,
    out: Path,
    photos: list[Photo],
    attempt: Attempt,
    result: dict[str, Any],
    verdict: Verdict,
    world: World,
    stages: Stages,
) -> dict[str, Any]:
    """The report of poses.json as plain data."""
    return {
        "path": str(out),
        "source": str(source),
        "line": verdict.line,
        **asdict(verdict),
        "track_length": result["track_length"],
        "rung": attempt.name,
        "world": {item.name: getattr(world, item.name) for item in fields(world)},
        "names": {photo.name: str(photo.path) for photo in photos},
        "seconds": stages.seconds,
        "kept": stages.cached,
        "made_by": {"neuralfields": VERSION, "pycolmap": version("pycolmap"), "python": sys.version.split()[0]},
    }


def accepted(out: Path, accept: bool) -> None:
    """Raises PosesNotFoundError for a capture whose poses are doubtful, unless `accept`."""
    path = out / "poses.json"
    if not path.is_file() or path.stat().st_size > LARGEST_REPORT:
        return
    try:
        report = msgspec.json.decode(path.read_bytes(), type=_Judged)
    except (OSError, msgspec.MsgspecError, UnicodeDecodeError, RecursionError):  # not of `nf poses`
        return
    if report.level == "doubtful" and not accept:
        raise PosesNotFoundError(
            f"{out}: the poses are doubtful: {'; '.join(report.reasons)}. Inspect them with nf view {out}, or give"
            " --accept-doubtful-poses"
        )
