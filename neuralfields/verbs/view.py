"""`nf view`: shows fields and captures in the browser (serving/viewer.py)."""

import sys
from pathlib import Path
from typing import Any

from neuralfields.captures.readers import read_scene
from neuralfields.codecs import is_splat_file
from neuralfields.options.models import ViewOptions
from neuralfields.scene import Scene
from neuralfields.serving.viewer import view


def run(options: ViewOptions) -> dict[str, Any]:
    """Serves the viewer until Ctrl-C; keys: url, models. Raises InputError and UsageError before anything is served."""
    paths = [Path(thing) for thing in options.models]
    things, scene = [_shown(path, options.allow_outside) for path in paths], options.scene
    if scene is not None and options.allow_outside:
        scene = read_scene(scene, allow_outside=True)
    viewer = view(things, scene, options.host, options.port, options.open, options.threads, options.device)
    notes = [f"note: {note}" for note in viewer.server.stage.notes]
    sys.stderr.write("\n".join([*notes, *viewer.server.lines(), "Ctrl-C stops"]) + "\n")
    sys.stderr.flush()
    url = viewer.url
    viewer.wait()
    return {"url": url, "models": [str(path) for path in paths]}


def _shown(path: Path, allow_outside: bool) -> Path | Scene:
    """What the viewer is given of a path: captures that may name files elsewhere are read here."""
    is_capture = allow_outside and (path.is_dir() or path.suffix.lower() == ".json") and not is_splat_file(path)
    return read_scene(path, allow_outside=True) if is_capture else path


def text(result: dict[str, Any]) -> str:
    """Formats the result for people, when the server has stopped."""
    return f"stopped: {result['url']}"
