"""Fixtures that every test may use."""

import os
from pathlib import Path

import pytest

from tests.support.small_fit import one_thread, small_capture, small_file, small_model, small_steps  # noqa: F401  for every test

REPOSITORY = Path(__file__).parent.parent


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Real captures, if this machine has them: NEURALFIELDS_DATA or ../shared/data."""
    folder = Path(os.environ.get("NEURALFIELDS_DATA", REPOSITORY.parent / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip("no shared data on this machine (set NEURALFIELDS_DATA)")
    return folder


@pytest.fixture(scope="session")
def sample_scene() -> Path:
    """The sample scene of the repository."""
    return REPOSITORY / "scenes" / "sample"


@pytest.fixture(params=["x86_64_v4", "x86_64_v3", "portable"])
def instruction_set(request: pytest.FixtureRequest):
    """Runs a test once per instruction set that is built and that this machine has."""
    from neuralfields.ops.native import library

    core = library()
    if request.param not in core.instruction_sets():
        pytest.skip(f"this machine does not run {request.param}")
    before = core.instruction_set()
    core.choose(request.param)
    yield request.param
    core.choose(before)
