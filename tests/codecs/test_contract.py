"""Files of other programs are known by what is in them, never by their names."""

from pathlib import Path

import pytest
import torch

from neuralfields import cli
from neuralfields.codecs import describe_any, is_foreign, load_any
from neuralfields.errors import InputError
from tests.support.foreign_files import flexible_weights


def test_our_own_files_are_loaded_whatever_their_name(small_file: Path, small_capture: Path):
    plain = load_any(small_file)
    assert not is_foreign(small_file) and plain.made["scene"]
    renamed = small_file.rename(small_file.with_suffix(".bin"))
    assert not is_foreign(renamed)
    model = load_any(renamed, scene=small_capture)
    assert torch.equal(model.field.table, plain.field.table)
    assert len(model.cameras) == 36 and model.held_out and model.made["cameras"] == "the capture's"


def test_what_is_unknown_says_what_can_be_read(tmp_path: Path):
    for name, data in (("a.txt", b"hello, this is text"), ("b.ingp", b""), ("c.ply", b"ply\nformat ascii 1.0\n")):
        (tmp_path / name).write_bytes(data)
        with pytest.raises(InputError, match=r"\.nf files, vanilla NeRF checkpoints .* Instant-NGP snapshots"):
            load_any(tmp_path / name)
    torch.save({"weights": {"a": torch.zeros(3)}}, tmp_path / "d.pt")
    with pytest.raises(InputError, match="a checkpoint of torch with weights, but of no known field"):
        load_any(tmp_path / "d.pt")
    with pytest.raises(InputError, match="no such file"):
        load_any(tmp_path / "none.ckpt")
    with pytest.raises(InputError, match="a folder"):
        load_any(tmp_path)


@pytest.mark.parametrize(
    ("names", "method", "remedy"),
    [
        (["_model.field.aabb", "_model.field.mlp_base.model.params"], "nerfacto", "nf fit"),
        (["_model.gauss_params.means", "_model.gauss_params.quats"], "splatfacto", "ns-export gaussian-splat"),
        (["_model.something"], "unknown", "nf fit"),
    ],
)
def test_nerfstudio_is_recognised(names, method, remedy, tmp_path: Path):
    path = tmp_path / "step-000029999.ckpt"
    torch.save({"step": 29999, "pipeline": {name: torch.zeros(4) for name in names}, "optimizers": {}}, path)
    told = describe_any(path)
    assert (told["kind"], told["method"], told["steps"]) == ("nerfstudio checkpoint", method, 29999)
    with pytest.raises(InputError, match=rf"nerfstudio checkpoint \({method}\).*{remedy}"):
        load_any(path)


def test_info_says_what_a_foreign_file_is(tmp_path: Path, capsys: pytest.CaptureFixture):
    path = tmp_path / "chair.ckpt"
    torch.save({"iter": 77, "model_fine_state_dict": flexible_weights()}, path)
    assert cli.main(["info", str(path)]) == 0
    shown = capsys.readouterr().out
    assert "vanilla NeRF checkpoint" in shown and "flexible" in shown and "77" in shown
    (tmp_path / "a.bin").write_bytes(b"nothing")
    assert cli.main(["info", str(tmp_path / "a.bin")]) == 3
