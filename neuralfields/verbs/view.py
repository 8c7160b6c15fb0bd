"""`nf view`: shows fields and captures in the browser (serving/viewer.py)."""

import sys
from pathlib import Path
from typing import Any

from neuralfields.options.models import ViewOptions
from neuralfields.serving.viewer import view


def run(options: ViewOptions) -> dict[str, Any]:
    """Serves the viewer until Ctrl-C; keys: url, models. Raises InputError and UsageError before anything is served."""
    paths = [Path(thing) for thing in options.models]
    viewer = view(paths, options.scene, options.host, options.port, options.open, options.threads, options.device)
    notes = [f"note: {note}" for note in viewer.server.stage.notes]
    sys.stderr.write("\n".join([*notes, *viewer.server.lines(), "Ctrl-C stops"]) + "\n")
    sys.stderr.flush()
    url = viewer.url
    viewer.wait()
    return {"url": url, "models": [str(path) for path in paths]}


def text(result: dict[str, Any]) -> str:
    """Formats the result for people, when the server has stopped."""
    return f"stopped: {result['url']}"
