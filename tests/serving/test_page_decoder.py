"""The page's decoder of .nfz against ours: the same bytes, and an error of one line for what ours refuses."""

import base64
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from neuralfields.codecs.splats import write_gaussians
from neuralfields.compression import container, nfz
from neuralfields.compression.compress import Goal, compress
from neuralfields.compression.quantised import dequantised
from neuralfields.errors import InputError
from neuralfields.gaussians import PARAMETERS, Gaussians
from neuralfields.rendering.splat import Splats
from neuralfields.scene import Bounds
from neuralfields.serving.server import Server
from neuralfields.serving.splats import pack
from tests.support.browser import needs_chromium
from tests.support.page_files import NODE, decoded_by_the_page
from tests.support.splats import lopsided, random_gaussians
from tests.support.view_ball import ball_stage

needs_node = pytest.mark.skipif(NODE is None, reason="no node on this machine (Debian's package nodejs)")
BOUNDS = Bounds((0.0, 0.0, 0.0), 2.0)


def several(folder: Path) -> list[Path]:
    """Files of every degree, of one Gaussian, far ones, a compressed one with classes and few axes."""
    far = random_gaussians(300, 1)
    far.means[:9] *= 1e9
    given = {f"degree{k}": random_gaussians(700 if k < 2 else 150, k, seed=k) for k in range(4)}
    given |= {"one": random_gaussians(1, 0), "far": far, "same": random_gaussians(1, 2).take(torch.zeros(40).long())}
    given["antialiased"] = replace(random_gaussians(50, 0), antialiased=True)
    paths = []
    for name, gaussians in given.items():
        paths.append(folder / f"{name}.nfz")
        write_gaussians(gaussians, paths[-1])
    paths.append(folder / "fast.nfz")
    paths[-1].write_bytes(compress(lopsided(count=300), BOUNDS, Goal(1.0)).data)
    return paths


def arrays(gaussians: Gaussians) -> bytes:
    return b"".join(getattr(gaussians, name).numpy().tobytes() for name in PARAMETERS)


@needs_node
def test_the_page_decodes_the_same_bytes(tmp_path: Path) -> None:
    """Float32 of every parameter, and the textures' layout as the server packs it."""
    paths = several(tmp_path)
    for path, found in zip(paths, decoded_by_the_page(paths, tmp_path), strict=True):
        expected = dequantised(nfz.decode(path.read_bytes(), path))
        assert (found["count"], found["degree"], found["antialiased"]) == (
            len(expected), expected.degree, expected.antialiased,
        )  # fmt: skip
        assert Path(f"{path}.bin").read_bytes() == arrays(expected), path.stem
        assert Path(f"{path}.pack").read_bytes() == pack(Splats(expected, BOUNDS))[64:], path.stem
        assert found["shares"] == sorted(found["shares"]) and 0 <= min(found["shares"]) <= max(found["shares"]) < 1


def variants(data: bytes) -> list[bytes]:
    """Cut short, changed in one byte, a header of impossible numbers, sections that are coded wrongly or not there."""
    chance = np.random.default_rng(0)
    found = [b"", data[:3], data[:11], data[:40], data[:-1], data + b"\0", b"PK" + data[2:]]
    found += [data[: int(end)] for end in chance.integers(12, len(data), 10)]
    for place in [*range(12), *chance.integers(12, len(data), 20)]:
        found.append(data[:place] + bytes([data[place] ^ 1 << chance.integers(8)]) + data[place + 1 :])
    parts = container.unpack(data, "a.nfz")
    scene = json.loads(parts["scene"].data)
    wrong = {
        "count": [0, -1, 1.5, 2**31, None, len(data) * 10**6], "degree": [4, -1, "1"], "antialiased": [1, None],
        "centre": [[1e16, 0, 0], [0, 0], None], "step": [0, -1.0, "x"], "even": [0, 2**22], "bits": [0, 22],
        "low": [[0, 0, 2**22]], "most": [[0, 0, 0, 0, 11], [1]], "axes": [99, -1], "scales": [0], "other": [1],
    }  # fmt: skip
    for name, values in wrong.items():
        for value in values:
            changed = container.Section("json", json.dumps(scene | {name: value}).encode())
            found.append(container.pack(parts | {"scene": changed}))
    found.append(container.pack(parts | {"scene": container.Section("json", b"{\xff")}))
    for name in parts:
        found.append(container.pack({other: part for other, part in parts.items() if other != name}))
        found.append(container.pack(parts | {name: replace(parts[name], coding="raw" if name != "axes" else "json")}))
        found.append(container.pack(parts | {name: replace(parts[name], data=parts[name].data[:-1])}))
        damaged = bytes(chance.integers(0, 256, len(parts[name].data), dtype=np.uint8))
        found.append(container.pack(parts | {name: replace(parts[name], data=damaged)}))
    return found


@needs_node
def test_the_page_refuses_what_we_refuse(tmp_path: Path) -> None:
    """The same verdict on a hundred files; one line of plain words, never a mistake of the program's own."""
    whole = tmp_path / "whole.nfz"
    write_gaussians(random_gaussians(60, 1), whole)
    paths = []
    for i, data in enumerate(variants(whole.read_bytes())):
        paths.append(tmp_path / f"{i}.nfz")
        paths[-1].write_bytes(data)
    refusals = 0
    for path, found in zip(paths, decoded_by_the_page(paths, tmp_path), strict=True):
        try:
            expected = arrays(dequantised(nfz.decode(path.read_bytes(), path)))
        except InputError:
            refusals += 1
            assert found.get("error", "").startswith("Error: "), (path.name, found)
            assert "\n" not in found["error"] and len(found["error"]) < 120
        else:
            assert "error" not in found and Path(f"{path}.bin").read_bytes() == expected
    assert refusals > 90


@needs_chromium
def test_a_browser_decodes_the_same_bytes(browser: Any, tmp_path: Path) -> None:
    write_gaussians(lopsided(count=60), tmp_path / "a.nfz")
    data = (tmp_path / "a.nfz").read_bytes()
    server = Server(ball_stage(), port=0, threads=1)
    try:
        page = browser.new_page()
        page.goto(server.url + "kinds.js")  # of its origin, with nothing to draw
        found = page.evaluate(
            """async ([data, names]) => {
                const { decode } = await import(new URL("nfz.js", location.href));
                const { fromBase64 } = await import(new URL("aside.js", location.href));
                const found = decode(fromBase64(data)), bytes = (array) => Array.from(new Uint8Array(array.buffer));
                return names.map((name) => bytes(found[name]));
            }""",
            [base64.b64encode(data).decode(), PARAMETERS],
        )
        page.close()
    finally:
        server.close()
    assert b"".join(map(bytes, found)) == arrays(dequantised(nfz.decode(data, "a.nfz")))
