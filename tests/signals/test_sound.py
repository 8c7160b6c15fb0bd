"""Sounds: amplitudes, rates, files of floats."""

import json
import struct

import numpy as np
import pytest
import torch

from neuralfields import cli
from neuralfields.errors import InputError
from neuralfields.signals.readers import read_signal
from neuralfields.signals.sound import resampled, wav
from tests.support.small_signals import SMALL, small_steps, tone

__all__ = ["small_steps"]  # used by every test here


def test_a_sound_comes_back(tmp_path, capsys):
    pytest.importorskip("av")
    (tmp_path / "tone.wav").write_bytes(wav(tone(), 8000))
    words = ["--steps", "400", "--set", *SMALL, "--threads", "1", "--quiet", "--json"]
    assert cli.main(["fit", str(tmp_path / "tone.wav"), "--out", str(tmp_path / "a.nf"), *words]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["kind"] == "sound" and report["snr"] > 20
    assert cli.main(["export", str(tmp_path / "a.nf"), str(tmp_path / "b.wav")]) == 0
    again, truth = read_signal(tmp_path / "b.wav"), read_signal(tmp_path / "tone.wav")
    assert again.facts.rate == 8000 and again.values.shape == truth.values.shape == (400, 2)
    assert truth.facts.gain == pytest.approx(0.25, abs=1e-3) and float(truth.values.abs().max()) == 1
    error = again.values * again.facts.gain - truth.values * truth.facts.gain
    snr = -10 * np.log10(float(error.square().mean() / (truth.values * truth.facts.gain).square().mean()))
    assert snr == pytest.approx(report["snr"], abs=0.3)
    assert cli.main(["export", str(tmp_path / "a.nf"), str(tmp_path / "c.wav"), "--rate", "16000"]) == 0
    assert read_signal(tmp_path / "c.wav").values.shape == (800, 2)
    capsys.readouterr()
    assert cli.main(["render", str(tmp_path / "a.nf"), str(tmp_path / "b.png")]) == 2
    assert "holds a field of sound; give a name that ends in .wav" in capsys.readouterr().err


def test_float_sounds_are_read_and_silence_is_refused(tmp_path):
    pytest.importorskip("av")
    samples = tone().astype("<f4")
    path = tmp_path / "a.wav"
    path.write_bytes(float_wav(samples, 8000))
    signal = read_signal(path)
    np.testing.assert_allclose(signal.values.numpy() * signal.facts.gain, samples, atol=1e-6)
    path.write_bytes(float_wav(samples * 0, 8000))
    with pytest.raises(InputError, match="is silent or empty"):
        read_signal(path)
    samples[7, 1] = np.nan
    path.write_bytes(float_wav(samples, 8000))
    with pytest.raises(InputError, match="1 samples are not finite"):
        read_signal(path)


def float_wav(samples: np.ndarray, rate: int) -> bytes:
    """A WAV file of 32-bit floats, which the standard library does not write."""
    channels = samples.shape[1]
    head = struct.pack("<HHIIHH", 3, channels, rate, rate * 4 * channels, 4 * channels, 32)
    data = samples.tobytes()
    body = b"WAVEfmt " + struct.pack("<I", len(head)) + head + b"data" + struct.pack("<I", len(data)) + data
    return b"RIFF" + struct.pack("<I", len(body)) + body


def test_a_lower_rate_has_no_aliases():
    rate, low = 44100, 8000
    t = (np.arange(rate) + 0.5) / rate
    given = 0.4 * np.sin(2 * np.pi * 500 * t) + 0.4 * np.sin(2 * np.pi * 9000 * t)
    seen = resampled(torch.from_numpy(given[:, None]), low).numpy()[:, 0]
    spectrum = 2 * np.abs(np.fft.rfft(seen * np.hanning(low))) / (low / 2)
    assert spectrum[500] == pytest.approx(0.4, rel=0.01)
    assert spectrum[1000] < 0.4e-3  # where 9 kHz would fold to: 60 dB less
    assert seen[100:-100] == pytest.approx(
        0.4 * np.sin(2 * np.pi * 500 * (np.arange(low) + 0.5) / low)[100:-100], abs=1e-3
    )
    assert torch.allclose(resampled(torch.ones(50, 2), 7), torch.ones(7, 2))
