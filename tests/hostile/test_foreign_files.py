"""Files that claim to be fields of other programs: nothing in them runs, nothing large comes of them."""

import gzip
import os
import pickle
import random
import resource
import struct
import time
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
import torch

from neuralfields.codecs import describe_any, load_any
from neuralfields.errors import InputError
from tests.support.foreign_files import flexible_weights, model_of, snapshot_of, write_snapshot


def refused(path: Path, match: str | None = None) -> str:
    """The one line of the refusal, alike from both ways in."""
    begin = time.process_time()
    with pytest.raises(InputError, match=match) as caught:
        load_any(path)
    assert time.process_time() - begin < 10
    text = str(caught.value)
    assert "\n" not in text and text.startswith(str(path)) and len(text) < 500 + len(str(path))
    return text


@pytest.fixture
def little_memory() -> Iterator[None]:
    """A GiB more than is taken now, and no more."""
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    before = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + (1 << 30), before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_AS, before)


class Payload:
    """A pickle of it runs a command when it is read without care."""

    def __init__(self, canary: Path) -> None:
        self.canary = canary

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, (f"touch {self.canary}",)


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("place", ["root", "entry", "weights"])
def test_a_malicious_pickle_runs_nothing(zipped, place, tmp_path: Path):
    canary, path = tmp_path / "canary", tmp_path / "a.ckpt"
    payload = Payload(canary)
    content = {
        "root": payload,
        "entry": {"model_fine_state_dict": flexible_weights(), "optimizer": payload},
        "weights": {"model_fine_state_dict": flexible_weights() | {"extra": payload}},
    }[place]
    torch.save(content, path, _use_new_zipfile_serialization=zipped)
    refused(path, r"holds more than weights.*nothing in it was run")
    with pytest.raises(InputError):
        describe_any(path)
    assert not canary.exists()
    torch.load(path, weights_only=False)  # the trap is a real one
    assert canary.exists()


def test_a_bare_pickle_is_no_checkpoint(tmp_path: Path):
    canary = tmp_path / "canary"
    for protocol in (0, 2, 4):
        (tmp_path / "a.ckpt").write_bytes(pickle.dumps(Payload(canary), protocol))
        refused(tmp_path / "a.ckpt")
    assert not canary.exists()


@pytest.mark.parametrize("zipped", [True, False])
def test_checkpoints_cut_or_changed_anywhere(zipped, tmp_path: Path):
    path, cut = tmp_path / "whole.ckpt", tmp_path / "cut.ckpt"
    torch.save({"model_fine_state_dict": flexible_weights(width=8)}, path, _use_new_zipfile_serialization=zipped)
    whole, chance = path.read_bytes(), random.Random(0)
    for place in sorted({0, 1, 3, 14, 15, *(chance.randrange(len(whole)) for _ in range(25)), len(whole) - 1}):
        cut.write_bytes(whole[:place])
        refused(cut)
    for _ in range(60):  # what is still a checkpoint may be described; it must not do anything else
        changed = bytearray(whole)
        changed[chance.randrange(min(len(whole), 3000))] ^= 1 << chance.randrange(8)
        cut.write_bytes(changed)
        try:
            describe_any(cut)
        except InputError as error:
            assert "\n" not in str(error)


def test_checkpoints_of_other_things(tmp_path: Path):
    path = tmp_path / "a.ckpt"
    for content, match in (
        ([1, 2, 3], "holds a list"),
        (
            {"model_fine_state_dict": {"layers_xyz.0.weight": "text", "layer1.weight": 0, "fc_out.weight": 0}},
            "is a str",
        ),
        ({"a": 1, 5: 2}, "of no known field"),
    ):
        torch.save(content, path)
        refused(path, match)


def archive(path: Path, members: dict[str, bytes], kind: int = zipfile.ZIP_STORED) -> Path:
    with zipfile.ZipFile(path, "w", kind, compresslevel=1) as out:
        for name, data in members.items():
            out.writestr(name, data)
    return path


def test_archives_that_grow_are_refused(tmp_path: Path, little_memory: None):
    bomb = archive(tmp_path / "a.ckpt", {"a/data.pkl": b"", "a/data/0": bytes(200 << 20)}, zipfile.ZIP_DEFLATED)
    refused(bomb, "compressed or overlap")
    refused(archive(tmp_path / "b.ckpt", {"readme.txt": b"hello"}), r"no data\.pkl")


def test_storages_larger_than_their_record_are_refused(tmp_path: Path, little_memory: None):
    """A pickle that says a tensor has more numbers than lie in the archive."""
    path = tmp_path / "a.ckpt"
    weights = flexible_weights(width=8)
    torch.save({"model_fine_state_dict": weights}, path)
    with zipfile.ZipFile(path) as given:
        members = {name: given.read(name) for name in given.namelist()}
    pickled = next(name for name in members if name.endswith("data.pkl"))
    count = weights["layer1.weight"].numel()
    for huge in (count + 8, 10**6, 2**30, 2**31 - 1):
        forged = members[pickled].replace(b"M" + struct.pack("<H", count), b"J" + struct.pack("<i", huge), 1)
        assert forged != members[pickled]
        refused(archive(path, members | {pickled: forged}))


@pytest.fixture(scope="module")
def content() -> dict[str, Any]:
    """A sound snapshot's map."""
    return snapshot_of(model_of())


def test_bombs_are_not_unpacked(tmp_path: Path, little_memory: None):
    head = msgspec.msgpack.encode({"encoding": {}, "network": {}, "snapshot": {}, "filler": b""})[:-2]
    for name, wrap in (("a.ingp", gzip.compress), ("b.ingp", zlib.compress)):
        (tmp_path / name).write_bytes(wrap(head + b"\xc6" + struct.pack(">I", 1 << 30) + bytes(1 << 27), 1))
        refused(tmp_path / name, "unpacks to more than")
    (tmp_path / "c.ingp").write_bytes(gzip.compress(bytes(1 << 20)))
    refused(tmp_path / "c.ingp", "compressed, but holds no Instant-NGP snapshot")


def test_lengths_that_lie_allocate_nothing(tmp_path: Path, little_memory: None):
    path = tmp_path / "a.msgpack"
    keys = b"\x84" + b"".join(msgspec.msgpack.encode(key) for key in ("encoding",)) + b"\x80"
    for claim in (b"\xdd\xff\xff\xff\xff", b"\xdf\xff\xff\xff\xff", b"\xc6\xff\xff\xff\xff", b"\xdb\xff\xff\xff\xff"):
        path.write_bytes(keys + msgspec.msgpack.encode("other") + claim)
        refused(path)
        state = b"\x81" + msgspec.msgpack.encode("params_binary") + claim
        path.write_bytes(keys + msgspec.msgpack.encode("snapshot") + state)
        refused(path)
        nerf = b"\x81" + msgspec.msgpack.encode("dataset") + b"\x81" + msgspec.msgpack.encode("paths") + claim
        state = b"\x81" + msgspec.msgpack.encode("nerf") + nerf
        path.write_bytes(keys + msgspec.msgpack.encode("snapshot") + state)
        refused(path)
    path.write_bytes(keys + msgspec.msgpack.encode("other") + b"\x91" * 200_000)
    refused(path)


def test_snapshots_cut_or_changed_anywhere(content: dict[str, Any], tmp_path: Path):
    small = content | {"snapshot": content["snapshot"] | {"density_grid_binary": b"x" * 64}}
    chance = random.Random(1)
    for name in ("a.msgpack", "a.ingp"):
        whole = write_snapshot(tmp_path / name, small).read_bytes()
        path = tmp_path / f"cut-{name}"
        for place in (1, 2, *(chance.randrange(len(whole)) for _ in range(25)), len(whole) - 1):
            path.write_bytes(whole[:place])
            refused(path)
        path.write_bytes(whole + b"\0")
        refused(path)
        for _ in range(60):
            changed = bytearray(whole)
            changed[chance.randrange(len(whole))] ^= 1 << chance.randrange(8)
            path.write_bytes(changed)
            refused(path)  # the density grid's size is wrong in any case


NAN = float("nan")


@pytest.mark.parametrize(
    ("keys", "value", "match"),
    [
        (("snapshot", "nerf", "aabb_scale"), 3, "power of two"),
        (("snapshot", "nerf", "aabb_scale"), 2**30, "power of two|density_grid_binary"),
        (("snapshot", "nerf", "dataset", "scale"), 0.0, "scale 0"),
        (("snapshot", "nerf", "dataset", "scale"), NAN, "scale nan"),
        (("snapshot", "nerf", "dataset", "offset"), [1e30, 0.0, 0.0], "offset"),
        (("snapshot", "nerf", "dataset", "metadata"), [], "0 entries of metadata for 3 xforms"),
        (("snapshot", "nerf", "dataset", "is_hdr"), True, "is_hdr is True"),
        (("snapshot", "nerf", "dataset", "n_extra_learnable_dims"), 16, "n_extra_learnable_dims is 16"),
        (("snapshot", "nerf", "dataset", "xforms"), [{"start": [[NAN] * 4] * 3}] * 3, r"xforms\[0\].*NaN"),
        (("snapshot", "nerf", "dataset", "xforms"), [{"start": [[1.0]]}] * 3, r"xforms\[0\].*matrix is 1x1"),
        (("snapshot", "nerf", "dataset"), {"scale": "large"}, r"\$\.snapshot\.nerf\.dataset\.scale"),
        (("snapshot", "n_params"), 7, "for n_params 7"),
        (("snapshot", "n_params"), -1, "n_params"),
        (("snapshot", "density_grid_binary"), b"\0" * 10, "density_grid_binary has 10 bytes"),
        (("snapshot", "density_grid_size"), 64, "density_grid_size is 64"),
        (("snapshot", "params_binary"), "text", r"\$\.snapshot\.params_binary"),
        (("encoding", "n_levels"), 10**6, "levels 1000000|sizes are not those"),
        (("encoding", "log2_hashmap_size"), 60, "table 60"),
        (("encoding", "base_resolution"), 2**31, "base 2147483648"),
        (("encoding", "per_level_scale"), NAN, "sizes are not those|parameters, its configs need"),
        (("encoding", "per_level_scale"), 1e30, "sizes are not those|finest"),
        (("encoding", "n_features_per_level"), 0, "features 0"),
        (("network", "n_neurons"), 2**31, "hidden 2147483648"),
        (("network", "n_hidden_layers"), 2**31, "density_layers 2147483648"),
    ],
)
def test_impossible_values_are_named(keys, value, match, content: dict[str, Any], tmp_path: Path):
    changed = msgspec.msgpack.decode(msgspec.msgpack.encode(content))
    part = changed
    for key in keys[:-1]:
        part = part[key]
    part[keys[-1]] = value
    refused(write_snapshot(tmp_path / "a.msgpack", changed), match)


def test_parameters_that_are_not_finite_are_refused(content: dict[str, Any], tmp_path: Path):
    values = bytearray(content["snapshot"]["params_binary"])
    values[-2:] = b"\x00\x7c"  # infinity
    changed = content | {"snapshot": content["snapshot"] | {"params_binary": bytes(values)}}
    refused(write_snapshot(tmp_path / "a.msgpack", changed), r"1 of \d+ parameters are not finite")
