"""Runs the page's own modules outside of a browser, by Node, to compare what they decode."""

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

NODE = shutil.which("node")
VIEWER = Path(__file__).parents[2] / "viewer"

DECODE = """
import { readFileSync, writeFileSync } from "node:fs";
import { decode } from "./nfz.js";
import { pack } from "./packing.js";
const names = ["means", "scales", "rotations", "opacities", "harmonics"], found = [];
const join = (object, names) => Buffer.concat(names.map((name) => Buffer.from(object[name].buffer)));
for (const path of JSON.parse(readFileSync("list.json", "utf8"))) {
  const shares = [], whole = new Uint8Array(readFileSync(path));
  try {
    const gaussians = decode(whole, (share) => shares.push(share)), packed = pack(gaussians, 0.5);
    writeFileSync(path + ".bin", join(gaussians, names));
    writeFileSync(path + ".pack", join(packed, ["ranges", "core", "rest"]));
    found.push({ count: gaussians.count, degree: gaussians.degree, antialiased: gaussians.antialiased, shares });
  } catch (error) {
    found.push({ error: error.constructor.name + ": " + error.message });
  }
}
console.log(JSON.stringify(found));
"""


def decoded_by_the_page(paths: list[Path], folder: Path) -> list[dict[str, Any]]:
    """What viewer/nfz.js makes of files: count, degree, antialiased, shares of progress; or the error's words.

    Beside each it writes `.bin`, its arrays in the order of `Gaussians`, and `.pack`, what viewer/packing.js makes.
    """
    assert NODE is not None
    modules = folder / "modules"
    modules.mkdir()
    for path in VIEWER.glob("*.js"):
        shutil.copy(path, modules)
    (modules / "package.json").write_text('{"type": "module"}')
    (modules / "list.json").write_text(json.dumps([str(path) for path in paths]))
    (modules / "decode.js").write_text(DECODE)
    done = subprocess.run([NODE, "decode.js"], cwd=modules, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)
