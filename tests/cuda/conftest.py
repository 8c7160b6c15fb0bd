"""The emulator that tests share, and what must be there for each kind of test."""

import contextlib
import time
from pathlib import Path

import pytest

from tests.support.emulate import Emulator, missing

UNUSED = 14 * 86400  # seconds after which what was compiled is taken away


@pytest.fixture(scope="session")
def kept(pytestconfig: pytest.Config, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder for what is compiled, kept from run to run: its names hold digests of sources, options and compiler."""
    cache = getattr(pytestconfig, "cache", None)
    folder = cache.mkdir("neuralfields-compiled") if cache else tmp_path_factory.mktemp("compiled")
    for path in folder.iterdir():
        with contextlib.suppress(FileNotFoundError):  # another worker was quicker
            if time.time() - path.stat().st_mtime > UNUSED:
                path.unlink()
    return folder


@pytest.fixture(scope="session")
def emulator(kept: Path) -> Emulator:
    """Runs kernels on the CPU."""
    reason = missing()
    if reason:
        pytest.skip(reason)
    return Emulator(kept)


@pytest.fixture
def nvrtc() -> str:
    """The compiler's version."""
    pytest.importorskip("cuda.core", reason="cuda-core is not installed: pip install neuralfields[cuda]")
    from neuralfields.gpu.compile import compiler_version

    return compiler_version()


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder for compiled kernels."""
    monkeypatch.setenv("NEURALFIELDS_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"
