"""Serves the viewer, a page in the browser for fields and captures: from Python and in a notebook."""

import threading
import webbrowser
from collections.abc import Sequence
from typing import Any

from neuralfields.serving.server import Server
from neuralfields.serving.stage import stage_of


class Viewer:
    """A running viewer. `url` is its address; `wait` blocks until Ctrl-C; a notebook shows it in a cell."""

    def __init__(self, server: Server) -> None:
        self.server, self._closed = server, threading.Event()

    @property
    def url(self) -> str:
        """Address of the page."""
        return self.server.url

    def wait(self) -> None:
        """Blocks until Ctrl-C or `close`, then closes the viewer."""
        try:
            while not self._closed.wait(0.5):  # a wait without end hears no Ctrl-C on every platform
                pass
        except KeyboardInterrupt:
            pass
        finally:
            self.close()

    def close(self) -> None:
        """Stops serving."""
        self.server.close()
        self._closed.set()

    def __enter__(self) -> "Viewer":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _repr_html_(self) -> str:
        return f'<iframe src="{self.url}" style="width:100%;height:640px;border:0" allow="fullscreen"></iframe>'

    def __repr__(self) -> str:
        return f"Viewer({self.url})"


def view(
    things: Any,
    scene: Any = None,
    host: str = "127.0.0.1",
    port: int | None = None,
    open_browser: bool = False,
    threads: int | None = None,
    device: str = "auto",
) -> Viewer:
    """Serves a viewer of a model file, a capture, a Model, a Scene, an object with `render(camera)`, or several.

    Returns at once; `.wait()` blocks until Ctrl-C. `scene`: the capture for photos and points. `port`: Default: the
    next free one from 7077 on; 0 for any. A `host` other than the loopback address needs the token in `.url`. `device`:
    auto, cpu or cuda, for models that are read from files. Raises InputError and UsageError.
    """
    from neuralfields.serving.server import PORT

    several = things if isinstance(things, Sequence) and not isinstance(things, str) else [things]
    server = Server(stage_of(several, scene, device), host, PORT if port is None else port, threads)
    if open_browser:
        webbrowser.open(server.url)
    return Viewer(server)
