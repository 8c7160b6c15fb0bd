"""COLMAP's process crashes, hangs, is killed: the program lives on and says what happened. Real processes."""

import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from pathlib import Path

import pytest

from neuralfields.errors import UsageError
from neuralfields.poses import colmap_child, colmap_process
from neuralfields.poses.colmap_process import ColmapFailure, run_job
from neuralfields.search_path import isolated

REPOSITORY = Path(__file__).parents[2]


def child(folder: Path, code: str) -> tuple[str, ...]:
    """A command that stands in for COLMAP's process."""
    script = folder / "child.py"
    script.write_text(textwrap.dedent(code))
    return sys.executable, str(script)


def run(folder: Path, code: str, limit: float = 20.0, seen: list | None = None) -> dict:
    progress = (lambda done, total: None) if seen is None else (lambda done, total: seen.append((done, total)))
    return run_job({"task": "features", "threads": 1}, folder, limit, progress, child(folder, code))


def test_a_result_and_progress_come_back(tmp_path):
    seen: list = []
    result = run(
        tmp_path,
        """
        import sys
        print("a library talks")
        print('{"done": 1, "total": 2}', flush=True)
        print('{"result": {"job": "' + sys.argv[1].rsplit("/", 1)[1] + '"}}')
        """,
        seen=seen,
    )
    assert result == {"job": "features.json"} and seen == [(1, 2)]


@pytest.mark.parametrize(
    ("code", "words"),
    [
        ("import os; os.abort()", "abort"),
        ("import ctypes; ctypes.string_at(0)", "segmentation fault"),
        ("import os, signal; os.kill(os.getpid(), signal.SIGKILL)", "memory"),
        ("import sys; print('why it failed', file=sys.stderr); sys.exit(7)", "code 7; its last lines: why it failed"),
        ("pass", "without a result"),
        ("print('{\"result\": ')", "without a result"),
    ],
)
def test_the_way_it_ended_is_told(tmp_path, code, words):
    with pytest.raises(ColmapFailure, match=words) as caught:
        run(tmp_path, code)
    assert caught.value.exit_code == 4


def test_a_hang_that_ignores_sigterm_is_killed_at_the_limit_with_what_it_started(tmp_path):
    begin = time.monotonic()
    with pytest.raises(ColmapFailure, match=r"within 3 s and was killed"):
        run(
            tmp_path,
            f"""
            import os, pathlib, signal, subprocess, sys, time
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
            other = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
            pathlib.Path({str(tmp_path / "pids")!r}).write_text(f"{{os.getpid()}} {{other.pid}}")
            time.sleep(60)
            """,
            limit=3.0,
        )
    assert time.monotonic() - begin < 20
    for pid in (tmp_path / "pids").read_text().split():
        assert ends(int(pid))


def test_output_that_is_closed_early_does_not_hide_a_hang(tmp_path):
    with pytest.raises(ColmapFailure, match="was killed"):
        run(tmp_path, "import os, time; os.close(1); time.sleep(60)", limit=1.0)


def test_ctrl_c_kills_it(tmp_path):
    pid = tmp_path / "pid"
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background job begins without it

    def interrupt() -> None:
        while not (pid.exists() and pid.read_text()):
            time.sleep(0.01)
        os.kill(os.getpid(), signal.SIGINT)

    threading.Thread(target=interrupt, daemon=True).start()
    with pytest.raises(KeyboardInterrupt):
        run(
            tmp_path,
            f"import os, pathlib, time; pathlib.Path({str(pid)!r}).write_text(str(os.getpid()));time.sleep(60)",
        )
    signal.signal(signal.SIGINT, before)
    assert not alive(int(pid.read_text()))


@pytest.mark.skipif(sys.platform != "linux", reason="the kernel's word on a parent's death is Linux's")
def test_it_dies_with_a_parent_that_is_killed(tmp_path):
    pid = tmp_path / "pid"
    parent = subprocess.Popen(
        [
            sys.executable,
            "-c",
            "import subprocess, sys, time\n"
            "code = 'from neuralfields.poses.colmap_child import _end_with_parent as f; import os, time; f();'\n"
            f'code += \'open("{pid}", "w").write(str(os.getpid())); time.sleep(60)\'\n'
            "subprocess.Popen([sys.executable, '-c', code], start_new_session=True); time.sleep(60)",
        ],
        cwd=REPOSITORY,
    )
    while not (pid.exists() and pid.read_text()):
        assert parent.poll() is None
        time.sleep(0.01)
    parent.kill()
    parent.wait()
    assert ends(int(pid.read_text()))


def ends(pid: int) -> bool:
    """Whether a killed process ends: the kernel delivers the signal when the process next runs, not at once."""
    end = time.monotonic() + 10
    while alive(pid) and time.monotonic() < end:
        time.sleep(0.02)
    return not alive(pid)


def alive(pid: int) -> bool:
    """Whether a process runs; one that is dead and not yet collected does not."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state not in "ZX"


@pytest.mark.parametrize(("found", "words"), [(None, "neuralfields\\[photos\\]"), ("4.2.1", "4.2.1 damages memory")])
def test_a_missing_or_unfit_package_is_refused_with_its_remedy(tmp_path, monkeypatch, found, words):
    def version(name: str) -> str:
        if found is None:
            raise colmap_child.PackageNotFoundError(name)
        return found

    monkeypatch.setattr(colmap_child, "version", version)
    assert colmap_child._unusable() is not None
    message = colmap_child._unusable().replace('"', "'")
    with pytest.raises(UsageError, match=words):
        run(tmp_path, f"import json; print(json.dumps({{'refused': {message!r}}}))")


def test_nothing_but_the_child_imports_pycolmap():
    sources = sorted((REPOSITORY / "neuralfields").rglob("*.py"))
    importing = [path.name for path in sources if "import pycolmap" in path.read_text(encoding="utf-8")]
    assert importing == ["colmap_child.py"]


def test_the_child_loads_neither_torch_nor_pillow():
    """Nor pycolmap, where it is merely imported; no other source does."""
    code = (
        "import sys, neuralfields.poses.colmap_child; sys.exit(bool({'torch', 'PIL', 'pycolmap'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], cwd=REPOSITORY, timeout=60).returncode == 0
    assert isolated(colmap_process.CHILD)[-1] == "neuralfields.poses.colmap_child"
