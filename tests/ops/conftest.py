"""Inputs that the op tests share."""

import pytest
import torch

from neuralfields.ops.hash_grid import HashGeometry


@pytest.fixture
def generator() -> torch.Generator:
    """The same numbers in every run."""
    return torch.Generator().manual_seed(7)


@pytest.fixture(scope="session")
def geometry() -> HashGeometry:
    """A small grid with dense and hashed levels."""
    return HashGeometry.of(level_count=4, table_log2=8, base=4, finest=32)
