"""Four Kodak pictures at 266 thousand parameters: PSNR of each architecture after a minute of training.

python benchmarks/images.py [--quick] [--data FOLDER] [--seeds 3]

A step takes 2^14 pixels, of `mlp` and `cam` 2^10. Each architecture's own size setting is the one that comes nearest to
the number of parameters; the number it has stands in its row. Architectures that are not installed are left out.
"""

from collections.abc import Iterator
from typing import Any

import torch
from signal_case import Case, arguments, run

from neuralfields.domain import Domain
from neuralfields.fields import field_class, field_names

PARAMETERS = 266_000
FIELDS = ("hash", "cam", "mlp", "rbf")
PICTURES = ("kodim01", "kodim03", "kodim05", "kodim23")
MINUTES, QUICK_STEPS = 1, 10
LENGTHS = (768, 512)
GRIDS = [{"levels": n, "table": t, "base": b} for n in range(5, 17) for t in (12, 13, 14) for b in range(8, 49, 2)]
KNOBS = {
    "hash": GRIDS,
    "cam": [{"width": width} for width in range(32, 512)],
    "mlp": [{"width": width} for width in range(32, 512)],
    "rbf": GRIDS,
}


def parameters(name: str, settings: dict[str, Any]) -> int:
    """How many numbers a field of a Kodak picture has; nothing is allocated."""
    kind = field_class(name)
    with torch.device("meta"):
        return sum(p.numel() for p in kind(kind.Config(**settings), Domain("image", 2, 3, LENGTHS)).parameters())


def nearest(name: str) -> dict[str, Any]:
    """The settings with the number of parameters nearest to PARAMETERS."""
    return min(KNOBS[name], key=lambda settings: abs(parameters(name, settings) - PARAMETERS))


def cases() -> Iterator[Case]:
    """Every picture with every field, one seed after the other."""
    names = [name for name in FIELDS if name in field_names() and "image" in field_class(name).DOMAINS]
    settings = {name: [f"{key}={value}" for key, value in nearest(name).items()] for name in names}
    budget = ["--steps", str(QUICK_STEPS)] if CHOSEN.quick else ["--minutes", str(MINUTES)]
    for seed in range(1 if CHOSEN.quick else CHOSEN.seeds):
        for picture in PICTURES[:1] if CHOSEN.quick else PICTURES:
            source = CHOSEN.data / "images" / "kodak" / f"{picture}.png"
            for name in names:
                words = ["--field", name, "--set", *settings[name], *budget, "--seed", str(seed)]
                yield source, words, {"picture": picture, "field": name, "seed": seed}


if __name__ == "__main__":
    CHOSEN = arguments(__doc__)
    run("images", "Kodak pictures at 266 thousand parameters", CHOSEN, cases())
