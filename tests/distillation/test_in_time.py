"""Conversions of a scene that moves: between fields in time, and of one time to a field that stands still."""

from dataclasses import replace

import numpy as np
import pytest

from neuralfields.distillation.convert import convert
from neuralfields.errors import UsageError
from neuralfields.models.model import Model
from neuralfields.options.models import ConvertOptions, ExportOptions
from neuralfields.verbs.export import run as export
from tests.support.moving import moving_file_path, moving_model

pytestmark = pytest.mark.usefixtures("small_steps", "small_distillation")
SMALL = ("levels=6", "table=12", "finest=128", "hidden=32")


@pytest.fixture(scope="module")
def teacher() -> Model:
    return moving_model()


def difference(one: Model, two: Model, time: float, other: float) -> float:
    camera = two.cameras[2].resized(24, 24)
    seen = [m.renderable().render(replace(camera, time=t), (1, 1, 1)).rgb for m, t in ((one, time), (two, other))]
    return float((seen[0] - seen[1]).abs().mean())


@pytest.mark.slow
def test_to_another_field_in_time(teacher):
    """After some steps the student is nearer to the teacher at the same time than to itself at another."""
    options = ConvertOptions(model=moving_file_path(), to="hash", steps=80, set=SMALL, quiet=True, eval_every=0)
    student, _ = convert(teacher, options)
    assert student.field.domain.dimensions == 4 and student.bounds.times == (0.0, 1.0)
    same = np.mean([difference(student, teacher, t, t) for t in (0.1, 0.5, 0.9)])
    other = np.mean([difference(student, teacher, t, (t + 0.45) % 1) for t in (0.1, 0.5, 0.9)])
    assert same < 0.9 * other


def test_one_time_becomes_a_still_field(teacher):
    options = ConvertOptions(model=moving_file_path(), to="hash", steps=30, set=SMALL, quiet=True, eval_every=0)
    student, _ = convert(teacher.at(0.5), options)
    assert student.field.domain.dimensions == 3 and student.bounds.times is None
    assert all(camera.time is None for camera in student.cameras) and student.lineage[0]["field"] == "kplanes"
    assert difference(student, teacher, 0.5, 0.5) < difference(student, teacher, 0.5, 0.0)


def test_what_stands_still_needs_a_time(teacher):
    options = ConvertOptions(model=moving_file_path(), to="voxels", steps=1, quiet=True)
    with pytest.raises(UsageError, match="moves, --to voxels stands still; name one time with --time, from 0 to 1"):
        convert(teacher, options)


def test_a_mesh_of_each_time(teacher, tmp_path):
    def vertices(time: float | None) -> bytes:
        out = tmp_path / f"{time}.obj"
        export(ExportOptions(model=moving_file_path(), out=out, resolution=24, threshold=5.0, time=time, quiet=True))
        return out.read_bytes()

    assert vertices(None) == vertices(0.0) != vertices(0.6)
