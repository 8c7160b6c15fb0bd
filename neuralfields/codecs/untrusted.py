"""What every reader of splat files asks of a file before it believes it.

A count is believed only as far as the file's size bears it out: Gaussians may take up EXPANSION times the bytes of
their file, or FREE bytes where that is more. Compressed parts are unpacked to the size that they state and no further.
"""

import zipfile
import zlib
from pathlib import Path
from typing import TypeVar

import msgspec
import numpy as np

from neuralfields.errors import InputError
from neuralfields.files import require_ordinary, size_text
from neuralfields.gaussians import COUNTS

LARGEST = 8 * 10**9  # bytes of a file
LARGEST_JSON = 64 * 10**6
EXPANSION, FREE = 64, 256 * 2**20
MEMBERS = 1000  # of a zip archive

Document = TypeVar("Document")


def read_whole(path: Path, largest: int = LARGEST) -> bytes:
    """The bytes of a file. Raises InputError where there is none, or it is empty or larger than `largest`."""
    try:
        if path.is_dir():
            raise InputError(f"{path}: is a folder; give a file")
        require_ordinary(path)
        size = path.stat().st_size
        if size > largest:
            raise InputError(f"{path}: {size_text(size)}; at most {size_text(largest)} are read")
        data = path.read_bytes()
    except FileNotFoundError:
        raise InputError(f"{path}: no such file; check the path") from None
    except (OSError, ValueError) as error:  # ValueError: a zero byte in a name
        raise InputError(f"{path}: cannot be read ({getattr(error, 'strerror', None) or error})") from None
    if not data:
        raise InputError(f"{path}: is empty; export it again")
    return data


def head_of(path: Path, count: int) -> bytes:
    """The first bytes of a file, fewer where it is shorter; none where it cannot be read."""
    try:
        if not path.is_file():  # opening a pipe would wait for ever
            return b""
        with path.open("rb") as file:
            return file.read(count)
    except (OSError, ValueError):
        return b""


def tail_of(path: Path, count: int) -> bytes:
    """The last bytes of a file, fewer where it is shorter; none where it cannot be read."""
    try:
        if not path.is_file():  # opening a pipe would wait for ever
            return b""
        with path.open("rb") as file:
            file.seek(max(0, path.stat().st_size - count))
            return file.read(count)
    except (OSError, ValueError):
        return b""


def require_count(path: Path, count: int, degree: int, size: int) -> None:
    """Refuses a number of Gaussians that a file of `size` bytes cannot hold, before anything is made for them."""
    if count < 1:
        raise InputError(f"{path}: holds {count} Gaussians; export it again")
    if count * 4 * (11 + 3 * COUNTS[degree]) > max(FREE, EXPANSION * size):
        raise InputError(f"{path}: says {count} Gaussians, too many for its {size_text(size)}; it is damaged")


def columns(path: Path, data: bytes, offset: int, count: int, kind: np.dtype | str, name: str) -> np.ndarray:
    """`count` items of a numpy type from `offset` on, without a copy. Raises InputError where the data end earlier."""
    kind = np.dtype(kind)
    if offset < 0 or count < 0 or offset + count * kind.itemsize > len(data):
        raise InputError(f"{path}: is cut short in its {name} ({count * kind.itemsize} bytes expected); copy it again")
    return np.frombuffer(data, kind, count, offset)


def gunzip_head(data: bytes, count: int) -> bytes:
    """The first bytes of what a gzip stream holds, fewer where it holds fewer; none where it is no such stream."""
    try:
        return zlib.decompressobj(31).decompress(data, count)
    except zlib.error:
        return b""


def gunzip(path: Path, data: bytes, largest: int) -> bytes:
    """The content of a gzip stream of at most `largest` bytes; nothing may follow it."""
    unpacker = zlib.decompressobj(31)
    try:
        content = unpacker.decompress(data, largest + 1)
    except zlib.error as error:
        raise InputError(f"{path}: is damaged ({error}); copy it again") from None
    if len(content) > largest:
        raise InputError(f"{path}: unpacks to more than {size_text(largest)}; it is damaged")
    if not unpacker.eof:
        raise InputError(f"{path}: is cut short; copy it again")
    return content


def unzstd(path: Path, data: bytes, size: int, name: str) -> bytes:
    """The content of a zstd frame of exactly `size` bytes. Raises InputError for any other."""
    try:
        import zstandard
    except ImportError:
        raise InputError(f"{path}: is packed with zstd; run: pip install zstandard") from None
    try:
        stated = zstandard.frame_content_size(data)
        if stated not in (-1, size):
            raise InputError(f"{path}: its {name} unpack to {stated} bytes, {size} are needed; it is damaged")
        content = zstandard.ZstdDecompressor(max_window_size=2**27).decompress(data, max_output_size=max(size, 1))
    except zstandard.ZstdError as error:
        raise InputError(f"{path}: its {name} are damaged ({str(error)[:80]}); copy it again") from None
    if len(content) != size:
        raise InputError(f"{path}: its {name} unpack to {len(content)} bytes, {size} are needed; it is damaged")
    return content


def zstd(data: bytes, level: int = 12) -> bytes:
    """`data` as one zstd frame that states its size."""
    import zstandard

    return zstandard.ZstdCompressor(level=level).compress(data)


def read_json(path: Path, data: bytes, kind: type[Document], largest: int = LARGEST_JSON) -> Document:
    """JSON of at most `largest` bytes as a msgspec type. Raises InputError with one line for anything else."""
    if len(data) > largest:
        raise InputError(f"{path}: {size_text(len(data))} of JSON; at most {size_text(largest)} are read")
    try:
        return msgspec.json.decode(data.removeprefix(b"\xef\xbb\xbf"), type=kind)
    except RecursionError:
        raise InputError(f"{path}: JSON is nested too deeply; export it again") from None
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        text = " ".join(str(error).split())[:200]
        raise InputError(f"{path}: {text[:1].lower()}{text[1:]}; export it again") from None


def safe_name(path: Path, name: str) -> str:
    """A file's name in another file, if it leads nowhere but to its folder or below; InputError for any other."""
    parts = name.split("/")
    bad = any(part in ("", ".", "..") or set(part) & set('\\:*?"<>|') or not part.isprintable() for part in parts)
    if bad or len(name) > 200:
        raise InputError(f"{path}: names a file {name[:80]!r}; only names within its folder are read")
    return name


class Archive:
    """A zip archive whose members are read by name, whole, and no larger than the archive bears out."""

    def __init__(self, path: Path) -> None:
        self.path, self.size = path, path.stat().st_size
        try:
            self._zip = zipfile.ZipFile(path)
            names = [safe_name(path, info.filename.rstrip("/")) for info in self._zip.infolist()]
        except (zipfile.BadZipFile, NotImplementedError, OSError, ValueError, UnicodeDecodeError) as error:
            raise InputError(f"{path}: is a damaged archive ({str(error)[:80]}); copy it again") from None
        if len(names) > MEMBERS or len(set(names)) < len(names):
            raise InputError(f"{path}: its {len(names)} members are too many or have names in common; export it again")

    def __enter__(self) -> "Archive":
        return self

    def __exit__(self, *_: object) -> None:
        self._zip.close()

    def names(self) -> list[str]:
        """Names of its members."""
        return self._zip.namelist()

    def read(self, name: str) -> bytes:
        """A member's content; InputError where there is none or it is too large or damaged."""
        try:
            info = self._zip.getinfo(name)
        except KeyError:
            raise InputError(f"{self.path}: has no {name[:80]!r} in it; export it again") from None
        if info.flag_bits & 1:
            raise InputError(f"{self.path}: is encrypted; export it again without a password")
        largest = max(FREE // 4, 4 * self.size)
        if info.file_size > largest:
            raise InputError(f"{self.path}: {name[:80]} unpacks to {size_text(info.file_size)}; it is damaged")
        try:
            with self._zip.open(info) as member:
                content = member.read(largest + 1)
        except (
            zipfile.BadZipFile,
            NotImplementedError,
            OSError,
            ValueError,
            EOFError,
            zlib.error,
            RuntimeError,
        ) as error:
            raise InputError(f"{self.path}: {name[:80]} is damaged ({str(error)[:80]}); copy it again") from None
        if len(content) != info.file_size:
            raise InputError(f"{self.path}: {name[:80]} is not as large as the archive says; copy it again")
        return content
