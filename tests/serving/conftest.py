"""One browser for all tests of the page that a worker runs."""

from tests.support.browser import browser  # noqa: F401
