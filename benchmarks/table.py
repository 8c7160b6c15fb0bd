"""Results as data and as a table: every row carries the command, the commit and the machine that made it."""

import json
import os
import subprocess
import time
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parent


def machine() -> str:
    """Processor, cores and load, in a line."""
    name = "unknown processor"
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.is_file():
        lines = cpuinfo.read_text().splitlines()
        name = next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), name)
    return f"{name}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}"


def commit() -> str:
    """The commit that ran; + where the tree had changes."""

    def git(*words: str) -> str:
        return subprocess.run(["git", *words], cwd=FOLDER, capture_output=True, text=True, check=False).stdout.strip()

    results = [f":!*.{kind}" for kind in ("json", "md", "png", "jpg")]
    dirty = git("status", "--porcelain", "--untracked-files=no", "--", *results)
    return (git("rev-parse", "--short", "HEAD") or "unknown") + ("+" if dirty else "")


def row(command: str, **figures: Any) -> dict[str, Any]:
    """A row with its origin; `figures` come first in the table."""
    return {**figures, "command": command, "commit": commit(), "machine": machine(), "date": time.strftime("%Y-%m-%d")}


def kept(claim: str, command: str | None) -> list[dict[str, Any]]:
    """Rows that this command has already written, at any commit: an interrupted run resumes after them.

    Of any command with None. Remove the table to measure again.
    """
    path = FOLDER / f"{claim}.json"
    rows = json.loads(path.read_text()) if path.is_file() else []
    return [r for r in rows if command in (None, r["command"])]


def write(claim: str, title: str, rows: list[dict[str, Any]]) -> None:
    """Writes `<claim>.json`, and `<claim>.md` with the same rows."""
    (FOLDER / f"{claim}.json").write_text(json.dumps(rows, indent=1) + "\n")
    names = list(dict.fromkeys(name for r in rows for name in r))
    lines = [f"# {title}", "", "| " + " | ".join(names) + " |", "|" + "---|" * len(names)]
    for r in rows:
        cells = [_cell(name, r.get(name, "")) for name in names]
        lines.append("| " + " | ".join(cells) + " |")
    (FOLDER / f"{claim}.md").write_text("\n".join(lines) + "\n")


def _cell(name: str, value: Any) -> str:
    if name == "command":
        return f"`{value}`"
    return f"{value:.4g}" if isinstance(value, float) else str(value)
