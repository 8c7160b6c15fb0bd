"""Compression from end to end, on splats that fill a ball: goals are met, and the decoded file is what was measured."""

import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from neuralfields import cli
from neuralfields.codecs.splats import read_gaussians, write_gaussians
from neuralfields.compression import container, nfz
from neuralfields.compression.compress import Goal, compress, worth_keeping
from neuralfields.compression.tune import lost_of, search, wanted_psnr
from neuralfields.errors import InputError
from neuralfields.gaussians import Gaussians
from neuralfields.scene import Bounds

BOUNDS = Bounds((0.0, 0.0, 0.0), 3.2)


def ball(count: int = 1500) -> Gaussians:
    """Flat discs on a sphere, coloured smoothly, and as many that none sees within it."""
    chance = torch.Generator().manual_seed(0)
    way = torch.nn.functional.normalize(torch.randn(count, 3, generator=chance), dim=1)
    half = torch.cat([torch.zeros(count, 1), way[:, :1], way[:, 1:2], way[:, 2:]], 1)
    turn = torch.nn.functional.normalize(half + torch.tensor([1e-3, 0.0, 0.0, 1.0]), dim=1)  # z to about the radius
    shell = Gaussians(
        means=way,
        scales=torch.tensor([0.06, 0.06, 0.01]).log() + 0.2 * torch.randn(count, 3, generator=chance),
        rotations=turn,
        opacities=3 + torch.randn(count, generator=chance),
        harmonics=torch.stack([1.5 * torch.sin(3 * way), 0.1 * way, 0.1 * way.flip(1), 0.05 * way.abs()], 1),
    )
    core = Gaussians(way * 0.3, shell.scales - 2, shell.rotations, shell.opacities, shell.harmonics)
    return Gaussians.cat([shell, core])


@pytest.fixture(scope="module")
def made():
    return compress(ball(), BOUNDS, Goal(0.3))


def test_a_quality_is_met_and_costs_few_bytes(made):
    report = made.report
    assert abs(report["lost"] - 0.3) < 0.1 and report["ssim"] > 0.9
    assert report["kept"] < 3000 and report["bytes"] == len(made.data)  # much of the core is unseen
    assert report["bytes_each"] < 8 and report["bytes"] == sum(report["sections"].values())


def test_what_was_measured_is_what_the_file_holds(made, tmp_path: Path):
    (tmp_path / "a.nfz").write_bytes(made.data)
    found = read_gaussians(tmp_path / "a.nfz")
    for name in ("means", "scales", "rotations", "opacities", "harmonics"):
        assert torch.equal(getattr(found, name), getattr(made.gaussians, name))


def test_bytes_are_kept_to(made):
    most = len(made.data) // 2
    smaller = compress(ball(), BOUNDS, Goal(most_bytes=most)).report
    assert 0.9 * most < smaller["bytes"] <= most and smaller["psnr"] < made.report["psnr"]
    with pytest.raises(InputError, match="allow more"):
        compress(ball(), BOUNDS, Goal(most_bytes=300))


def test_quality_is_decibels_of_a_fit():
    assert math.isclose(lost_of(wanted_psnr(0.3)), 0.3)
    clean, error = 1e-3, 10 ** (-wanted_psnr(1.0) / 10)
    assert math.isclose(10 * math.log10((clean + error) / clean), 1.0)


def test_search_finds_the_edge_of_a_falling_function():
    for edge in (-4.0, -0.3, 0.0, 2.2):
        assert edge - 0.02 < search(lambda x: 7 * (edge - x), 0.1, 8.7) <= edge  # noqa: B023
    assert search(lambda x: -1.0, 0.1, 8.7) is None


def test_what_is_left_out_is_what_counts_least():
    kept = worth_keeping(np.array([5.0, 1e-4, 3.0, 0.0]), 1e-3)
    assert kept.tolist() == [True, False, True, False]
    assert worth_keeping(np.zeros(3), 1e-3).all() and worth_keeping(np.array([1.0, 0.0]), 0).all()
    assert Goal(0.01).unseen() < Goal(0.3).unseen() and Goal(prune=False).unseen() == 0


def test_sections_lead_nowhere_else(made):
    parts = container.unpack(made.data, "a")
    assert container.pack(parts) == made.data
    with pytest.raises(InputError, match="version 2"):
        container.unpack(made.data[:4] + b"\2\0" + made.data[6:], "a")
    with pytest.raises(InputError, match="bytes follow"):
        container.unpack(made.data + b"\0", "a")
    for missing in nfz.SECTIONS:
        with pytest.raises(InputError, match=missing):
            nfz.decode(container.pack({n: p for n, p in parts.items() if n != missing}), "a")


def test_the_command_writes_reads_and_reports(tmp_path: Path, capsys: pytest.CaptureFixture, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_gaussians(ball(300), tmp_path / "a.ply")
    assert cli.main(["compress", "a.ply", "b.nfz", "--fast", "--quiet", "--quality", "1"]) == 0
    shown = capsys.readouterr().out
    assert "b.nfz" in shown and "times smaller" in shown and not (tmp_path / "b.png").exists()
    assert cli.main(["compress", "a.ply", "--quiet", "--json", "--steps", "4"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["steps"] == 4 and (tmp_path / "a.nfz").exists() and report["picture"] == "a.png"
    pixels = np.asarray(Image.open(tmp_path / "a.png")).astype(int)  # original, file and error between them
    assert pixels.shape[1] > 2.5 * pixels.shape[0] and pixels.std() > 5
    assert cli.main(["info", "b.nfz"]) == 0
    shown = capsys.readouterr().out
    assert "rotations" in shown and "bytes_each" in shown
    for target in ("c.ply", "d.spz"):
        assert cli.main(["convert", "b.nfz", target]) == 0
        assert len(read_gaussians(tmp_path / target)) == len(read_gaussians(tmp_path / "b.nfz"))
    assert cli.main(["compress", "a.ply", "b.nfz"]) == 2
    assert cli.main(["compress", "a.ply", "b.spz"]) == 2
    assert "a compressed scene is a .nfz" in capsys.readouterr().err
