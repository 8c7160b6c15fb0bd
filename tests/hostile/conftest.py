"""What the tests of hostile files share."""

import pytest

from tests.support.fake_field import install


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> None:
    """The field `fake` is one of those that there are."""
    install(monkeypatch)
