"""Code that lies beside the photos is never run: not by `nf`, not by the processes that it starts. Real processes."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from neuralfields.search_path import isolated, without_working_folder

REPOSITORY = Path(__file__).parents[1]
# Modules of Python and of others that `nf` or COLMAP's child imports.
IMITATED = (
    "json struct numpy pathlib typing dataclasses ctypes shutil neuralfields torch PIL msgspec imageio tyro".split()
)
CODE = "open({canary!r}, 'w').write(__name__)\nraise SystemExit(7)\n"


@pytest.fixture
def hostile(tmp_path: Path) -> Path:
    """A folder of photos with code beside them; `ran` appears beside the folder when any of it runs."""
    folder = tmp_path / "photos"
    folder.mkdir()
    for name in IMITATED:
        (folder / f"{name}.py").write_text(CODE.format(canary=str(tmp_path / "ran")))
    for index in range(3):
        Image.new("RGB", (64, 48), (80 * index, 40, 90)).save(folder / f"{index}.jpg")
    return folder


@pytest.fixture
def script(tmp_path: Path) -> Callable[[str], str]:
    """Writes a script elsewhere: Python then searches the script's folder first, as for the console script `nf`."""
    (tmp_path / "bin").mkdir()

    def write(code: str) -> str:
        (tmp_path / "bin" / "script").write_text(code)
        return str(tmp_path / "bin" / "script")

    return write


def run(folder: Path, *words: str, path: str = str(REPOSITORY)) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": path}
    return subprocess.run(words, cwd=folder, env=environment, capture_output=True, text=True, timeout=100)


JOB = """
import sys
from pathlib import Path
from neuralfields.poses.colmap_process import run_job
folder = Path(sys.argv[1])
job = {"task": "features", "threads": 1, "seed": 0}
try:
    run_job(job, folder, 60, lambda done, total: None)
except Exception as error:
    print(error)
"""


def test_colmaps_process_does_not_run_what_lies_in_the_working_folder(
    hostile: Path, tmp_path: Path, script: Callable[[str], str]
) -> None:
    (tmp_path / "job").mkdir()
    done = run(hostile, sys.executable, script(JOB), str(tmp_path / "job"))
    assert "features" in done.stdout and "code 7" not in done.stdout, done.stdout + done.stderr
    assert "No module named" not in done.stdout, done.stdout
    assert not (tmp_path / "ran").exists()


def test_the_command_does_not_either(hostile: Path, tmp_path: Path, script: Callable[[str], str]) -> None:
    """Each command in turn, `info` first: what one imports is there for the next."""
    each = ["info", "0.jpg"], ["check", "."], ["poses", "."], ["fit", "."]
    done = run(hostile, sys.executable, script(f"from neuralfields.cli import main; print(*map(main, {each}))"))
    codes = done.stdout.split()[-len(each) :]
    assert len(codes) == len(each) and set(codes) <= {"2", "3", "4"}, done.stdout + done.stderr
    assert done.stderr.count("nf: error") == len(each) and not (tmp_path / "ran").exists()


@pytest.mark.slow
def test_nor_does_python_m(hostile: Path, tmp_path: Path) -> None:
    (hostile / "neuralfields.py").unlink()  # Python itself would run that one
    done = run(hostile, sys.executable, "-m", "neuralfields", "check", ".")
    assert done.returncode in (2, 3, 4), done.stderr
    assert "nf: error" in done.stderr and not (tmp_path / "ran").exists()


def test_an_empty_part_of_the_search_path_is_the_working_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "link").symlink_to(tmp_path)
    monkeypatch.setattr(sys, "path", ["", str(tmp_path), str(tmp_path / "link"), "/else", str(REPOSITORY)])
    assert without_working_folder() == ["/else", str(REPOSITORY)]
    monkeypatch.chdir(REPOSITORY)  # where the package lies, its folder stays
    assert str(REPOSITORY) in without_working_folder()


def test_the_isolated_process_has_this_ones_packages(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text("import sys, numpy; print(sys.argv[1:], sys.flags.isolated)")
    sys.path.append(str(tmp_path))
    try:
        done = run(tmp_path.parent, *isolated("mine"), "a job")
    finally:
        sys.path.remove(str(tmp_path))
    assert done.stdout == "['a job'] 1\n", done.stderr
