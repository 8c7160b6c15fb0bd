"""Benchmarks conversion between architectures: PSNR kept, time and bytes, in six parts.

python benchmarks/convert.py pairs      every ordered pair: student minus teacher against the photos, seconds, bytes
python benchmarks/convert.py speed      hash to mlp: time to reach what an mlp reaches that is trained from the photos
python benchmarks/convert.py active     PVD and each level of PVD-AL, hash to mlp, three seeds, worst view included
python benchmarks/convert.py ablation   the product's recipe with one thing changed
python benchmarks/convert.py sizes      a hash teacher to others by the defaults, which follow the size of the pictures
python benchmarks/convert.py through    mlp and cam from photos in 2 minutes, and through a hash field in 1 minute and 1

Options: --scene sample|chair|fox, --data FOLDER, --steps N, --teacher-steps N, --seeds N, --fields NAME ... (students),
--teachers NAME ..., --set key=value ... (students of pairs), --keep FOLDER (teachers are kept there and used again).
Steps are fixed, so that quality does not depend on the load; seconds do. From photos a field with smaller steps
(fields/field.py, BATCH) takes as many more, and so do the students of all parts but `pairs`. A step of a conversion has
a quarter of the samples of a step on photos.
"""

import argparse
import os
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from table import FOLDER, kept, row, write

from neuralfields.captures.images import load_frames
from neuralfields.captures.readers import read_scene
from neuralfields.distillation.convert import Precision, convert, new_distillation
from neuralfields.domain import RADIANCE
from neuralfields.evaluation.evaluate import evaluate, photo_over
from neuralfields.fields import field_class, make_field
from neuralfields.models.model import Model
from neuralfields.models.nf_file import load, save
from neuralfields.options.fit import FitOptions
from neuralfields.options.models import ConvertOptions
from neuralfields.scene import Scene
from neuralfields.supervision.pixels import Pixels
from neuralfields.trainers.distil import Recipe
from neuralfields.trainers.radiance import Background, RadianceTrainer
from neuralfields.training.fit import fit_scene
from neuralfields.training.loop import Budget

FULL = Precision()
FIELDS = ("hash", "mlp", "cam", "rbf", "voxels", "lowrank", "triplane")
SCENES = {
    "sample": (None, 4),
    "chair": ("synthetic_chair", 4),
    "chair-400": ("synthetic_chair", 1),
    "materials-400": ("synthetic_materials", 1),
    "fox": ("ngp_fox", 4),
    "fern": ("llff_fern", 4),
}
LEVELS = {
    "PVD": Recipe(hard_cameras=False, hard_rays=False, heavy_points=False),
    "cameras": Recipe(hard_cameras=True, hard_rays=False, heavy_points=False),
    "cameras, rays": Recipe(hard_cameras=True, hard_rays=True, heavy_points=False),
    "PVD-AL: cameras, rays, points": Recipe(hard_cameras=True, hard_rays=True, heavy_points=True),
}
ABLATIONS = {
    "as it is": Recipe(),
    "without stages 1 and 2": Recipe(features=0.0, points=0.0),
    "without stage 3": Recipe(points=1.0),
    "points ray by ray": Recipe(shuffle=False),
    "without the clamp": Recipe(clamp=None),
    "without the teacher's occupancy": Recipe(inherit_occupancy=False),
    "small networks 32 wide": Recipe(),
    "32 wide, and the teacher's": Recipe(inherit_heads=True),
    "without hard cameras": Recipe(hard_cameras=False),
    "without hard rays": Recipe(hard_rays=False),
    "without the point level": Recipe(heavy_points=False),
    "colours weigh a third": Recipe(colour=10.0),
    "colours weigh three times as much": Recipe(colour=90.0),
}
# Of the students that such rows are about: the teacher's heads fit those of 32.
SETTINGS = {name: ("hidden=32",) for name in ABLATIONS if "32 wide" in name}


def scene_of(name: str, data: Path) -> tuple[Scene, int]:
    """A scene and the factor its photos are made smaller by."""
    capture, downscale = SCENES[name]
    root = FOLDER.parent / "scenes" / "sample" if capture is None else data / "captures" / capture
    return read_scene(root), downscale


def teacher_of(field: str, scene: Scene, downscale: int, given: argparse.Namespace) -> Model:
    """Fits an architecture to the photos, or loads the model of an earlier call."""
    steps = steps_for(field, given.teacher_steps)
    kept_at = None if given.keep is None else given.keep / f"{given.scene}-{field}-{steps}.nf"
    if kept_at is not None and kept_at.is_file():
        return load(kept_at)
    options = FitOptions(scene=scene.root, field=field, downscale=downscale, steps=steps, quiet=True, eval_every=0)
    model = fit_scene(scene, options)
    if kept_at is not None:
        kept_at.parent.mkdir(parents=True, exist_ok=True)
        save(model, kept_at)
    return model


def student_of(
    teacher: Model, field: str, steps: int, seed: int, recipe: Recipe, settings: tuple[str, ...] = ()
) -> Model:
    """Distils the teacher into a student."""
    options = ConvertOptions(Path("teacher.nf"), to=field, seed=seed, set=settings, quiet=True, eval_every=0)
    return convert(teacher, options, recipe, Budget(steps, None))[0]


def size(model: Model, precision: Precision = FULL) -> int:
    """Bytes of the model's file."""
    with tempfile.TemporaryDirectory() as folder:
        save(model, Path(folder) / "a.nf", half=precision.half, bits=precision.bits)
        return (Path(folder) / "a.nf").stat().st_size


def steps_for(field: str, steps: int) -> int:
    """Steps of an architecture, as teacher or as student."""
    return round(steps / field_class(field).BATCH)


def pairs(given: argparse.Namespace) -> None:
    """Every ordered pair by the product's own recipe, the same number of steps for all students."""
    scene, downscale = scene_of(given.scene, given.data)
    command = f"python benchmarks/convert.py pairs --scene {given.scene} --steps {given.steps}"
    table = f"convert_pairs_{given.scene}_{given.steps}"
    if given.set:
        command += " --set " + " ".join(given.set)
        table += "_" + "_".join(given.set).replace("=", "")
    rows = kept(table, command)
    for name in given.teachers:
        done = {r["to"] for r in rows if r["from"] == name} | {name}
        todo = [other for other in given.fields if other not in done]
        if not todo:
            continue
        teacher = teacher_of(name, scene, downscale, given)
        before = evaluate(teacher, scene)
        for other in todo:
            student = student_of(teacher, other, given.steps, 0, Recipe(), tuple(given.set))
            after = evaluate(student, scene)
            rows.append(
                row(
                    command,
                    **{"from": name, "to": other},
                    teacher_psnr=round(before.psnr, 2),
                    student_psnr=round(after.psnr, 2),
                    difference=round(after.psnr - before.psnr, 2),
                    worst_view=round(after.worst.psnr - before.worst.psnr, 2),
                    teacher_steps=teacher.made["steps"],
                    steps=student.made["steps"],
                    seconds=round(student.made["seconds"], 1),
                    bytes_before=size(teacher),
                    bytes_after=size(student),
                )
            )
            print(name, "->", other, rows[-1]["difference"], flush=True)
            write(table, f"Conversion between all pairs in {given.steps} steps, {given.scene}", rows)


def sizes(given: argparse.Namespace) -> None:
    """A hash teacher to each field by the defaults of `nf convert`: size and steps follow the pictures."""
    scene, downscale = scene_of(given.scene, given.data)
    command = f"python benchmarks/convert.py sizes --scene {given.scene} --teacher-steps {given.teacher_steps}"
    table = "convert_sizes"
    others = [r for r in kept(table, None) if r["command"] != command]
    rows = kept(table, command)
    teacher = teacher_of("hash", scene, downscale, given)
    before = evaluate(teacher, scene)
    for name in given.fields:
        if name == "hash" or any(r["to"] == name for r in rows):
            continue
        options = ConvertOptions(Path("teacher.nf"), to=name, quiet=True, eval_every=0)
        begun = time.process_time()
        student, precision = convert(teacher, options)
        spent = time.process_time() - begun
        after = evaluate(student, scene)
        figures = {"scene": given.scene, "to": name, "teacher_psnr": round(before.psnr, 2)}
        figures |= {"student_psnr": round(after.psnr, 2), "difference": round(after.psnr - before.psnr, 2)}
        figures |= {"worst_view": round(after.worst.psnr - before.worst.psnr, 2), "steps": student.made["steps"]}
        figures |= {"seconds": round(student.made["seconds"], 1), "processor_seconds": round(spent)}
        rows.append(row(command, **figures, threads=torch.get_num_threads(), bytes_after=size(student, precision)))
        print(name, rows[-1]["difference"], flush=True)
        write(table, "Conversion by the defaults, from a hash field of pictures of several sizes", others + rows)


def reached(curve: list[tuple[float, float]], wanted: float) -> float | None:
    """The first time at which a curve of (seconds, PSNR) is at that PSNR."""
    return next((seconds for seconds, value in curve if value >= wanted), None)


def curve_of(trainer: Any, model: Model, scene: Scene, steps: int, validations: int) -> list[tuple[float, float]]:
    """Training curve: seconds and held-out PSNR against the photos; the time of validation is left out."""
    points, spent = [], 0.0
    for step in range(steps):
        start = time.perf_counter()
        trainer.step(step / steps)
        spent += time.perf_counter() - start
        if (step + 1) % max(1, steps // validations) == 0:
            now = replace(model, field=trainer.field, occupancy=trainer.volume.occupancy)
            points.append((spent, evaluate(now, scene).psnr))
            print(f"  {spent:7.1f} s  {points[-1][1]:.2f} dB", flush=True)
    return points


def from_photos(field: str, scene: Scene, downscale: int) -> RadianceTrainer:
    """The training of `nf fit` before its first step."""
    loaded = load_frames(scene, scene.train, downscale)
    pictures = [torch.from_numpy(photo_over(image, (0.5, 0.5, 0.5))) for image in loaded.images[:10]]
    kind = field_class(field)
    made = make_field(kind, kind.Config(), RADIANCE, 0, pictures)
    colour = (1.0, 1.0, 1.0) if scene.has_alpha else (0.0, 0.0, 0.0)
    pixels = Pixels(loaded.images, loaded.cameras, loaded.masks)
    training = RadianceTrainer(made, scene.bounds, pixels, Background(colour, True), 0)
    training.occupancy.hide_unseen(loaded.cameras, scene.bounds.centre, scene.bounds.side)
    return training


def speed(given: argparse.Namespace) -> None:
    """An mlp from the photos and two from a hash teacher, one after the other in one process: one of as many steps, and
    one of as many as go into a fifth of the time in which the first is best.
    """
    scene, downscale = scene_of(given.scene, given.data)
    command = f"python benchmarks/convert.py speed --scene {given.scene} --steps {given.steps}"
    teacher = teacher_of("hash", scene, downscale, given)
    training = from_photos("mlp", scene, downscale)
    model = replace(teacher, field=training.field)
    print("from the photos", flush=True)
    scratch = curve_of(training, model, scene, steps_for("mlp", given.steps), 10)
    options = ConvertOptions(Path("teacher.nf"), to="mlp", quiet=True)
    print("from the teacher", flush=True)
    taught = curve_of(new_distillation(teacher, options, Recipe())[0], model, scene, steps_for("mlp", given.steps), 20)
    goal = max(value for _, value in scratch)
    first, again = reached(scratch, goal), reached(taught, goal)
    print("from the teacher, in a fifth of that time", flush=True)
    fifth = max(1, round(steps_for("mlp", given.steps) * first / 5 / taught[-1][0]))
    short = curve_of(new_distillation(teacher, options, Recipe())[0], model, scene, fifth, 1)
    result = row(
        command,
        teacher_psnr=round(evaluate(teacher, scene).psnr, 2),
        teacher_seconds=teacher.made["seconds"],
        scratch_psnr=round(goal, 2),
        scratch_seconds=round(first, 1),
        student_reaches_it_after=None if again is None else round(again, 1),
        times_faster=None if again is None else round(first / again, 1),
        student_psnr=round(taught[-1][1], 2),
        student_seconds=round(taught[-1][0], 1),
        short_seconds=round(short[-1][0], 1),
        short_psnr=round(short[-1][1], 2),
        threads=torch.get_num_threads(),
    )
    print(result, flush=True)
    write(f"convert_speed_{given.scene}", "An mlp from photos and from a hash teacher, in one run", [result])


def compare(given: argparse.Namespace, claim: str, recipes: dict[str, Recipe], title: str) -> None:
    """hash to mlp (or --to another) by each recipe, with the same teacher and each seed."""
    scene, downscale = scene_of(given.scene, given.data)
    command = f"python benchmarks/convert.py {claim} --scene {given.scene} --steps {given.steps} --to {given.to}"
    table = f"convert_{claim}_{given.scene}_{given.to}"
    rows = kept(table, command)
    teacher = teacher_of("hash", scene, downscale, given)
    for seed in range(given.seeds):
        for name, recipe in recipes.items():
            if any((r["recipe"], r["seed"]) == (name, seed) for r in rows):
                continue
            steps, settings = steps_for(given.to, given.steps), SETTINGS.get(name, ())
            student = student_of(teacher, given.to, steps, seed, recipe, settings)
            report = evaluate(student, scene)
            rows.append(
                row(
                    command,
                    recipe=name,
                    seed=seed,
                    to=given.to,
                    teacher_psnr=round(evaluate(teacher, scene).psnr, 2),
                    psnr=round(report.psnr, 3),
                    worst_view=round(report.worst.psnr, 3),
                    seconds=round(student.made["seconds"], 1),
                )
            )
            print(name, seed, rows[-1]["psnr"], rows[-1]["worst_view"], flush=True)
            write(table, f"{title}, hash to {given.to}", rows)


def through(given: argparse.Namespace) -> None:
    """Two ways from photos to a coordinate network, of the same time."""
    scene, downscale = scene_of(given.scene, given.data)
    command = f"python benchmarks/convert.py through --scene {given.scene}"
    table = f"convert_through_{given.scene}"
    rows = kept(table, command)
    options = FitOptions(scene=scene.root, downscale=downscale, minutes=1.0, quiet=True, eval_every=0, field="hash")
    todo = [name for name in ("mlp", "cam") if sum(r["field"] == name for r in rows) < 2]
    teacher = fit_scene(scene, options) if todo else None
    for name in todo:
        rows = [r for r in rows if r["field"] != name]  # both ways anew: one teacher, one state of the machine
        budget = ConvertOptions(Path("teacher.nf"), to=name, quiet=True, eval_every=0), Recipe(), Budget(None, 60.0)
        models = {
            "from photos": fit_scene(scene, replace(options, field=name, minutes=2.0)),
            "through hash": convert(teacher, *budget)[0],
        }
        for way, model in models.items():
            report = evaluate(model, scene)
            figures = {"psnr": round(report.psnr, 2), "worst_view": round(report.worst.psnr, 2), "bytes": size(model)}
            figures |= {"steps": model.made["steps"], "teacher_psnr": round(evaluate(teacher, scene).psnr, 2)}
            rows.append(row(command, field=name, way=way, **figures))
            print(name, way, figures, flush=True)
            write(table, f"Coordinate networks in two minutes, from photos and through hash, {given.scene}", rows)


def main() -> None:
    """One part."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("part", choices=["pairs", "sizes", "speed", "active", "ablation", "through"])
    default = os.environ.get("NEURALFIELDS_DATA", FOLDER.parent.parent / "shared" / "data")
    parser.add_argument("--data", type=Path, default=Path(default))
    parser.add_argument("--scene", choices=list(SCENES), default="sample")
    parser.add_argument("--steps", type=int, default=1200)
    parser.add_argument("--teacher-steps", type=int, default=1000)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--to", default="mlp")
    parser.add_argument("--fields", nargs="+", default=list(FIELDS))
    parser.add_argument("--teachers", nargs="+", default=list(FIELDS))
    parser.add_argument("--set", nargs="+", default=[], help="pairs: settings of the students")
    parser.add_argument("--keep", type=Path, default=None)
    given = parser.parse_args()
    if given.part == "pairs":
        pairs(given)
    elif given.part == "sizes":
        sizes(given)
    elif given.part == "speed":
        speed(given)
    elif given.part == "through":
        through(given)
    elif given.part == "active":
        compare(given, "active", LEVELS, "Active learning in distillation")
    else:
        compare(given, "ablation", ABLATIONS, "What each part of the distillation is worth")


if __name__ == "__main__":
    main()
