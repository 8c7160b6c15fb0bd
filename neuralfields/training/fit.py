"""Fits a field: a posed capture or a signal in, a fitted model out.

  scene -> does anything move (stillness.py) -> pixels -> steps (radiance.py) -> model, with checkpoints and validation
  signal          -> steps (signals.py)  -> model

Reproducible: a fit of a given number of steps depends on capture, options, seed and thread count alone; interrupted and
resumed it ends in the same bits. A fit of a given time follows the clock.
"""

from neuralfields import ranks
from neuralfields.fields import GAUSSIANS
from neuralfields.files import OutputLock, check_writable
from neuralfields.models.model import Model
from neuralfields.models.nf_file import save
from neuralfields.ops import backend
from neuralfields.options.fit import FitOptions
from neuralfields.progress import Progress
from neuralfields.scene import Scene
from neuralfields.signals.signal import Signal
from neuralfields.training.checkpoint import Checkpoint
from neuralfields.training.photos import fit_photos
from neuralfields.training.plan import FitPlan, WatchFit, plan_fit
from neuralfields.training.signals import fit_signal
from neuralfields.training.splat_fit import fit_gaussians
from neuralfields.training.stillness import settled


def fit_scene(
    source: Scene | Signal, options: FitOptions, progress: Progress | None = None, watch: WatchFit | None = None
) -> Model:
    """Plans and runs a fit to a scene or a signal; see `run_plan`."""
    return run_plan(plan_fit(options, source), progress, watch)


def run_plan(plan: FitPlan, progress: Progress | None = None, watch: WatchFit | None = None) -> Model:
    """Runs a planned fit; writes nothing but checkpoints beside the plan's output, if it has one.

    `watch` attaches a live viewer to the loop. Raises UsageError where an interrupted fit's checkpoint would be lost,
    InputError for pixels that cannot be used, InterruptedFit after SIGINT or SIGTERM (checkpoint written).
    """
    options, source = plan.options, plan.source
    _require_free(options)
    progress = progress or Progress(plan.budget.steps, None, quiet=True)
    progress.note(plan.summary())
    for line in source.warnings:
        progress.note(line)
    if isinstance(source, Signal):
        with backend.using(options.backend, options.marcher, "cpu"):
            return fit_signal(source, plan, progress)
    with backend.using(options.backend, options.marcher, plan.device.type):
        plan = settled(plan, progress)
        options, source = plan.options, plan.source
        fit = fit_gaussians if options.field == GAUSSIANS else fit_photos
        return fit(source, plan, progress, watch)


def _require_free(options: FitOptions) -> None:
    """Refuses a fit that would start anew where another was interrupted."""
    if options.out is not None and not options.resume:
        Checkpoint.beside(options.out, {}).require_free(options.overwrite)


def fit_to_file(plan: FitPlan, progress: Progress | None = None, watch: WatchFit | None = None) -> Model:
    """Runs a planned fit and writes the model to the plan's output, which is locked meanwhile."""
    options = plan.options
    progress = progress or Progress(plan.budget.steps, None, quiet=True)
    if ranks.rank():
        return run_plan(plan, progress, watch)
    check_writable(options.out, options.overwrite or options.resume)
    _require_free(options)
    with OutputLock(options.out):
        with progress:
            model = run_plan(plan, progress, watch)
        save(model, options.out, options.half, options.bits, full_record=options.record == "full")
        Checkpoint.beside(options.out, {}).remove()
    return model
