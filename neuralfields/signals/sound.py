"""A sound (audio) as a signal of time: amplitudes in [-1, 1], and writing of its field as a WAV file.

A quiet recording is normalised to full scale: `gain` is its largest amplitude, by which it was divided.
"""

import io
import math
import wave
from pathlib import Path
from typing import Annotated

import msgspec
import numpy as np
import torch
from torch import Tensor

from neuralfields.domain import Domain
from neuralfields.errors import InputError
from neuralfields.fields.field import Field, values_at
from neuralfields.media import import_av, open_av
from neuralfields.pictures.metrics import psnr_from_mse
from neuralfields.signals.lattice import Lattice, centres

MOST_SAMPLES = 1 << 28  # of all channels: 100 minutes of mono, 1 GB in memory
MOST_CHANNELS = 8
MOST_RATE = 1_000_000  # samples a second
CUTOFF, LOBES, BETA = 0.9, 16, 7.0  # of the low-pass filter of a lower rate: 70 dB
BLOCK = 2048  # samples resampled at a time


class SoundFacts(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Facts of a sound: samples of a channel, samples a second, and the largest amplitude."""

    samples: Annotated[int, msgspec.Meta(ge=1, le=MOST_SAMPLES)]
    rate: Annotated[int, msgspec.Meta(ge=1, le=MOST_RATE)]
    gain: Annotated[float, msgspec.Meta(gt=0)]


class SoundSignal(Lattice):
    """A sound: `values` [T, C] float32, the largest amplitude 1."""

    def targets(self) -> list[Tensor]:
        """The sound itself."""
        return [self.values]

    def measure(self, field: Field) -> dict[str, float]:
        """Signal-to-noise ratio in dB: mean square of the sound over mean square of the error, all channels pooled."""
        error = values_at(field, centres(self.domain.lengths, torch.arange(len(self)))).clamp(-1, 1) - self.values
        return {"snr": psnr_from_mse(float(error.double().square().mean() / self.values.double().square().mean()))}


def read_sound_signal(path: Path) -> SoundSignal:
    """Reads a sound file (WAV of any sample format, and all that PyAV decodes) as a signal.

    Raises InputError if it cannot be decoded, is silent, holds NaN or is too long; UsageError without av.
    """
    values, rate = _decode(path)
    if not np.isfinite(values).all():
        raise InputError(f"{path}: {int((~np.isfinite(values)).sum())} samples are not finite; export the sound again")
    gain = float(np.abs(values).max(initial=0.0))
    if gain == 0:
        raise InputError(f"{path}: is silent or empty; give a sound")
    samples, channels = values.shape
    domain = Domain("sound", 1, channels, (samples,))
    facts = SoundFacts(samples, rate, gain)
    return SoundSignal(path.stem, path, domain, facts, torch.from_numpy(values / np.float32(gain)))


def _decode(path: Path) -> tuple[np.ndarray, int]:
    """Decodes amplitudes [T, C] float32, and their rate."""
    av, parts, held = import_av(path), [], 0
    with open_av(path, "sound") as file:
        if not file.streams.audio:
            raise InputError(f"{path}: has no sound; give a sound file")
        stream = file.streams.audio[0]
        # PyAV hides what a stream without a decoder or a header does not state.
        rate, layout = getattr(stream, "rate", None), getattr(stream.codec_context, "layout", None)
        if not rate or not 0 < rate <= MOST_RATE or layout is None:
            raise InputError(f"{path}: states no sample rate from 1 to {MOST_RATE}; convert it to wav")
        channels = layout.nb_channels
        if channels > MOST_CHANNELS:
            raise InputError(f"{path}: has {channels} channels; at most {MOST_CHANNELS} are read")
        resampler = av.AudioResampler(format="fltp")
        for frame in file.decode(stream):
            for piece in resampler.resample(frame):
                parts.append(piece.to_ndarray())
                held += parts[-1].size
            if held > MOST_SAMPLES:
                raise InputError(f"{path}: has more than {MOST_SAMPLES} samples; give a shorter sound")
    if not parts:
        return np.zeros((0, 1), np.float32), 1
    return np.ascontiguousarray(np.concatenate(parts, axis=1).T, dtype=np.float32), rate


def amplitudes(field: Field, facts: SoundFacts, rate: int | None = None) -> np.ndarray:
    """Evaluates a field's sound [T, C] in [-1, 1] at its own sample rate or another; its length stays.

    For a lower rate the sound is low-pass filtered first: what is above half of that rate would fold into it.
    """
    count = facts.samples if rate is None else max(1, round(facts.samples * rate / facts.rate))
    dense = max(count, facts.samples)
    seen = values_at(field, centres((dense,), torch.arange(dense))).nan_to_num().clamp(-1, 1)
    return (resampled(seen * facts.gain, count)).clamp(-1, 1).numpy()


def resampled(values: Tensor, count: int) -> Tensor:
    """Samples a sound [T, C] at fewer places [count, C], evenly over the same time, without aliases.

    A sinc with a Kaiser window of `LOBES` lobes either side cuts off below the new Nyquist frequency, 70 dB down above.
    """
    length = len(values)
    if count >= length:
        return values
    share = CUTOFF * count / length  # of the old Nyquist frequency
    reach = math.ceil(LOBES / share)
    taps, parts = torch.arange(-reach, reach + 1), []
    for first in range(0, count, BLOCK):
        place = (torch.arange(first, min(first + BLOCK, count), dtype=torch.float64) + 0.5) * length / count - 0.5
        nearest = place.round().long()
        offset = (nearest - place)[:, None] + taps  # [count, taps], in old samples
        window = torch.special.i0(BETA * (1 - (offset / (reach + 0.5)).square()).clamp(min=0).sqrt())
        weights = torch.sinc(offset * share) * window
        weights = (weights / weights.sum(1, keepdim=True)).to(values.dtype)
        known = values[(nearest[:, None] + taps).clamp(0, length - 1)]
        parts.append(torch.einsum("nt,ntc->nc", weights, known))
    return torch.cat(parts)


def wav(values: np.ndarray, rate: int) -> bytes:
    """Encodes amplitudes [T, C] in [-1, 1] as the bytes of a 16-bit WAV file."""
    buffer = io.BytesIO()
    with wave.open(buffer, "wb") as file:
        file.setnchannels(values.shape[1])
        file.setsampwidth(2)
        file.setframerate(rate)
        file.writeframes(np.round(values * 32767).astype("<i2").tobytes())
    return buffer.getvalue()
