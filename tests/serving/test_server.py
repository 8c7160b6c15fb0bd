"""Who may use the viewer, and what happens to those who may not."""

import asyncio
import contextlib
import gc
import re
import socket
import sys
from collections.abc import Callable, Iterator
from typing import Any

import aiohttp
import numpy as np
import pytest

from neuralfields.errors import UsageError
from neuralfields.serving.messages import LARGEST_MESSAGE
from neuralfields.serving.server import MOST_PAGES, Server, assets, is_local, listen
from tests.support.own_loop import run_in_own_loop
from tests.support.view_ball import Page, ball_stage, view


@pytest.fixture
def server() -> Iterator[Server]:
    made = Server(ball_stage(), port=0, threads=1)
    yield made
    made.close()
    assert not made._thread.is_alive()


def talk(server: Server, work: Callable[[aiohttp.ClientSession, str], Any], base: str | None = None) -> Any:
    """Runs a conversation with the server in a loop of its own."""

    async def run() -> Any:
        async with aiohttp.ClientSession() as web:
            return await work(web, base or f"http://127.0.0.1:{server.port}/")

    return run_in_own_loop(run())


@contextlib.asynccontextmanager
async def page(web: aiohttp.ClientSession, base: str, **headers: str) -> Any:
    origin = re.match(r"http://[^/]+", base)[0]
    async with web.ws_connect(base + "socket", headers={"Origin": origin} | headers) as line:
        yield Page(line)


async def status(web: aiohttp.ClientSession, url: str, method: str = "GET", **headers: str) -> int:
    async with web.request(method, url, headers=headers) as answer:
        return answer.status


def test_the_page_and_its_files(server: Server) -> None:
    async def work(web: aiohttp.ClientSession, base: str) -> None:
        for name, (kind, data) in {"": assets()["index.html"], **assets()}.items():
            async with web.get(base + name) as answer:
                assert answer.status == 200 and answer.content_type == kind and await answer.read() == data
                policy = answer.headers["Content-Security-Policy"]
                assert "default-src 'none'" in policy and "unsafe" not in policy
        async with page(web, base) as one:
            assert (await one.next("stage"))["subjects"][0]["name"] == "ball"
            await one.send(**view(1))
            assert (await one.last(1))["width"] == 64

    talk(server, work)


def test_the_page_asks_for_nothing_from_elsewhere() -> None:
    """No address of another host in any file of the page (but the name of SVG)."""
    for name, (_, data) in assets().items():
        found = re.findall(rb"(?:https?:)?//[\w.-]+\.[a-z]{2,}", data)
        assert set(found) <= {b"http://www.w3.org"}, name


@pytest.mark.parametrize("host", [
    "evil.example", "evil.example:80", "127.0.0.1.evil.example", "localhost.evil.example", "", "user@localhost",
    "localhost/x", "192.168.1.2", "[::1", "localhost:99999999",
])  # fmt: skip
def test_a_rebinding_host_is_refused(server: Server, host: str) -> None:
    async def work(web: aiohttp.ClientSession, base: str) -> tuple[int, int]:
        headers = {"Host": host, "Origin": f"http://{host}"}
        sockets = 0
        with contextlib.suppress(aiohttp.WSServerHandshakeError):
            async with web.ws_connect(base + "socket", headers=headers):
                sockets += 1
        return await status(web, base, **headers), sockets

    code, sockets = talk(server, work)
    assert code in (400, 403) and sockets == 0


def test_names_of_this_machine_are_let_in(server: Server) -> None:
    async def work(web: aiohttp.ClientSession, base: str) -> list[int]:
        hosts = ["localhost", "LOCALHOST:9", f"127.0.0.1:{server.port}", "[::1]:80"]  # ssh -L may change the port
        return [await status(web, base, Host=host) for host in hosts]

    assert talk(server, work) == [200] * 4


@pytest.mark.parametrize("origin", ["http://evil.example", "null", "http://localhost:1", "https://127.0.0.1", ""])
def test_a_foreign_origin_is_refused(server: Server, origin: str) -> None:
    async def work(web: aiohttp.ClientSession, base: str) -> int:
        with pytest.raises(aiohttp.WSServerHandshakeError) as caught:
            async with page(web, base, Origin=origin):
                pass
        return caught.value.status

    assert talk(server, work) == 403


def test_without_an_origin_too(server: Server) -> None:
    async def work(web: aiohttp.ClientSession, base: str) -> int:
        with pytest.raises(aiohttp.WSServerHandshakeError) as caught:
            async with web.ws_connect(base + "socket"):
                pass
        return caught.value.status

    assert talk(server, work) == 403


def raw(port: int, request: bytes) -> bytes:
    """The first bytes of the answer to bytes that no client library would send."""
    with socket.create_connection(("127.0.0.1", port), timeout=10) as line:
        line.sendall(request)
        with contextlib.suppress(TimeoutError, ConnectionError):
            return line.recv(4096)
    return b""


@pytest.mark.parametrize("path", [
    "/../../etc/passwd", "//etc/passwd", "/%2e%2e/%2e%2e/etc/passwd", "/..%2f..%2fsetup.py", "/view.py", "/main.js/",
    "/./main.js", "/viewer/main.js", "/index.html%00.js", "/file:///etc/passwd", "/\\..\\setup.py", "/socket/..",
])  # fmt: skip
def test_no_path_reaches_the_file_system(server: Server, path: str) -> None:
    request = f"GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode()
    answer = raw(server.port, request)
    assert re.match(rb"HTTP/1.1 (404|400)", answer), answer[:80]
    assert b"root:" not in answer


def test_only_reading(server: Server) -> None:
    async def work(web: aiohttp.ClientSession, base: str) -> list[int]:
        return [await status(web, base, method) for method in ("POST", "PUT", "DELETE", "OPTIONS", "HEAD")]

    assert talk(server, work) == [405, 405, 405, 405, 200]


def test_garbage_on_the_line_disturbs_nobody(server: Server) -> None:
    garbage = [b"\x00" * 5000, b"GET / HTTP/9.9\r\n\r\n", b"\x16\x03\x01", b"GET /" + b"a" * 100_000]
    garbage += [np.random.default_rng(i).bytes(3000) for i in range(5)]
    garbage.append(b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 99999999999\r\n\r\n")

    async def work(web: aiohttp.ClientSession, base: str) -> None:
        async with page(web, base) as one:
            await one.next("stage")
            for number, data in enumerate(garbage, start=1):
                await asyncio.to_thread(_poke, server.port, data)
                await one.send(**view(number))
                assert (await one.last(number))["number"] == number

    talk(server, work)


def _poke(port: int, data: bytes) -> None:
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=5) as line:
        line.sendall(data)


@pytest.mark.parametrize(
    ("data", "code"),
    [
        ("not json", 1008), ('{"type": "view"}', 1008), ("x" * (LARGEST_MESSAGE + 1), 1009), ("[" * 60_000, 1008),
        (b"\x00\x01binary", 1000), ('{"type": "steer", "do": "stop"}', 1008), ("y" * 100_000_000, 1009),
    ],
)  # fmt: skip
def test_bad_messages_close_their_own_line_alone(server: Server, data: str | bytes, code: int) -> None:
    async def work(web: aiohttp.ClientSession, base: str) -> None:
        async with page(web, base) as good, page(web, base) as bad:
            await good.next("stage")
            await bad.next("stage")
            with contextlib.suppress(ConnectionError):
                await (bad.line.send_bytes(data) if isinstance(data, bytes) else bad.line.send_str(data))
            with pytest.raises(ConnectionError):
                await bad.next("never")
            assert bad.line.close_code in (code, 1006)  # 1006: the line broke while 100 MB were on their way
            await good.send(**view(1))
            assert (await good.last(1))["number"] == 1

    talk(server, work)


def test_a_hundred_pages(server: Server) -> None:
    """So many are let in and no more; those who are in are served, and places become free again."""

    async def work(web: aiohttp.ClientSession, base: str) -> None:
        async with contextlib.AsyncExitStack() as stack:
            pages, refused = [], 0
            for _ in range(100):
                try:
                    pages.append(await stack.enter_async_context(page(web, base)))
                except aiohttp.WSServerHandshakeError as error:
                    assert error.status == 503
                    refused += 1
            assert len(pages) == MOST_PAGES and refused == 100 - MOST_PAGES
            await pages[-1].send(**view(1))
            await pages[-1].last(1)
        for _ in range(100):
            if not server.sessions:
                break
            await asyncio.sleep(0.05)
        async with page(web, base) as one:
            await one.next("stage")

    talk(server, work)


def test_a_page_that_goes_or_stalls_holds_up_nobody(server: Server) -> None:
    async def work(web: aiohttp.ClientSession, base: str) -> None:
        async with page(web, base) as stalled, page(web, base) as good:
            stalled.draws = False
            for number in range(1, 6):
                await stalled.send(**view(number, size=(1600, 1200)))
            async with page(web, base) as gone:
                await gone.send(**view(1, size=(1600, 1200)))
            await good.send(**view(1, size=(320, 240)))
            assert (await good.last(1))["width"] == 320

    talk(server, work)


# ---------------------------------------------------------------- other addresses


@pytest.fixture
def open_server() -> Iterator[Server]:
    made = Server(ball_stage(), host="0.0.0.0", port=0, threads=1)
    yield made
    made.close()


def test_connections_end_with_the_server() -> None:
    """One that asks for nothing, one that reads nothing of what it asked for, twenty that were accepted at the end."""
    server = Server(ball_stage(), port=0, threads=1)
    address = ("127.0.0.1", server.port)
    idle, deaf = socket.create_connection(address), socket.socket()
    deaf.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
    deaf.connect(address)
    for _ in range(50):
        deaf.sendall(b"GET /main.js HTTP/1.1\r\nHost: localhost\r\n\r\n")
    late = [socket.create_connection(address) for _ in range(20)]
    server.close()
    for one in (idle, deaf, *late):
        one.close()
    del server
    left = [one for one in gc.get_objects() if isinstance(one, socket.socket) and one.fileno() != -1]
    assert [one for one in left if one.getsockname()[:2] == address] == []


def test_anywhere_else_a_token_is_needed(open_server: Server) -> None:
    token, port = open_server.token, open_server.port
    assert len(token) >= 20 and open_server.url.endswith(f":{port}/{token}/")

    async def work(web: aiohttp.ClientSession, base: str) -> None:
        for path in ("", "socket", "main.js", "wrong/", token[:-1] + "/", token + "x/", "%00/", "ünï/"):
            assert await status(web, base + path) == 403, path
            with pytest.raises(aiohttp.WSServerHandshakeError) as caught:
                async with page(web, base + path):
                    pass
            assert caught.value.status == 403
        assert await status(web, base + token) == 200  # sent on to the address with a slash
        assert await status(web, f"{base}{token}/main.js", Host="some.name") == 200
        async with page(web, f"{base}{token}/") as one:
            await one.next("stage")
        with pytest.raises(aiohttp.WSServerHandshakeError):
            async with page(web, f"{base}{token}/", Origin="http://evil.example"):
                pass

    talk(open_server, work)


def test_tokens_differ(open_server: Server) -> None:
    other = Server(ball_stage(), host="0.0.0.0", port=0, threads=1)
    other.close()
    assert other.token != open_server.token


@pytest.mark.parametrize(("host", "local"), [
    ("127.0.0.1", True), ("127.1.2.3", True), ("::1", True), ("localhost", True),
    ("0.0.0.0", False), ("::", False), ("10.0.0.1", False), ("somewhere", False),
])  # fmt: skip
def test_what_is_this_machine_alone(host: str, local: bool) -> None:
    assert is_local(host) is local


def test_a_port_in_use_is_said_and_the_next_is_taken() -> None:
    first, _ = listen("127.0.0.1", 0)
    port = first.getsockname()[1]
    server = Server(ball_stage(), port=port, threads=1)
    try:
        assert server.port > port
        assert server.lines()[0] == f"port {port} is in use; {server.port} is taken instead"
        assert f"viewer: http://127.0.0.1:{server.port}/" in server.lines()
    finally:
        server.close()
        first.close()


def test_where_it_cannot_listen(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UsageError, match="cannot listen there"):
        listen("203.0.113.7", 0)
    with pytest.raises(UsageError, match="cannot listen there"):
        listen("no such name", 8080)
    first, _ = listen("127.0.0.1", 0)
    monkeypatch.setattr("neuralfields.serving.server.PORTS_TRIED", 1)
    with pytest.raises(UsageError, match="in use; give another one, or 0 for any"):
        listen("127.0.0.1", first.getsockname()[1])
    first.close()


def test_the_way_there_over_ssh(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SSH_CONNECTION", raising=False)
    assert not any("ssh -L" in line for line in server.lines())
    monkeypatch.setenv("SSH_CONNECTION", "10.0.0.9 5000 10.0.0.7 22")
    assert server.lines()[-1].endswith(f"ssh -L {server.port}:localhost:{server.port} 10.0.0.7")


def test_aiohttp_missing_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "aiohttp", None)
    with pytest.raises(UsageError, match=re.escape("pip install 'neuralfields[view]'")):
        Server(ball_stage(), port=0)


def test_the_stage_is_json_that_ends_no_script(server: Server) -> None:
    """Names are data in a message; the page sets them as text."""

    async def work(web: aiohttp.ClientSession, base: str) -> dict:
        async with page(web, base) as one:
            return await one.next("stage")

    assert talk(server, work)["subjects"][0]["facts"] == {"field": "<b>ball</b>"}
    scripts = b"".join(data for name, (_, data) in assets().items() if name.endswith(".js"))
    assert not re.search(rb"innerHTML|insertAdjacentHTML|document\.write|eval\(|new Function", scripts)
