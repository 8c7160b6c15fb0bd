"""Writes files atomically (whole or absent), checks outputs before work starts, locks an output for one writer.

Vocabulary
  target     the file that will be there in the end, with symbolic links followed
  temporary  a hidden file beside the target, `.<stem>~<host>-<pid>-<random><suffix>`; renamed onto it when complete
  litter     a temporary whose process has died
"""

import errno
import math
import os
import re
import secrets
import shutil
import stat
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO

from neuralfields.errors import InputError, NeuralfieldsError, ResourceError, UsageError

try:
    import fcntl
except ImportError:  # Windows: no advisory lock, OutputLock then only leaves its note
    fcntl = None  # type: ignore[assignment]

DISK_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
NOT_ALLOWED = (errno.EACCES, errno.EPERM, errno.EROFS)
NAME_LIMIT = 180  # bytes of the target's stem kept in a temporary's name: file systems stop at 255


def plain(value: Any) -> Any:
    """Converts a value to plain JSON data: dicts, lists, numbers, texts; NaN and infinity become None."""
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [plain(item) for item in value]
    if hasattr(value, "tolist"):  # numpy and torch
        return plain(value.tolist())
    return str(value)


def size_text(count: int) -> str:
    """Formats a number of bytes: 512 B, 1.4 kB, 27.0 MB (powers of 1000)."""
    if count < 1000:
        return f"{count} B"
    value = float(count)
    for unit in ("kB", "MB", "GB"):
        value /= 1000
        if value < 999.95:
            return f"{value:.1f} {unit}"
    return f"{value / 1000:.1f} TB"


def parse_size(text: str) -> int:
    """Parses a size such as 600kB, 1.5 MB or 4096 to bytes (powers of 1000). Raises UsageError for anything else."""
    found = re.fullmatch(r"\s*(\d+(?:\.\d*)?)\s*([kMG]?)B?\s*", text, re.IGNORECASE)
    if not found:
        raise UsageError(f"size {text!r}: must be a number of bytes, such as 600kB, 1.5MB or 4096")
    return round(float(found[1]) * 1000 ** ("", "k", "m", "g").index(found[2].lower()))


def disk_error(error: OSError, path: Path, needed: int | None) -> NeuralfieldsError:
    """Translates an OSError from writing `path` into an error with its remedy; `needed` in bytes, if known."""
    if error.errno in DISK_FULL:
        free = _free_bytes(path.parent)
        want = f"needs {size_text(needed)}" if needed is not None else "does not fit"
        return ResourceError(
            f"{path}: {want}, but {free} are free on this disk; free some space or write to another one"
        )
    if error.errno in NOT_ALLOWED:
        return InputError(f"{path.parent}: not allowed to write here ({error.strerror.lower()}); choose another folder")
    if error.errno == errno.ENOENT:
        return InputError(f"{path.parent}: no such folder; create it first or choose another with --out")
    if error.errno == errno.ENAMETOOLONG:
        return UsageError(f"{path.name[:40]}...: the file name is too long; choose a shorter one")
    return InputError(f"{path}: cannot be written ({(error.strerror or str(error)).lower()}); choose another place")


def _free_bytes(folder: Path) -> str:
    try:
        return size_text(shutil.disk_usage(folder).free)
    except OSError:
        return "an unknown number of bytes"


def _owner_mark() -> str:
    """Identifies this process in file names: machine (containers differ by host name) and process number."""
    return f"{zlib.crc32(os.uname().nodename.encode() if hasattr(os, 'uname') else b''):08x}-{os.getpid()}"


def _temporary(target: Path) -> Path:
    stem = os.fsdecode(os.fsencode(target.stem)[:NAME_LIMIT])
    return target.with_name(f".{stem}~{_owner_mark()}-{secrets.token_hex(4)}{target.suffix[:32]}")


def _alive(pid: int) -> bool:
    if os.name != "posix":  # signal 0 would end the process there
        return True
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return True


def sweep(path: Path) -> list[Path]:
    """Removes temporary files that a killed process left beside `path`, of it and its companions; their paths."""
    target = Path(os.path.realpath(path))
    host, _, _ = _owner_mark().partition("-")
    stems = {os.fsdecode(os.fsencode(stem)[:NAME_LIMIT]) for stem in (target.stem, target.name)}
    starts, removed = tuple(f".{stem}~{host}-" for stem in stems), []
    with suppress(OSError):
        for name in os.listdir(target.parent):
            if name.startswith(starts):
                pid = name.rpartition(f"~{host}-")[2].partition("-")[0]
                if pid.isdecimal() and not _alive(int(pid)):
                    target.with_name(name).unlink(missing_ok=True)
                    removed.append(target.with_name(name))
    return removed


def _require_file_target(target: Path, shown: Path) -> int | None:
    """File mode of an existing regular file, None where there is none; refuses everything else."""
    try:
        mode = target.stat().st_mode
    except FileNotFoundError:
        return None
    except OSError as error:
        raise disk_error(error, shown, None) from error
    if stat.S_ISDIR(mode):
        raise UsageError(f"{shown}: is a folder; give the name of a file inside it")
    if not stat.S_ISREG(mode):
        raise UsageError(f"{shown}: is not a regular file; give the name of a new or ordinary file")
    return stat.S_IMODE(mode)


def require_ordinary(path: Path) -> None:
    """Refuses pipes, sockets and devices, which a reader would wait for; what is missing is left to the reader.

    Raises InputError.
    """
    try:
        mode = os.stat(path).st_mode
    except (OSError, ValueError):
        return
    if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
        raise InputError(f"{path}: is a pipe, a socket or a device; copy what it gives to a file, and give that")


def read_limited(path: Path, largest: int, remedy: str, missing: str = "check its permissions") -> bytes:
    """The bytes of an ordinary file of at most `largest`; what is larger is refused unread.

    Raises InputError: with `remedy` for a larger file, with `missing` for one that cannot be read.
    """
    require_ordinary(path)
    try:
        if path.stat().st_size > largest:
            raise InputError(f"{path}: has more than {size_text(largest)}; {remedy}")
        return path.read_bytes()
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}); {missing}") from None


def natural(name: str) -> tuple:
    """Sort key of a file's name with numbers by value, so that 2.png comes before 10.png; ties by the text itself."""
    parts = re.split(r"([0-9]+)", name)
    return [(int(part[:300]), "") if i % 2 else (-1, part) for i, part in enumerate(parts)], name


def printable(text: str) -> str:
    """Text in which control characters and those that turn its direction are escaped: a terminal obeys them.

    Names of files, keys of JSON and words of headers come from others, and end in messages. Line ends are kept.

    >>> printable("a" + chr(27) + "[2Jb")
    'a\\x1b[2Jb'
    """
    if text.isprintable():
        return text
    return "".join(c if c == "\n" or c.isprintable() else ascii(c)[1:-1] for c in text)


def companion(output: Path, suffix: str) -> Path:
    """Path of a file that goes with an output: the output's whole name and a suffix, so that no two outputs share it.

    >>> companion(Path("fox.nf"), ".log.jsonl").name, companion(Path("fox.v2"), ".log.jsonl").name
    ('fox.nf.log.jsonl', 'fox.v2.log.jsonl')
    """
    return output.with_name(output.name + suffix)


def set_aside(path: Path) -> Path | None:
    """Renames an existing file to the first free of `<stem>.1<suffix>`, `<stem>.2<suffix>`, ...; its new path.

    None where there is no such file. Raises OSError where it cannot be renamed.
    """
    if not path.is_file():
        return None
    number = 1
    while (kept := path.with_name(f"{path.stem}.{number}{path.suffix}")).exists():
        number += 1
    return path.rename(kept)


def cache_folder() -> Path:
    """Where what can be made again is kept: NEURALFIELDS_CACHE, else neuralfields/ under XDG_CACHE_HOME or ~/.cache."""
    given = os.environ.get("NEURALFIELDS_CACHE")
    if given:
        return Path(given)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "neuralfields"


@contextmanager
def atomic_file(path: Path, needed: int | None = None) -> Iterator[Path]:
    """Yields a temporary path to write; on success it replaces `path`, on any failure it is gone.

    The temporary lies in the target's folder and has its suffix. Symbolic links are followed, the mode of an existing
    file is kept, the data is on the disk before the rename. `needed`: bytes, for the message when the disk is full.
    Raises ResourceError (disk full), InputError (folder missing or read-only), UsageError (a folder in its place).
    """
    shown, target = Path(path), Path(os.path.realpath(path))
    mode = _require_file_target(target, shown)
    sweep(target)
    temporary = _temporary(target)
    try:
        os.close(os.open(temporary, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o666))
        yield temporary
        _flush_to_disk(temporary)
        if mode is not None:
            os.chmod(temporary, mode)
        os.replace(temporary, target)
    except BaseException as error:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)
        if isinstance(error, OSError) and error.filename in (None, str(temporary), str(target)):
            raise disk_error(error, shown, needed) from error
        raise
    with suppress(OSError):  # some file systems cannot sync a folder; the file itself is safe already
        _flush_to_disk(target.parent)


def _flush_to_disk(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def atomic_write(path: Path, write: Callable[[BinaryIO], object], needed: int | None = None) -> None:
    """Calls `write(file)` with a binary file that becomes `path` when it is complete; see `atomic_file`."""
    with atomic_file(path, needed) as temporary, open(temporary, "wb") as file:
        write(file)


def atomic_write_bytes(path: Path, data: bytes) -> None:
    """Writes `data` to `path` atomically."""
    atomic_write(path, lambda file: file.write(data), needed=len(data))


def check_writable(path: Path, overwrite: bool) -> None:
    """Refuses, before any work starts, an output that could not be written at its end.

    Raises UsageError (exists without `overwrite`, is a folder), InputError (folder missing or read-only).
    """
    shown, target = Path(path), Path(os.path.realpath(path))
    exists = _require_file_target(target, shown) is not None
    if exists and not overwrite:
        raise UsageError(f"{shown}: exists; add --overwrite to replace it, or choose another name with --out")
    probe = _temporary(target)
    try:  # a trial is the only honest answer: access rights, read-only mounts and quotas all show
        os.close(os.open(probe, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o666))
        probe.unlink()
    except OSError as error:
        raise disk_error(error, shown, None) from error


class OutputLock:
    """Holds `<output>.lock` while a process works on an output; a second process is refused with the holder's pid.

    The lock is the operating system's (flock), so it ends with its process: a lock file that a killed process left
    behind is taken over. Also sweeps that process's litter. Raises UsageError when the output is in use.
    """

    def __init__(self, output: Path) -> None:
        self.output = Path(output)
        self.path = Path(f"{os.path.realpath(output)}.lock")
        self._handle: int | None = None

    def __enter__(self) -> "OutputLock":
        try:
            self._handle = self._acquire()
        except OSError as error:
            raise disk_error(error, self.output, None) from error
        sweep(self.output)
        return self

    def _acquire(self) -> int:
        while True:
            handle = os.open(self.path, os.O_CREAT | os.O_RDWR, 0o666)
            try:
                if fcntl is not None:
                    self._flock(handle)
                    if not self._still_ours(handle):  # the holder removed the file between our open and our lock
                        os.close(handle)
                        continue
                os.ftruncate(handle, 0)
                os.write(handle, f"{os.getpid()}\n".encode())
                return handle
            except BaseException:
                with suppress(OSError):
                    os.close(handle)
                raise

    def _flock(self, handle: int) -> None:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno not in (errno.EWOULDBLOCK, errno.EAGAIN, errno.EACCES):
                return  # a file system without locks (some network ones): work on rather than refuse everybody
            pid = os.read(handle, 32).decode(errors="replace").strip()
            raise UsageError(
                f"{self.output}: another process (pid {pid or 'unknown'}) is writing it; "
                "wait for it, stop it, or choose another name with --out"
            ) from None

    def _still_ours(self, handle: int) -> bool:
        try:
            return os.path.samestat(os.fstat(handle), os.stat(self.path))
        except FileNotFoundError:
            return False

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._handle is not None:
            with suppress(OSError):
                self.path.unlink(missing_ok=True)
            os.close(self._handle)
            self._handle = None
