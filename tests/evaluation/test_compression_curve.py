"""The curve of a compression: every format is read back and measured, and is drawn, tabled and kept as data."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from neuralfields import cli
from neuralfields.codecs.splats import write_gaussians
from neuralfields.compression import original
from neuralfields.compression.compress import Goal
from neuralfields.compression.original import CaptureCameras, drawn
from neuralfields.evaluation import compression_curve
from neuralfields.evaluation.compression_curve import Curve, curve
from tests.compression.test_compress import BOUNDS, ball


@pytest.fixture(scope="module")
def made() -> Curve:
    cameras = CaptureCameras(drawn(BOUNDS, 8, 48, 1), drawn(BOUNDS, 4, 48, 2))
    return curve(ball(200), BOUNDS, Goal(steps=0), (0.0, 0.0, 0.0), cameras)


def test_less_quality_takes_fewer_bytes_and_every_format_is_there(made: Curve):
    ours = [row for row in made.rows if row["format"] == "nfz"]
    assert len(ours) >= 6
    assert [row["bytes"] for row in ours] == sorted((row["bytes"] for row in ours), reverse=True)
    assert ours[0]["psnr"] > ours[-1]["psnr"] + 5
    rivals = {row["format"]: row for row in made.rows if row["format"] != "nfz"}
    assert set(rivals) == {"ply", "compressed ply", "spz", "sog"} and rivals["ply"]["psnr"] == 100
    assert all(row["bytes"] < rivals["ply"]["bytes"] and row["photos"] is None for row in ours)


def test_it_is_a_picture_a_table_and_data(made: Curve, tmp_path: Path):
    found = made.write(tmp_path / "a.png")
    assert np.asarray(Image.open(tmp_path / "a.png")).shape == (720, 1200, 3)
    lines = (tmp_path / "a.md").read_text().splitlines()
    assert len(lines) == 2 + len(made.rows) and "photos" not in lines[0]
    assert json.loads((tmp_path / "a.json").read_text()) == made.rows == found["rows"]
    with_photos = Curve([{**row, "photos": 0.25} for row in made.rows], made.gaussians)
    assert "| 0.25 dB |" in compression_curve.table(with_photos.rows)


def test_the_command_writes_it(tmp_path: Path, capsys, monkeypatch):
    monkeypatch.setattr(compression_curve, "QUALITIES", (1.0,))
    monkeypatch.setattr(original, "SIDE", 48)
    monkeypatch.chdir(tmp_path)
    write_gaussians(ball(100), Path("a.ply"))
    assert cli.main(["compress", "a.ply", "--sweep", "--fast", "--quiet"]) == 0
    assert "| nfz | 1 dB |" in capsys.readouterr().out
    assert all(Path(f"a-sweep.{suffix}").exists() for suffix in ("png", "md", "json"))
    assert cli.main(["compress", "a.ply", "--sweep", "--fast", "--quiet"]) == 2  # it is there
    assert cli.main(["compress", "a.ply", "--sweep", "--max-bytes", "1MB"]) == 2
