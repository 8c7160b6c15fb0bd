"""One browser for each file of tests."""

from tests.support.browser import browser  # noqa: F401
