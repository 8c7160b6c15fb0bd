"""Inputs that the op tests share."""

import pytest

from neuralfields.ops.hash_grid import HashGeometry


@pytest.fixture(scope="session")
def geometry() -> HashGeometry:
    """A small grid with dense and hashed levels."""
    return HashGeometry.of(level_count=4, table_log2=8, base=4, finest=32)
