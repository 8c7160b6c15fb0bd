"""Every splat format keeps one contract; a walk through all of them ends where it began."""

from dataclasses import replace
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest
import torch

from neuralfields.codecs import ply
from neuralfields.codecs.splats import (
    LOOKED_AT,
    SPLAT_FORMATS,
    describe_splats,
    format_of,
    is_splat_file,
    read_gaussians,
    writable,
    write_gaussians,
)
from neuralfields.errors import InputError, UsageError
from neuralfields.gaussians import empty
from tests.support.splat_files import assert_within, beside, judge, judged
from tests.support.splats import random_gaussians

WRITABLE = [".compressed.ply", ".ply", ".splat", ".spz", ".sog", "meta.json", ".glb", ".gltf", ".nfz"]


def test_the_table_is_whole():
    assert set(SPLAT_FORMATS.values()) == set(LOOKED_AT) and writable() == WRITABLE
    for name in LOOKED_AT:
        module = import_module(f"neuralfields.codecs.{name}")
        assert module.NAME and callable(module.recognises) and callable(module.read)
        assert "ound trip" in module.__doc__ or not hasattr(module, "write")


def named(folder: Path, suffix: str) -> Path:
    return folder / suffix if suffix == "meta.json" else folder / f"a{suffix}"


@pytest.mark.parametrize("suffix", WRITABLE)
def test_every_format_writes_what_it_recognises_and_reads(suffix, tmp_path: Path):
    before = random_gaussians(64, 1)
    path = named(tmp_path, suffix)
    write_gaussians(before, path)
    assert is_splat_file(path) and format_of(path) == SPLAT_FORMATS[suffix]
    after = read_gaussians(path).require_sound()
    assert len(after) == 64 and after.degree == (0 if suffix == ".splat" else 1)
    told = describe_splats(path)
    assert told["gaussians"] == 64 and told["degree"] == after.degree and told["bytes"] > 0 and told["kind"]
    others = [name for name in LOOKED_AT if import_module(f"neuralfields.codecs.{name}").recognises(path)]
    assert others == [SPLAT_FORMATS[suffix]]  # no other format takes it for its own
    left = {p.name for p in tmp_path.iterdir() if p.suffix != ".webp"}
    assert left == {path.name}  # no litter


@pytest.mark.parametrize("suffix", [s for s in WRITABLE if s not in (".splat", "meta.json")])
def test_the_content_counts_and_not_the_name(suffix, tmp_path: Path):
    path = named(tmp_path, suffix)
    write_gaussians(random_gaussians(30, 0), path)
    before = read_gaussians(path)
    renamed = path.rename(tmp_path / "thing.bin")
    assert_within(before, read_gaussians(renamed))


@pytest.mark.parametrize("suffix", WRITABLE)
def test_nothing_hides_in_a_gap(suffix, tmp_path: Path):
    """One Gaussian, a thousand alike, scales and opacities at their ends: no division by a range of 0."""
    one = random_gaussians(1, 2)
    alike = one.take(torch.zeros(1000, dtype=torch.long))
    ends = random_gaussians(4, 0)
    ends.scales[:2], ends.opacities[:] = -40.0, torch.tensor([-40.0, 40.0, 0.0, 1.0])
    for gaussians in (one, alike, ends):
        path = named(tmp_path, suffix)
        write_gaussians(gaussians, path)
        after = beside(gaussians, read_gaussians(path)) if gaussians is ends else read_gaussians(path)
        assert len(after) == len(gaussians) and after.require_sound() is after
        torch.testing.assert_close(after.means, gaussians.means, atol=3e-3, rtol=0)
        torch.testing.assert_close(after.opacity(), gaussians.opacity(), atol=2e-3, rtol=0)


def test_what_cannot_be_written_is_said(tmp_path: Path):
    good = random_gaussians(3)
    for name in ("a.obj", "a.ksplat", "lod-meta.json", "a"):
        with pytest.raises(UsageError, match=r"splats are written as \.compressed\.ply, \.ply"):
            write_gaussians(good, tmp_path / name)
    with pytest.raises(InputError, match="no Gaussians to write"):
        write_gaussians(empty(), tmp_path / "a.ply")
    with pytest.raises(InputError, match="means of 3 of 3 Gaussians are not finite"):
        write_gaussians(replace(good, means=good.means * np.nan), tmp_path / "a.ply")
    with pytest.raises(UsageError, match="no levels of detail"):
        write_gaussians(good, tmp_path / "a.ply")
        read_gaussians(tmp_path / "a.ply", level=1)
    with pytest.raises(InputError, match="no such folder"):
        write_gaussians(good, tmp_path / "none" / "a.spz")


def test_what_is_no_splat_is_said(tmp_path: Path):
    (tmp_path / "a.ply").write_bytes(b"ply\nformat ascii 1.0\nelement vertex 1\nproperty float x\nend_header\n1\n")
    (tmp_path / "b.glb").write_bytes(b"glTF" + bytes(40))
    (tmp_path / "c.txt").write_text("hello")
    (tmp_path / "d.spz").write_bytes(b"")
    for name, match in (
        ("a.ply", "is a PLY of points"), ("b.glb", "without KHR_gaussian_splatting"),
        ("c.txt", r"no file of splats that is known here \(\.compressed\.ply"), ("d.spz", "is empty"),
        ("none.ply", "no such file"), (".", "folder without a SOG"), ("zero\0byte.ply", "no such file"),
    ):  # fmt: skip
        assert not is_splat_file(tmp_path / name)
        with pytest.raises(InputError, match=match):
            read_gaussians(tmp_path / name)


STEPS = [".ply", ".spz", ".sog", ".glb", ".ply"]
LIMITS = {"means": 1e-3, "scales": 0.15, "angle": 0.03, "opacity": 0.005, "degree_0": 0.1} | {
    f"degree_{d}": 0.09 for d in range(1, 4)
}


def all_different(count: int = 60):
    """Long thin Gaussians in every direction, with harmonics that look different from each side."""
    found = random_gaussians(count, 3, seed=4)
    found.scales[:] = torch.tensor([-5.0, -3.0, -1.5]) + 0.1 * torch.arange(count)[:, None] / count
    found.harmonics[:, 0].clamp_(-3, 3)  # .spz holds no more
    found.harmonics[:, 1:] = 0.8 * torch.sin(torch.arange(count * 45.0)).reshape(count, 15, 3)
    return found


def test_a_walk_through_all_formats_ends_where_it_began(tmp_path: Path):
    """Fault 23: a codec that forgets an axis, an order or a sign is off by more than any step."""
    before = all_different()
    found = before
    for number, suffix in enumerate(STEPS):
        write_gaussians(found, tmp_path / f"{number}{suffix}")
        found = read_gaussians(tmp_path / f"{number}{suffix}")
    assert_within(before, beside(before, found), **LIMITS)


def test_the_walk_by_the_outside_judge_is_the_same(tmp_path: Path):
    """Every step from a file of ours to one of theirs and back; .glb it only writes."""
    command = judge()
    before = all_different()
    write_gaussians(before, tmp_path / "0.ply")
    path = tmp_path / "0.ply"
    for number, suffix in enumerate([".spz", ".sog", ".ply", ".glb"], 1):
        options = ("-i", "5") if suffix == ".sog" else ()
        path = judged(command, path, tmp_path / f"{number}{suffix}", *options)
    limits = LIMITS | {"degree_0": 9.0, "angle": 0.05, "means": 2e-3} | {f"degree_{d}": 2.0 for d in range(1, 4)}
    assert_within(before, beside(before, read_gaussians(path)), **limits)  # its palette and codebook lose more
    ours = tmp_path / "ours.ply"
    ply.write(read_gaussians(tmp_path / "2.sog"), ours)
    assert_within(read_gaussians(ours), read_gaussians(tmp_path / "3.ply"), means=1e-6, opacity=1e-5)
    assert_within(read_gaussians(tmp_path / "3.ply"), read_gaussians(path), means=1e-6, opacity=1e-5, scales=1e-5)
