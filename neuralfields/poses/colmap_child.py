"""Child process that runs COLMAP (pycolmap): reads one job, runs it, reports its progress, ends.

colmap_process.py starts it with the path of JOB.json, isolated from the working folder (search_path.py).

Nothing else in the program imports pycolmap: some of its releases damage the heap of any process that also uses zlib or
Pillow, and a crash or a hang in it must not take a fit or a viewer along (colmap_process.py starts and ends this one).
No torch and no Pillow here, for the same reason. Standard output carries one JSON object a line:
{"done", "total"} while it works, {"result": {...}} or {"refused": "why"} at its end; standard error is COLMAP's log.

Vocabulary
  job    {"task": features | matches | mapping | flatten, ...}, see the function of that name
  pair   two photos whose features are matched
  graph  input of the verdict (poses/verdict.py): keypoints, verified matches and the model, as plain arrays
"""

import ctypes
import json
import shutil
import signal
import sys
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, version
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from neuralfields.poses.pairs import sequence, similar

BROKEN = ("4.1.", "4.2.")
MISSING = "the package pycolmap is missing; run: pip install 'neuralfields[photos]'"
PAIRS_AT_ONCE = 256
PHOTOS_AT_ONCE = 4
FEWEST_POINTS = 20  # a model of fewer is dropped


def main() -> int:
    """Runs the job of the command line; 0 when it was done or refused, otherwise the code of the crash."""
    _end_with_parent()
    job = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    refusal = _unusable()
    if refusal is not None:
        say(refused=refusal)
        return 0
    import pycolmap

    pycolmap.set_random_seed(job["seed"])
    pycolmap.logging.minloglevel = pycolmap.logging.Level.WARNING
    say(result=TASKS[job["task"]](job))
    return 0


def _end_with_parent() -> None:
    """Asks the kernel (Linux) to kill this process when its parent dies, however that dies."""
    try:
        ctypes.CDLL(None).prctl(1, int(signal.SIGKILL))  # PR_SET_PDEATHSIG
    except (AttributeError, OSError, TypeError):
        return


def _unusable() -> str | None:
    try:
        found = version("pycolmap")
    except PackageNotFoundError:
        return MISSING
    if found.startswith(BROKEN):
        return f"pycolmap {found} damages memory; run: pip install 'pycolmap>=3.13,!=4.1.*,!=4.2.*'"
    return None


def say(**message: Any) -> None:
    """Sends one message to the parent."""
    sys.stdout.write(json.dumps(message) + "\n")
    sys.stdout.flush()


def chunks(values: list, size: int) -> Iterator[list]:
    """Splits values into lists of `size`, the last one shorter."""
    rest = iter(values)
    while chunk := list(islice(rest, size)):
        yield chunk


def features(job: dict[str, Any]) -> dict[str, Any]:
    """Feature extraction (SIFT): keypoints of every photo into a new database.

    `database`, `photos` (folder), `threads`, `largest` (pixels along the longer side of the images extracted from),
    `features` (most per photo), `peak` (least contrast), `lens` (COLMAP's name of its model), and `groups`: photos that
    share a lens, {"names", "width", "height", "focal" in pixels or null}.
    """
    import pycolmap

    database = Path(job["database"])
    for suffix in ("", "-wal", "-shm"):
        database.with_name(database.name + suffix).unlink(missing_ok=True)
    options = pycolmap.FeatureExtractionOptions()
    options.num_threads, options.use_gpu = job["threads"], False
    options.max_image_size = job["largest"]
    options.sift.max_num_features, options.sift.peak_threshold = job["features"], job["peak"]
    total, done = sum(len(group["names"]) for group in job["groups"]), 0
    for group in job["groups"]:
        reader = pycolmap.ImageReaderOptions()
        reader.camera_model = job["lens"]
        if group["focal"] is not None:
            reader.camera_params = _parameters(job["lens"], group)
        for names in chunks(group["names"], PHOTOS_AT_ONCE):
            pycolmap.extract_features(
                database, job["photos"], names, pycolmap.CameraMode.SINGLE, reader, options, pycolmap.Device.cpu
            )
            if reader.existing_camera_id < 0:
                with pycolmap.Database.open(database) as opened:
                    reader.existing_camera_id = max(camera.camera_id for camera in opened.read_all_cameras())
            done += len(names)
            say(done=done, total=total)
    with pycolmap.Database.open(database) as opened:
        images = {image.name: opened.num_keypoints_for_image(image.image_id) for image in opened.read_all_images()}
    return {"keypoints": images}


def _parameters(model: str, group: dict[str, Any]) -> str:
    import pycolmap

    made = pycolmap.Camera.create_from_model_name(1, model, group["focal"], group["width"], group["height"])
    return made.params_to_string()


def matches(job: dict[str, Any]) -> dict[str, Any]:
    """Feature matching: verified matches of pairs of photos into the database; pairs that it already holds are skipped.

    `database`, `threads`, `way` (the matching strategy: exhaustive, sequential or retrieval), `overlap` (photos before
    and after in sequence), `neighbours` (most similar photos by retrieval), `scratch` (a file for the pairs).
    """
    import pycolmap

    with pycolmap.Database.open(job["database"]) as opened:
        images = sorted(opened.read_all_images(), key=lambda image: image.name)
        names = [image.name for image in images]
        pairs = set(sequence(len(names), job["overlap"])) if job["way"] == "sequential" else set()
        if job["way"] == "exhaustive":
            pairs = {(i, j) for j in range(len(names)) for i in range(j)}
        else:
            described = [opened.read_descriptors(image.image_id) for image in images]
            described = [getattr(d, "data", d) for d in described]
            pairs |= similar([np.asarray(d) for d in described], job["neighbours"], job["seed"])
    options = pycolmap.FeatureMatchingOptions()
    options.num_threads, options.use_gpu = job["threads"], False
    chosen, scratch = sorted(pairs, key=lambda pair: (pair[0] // 16, pair[1] // 16, pair)), Path(job["scratch"])
    pairing = pycolmap.ImportedPairingOptions()
    pairing.match_list_path = str(scratch)
    done = 0
    for chunk in chunks(chosen, PAIRS_AT_ONCE):
        scratch.write_text("".join(f"{names[i]} {names[j]}\n" for i, j in chunk), encoding="utf-8")
        pycolmap.match_image_pairs(job["database"], options, pairing, device=pycolmap.Device.cpu)
        done += len(chunk)
        say(done=done, total=len(chosen))
    return {"pairs": len(chosen)}


def mapping(job: dict[str, Any]) -> dict[str, Any]:
    """Mapping (structure from motion): poses, lenses and points from verified matches; keeps the largest model.

    `database`, `photos`, `model` (the folder to write), `graph` (the .npz to write), `threads`, `way` (incremental or
    global), `loose` (accepts a smaller triangulation angle of the initial pair and fewer inliers), `total` (photos, for
    the progress).
    """
    import pycolmap

    target = Path(job["model"])
    shutil.rmtree(target, ignore_errors=True)
    work = target.with_name(target.name + "-all")
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir(parents=True)
    way = job["way"]
    models = _sound(_global(job, work) if way == "global" else _incremental(job, work))
    if way == "incremental" and (not models or models[0].num_reg_images() < job["total"] / 2):
        # Forward motion gives no initial pair to start from; global mapping may still work.
        others = _sound(_global(job, work))
        if others and (not models or others[0].num_reg_images() > models[0].num_reg_images()):
            models, way = others, "global"
    if not models:
        return {"models": []}
    target.mkdir(parents=True)
    models[0].write_binary(target)
    with pycolmap.Database.open(job["database"]) as opened:
        write_graph(opened, models[0], Path(job["graph"]))
    names = [[model.image(i).name for i in model.reg_image_ids()] for model in models]
    shutil.rmtree(work, ignore_errors=True)
    return {
        "models": [sorted(part) for part in names],
        "way": way,
        "points": models[0].num_points3D(),
        "reprojection": models[0].compute_mean_reprojection_error(),
        "track_length": models[0].compute_mean_track_length(),
    }


def _sound(found: dict) -> list:
    """Models of FEWEST_POINTS points or more, the largest first, with reprojection errors in pixels."""
    models = [model for model in found.values() if model.num_points3D() >= FEWEST_POINTS]
    for model in models:
        model.update_point_3d_errors()
    return sorted(models, key=lambda model: -model.num_reg_images())


def _global(job: dict[str, Any], work: Path) -> dict:
    import pycolmap

    options = pycolmap.GlobalPipelineOptions()
    options.num_threads, options.random_seed = job["threads"], job["seed"]
    return pycolmap.global_mapping(job["database"], job["photos"], work, options)


def _incremental(job: dict[str, Any], work: Path) -> dict:
    import pycolmap

    options = pycolmap.IncrementalPipelineOptions()
    options.num_threads, options.random_seed = job["threads"], job["seed"]
    options.min_model_size, options.max_num_models = 3, 10
    options.mapper.num_threads = job["threads"]
    if job["loose"]:
        options.mapper.init_min_tri_angle, options.mapper.init_min_num_inliers = 4.0, 40
        options.mapper.init_max_forward_motion = 1.0
        options.mapper.abs_pose_min_num_inliers, options.min_num_matches = 15, 10
    done = [2]

    def next_image() -> None:
        done[0] += 1
        say(done=min(done[0], job["total"]), total=job["total"])

    return pycolmap.incremental_mapping(
        job["database"],
        job["photos"],
        work,
        options,
        initial_image_pair_callback=lambda: say(done=2, total=job["total"]),
        next_image_callback=next_image,
    )


def write_graph(database: Any, model: Any, path: Path) -> None:
    """Writes keypoints, verified matches and the model as arrays: I photos, K keypoints, P points, M pairs, V matches.

    names [I]; registered bool [I]; camera_from_world [I, 3, 4]; focal, diagonal [I] in pixels; starts [I + 1] into the
    keypoints; normalised [K, 2] on the plane z = 1 without distortion, NaN for photos without a pose; point [K], index
    or -1; points [P, 3]; pairs [M, 2]; raw [M] matches before verification; match_starts [M + 1]; matches [V, 2],
    keypoints of the pair's photos, counted from each photo's first.
    """
    images = sorted(database.read_all_images(), key=lambda image: image.name)
    point_ids = sorted(model.point3D_ids())
    index_of = {number: i for i, number in enumerate(point_ids)}
    photos = [_photo_arrays(database, model, image, index_of) for image in images]
    counts = [len(photo["point"]) for photo in photos]
    np.savez(
        path,
        names=np.array([image.name for image in images]),
        **{key: np.array([photo[key] for photo in photos]) for key in ("registered", "focal", "diagonal")},
        camera_from_world=np.array([photo["pose"] for photo in photos], np.float64),
        starts=np.concatenate([[0], np.cumsum(counts)]).astype(np.int64),
        normalised=np.concatenate([photo["normalised"] for photo in photos]).astype(np.float64),
        point=np.concatenate([photo["point"] for photo in photos]),
        points=np.array([model.point3D(number).xyz for number in point_ids], np.float64).reshape(-1, 3),
        **_match_arrays(database, {image.image_id: i for i, image in enumerate(images)}),
    )


def _photo_arrays(database: Any, model: Any, image: Any, index_of: dict[int, int]) -> dict[str, Any]:
    """Arrays of one photo in the graph."""
    keypoints = np.asarray(database.read_keypoints(image.image_id))[:, :2].astype(np.float64)
    own = model.image(image.image_id) if model.exists_image(image.image_id) else None
    posed = own is not None and own.has_pose
    camera = own.camera if posed else database.read_camera(image.camera_id)
    point = np.full(len(keypoints), -1, np.int64)
    for k, spot in enumerate(own.points2D if posed else ()):
        if spot.has_point3D():
            point[k] = index_of[spot.point3D_id]
    return {
        "registered": posed,
        "pose": own.cam_from_world().matrix() if posed else np.full((3, 4), np.nan),
        "focal": float(camera.mean_focal_length()),
        "diagonal": float(np.hypot(camera.width, camera.height)),
        "normalised": camera.cam_from_img(keypoints) if posed and len(keypoints) else keypoints * np.nan,
        "point": point,
    }


def _match_arrays(database: Any, place: dict[int, int]) -> dict[str, np.ndarray]:
    """Arrays of the verified pairs; `place`: COLMAP's index of a photo -> ours."""
    import pycolmap

    raw_counts = dict(zip(*database.read_num_matches(), strict=True))
    pairs, raw, matched = [], [], []
    for number, geometry in zip(*database.read_two_view_geometries(), strict=True):
        inliers = np.asarray(geometry.inlier_matches)
        if len(inliers):
            pairs.append([place[i] for i in pycolmap.pair_id_to_image_pair(number)])
            raw.append(raw_counts.get(number, len(inliers)))
            matched.append(inliers.astype(np.int64))
    return {
        "pairs": np.array(pairs, np.int64).reshape(-1, 2),
        "raw": np.array(raw, np.int64),
        "match_starts": np.concatenate([[0], np.cumsum([len(part) for part in matched])]).astype(np.int64),
        "matches": np.concatenate([np.zeros((0, 2), np.int64), *matched]),
    }


def flatten(job: dict[str, Any]) -> dict[str, Any]:
    """Undistorts and transforms the model: writes it to `out`, and its points to `points` (a .ply).

    `model`; `world`: the similarity [3, 4] to apply; `sizes`: (width, height) of each photo, whose copy may have been
    smaller. The result names each photo's lens before and after, for undistorting its pixels (poses/undistort.py).
    """
    import pycolmap

    out = Path(job["out"])
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir(parents=True)
    model = pycolmap.Reconstruction(job["model"])
    model.transform(pycolmap.Sim3d(np.array(job["world"])))
    lenses = {}
    for number, camera in model.cameras.items():
        members = [image for image in model.images.values() if image.camera_id == number]
        small = np.array([camera.width, camera.height])
        width, height = job["sizes"][members[0].name] if members else small.tolist()
        camera.rescale(width, height)
        before = _lens(camera)
        flat = pycolmap.undistort_camera(pycolmap.UndistortCameraOptions(), camera)
        for image in members:
            if len(image.points2D):
                spots = np.array([spot.xy for spot in image.points2D]) * (width, height) / small
                rays = camera.cam_from_img(spots)
                for spot, place in zip(image.points2D, flat.img_from_cam(_homogeneous(rays)), strict=True):
                    spot.xy = place
        camera.model, camera.width, camera.height, camera.params = flat.model, flat.width, flat.height, flat.params
        lenses[number] = {"before": before, "after": _lens(camera)}
    model.write_binary(out)
    model.export_PLY(job["points"])
    return {
        "lenses": lenses,
        "photos": {
            image.name: {
                "lens": str(image.camera_id),
                "world_from_camera": np.vstack([image.cam_from_world().inverse().matrix(), [0, 0, 0, 1]]).tolist(),
            }
            for image in model.images.values()
            if image.has_pose
        },
    }


def _homogeneous(rays: np.ndarray) -> np.ndarray:
    return np.concatenate([rays, np.ones((len(rays), 1))], axis=1)


def _lens(camera: Any) -> dict[str, Any]:
    """Intrinsics of a COLMAP camera as plain data."""
    values = [float(value) for value in camera.params]
    return {"model": camera.model_name, "width": camera.width, "height": camera.height, "parameters": values}


TASKS = {"features": features, "matches": matches, "mapping": mapping, "flatten": flatten}

if __name__ == "__main__":
    raise SystemExit(main())
