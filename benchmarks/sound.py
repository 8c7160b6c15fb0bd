"""Twelve seconds of speech at 44.1 kHz: signal-to-noise ratio after a fixed number of steps.

python benchmarks/sound.py [--quick] [--data FOLDER] [--seeds 3]
"""

from collections.abc import Iterator

from signal_case import Case, arguments, run

FIELDS = {"hash": ["table=15"], "mlp": []}
STEPS, QUICK_STEPS = 3000, 10


def cases() -> Iterator[Case]:
    """Every field, one seed after the other."""
    source = CHOSEN.data / "audio" / "gt_counting.wav"
    for seed in range(1 if CHOSEN.quick else CHOSEN.seeds):
        for name, settings in FIELDS.items():
            words = ["--field", name, *(["--set", *settings] if settings else [])]
            words += ["--steps", str(QUICK_STEPS if CHOSEN.quick else STEPS), "--seed", str(seed)]
            yield source, words, {"field": name, "seed": seed}


if __name__ == "__main__":
    CHOSEN = arguments(__doc__)
    run("sound", "Twelve seconds of speech", CHOSEN, cases())
