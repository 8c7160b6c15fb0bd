"""Converts a model to another architecture by distillation, without the photos (trainers/distil.py).

  model -> teacher volume -> student of the target's Config -> Distillation -> model of the target, with its lineage

Vocabulary
  teacher   the model to convert;  student   the model that it becomes
  views     cameras of validation: the held-out ones of the file, or sampled ones where it has none
"""

import math
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch

from neuralfields.cameras import Camera
from neuralfields.captures.readers import read_scene
from neuralfields.codecs import load_any
from neuralfields.codecs.splats import SPLAT_FORMATS, write_gaussians
from neuralfields.distillation.boxes import Edit
from neuralfields.distillation.pictures import student_by_pictures
from neuralfields.errors import InputError, UsageError
from neuralfields.evaluation.quick import TeacherValidation, mean_psnr
from neuralfields.fields import field_class, field_name, make_field
from neuralfields.fields.field import Field
from neuralfields.fields.gaussians import GaussianField
from neuralfields.files import OutputLock, check_writable, companion, parse_size, size_text
from neuralfields.gpu.device import use_machine
from neuralfields.models.model import Model, volume_of
from neuralfields.models.nf_file import save
from neuralfields.models.quantise import round_parameters
from neuralfields.models.record import provenance, throughput
from neuralfields.options.models import ConvertOptions
from neuralfields.pictures.panels import comparison, save_image
from neuralfields.progress import Progress
from neuralfields.rendering.in_time import Still
from neuralfields.rendering.renderable import Renderable
from neuralfields.rendering.splat import Splats
from neuralfields.rendering.splat_sequence import SequenceField
from neuralfields.rendering.volume import Volume
from neuralfields.scene import Scene
from neuralfields.settings import parse_settings
from neuralfields.trainers.distil import Distillation, Recipe
from neuralfields.trainers.picture_size import picture_side, settings_for, steps_for
from neuralfields.trainers.radiance import RadianceTrainer
from neuralfields.trainers.sampled_cameras import Viewpoints, ringed
from neuralfields.trainers.splats import SplatTrainer
from neuralfields.training.loop import Budget, Loop

VIEWS, VIEW_PIXELS = 8, 64 * 64  # of validation while it runs; the final comparison is at PICTURE_SIDE
PICTURE_SIDE = 400
SMALL = 2_000_000  # bytes of parameters: a larger student that is still small keeps to few bytes, its grids in half
Student = Distillation | SplatTrainer | RadianceTrainer


@dataclass(frozen=True)
class Precision:
    """Precision of the parameters in the file, as `nf_file.save` takes it."""

    half: bool = False
    bits: int = 32


def convert(
    teacher: Model,
    options: ConvertOptions,
    recipe: Recipe | None = None,
    budget: Budget | None = None,
    progress: Progress | None = None,
    scene: Scene | None = None,
    edit: Edit | None = None,
) -> tuple[Model, Precision]:
    """Distils a teacher into a student: the student as a Model, and the precision to store it in; nothing is written.

    A target with the teacher's architecture and Config starts as a copy; without an edit it is returned as it is.

    Raises UsageError for a model or a target that is no radiance field, and for a byte limit that no Config meets.
    """
    progress = progress or Progress(options.steps, None, quiet=True)
    begun = time.perf_counter()
    real = _cameras(scene and scene.about(teacher.bounds.origin))
    budget = budget or Budget.of(options, steps_of(teacher, options, real))
    if _same_gaussians(teacher, options):
        return _cut(teacher, options, edit), Precision(options.half, options.bits)
    distillation, precision, validate = new_distillation(teacher, options, recipe or Recipe(), real, edit, budget)
    student = distillation.field
    progress.note(
        f"{field_name(_whole(teacher.field))} -> {field_name(student)}, {size_text(student.bytes())} of parameters"
    )
    if "psnr" in teacher.metrics:
        had = f"the teacher had {teacher.metrics['psnr']:.2f} dB on held-out photos"
        progress.note(f"{had}; held-out, below, is the student against the teacher")
    loop = Loop(distillation, budget, options, progress, validate)
    loop.seconds = time.perf_counter() - begun
    if not isinstance(distillation, Distillation):
        progress.note("the student learns from the teacher's renders")
        loop.run(None)
        student = distillation.field
    else:
        for line in distillation.notes():
            progress.note(line)
        if edit is not None or not distillation.copied:
            loop.run(None)
            for line in distillation.remarks():
                progress.note(f"warning: {line}")
            progress.log_note(distillation.counts())
    if precision.bits == 8:
        round_parameters(student)  # the comparison is of the stored values
    return _model(teacher, distillation, loop, options), precision


def new_distillation(
    teacher: Model,
    options: ConvertOptions,
    recipe: Recipe,
    real: Sequence[Camera] = (),
    edit: Edit | None = None,
    budget: Budget | None = None,
) -> tuple[Student, Precision, TeacherValidation]:
    """Makes the distillation before its first step, the precision of the student, and its validation.

    `real`: cameras of a capture.
    """
    if not teacher.is_scene:
        raise UsageError(f"{options.model}: is a field of kind {teacher.field.domain.kind}; only scenes are converted")
    _require_time(teacher, options)
    source, real = _edited(teacher, edit), list(real)
    viewpoints = Viewpoints(_known_cameras(teacher, real), teacher.bounds)
    views = _views(teacher, viewpoints, VIEW_PIXELS)
    pictures = [source.render(view, teacher.background).rgb for view in views]
    side = picture_side(viewpoints.cameras)
    student, precision = _student(teacher, options, [picture.cpu() for picture in pictures], side)
    student = student.to(source.device)
    if isinstance(source, Volume) and not isinstance(student, GaussianField):
        distillation = Distillation(student, source, viewpoints, recipe, options.seed, real)
    else:
        seconds = None if budget is None else budget.seconds
        distillation = student_by_pictures(student, source, teacher, viewpoints, real, options.seed, seconds)
    distillation.bits = precision.bits
    return distillation, precision, TeacherValidation(distillation, views, pictures, teacher.background)


def _require_time(teacher: Model, options: ConvertOptions) -> None:
    """Refuses to convert a scene that moves to what stands still, but for one of its times."""
    to = options.to or field_name(_whole(teacher.field))
    if teacher.bounds.times is not None and not field_class(to).MOVES:
        span = "{:g} to {:g}".format(*teacher.bounds.times)
        raise UsageError(f"{options.model}: moves, --to {to} stands still; name one time with --time, from {span}")


def _whole(field: Field) -> Field:
    """A field as it was fitted, of one that is held at a time."""
    return field.moving if isinstance(field, Still) else field


def _at_time(teacher: Model, options: ConvertOptions) -> Model:
    """The teacher at the time of --time, if that is given. Raises UsageError for a scene that stands still."""
    if options.time is None:
        return teacher
    if teacher.bounds.times is None:
        raise UsageError(f"--time {options.time:g}: {options.model} stands still; leave --time out")
    return teacher.at(options.time)


def _known_cameras(teacher: Model, real: list[Camera]) -> list[Camera]:
    """Cameras to sample viewpoints like: the model's, the capture's, or rings round a splat file, which has none."""
    given = list(teacher.cameras or real)
    return given or (ringed(teacher.bounds) if isinstance(teacher.field, GaussianField | SequenceField) else [])


def _cameras(scene: Scene | None) -> list[Camera]:
    return [] if scene is None else [scene.frames[index].camera for index in scene.train]


def _views(model: Model, viewpoints: Viewpoints, pixels: int) -> list[Camera]:
    """Cameras of validation, of about `pixels` pixels each."""
    chosen = [model.cameras[index] for index in model.held_out]
    if len(chosen) > VIEWS:
        chosen = [chosen[i] for i in np.linspace(0, len(chosen) - 1, VIEWS).round().astype(int)]
    chosen = chosen or viewpoints.draw(VIEWS, np.random.default_rng(0))
    shrink = [min(1.0, math.sqrt(pixels / (camera.width * camera.height))) for camera in chosen]
    sizes = [(max(1, round(c.width * s)), max(1, round(c.height * s))) for c, s in zip(chosen, shrink, strict=True)]
    return [camera.resized(*size) for camera, size in zip(chosen, sizes, strict=True)]


def steps_of(teacher: Model, options: ConvertOptions, real: list[Camera]) -> int:
    """Steps of a conversion that is given none; `real`: cameras of a capture."""
    kind = field_class(options.to or field_name(_whole(teacher.field)))
    return steps_for(kind, picture_side(_known_cameras(teacher, real)))


def _student(
    teacher: Model, options: ConvertOptions, pictures: list[torch.Tensor], side: float
) -> tuple[Field, Precision]:
    """Makes the student: with the teacher's Config for the same architecture, unless settings are given; else of the
    size for pictures of that `side`.
    """
    name = options.to or field_name(_whole(teacher.field))
    kind = field_class(name)
    stored = Precision(options.half, options.bits)
    seed, domain = options.seed, teacher.field.domain
    if kind.PHOTOS:
        raise UsageError(f"--to {name}: its colours are read from photos, which a model has not; fit the capture")
    if options.max_bytes is not None:
        return _sized(teacher, options, kind, pictures)
    if type(teacher.field) is kind and not options.set:  # a subclass is another architecture
        return make_field(kind, teacher.field.config, domain, seed, pictures, True), stored
    finer = settings_for(kind, side)
    config = kind.placed(parse_settings(options.set, kind.Config(**finer)), teacher.bounds)
    field = make_field(kind, config, domain, seed, pictures, True)
    return field, replace(stored, half=stored.half or (stored.bits == 32 and bool(finer) and field.bytes() < SMALL))


def _sized(
    teacher: Model, options: ConvertOptions, kind: type[Field], pictures: list[torch.Tensor]
) -> tuple[Field, Precision]:
    """Makes the largest student of the architecture's sizes whose file is within --max-bytes, by trial."""
    most, smallest = parse_size(options.max_bytes), math.inf
    base = kind.placed(parse_settings(options.set, kind.Config), teacher.bounds)
    precision = Precision(bits=8)
    with TemporaryDirectory() as folder:
        for size in reversed(kind.SIZES or ({},)):
            field = make_field(kind, replace(base, **size), teacher.field.domain, options.seed, pictures, True)
            path = Path(folder) / "trial.nf"
            save(replace(teacher, field=field), path, half=precision.half, bits=precision.bits)
            smallest = min(smallest, path.stat().st_size)
            if smallest <= most:
                return field, precision
    raise UsageError(
        f"--max-bytes {options.max_bytes}: the smallest {field_name(kind)} takes {size_text(smallest)}; give more, or"
        " another field with --to"
    )


def _model(teacher: Model, distillation: Student, loop: Loop, options: ConvertOptions) -> Model:
    field = field_name(distillation.field)
    made = teacher.made | provenance(field, distillation.step_count, loop.seconds, options.seed)
    volume = distillation.volume
    return replace(
        teacher,
        field=distillation.field,
        occupancy=volume.occupancy if isinstance(volume, Volume) else None,
        made=made,
        metrics=throughput(loop.samples, loop.seconds),
        lineage=_lineage(teacher),
    )


def _lineage(teacher: Model) -> list[dict[str, Any]]:
    """The teacher and what it was converted from."""
    origin = {
        "field": field_name(_whole(teacher.field)),
        "config": {} if teacher.field.config is None else asdict(teacher.field.config),
        "made": teacher.made,
        "metrics": teacher.metrics,
    }
    return [origin, *teacher.lineage]


def _edited(teacher: Model, edit: Edit | None) -> Renderable:
    """What the teacher shows, after an edit."""
    if isinstance(teacher.field, GaussianField):
        gaussians = teacher.field.gaussians()
        return Splats(gaussians if edit is None else edit.gaussians(gaussians), teacher.bounds)
    if isinstance(teacher.field, SequenceField):
        if edit is not None:
            raise UsageError("a sequence of splats has no boxes; make a model of it first: nf convert --to gaussians")
        return teacher.renderable()
    return volume_of(teacher) if edit is None else edit.volume(volume_of(teacher))


def _same_gaussians(teacher: Model, options: ConvertOptions) -> bool:
    """Whether Gaussians stay as they are, or are cut, without a distillation."""
    kind = field_class(options.to or field_name(_whole(teacher.field)))
    return isinstance(teacher.field, GaussianField) and kind is GaussianField and not (options.set or options.max_bytes)


def _cut(teacher: Model, options: ConvertOptions, edit: Edit | None) -> Model:
    """Gaussians after an edit, as they are."""
    gaussians = teacher.field.gaussians()
    if edit is not None:
        gaussians = edit.gaussians(gaussians)
        if not len(gaussians):
            raise UsageError(f"{options.model}: the boxes leave none of its {len(teacher.field.means)} Gaussians")
    made = teacher.made | provenance(field_name(teacher.field), 0, 0.0, options.seed)
    return replace(teacher, field=GaussianField.of(gaussians), made=made, metrics={}, lineage=_lineage(teacher))


def compare(
    teacher: Model, student: Model, picture: Path | None = None, edit: Edit | None = None, called: str = "teacher"
) -> dict[str, Any]:
    """PSNR of the student's renders against the teacher's, mean and worst view; `picture`: file for the worst view.

    It shows the teacher, as what it is `called`, beside the student, and the error between them.
    """
    cameras = _known_cameras(teacher, []) or ringed(teacher.bounds)
    views = _views(teacher, Viewpoints(cameras, teacher.bounds), PICTURE_SIDE**2)
    mine, theirs = student.renderable(), _edited(teacher, edit)
    wanted = [theirs.render(view, teacher.background).rgb for view in views]
    mean, each = mean_psnr(mine, views, wanted, teacher.background)
    worst = int(np.argmin(each))
    if picture is not None:
        rgb = mine.render(views[worst], teacher.background).rgb.cpu()
        title = f"{called}: {field_name(_whole(teacher.field))}, the worst of {len(views)} views"
        note = f"{field_name(student.field)}, {min(each):.2f} dB"
        save_image(picture, comparison(wanted[worst].cpu(), rgb, title, note))
    return {"psnr_against_teacher": mean, "worst_view_against_teacher": min(each), "views": len(views)}


FLOOR = 20.0  # dB against the teacher below which nothing is written without --force


def convert_to_file(options: ConvertOptions, edit: Edit | None = None, teacher: Model | None = None) -> dict[str, Any]:
    """Loads a teacher, distils it, compares both and saves the student; a report as plain data (see report.py).

    `teacher`: in place of what is in the file `options.model`.
    """
    if options.out is None:
        options = replace(options, out=Path(f"{options.model.stem}-{options.to or 'again'}.nf"))
    device = use_machine(options.device, options.threads)
    recipe = parse_settings(options.recipe, Recipe, "--recipe")
    check_writable(options.out, options.overwrite)
    picture = options.out.with_suffix(".png")
    check_writable(picture, options.overwrite)
    scene = None if options.scene is None else read_scene(options.scene, options.format, options.allow_outside)
    teacher = _at_time(load_any(options.model, device=device), options) if teacher is None else teacher
    real = _cameras(scene and scene.about(teacher.bounds.origin))
    budget = Budget.of(options, steps_of(teacher, options, real))
    progress = Progress(budget.steps, budget.seconds, companion(options.out, ".log.jsonl"), options.quiet)
    with OutputLock(options.out), progress:
        student, precision = convert(teacher, options, recipe, budget, progress, scene, edit)
        result = compare(teacher, student, picture, edit)
        if not result["psnr_against_teacher"] >= FLOOR and not options.force:
            raise InputError(
                f"{options.out}: not written, its renders have only {result['psnr_against_teacher']:.1f} dB against"
                f" the teacher's; give it more --minutes, a larger --set ..., or write it all the same with --force"
            )
        student.metrics["psnr_against_teacher"] = result["psnr_against_teacher"]
        if scene is not None:
            result |= compare_with_photos(teacher, student, scene)
        write_model(student, options.out, precision)
    before, after = options.model.stat().st_size, options.out.stat().st_size
    if options.max_bytes is not None and after > parse_size(options.max_bytes):
        progress.note(f"{options.out} has {size_text(after)}, more than --max-bytes {options.max_bytes}")
    return {
        "path": str(options.out),
        "from": field_name(_whole(teacher.field)),
        "to": field_name(student.field),
        "seconds": student.made["seconds"],
        "steps": student.made["steps"],
        "bytes_before": before,
        "bytes_after": after,
        **result,
        "picture": str(picture),
    }


def write_model(student: Model, out: Path, precision: Precision) -> None:
    """The model file; Gaussians also as a splat file, where `out` is named as one."""
    if isinstance(student.field, GaussianField) and out.name.lower().endswith(tuple(SPLAT_FORMATS)):
        write_gaussians(student.field.gaussians(), out)
    else:
        save(student, out, half=precision.half, bits=precision.bits)


def convert_model(options: ConvertOptions, teacher: Model | None = None, edit: Edit | None = None) -> Model:
    """Converts the file `options.model`, or a loaded teacher; returns the student and writes it to `out` if given.

    Its metrics hold `psnr_against_teacher` in dB. Raises as `convert`, and as reading and writing do.
    """
    device, recipe = use_machine(options.device, options.threads), parse_settings(options.recipe, Recipe, "--recipe")
    if options.out is not None:
        check_writable(options.out, options.overwrite)
    scene = None if options.scene is None else read_scene(options.scene, options.format, options.allow_outside)
    teacher = _at_time(load_any(options.model, device=device) if teacher is None else teacher, options)
    student, precision = convert(teacher, options, recipe, scene=scene, edit=edit)
    student.metrics["psnr_against_teacher"] = compare(teacher, student, edit=edit)["psnr_against_teacher"]
    if options.out is not None:
        write_model(student, options.out, precision)
    return student


def compare_with_photos(teacher: Model, student: Model, scene: Scene) -> dict[str, float]:
    """PSNR of teacher and student on the held-out photos of a scene, in dB."""
    from neuralfields.evaluation.evaluate import evaluate

    return {
        "teacher_psnr": evaluate(teacher, scene).psnr,
        "student_psnr": evaluate(student, scene).psnr,
    }
