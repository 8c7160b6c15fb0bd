"""Pictures that compression looks at, of half as many pixels a side in these tests."""

import pytest

from neuralfields.compression import original


@pytest.fixture(autouse=True)
def small_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    """A quarter of the pixels; as many views."""
    monkeypatch.setattr(original, "SIDE", original.SIDE // 2)
    monkeypatch.setattr(original, "REFINING_SIDE", original.REFINING_SIDE // 2)
