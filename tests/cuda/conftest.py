"""The emulator that tests share, and what must be there for each kind of test."""

from pathlib import Path

import pytest

from tests.support.emulate import Emulator, missing


@pytest.fixture(scope="session")
def emulator() -> Emulator:
    """Runs kernels on the CPU; its compiled modules are kept for the run."""
    reason = missing()
    if reason:
        pytest.skip(reason)
    return Emulator()


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
