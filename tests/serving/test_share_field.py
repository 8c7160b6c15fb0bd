"""A hash field in a shared file: what the page decodes from the .nfz, and the picture that it draws of it."""

import base64
import json
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from neuralfields.codecs import load_any
from neuralfields.compression import fields
from neuralfields.compression.compress import Goal
from neuralfields.compression.fields import compress_field
from neuralfields.errors import UsageError
from neuralfields.fields.triplane import FIELD as TriplaneField
from neuralfields.fields.triplane import Config as TriplaneConfig
from neuralfields.models.model import Model, volume_of
from neuralfields.models.nf_file import save
from neuralfields.pictures.panels import to_uint8
from neuralfields.serving import share as pages
from neuralfields.serving.field import _codes, field_description, layers_of
from neuralfields.serving.messages import camera_of
from tests.serving.test_share import Shared, element, shared
from tests.support.browser import needs_chromium
from tests.support.hash_models import hash_model
from tests.support.page_files import NODE, VIEWER

DECODE = """
import { readFileSync, writeFileSync } from "node:fs";
import { decodeField } from "./field_decoder.js";
const shares = [], about = JSON.parse(readFileSync("about.json", "utf8"));
const found = await decodeField(new Uint8Array(readFileSync("a.nfz")), about, (share) => shares.push(share));
writeFileSync("table", Buffer.from(found.table.buffer));
writeFileSync("weights", Buffer.concat(found.layers.map(({ weights }) => Buffer.from(weights.buffer))));
writeFileSync("occupancy", Buffer.from(found.occupancy.buffer));
console.log(JSON.stringify({ shares, inputs: found.layers.map(({ inputs }) => inputs), degree: found.degree }));
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`a.nf`, a hash field; `a.nfz`, the same compressed; `page.html` of that."""
    made = tmp_path_factory.mktemp("shared-field")
    model = hash_model()
    save(model, made / "a.nf")
    with pytest.MonkeyPatch.context() as patch:
        small_pictures(patch)
        (made / "a.nfz").write_bytes(compress_field(model, Goal(0.1)).data)
        shared(made, made / "a.nfz", background="white")
    return made


def small_pictures(patch: pytest.MonkeyPatch) -> None:
    """Few and small pictures judge, and the poster is small: these clouds are fog, which takes long to render."""
    patch.setattr(pages, "POSTER_SIDE", 48)
    for name, value in {"SIDE": 24, "PROBES": 1, "VIEWS": 2, "REPORT": 1}.items():
        patch.setattr(fields, name, value)


@pytest.mark.skipif(NODE is None, reason="no node on this machine (Debian's package nodejs)")
def test_the_page_decodes_the_same_numbers(folder: Path, tmp_path: Path) -> None:
    """Weights and occupancy to the bit; of the table the byte that the server would pack."""
    model = load_any(folder / "a.nfz")
    for path in VIEWER.glob("*.js"):
        shutil.copy(path, tmp_path)
    shutil.copy(folder / "a.nfz", tmp_path)
    (tmp_path / "package.json").write_text('{"type": "module"}')
    (tmp_path / "decode.js").write_text(DECODE)
    about = field_description(volume_of(model), (folder / "a.nfz").read_bytes())
    (tmp_path / "about.json").write_text(json.dumps(about))
    done = subprocess.run([str(NODE), "decode.js"], cwd=tmp_path, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    layers = layers_of(model.field)
    assert told["inputs"] == [layer.shape[1] for layer in layers] and told["degree"] == model.field.config.degree
    assert told["shares"] == sorted(told["shares"]) and 0 < max(told["shares"]) < 1
    weights = np.concatenate([layer.detach().numpy().ravel() for layer in layers])
    assert (tmp_path / "weights").read_bytes() == weights.tobytes() and np.abs(weights).max() > 0.1
    assert (tmp_path / "occupancy").read_bytes() == model.occupancy.numpy().tobytes()
    table, packed = np.fromfile(tmp_path / "table", np.int8), _codes(model.field)[0].ravel()
    assert np.array_equal(table, packed) and np.unique(table).size > 40


def test_what_the_file_holds(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    small_pictures(monkeypatch)
    page = (folder / "page.html").read_text()
    assert base64.b64decode(element(page, "scene-0")) == (folder / "a.nfz").read_bytes()
    assert pages.size_of_page(("field",)) < 60_000 and pages.size_of_page(("field", "splats")) < 60_000
    assert "SplatLayer" not in pages.code_of_page(("field",)) and "FieldLayer" not in pages.code_of_page()
    stage = json.loads(element(page, "stage"))
    assert stage["subjects"][0]["kind"] == "field" and stage["facts"][0][0] == "hash field"
    again = shared(tmp_path, folder / "a.nf", max_bytes="60kB").read_text()
    assert len(base64.b64decode(element(again, "scene-0"))) <= 60_000


def test_what_the_page_cannot_draw_is_refused(tmp_path: Path) -> None:
    model = hash_model()
    save(Model(TriplaneField(TriplaneConfig()), model.bounds, model.occupancy), tmp_path / "planes.nf")
    with pytest.raises(UsageError, match=r"no shader for a field of kind 'triplane'; .*nf convert planes.nf --to gaus"):
        shared(tmp_path, tmp_path / "planes.nf")
    save(hash_model(hidden=65), tmp_path / "wide.nf")
    with pytest.raises(UsageError, match="width 64 at most, these have 65"):
        shared(tmp_path, tmp_path / "wide.nf")


@pytest.fixture(scope="module")
def screen(browser: Any, folder: Path) -> Iterator[Shared]:
    made = Shared(browser, folder / "page.html", (72, 110))
    yield made
    made.close()


@needs_chromium
def test_it_draws_our_renderers_picture(screen: Shared, folder: Path) -> None:
    """At most 0.2 of 255 apart on average where there is something: the table has a byte a number."""
    shown, model = screen.picture(), load_any(folder / "a.nfz")
    camera = camera_of(screen.eye(), shown.shape[1], shown.shape[0])
    exact = to_uint8(volume_of(model).render(camera, (1.0, 1.0, 1.0)).rgb).astype(int)
    seen = (exact != exact[0, 0]).any(2)
    assert seen.mean() > 0.05 and exact[seen].std() > 20
    assert np.abs(shown - exact)[seen].mean() < 0.2 < np.abs(shown - exact[:, ::-1])[seen].mean() / 10
    assert screen.page.evaluate("document.body.className") == "shared ready"


@needs_chromium
def test_modes_and_a_point(screen: Shared) -> None:
    """Depth is drawn, there are no rings, and a click finds a surface."""
    plain = screen.picture()
    screen.page.keyboard.press("2")
    screen.rest()
    assert np.abs(screen.picture() - plain).mean() > 5
    assert screen.page.evaluate("[...modes.options].map((one) => one.value)") == ["rgb", "depth", "opacity", "normals"]
    screen.page.keyboard.press("1")
    screen.rest()
    points = [screen.page.evaluate(f"neuralfields.pointAt({x}, 0.5)") for x in np.linspace(0.1, 0.9, 17)]
    found = torch.tensor([point for point in points if point])
    assert len(found) > 3 and (found - torch.tensor([0.2, -0.1, 0.3])).abs().max() < 3.2
