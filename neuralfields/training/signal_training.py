"""One training step of a field on a signal.

batch of x, y -> field -> the signal's loss -> descend (training/trainer.py)
"""

from neuralfields.fields.field import Field
from neuralfields.signals.signal import Signal
from neuralfields.training.trainer import StepReport, Trainer

SAMPLES = 1 << 14  # on Kodak 23 the same pixels in twice as many steps: 2.6 dB more after 4 million
STEPS = 3000  # where neither steps nor minutes are asked for; of smaller steps as many more


def steps_of(kind: type[Field]) -> int:
    """Steps of a fit where neither steps nor minutes are asked for: as many samples, whatever a step takes."""
    return round(STEPS / kind.SIGNAL_BATCH)


class SignalTraining(Trainer):
    """A field being fitted to a signal: nothing but the trainer's state decides the next step."""

    def __init__(self, field: Field, signal: Signal, seed: int) -> None:
        super().__init__(field, seed)
        self.signal = signal

    def step(self, progress: float) -> StepReport:
        """One step; `progress` in [0, 1] says how far the fit is, for the learning rate and the growth."""
        self.advance(progress)
        x, y = self.signal.batch(round(SAMPLES * self.field.SIGNAL_BATCH), self.generator())
        loss = self.signal.loss(self.field.values(self.field.features(x)), y).mean()
        report = StepReport(len(x), len(x), float(loss.detach()))
        self.descend(loss, progress)
        return report
