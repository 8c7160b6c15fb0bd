"""A field fitted to a signal (signals/signal.py): signal -> steps (training/signal_training.py) -> model."""

from typing import Any

import msgspec

from neuralfields.errors import UsageError
from neuralfields.fields import field_class
from neuralfields.models.model import Model
from neuralfields.options.fit import FitOptions
from neuralfields.progress import Progress
from neuralfields.settings import flag
from neuralfields.signals.signal import Signal
from neuralfields.training.fitting import description, make_field, rate, record, run_loop
from neuralfields.training.loop import Budget, Loop
from neuralfields.training.signal_training import SignalTraining, steps_of

OF_PHOTOS = ("refine_poses", "exposure", "robust", "sparse_depth", "masks")


def fit_signal(signal: Signal, options: FitOptions, config: Any, progress: Progress) -> Model:
    """Fits a field of that Config to a signal and measures it; errors as in `fit_photos`."""
    if options.view:
        raise UsageError(f"--view shows scenes; {options.scene} is a field of {signal.domain.kind}: leave it out")
    of_photos = [name for name in OF_PHOTOS if getattr(options, name)]
    if of_photos:
        raise UsageError(f"{flag(of_photos[0])} is for photos; {options.scene} is a field of {signal.domain.kind}")
    if options.device == "cuda":
        raise UsageError(f"--device cuda: signals ({signal.domain.kind}) are fitted on the CPU; use --device cpu")
    field = make_field(field_class(options.field), config, signal.domain, options.seed, signal.targets())
    training = SignalTraining(field, signal, options.seed)
    held_out = signal.held_out(field) is not None
    look = (lambda: signal.held_out(field)) if held_out else None
    loop = Loop(training, Budget.of(options, steps_of(type(field))), options, progress, look)
    run_loop(loop, options, description(options, config, "signal", signal.fingerprint()))
    views = signal.views()
    return Model(
        field=training.field,
        bounds=signal.bounds,
        cameras=views,
        held_out=(0,) if views else (),
        camera_names=tuple(f"view {index:02d}" for index in range(len(views))),
        made=record(options, training, loop) | {"downscale": options.downscale},
        metrics=signal.measure(field) | rate(loop),
        signal=msgspec.to_builtins(signal.facts),
    )
