"""`nf convert`: the file it writes is an ordinary one, says where it comes from, and keeps to what was asked."""

import json
from pathlib import Path

import pytest

from neuralfields.cli import main
from neuralfields.errors import UsageError
from neuralfields.files import companion, parse_size
from neuralfields.models.model import Model
from neuralfields.models.nf_file import load

QUICK = ["--threads", "1", "--quiet", "--json"]


pytestmark = pytest.mark.usefixtures("small_steps", "small_distillation")


def convert(capsys: pytest.CaptureFixture, model: Path, out: Path, *words: object, steps: int = 3) -> dict:
    assert main(["convert", str(model), "-o", str(out), *map(str, words), "--steps", str(steps), *QUICK]) == 0
    return json.loads(capsys.readouterr().out)


def test_another_architecture(small_file: Path, tmp_path: Path, small_capture: Path, capsys):
    out = tmp_path / "planes.nf"
    result = convert(capsys, small_file, out, "--to", "triplane", "--scene", small_capture, "--force", steps=15)
    assert (result["from"], result["to"]) == ("hash", "triplane")
    assert result["bytes_after"] == out.stat().st_size and result["bytes_before"] == small_file.stat().st_size
    assert 14 < result["worst_view_against_teacher"] < result["psnr_against_teacher"] < 60
    assert 13 < result["student_psnr"] < result["teacher_psnr"] + 1
    model = load(out)
    assert type(model.field).__module__ == "neuralfields.fields.triplane"
    assert model.lineage[0]["field"] == "hash" and model.lineage[0]["metrics"] == load(small_file).metrics
    assert out.with_suffix(".png").stat().st_size > 1000
    last = json.loads(companion(out, ".log.jsonl").read_text().splitlines()[-1])
    assert last["step"] == 15 and last["note"].startswith("compared ") and "hard examples: " in last["note"]
    assert main(["eval", str(out), "--json", "--quiet"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["psnr"] == pytest.approx(result["student_psnr"], abs=0.01)
    assert main(["info", str(out)]) == 0 and "hash" in capsys.readouterr().out
    assert main(["render", str(out), str(tmp_path / "view.png"), "--frames", "1", "--path", "orbit", "--quiet"]) == 0


def test_the_same_config_is_a_copy_and_a_smaller_one_is_not(small_file: Path, tmp_path: Path, capsys):
    same = convert(capsys, small_file, tmp_path / "same.nf")
    assert same["steps"] == 0 and same["psnr_against_teacher"] == 99.0
    words = ["--set", "table=10", "levels=6", "--bits", "8", "--force"]
    small = convert(capsys, small_file, tmp_path / "smaller.nf", *words)
    assert small["steps"] == 3 and small["bytes_after"] < same["bytes_after"]


def test_a_target_derived_from_the_teachers_architecture_takes_its_own_config(small_model: Model):
    from dataclasses import replace

    from neuralfields.distillation.convert import new_distillation
    from neuralfields.fields import field_class
    from neuralfields.options.models import ConvertOptions
    from neuralfields.trainers.distil import Recipe

    cam, mlp = field_class("cam"), field_class("mlp")
    assert issubclass(cam, mlp)
    teacher = replace(small_model, field=cam(cam.Config(width=16, layers=2)))
    student = new_distillation(teacher, ConvertOptions(Path("x.nf"), to="mlp"), Recipe())[0].field
    assert type(student) is mlp and type(student.config) is mlp.Config and student.config.width == mlp.Config().width


def test_a_size_in_bytes_picks_the_config(small_file: Path, tmp_path: Path, capsys, monkeypatch):
    from neuralfields.fields.hash import HashField

    monkeypatch.setattr(HashField, "SIZES", HashField.SIZES[:6])  # each is tried by a file: the largest take seconds
    sizes = {}
    for most in ("250kB", "600kB"):
        out = tmp_path / f"{most}.nf"
        convert(capsys, small_file, out, "--to", "hash", "--max-bytes", most, "--force")
        sizes[most] = out.stat().st_size
        assert sizes[most] <= parse_size(most)
    assert sizes["250kB"] < sizes["600kB"]
    with pytest.raises(UsageError, match=r"the smallest hash takes"):
        from neuralfields.options.models import ConvertOptions
        from neuralfields.verbs.convert import run

        run(ConvertOptions(small_file, to="hash", out=tmp_path / "no.nf", max_bytes="1kB", quiet=True))


def test_what_is_far_from_its_teacher_is_not_written_unless_forced(small_file: Path, tmp_path: Path, capsys):
    words = [str(small_file), "-o", str(tmp_path / "far.nf"), "--to", "mlp", "--steps", "1", "--threads", "1"]
    words += ["--quiet", "--set", "width=8", "layers=1", "frequencies=1"]
    assert main(["convert", *words]) == 3
    assert "dB against the teacher's" in capsys.readouterr().err and not (tmp_path / "far.nf").exists()
    assert main(["convert", *words, "--force", "--overwrite"]) == 0 and (tmp_path / "far.nf").exists()


def test_refusals(small_file: Path, tmp_path: Path, capsys):
    for words, said in (
        (["--to", "hsh"], "did you mean hash"),
        (["--recipe", "featurs=0"], "did you mean 'features'"),
        (["--max-bytes", "many"], "600kB"),
        (["--half", "--bits", "8"], "give only one"),
    ):
        assert main(["convert", str(small_file), "-o", str(tmp_path / "x.nf"), *words]) == 2
        assert said in capsys.readouterr().err
    (tmp_path / "there.nf").write_bytes(b"x")
    assert main(["convert", str(small_file), "-o", str(tmp_path / "there.nf")]) == 2
    assert "--overwrite" in capsys.readouterr().err
    assert main(["convert", str(tmp_path / "missing.nf"), "-o", str(tmp_path / "x.nf")]) == 3


@pytest.mark.parametrize(
    "text, count", [("600kB", 600_000), ("1.5 MB", 1_500_000), ("4096", 4096), ("2gb", 2 * 10**9), ("7 B", 7)]
)
def test_sizes(text: str, count: int):
    assert parse_size(text) == count


def test_bad_sizes():
    for text in ("", "x", "-3", "1e3", "5 TB"):
        with pytest.raises(UsageError, match="number of bytes"):
            parse_size(text)


def test_lineage_grows(small_model: Model, small_file: Path, tmp_path: Path, capsys):
    convert(
        capsys,
        small_file,
        tmp_path / "a.nf",
        "--to",
        "voxels",
        "--set",
        "resolution=33",
        "colour_resolution=17",
        "--force",
    )
    convert(capsys, tmp_path / "a.nf", tmp_path / "b.nf", "--to", "hash", "--set", "table=10", "--force")
    assert [entry["field"] for entry in load(tmp_path / "b.nf").lineage] == ["voxels", "hash"]
