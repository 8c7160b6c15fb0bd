"""The demo from its scene to its files."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from neuralfields import cli
from neuralfields.captures.images import read_image
from neuralfields.compression import fields
from neuralfields.errors import InputError
from neuralfields.models.nf_file import load
from neuralfields.serving import share
from neuralfields.verbs import demo, fit
from neuralfields.verbs import share as page
from tests.support.fit_runs import SMALL
from tests.support.settings import set_training


@pytest.fixture
def quick(tiny_capture: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The demo on the tiny capture, with a small field, small steps and four frames."""
    whole = fit.run
    monkeypatch.setattr(fit, "run", lambda options: whole(replace(options, set=SMALL)))
    monkeypatch.setattr(demo, "sample_scene", lambda: tiny_capture)
    monkeypatch.setattr(demo, "TURNTABLE_FRAMES", 4)
    monkeypatch.setattr(share, "POSTER_SIDE", 48)
    for name, value in {"SIDE": 16, "PROBES": 1, "VIEWS": 2, "REPORT": 1}.items():
        monkeypatch.setattr(fields, name, value)
    set_training(monkeypatch, samples=1 << 11)


def test_the_bundled_scene(sample_scene: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert demo.sample_scene().samefile(sample_scene)
    package = tmp_path / "site" / "neuralfields"
    monkeypatch.setattr(demo, "__file__", str(package / "verbs" / "demo.py"))
    with pytest.raises(InputError, match="bundled scene is not there"):
        demo.sample_scene()
    (package / "_scenes" / "sample").mkdir(parents=True)
    (package / "_scenes" / "sample" / "transforms_train.json").write_text("{}")
    assert demo.sample_scene() == package / "_scenes" / "sample"


@pytest.mark.usefixtures("quick")
def test_fits_measures_and_renders(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "new" / "demo"
    words = ["demo", "--out", str(out), "--minutes", "0.008", "--quiet"]
    assert cli.main([*words, "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert [Path(f).name for f in result["files"]][:2] == ["sample.nf", "comparison.png"] and len(result["next"]) == 3
    assert Path(result["files"][3]).stat().st_size == result["page_bytes"] < 1_000_000
    assert all(Path(path).stat().st_size > 500 for path in result["files"])
    assert load(out / "sample.nf").metrics["psnr"] == pytest.approx(result["psnr"]) and result["psnr"] > 10
    assert read_image(out / "comparison.png").ndim == 3

    def no_fit(options: object) -> None:
        raise AssertionError("a fit began although the output exists")

    monkeypatch.setattr(fit, "run", no_fit)
    for path in map(Path, result["files"]):  # any one of them is enough
        assert cli.main(words) == 2
        assert f"{path.name}: exists; add --overwrite" in capsys.readouterr().err
        path.unlink()


@pytest.mark.usefixtures("quick")
def test_without_av_the_turntable_is_webp(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(demo.importlib.util, "find_spec", lambda name: None)
    monkeypatch.setattr(page, "run", lambda options: {"bytes": 0})  # the test above has it
    assert cli.main(["demo", "--out", str(tmp_path), "--minutes", "0.005", "--quiet"]) == 0
    shown = capsys.readouterr().out
    assert (tmp_path / "turntable.webp").is_file() and not (tmp_path / "turntable.mp4").exists()
    assert "the package av is missing" in shown and f"nf info {tmp_path / 'sample.nf'}" in shown


def test_a_file_in_place_of_the_folder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "demo").write_text("mine")
    assert cli.main(["demo", "--out", str(tmp_path / "demo")]) == 2
    assert "is a file; give a folder" in capsys.readouterr().err
    assert cli.main(["demo", "--out", str(tmp_path / "demo" / "x")]) == 3
    assert "cannot be made" in capsys.readouterr().err
