"""`nf view`: a page in the browser that shows fields and captures, live (serving/viewer.py)."""

import sys
from pathlib import Path
from typing import Any

from neuralfields.options.models import ViewOptions
from neuralfields.serving.viewer import view


def run(options: ViewOptions) -> dict[str, Any]:
    """Serves until Ctrl-C; keys: url, models. Raises InputError and UsageError before anything is served."""
    for_all = [Path(thing) for thing in options.models]
    viewer = view(for_all, options.scene, options.host, options.port, options.open, options.threads, options.device)
    notes = [f"note: {note}" for note in viewer.server.stage.notes]
    sys.stderr.write("\n".join([*notes, *viewer.server.lines(), "Ctrl-C stops"]) + "\n")
    sys.stderr.flush()
    url = viewer.url
    viewer.wait()
    return {"url": url, "models": [str(path) for path in for_all]}


def text(result: dict[str, Any]) -> str:
    """What the verb prints when it ends."""
    return f"stopped: {result['url']}"
