"""What a model's file says of where it was made: enough to find the capture again, and no more."""

from dataclasses import replace
from pathlib import Path

from neuralfields import cli
from neuralfields.models import nf_file
from neuralfields.models.model import Model


def made_in(folder: Path, model: Model, **more: object) -> Model:
    """The model, fitted to a capture that lies in the folder."""
    (folder / "photos").mkdir(exist_ok=True, parents=True)
    made = {"scene": str(folder / "photos"), "command": f"nf fit {folder}/photos --secret", "masks": "/mine/masks"}
    return replace(model, made=model.made | made | more)


def test_a_file_names_no_absolute_path_and_no_command(tmp_path: Path, small_model: Model) -> None:
    home = tmp_path / "home-of-somebody"
    parent = made_in(home, small_model)
    child = replace(parent, lineage=[{"field": "hash", "made": parent.made}, "nerf-pytorch"])
    nf_file.save(child, home / "a.nf")
    raw = (home / "a.nf").read_bytes()
    assert b"home-of-somebody" not in raw and b"--secret" not in raw and b'"/mine' not in raw
    found = nf_file.load(home / "a.nf")
    assert found.made["scene"] == str(home / "photos") and "command" not in found.made
    assert found.lineage[0]["made"]["scene"] == "photos" and found.lineage[1] == "nerf-pytorch"


def test_capture_and_file_may_move_together(tmp_path: Path, small_model: Model, monkeypatch) -> None:
    nf_file.save(made_in(tmp_path / "here", small_model), tmp_path / "here" / "a.nf")
    (tmp_path / "here").rename(tmp_path / "there")
    monkeypatch.chdir(tmp_path)  # where the command is given does not matter
    assert nf_file.load(Path("there/a.nf")).made["scene"] == str(tmp_path / "there" / "photos")
    (tmp_path / "there" / "photos").rmdir()
    assert nf_file.load(Path("there/a.nf")).made["scene"] == "photos"


def test_a_link_to_a_file_is_the_file(tmp_path: Path, small_model: Model) -> None:
    (tmp_path / "store").mkdir()
    (tmp_path / "a.nf").symlink_to(tmp_path / "store" / "a.nf")
    nf_file.save(made_in(tmp_path / "store", small_model), tmp_path / "a.nf")
    assert nf_file.load(tmp_path / "a.nf").made["scene"] == str(tmp_path / "store" / "photos")


def test_all_of_it_is_kept_where_that_is_asked_for(tmp_path: Path, small_model: Model) -> None:
    model = made_in(tmp_path, small_model)
    nf_file.save(model, tmp_path / "a.nf", full_record=True)
    assert nf_file.load(tmp_path / "a.nf").made == model.made


def test_a_hostile_path_is_not_followed(tmp_path: Path, small_model: Model, capsys) -> None:
    for number, path in enumerate(("\0", "../" * 400 + "etc", "a" * 5000, "~root", "")):
        file = tmp_path / f"{number}.nf"
        nf_file.save(replace(small_model, made=small_model.made | {"scene": path}), file, full_record=True)
        assert isinstance(nf_file.load(file).made["scene"], str)
    assert cli.main(["eval", str(tmp_path / "0.nf")]) == 3
    assert "name it with --scene FOLDER" in capsys.readouterr().err
