"""The page on faults names tests that exist, and every row of its list has some."""

import re
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[1]
PAGE = (REPOSITORY / "docs/faults.md").read_text(encoding="utf-8")
NAMED = re.compile(r"`(tests/[a-z0-9_/]+\.py)(?:::([a-z0-9_]+))?`")


def lost(text: str) -> list[str]:
    """Tests that a text names and that are not there."""
    found = []
    for file, name in NAMED.findall(text):
        path = REPOSITORY / file
        if not path.is_file() or (name and f"\ndef {name}(" not in path.read_text(encoding="utf-8")):
            found.append(f"{file}::{name}" if name else file)
    return found


def test_every_test_on_the_page_is_there() -> None:
    assert lost(PAGE) == []
    assert lost("`tests/test_faults.py::test_none`, `tests/gone.py`") == [
        "tests/test_faults.py::test_none",
        "tests/gone.py",
    ]


def test_fifty_rows_each_with_a_test() -> None:
    rows = re.findall(r"^\| ([0-9]+) \| [^|]+ \| ([^|]+) \|$", PAGE, re.MULTILINE)
    assert [int(number) for number, _ in rows] == list(range(1, 51))
    assert all(NAMED.search(cell) for _, cell in rows)
