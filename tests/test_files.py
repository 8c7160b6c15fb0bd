"""Files are whole or absent, whatever happens in between."""

import errno
import os
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from neuralfields import files
from neuralfields.errors import InputError, ResourceError, UsageError

NOBODY = 65534


@contextmanager
def unprivileged() -> Iterator[None]:
    """Root may write anywhere; act as nobody so that access rights count."""
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(NOBODY)
    try:
        yield
    finally:
        os.seteuid(0)


@pytest.fixture
def read_only() -> Iterator[Path]:
    """A folder that may be entered and not written."""
    folder = Path(tempfile.mkdtemp())
    folder.chmod(0o555)
    yield folder
    folder.chmod(0o755)
    shutil.rmtree(folder)


def child(code: str, *arguments: object) -> subprocess.Popen[str]:
    """A Python process with pipes for its output."""
    words = [sys.executable, "-c", code, *map(str, arguments)]
    return subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def test_writes_whole_file_with_the_mode_that_the_umask_gives(tmp_path: Path) -> None:
    old = os.umask(0o027)
    try:
        files.atomic_write_bytes(tmp_path / "a.nf", b"data")
    finally:
        os.umask(old)
    assert (tmp_path / "a.nf").read_bytes() == b"data"
    assert stat.S_IMODE((tmp_path / "a.nf").stat().st_mode) == 0o640
    assert os.listdir(tmp_path) == ["a.nf"]


def test_failure_keeps_the_old_file_and_leaves_nothing(tmp_path: Path) -> None:
    path = tmp_path / "a.nf"
    path.write_bytes(b"old")

    def fails(file: object) -> None:
        file.write(b"half of the new")  # type: ignore[attr-defined]
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        files.atomic_write(path, fails)
    assert path.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["a.nf"]


def test_follows_links_and_keeps_the_mode(tmp_path: Path) -> None:
    real = tmp_path / "store" / "real.nf"
    real.parent.mkdir()
    real.write_bytes(b"old")
    real.chmod(0o604)
    link = tmp_path / "link.nf"
    link.symlink_to(real)
    files.atomic_write_bytes(link, b"new")
    assert link.is_symlink() and real.read_bytes() == b"new"
    assert stat.S_IMODE(real.stat().st_mode) == 0o604


def test_dangling_link_is_filled_and_a_looping_one_refused(tmp_path: Path) -> None:
    (tmp_path / "link.nf").symlink_to(tmp_path / "later.nf")
    files.atomic_write_bytes(tmp_path / "link.nf", b"new")
    assert (tmp_path / "later.nf").read_bytes() == b"new"
    (tmp_path / "loop.nf").symlink_to(tmp_path / "loop.nf")
    with pytest.raises(InputError, match=r"loop\.nf: cannot be written"):
        files.atomic_write_bytes(tmp_path / "loop.nf", b"new")


def test_temporary_has_the_suffix_so_that_writers_know_the_format(tmp_path: Path) -> None:
    with files.atomic_file(tmp_path / "turn.mp4") as temporary:
        assert temporary.suffix == ".mp4" and temporary.parent == tmp_path
        temporary.write_bytes(b"video")
    assert os.listdir(tmp_path) == ["turn.mp4"]


def test_errors_about_other_files_keep_their_meaning(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError), files.atomic_file(tmp_path / "a.png"):
        open(tmp_path / "missing.jpg", "rb")
    assert os.listdir(tmp_path) == []


def test_refuses_folder_device_missing_folder_and_long_name(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="is a folder"):
        files.atomic_write_bytes(tmp_path, b"")
    with pytest.raises(UsageError, match="not a regular file"):
        files.atomic_write_bytes(Path("/dev/null"), b"")
    with pytest.raises(InputError, match="no such folder"):
        files.atomic_write_bytes(tmp_path / "no" / "a.nf", b"")
    files.atomic_write_bytes(tmp_path / ("é" * 120 + ".nf"), b"x")  # 240 bytes: the temporary must not be longer
    with pytest.raises(UsageError, match="too long"):
        files.atomic_write_bytes(tmp_path / ("a" * 300 + ".nf"), b"")


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT])
def test_full_disk_names_what_is_needed_and_free(tmp_path: Path, code: int) -> None:
    path = tmp_path / "a.nf"
    path.write_bytes(b"old")

    def full(file: object) -> None:
        raise OSError(code, os.strerror(code))

    with pytest.raises(ResourceError, match=r"a\.nf: needs 5\.0 MB, but .* are free on this disk"):
        files.atomic_write(path, full, needed=5_000_000)
    assert path.read_bytes() == b"old" and os.listdir(tmp_path) == ["a.nf"]


def test_a_limit_of_the_system_is_met_for_real(tmp_path: Path) -> None:
    code = (
        "import resource, sys; from pathlib import Path; from neuralfields import files\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))\n"
        "try: files.atomic_write_bytes(Path(sys.argv[1]), bytes(5000))\n"
        "except files.ResourceError as error: print(error)\n"
    )
    out, errors = child(code, tmp_path / "a.nf").communicate(timeout=20)
    assert "needs 5.0 kB" in out, errors
    assert os.listdir(tmp_path) == []


def test_full_tmpfs(tmp_path: Path) -> None:
    mount = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "none", str(tmp_path)], capture_output=True)
    if mount.returncode != 0:
        pytest.skip("mounting a small tmpfs needs root")
    try:
        files.atomic_write_bytes(tmp_path / "a.nf", b"old" * 1000)
        with pytest.raises(ResourceError, match=r"needs 200\.0 kB, but .* kB are free"):
            files.atomic_write_bytes(tmp_path / "a.nf", bytes(200_000))
        assert (tmp_path / "a.nf").read_bytes() == b"old" * 1000 and os.listdir(tmp_path) == ["a.nf"]
    finally:
        subprocess.run(["umount", str(tmp_path)], check=True)


def test_read_only_folder_is_refused_before_work_starts(read_only: Path) -> None:
    with unprivileged():
        for act in (
            lambda: files.check_writable(read_only / "a.nf", overwrite=False),
            lambda: files.atomic_write_bytes(read_only / "a.nf", b""),
            lambda: files.OutputLock(read_only / "a.nf").__enter__(),
        ):
            with pytest.raises(InputError, match="not allowed to write here"):
                act()


def test_check_writable(tmp_path: Path) -> None:
    path = tmp_path / "a.nf"
    files.check_writable(path, overwrite=False)
    assert os.listdir(tmp_path) == []
    path.write_bytes(b"old")
    with pytest.raises(UsageError, match="exists; add --overwrite"):
        files.check_writable(path, overwrite=False)
    files.check_writable(path, overwrite=True)
    assert path.read_bytes() == b"old"
    with pytest.raises(UsageError, match="is a folder"):
        files.check_writable(tmp_path, overwrite=True)
    with pytest.raises(InputError, match="no such folder"):
        files.check_writable(tmp_path / "no" / "a.nf", overwrite=False)


HALF_WRITTEN = (
    "import sys, time; from pathlib import Path; from neuralfields import files\n"
    "def write(file):\n    file.write(b'half'); file.flush(); print('writing', flush=True); time.sleep(60)\n"
    "files.atomic_write(Path(sys.argv[1]), write)\n"
)


def test_killed_writer_leaves_litter_only_until_the_next_one(tmp_path: Path) -> None:
    path = tmp_path / "a.nf"
    path.write_bytes(b"old")
    process = child(HALF_WRITTEN, path)
    assert process.stdout is not None and process.stdout.readline() == "writing\n"
    assert files.sweep(path) == []  # its process lives: not litter
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert path.read_bytes() == b"old" and len(os.listdir(tmp_path)) == 2
    with files.OutputLock(path):
        pass
    assert os.listdir(tmp_path) == ["a.nf"]


LOCKING = (
    "import sys, time; from pathlib import Path; from neuralfields import files\n"
    "with files.OutputLock(Path(sys.argv[1])):\n    print('locked', flush=True); time.sleep(60)\n"
)


def test_second_process_is_refused_and_a_stale_lock_taken_over(tmp_path: Path) -> None:
    path = tmp_path / "a.nf"
    process = child(LOCKING, path)
    assert process.stdout is not None and process.stdout.readline() == "locked\n"
    with (
        pytest.raises(UsageError, match=rf"another process \(pid {process.pid}\) is writing it"),
        files.OutputLock(path),
    ):
        pass
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert Path(f"{path}.lock").exists()
    with files.OutputLock(path):
        assert int(Path(f"{path}.lock").read_text()) == os.getpid()
    assert os.listdir(tmp_path) == []


def test_lock_is_released_by_an_error_and_shared_through_links(tmp_path: Path) -> None:
    (tmp_path / "link.nf").symlink_to(tmp_path / "a.nf")
    with pytest.raises(ZeroDivisionError), files.OutputLock(tmp_path / "a.nf"):
        with pytest.raises(UsageError, match=r"link\.nf"), files.OutputLock(tmp_path / "link.nf"):
            pass
        raise ZeroDivisionError
    with files.OutputLock(tmp_path / "link.nf"):
        pass


@pytest.mark.parametrize(
    ("count", "text"), [(0, "0 B"), (999, "999 B"), (1400, "1.4 kB"), (27_000_000, "27.0 MB"), (3 * 10**12, "3.0 TB")]
)
def test_size_text(count: int, text: str) -> None:
    assert files.size_text(count) == text


def test_plain_is_what_json_can_hold() -> None:
    import numpy as np

    value = {"a": float("nan"), 2: (Path("x"), np.float32(0.5), np.arange(2)), "t": True, "n": None}
    assert files.plain(value) == {"a": None, "2": ["x", 0.5, [0, 1]], "t": True, "n": None}


def test_times_do_not_matter(tmp_path: Path) -> None:
    path = tmp_path / "a.nf"
    files.atomic_write_bytes(path, b"x")
    os.utime(path, (time.time() + 1e6, time.time() + 1e6))  # a clock that jumped back
    files.atomic_write_bytes(path, b"y")
    assert path.read_bytes() == b"y"


def test_a_file_of_more_bytes_than_a_reader_takes_is_refused_unread(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"12345")
    assert files.read_limited(tmp_path / "a", 5, "cut it") == b"12345"
    with pytest.raises(InputError, match=r"a: has more than 4 B; cut it"):
        files.read_limited(tmp_path / "a", 4, "cut it")
    with pytest.raises(InputError, match=r"gone: cannot be read \(No such file or directory\); look elsewhere"):
        files.read_limited(tmp_path / "gone", 4, "cut it", "look elsewhere")
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(InputError, match="is a pipe, a socket or a device"):
        files.read_limited(tmp_path / "pipe", 4, "cut it")
