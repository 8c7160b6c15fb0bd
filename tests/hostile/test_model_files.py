"""Files that claim to be models: each is refused with one line, quickly, before anything large is allocated."""

import hashlib
import json
import os
import pickle
import random
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from neuralfields import fields
from neuralfields.errors import InputError
from neuralfields.models import model, nf_file
from neuralfields.models import nf_header as header
from tests.support.fake_field import sample
from tests.support.forge import Edit, forge, refused, seal
from tests.support.forked import Forked
from tests.support.peak import at_most

pytestmark = pytest.mark.usefixtures("fake")


@pytest.fixture
def sound(tmp_path: Path) -> Path:
    """A sound file of a few kilobytes."""
    full = sample()
    path = tmp_path / "sound.nf"
    nf_file.save(model.Model(full.field, full.bounds, None, full.cameras, (0, 3), full.camera_names), path)
    nf_file.load(path)
    return path


def test_forging_itself_is_sound(sound: Path) -> None:
    nf_file.load(forge(sound, lambda text, table: None))


def test_truncated_anywhere(sound: Path) -> None:
    raw = sound.read_bytes()
    length = int.from_bytes(raw[:8], "little")
    cut = sound.with_name("cut.nf")
    places = [*range(0, 8 + length, 7), *range(8 + length, len(raw), 41), len(raw) - 1]
    for place in places:
        cut.write_bytes(raw[:place])
        refused(cut, "empty|cut short|no safetensors header")
    cut.write_bytes(raw + b"\0")
    refused(cut, "longer than its tensors")


def test_any_flipped_bit(sound: Path) -> None:
    raw = sound.read_bytes()
    length = int.from_bytes(raw[:8], "little")
    chance = random.Random(0)
    flipped = sound.with_name("flipped.nf")
    for place in [*range(0, 8 + length, 3), *range(8 + length, len(raw), 29)]:
        changed = bytearray(raw)
        changed[place] ^= 1 << chance.randrange(8)
        flipped.write_bytes(changed)
        refused(flipped)


def test_flip_in_the_data_names_the_tensor(sound: Path) -> None:
    raw = bytearray(sound.read_bytes())
    raw[-1] ^= 1
    sound.write_bytes(raw)
    refused(sound, "tensor .* was changed after it was written")


def test_not_a_model(tmp_path: Path) -> None:
    canary = tmp_path / "canary"

    class Payload:
        def __reduce__(self) -> tuple[Any, ...]:
            return os.system, (f"touch {canary}",)

    path = tmp_path / "a.nf"
    for protocol in (0, 2, 4):
        path.write_bytes(pickle.dumps(Payload(), protocol))
        refused(path, "pickle" if protocol else "is not a .nf file")
    torch.save({"a": torch.zeros(2)}, path)
    refused(path, "pickle")
    for content in (b"{}", b"hello, this is text", bytes(1000), b"\xff" * 100, b"\x89PNG\r\n\x1a\n" + bytes(50)):
        path.write_bytes(content)
        refused(path, "is not a .nf file")
    path.write_bytes((2**63).to_bytes(8, "little") + b"{" * 100)
    refused(path, "is not a .nf file")
    path.write_bytes((200_000).to_bytes(8, "little") + b"[" * 200_000)
    refused(path)
    path.write_bytes((200_000).to_bytes(8, "little") + b'{"a":' * 40_000)
    refused(path, "damaged")
    head = b'{"x":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}'
    path.write_bytes(len(head).to_bytes(8, "little") + head + bytes(4))
    refused(path, "neuralfields did not write")
    assert not canary.exists()


def test_no_file_folder_pipe(tmp_path: Path) -> None:
    refused(tmp_path / "none.nf", "no such file")
    refused(tmp_path, "is a folder")
    os.mkfifo(tmp_path / "pipe.nf")
    refused(tmp_path / "pipe.nf", "not a regular file")
    with pytest.raises(InputError, match="cannot be opened"):
        nf_file.load(Path("nul\0.nf"))


def test_newer_version_says_what_it_needs(sound: Path) -> None:
    path = forge(sound, lambda text, table: text.update(format_version=7, needs="2.3.0", brand_new={"x": 1}))
    assert "needs neuralfields >= 2.3.0, this file is format 7" in refused(path)
    with pytest.raises(InputError, match="this file is format 7"):
        header.describe(path)
    path = forge(sound, lambda text, table: text.update(format_version=7, needs="\x1b[31m; rm -rf"))
    assert "needs neuralfields >= a newer version" in refused(path)


def test_resaved_by_another_program_is_refused(sound: Path) -> None:
    tensors = load_file(sound)
    with safe_open(sound, framework="pt") as file:
        metadata = file.metadata()
    metadata["neuralfields"] = metadata["neuralfields"].replace('"levels":2', '"levels":3')
    save_file(tensors, sound, metadata)
    refused(sound, "changed after it was written")


def shape(table: dict[str, Any], name: str, value: list[int]) -> None:
    table[name]["shape"] = value


MEANINGS: list[tuple[Edit, str]] = [
    (lambda text, table: text.update(field="fakee"), r"field 'fakee' is unknown \(did you mean 'fake'\?\)"),
    (lambda text, table: text.update(field="../../etc/passwd"), "is unknown"),
    (lambda text, table: text.update(field=3), r"expected `str`, got `int` - at `\$\.field`"),
    (lambda text, table: text.update(extra=1), "unknown field `extra`"),
    (lambda text, table: text.pop("bounds"), "missing required field `bounds`"),
    (lambda text, table: text["config"].update(levelz=2), r"config\.levelz is unknown .* \(did you mean 'levels'\?\)"),
    (lambda text, table: text["config"].update(levels="2"), "expected `int`, got `str`"),
    (lambda text, table: text["config"].update(levels=10**12), "levels 1000000000000: must be between 1 and 32"),
    (lambda text, table: text["config"].update(levels=0), "levels 0: must be between 1 and 32"),
    (lambda text, table: text["config"].update(levels=10**40), "config"),
    (lambda text, table: text["config"].update(sizes=[]), "cannot be made of its config"),
    (lambda text, table: text["config"].update(sizes=[-5]), "cannot be made of its config"),
    (lambda text, table: text["config"].update(levels=32, log2_size=26), "its config needs F32"),
    (lambda text, table: text["bounds"].update(side=0), "at `\\$.bounds.side`"),
    (lambda text, table: text["bounds"].update(cascades=99), "at `\\$.bounds.cascades`"),
    (lambda text, table: text["bounds"].update(contraction="sphere"), "sphere"),
    (lambda text, table: text["bounds"].update(centre=[0, 0]), "centre"),
    (lambda text, table: text["conventions"].update(camera_axes="opengl"), "conventions.camera_axes is 'opengl'"),
    (lambda text, table: text["conventions"].update(handedness="left"), "handedness"),
    (lambda text, table: text.update(format_version=0), "is format 0, from before"),
    (lambda text, table: text.update(half=["field.table"]), "no float16 tensor"),
    (lambda text, table: text.update(camera_names=["one"]), r"is F64 \[5, 14\], F64 \[1, 14\] is needed"),
    (lambda text, table: text["sha256"].update({"field.mask": "0" * 64}), "field.mask was changed"),
    (lambda text, table: text["sha256"].update({"field.mask": "short"}), "sha256"),
    (lambda text, table: text["sha256"].pop("field.mask"), "field.mask is without hash"),
    (lambda text, table: table["field.table"].update(dtype="F16"), "does not fit"),
    (lambda text, table: table["field.table"].update(dtype="I32"), r"is I32 \[2, 16, 2\], its config needs F32"),
    (lambda text, table: table["field.table"].update(dtype="X9"), "dtype 'X9' is none of"),
    (lambda text, table: shape(table, "field.table", [16, 2, 2]), r"its config needs F32 \[2, 16, 2\]"),
    (lambda text, table: shape(table, "field.table", [2**40, 2**40]), "does not fit"),
    (lambda text, table: shape(table, "field.table", [-2, -16, 2]), "damaged"),
    (lambda text, table: shape(table, "field.table", [1] * 1000), "damaged"),
    (lambda text, table: table["field.table"].update(data_offsets=[0, 2**62]), "does not fit"),
    (lambda text, table: table["field.mask"].update(data_offsets=[0, 3]), "does not fit"),
    (lambda text, table: table.update({"field.tabel": table.pop("field.table")}), "missing|without hash"),
    (lambda text, table: table.update({"cameras.modell": table.pop("cameras.model")}), "missing|without hash"),
]


@pytest.mark.parametrize(("edit", "match"), MEANINGS)
def test_lies_with_the_right_digest(sound: Path, edit: Edit, match: str) -> None:
    with at_most(100e6):
        refused(forge(sound, edit), match)


def rename(old: str, new: str) -> Edit:
    def edit(text: dict[str, Any], table: dict[str, Any]) -> None:
        table[new] = table.pop(old)
        text["sha256"][new] = text["sha256"].pop(old)

    return edit


@pytest.mark.parametrize(
    ("old", "new", "match"),
    [
        ("field.table", "field.tabel", "tensor field.table of field fake is missing"),
        ("cameras.model", "cameras.modell", "tensor cameras.model is missing"),
        ("field.mask", "weights", "tensor weights is unknown"),
    ],
)
def test_renamed_tensors(sound: Path, old: str, new: str, match: str) -> None:
    refused(forge(sound, rename(old, new)), match)


def test_extra_tensor(sound: Path) -> None:
    def add(text: dict[str, Any], table: dict[str, Any]) -> None:
        end = max(entry["data_offsets"][1] for entry in table.values())
        table["field.tables"] = {"dtype": "U8", "shape": [4], "data_offsets": [end, end + 4]}
        text["sha256"]["field.tables"] = hashlib.sha256(bytes(4)).hexdigest()

    path = forge(sound, add, lambda data: data + bytes(4))
    refused(path, r"tensor field\.tables does not belong to field fake \(did you mean 'field\.table'\?\)")


def test_bad_values_with_the_right_hash(sound: Path) -> None:
    """NaN in a weight, a camera without size, a truth value of 7: hashes prove origin, not sense."""
    patches = {
        "field.network.bias": (b"\x00\x00\xc0\x7f", "field.network.bias holds 1 of 8"),
        "cameras.intrinsics": (bytes(8), "camera 0: its size"),
        "cameras.world_from_camera": (b"\x00\x00\x00\x00\x00\x00\xf8\x7f", "holds 1 of 80"),
        "cameras.model": (b"\x05", "camera 0"),
        "cameras.held_out": (b"\x02", "camera 0"),
        "field.mask": (b"\x07", "bytes other than 0 and 1"),
    }
    raw = sound.read_bytes()
    body = raw[8 + int.from_bytes(raw[:8], "little") :]
    for name, (patch, match) in patches.items():
        changed = bytearray(body)

        def edit(text: dict[str, Any], table: dict[str, Any], name: str = name, patch: bytes = patch) -> None:
            begin, end = table[name]["data_offsets"]
            changed[begin : begin + len(patch)] = patch  # noqa: B023
            text["sha256"][name] = hashlib.sha256(changed[begin:end]).hexdigest()  # noqa: B023

        refused(forge(sound, edit, lambda data: bytes(changed)), match)  # noqa: B023


def test_duplicate_keys(sound: Path) -> None:
    raw = sound.read_bytes()
    length = int.from_bytes(raw[:8], "little")
    table = json.loads(raw[8 : 8 + length])
    text = table.pop("__metadata__")["neuralfields"]
    twice = text.replace('"config":{', '"config":{"levels":2,', 1)
    refused(seal(sound, twice, table, raw[8 + length :]), "the key 'levels' twice")


def test_huge_metadata(sound: Path) -> None:
    path = forge(sound, lambda text, table: text["made"].update(note="x" * header.HEADER_LIMIT))
    refused(path, "is not a .nf file")


@pytest.mark.parametrize(("depth", "sound_still"), [(500, True), (100_000, False)])
def test_nested_metadata(sound: Path, depth: int, sound_still: bool) -> None:
    """Deep within what readers of JSON take, and past it: no exhausted stack either way."""
    raw = sound.read_bytes()
    length = int.from_bytes(raw[:8], "little")
    table = json.loads(raw[8 : 8 + length])
    text = table.pop("__metadata__")["neuralfields"]
    note = "[" * depth + "]" * depth
    path = seal(sound, text.replace('"made":{}', f'"made":{{"note":{note}}}'), table, raw[8 + length :])
    if sound_still:
        assert str(nf_file.load(path).made["note"]) == note
    else:
        refused(path, "nested too deeply")


def test_a_wrong_occupancy_never_reaches_a_kernel(tmp_path: Path) -> None:
    path = tmp_path / "full.nf"
    nf_file.save(sample(), path)
    fewer = forge(path, lambda text, table: text["bounds"].update(cascades=1))
    refused(fewer, r"tensor occupancy is I64 \[2, 32768\], I64 \[1, 32768\] is needed")


LOCALE = {"LC_ALL": "de_DE.UTF-8", "PYTHONUTF8": "0", "TZ": "Asia/Kathmandu"}
SAVES = """
import sys, pytest; from pathlib import Path; from tests.support import fake_field
from neuralfields.models import nf_file; fake_field.install(pytest.MonkeyPatch())
nf_file.save(fake_field.sample(), Path(sys.argv[1])); nf_file.load(Path(sys.argv[1]))
"""
IN_LOCALE = """
import contextlib, locale, time
with contextlib.suppress(locale.Error):  # where it is not installed
    locale.setlocale(locale.LC_ALL, "")
time.tzset()
"""


def test_the_locale_does_not_change_a_file(tmp_path: Path) -> None:
    """A comma locale changes how C prints numbers."""
    process = Forked(["-c", IN_LOCALE + SAVES, tmp_path / "odd.nf"], tmp_path / "said", environment=LOCALE)
    assert process.wait(60) == 0, process.err.read_text()
    nf_file.save(sample(), tmp_path / "plain.nf")
    assert (tmp_path / "plain.nf").read_bytes() == (tmp_path / "odd.nf").read_bytes()


@pytest.mark.slow
@pytest.mark.parametrize("odd", [LOCALE, {"PYTHONOPTIMIZE": "2"}], ids=["locale", "optimised"])
def test_locale_and_optimisation_of_a_fresh_process_do_not_change_a_file(tmp_path: Path, odd: dict[str, str]) -> None:
    """PYTHONOPTIMIZE strips asserts and docstrings, and all that is imported is compiled anew. There is no HOME."""
    paths = [str(Path(__file__).parents[2]), *(entry for entry in sys.path if entry)]
    environment = {"PYTHONPATH": os.pathsep.join(paths), "PATH": os.environ["PATH"], **odd}
    done = subprocess.run(
        [sys.executable, "-c", SAVES, str(tmp_path / "odd.nf")], env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    nf_file.save(sample(), tmp_path / "plain.nf")
    assert (tmp_path / "plain.nf").read_bytes() == (tmp_path / "odd.nf").read_bytes()


@pytest.mark.parametrize("name", [name for name in fields.field_names() if fields.field_class(name).FORMER])
def test_a_file_that_lacks_a_setting_has_what_it_was_made_with(
    tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.undo()  # the real fields
    kind = fields.field_class(name)
    assert all(getattr(kind.Config(), key) != value for key, value in kind.FORMER.items())
    before = kind(kind.Config(**kind.FORMER))
    nf_file.save(model.Model(before, sample().bounds), tmp_path / "a.nf")
    earlier = forge(tmp_path / "a.nf", lambda text, table: [text["config"].pop(key) for key in kind.FORMER])
    assert nf_file.load(earlier).field.config == before.config
