"""Fits a field to a signal: an image, shape, video or sound (signals/signal.py).

batch of x, y -> field -> the signal's loss -> descend (trainer.py)
"""

from dataclasses import replace

import msgspec

from neuralfields.errors import UsageError
from neuralfields.fields import field_class, make_field
from neuralfields.fields.field import Field
from neuralfields.models.model import Model
from neuralfields.models.record import provenance, throughput
from neuralfields.options import training as training_options
from neuralfields.options.training import TrainingSettings
from neuralfields.progress import Progress
from neuralfields.settings import flag
from neuralfields.signals.signal import Signal
from neuralfields.trainers.trainer import StepReport, Trainer
from neuralfields.training.loop import Loop, checkpoint_identity, run_with_checkpoint
from neuralfields.training.plan import FitPlan, input_record

OF_PHOTOS = ("refine_poses", "exposure", "appearance", "robust", "sparse_depth", "masks")


def fit_signal(signal: Signal, plan: FitPlan, progress: Progress) -> Model:
    """Fits a field to a signal and evaluates it; raises as `fit_photos`."""
    options = plan.options
    if options.view:
        raise UsageError(f"--view shows scenes; {options.scene} is a field of {signal.domain.kind}: leave it out")
    of_photos = [name for name in OF_PHOTOS if getattr(options, name)]
    if of_photos:
        raise UsageError(f"{flag(of_photos[0])} is for photos; {options.scene} is a field of {signal.domain.kind}")
    if options.device == "cuda":
        raise UsageError(f"--device cuda: signals ({signal.domain.kind}) are fitted on the CPU; use --device cpu")
    field = make_field(field_class(options.field), plan.config, signal.domain, options.seed, signal.targets())
    training = SignalTrainer(field, signal, options.seed, plan.settings)
    held_out = signal.held_out(field) is not None
    validate = (lambda: signal.held_out(field)) if held_out else None
    loop = Loop(training, plan.budget, options, progress, validate)
    identity = checkpoint_identity(options, plan.config, plan.settings, {"signal": signal.fingerprint()})
    views = signal.views()

    def standing() -> Model:
        return Model(
            field=training.field,
            bounds=signal.bounds,
            cameras=views,
            held_out=(0,) if views else (),
            camera_names=tuple(f"view {index:02d}" for index in range(len(views))),
            made=provenance(options.field, training.step_count, loop.seconds, options.seed)
            | input_record(options)
            | {"downscale": options.downscale},
            signal=msgspec.to_builtins(signal.facts),
        )

    run_with_checkpoint(loop, options, identity, standing)
    for line in training.remarks():
        progress.note(f"warning: {line}")
    return replace(standing(), metrics=signal.measure(field) | throughput(loop.samples, loop.seconds))


class SignalTrainer(Trainer):
    """Trainer of a field on a signal, without further state."""

    def __init__(self, field: Field, signal: Signal, seed: int, settings: TrainingSettings | None = None) -> None:
        super().__init__(field, seed)
        self.settings = settings or training_options.DEFAULT
        self.signal = signal

    def step(self, progress: float) -> StepReport:
        """Takes a training step; `progress` of the fit in [0, 1] sets learning rate and coarse-to-fine stage."""
        self.advance(progress)
        x, y = self.signal.batch(round(self.settings.signal_samples * self.field.SIGNAL_BATCH), self.generator())
        loss = self.signal.loss(self.field.values(self.field.features(x)), y).mean()
        report = StepReport(len(x), len(x), float(loss.detach()))
        self.descend(loss, progress)
        return report
