"""Native against plain torch, and the networks against the machine's peak: `nf bench` as a table.

python benchmarks/speed.py [CAPTURE ...]     the bundled scene, and the captures that are named
"""

import json
import subprocess
import sys
from pathlib import Path

from table import row, write

NF = str(Path(sys.executable).with_name("nf"))


def measure(capture: str | None) -> dict:
    """One run of `nf bench`."""
    words = ["bench", *(["--scene", capture] if capture else []), "--seconds", "12", "--json"]
    result = json.loads(subprocess.run([NF, *words], capture_output=True, text=True, check=True, cwd="/").stdout)
    shown = f" --scene $DATA/captures/{Path(capture).name}" if capture else ""
    return row(
        f"nf bench{shown} --seconds 12",
        scene=result["setting"]["scene"],
        train_ratio=round(result["train_ratio"], 1),
        render_ratio=round(result["render_ratio"], 1),
        train_ratio_in_rays=round(result["train"]["rays"]["ratio"], 1),
        render_ratio_in_rays=round(result["render"]["rays"]["ratio"], 1),
        train_Msamples=round(result["train"]["samples"]["native"] / 1e6, 2),
        render_Msamples=round(result["render"]["samples"]["native"] / 1e6, 2),
        networks_share_of_peak=round(result["network_share"]["both"], 2),
        forward=round(result["network_share"]["forward"], 2),
        backward=round(result["network_share"]["backward"], 2),
        with_recompute=round(result["network_share_recompute"]["both"], 2),
        peak_gflops=round(result["peak_gflops"]),
        instruction_set=result["machine"]["instruction_set"],
    )


if __name__ == "__main__":
    captures = [None, *(str(Path(word).resolve()) for word in sys.argv[1:])]
    write("speed", "Native over plain torch, one run each", [measure(capture) for capture in captures])
