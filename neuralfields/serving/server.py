"""The viewer's web server: static files, one WebSocket, and access control.

Vocabulary
  token  random part of the address: everything is below `/TOKEN/` where a token is required, else below `/`
  host   the name that a request was made to (its Host header), which a DNS rebinding attack cannot choose freely
  asset  a file of the page, read when the server starts; a request never names a path of the file system

On the loopback address (127.0.0.1, the default) the Host of a request must be a name of this machine, and the Origin of
the WebSocket the same address. Any other address needs a token of 128 random bits as well.
"""

import asyncio
import contextlib
import errno
import hmac
import ipaddress
import json
import logging
import os
import secrets
import socket
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from neuralfields.errors import InputError, NeuralfieldsError, UsageError
from neuralfields.options.common import Page
from neuralfields.serving import field, splats
from neuralfields.serving.messages import LARGEST_MESSAGE, read
from neuralfields.serving.removal import FORMATS, removed_of, written
from neuralfields.serving.session import Session
from neuralfields.serving.stage import Stage
from neuralfields.serving.stand_in import WORDS, StandIns
from neuralfields.serving.subjects import Subject
from neuralfields.serving.worker import ThreadWorker, Worker

PORT, PORTS_TRIED = Page.port, 32
MOST_PAGES = 16
KINDS = {".html": "text/html", ".js": "text/javascript", ".css": "text/css", ".svg": "image/svg+xml"}
HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:;"
    " media-src 'self';"
    " connect-src 'self'; base-uri 'none'; form-action 'none';"
    " frame-ancestors 'self' http://localhost:* http://127.0.0.1:*",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
}
LOCAL = ("localhost", "127.0.0.1", "::1")


def assets() -> dict[str, tuple[str, bytes]]:
    """Reads the page's files: name -> MIME type and bytes. Raises InputError where they are missing."""
    package = Path(__file__).resolve().parents[1]
    for folder in (package / "_viewer", package.parent / "viewer"):
        if (folder / "index.html").is_file():
            files = [path for path in sorted(folder.iterdir()) if path.suffix in KINDS]
            return {path.name: (KINDS[path.suffix], path.read_bytes()) for path in files}
    raise InputError(f"{package}: the viewer's page is not there; install neuralfields again")


def is_local(host: str) -> bool:
    """Whether an address is a loopback address."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def listen(host: str, port: int) -> tuple[socket.socket, str | None]:
    """Opens a listening socket at the port or the next free one after it, and gives a note where it was in use.

    Raises UsageError for an address of another machine and where no port is free.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    ports = range(port, min(port + PORTS_TRIED, 65536)) if port else [0]
    for candidate in ports:
        one = socket.socket(family, socket.SOCK_STREAM)
        try:
            one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            one.bind((host, candidate))
            one.listen(128)
        except OSError as error:
            one.close()
            if error.errno == errno.EADDRINUSE:
                continue
            reason = (error.strerror or str(error)).lower()
            raise UsageError(f"--host {host} --port {candidate}: cannot listen there ({reason})") from None
        one.setblocking(False)
        taken = f"port {port} is in use; {candidate} is taken instead" if candidate != port else None
        return one, taken
    raise UsageError(f"--port {port}: it and the {len(ports) - 1} after it are in use; give another one, or 0 for any")


class Server:
    """Web server of a stage, in a thread of its own, until `close`. `url` is the address for the browser."""

    def __init__(
        self,
        stage: Stage,
        host: str = LOCAL[1],
        port: int = PORT,
        threads: int | None = None,
        worker: Worker | None = None,
        stand_ins: Sequence[str] = WORDS,
    ) -> None:
        try:
            import aiohttp  # noqa: F401
        except ImportError:
            raise UsageError("the viewer needs the package aiohttp; run: pip install 'neuralfields[view]'") from None
        self.stage, self.host, self.sessions = stage, host, dict[Session, Any]()
        self.token = None if is_local(host) else secrets.token_urlsafe(16)
        self.assets = assets()
        self._socket, self.taken = listen(host, port)
        self.port = self._socket.getsockname()[1]
        self.worker, self._words = worker or ThreadWorker(threads), stand_ins
        self._loop = asyncio.new_event_loop()
        self._stopping, self._writing = asyncio.Event(), asyncio.Lock()
        self._ready = threading.Event()
        self._thread = threading.Thread(target=self._serve, name="viewer-server", daemon=True)
        self._thread.start()
        self._ready.wait()

    @property
    def url(self) -> str:
        """The address of the page, with the token where there is one."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        if self.host in ("0.0.0.0", "::"):
            host = socket.gethostname()
        return f"http://{host}:{self.port}/" + (f"{self.token}/" if self.token else "")

    def lines(self) -> list[str]:
        """Lines for the user: the address, a port in use, and the ssh command to forward it."""
        lines = [self.taken] if self.taken else []
        lines.append(f"viewer: {self.url}")
        if os.environ.get("SSH_CONNECTION") and is_local(self.host):
            server = os.environ["SSH_CONNECTION"].split()
            name = server[2] if len(server) == 4 else socket.gethostname()
            lines.append(f"on your own machine first: ssh -L {self.port}:localhost:{self.port} {name}")
        return lines

    def describe_again(self) -> None:
        """Sends the description of the stage to every page: what is shown has changed."""

        async def send() -> None:
            text = json.dumps(self.stage.describe())
            await asyncio.gather(*(session.send(text) for session in list(self.sessions)))

        with contextlib.suppress(RuntimeError):  # the loop ended meanwhile
            asyncio.run_coroutine_threadsafe(send(), self._loop)

    def close(self) -> None:
        """Closes every page and stops serving; does nothing the second time."""
        if self._thread.is_alive():
            with contextlib.suppress(RuntimeError):  # the loop ended meanwhile
                self._loop.call_soon_threadsafe(self._stopping.set)
            self._thread.join(timeout=10)
        if isinstance(self.worker, ThreadWorker):
            self.worker.close()

    # ------------------------------------------------------------ in the server's thread

    def _serve(self) -> None:
        asyncio.set_event_loop(self._loop)
        try:
            self._loop.run_until_complete(self._main())
        finally:
            self._ready.set()
            self._loop.run_until_complete(self._loop.shutdown_default_executor())
            self._loop.close()

    async def _main(self) -> None:
        from aiohttp import web

        logging.getLogger("aiohttp").setLevel(logging.CRITICAL)  # garbage on the line is nothing to print
        app = web.Application(client_max_size=1024)
        app.router.add_route("*", "/{path:.*}", self._answer)
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=1.0, max_line_size=4096, max_field_size=4096)
        await runner.setup()
        await web.SockSite(runner, self._socket).start()
        stand_ins = StandIns(self.stage, self.describe_again, self._words)
        if self.stage.steer is None:  # else a fit is running, which needs the cores
            self.stage.distil = stand_ins.begin
        self._ready.set()
        looking = self._loop.run_in_executor(None, lambda: self.stage.seen)  # while the page is on its way
        await self._stopping.wait()
        await asyncio.gather(looking, return_exceptions=True)
        await stand_ins.end()
        pages = list(self.sessions.items())
        await asyncio.gather(*(session.end() for session, _ in pages))
        await asyncio.gather(*(line.close(code=1001, message=b"the viewer was stopped") for _, line in pages))
        with contextlib.suppress(NotImplementedError):  # Windows
            self._loop.remove_reader(self._socket)
        await asyncio.sleep(0.01)  # in which what was accepted last is connected: a server that is closed drops it
        connected = [one.transport for one in runner.server.connections if one.transport is not None]
        await runner.cleanup()
        for transport in connected:
            transport.abort()  # of a page that reads no more of what was sent, or does not hang up
        await asyncio.sleep(0.01)  # in which closed connections give their sockets back

    async def _answer(self, request: Any) -> Any:
        from aiohttp import web

        path = request.match_info["path"]
        refusal = self._refusal(request)
        if refusal:
            return web.Response(status=403, text=refusal + "\n", headers=HEADERS)
        if self.token:
            given, slash, path = path.partition("/")
            if not hmac.compare_digest(given.encode(), self.token.encode()):
                text = "this viewer needs the whole address that was printed where it was started, token included\n"
                return web.Response(status=403, text=text, headers=HEADERS)
            if not slash:
                raise web.HTTPFound(f"/{self.token}/")
        if path == "socket":
            return await self._socket_of(request)
        if path.startswith("splats/") and path.endswith("/file") and request.method == "POST":
            return await self._file_of(path[7:-5], request)
        kind, slash, name = path.partition("/")
        if slash and kind == "sound" and request.method == "GET":
            subject = self._subject(name)
            sound = subject.shown.sound if subject is not None and subject.shown is not None else None
            return web.Response(body=sound, status=200 if sound else 404, content_type="audio/wav", headers=HEADERS)
        if slash and kind in ("splats", "field") and request.method == "GET":
            return await self._packed(kind, name, request.query.get("version"))
        kind, data = self.assets.get(path or "index.html", (None, b""))
        if kind is None or request.method not in ("GET", "HEAD"):
            return web.Response(status=404 if kind is None else 405, text="not here\n", headers=HEADERS)
        return web.Response(body=data, content_type=kind, charset="utf-8", headers=HEADERS)

    async def _packed(self, kind: str, name: str, have: str | None) -> Any:
        """What the page draws of a subject: 204 where it has this version, 413 where it is too much."""
        from aiohttp import web

        subject = self._subject(name)
        source, pack = None, splats.pack if kind == "splats" else field.pack
        if subject is not None:
            source = subject.splats if kind == "splats" else subject.volume
        if source is None:
            return web.Response(status=404, text="not here\n", headers=HEADERS)
        if have == str(subject.version()):
            return web.Response(status=204, headers=HEADERS)
        try:
            data = await self.worker.run(lambda: pack(source(), subject.version()))
        except UsageError as error:
            return web.Response(status=413, text=f"{error}\n", headers=HEADERS)
        return web.Response(body=data, content_type="application/octet-stream", headers=HEADERS)

    def _subject(self, name: str) -> Subject | None:
        index = int(name) if name.isascii() and name.isdigit() and len(name) < 5 else -1
        return self.stage.subjects[index] if 0 <= index < len(self.stage.subjects) else None

    async def _file_of(self, name: str, request: Any) -> Any:
        """A subject's Gaussians without those that the body says are deleted, as a file; see serving/removal.py."""
        from aiohttp import web

        subject, suffix = self._subject(name), request.query.get("as")
        if not _same_origin(request):
            return web.Response(status=403, text="only the viewer's own page may ask this\n", headers=HEADERS)
        if subject is None or subject.splats is None or suffix not in FORMATS:
            return web.Response(status=404, text="not here\n", headers=HEADERS)
        if request.query.get("version") != str(subject.version()):
            return web.Response(status=409, text="the Gaussians have changed; reload the page\n", headers=HEADERS)
        gaussians = (await self.worker.run(subject.splats)).gaussians
        try:
            bits = await _body(request, -(-len(gaussians) // 8))
            async with self._writing:
                data = await asyncio.to_thread(written, gaussians, removed_of(bits, len(gaussians)), suffix)
        except NeuralfieldsError as error:
            return web.Response(status=400, text=f"{error}\n", headers=HEADERS)
        return web.Response(body=data, content_type="application/octet-stream", headers=HEADERS)

    def _refusal(self, request: Any) -> str | None:
        """Reason to refuse a request (DNS rebinding): a Host that is no name of this machine. A token allows any."""
        name = _host_name(request.headers.get("Host", ""))
        if self.token or (name is not None and name in (*LOCAL, self.host)):
            return None
        return "this viewer answers to localhost alone"

    async def _socket_of(self, request: Any) -> Any:
        from aiohttp import web

        if not _same_origin(request):
            return web.Response(status=403, text="only the viewer's own page may connect\n", headers=HEADERS)
        if len(self.sessions) >= MOST_PAGES:
            return web.Response(status=503, text=f"{MOST_PAGES} pages are connected already\n", headers=HEADERS)
        line = web.WebSocketResponse(max_msg_size=LARGEST_MESSAGE, heartbeat=20.0, compress=False, timeout=1.0)
        if not line.can_prepare(request):
            return web.Response(status=400, text="a WebSocket is needed here\n", headers=HEADERS)

        async def send(data: str | bytes) -> None:
            with contextlib.suppress(ConnectionError, RuntimeError):  # the page is gone: its reader will see it
                await (line.send_str(data) if isinstance(data, str) else line.send_bytes(data))

        session = Session(self.stage, self.worker, send)
        self.sessions[session] = line
        try:
            await line.prepare(request)
            await session.begin()
            await self._converse(line, session)
        finally:
            self.sessions.pop(session, None)
            await session.end()
        return line

    async def _converse(self, line: Any, session: Session) -> None:
        """Handles messages until the page disconnects or sends an invalid one, which closes the socket."""
        from aiohttp import WSMsgType

        async for message in line:
            if message.type is not WSMsgType.TEXT:
                break
            try:
                await session.take(read(message.data))
            except InputError as error:
                await line.close(code=1008, message=str(error).encode()[:120])
                return
        await line.close()


def _same_origin(request: Any) -> bool:
    """Whether a request comes from the viewer's own page (its Origin header, which no page can choose)."""
    host = request.headers.get("Host", "")
    return request.headers.get("Origin") in (f"http://{host}", f"https://{host}")


async def _body(request: Any, size: int) -> bytes:
    """The body of a request, of exactly that many bytes. Raises InputError for any other length."""
    data = b""
    while len(data) <= size and (chunk := await request.content.read(size + 1 - len(data))):
        data += chunk
    if len(data) != size:
        raise InputError(f"message of the page: {size} bytes were expected; reload the page")
    return data


def _host_name(host: str) -> str | None:
    """Host name of a Host header, without port and brackets; None where it is invalid."""
    try:
        parts = urlsplit(f"//{host}")
        if parts.path or parts.query or parts.fragment or parts.username is not None:
            return None
        _ = parts.port
        return parts.hostname
    except ValueError:
        return None
