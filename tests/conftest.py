"""Fixtures that every test may use, and how tests run beside each other."""

import gc
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.side_by_side import Turns, begin_run

REPOSITORY = Path(__file__).parent.parent
WORKER = os.environ.get("PYTEST_XDIST_WORKER")


def pytest_configure(config: pytest.Config) -> None:
    """Workers find the run's folder, and run one thread each, they and their children, where a test asks for no more.

    More threads than cores would spin against each other at barriers. Bytecode is kept, by the children too: else each
    of dozens of processes would compile the package, and each worker rewrite the assertions of every test. Whoever
    starts the workers runs no test, and needs no torch.
    """
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # a shell starts what runs behind it so, children and all
        signal.signal(signal.SIGINT, signal.default_int_handler)
    if not WORKER:
        config.add_cleanup(begin_run())
        os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    if not WORKER and config.option.numprocesses:
        os.environ.setdefault("OMP_NUM_THREADS", "1")
    else:
        config.pluginmanager.import_plugin("tests.support.small_fit")
        config.pluginmanager.import_plugin("tests.support.fit_runs")


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Those that run alone first: at the end the workers share what is left evenly."""
    if WORKER:
        items.sort(key=lambda item: item.get_closest_marker("serial") is None)


def pytest_collection_finish() -> None:
    """What was imported stays for the whole run, so that no collection of garbage walks through it again.

    Tests that measure memory ask for one each, which took a third of a second.
    """
    gc.collect()
    gc.freeze()


if WORKER:
    turns = Turns()

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_protocol(item: pytest.Item, nextitem: pytest.Item | None) -> Iterator[None]:
        """A test waits for its turn; those marked `serial` that follow each other stay alone in between."""
        turns.enter(item.get_closest_marker("serial") is not None)
        try:
            return (yield)
        finally:
            if nextitem is None or nextitem.get_closest_marker("serial") is None:
                turns.leave()


@pytest.fixture(autouse=True)
def threads_as_before() -> Iterator[None]:
    """A test's number of threads is its own."""
    import torch

    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@pytest.fixture
def generator():
    """The same numbers in every run."""
    import torch

    return torch.Generator().manual_seed(7)


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


@pytest.fixture
def float32_products():
    """Products of float32 for a test, where the CPU would round their factors to bfloat16."""
    from neuralfields.ops.native import library

    core = library()
    before = core.bfloat16_product()
    core.choose_bfloat16("")
    yield
    core.choose_bfloat16(before)


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
