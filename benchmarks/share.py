"""Shared pages: bytes of each part, and how fast the page's decoder is beside ours.

python benchmarks/share.py [--quick] [--data FOLDER] [--scenes NAME ...]

Pages as `nf share` writes them without options. `decoded_each_second` and `packed_each_second` are Gaussians by
viewer/nfz.js and viewer/packing.js in Node, from cold, and `native_each_second` by the native decoder, all by the
processor time of one thread.
"""

import argparse
import base64
import json
import os
import re
import shutil
import subprocess
import tempfile
import time
from pathlib import Path

import torch
from table import FOLDER, row, write

from neuralfields.compression.nfz import decode
from neuralfields.compression.quantised import dequantised
from neuralfields.options.models import ShareOptions
from neuralfields.serving.server import assets
from neuralfields.verbs import share

SCENES = {
    "playbot": "splat_playbot/playbot_lod3_sh2.ply",
    "guitar": "splat_small/guitar.compressed.ply",
    "angel": "splat_statues/angel.sog",
    "fruit_drops": "splat_small/fruit_drops_4721_sh3.ply",
}
TITLE = "Shared pages: bytes, and Gaussians decoded a second by the page and by the native decoder"
MEASURE = """
import { readFileSync } from "node:fs";
import { decode } from "./nfz.js";
import { pack } from "./packing.js";
const bytes = new Uint8Array(readFileSync("scene.nfz")), clock = () => process.cpuUsage().user / 1e6;
const begin = clock(), gaussians = decode(bytes), middle = clock();
pack(gaussians, 0.001);
console.log(JSON.stringify([middle - begin, clock() - middle]));
"""


def seconds_of_the_page(data: bytes) -> tuple[float, float]:
    """Processor seconds of decoding and of packing in Node."""
    with tempfile.TemporaryDirectory() as folder:
        for name, (_, source) in assets().items():
            if name.endswith(".js"):
                (Path(folder) / name).write_bytes(source)
        for name, text in {"package.json": '{"type": "module"}', "measure.js": MEASURE}.items():
            (Path(folder) / name).write_text(text)
        (Path(folder) / "scene.nfz").write_bytes(data)
        done = subprocess.run(["node", "measure.js"], cwd=folder, capture_output=True, text=True, check=True)
    decoding, packing = json.loads(done.stdout)
    return decoding, packing


def measure(scene: str, path: Path, command: str) -> dict:
    """The row of a scene."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "page.html"
        made = share.run(ShareOptions((path,), out=out, quiet=True))
        page = out.read_text()
    data = base64.b64decode(re.search(r'id="scene-0">([^<]*)<', page)[1])
    poster = len(re.search(r'src="data:image/webp;base64,([^"]*)"', page)[1])
    begin = time.process_time()
    count = len(dequantised(decode(data, path)))
    native = time.process_time() - begin
    decoding, packing = seconds_of_the_page(data)
    return row(
        command, scene=scene, gaussians=count, page=made["bytes"], viewer=made["code"], poster=poster,
        nfz=len(data), decoded_each_second=round(count / decoding), packed_each_second=round(count / packing),
        native_each_second=round(count / native),
    )  # fmt: skip


def main() -> None:
    """Writes the table, or shows the row of a quick run."""
    default = os.environ.get("NEURALFIELDS_DATA", FOLDER.parent.parent / "shared" / "data")
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="the smallest scene, nothing is written")
    parser.add_argument("--data", type=Path, default=Path(default))
    parser.add_argument("--scenes", nargs="*", default=list(SCENES))
    options = parser.parse_args()
    if shutil.which("node") is None:
        print("node is not installed: the page's decoder is not measured")
        return
    torch.set_num_threads(1)
    rows = []
    for scene in ["fruit_drops"] if options.quick else options.scenes:
        rows.append(measure(scene, options.data / "splats" / SCENES[scene], "python benchmarks/share.py"))
        print({key: value for key, value in rows[-1].items() if key not in ("machine", "command")}, flush=True)
    if not options.quick:
        write("share", TITLE, rows)


if __name__ == "__main__":
    main()
