"""Which field learns from the photos in place of the one that a fit is to make, and teaches it then."""

import os

from neuralfields.domain import Domain
from neuralfields.fields import field_class
from neuralfields.models.checkpoint_file import read_state
from neuralfields.models.nf_file import load
from neuralfields.options.fit import FitOptions
from neuralfields.training.checkpoint import Checkpoint
from neuralfields.training.plan import SHORTEST_FIT, FitPlan

TAUGHT_BY = "taught_by"  # in a model's record


def teacher_of(plan: FitPlan, domain: Domain) -> str | None:
    """The teacher's name; None where the field learns from the photos itself, as in a short fit.

    A fit that goes on has the one that it began with.
    """
    options, teacher = plan.options, field_class(plan.options.field).taught_by(domain)
    if teacher is None or not plan.settings.teacher_share:
        return None
    begun = _begun_with_teacher(options) if options.resume else None
    if begun is None:
        begun = not plan.budget.shorter_than(SHORTEST_FIT)
    return teacher if begun else None


def _begun_with_teacher(options: FitOptions) -> bool | None:
    """Whether the fit to go on with had a teacher; None of none."""
    if options.out is None:
        return None
    path = Checkpoint.beside(options.out, {}).path
    if os.path.lexists(path):
        return any(name.startswith("teacher.") for name in read_state(path).counters)
    return TAUGHT_BY in load(options.out).made if options.out.exists() else None
