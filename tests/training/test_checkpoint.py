"""A checkpoint gives back the very state, is refused when anything is wrong with it, and survives sudden death."""

import json
import shutil
import struct
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from neuralfields.errors import InputError, NeuralfieldsError, ResourceError, UsageError
from neuralfields.files import OutputLock
from neuralfields.training.checkpoint import VERSION, Checkpoint
from tests.support.forked import Forked
from tests.support.settings import set_training
from tests.support.small_training import same_bits, small_training, steps

pytestmark = pytest.mark.usefixtures("one_thread", "small_steps")
REPOSITORY = Path(__file__).resolve().parents[2]
FIT = {"field": "hash", "seed": 3, "steps": 40, "photos": "abc", "threads": 1, "config": {"levels": 4, "rate": 0.01}}


@pytest.fixture
def quick_schedule(monkeypatch: pytest.MonkeyPatch) -> None:
    """All stages of the occupancy grid within 40 steps."""
    set_training(monkeypatch, occupancy_every=4)
    set_training(monkeypatch, occupancy_warmup=10)
    set_training(monkeypatch, coarse_steps=15)
    set_training(monkeypatch, distortion_ramp=20)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A good checkpoint; copy it before harming it."""
    path = tmp_path_factory.mktemp("checkpoint") / "a.checkpoint"
    what = small_training()
    with pytest.MonkeyPatch.context() as patch:
        set_training(patch, samples=1 << 12)
        steps(what, 3)
    Checkpoint(path, FIT).save(what, 1.5)
    return path


@pytest.mark.parametrize("breaks", [(16, 27), pytest.param((1, 20), marks=pytest.mark.slow)])
def test_a_broken_run_ends_in_the_bits_of_an_unbroken_one(
    tmp_path: Path, quick_schedule: None, breaks: tuple[int, ...]
) -> None:
    """Broken twice; the second time it is one that was already taken up."""
    whole = small_training()
    reports = steps(whole, 40)
    before, done = small_training(), []
    checkpoint = Checkpoint.beside(tmp_path / "a.nf", FIT)
    for step in breaks:
        done += steps(before, step - len(done))
        checkpoint.save(before, 12.25)
        after = small_training(seed=0)
        with torch.no_grad():  # nothing of a fresh start may shine through
            for p in after.field.parameters():
                p.fill_(7)
        assert checkpoint.load(after) == 12.25
        same_bits(before, after)
        before = after
    assert done + steps(after, 40 - len(done)) == reports
    same_bits(whole, after)


def test_saving_changes_nothing(tmp_path: Path, quick_schedule: None) -> None:
    plain, saved = small_training(), small_training()
    steps(plain, 20)
    for index in range(20):
        steps(saved, 1)
        if index % 5 == 0:
            Checkpoint(tmp_path / "a.checkpoint", FIT).save(saved, 0.0)
    same_bits(plain, saved)


def test_a_loaded_state_is_its_own(made: Path) -> None:
    one, two = small_training(), small_training()
    Checkpoint(made, FIT).load(one)
    Checkpoint(made, FIT).load(two)
    steps(one, 2)
    assert two.step_count == 3 and not torch.equal(one.field.table, two.field.table)
    steps(two, 2)
    same_bits(one, two)


def test_beside_the_output_and_removed(tmp_path: Path) -> None:
    checkpoint = Checkpoint.beside(tmp_path / "fox.v2.nf", FIT)
    assert checkpoint.path == tmp_path / "fox.v2.nf.checkpoint"
    checkpoint.remove()
    checkpoint.path.write_bytes(b"x")
    checkpoint.remove()
    assert not list(tmp_path.iterdir())


def test_no_checkpoint_to_resume(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"a\.checkpoint: no checkpoint to resume; run without --resume"):
        Checkpoint(tmp_path / "a.checkpoint", FIT).load(small_training())


def refused(path: Path) -> str:
    """The one clear line with which a damaged checkpoint is refused; the training stays as it was."""
    what, untouched = small_training(), small_training()
    with pytest.raises(InputError) as caught:
        Checkpoint(path, FIT).load(what)
    same_bits(what, untouched)
    text = str(caught.value)
    assert str(path) in text and "\n" not in text and "remove it and run without --resume" in text
    return text


def header_length(path: Path) -> int:
    with open(path, "rb") as file:
        return struct.unpack("<Q", file.read(8))[0]


@pytest.mark.parametrize("share", [0.0, 1e-6, 1e-5, 0.0002, 0.1, 0.5, 0.999, 1.0])
def test_truncated(made: Path, tmp_path: Path, share: float) -> None:
    data = made.read_bytes()
    path = tmp_path / "a.checkpoint"
    path.write_bytes(data[: min(int(len(data) * share), len(data) - 1)])
    refused(path)


@pytest.mark.parametrize("share", [0.001, 0.2, 0.6, 0.95, 1.0])
def test_a_flipped_bit_in_the_data(made: Path, tmp_path: Path, share: float) -> None:
    path = shutil.copy(made, tmp_path / "a.checkpoint")
    size = path.stat().st_size
    begin = 8 + header_length(path)
    with open(path, "r+b") as file:
        at = begin + int((size - 1 - begin) * share)
        file.seek(at)
        byte = file.read(1)[0]
        file.seek(at)
        file.write(bytes([byte ^ 4]))
    assert "damaged" in refused(path)


def rewrite_state(path: Path, old: str, new: str) -> None:
    """Changes the checkpoint's JSON in place, where a text is as long as before."""
    data = path.read_bytes()
    count = data.count(old.encode())
    assert count == 1 and len(old) == len(new), count
    path.write_bytes(data.replace(old.encode(), new.encode()))


@pytest.mark.parametrize(
    ("old", "new"),
    [('\\"step\\":3', '\\"step\\":7'),
     ('\\"adam_steps\\":3', '\\"adam_steps\\":2'), ('\\"seconds\\":1.5', '\\"seconds\\":9.5'),
     ('\\"step\\":3', '\\"stop\\":3'), ('\\"rays\\":', '\\"rayz\\":')],
)  # fmt: skip
def test_a_changed_number_in_the_header(made: Path, tmp_path: Path, old: str, new: str) -> None:
    path = shutil.copy(made, tmp_path / "a.checkpoint")
    rewrite_state(path, old, new)
    refused(path)


def test_not_a_checkpoint_at_all(tmp_path: Path, made: Path) -> None:
    path = tmp_path / "a.checkpoint"
    for data in (b"", b"hello", bytes(4096), struct.pack("<Q", 2**62) + b"{}", b"\xff" * 4096):
        path.write_bytes(data)
        refused(path)
    from safetensors.torch import save_file

    for header in (None, {"neuralfields": "{}"}, {"neuralfields": "[" * 5000}):
        save_file({"field.table": torch.zeros(3)}, path, header)
        refused(path)


def state_of(path: Path) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
    from safetensors import safe_open

    with safe_open(path, framework="pt") as file:
        tensors = {name: file.get_tensor(name) for name in file.keys()}
        return tensors, json.loads(file.metadata()["neuralfields"])


def test_a_newer_format_is_refused_by_its_number(made: Path, tmp_path: Path) -> None:
    path = shutil.copy(made, tmp_path / "a.checkpoint")
    rewrite_state(path, f'\\"version\\":{VERSION},', f'\\"version\\":{VERSION + 1},')
    with pytest.raises(InputError, match=rf"checkpoint format {VERSION + 1}, this version reads up to {VERSION}"):
        Checkpoint(path, FIT).load(small_training())


@pytest.mark.parametrize(
    ("key", "value", "shown"),
    [
        ("field", "mlp", r"made with field 'hash', now it is 'mlp'"),
        ("seed", 4, r"made with seed 3, now it is 4"),
        ("steps", 41, r"made with steps 40, now it is 41"),
        ("photos", "abd", r"made with photos"),
        ("threads", 2, r"made with threads 1, now it is 2"),
        ("config", {"levels": 4, "rate": 0.02}, r"made with config .*0\.01.*0\.02"),
        ("new", 1, r"made with new None, now it is 1"),
    ],
)
def test_of_another_fit(made: Path, key: str, value: Any, shown: str) -> None:
    what, untouched = small_training(), small_training()
    with pytest.raises(UsageError, match=shown + ".*; resume with the same, or start anew with --overwrite") as caught:
        Checkpoint(made, FIT | {key: value}).load(what)
    same_bits(what, untouched)
    assert "\n" not in str(caught.value)


def test_the_description_may_hold_tuples(tmp_path: Path) -> None:
    checkpoint = Checkpoint(tmp_path / "a.checkpoint", {"config": {"sizes": (1, 2)}})
    checkpoint.save(small_training(), 0.0)
    checkpoint.load(small_training())


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
@pytest.mark.parametrize("where", ["field.table", "adam.v.heads.colour.0", "occupancy.density"])
def test_what_is_not_finite_is_never_written(made: Path, tmp_path: Path, where: str, value: float) -> None:
    path = shutil.copy(made, tmp_path / "a.checkpoint")
    before, what = path.read_bytes(), small_training()
    what.tensors()[where].view(-1)[5] = value
    with pytest.raises(NeuralfieldsError, match=rf"{where} is not finite at step 0; the last checkpoint is kept"):
        Checkpoint(path, FIT).save(what, 1.0)
    assert path.read_bytes() == before
    assert [entry.name for entry in tmp_path.iterdir()] == ["a.checkpoint"]


def test_a_full_disk_keeps_the_older_checkpoint(made: Path, tmp_path: Path) -> None:
    size = made.stat().st_size * 3 // 2  # room for one, not for two
    mount = subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "none", str(tmp_path)], capture_output=True)
    if mount.returncode != 0:
        pytest.skip("mounting a small tmpfs needs root; the limit on file sizes is tested below")
    try:
        path = shutil.copy(made, tmp_path / "a.checkpoint")
        with pytest.raises(ResourceError, match=r"a\.checkpoint: needs \d+\.\d MB, but .* are free on this disk"):
            Checkpoint(path, FIT).save(small_training(), 1.0)
        assert path.read_bytes() == made.read_bytes()
        assert [entry.name for entry in tmp_path.iterdir()] == ["a.checkpoint"]
    finally:
        subprocess.run(["umount", str(tmp_path)], check=True)


PRELUDE = """
import os, resource, signal, sys
from pathlib import Path
import torch
torch.set_num_threads(1)
from neuralfields import files
from neuralfields.training.checkpoint import Checkpoint
from tests.support.small_training import small_training, steps
folder = Path(sys.argv[1])
folder.mkdir()
what, checkpoint = small_training(), Checkpoint.beside(folder / "a.nf", {})
"""
LIMITED = """
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
before = resource.getrlimit(resource.RLIMIT_FSIZE)
resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, before[1]))
try:
    checkpoint.save(what, 1.0)
except files.ResourceError as error:
    print(error)
resource.setrlimit(resource.RLIMIT_FSIZE, before)
print(os.listdir(folder))
"""
KILLED = """
checkpoint.save(what, 1.0)
what.step(0.0)

def die_at(moment):
    left = [moment]
    def trace(frame, event, argument):
        if frame.f_code.co_filename != files.__file__:
            return None
        if event == "line":
            left[0] -= 1
            if left[0] < 0:
                os.kill(os.getpid(), signal.SIGKILL)
        return trace
    sys.settrace(trace)

old = new = moment = 0
into = small_training()
while True:
    child = os.fork()
    if child == 0:
        die_at(moment)
        checkpoint.save(what, 2.0)
        os._exit(0)
    status = os.waitpid(child, 0)[1]
    seconds = checkpoint.load(into)
    assert seconds in (1.0, 2.0), seconds
    if seconds == 2.0 and new == 0:
        print("old", moment, flush=True)
    if seconds == 1.0:
        assert new == 0, "a saved checkpoint was lost"
    new += seconds == 2.0
    if os.WIFEXITED(status):
        break
    moment += 3
print("moments", moment, "litter", sum(1 for name in os.listdir(folder) if name.startswith(".")))
"""


def test_a_limit_on_file_sizes_leaves_nothing_and_a_kill_at_any_line_a_checkpoint(tmp_path: Path) -> None:
    process = Forked(["-c", PRELUDE + LIMITED + KILLED, tmp_path / "run"], tmp_path / "said", cwd=REPOSITORY)
    out, err = process.communicate(timeout=100)
    assert process.returncode == 0, err
    limited, left, *killed = out.splitlines()
    assert "a.nf.checkpoint: needs " in limited and left == "[]"
    said = " ".join(killed).split()
    assert said[0] == "old" and said[2] == "moments"
    assert 6 < int(said[1]) < int(said[3])  # most moments of a save come before the rename, some after
    assert int(said[5]) <= 1  # each save sweeps what the one before it left


def test_the_next_start_sweeps_what_a_killed_save_left(tmp_path: Path) -> None:
    gone = subprocess.run([sys.executable, "-c", "import os; print(os.getpid())"], capture_output=True, text=True)
    with OutputLock(tmp_path / "a.nf"):
        pass
    assert not list(tmp_path.iterdir())
    from neuralfields.files import _temporary

    own = _temporary(tmp_path / "a.nf.checkpoint")
    parts = own.name.split("-")
    parts[1] = gone.stdout.strip()
    own.with_name("-".join(parts)).write_bytes(b"half")
    with OutputLock(tmp_path / "a.nf"):
        assert [entry.name for entry in tmp_path.iterdir()] == ["a.nf.lock"]
