"""SOG: pictures, codebooks, folders and levels of detail."""

import io
import json
import shutil
import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from neuralfields.codecs import ply, sog
from neuralfields.codecs.quantisation import farthest
from neuralfields.codecs.splats import format_of, read_gaussians, write_gaussians
from neuralfields.errors import InputError
from neuralfields.gaussians import Gaussians
from tests.support.splat_files import along_the_curve, assert_within, beside, extent, judge, judged
from tests.support.splats import random_gaussians


def logs(means: torch.Tensor) -> torch.Tensor:
    return means.sign() * means.abs().double().log1p()


def within(before: Gaussians, after: Gaussians) -> None:
    """Both along the curve, the palette of harmonics as large as the Gaussians are many."""
    for axis in range(3):
        one, other = logs(before.means[:, axis]), logs(after.means[:, axis])
        assert float((one - other).abs().max()) <= extent(one) / 131070 * 1.01 + 1e-7
    limits = {"means": 1.0, "scales": farthest(extent(before.scales)) + 1e-5, "angle": sog.ANGLE * 1.01}
    limits |= {"opacity": 1 / 510 + 1e-6, "degree_0": farthest(extent(before.harmonics[:, 0])) + 1e-5}
    rest = farthest(extent(before.harmonics[:, 1:])) + 1e-5 if before.degree else 0
    assert_within(before, after, **limits, **{f"degree_{d}": rest for d in range(1, 4)})


@pytest.mark.parametrize("degree", [0, 1, 2, 3])
@pytest.mark.parametrize("count", [1, 300, 1024])
def test_what_comes_back_is_within_its_steps(degree, count, tmp_path: Path):
    before = replace(random_gaussians(count, degree), antialiased=degree == 1)
    path = tmp_path / "a.sog"
    sog.write(before, path, words=65536)
    assert format_of(path) == "sog"
    after = read_gaussians(path)
    assert after.antialiased == before.antialiased and after.degree == degree
    within(along_the_curve(before), after)


def test_a_second_time_nothing_is_lost_but_means_rounding(tmp_path: Path):
    """What came from codebooks and a palette fits them again."""
    sog.write(random_gaussians(3000, 3), tmp_path / "a.sog")
    once = sog.read(tmp_path / "a.sog")
    sog.write(once, tmp_path / "b.sog")
    twice = beside(once, sog.read(tmp_path / "b.sog"))
    assert_within(once, twice, means=1e-4, angle=sog.ANGLE * 1.01)


def test_the_same_gaussians_give_the_same_bytes(tmp_path: Path):
    for name in ("a.sog", "b.sog"):
        sog.write(random_gaussians(2000, 2), tmp_path / name)
    assert (tmp_path / "a.sog").read_bytes() == (tmp_path / "b.sog").read_bytes()


def test_the_palette_is_as_large_as_asked(tmp_path: Path):
    before = random_gaussians(2000, 3)
    errors = []
    for words in (64, 256, 1024, 65536):
        sog.write(before, tmp_path / "a.sog", words)
        with zipfile.ZipFile(tmp_path / "a.sog") as archive:
            assert json.loads(archive.read("meta.json"))["shN"]["count"] <= words
        errors.append(
            float((sog.read(tmp_path / "a.sog").harmonics - along_the_curve(before).harmonics).square().mean())
        )
    assert errors == sorted(errors, reverse=True) and errors[-1] < errors[0] / 100


def test_a_folder_holds_the_same(tmp_path: Path):
    before = random_gaussians(500, 2)
    write_gaussians(before, tmp_path / "a.sog")
    (tmp_path / "folder").mkdir()
    write_gaussians(before, tmp_path / "folder" / "meta.json")
    for path in (tmp_path / "folder", tmp_path / "folder" / "meta.json"):
        assert format_of(path) == "sog"
        assert_within(read_gaussians(tmp_path / "a.sog"), read_gaussians(path))


def picture(pixels: list[list[int]], width: int) -> bytes:
    file = io.BytesIO()
    Image.fromarray(np.array(pixels, np.uint8).reshape(-1, width, 4)).save(file, "WEBP", lossless=True, exact=True)
    return file.getvalue()


def test_the_layout_is_as_stated(tmp_path: Path):
    """Files made by hand, of one Gaussian whose colour is transparent: it must be kept all the same."""
    book = [float(i) / 64 for i in range(256)]
    meta = {
        "version": 2, "count": 1,
        "means": {"mins": [-1, 0, 0], "maxs": [1, 2, 1], "files": ["l.webp", "u.webp"]},
        "scales": {"codebook": book, "files": ["s.webp"]}, "quats": {"files": ["q.webp"]},
        "sh0": {"codebook": book, "files": ["c.webp"]},
        "shN": {"count": 2, "bands": 1, "codebook": book, "files": ["w.webp", "n.webp"]},
    }  # fmt: skip
    (tmp_path / "meta.json").write_text(json.dumps(meta))
    for name, pixels, width in (
        ("l", [[0, 255, 51, 255]], 1), ("u", [[0, 255, 51, 255]], 1), ("s", [[1, 2, 3, 255]], 1),
        ("q", [[255, 0, 128, 253]], 1), ("c", [[4, 5, 6, 0]], 1), ("n", [[1, 0, 0, 255]], 1),
        ("w", [[0] * 4] * 3 + [[10, 20, 30, 255], [11, 21, 31, 255], [12, 22, 32, 255]] + [[0] * 4] * 186, 192),
    ):  # fmt: skip
        (tmp_path / f"{name}.webp").write_bytes(picture(pixels, width))
    found = sog.read(tmp_path)
    expected = torch.tensor([[-np.expm1(1), np.expm1(2), np.expm1(0.2)]], dtype=torch.float32)
    torch.testing.assert_close(found.means, expected)
    assert found.scales.tolist() == [[book[1], book[2], book[3]]]
    half = 0.5**0.5  # x is left out; w is the greatest of the others, y the least, z next to 0
    torch.testing.assert_close(found.rotations, torch.tensor([[half, 0.0, -half, 0.0]]), atol=3e-3, rtol=0)
    assert found.harmonics[0, 0].tolist() == [book[4], book[5], book[6]] and found.opacity()[0] < 1e-5
    assert found.harmonics[0, 2].tolist() == [book[11], book[21], book[31]]


def test_known_files_read(shared_data: Path):
    """Level 3 was decoded by another program of ours into a PLY (the files' NOTICE): all agree."""
    folder = shared_data / "splats"
    if not folder.is_dir():
        pytest.skip("no splats in the shared data")
    for name, count in (("angel", 71359), ("massa", 58649)):
        found = read_gaussians(folder / "splat_statues" / f"{name}.sog")
        assert (len(found), found.degree, found.notes) == (count, 0, ())
        found.require_sound()
    judge = read_gaussians(folder / "splat_playbot" / "playbot_lod3_sh2.ply")
    found = read_gaussians(folder / "splat_playbot" / "3_0")
    assert_within(found, judge, opacity=1e-5)
    levels = read_gaussians(folder / "splat_playbot")
    assert len(levels) == 31000 and levels.notes == ("level 3 of 7, 0 the finest",)
    assert_within(beside(levels.take(slice(0, 2000)), found.take(slice(0, 2000))), found.take(slice(0, 2000)))
    for level, count in ((4, 8406), (5, 3000), (6, 1873)):
        assert len(read_gaussians(folder / "splat_playbot" / "lod-meta.json", level)) == count
    with pytest.raises(InputError, match=r"level 0 is not there or misses files; those that are whole: \[3, 4, 5, 6\]"):
        read_gaussians(folder / "splat_playbot", 0)


def test_levels_of_detail(tmp_path: Path):
    """Two leaves share a folder's file, in an order of their own; the coarse level is an archive."""
    fine, coarse = random_gaussians(100, 1), random_gaussians(10, 1, seed=1)
    (tmp_path / "0_0").mkdir()
    sog.write(fine, tmp_path / "0_0" / "meta.json")
    sog.write(coarse, tmp_path / "1_0.sog")
    leaves = [
        {"lods": {"0": {"file": 0, "offset": 60, "count": 40}, "1": {"file": 1, "offset": 0, "count": 10}}},
        {"children": [{"lods": {"0": {"file": 0, "offset": 0, "count": 60}}}]},
    ]
    text = {
        "lodLevels": 2,
        "environment": None,
        "filenames": ["0_0/meta.json", "1_0.sog"],
        "tree": {"children": leaves},
    }
    (tmp_path / "lod-meta.json").write_text(json.dumps(text))
    whole = sog.read(tmp_path / "0_0")
    found = read_gaussians(tmp_path)
    assert_within(found, Gaussians.cat([whole.take(slice(60, 100)), whole.take(slice(0, 60))]))
    assert len(read_gaussians(tmp_path, level=1)) == 10
    shutil.rmtree(tmp_path / "0_0")
    found = read_gaussians(tmp_path)
    assert len(found) == 10 and found.notes == ("level 1 of 2, 0 the finest",)


def test_the_outside_judge_reads_and_writes_the_same(tmp_path: Path):
    command = judge()
    before = random_gaussians(100, 3)
    sog.write(before, tmp_path / "a.sog")
    theirs = ply.read(judged(command, tmp_path / "a.sog", tmp_path / "b.ply"))
    assert_within(sog.read(tmp_path / "a.sog"), theirs, means=1e-6, opacity=1e-5)
    (tmp_path / "folder").mkdir()
    sog.write(before, tmp_path / "folder" / "meta.json")
    theirs = ply.read(judged(command, tmp_path / "folder" / "meta.json", tmp_path / "c.ply"))
    assert_within(sog.read(tmp_path / "folder"), theirs, means=1e-6, opacity=1e-5)
    ply.write(before, tmp_path / "d.ply")
    written = judged(command, tmp_path / "d.ply", tmp_path / "e.sog", "-i", "3")
    ours = sog.read(written)
    assert_within(ours, ply.read(judged(command, written, tmp_path / "f.ply")), means=1e-6, opacity=1e-5)
    found = beside(before, ours)  # it cuts where we round, so that its steps are twice as wide
    step = extent(logs(before.means)) / 65535
    assert float((logs(before.means) - logs(found.means)).abs().max()) <= step * 1.1
    kept = replace(found, means=before.means, harmonics=before.harmonics)
    assert_within(before, kept, scales=0.1, angle=2.1 * sog.ANGLE, opacity=1 / 255 + 1e-6)
