"""Sixteen frames of 640 x 360: PSNR at a bit rate, stored in 8 bits.

python benchmarks/video.py [--quick] [--data FOLDER] [--seeds 3]

`bits_per_pixel` and `kbit_per_second` (at 25 frames a second) are of the whole file that was written.
"""

from collections.abc import Iterator
from typing import Any

from signal_case import Case, arguments, run

FRAMES, WIDTH, HEIGHT, FPS = 16, 640, 360, 25
TABLES = (13, 15, 17)  # log2 of the hash table's entries: three bit rates
STEPS, QUICK_STEPS = 4000, 10


def cases() -> Iterator[Case]:
    """Every size of table, one seed after the other."""
    source = CHOSEN.data / "video" / "bunny_frames_640x360"
    for seed in range(1 if CHOSEN.quick else CHOSEN.seeds):
        for table in TABLES[:1] if CHOSEN.quick else TABLES:
            steps = str(QUICK_STEPS if CHOSEN.quick else STEPS)
            words = ["--format", "video", "--field", "hash", "--set", f"table={table}", "--bits", "8", "--steps", steps]
            yield source, [*words, "--seed", str(seed)], {"table": table, "seed": seed}


def rates(made: dict[str, Any]) -> dict[str, Any]:
    """The bit rates of a row."""
    bits = made["file_kB"] * 8000
    return {
        "bits_per_pixel": round(bits / (FRAMES * WIDTH * HEIGHT), 4),
        "kbit_per_second": round(bits / 1000 * FPS / FRAMES, 1),
    }


if __name__ == "__main__":
    CHOSEN = arguments(__doc__)
    run("video", "Sixteen frames of 640 x 360 at three bit rates", CHOSEN, cases(), rates)
