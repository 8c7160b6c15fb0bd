"""Peak memory of fits of many large photos: 300 of 4000x3000 in 3 GiB.

python benchmarks/memory.py [hash] [gaussians] [--photos 300] [--size 4000x3000] [--steps 10]

The photos are one synthetic JPEG under many names: they are decoded one by one all the same. What does not fit is
refused before a photo is decoded, with an estimate (tests/captures/test_photo_store.py).
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from PIL import Image
from table import FOLDER, row, write

sys.path.insert(0, str(FOLDER.parent))
from tests.support.make_captures import ring, save
from tests.support.peak import MEASURED

TITLE = "Peak memory of fits of many large photos"


def capture(folder: Path, photos: int, size: tuple[int, int]) -> Path:
    """A ring of cameras; all photos are links to one picture of smooth colours and noise."""
    (folder / "images").mkdir(parents=True)
    across, down = np.linspace(0, 255, size[0]), np.linspace(0, 255, size[1])[:, None]
    noise = np.random.default_rng(0).integers(0, 32, (size[1], size[0]))
    pixels = np.stack([across + 0 * down, down + 0 * across, 128 + noise], axis=-1).clip(0, 255).astype(np.uint8)
    Image.fromarray(pixels).save(folder / "images/0000.jpg", quality=90)
    frames = []
    for i, pose in enumerate(ring(photos)):
        name = f"images/{i:04d}.jpg"
        if i:
            os.link(folder / "images/0000.jpg", folder / name)
        frames.append({"file_path": name, "transform_matrix": pose.tolist()})
    names = [frame["file_path"] for frame in frames]  # one is held out: to measure fog takes long
    split = {"train_filenames": names[1:], "test_filenames": names[:1]}
    save(folder, {"fl_x": 1.1 * size[0], "w": size[0], "h": size[1], "frames": frames, **split})
    return folder


def main() -> None:
    """One fit of each kind of field, in a process of its own whose peak is measured."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("fields", nargs="*", default=["hash", "gaussians"])
    parser.add_argument("--photos", type=int, default=300)
    parser.add_argument("--size", default="4000x3000")
    parser.add_argument("--steps", type=int, default=10)
    options = parser.parse_args()
    width, height = map(int, options.size.split("x"))
    table = FOLDER / "memory.json"
    with tempfile.TemporaryDirectory() as folder:
        source = capture(Path(folder) / "many", options.photos, (width, height))
        for field in options.fields:
            words = ["fit", str(source), "--field", field, "--steps", str(options.steps), "--eval-every", "0"]
            words += ["--out", str(Path(folder) / f"{field}.nf"), "--threads", "1", "--quiet"]
            words += ["--max-gaussians", "20000"] if field == "gaussians" else ["--recipe", "samples=4096"]
            begin = time.perf_counter()
            done = subprocess.run(
                [sys.executable, "-c", MEASURED, sys.executable, "-m", "neuralfields", *words],
                capture_output=True, text=True, check=False,
            )  # fmt: skip
            peak = int(done.stderr.splitlines()[-1]) if done.returncode == 0 else 0
            figures = {
                "field": field, "photos": options.photos, "size": options.size, "peak GiB": peak / 2**30,
                "seconds": time.perf_counter() - begin, "said": "" if peak else done.stderr[-300:],
            }  # fmt: skip
            print(figures, flush=True)
            command = f"python benchmarks/memory.py {field} --photos {options.photos} --size {options.size}"
            rows = json.loads(table.read_text()) if table.is_file() else []
            others = [r for r in rows if (r["field"], r["size"]) != (field, options.size)]
            write("memory", TITLE, [*others, row(command, **figures)])


if __name__ == "__main__":
    main()
