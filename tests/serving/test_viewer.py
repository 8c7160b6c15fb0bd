"""`nf view` as a process meets it, and `neuralfields.view` from Python."""

import json
import re
import signal
import socket
import urllib.error
import urllib.request
from pathlib import Path

import pytest

import neuralfields
from neuralfields.cli import main
from tests.support.forked import Forked
from tests.support.view_ball import Ball


def start(folder: Path, *words: str, **environment: str) -> tuple[Forked, list[str]]:
    """`nf view` in a process of its own, and what it said until it served."""
    running = Forked(["-m", "neuralfields", "view", *words], folder / "said", environment=environment)
    return running, running.until_said("Ctrl-C")


def fetch(url: str) -> tuple[int, bytes]:
    try:
        with urllib.request.urlopen(url, timeout=10) as answer:
            return answer.status, answer.read()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read()


def test_a_process_serves_and_ends_at_ctrl_c(small_file: Path, small_capture: Path, tmp_path: Path) -> None:
    taken = socket.create_server(("127.0.0.1", 0))
    port = taken.getsockname()[1]
    words = (str(small_file), "--scene", str(small_capture), "--port", str(port), "--threads", "1", "--json")
    running, lines = start(tmp_path, *words, SSH_CONNECTION="1.2.3.4 5 6.7.8.9 22")
    taken.close()
    assert re.fullmatch(rf"port {port} is in use; \d+ is taken instead", lines[0])
    url = lines[1].removeprefix("viewer: ")
    assert lines[2] == f"on your own machine first: ssh -L {url[17:-1]}:localhost:{url[17:-1]} 6.7.8.9"
    code, body = fetch(url)
    assert code == 200 and b"neuralfields" in body
    running.send_signal(signal.SIGINT)
    out, err = running.communicate(timeout=30)
    assert (
        running.returncode == 0
        and err.splitlines()[len(lines) :] == []
        and json.loads(out) == {"url": url, "models": [str(small_file)]}
    )


def test_any_other_host_has_a_token(small_file: Path, tmp_path: Path) -> None:
    running, lines = start(tmp_path, str(small_file), "--host", "0.0.0.0", "--port", "0", "--threads", "1")
    url = lines[-2].removeprefix("viewer: ")
    port, token = re.search(r":(\d+)/([\w-]{20,})/$", url).groups()
    assert fetch(f"http://127.0.0.1:{port}/")[0] == 403
    assert fetch(f"http://127.0.0.1:{port}/{token}/")[0] == 200
    running.send_signal(signal.SIGINT)
    assert "stopped" in running.communicate(timeout=30)[0] and running.returncode == 0


@pytest.mark.parametrize(("words", "message"), [
    ([], "view: nothing was given"), (["a.nf", "--port", "70000"], "--port 70000: must be between 0 and 65535"),
    (["nowhere"], "no such file or folder"), (["a.nf"], "no such file"),
])  # fmt: skip
def test_errors_are_one_line(words: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["view", *words]) in (2, 3)
    shown = capsys.readouterr()
    assert message in shown.err and shown.err.count("\n") == 1 and shown.out == ""


def test_from_python_and_in_a_notebook(small_file: Path) -> None:
    with neuralfields.view(small_file, port=0, threads=1) as viewer:
        assert fetch(viewer.url)[0] == 200 and viewer.url in repr(viewer)
        assert re.search(rf'<iframe src="{viewer.url}"', viewer._repr_html_())
        assert viewer.server.token is None
    with pytest.raises(urllib.error.URLError):
        fetch(viewer.url)
    viewer.close()  # twice does nothing
    viewer.wait()


def test_several_things_and_whatever_renders() -> None:
    with neuralfields.view([Ball(), Ball()], port=0, threads=1) as viewer:
        assert [subject.name for subject in viewer.server.stage.subjects] == ["ball", "ball (2)"]
