"""Files whose 8-bit codes lie: refused with one line, before anything large is allocated."""

import hashlib
import zlib
from pathlib import Path
from typing import Any

import pytest
import torch

from neuralfields.models import model, nf_file
from neuralfields.models import nf_header as header
from tests.support.fake_field import sample
from tests.support.forge import Edit, forge, refused
from tests.support.peak import at_most

pytestmark = pytest.mark.usefixtures("fake")


@pytest.fixture
def small(tmp_path: Path) -> Path:
    """A sound file in 8 bits: the table as a stream of 4096 values, the network's weights as 32 raw codes."""
    full = sample(log2_size=10)
    path = tmp_path / "small.nf"
    nf_file.save(model.Model(full.field, full.bounds), path, bits=8)
    with header.open_model(path) as file:
        forms = header.read_header(path, file)[0].quantised
    assert {name: found.coding for name, found in forms.items()} == {
        "field.table": "deflate", "field.network.weight": "raw"
    }  # fmt: skip
    nf_file.load(path)
    return path


def form(text: dict[str, Any], name: str = "field.network.weight") -> dict[str, Any]:
    return text["quantised"][name]


def resize(log2_size: int) -> Edit:
    """Another size in the Config, and the codes' shape to match."""

    def edit(text: dict[str, Any], table: dict[str, Any]) -> None:
        text["config"].update(log2_size=log2_size)
        form(text, "field.table").update(shape=[2, 2**log2_size, 2])

    return edit


QUANTISED: list[tuple[Edit, str]] = [
    (lambda text, table: text["quantised"].pop("field.table"), r"is U8 \[\d+\], its config needs F32 \[2, 1024, 2\]"),
    (lambda text, table: text.pop("quantised"), "missing required field `quantised`"),
    (lambda text, table: text["quantised"].update({"field.tabel": form(text)}), "no tensor of codes"),
    (lambda text, table: text["quantised"].update({"cameras.model": form(text)}), "no tensor of codes"),
    (lambda text, table: text["quantised"].update({"field.network.bias": form(text)}), "no tensor of codes"),
    (lambda text, table: form(text).update(shape=[4, 8]), r"bytes in shape \[8, 4\], too few or too many"),
    (lambda text, table: form(text).update(shape=[2**40, 2**40]), "too few or too many"),
    (lambda text, table: form(text).update(shape=[]), "at `\\$.quantised"),
    (lambda text, table: form(text).update(shape=[-8, -4]), "at `\\$.quantised"),
    (lambda text, table: form(text).update(coding="deflate"), r"bytes in shape \[8, 4\], too few or too many"),
    (lambda text, table: form(text).update(coding="zstd"), "zstd"),
    (lambda text, table: form(text).update(low=[]), "at `\\$.quantised"),
    (lambda text, table: form(text).update(low=[0.0] * 3, step=[1.0] * 3), "3 lows and 3 steps for 4 channels"),
    (lambda text, table: form(text).update(low=[0.0] * 4), "4 lows and 1 steps for 4 channels"),
    (lambda text, table: form(text).update(step=[-1.0]), "at `\\$.quantised"),
    (lambda text, table: form(text).update(step=[3e38]), "leave float32"),
    (lambda text, table: form(text).update(low=[1e300]), "leave float32"),
    (lambda text, table: form(text).update(step=[None]), "at `\\$.quantised"),
    (lambda text, table: form(text).update(zero=3), "unknown field `zero`"),
    (lambda text, table: form(text, "field.table").update(shape=[2, 512, 2]), r"needs F32 \[2, 1024, 2\]"),
    (lambda text, table: form(text, "field.table").update(shape=[2, 2**14, 2]), "too few or too many"),
    (lambda text, table: form(text, "field.table").update(coding="raw"), "too few or too many"),
    (resize(11), "4096 codes for 8192 values"),
    (resize(9), "not one stream of 2048 values"),
]


@pytest.mark.parametrize(("edit", "match"), QUANTISED)
def test_lies_about_codes(small: Path, edit: Edit, match: str) -> None:
    with at_most(100e6):
        refused(forge(small, edit), match)


def test_a_stream_that_was_made_to_swell(small: Path) -> None:
    """A thousandfold stream of zeros in place of the codes, with hash and digest right."""
    bomb = zlib.compress(bytes(2 * 2**10 * 2), 9)

    def edit(text: dict[str, Any], table: dict[str, Any]) -> None:
        begin, end = table["field.table"]["data_offsets"]
        shift = len(bomb) - (end - begin)
        for entry in table.values():
            entry["data_offsets"] = [offset + shift * (offset > begin) for offset in entry["data_offsets"]]
        table["field.table"].update(shape=[len(bomb)], data_offsets=[begin, begin + len(bomb)])
        text["sha256"]["field.table"] = hashlib.sha256(bomb).hexdigest()
        edit.place = begin, end  # type: ignore[attr-defined]

    def data(body: bytes) -> bytes:
        begin, end = edit.place  # type: ignore[attr-defined]
        return body[:begin] + bomb + body[end:]

    assert len(bomb) < 100
    refused(forge(small, edit, data), "too few or too many")


def test_damaged_stream_with_the_right_hash(small: Path) -> None:
    def change(text: dict[str, Any], table: dict[str, Any]) -> None:
        begin, end = table["field.table"]["data_offsets"]
        body = small.read_bytes()[8 + int.from_bytes(small.read_bytes()[:8], "little") :]
        broken = body[begin : begin + 10] + bytes(20) + body[begin + 30 : end]
        text["sha256"]["field.table"] = hashlib.sha256(broken).hexdigest()
        change.body = body[:begin] + broken + body[end:]  # type: ignore[attr-defined]

    refused(forge(small, change, lambda body: change.body), "tensor field.table: the coded bytes are damaged")


STREAMS = [b"", b"not a stream", zlib.compress(bytes(16 * 32768 - 8)), zlib.compress(bytes(10**7))]


@pytest.mark.parametrize("data", STREAMS, ids=["empty", "damaged", "short", "long"])
def test_an_occupancy_that_is_no_stream_of_its_words(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, data: bytes):
    """One line, and no more memory than the words need."""
    full = sample(log2_size=10)
    generator = torch.Generator().manual_seed(0)
    words = torch.randint(-(2**62), 2**62, (2, 32768), generator=generator)
    words = words.where(torch.rand(2, 32768, generator=generator) < 0.05, 0)
    path = tmp_path / "words.nf"
    nf_file.save(model.Model(full.field, full.bounds, words), path, bits=8)
    assert torch.equal(nf_file.load(path).occupancy, words) and path.stat().st_size < 150_000
    monkeypatch.setattr(
        nf_file, "pack_words", lambda words: torch.frombuffer(bytearray(data or b"x"), dtype=torch.uint8)
    )
    nf_file.save(model.Model(full.field, full.bounds, words), path, bits=8)
    refused(path, "tensor occupancy")
