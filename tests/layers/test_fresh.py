"""FreSh: spectra and distances with known answers, and the choice that follows the target's frequency."""

import math
from collections.abc import Callable

import pytest
import torch

from neuralfields.domain import RADIANCE, Domain
from neuralfields.fields.mlp import Config, Mlp
from neuralfields.layers import fresh
from neuralfields.layers.fresh import BINS, SETTINGS, SIDE, choose, distance, for_scene, settings, spectrum

IMAGE = Domain("image", 2, 1)


def wave(kx: int, ky: int, size: int = 64) -> torch.Tensor:
    at = 2 * math.pi * torch.arange(size) / size
    return torch.cos(kx * at[None, :] + ky * at[:, None] + 0.7)[..., None]


def band(frequency: float, size: int = SIDE, seed: int = 0) -> torch.Tensor:
    """Noise whose frequencies lie around one, in cycles across the picture; [size, size, 1] in [0, 1]."""
    noise = torch.randn(size, size, generator=torch.Generator().manual_seed(seed))
    k = torch.fft.fftfreq(size, 1 / size)
    radius = (k[:, None] ** 2 + k[None, :] ** 2).sqrt()
    shown = torch.fft.ifft2(torch.fft.fft2(noise) * torch.exp(-(((radius - frequency) / (0.3 * frequency)) ** 2))).real
    return ((shown - shown.min()) / (shown.max() - shown.min()))[..., None]


@pytest.mark.parametrize(("kx", "ky"), [(3, 0), (0, 5), (4, 7), (-6, 2)])
def test_a_wave_lies_in_one_bin(kx, ky):
    p = spectrum(wave(kx, ky))
    assert len(p) == BINS and float(p[abs(kx) + abs(ky) - 1]) == pytest.approx(1, abs=1e-4)


def test_brightness_contrast_and_channels_do_not_matter():
    picture = band(6)
    p = spectrum(picture)
    torch.testing.assert_close(spectrum(0.2 + 0.3 * picture), p)
    torch.testing.assert_close(spectrum(picture.expand(-1, -1, 3)), p)
    assert float(p.sum()) == pytest.approx(1)


def test_grain_is_taken_off(monkeypatch: pytest.MonkeyPatch):
    """White noise of a known power: half of it is left, all else stays."""
    generator = torch.Generator().manual_seed(0)
    clean, noise = band(6, 64), 0.05 * torch.randn(64, 64, 1, generator=generator)
    p, noisy, cleaned = spectrum(clean), spectrum(clean + noise), spectrum(clean + noise, 0.5)
    assert distance(cleaned, p) < 0.8 * distance(noisy, p) and float(cleaned.sum()) == pytest.approx(1)
    torch.testing.assert_close(spectrum(clean, 0.5), p, atol=1e-4, rtol=0)  # nothing is there to be taken off
    assert torch.equal(spectrum(band(3, 32), 0.5), spectrum(band(3, 32)))  # too small to have such bins
    chosen = []
    for grain in (fresh.GRAIN, 0.0):
        monkeypatch.setattr(fresh, "GRAIN", grain)
        chosen.append(choose(tuple(map(float, range(1, 30))), untrained([]), IMAGE, [clean + noise], 0))
    assert 6 <= chosen[0] < chosen[1]


def test_a_sound_s_spectrum_is_its_transform():
    at = torch.arange(200) / 200
    p = spectrum(torch.stack([torch.sin(2 * math.pi * 9 * at), torch.sin(2 * math.pi * 9 * at + 1)], 1))
    assert len(p) == 100 and float(p[8]) == pytest.approx(0.5, abs=1e-2)  # fading spreads a tone over three bins
    assert float(p[7:10].sum()) == pytest.approx(1, abs=2e-2)


def test_a_constant_has_the_lowest_spectrum():
    for signal in (torch.full((40, 30, 3), 0.4), torch.full((1, 1, 3), 0.4), torch.zeros(50, 1), torch.zeros(1, 1)):
        p = spectrum(signal)
        assert float(p[0]) == 1 and float(p.sum()) == 1


def test_the_distance_is_how_far_mass_moves():
    one = torch.nn.functional.one_hot(torch.tensor([4, 11, 4]), 64).float()
    assert distance(one[0], one[1]) == pytest.approx(7) and distance(one[0], one[2]) == 0
    assert distance(one[0], (one[0] + one[1]) / 2) == pytest.approx(3.5)


@pytest.mark.parametrize(
    "encoding", ["gaussian", "finer", *(pytest.param(name, marks=pytest.mark.slow) for name in ("siren", "octaves"))]
)
def test_the_choice_rises_with_the_target_s_frequency(encoding):
    config = Config(encoding=encoding, count=32, layers=2, width=32)
    chosen = [Mlp.tuned(config, IMAGE, [band(f, 64)], 0).frequencies for f in (8, 16, 24)]
    assert chosen[0] < chosen[1] < chosen[2] and set(chosen) <= set(SETTINGS[encoding])


def test_a_sound_s_settings_follow_its_length_and_its_pitch():
    sound, config = Domain("sound", 1, 1), Config(count=32, layers=2, width=32)
    at = torch.arange(8000) / 8000
    pick = lambda hertz: Mlp.tuned(config, sound, [torch.sin(2 * math.pi * hertz * at)[:, None]], 0).frequencies
    low, middle, high = pick(150), pick(600), pick(2400)
    assert 5 < low < middle < high < 4000
    assert settings("gaussian", sound, [at[:, None]])[-1] == pytest.approx(20 * 8000 / SIDE, rel=1e-2)


@pytest.mark.parametrize(
    "domain", [RADIANCE, Domain("video", 3, 3), pytest.param(Domain("radiance", 4, 4), marks=pytest.mark.slow)]
)
def test_slices_of_scenes_and_films_are_pictures(domain):
    config = Config(count=32, layers=2, width=32)
    low, high = (Mlp.tuned(config, domain, [band(f, 64).expand(-1, -1, 3)], 0).frequencies for f in (6, 20))
    assert low < high


def untrained(seen: list[torch.Tensor]) -> Callable[[float], Callable[[torch.Tensor], torch.Tensor]]:
    """Makes networks that are waves of the setting's own frequency along u, and notes where they were asked."""

    def make(setting: float) -> Callable[[torch.Tensor], torch.Tensor]:
        def network(x: torch.Tensor) -> torch.Tensor:
            seen.append(x)
            return torch.sin(2 * math.pi * setting * x[:, :1])

        return network

    return make


@pytest.mark.parametrize("frequency", [1, 5, 9, 17, 20])
def test_the_search_finds_the_best_of_all(frequency):
    """By two looks: where the distance has one valley, the same as by all."""
    candidates = tuple(map(float, range(1, 21)))
    assert choose(candidates, untrained([]), IMAGE, [wave(frequency, 0)], 0) == frequency


def test_targets_and_networks_are_seen_at_the_same_places():
    seen: list[torch.Tensor] = []
    choose((1.0, 2.0), untrained(seen), IMAGE, [torch.rand(300, 50, 3)], 0)
    x = torch.cat(seen)
    assert len(x) % (SIDE * 50) == 0 and torch.equal(x[: SIDE * 50], x[-SIDE * 50 :])
    assert float(x[:, 0].min()) == pytest.approx(0.5 / 50) and float(x[:, 1].max()) == pytest.approx(1 - 0.5 / SIDE)


def test_what_is_given_stays_and_random_numbers_are_the_caller_s():
    target = [band(5, 32)]
    assert Mlp.tuned(Config(frequencies=3.0), IMAGE, target, 0).frequencies == 3.0
    assert Mlp.tuned(Config(), IMAGE, [], 0).frequencies is None
    torch.manual_seed(5)
    before = torch.get_rng_state()
    again = [Mlp.tuned(Config(count=8, layers=1, width=8), IMAGE, target, 7) for _ in range(2)]
    assert torch.equal(torch.get_rng_state(), before) and again[0] == again[1]


def test_a_scene_takes_less_of_the_photos_setting_and_a_student_more():
    assert for_scene("gaussian", 5.0) == 2.0 and for_scene("gaussian", 5.0, taught=True) == 7.5
    assert for_scene("octaves", 6.0) == 5.0 and for_scene("octaves", 6.0, taught=True) == 7.0
    assert for_scene("finer", 1.5, taught=True) == 1.5
