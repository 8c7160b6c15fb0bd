"""Benchmarks `nf poses` against the given poses of captures: pose errors, and held-out PSNR of fits with both.

python benchmarks/poses.py [name ...] [--data FOLDER]     names as in CASES; without any, all of them
python benchmarks/poses.py --fit [name ...] [--minutes 1]  held-out PSNR with our poses beside the given ones
python benchmarks/poses.py --video [--minutes 1]           a video rendered of a fitted scene, posed and fitted again
python benchmarks/poses.py --whole                         fox photos to a fitted scene as one command
python benchmarks/poses.py --surface [name ...]            our poses before and after `nf poses --refine surface`

The photos of a case are linked into a folder of their own, without their poses. Errors are after the similarity that
brings our camera centres nearest to the given ones: degrees of rotation, and distances as fractions of the scene's size
(the largest distance of a given camera from their middle). --keep FOLDER keeps captures, and goes on from them.
--quick: a proof of each part in a minute, whose figures are not written.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from table import FOLDER, row, write

from neuralfields.captures.readers import read_scene

CASES = {
    # name: folder, its photos, options of nf poses, downscale of the fit
    "fox": ("captures/ngp_fox", "images", [], 4),
    "fox-half": ("captures/ngp_fox", "images", ["--largest", "960"], 4),
    "fox-quarter": ("captures/ngp_fox", "images", ["--largest", "480"], 4),
    "saharov": ("captures/saharov_statue_32", "images", [], 2),
    "sceaux": ("captures/sceaux_castle_11", "images", [], 6),
    "fern": ("captures/llff_fern", "images_8", [], 1),
    "lund": ("photos/opensfm_lund_unposed", "images", [], 2),
}
STANDARD = ("fox", "saharov", "sceaux", "fern", "lund")
NF = (sys.executable, "-m", "neuralfields")
TITLE = "Poses from photos: against given poses, in a fit, from a film, as one command"
BLUR = 3  # renders averaged to a frame of the video (motion blur): half the time between frames


def nf(*words: str, allowed: tuple[int, ...] = (0,)) -> dict[str, Any]:
    """One command in a process of its own; its report with the seconds that it took."""
    begin, used = time.perf_counter(), cpu_seconds()
    done = subprocess.run([*NF, *words, "--json", "--quiet"], capture_output=True, text=True, check=False)
    if done.returncode not in allowed or not done.stdout:
        raise SystemExit(f"nf {' '.join(words)}: {done.stderr.strip()}")
    spent = {"wall_seconds": time.perf_counter() - begin, "cpu_seconds": cpu_seconds() - used}
    return json.loads(done.stdout) | spent


def cpu_seconds() -> float:
    """Processor seconds of all processes that were started here and have ended, and of those that they started."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def similarity(source: np.ndarray, target: np.ndarray) -> tuple[float, np.ndarray, np.ndarray]:
    """Scale s, rotation R and shift t of least squares |s R source + t - target|, points [N, 3] (Umeyama 1991)."""
    a, b = source - source.mean(0), target - target.mean(0)
    u, stretch, vt = np.linalg.svd(b.T @ a)
    sign = np.diag([1.0, 1.0, np.sign(np.linalg.det(u @ vt))])
    rotation = u @ sign @ vt
    scale = float(np.trace(np.diag(stretch) @ sign) / (a * a).sum())
    return scale, rotation, target.mean(0) - scale * rotation @ source.mean(0)


def errors(capture: Path, given: Path, names: dict[str, str]) -> dict[str, float]:
    """Rotation (degrees) and position (share of the scene's size) of our cameras against the given ones."""
    truth = {Path(frame.name).stem: frame.camera for frame in read_scene(given).frames}
    pairs = []
    for frame in read_scene(capture).frames:
        stem = Path(names[Path(frame.name).name]).stem
        if stem in truth:
            pairs.append((frame.camera.world_from_camera, truth[stem].world_from_camera))
    ours, theirs = (np.stack(side) for side in zip(*pairs, strict=True))
    scale, rotation, shift = similarity(ours[:, :3, 3], theirs[:, :3, 3])
    away = np.linalg.norm(scale * ours[:, :3, 3] @ rotation.T + shift - theirs[:, :3, 3], axis=1)
    size = np.linalg.norm(theirs[:, :3, 3] - theirs[:, :3, 3].mean(0), axis=1).max()
    between = np.einsum("ij,njk,nlk->nil", rotation, ours[:, :3, :3], theirs[:, :3, :3])
    degrees = np.degrees(np.arccos(np.clip((np.trace(between, axis1=1, axis2=2) - 1) / 2, -1, 1)))
    return {
        "rotation_median_deg": round(float(np.median(degrees)), 3),
        "rotation_worst_deg": round(float(degrees.max()), 3),
        "position_median_share": round(float(np.median(away) / size), 5),
        "position_worst_share": round(float(away.max() / size), 5),
    }


def photos_alone(name: str, data: Path, folder: Path, every: int = 1) -> Path:
    """A folder with links to a case's photos and nothing else; every so many of them."""
    source, target = data / CASES[name][0] / CASES[name][1], folder / f"{name}-photos"
    target.mkdir(exist_ok=True)
    for photo in sorted(source.iterdir())[::every]:
        if photo.suffix.lower() in (".jpg", ".png") and not (target / photo.name).exists():
            (target / photo.name).symlink_to(photo.resolve())
    return target


def find(name: str, data: Path, folder: Path, every: int = 1) -> tuple[Path, dict[str, Any]]:
    """Poses of a case: the capture and the report; doubtful ones too."""
    out = folder / f"{name}-capture"
    photos = photos_alone(name, data, folder, every)
    again = ["--resume"] if (out / "transforms.json").exists() else []
    return out, nf("poses", str(photos), "-o", str(out), *CASES[name][2], *again, allowed=(0, 4))


def registration(name: str, data: Path, folder: Path, every: int = 1) -> dict[str, Any]:
    """The row of one case."""
    out, report = find(name, data, folder, every)
    stages = {stage: seconds for stage, seconds in report["seconds"].items() if stage not in report["kept"]}
    given = data / CASES[name][0]
    compared = errors(out, given, report["names"]) if name != "lund" else {}
    return row(
        " ".join(["nf poses", f"$DATA/{CASES[name][0]}/{CASES[name][1]}", *CASES[name][2]]),
        part="registration",
        case=name,
        registered=f"{report['registered']} of {report['photos']}",
        **compared,
        reprojection_px=round(report["reprojection"], 3),
        held_out_px=round(report["held_out"], 3),
        points=report["points"],
        contradicted=round(report["contradicted"], 3),
        retraced=round(report["retraced"], 3),
        jumps=f"{report['jumps']}, {report['broken']} broken",
        verdict=report["level"],
        seconds=round(report["wall_seconds"], 1),
        cpu_seconds=round(report["cpu_seconds"], 1),
        stages=", ".join(f"{stage} {seconds:.1f}" for stage, seconds in stages.items()),
    )


def fitted(scene: Path, out: Path, downscale: int, minutes: float) -> dict[str, Any]:
    """A fit; the report of its evaluation."""
    words = ["--minutes", str(minutes), "--downscale", str(downscale), "--overwrite", "--accept-doubtful-poses"]
    nf("fit", str(scene), "-o", str(out), *words)
    return nf("eval", str(out))


def fit_both(name: str, data: Path, folder: Path, minutes: float, every: int = 1) -> dict[str, Any]:
    """The row of a case fitted with our poses, and with the given ones."""
    out, _ = find(name, data, folder, every)
    downscale = CASES[name][3]
    figures = {"psnr_our_poses": round(fitted(out, folder / f"{name}-ours.nf", downscale, minutes)["psnr"], 2)}
    if name != "lund":
        given = fitted(data / CASES[name][0], folder / f"{name}-given.nf", downscale, minutes)
        figures["psnr_given_poses"] = round(given["psnr"], 2)
    command = f"python benchmarks/poses.py --fit {name} --minutes {minutes:g}"
    return row(command, part="fit", case=name, train_seconds=60 * minutes, **figures)


def refined(name: str, data: Path, folder: Path, every: int = 1) -> list[dict[str, Any]]:
    """Two rows of a case: our poses as they were found, and after a surface refined them."""
    out, report = find(name, data, folder, every)
    better = folder / f"{name}-refined"
    after = nf("poses", str(out), "--refine", "surface", "-o", str(better), "--overwrite", allowed=(0, 4))
    given, command = data / CASES[name][0], f"python benchmarks/poses.py --surface {name}"
    rows = [row(command, part="found", case=name, **errors(out, given, report["names"]))]
    figures = {"held_out_px": f"{after['held_out_before']:.3f} to {after['held_out_after']:.3f}"}
    figures |= {"verdict": "refined" if after["refined"] else "as they were"}
    figures |= {"seconds": round(after["wall_seconds"], 1), "cpu_seconds": round(after["cpu_seconds"], 1)}
    return [*rows, row(command, part="refined", case=name, **errors(better, given, report["names"]), **figures)]


def film(data: Path, folder: Path, minutes: float, seconds: float) -> dict[str, Any]:
    """Row of the round trip: a video of the fitted fox at 30 frames a second with motion blur, posed and refitted."""
    import torch

    from neuralfields.models.nf_file import load
    from neuralfields.pictures import camera_paths as paths
    from neuralfields.pictures.film import write_video
    from neuralfields.verbs import render

    first = folder / "film-teacher.nf"
    if not first.exists():
        nf("fit", str(data / CASES["fox"][0]), "-o", str(first), "--minutes", str(minutes), "--downscale", "4")
    model, clip = load(first), folder / "film.mp4"
    if not clip.exists():
        count = round(30 * seconds)
        cameras = paths.interpolate(list(model.cameras), count * BLUR * 2)
        pictures = (
            torch.stack([render(model, cameras[2 * BLUR * i + k]).rgb for k in range(BLUR)]).mean(0).numpy()
            for i in range(count)
        )
        write_video(clip, pictures, 30)
    out = folder / "film-capture"
    again = ["--resume"] if (out / "transforms.json").exists() else []
    report = nf("poses", str(clip), "-o", str(out), *again, allowed=(0, 4))
    measured = fitted(out, folder / "film-again.nf", 1, minutes)
    return row(
        f"python benchmarks/poses.py --video --minutes {minutes:g}",
        part="video",
        case="fox film",
        registered=f"{report['registered']} of {report['photos']}",
        reprojection_px=round(report["reprojection"], 3),
        verdict=report["level"],
        seconds=round(report["wall_seconds"], 1),
        cpu_seconds=round(report["cpu_seconds"], 1),
        loop_psnr=round(measured["psnr"], 2),
    )


def whole(data: Path, folder: Path, minutes: float, every: int = 1) -> dict[str, Any]:
    """The row of photos to a fitted scene as one command."""
    photos, out = photos_alone("fox", data, folder, every), folder / "whole.nf"
    report = nf("fit", str(photos), "-o", str(out), "--minutes", str(minutes), "--downscale", "4")
    measured = nf("eval", str(out))
    return row(
        f"nf fit PHOTOS --minutes {minutes:g} --downscale 4",
        part="whole",
        case="fox",
        seconds=round(report["wall_seconds"], 1),
        cpu_seconds=round(report["cpu_seconds"], 1),
        train_seconds=round(report["seconds"], 1),
        psnr_our_poses=round(measured["psnr"], 2),
    )


def measure(chosen: argparse.Namespace, folder: Path) -> list[dict[str, Any]]:
    """The rows that were asked for."""
    data, every = chosen.data.resolve(), 5 if chosen.quick else 1
    minutes = 0.1 if chosen.quick else chosen.minutes
    names = chosen.names or (["fox-quarter"] if chosen.quick else list(STANDARD))
    if chosen.fit:
        return [fit_both(name, data, folder, minutes, every) for name in names]
    if chosen.video:
        return [film(data, folder, minutes, 1.0 if chosen.quick else 6.0)]
    if chosen.whole:
        return [whole(data, folder, minutes, every)]
    if chosen.surface:
        return [made for name in names for made in refined(name, data, folder, every)]
    return [registration(name, data, folder, every) for name in names]


def main() -> None:
    """Measures the cases asked for; the other rows of the table are kept."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", help=", ".join(CASES))
    default = os.environ.get("NEURALFIELDS_DATA", FOLDER.parent.parent / "shared" / "data")
    parser.add_argument("--data", type=Path, default=Path(default))
    parser.add_argument("--keep", type=Path)
    parser.add_argument("--minutes", type=float, default=1.0)
    for part in ("fit", "video", "whole", "surface", "quick"):
        parser.add_argument(f"--{part}", action="store_true")
    chosen = parser.parse_args()
    table = FOLDER / "poses.json"
    rows = {(r["part"], r["case"]): r for r in (json.loads(table.read_text()) if table.is_file() else [])}
    with tempfile.TemporaryDirectory() as temporary:
        folder = chosen.keep or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        for made in measure(chosen, folder):
            print(made, flush=True)
            rows[made["part"], made["case"]] = made
    if not chosen.quick:
        write("poses", TITLE, list(rows.values()))


if __name__ == "__main__":
    main()
